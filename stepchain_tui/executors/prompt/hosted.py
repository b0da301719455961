"""Calls that a model's provider carried out itself, told to the engine as the tool calls that they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stepchain_tui.core.values import decode_json
from stepchain_tui.executors.prompt.items import LONGEST_ID, bounded_name
from stepchain_tui.executors.types import CallPorts
from stepchain_tui.llm.types import Item
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.status import ErrorType

_NAMES = {
    "web_search_call": "web_search",
    "file_search_call": "file_search",
    "code_interpreter_call": "code_interpreter",
    "image_generation_call": "image_generation",
}
_ARGUMENTS = ("action", "queries", "query", "code", "container_id", "revised_prompt")
_RESULTS = ("results", "outputs", "output", "sources")
_MCP = "mcp_call"
_FAILED = ("failed", "incomplete")


def tell_hosted(items: Sequence[Item], ports: CallPorts, turn: int) -> int:
    """Tell the engine of every call in an answer that the provider made, and return how many there were."""
    count = 0
    for place, item in enumerate(items):
        kind = str(item.get("type") or "")
        if kind == _MCP:
            name = f"{bounded_name(item.get('server_label') or 'mcp')}.{bounded_name(item.get('name') or '?')}"
            arguments, result = _parsed(item.get("arguments")), item.get("output")
        elif kind in _NAMES:
            name = _NAMES[kind]
            arguments = {key: item[key] for key in _ARGUMENTS if item.get(key) is not None}
            found = {key: item[key] for key in _RESULTS if item.get(key) is not None}
            result = next(iter(found.values())) if len(found) == 1 else found or None
        else:
            continue
        count += 1
        call_id = str(item.get("id") or "")
        if not 0 < len(call_id) <= LONGEST_ID:
            call_id = f"hosted_{turn}_{place}"
        ports.tool_started(call_id=call_id, tool_name=name, arguments=arguments)
        ports.tool_finished(
            call_id=call_id,
            tool_name=name,
            arguments=arguments,
            execution_time=0.0,
            result=result,
            error=_error(name, item),
            hosted=True,
        )
    return count


def _parsed(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        return decode_json(arguments.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return arguments


def _error(name: str, item: Item) -> Failure | None:
    said = item.get("error")
    if not said and item.get("status") not in _FAILED:
        return None
    if isinstance(said, Mapping):
        said = said.get("message") or said
    return Failure(
        error_type=ErrorType.TOOL_ERROR,
        message=f"tool '{name}': {said or 'did not end well'}"[:2_000],
        hint="The model's provider says so.",
    )
