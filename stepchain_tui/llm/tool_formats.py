"""Tools as users write them, in the form that the Responses API takes (document 000)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stepchain_tui.plan.prompt_tools import HOSTED_TOOLS, hosted, tool_name
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.registry import Tool, ToolRegistry, UnknownToolError, shared_tools

ToolEntry = str | Mapping[str, Any] | Callable[..., Any]
"""A tool as it is written: a name, a reference `package.module:name`, a function, or the API's own mapping."""


def tools_for_model(entries: Iterable[ToolEntry], registry: ToolRegistry | None = None) -> list[dict[str, Any]]:
    """Return tools as the API takes them.

    Args:
        entries: `web_search`, `code_interpreter` and `file_search` are the provider's; any other name is one of the
            registry, such as `python_code`. A mapping is passed on, a function in the form of the chat API is made
            flat.
        registry: Where names are looked up; the tools that every plan may call if None.

    Raises:
        UnknownToolError: There is no tool of a name; says which may have been meant.
        AttemptError: An entry is no tool, as a user_error.
        UsageError: Nobody could tell what a function takes.
    """
    known = shared_tools() if registry is None else registry
    return [_tool(entry, known) for entry in entries]


def _tool(entry: ToolEntry, known: ToolRegistry) -> dict[str, Any]:
    if isinstance(entry, Mapping):
        inner = entry.get("function")
        return {**inner, "type": "function"} if isinstance(inner, Mapping) else dict(entry)
    if isinstance(entry, str):
        if entry in HOSTED_TOOLS:
            return hosted(entry)
        if entry in known:
            return known.get(entry).for_model()
        if ":" in entry:
            return Tool(tool_name(entry), entry).for_model()
        raise UnknownToolError(entry, sorted({*HOSTED_TOOLS, *(tool.name for tool in known)}))
    if callable(entry):
        return Tool(getattr(entry, "__name__", type(entry).__name__), entry).for_model()
    raise AttemptError(
        f"a tool is {type(entry).__name__}: neither a name, nor a mapping, nor a function",
        error_type=ErrorType.USER_ERROR,
        hint="Write for example tools=['python_code', 'web_search'].",
    )
