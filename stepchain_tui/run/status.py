"""The one status vocabulary, and which moves between statuses are legal.

The documents' other names (COMPLETED, SUCCESS, TIMEOUT, ...) are aliases at the edges, never second vocabularies.
"""

from __future__ import annotations

from enum import StrEnum


class StepStatus(StrEnum):
    """Where one step of a run stands."""

    PENDING = "pending"
    """Waits for its parents."""
    QUEUED = "queued"
    """Ready, and waits for a slot."""
    RUNNING = "running"
    """An attempt is being made."""
    RETRYING = "retrying"
    """An attempt failed, and the next one has a time."""
    WAITING = "waiting"
    """Waits for a person."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"
    BLOCKED = "blocked"
    """Will not run, because a step it needs did not succeed."""
    CANCELLED = "cancelled"


class AttemptStatus(StrEnum):
    """How one go at a step, or at one item of it, stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Was cut off by the end of its engine or by pause-now; costs no try."""


class RunStatus(StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    WAITING = "waiting"
    """Nothing can go on until a person answers."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Its engine ended before the run did."""


class ErrorType(StrEnum):
    """The class of a failure; it decides the retry policy (document 000)."""

    RATE_LIMIT = "rate_limit"
    SERVER_ERROR = "server_error"
    TOOL_ERROR = "tool_error"
    USER_ERROR = "user_error"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"


class Mark(StrEnum):
    """What else is true of a step's result."""

    CACHED = "cached"
    STALE = "stale"
    PINNED = "pinned"


STEP_ENDED = frozenset(
    {
        StepStatus.SUCCEEDED,
        StepStatus.FAILED,
        StepStatus.TIMED_OUT,
        StepStatus.SKIPPED,
        StepStatus.BLOCKED,
        StepStatus.CANCELLED,
    }
)
"""The step has a result and nothing more happens to it unless somebody asks."""

STEP_IN_FLIGHT = frozenset({StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.WAITING, StepStatus.QUEUED})
"""The engine has begun with the step and has not ended it."""

RUN_ENDED = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})
"""The run has an outcome; it can still be resumed or rerun."""

_P, _Q, _R, _Y, _W = (
    StepStatus.PENDING,
    StepStatus.QUEUED,
    StepStatus.RUNNING,
    StepStatus.RETRYING,
    StepStatus.WAITING,
)

STEP_MOVES: dict[StepStatus, frozenset[StepStatus]] = {
    _P: frozenset(StepStatus) - {_P, _Y},
    _Q: frozenset(StepStatus) - {_Q, _Y, StepStatus.TIMED_OUT},
    _R: frozenset(StepStatus) - {_Q, StepStatus.BLOCKED},
    _Y: frozenset(StepStatus) - {_Y, StepStatus.BLOCKED},
    _W: frozenset(StepStatus) - {_Q, StepStatus.BLOCKED, _Y, _W},
    **{ended: frozenset({_P, StepStatus.SKIPPED, StepStatus.SUCCEEDED}) for ended in STEP_ENDED},
    StepStatus.SUCCEEDED: frozenset({_P, _W, StepStatus.SKIPPED, StepStatus.SUCCEEDED}),
}
"""From each step status, the statuses a step may move to. An ended step moves only when somebody asks for it.

A step that succeeded waits where there is a breakpoint after it: its result is kept, its dependents do not go on yet.
"""


def worded(name: StrEnum) -> str:
    """Return a status or a class of error as it is said: `timed out`, `rate limit`."""
    return name.value.replace("_", " ")
