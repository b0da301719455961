"""How an attempt fails: the error that rooms raise, and the plain record of it that events carry."""

from __future__ import annotations

import traceback
from typing import Any

import msgspec

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.run.status import ErrorType

TRACEBACK_LIMIT = 16_000
MESSAGE_LIMIT = 4_000


class AttemptError(StepChainError):
    """Signals that an attempt failed in a way whose class is known where it is raised.

    Args:
        message: What went wrong, naming the tool, field or file.
        error_type: The class that decides the retry policy.
        hint: What to do next.
        retry_after: Seconds that the other side asked us to wait, or None.
        remote_traceback: The traceback of another process, or an empty string.
        exception: The class name to show, where the cause was another exception.
        details: More facts as JSON values, such as `exit_code`.
    """

    kind = "attempt"
    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        error_type: ErrorType = ErrorType.TOOL_ERROR,
        hint: str = "",
        retry_after: float | None = None,
        remote_traceback: str = "",
        exception: str = "",
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.error_type = error_type
        self.retry_after = retry_after
        self.remote_traceback = remote_traceback
        self.exception = exception
        self.details = details or {}


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An error as a plain record: what events, rows and screens hold instead of an exception.

    Attributes:
        error_type: The class that decided the retry policy.
        message: One sentence, at most 4,000 characters.
        exception: The class name of what a step's code raised, empty where the error is one of ours.
        hint: What to do next.
        traceback: The traceback's text, its end kept where it is long.
        retry_after: Seconds that the other side asked us to wait.
        details: More facts as JSON values.
    """

    error_type: ErrorType
    message: str
    exception: str = ""
    hint: str = ""
    traceback: str = ""
    retry_after: float | None = None
    details: dict[str, Any] = {}

    def beside(self, step_id: str) -> str:
        """Return the message for a place that names the step already: without the step's id in front of it."""
        return self.message.removeprefix(f"step '{step_id}': ").removeprefix(f"{step_id}: ")

    @classmethod
    def of(cls, error: BaseException, error_type: ErrorType) -> Failure:
        """Return the record of `error`; the class is the caller's decision."""
        message = str(error) or type(error).__name__
        exception, hint, remote, details, retry_after = type(error).__name__, "", "", {}, None
        if isinstance(error, StepChainError):
            hint = error.hint
        if isinstance(error, AttemptError):
            exception = error.exception
            remote, details, retry_after = error.remote_traceback, error.details, error.retry_after
        # An error of ours says all there is to say: the frames that raised it would only name our own files.
        text = remote if isinstance(error, StepChainError) else "".join(traceback.format_exception(error))
        return cls(
            error_type=error_type,
            message=message if len(message) <= MESSAGE_LIMIT else message[:MESSAGE_LIMIT] + " ...",
            exception=exception,
            hint=hint,
            traceback=text if len(text) <= TRACEBACK_LIMIT else "...\n" + text[-TRACEBACK_LIMIT:],
            retry_after=retry_after,
            details=details,
        )
