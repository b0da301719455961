"""`StepResult`: what became of one step, as document 000 gives it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import ErrorType, StepStatus
from stepchain_tui.run.step_state import StepState
from stepchain_tui.store.base import AbstractStore


@dataclass(frozen=True, slots=True)
class StepResult:
    """What became of one step of a run.

    Attributes:
        step_id: The step.
        status: How it stands; every step of the plan has a result, also skipped and blocked ones.
        output: Its output, or None.
        error: Why it failed, was skipped or blocked; None where it succeeded.
        error_type: The class of its failure, or None.
        attempts: How many attempts were made, over all resumes and reruns.
        started_at: When its last attempt began (aware, UTC).
        finished_at: When it ended.
    """

    step_id: str
    status: StepStatus
    output: Any = None
    error: str | None = None
    error_type: ErrorType | None = None
    attempts: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the step succeeded."""
        return self.status is StepStatus.SUCCEEDED

    @property
    def completed_at(self) -> datetime | None:
        """Another name of `finished_at`."""
        return self.finished_at


async def step_results(store: AbstractStore, state: RunState) -> list[StepResult]:
    """Return the results of all steps of a run in plan order, their outputs whole."""
    return [await _result(store, step) for step in state.steps.values()]


async def _result(store: AbstractStore, step: StepState) -> StepResult:
    output = None
    if step.output is not None:
        output = await store.load_value(step.output) if step.output.blob is not None else step.output.value
    return StepResult(
        step_id=step.id,
        status=step.status,
        output=output,
        error=(step.error.message if step.error else step.reason) or None if step.status != "succeeded" else None,
        error_type=step.error.error_type if step.error else None,
        attempts=step.attempt,
        started_at=step.started_at,
        finished_at=step.finished_at,
    )
