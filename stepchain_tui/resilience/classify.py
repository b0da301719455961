"""Which class a failure belongs to: the one table that decides the retry policy.

The exception's type decides first, along its MRO, then an HTTP status it carries, then the kind of step. Libraries
are known by the names of their classes, so that none is imported to ask. Worker processes ask the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable

from stepchain_tui.core.errors import PlanError, UsageError
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

_BY_NAME: dict[str, ErrorType] = {
    "TimeoutError": ErrorType.TIMEOUT,
    "subprocess.TimeoutExpired": ErrorType.TIMEOUT,
    "ConnectionError": ErrorType.SERVER_ERROR,
    "TypeError": ErrorType.USER_ERROR,
    "AttributeError": ErrorType.USER_ERROR,
    "SyntaxError": ErrorType.USER_ERROR,
    "ImportError": ErrorType.USER_ERROR,
    "FileNotFoundError": ErrorType.USER_ERROR,
    "stepchain_tui.plan.expression_values.ExpressionError": ErrorType.USER_ERROR,
}
"""Builtins by their bare name, others as `module.Class`."""

_BY_LAST_NAME: dict[str, ErrorType] = {
    "RateLimitError": ErrorType.RATE_LIMIT,
    "APITimeoutError": ErrorType.TIMEOUT,
    "ConnectTimeout": ErrorType.TIMEOUT,
    "ReadTimeout": ErrorType.TIMEOUT,
    "APIConnectionError": ErrorType.SERVER_ERROR,
    "InternalServerError": ErrorType.SERVER_ERROR,
    "ClientConnectionError": ErrorType.SERVER_ERROR,
    "ConnectError": ErrorType.SERVER_ERROR,
    "ValidationError": ErrorType.USER_ERROR,
}
"""Classes that mean the same in whatever library they are."""

_OF_OPENAI: dict[str, ErrorType] = {
    "AuthenticationError": ErrorType.USER_ERROR,
    "BadRequestError": ErrorType.USER_ERROR,
    "ConflictError": ErrorType.USER_ERROR,
    "NotFoundError": ErrorType.USER_ERROR,
    "PermissionDeniedError": ErrorType.USER_ERROR,
    "UnprocessableEntityError": ErrorType.USER_ERROR,
    "OpenAIError": ErrorType.UNKNOWN,
}
"""Classes whose names are too common to be trusted outside the SDK. Its status codes are asked before the last row."""

_TOOL_KINDS = frozenset({"function", "tool", "shell", "python", "db", "plan"})


def names_along_mro(kind: type[BaseException]) -> list[str]:
    """Return the names of an exception's class and its bases, nearest first: builtins bare, else `module.Class`."""
    return [
        base.__name__ if base.__module__ == "builtins" else f"{base.__module__}.{base.__qualname__}"
        for base in kind.__mro__
    ]


def classify_names(mro_names: Iterable[str]) -> ErrorType:
    """Return the class that an exception's names decide, `UNKNOWN` where they decide none.

    Args:
        mro_names: What `names_along_mro` gives, nearest class first.
    """
    for name in mro_names:
        found = _BY_NAME.get(name)
        if found is None and "." in name:
            last = name.rpartition(".")[2]
            found = _BY_LAST_NAME.get(last)
            if found is None and name.startswith("openai."):
                found = _OF_OPENAI.get(last)
        if found is not None:
            return found
    return ErrorType.UNKNOWN


def classify_status(status: int) -> ErrorType | None:
    """Return the class of an HTTP status, or None where it is no failure."""
    if status == 429:
        return ErrorType.RATE_LIMIT
    if status == 408:
        return ErrorType.TIMEOUT
    if 400 <= status < 500:
        return ErrorType.USER_ERROR
    return ErrorType.SERVER_ERROR if 500 <= status < 600 else None


def classify(error: BaseException, kind: str) -> ErrorType:
    """Return the class of `error`, raised by a step of `kind` (`function`, `shell`, `prompt`, ...)."""
    if isinstance(error, AttemptError):
        return error.error_type
    if isinstance(error, UsageError | PlanError):
        return ErrorType.USER_ERROR
    found = classify_names(names_along_mro(type(error)))
    if found is ErrorType.UNKNOWN:
        found = _by_status(error) or found
    if found is ErrorType.UNKNOWN and kind in _TOOL_KINDS:
        return ErrorType.TOOL_ERROR
    return found


def _by_status(error: BaseException) -> ErrorType | None:
    """Return what the HTTP status says that SDKs and HTTP libraries put on their errors."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and not isinstance(status, bool) and 400 <= status < 600:
                return classify_status(status)
    return None
