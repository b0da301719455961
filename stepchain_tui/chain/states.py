"""What became of a chain: of each call and of all of them, in document 003's words.

`ExecutionStatus` is the house's statuses under the document's names, never a second vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from stepchain_tui.chain.types import ExecutionPlan, ToolCall
from stepchain_tui.run.status import RunStatus, StepStatus


class ExecutionStatus(StrEnum):
    """Where a call, or a chain, stands: the house's statuses, as document 003 names them.

    The document's own words are understood too: `ExecutionStatus("success")`, `ExecutionStatus("timeout")`.
    """

    PENDING = StepStatus.PENDING.value
    RUNNING = StepStatus.RUNNING.value
    RETRYING = StepStatus.RETRYING.value
    """An attempt failed, and the next one has a time."""
    SUCCESS = StepStatus.SUCCEEDED.value
    FAILED = StepStatus.FAILED.value
    TIMEOUT = StepStatus.TIMED_OUT.value
    """The last attempt took longer than its timeout."""
    SKIPPED = StepStatus.SKIPPED.value
    """Was not called, because a call that it needs did not succeed or a person left it out."""

    @classmethod
    def _missing_(cls, value: object) -> ExecutionStatus | None:
        return cls.__members__.get(value.upper()) if isinstance(value, str) else None

    @classmethod
    def of_step(cls, status: StepStatus) -> ExecutionStatus:
        """Return what the document calls a step's status."""
        return _OF_STEP[status]

    @classmethod
    def of_run(cls, status: RunStatus) -> ExecutionStatus:
        """Return what the document calls a run's status: one that was cut off or waits is pending."""
        return _OF_RUN.get(status, ExecutionStatus.PENDING)

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in _FINAL


_OF_STEP = {
    StepStatus.PENDING: ExecutionStatus.PENDING,
    StepStatus.QUEUED: ExecutionStatus.PENDING,
    StepStatus.RUNNING: ExecutionStatus.RUNNING,
    StepStatus.RETRYING: ExecutionStatus.RETRYING,
    StepStatus.WAITING: ExecutionStatus.PENDING,
    StepStatus.SUCCEEDED: ExecutionStatus.SUCCESS,
    StepStatus.FAILED: ExecutionStatus.FAILED,
    StepStatus.TIMED_OUT: ExecutionStatus.TIMEOUT,
    StepStatus.SKIPPED: ExecutionStatus.SKIPPED,
    StepStatus.BLOCKED: ExecutionStatus.SKIPPED,
    StepStatus.CANCELLED: ExecutionStatus.FAILED,
}
_OF_RUN = {
    RunStatus.RUNNING: ExecutionStatus.RUNNING,
    RunStatus.SUCCEEDED: ExecutionStatus.SUCCESS,
    RunStatus.FAILED: ExecutionStatus.FAILED,
    RunStatus.CANCELLED: ExecutionStatus.FAILED,
}
_FINAL = frozenset({ExecutionStatus.SUCCESS, ExecutionStatus.FAILED, ExecutionStatus.TIMEOUT, ExecutionStatus.SKIPPED})


@dataclass
class ExecutionResult:
    """What became of one call so far.

    Attributes:
        tool_call: The call.
        status: Where it stands.
        output: What the tool returned, as a JSON value.
        error: Why it failed, timed out or was skipped; None where it succeeded.
        start_time: When its first attempt began (aware, UTC).
        end_time: When it ended.
        execution_time: Seconds from the one to the other, waits between attempts included; 0.0 until it has ended.
        retry_count: How many attempts were made after the first.
    """

    tool_call: ToolCall
    status: ExecutionStatus = ExecutionStatus.PENDING
    output: Any = None
    error: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    execution_time: float = 0.0
    retry_count: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON-able dict; moments are ISO 8601."""
        return {
            "tool_call": self.tool_call.to_dict(),
            "status": self.status.value,
            "output": self.output,
            "error": self.error,
            "start_time": told_moment(self.start_time),
            "end_time": told_moment(self.end_time),
            "execution_time": self.execution_time,
            "retry_count": self.retry_count,
        }


@dataclass
class ExecutionState:
    """What became of a chain so far; while it is carried out, this object follows.

    Attributes:
        plan: The chain.
        results: Every call's result, by order; all are there from the beginning.
        current_step: The order of the first call that is at work or waits for its next attempt; None where none is.
        start_time: When it began (aware, UTC).
        end_time: When it ended.
        total_execution_time: Seconds from the one to the other; 0.0 until it has ended.
        status: Where the chain stands: a success only if no call failed.
    """

    plan: ExecutionPlan
    results: dict[int, ExecutionResult] = field(default_factory=dict)
    current_step: int | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    total_execution_time: float = 0.0
    status: ExecutionStatus = ExecutionStatus.PENDING

    def __post_init__(self) -> None:
        for call in self.plan.in_order:
            self.results.setdefault(call.order, ExecutionResult(call))

    def is_complete(self) -> bool:
        """Return whether every call has succeeded, failed, timed out or been skipped."""
        return all(result.status.is_final for result in self.results.values())

    def get_successful_outputs(self) -> dict[int, Any]:
        """Return the outputs of the calls that succeeded, by order."""
        return {
            order: result.output
            for order, result in sorted(self.results.items())
            if result.status is ExecutionStatus.SUCCESS
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the state as a JSON-able dict; see `ChainExecutor.export_state` for one that can be imported."""
        return {
            "plan": self.plan.to_dict(),
            "results": {str(order): result.to_dict() for order, result in sorted(self.results.items())},
            "current_step": self.current_step,
            "start_time": told_moment(self.start_time),
            "end_time": told_moment(self.end_time),
            "total_execution_time": self.total_execution_time,
            "status": self.status.value,
        }


def told_moment(moment: datetime | None) -> str | None:
    """Return a moment as exports write it."""
    return None if moment is None else moment.isoformat()
