"""How an exception of a step's function becomes a record that is the same in every mode.

A function's exception is never handed on as it is: its class may not exist in the engine's process, and its traceback
would begin with frames of ours. What is kept is its class name, its message, the traceback of the function's own
frames, and the class that decides the retry policy.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.resilience.classify import classify
from stepchain_tui.run.failures import TRACEBACK_LIMIT, AttemptError
from stepchain_tui.run.status import ErrorType

_OUR_FOLDERS = tuple(
    f"{Path(__file__).resolve().parent.parent / room}/" for room in ("tools", "executors/function", "executors/shell")
)
_MACHINERY = ("<frozen importlib", "/asyncio/")


class RemoteError(AttemptError):
    """Signals that a step's function raised; `exception` is the name of the class that it raised."""


class NotPicklableError(AttemptError):
    """Signals that a function or an argument cannot be sent to another process.

    Args:
        what: The object that cannot travel, as a person finds it: `closure variable 'connection' of load`.
        reason: What the pickler said.
    """

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"{what} cannot be sent to another process: {reason}",
            error_type=ErrorType.USER_ERROR,
            hint="Use mode: thread, or create the object inside the function.",
        )
        self.what = what


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return what a worker sends of an exception: JSON values only, `RemoteError(**...)` on the other side."""
    if isinstance(error, AttemptError):
        message, hint = str(error), error.hint
        kept: dict[str, Any] = {"details": error.details, "retry_after": error.retry_after}
        exception = error.exception or type(error).__name__
    else:
        message, exception, kept = _message(error), type(error).__name__, {}
        hint = error.hint if isinstance(error, StepChainError) else ""
        if isinstance(error, SystemExit):
            message = f"the function called sys.exit({error.code!r})"
            hint = "Return a value, or raise an exception."
    return {
        "message": message,
        "exception": exception,
        "hint": hint,
        "error_type": str(classify(error, "function")),
        "remote_traceback": _text_of(error),
        **kept,
    }


def rebuild_error(description: dict[str, Any]) -> RemoteError:
    """Return the error that `describe_error` described."""
    return RemoteError(
        description["message"],
        error_type=ErrorType(description["error_type"]),
        hint=description["hint"],
        retry_after=description.get("retry_after"),
        remote_traceback=description["remote_traceback"],
        exception=description["exception"],
        details=description.get("details"),
    )


def function_error(error: BaseException) -> AttemptError:
    """Return the error to raise for what a function raised in this process, with its cause kept."""
    if isinstance(error, AttemptError):
        return error
    raised = rebuild_error(describe_error(error))
    raised.__cause__ = error
    return raised


def own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that begins in the user's code; all of it where none of it does."""
    walker = trace
    while walker is not None:
        name = walker.tb_frame.f_code.co_filename
        if not name.startswith(_OUR_FOLDERS) and not any(part in name for part in _MACHINERY):
            return walker
        walker = walker.tb_next
    return trace


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything; the failure itself must still be told
        text = "(its message cannot be read)"
    return text or type(error).__name__


def _text_of(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(error), error, own_frames(error.__traceback__))
    except Exception:  # noqa: BLE001 - as above: formatting calls the user's __str__
        return "".join(traceback.format_tb(error.__traceback__))
    text = "".join(lines)
    return text if len(text) <= TRACEBACK_LIMIT else "...\n" + text[-TRACEBACK_LIMIT:]
