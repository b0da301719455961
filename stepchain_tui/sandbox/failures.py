"""What went wrong in the sandbox, as the error that the engine knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

if TYPE_CHECKING:
    from pydantic_monty import Frame, MontyRuntimeError, MontySyntaxError

SOURCE_LIMIT = 300
"""Characters of a source line that an error keeps."""
TRACEBACK_LIMIT = 16_000

SUBSET = (
    "The sandbox runs a subset of Python: no class inheritance, yield, del, except*, input(), files, network, "
    "environment or packages; modules such as math, json, re, datetime, collections, itertools, functools, random, "
    "decimal and csv are there. A `function:` step has all of Python."
)
_OUTSIDE = (
    "The sandbox reaches no files, environment or network: pass what the code needs in `args`, "
    "or use a `function:` or `shell:` step."
)
_MISTAKES = {"TypeError", "AttributeError", "NameError", "UnboundLocalError", "SyntaxError", "IndentationError"}
_UNSUPPORTED = "The monty syntax parser does not yet support "
_TOO_MUCH_MEMORY = "the code needs more memory than it may have"
_REFUSED = " is not supported in this environment"


def syntax_failure(error: MontySyntaxError, name: str) -> AttemptError:
    """Return the failure of code that cannot be parsed."""
    return AttemptError(
        f"{error}{_place(error.traceback())}",
        error_type=ErrorType.USER_ERROR,
        hint="Mend the code at the place named.",
        remote_traceback=_traceback(error, name),
        exception="SyntaxError",
        details=_details(error.traceback()),
    )


def runtime_failure(error: MontyRuntimeError, name: str, time_limit: float, memory_limit: int) -> AttemptError:
    """Return the failure of code that raised, or went over a limit.

    Args:
        error: What the sandbox says.
        name: What the snippet is called in tracebacks.
        time_limit: Seconds it had.
        memory_limit: Bytes it had.
    """
    kind = type(error.exception()).__name__
    text = error.display("msg")
    frames = error.traceback()
    if kind == "TimeoutError" and not frames:
        return timeout_failure(time_limit)
    message, error_type, hint = _judge(kind, text, memory_limit)
    limit = {"resource_limit": "memory"} if kind == "MemoryError" else {}
    return AttemptError(
        f"{message or kind}{_place(frames)}",
        error_type=error_type,
        hint=hint,
        remote_traceback=_traceback(error, name),
        exception=kind,
        details=_details(frames) | limit,
    )


def timeout_failure(time_limit: float) -> AttemptError:
    """Return the failure of code that took longer than it may."""
    return AttemptError(
        f"the code ran longer than its {time_limit:g} s",
        error_type=ErrorType.TIMEOUT,
        hint="Raise the step's `timeout`, or do less in it.",
        exception="TimeoutError",
        details={"deadline": time_limit, "resource_limit": "time"},
    )


def memory_failure(text: str, memory_limit: int) -> AttemptError:
    """Return the failure of code that needs more memory than it may have.

    Args:
        text: What was said about it, or an empty string.
        memory_limit: Bytes that it had.
    """
    return AttemptError(
        text or _TOO_MUCH_MEMORY,
        error_type=ErrorType.TOOL_ERROR,
        hint=_memory_hint(memory_limit),
        exception="MemoryError",
        details={"resource_limit": "memory"},
    )


def stopped_failure(why: str, time_limit: float, print_limit: int) -> AttemptError:
    """Return the failure of code that was stopped from outside.

    Args:
        why: `timeout`, `printed` (too much), `print` (what it printed could not be kept) or `closed`.
        time_limit: Seconds that it had.
        print_limit: Characters that it might print.
    """
    if why == "timeout":
        return timeout_failure(time_limit)
    if why == "printed":
        return AttemptError(
            f"the code printed more than {print_limit / 1024 / 1024:g} MB",
            error_type=ErrorType.TOOL_ERROR,
            hint="Print less; give data as the value of the last expression.",
            exception="PrintLimit",
            details={"resource_limit": "prints"},
        )
    if why == "print":
        return AttemptError(
            "what the code printed could not be kept",
            error_type=ErrorType.UNKNOWN,
            hint="See whether the disk is full.",
        )
    return AttemptError(
        "the sandbox was closed while the code ran", error_type=ErrorType.TOOL_ERROR, hint="Run it again."
    )


def _memory_hint(memory_limit: int) -> str:
    return f"A snippet has {memory_limit / 1024 / 1024:g} MB. Work on less at a time, or use a `function:` step."


def _judge(kind: str, text: str, memory_limit: int) -> tuple[str, ErrorType, str]:
    if kind == "NotImplementedError" and text.startswith(_UNSUPPORTED):
        return f"the sandbox does not have {text.removeprefix(_UNSUPPORTED)}", ErrorType.USER_ERROR, SUBSET
    if kind in ("ModuleNotFoundError", "ImportError"):
        return text, ErrorType.USER_ERROR, SUBSET
    if kind == "PermissionError" or text.endswith(_REFUSED):
        return text.replace("this environment", "the sandbox"), ErrorType.USER_ERROR, _OUTSIDE
    if kind == "MemoryError":
        return text or _TOO_MUCH_MEMORY, ErrorType.TOOL_ERROR, _memory_hint(memory_limit)
    if kind == "RecursionError":
        return text, ErrorType.TOOL_ERROR, "Calls are nested too deeply: use a loop."
    if kind in ("NameError", "UnboundLocalError"):
        hint = "Names come from `args`. " + SUBSET
        return text, ErrorType.USER_ERROR, hint
    if kind == "TimeoutError":
        return text, ErrorType.TIMEOUT, "The code raised it itself: see the traceback."
    if kind in _MISTAKES:
        return text, ErrorType.USER_ERROR, "Mend the code at the place named."
    return text, ErrorType.TOOL_ERROR, "The code raised it: see the traceback."


def _innermost(frames: Sequence[Frame]) -> Frame | None:
    """Return the last frame in the snippet itself, not in a text that it gave to `eval`."""
    inside = [frame for frame in frames if frame.filename != "<string>"]
    return inside[-1] if inside else None


def _place(frames: Sequence[Frame]) -> str:
    frame = _innermost(frames)
    return f" (line {frame.line}, column {frame.column})" if frame else ""


def _details(frames: Sequence[Frame]) -> dict[str, Any]:
    frame = _innermost(frames)
    if frame is None:
        return {}
    source = (frame.source_line or "")[:SOURCE_LIMIT]
    return {"line": frame.line, "column": frame.column, "source": source}


def _traceback(error: MontySyntaxError | MontyRuntimeError, name: str) -> str:
    text = error.display("traceback").replace('File "<python-input-0>"', f'File "{name}"')
    lines = (line if len(line) <= SOURCE_LIMIT else line[:SOURCE_LIMIT] + " ..." for line in text.split("\n"))
    return "\n".join(lines)[-TRACEBACK_LIMIT:]
