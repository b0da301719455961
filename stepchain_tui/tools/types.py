"""What is said to the executor of tool calls, and what it says back (document 002)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from stepchain_tui.core.errors import UsageError
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import OUTPUT_LIMIT
from stepchain_tui.tools.health import better_mode

CALL_MODES = ("process", "thread")
"""Where a tool call may run."""


class ToolCall(msgspec.Struct, frozen=True):
    """One call of a tool, as a model or a script asks for it.

    Attributes:
        id: Names the call within its batch; the result is found by it.
        name: The tool.
        arguments: Its arguments: a JSON object as text, or a mapping.
        mode: process or thread for this call, None for what the batch, the tool or the executor says.
        timeout: Seconds that the function may run, None for what the batch, the tool or the executor says.
    """

    id: str
    name: str
    arguments: str | Mapping[str, Any] | None = "{}"
    mode: str | None = None
    timeout: float | None = None

    @classmethod
    def of(cls, value: Any) -> ToolCall:
        """Return a call from what models' SDKs give: `{"id", "function": {"name", "arguments"}}`, the Responses
        API's flat `{"call_id", "name", "arguments"}`, or objects with these as attributes.

        Raises:
            UsageError: It has no name or no id.
        """
        if isinstance(value, cls):
            return value
        function = _part(value, "function")
        name = _part(function, "name") or _part(value, "name")
        arguments = _part(function if function is not None else value, "arguments")
        call_id = _part(value, "call_id") or _part(value, "id")
        return cls(
            _text(call_id, "id", value),
            _text(name, "name", value),
            arguments,
            _part(value, "mode"),
            _part(value, "timeout"),
        )

    def parsed_arguments(self) -> dict[str, Any]:
        """Return the arguments as a dict.

        Raises:
            AttemptError: They are no JSON object, as a `user_error`.
        """
        given = self.arguments
        if isinstance(given, Mapping):
            return dict(given)
        if given is None or not given.strip():
            return {}
        try:
            read = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise _bad_arguments(self.name, f"are no JSON: {error}") from error
        if not isinstance(read, dict):
            raise _bad_arguments(self.name, f"are no JSON object but {type(read).__name__}")
        return read


class CallStage(msgspec.Struct, frozen=True, gc=False):
    """One stage that a call has gone through.

    Attributes:
        stage: received, resolved, packed, started, ended or rendered.
        seconds: When, since the batch was received.
    """

    stage: str
    seconds: float


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one call.

    Attributes:
        id: The call's id.
        name: The tool.
        text: What the model is told: the result as text, or `Error: <Type>: <message>`.
        result: The result as a JSON value, None where the call failed.
        error: What went wrong, None where nothing did.
        error_type: The class of the failure by the retry table, None where there is none.
        exception: The name of the exception's class, empty where there is none.
        execution_time: Seconds from the function's begin to its end; 0.0 where it never began.
        cpu_time: Seconds of them that it computed, None where that is not known.
        mode: Where it ran: process or thread; empty where it never began.
        pid: The process that it ran in, None where it never began.
        warnings: What a person should know of a call that went well all the same.
        hint: What to do about the error; where nothing failed, which mode would suit the function better.
        events: The stages that it went through, in order.
    """

    id: str
    name: str
    text: str
    result: Any = None
    error: str | None = None
    error_type: str | None = None
    exception: str = ""
    execution_time: float = 0.0
    cpu_time: float | None = None
    mode: str = ""
    pid: int | None = None
    warnings: tuple[str, ...] = ()
    hint: str = ""
    events: tuple[CallStage, ...] = ()

    @property
    def succeeded(self) -> bool:
        """Whether the call went well."""
        return self.error is None

    @property
    def cpu_share(self) -> float | None:
        """Which part of the time the function computed, 0.0 to 1.0; None where that is not known."""
        return cpu_share(self.cpu_time, self.execution_time)


def cpu_share(cpu_time: float | None, execution_time: float) -> float | None:
    """Return which part of its time a call computed, 0.0 to 1.0; None where that is not known."""
    if cpu_time is None or execution_time <= 0:
        return None
    return min(1.0, cpu_time / execution_time)


def mode_hint(mode: str, cpu_time: float | None, execution_time: float) -> str:
    """Return which mode would suit a function better than the one it ran in, as a sentence, or an empty string.

    Threads share one interpreter lock: a function that computes holds up the others. A process costs more than a
    thread and is of no use to a function that only waits.
    """
    share = cpu_share(cpu_time, execution_time)
    match better_mode(mode, share, execution_time):
        case "process":
            return f"It computed for {share:.0%} of its time: mode process would use another core."
        case "thread":
            return f"It waited for {1 - (share or 0.0):.0%} of its time: mode thread would cost less."
    return ""


def result_text(value: Any) -> str:
    """Return a JSON value as the text that a model is told: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_size(text: str, name: str) -> None:
    """Refuse a result that is too large to be kept.

    Raises:
        AttemptError: It is over 10 MB, as a `user_error`.
    """
    if len(text) > OUTPUT_LIMIT:
        raise AttemptError(
            f"the result of {name} has {len(text) / 1e6:.0f} MB, more than {OUTPUT_LIMIT / 1e6:.0f} MB",
            error_type=ErrorType.USER_ERROR,
            hint="Write it to a file and return the file's path.",
            exception="ResultTooLargeError",
        )


def _text(found: Any, what: str, value: Any) -> str:
    if not isinstance(found, str) or not found:
        raise UsageError(
            f"a tool call has no {what} ({type(value).__name__})",
            hint="Give ToolCall(id, name, arguments), or a dict as the model gave it.",
        )
    return found


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _bad_arguments(name: str, what: str) -> AttemptError:
    return AttemptError(
        f"the arguments of {name} {what}",
        error_type=ErrorType.USER_ERROR,
        hint='Give a JSON object, such as {"a": 5}.',
        exception="ToolArgumentError",
    )
