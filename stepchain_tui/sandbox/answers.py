"""What comes back from a bubblewrap sandbox, read as what it is: the words of a stranger.

An answer is one JSON object. The code that it is about runs in the process that writes it, so it may hold anything:
it can make the code's own result wrong, and nothing else. Hints and classes of errors are ours.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from typing import Any

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import OUTPUT_LIMIT
from stepchain_tui.sandbox.failures import SOURCE_LIMIT, TRACEBACK_LIMIT, memory_failure
from stepchain_tui.sandbox.values import result_from_sandbox, too_big

MESSAGE_LIMIT = 4_000
_UNREADABLE = "the code ended its process, or wrote over its own answer, so that there is no value"
_MISTAKES = ("TypeError", "AttributeError", "NameError", "UnboundLocalError")
_SYNTAX = ("SyntaxError", "IndentationError", "TabError")
_NO_NETWORK = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_OUTSIDE = (
    "The sandbox shows no files but Python's own, keeps what is written to /tmp in memory until the step ends, and has "
    "no network: pass what the code needs in `args`, or use a `function:` or `shell:` step."
)


def value_of(answer: bytes, memory_limit: int) -> Any:
    """Return the value in an answer, as a JSON value.

    Args:
        answer: All that came back.
        memory_limit: Bytes that the code had.

    Raises:
        AttemptError: The answer is an error, or none at all.
    """
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        found = None
    match found:
        case {"value": value}:
            return result_from_sandbox(value)
        case {"error": {"type": str(kind)} as error}:
            raise _raised(kind, error, memory_limit)
        case {"too_big": size} if type(size) is int and OUTPUT_LIMIT < size <= memory_limit:
            raise too_big(size)
    raise AttemptError(
        _UNREADABLE,
        error_type=ErrorType.TOOL_ERROR,
        hint="Leave out os._exit() and what writes to descriptors that the code has not opened.",
        exception="SandboxCrashed",
    )


def _raised(kind: str, error: Mapping[str, Any], memory_limit: int) -> AttemptError:
    """Return the failure of code that raised something."""
    line, column = _number(error.get("line")), _number(error.get("column"))
    text = _text(error.get("message"), MESSAGE_LIMIT)
    details: dict[str, Any] = {}
    place = ""
    if line is not None:
        place = f" (line {line}, column {column})" if column is not None else f" (line {line})"
        details = {"line": line, "column": column, "source": _text(error.get("source"), SOURCE_LIMIT).rstrip("\n")}
    if kind == "MemoryError" or error.get("errno") == errno.ENOMEM:
        failure = memory_failure(text, memory_limit)
        message, error_type, hint = failure.message, failure.error_type, failure.hint
        details |= failure.details
    else:
        message, error_type, hint = _judge(kind, text, error.get("errno"))
    return AttemptError(
        f"{message or _text(kind, SOURCE_LIMIT)}{place}",
        error_type=error_type,
        hint=hint,
        remote_traceback=_text(error.get("traceback"), TRACEBACK_LIMIT),
        exception=_text(kind, SOURCE_LIMIT),
        details=details,
    )


def _judge(kind: str, text: str, number: Any) -> tuple[str, ErrorType, str]:
    if kind in _SYNTAX or kind in _MISTAKES:
        hint = "Mend the code at the place named."
        return text, ErrorType.USER_ERROR, f"Names come from `args`. {hint}" if "Name" in kind else hint
    if kind in ("ModuleNotFoundError", "ImportError"):
        hint = "The sandbox has Python's standard library and the packages that are installed beside StepChain."
        return text, ErrorType.USER_ERROR, hint
    if kind == "SystemExit":
        return f"the code called sys.exit({text})", ErrorType.TOOL_ERROR, "Raise an error that says what went wrong."
    if kind == "RecursionError":
        return text, ErrorType.TOOL_ERROR, "Calls or values are nested too deeply: use a loop, or a flatter value."
    if kind == "BlockingIOError" and number == errno.EAGAIN:
        return text, ErrorType.TOOL_ERROR, "A snippet may start few processes and threads. Start fewer at once."
    if kind in ("PermissionError", "FileNotFoundError", "gaierror") or number in (errno.EROFS, *_NO_NETWORK):
        return text, ErrorType.TOOL_ERROR, _OUTSIDE
    if kind == "TimeoutError":
        return text, ErrorType.TIMEOUT, "The code raised it itself: see the traceback."
    return text, ErrorType.TOOL_ERROR, "The code raised it: see the traceback."


def _text(value: Any, limit: int) -> str:
    """Return `value` where it is text, its end cut off and what UTF-8 cannot hold replaced."""
    return value[:limit].encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None
