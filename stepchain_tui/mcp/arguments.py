"""A call's arguments, held against what the server says its tool takes, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from stepchain_tui.core.errors import did_you_mean
from stepchain_tui.mcp.schemas import BadSchemaError
from stepchain_tui.mcp.tools import McpTool
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

_LONGEST_VALUE = 80
_MOST_TOLD = 3
_MOST_NAMES = 50
_MOST_COMPARED = 10
_MOST_KNOWN = 500
_OWN_DEPTH = {"additionalProperties": 1, "required": 0}
"""How long the path of a mistake is where it is about the names of the arguments themselves."""


class McpArgumentError(AttemptError):
    """Signals arguments that the tool does not take; nothing was sent."""

    def __init__(self, tool: str, mistakes: list[str], hint: str) -> None:
        super().__init__(
            f"tool '{tool}': {'; '.join(mistakes)}",
            error_type=ErrorType.USER_ERROR,
            hint=hint,
            exception="ToolArgumentError",
        )


def check_arguments(tool: McpTool, arguments: Mapping[str, Any]) -> str:
    """Return a warning, or an empty text where all is well.

    Names that the tool does not declare are wrong where its schema forbids them, and where they look like a slip of a
    name that it does declare; others are sent, with a warning.

    Raises:
        McpArgumentError: An argument is unknown, missing or of a wrong kind; the message names the tool and the field.
    """
    declared = tool.properties
    unknown = [] if declared is None else [name for name in arguments if name not in declared]
    missing = [name for name in tool.required if name not in arguments]
    free = [one for one in declared or () if one not in arguments][:_MOST_KNOWN]
    slips = {name: did_you_mean(name, free) for name in unknown[:_MOST_COMPARED]}
    wrong = [name for name in unknown if tool.is_closed or slips.get(name)]
    takes = f"It takes: {', '.join(_shown(declared))}." if declared else "It takes no arguments."
    mistakes = [f"'{name}' is no argument of it" for name in wrong]
    mistakes += [f"argument '{name}' is missing" for name in missing]
    try:
        found = tool.input.mistakes(dict(arguments))
    except BadSchemaError as error:
        return f"the server declares a wrong schema for '{tool.full_name}', its arguments are not checked: {error}"
    own = _OWN_DEPTH  # what is wrong with the arguments' names themselves was said above
    mistakes += [_words(error) for error in found if error.validator not in own]
    nested = [error for error in found if len(error.absolute_path) > own.get(error.validator, len(error.absolute_path))]
    mistakes += [_words(error) for error in nested]
    if mistakes:
        hint = next((slips[name] for name in wrong if slips.get(name)), takes)
        raise McpArgumentError(tool.full_name, mistakes[:_MOST_TOLD], hint)
    if unknown:
        names = ", ".join(f"'{name}'" for name in _shown(unknown))
        return f"'{tool.full_name}' does not declare {names}; the server may ignore it"
    return ""


def _shown(names: Iterable[str]) -> list[str]:
    """Return names as a message can hold them: the first ones, cut."""
    first = [name[:_LONGEST_VALUE] for name in islice(names, _MOST_NAMES + 1)]
    return first if len(first) <= _MOST_NAMES else [*first[:-1], "..."]


def _words(error: Any) -> str:
    """Return a mistake of the schema's checker as a person reads it."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    text = str(error.message)
    if len(text) > 2 * _LONGEST_VALUE:  # it begins with the value, which may be long
        text = f"{text[:_LONGEST_VALUE]} ... {text[-_LONGEST_VALUE:]}"
    return f"argument '{place}': {text}" if place else f"arguments: {text}"
