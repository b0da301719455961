"""From a tool's name to its function, in whatever shape the caller keeps the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.functions import Function
from stepchain_tui.tools.registry import Tool, ToolRegistry, UnknownToolError

Resolver = Callable[[str], Any] | Mapping[str, Any] | ToolRegistry | Any
"""A function of the name; or an object with `get_callable`, `get` or `[]`."""

_FUNCTION_OF_A_TOOL = ("callable", "function", "fn", "func")
"""Where other libraries' tools keep their function."""


class Resolved(NamedTuple):
    """What is known of a tool that is to be called; fields as in `Tool`."""

    function: Function | str
    mode: str | None = None
    timeout: float | None = None
    fallback: bool | None = None
    folder: Path | str = "/"


def resolve(source: Resolver, name: str) -> Resolved:
    """Return what `source` has under a name.

    Raises:
        UnknownToolError: It has none.
        AttemptError: What it has is no function, as a `user_error`.
    """
    if isinstance(source, ToolRegistry):
        return _resolved(source.get(name))
    found = _looked_up(source, name)
    if found is None:
        raise UnknownToolError(name, _names_of(source))
    if isinstance(found, Tool):
        return _resolved(found)
    function = found
    if not callable(found) or hasattr(found, "parameters"):
        function = next((part for key in _FUNCTION_OF_A_TOOL if callable(part := getattr(found, key, None))), found)
    if not callable(function):
        raise AttemptError(
            f"the tool '{name}' is no function but {type(found).__name__}",
            error_type=ErrorType.USER_ERROR,
            hint="Let the resolver return a function, or None where there is no such tool.",
            exception="UnknownToolError",
        )
    return Resolved(function)


def _looked_up(source: Any, name: str) -> Any:
    get_callable = getattr(source, "get_callable", None)
    if callable(get_callable):
        look = get_callable
    elif callable(source):
        look = source
    elif callable(getattr(source, "get", None)):
        look = source.get
    elif hasattr(source, "__getitem__"):
        look = source.__getitem__
    else:
        raise AttemptError(
            f"tools cannot be looked up in {type(source).__name__}",
            error_type=ErrorType.USER_ERROR,
            hint="Give a function of the name, or an object with get_callable, get or [].",
        )
    try:
        return look(name)
    except LookupError:
        return None


def _names_of(source: Any) -> list[str]:
    """Return the names that a registry or mapping has, as far as it tells; never fails."""
    for key in ("get_available_tools", "list_tools", "keys", "list"):
        tell = getattr(source, key, None)
        if callable(tell) and not isinstance(source, type):
            try:
                found = list(tell())
            except Exception:  # noqa: BLE001 - somebody else's registry: a suggestion is not worth an error
                continue
            return [one if isinstance(one, str) else str(getattr(one, "name", "")) for one in found]
    return []


def _resolved(tool: Tool) -> Resolved:
    return Resolved(tool.function, tool.mode, tool.timeout, tool.fallback, tool.folder)
