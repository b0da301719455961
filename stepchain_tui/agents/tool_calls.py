"""Calls of tools as models ask for them: read in every usual form, checked, carried out, and told in four fields."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from stepchain_tui.agents.calling import call_function, is_async
from stepchain_tui.agents.errors import ValidationError, is_word
from stepchain_tui.agents.formats import find_mismatches, validate_against_schema
from stepchain_tui.agents.messages import isolated
from stepchain_tui.core.clock import Clock
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.tools.context import StepContext
from stepchain_tui.tools.functions import arguments_for, call_shape
from stepchain_tui.tools.registry import UnknownToolError
from stepchain_tui.tools.schema import ToolSchemaError, schema_of
from stepchain_tui.tools.threads import ThreadPool
from stepchain_tui.tools.types import ToolCall

ToolEntry = dict[str, Any]
"""A registered tool: `func`, `schema` and `is_async`."""


def tool_entry(tool_name: str, tool_func: Callable[..., Any], schema: Any) -> ToolEntry:
    """Return what is kept of a tool.

    Raises:
        ValidationError: There is no name, no function, or the schema is none.
    """
    if not is_word(tool_name):
        raise ValidationError(f"a tool's name is {tool_name!r}", hint="Give a word.")
    if not callable(tool_func):
        raise ValidationError(f"tool '{tool_name}' is {type(tool_func).__name__}, not a function", hint="Pass one.")
    if schema is not None:
        list(find_mismatches({}, schema))  # says now, and not at the first call, that it is no schema
    return {"func": tool_func, "schema": schema, "is_async": is_async(tool_func)}


def tool_name_of(call: Any) -> str:
    """Return the name of the tool that a call asks for, an empty string where it has none."""
    return _parts(call)[0]


def read_tool_call(call: Any) -> tuple[str, dict[str, Any]]:
    """Return the tool's name and its arguments.

    Args:
        call: `{"name", "arguments"}`, the form with both under `function`, or an object with these attributes; the
            arguments are a mapping or its JSON text.

    Raises:
        ValidationError: It has no name, or its arguments are neither a mapping nor text.
        AttemptError: Its arguments are no JSON object.
    """
    name, given = _parts(call)
    if not name:
        raise ValidationError("tool call: needs a name", hint='Write {"name": ..., "arguments": {...}}.')
    if not isinstance(given, Mapping | str | None):
        raise ValidationError(f"the arguments of {name} are {type(given).__name__}", hint="Send a JSON object.")
    arguments = ToolCall("", name, given).parsed_arguments()
    return name, {str(key): isolated(value) for key, value in arguments.items()}


async def run_tool_call(
    call: Any,
    tools: Mapping[str, ToolEntry],
    *,
    threads: ThreadPool,
    limit: float | None,
    clock: Clock,
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """Carry out one call and return what came of it; only cancellation is raised.

    Args:
        call: See `read_tool_call`.
        tools: The tools by name.
        threads: Where sync tools run.
        limit: Seconds a call may take.
        clock: Tells how long it took.
        context: Its `run_id` and `step_id` are what a tool that has a parameter `ctx` sees.

    Returns:
        `{"tool_name", "result", "error", "execution_time"}`: `error` is None and `result` any value, or `error` is
        text and `result` None; the time is in seconds.
    """
    began = clock.monotonic()
    result, error = None, None
    try:
        name, arguments = read_tool_call(call)
        entry = tools.get(name)
        if entry is None:
            raise UnknownToolError(name, sorted(tools))
        ctx = StepContext(run_id=str(context.get("run_id", "")), step_id=str(context.get("step_id", "")))
        positional, keywords = _bound(name, entry, arguments, ctx)
        result = await call_function(
            entry["func"],
            positional,
            keywords,
            threads=threads,
            limit=limit,
            what=f"tool '{name}'",
            on_cancel=ctx.cancel,
        )
    except Exception as raised:  # noqa: BLE001 - the border of a tool: what it raises is its result
        error = error_text(raised)
    return {
        "tool_name": tool_name_of(call),
        "result": result,
        "error": error,
        "execution_time": clock.monotonic() - began,
    }


def error_text(error: BaseException) -> str:
    """Return what a person or a model reads of an error, with what may be done about it."""
    text = str(error) or type(error).__name__
    hint = getattr(error, "hint", "")
    if hint and isinstance(error, ValidationError | AttemptError):
        return f"{text} ({hint})"
    return text if type(error).__name__ in text else f"{type(error).__name__}: {text}"


def _bound(
    name: str, entry: ToolEntry, arguments: dict[str, Any], ctx: StepContext
) -> tuple[list[Any], dict[str, Any]]:
    """Return the checked arguments of a call.

    Raises:
        ValidationError: An argument does not have its form; it is named.
        AttemptError: An argument is missing or unknown; it is named.
    """
    func = entry["func"]
    if entry["schema"] is not None:
        validate_against_schema(arguments, entry["schema"], f"{name}: arguments")
    else:
        with contextlib.suppress(ToolSchemaError):  # nobody can tell what it takes: the names that it knows are held
            arguments = schema_of(func).validate(arguments)
    return arguments_for(call_shape(func), arguments, ctx)


def _parts(call: Any) -> tuple[str, Any]:
    """Return the name and the arguments as they are written, the name empty where there is none."""
    inner = _field(call, "function")
    source = call if inner is None or isinstance(inner, str) else inner
    name = _field(source, "name")
    return name if isinstance(name, str) else "", _field(source, "arguments")


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
