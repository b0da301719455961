"""The values of a request's fields, and what is said of those that cannot be sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stepchain_tui.executors.words import one_line
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

UnusablePath = (OSError, UnicodeError, RuntimeError)
"""What looking at a path raises that cannot be one: too long, half a character in it, links that lead in a circle."""


def path_problem(error: Exception) -> str:
    """Return what is wrong with a path, for one of `UnusablePath`."""
    if isinstance(error, UnicodeError):
        return "it holds half of a character"
    return one_line((error.strerror if isinstance(error, OSError) else "") or str(error), 100)


def bad_request(name: str, problem: str, hint: str) -> AttemptError:
    """Return the failure of a request that cannot be sent as it is written.

    Args:
        name: The step or tool.
        problem: What is wrong, beginning with the field.
        hint: What to do.
    """
    return AttemptError(f"{name}: {problem}", error_type=ErrorType.USER_ERROR, hint=hint)


def mapping(name: str, field: str, written: Any) -> Mapping[str, Any]:
    """Return what is written in a field, which must be a mapping.

    Raises:
        AttemptError: It is none.
    """
    if not isinstance(written, Mapping):
        raise bad_request(name, f"{field}: must be a mapping, this is {type(written).__name__}", "Write NAME: value.")
    return written


def pairs(name: str, field: str, written: Any) -> Iterator[tuple[str, str]]:
    """Yield the pairs of `params` or `form`: a list is sent as several, None is left out.

    Raises:
        AttemptError: A value is no text, number, boolean or list of them.
    """
    for key, value in mapping(name, field, written).items():
        for item in value if isinstance(value, list | tuple) else (value,):
            if isinstance(item, Mapping | list | tuple | set | bytes):
                raise bad_request(
                    name,
                    f"{field}.{one_line(str(key), 60)}: must be text, a number, true or false, or a list of these",
                    "Write `| tojson` behind it to send it as JSON text.",
                )
            if item is not None:
                yield str(key), plain(item)


def plain(value: Any) -> str:
    """Return a value as text that can be sent: booleans as JSON writes them, lone surrogates replaced."""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
