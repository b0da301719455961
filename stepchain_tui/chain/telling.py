"""From the state of a run to the state of its chain, in document 003's words."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from stepchain_tui.chain.planning import ChainPlan
from stepchain_tui.chain.states import ExecutionResult, ExecutionState, ExecutionStatus
from stepchain_tui.chain.types import ToolCall
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RUN_ENDED, STEP_ENDED, ErrorType, StepStatus
from stepchain_tui.run.step_state import StepState
from stepchain_tui.run.values import Kept
from stepchain_tui.store.base import AbstractStore

UNSATISFIED = "Dependencies not satisfied"
"""What the error of a call begins with that was skipped because of another one."""
_AT_WORK = (ExecutionStatus.RUNNING, ExecutionStatus.RETRYING)
_WORDS = {
    ExecutionStatus.FAILED: "failed",
    ExecutionStatus.TIMEOUT: "timed out",
    ExecutionStatus.SKIPPED: "was skipped",
}


class ChainTeller:
    """Keeps the state of a chain up to that of its run.

    Args:
        chain: The chain with its plan.
        run: The run; it may go on changing.
        state: What is kept up to date; a new one if None.

    Attributes:
        state: The chain's state.
    """

    def __init__(self, chain: ChainPlan, run: RunState, state: ExecutionState | None = None) -> None:
        self._chain = chain
        self._run = run
        self._orders = {step_id: order for order, step_id in chain.steps.items()}
        self._large: dict[str, Any] = {}
        self._at_work: set[int] = set()
        self.state = state if state is not None else ExecutionState(chain.chain)
        self.tell(chain.steps.values())

    def tell(self, step_ids: Iterable[str]) -> None:
        """Take over what became of these steps, and of the chain; ids of other steps do not matter."""
        for order in sorted(self._orders[step_id] for step_id in step_ids if step_id in self._orders):
            step = self._run.steps.get(self._chain.steps[order])
            if step is not None:
                self._tell_call(self.state.results[order], step)
        self._tell_chain()

    async def load(self, store: AbstractStore) -> None:
        """Load the outputs that are too large to be kept within events."""
        for order, step_id in self._chain.steps.items():
            step = self._run.steps.get(step_id)
            if step is None or step.output is None or step.output.blob is None or not step.done:
                continue
            if step.output.blob.sha256 not in self._large:
                self._large[step.output.blob.sha256] = await store.load_value(step.output)
            self.state.results[order].output = self._value(step.output)

    def _tell_call(self, result: ExecutionResult, step: StepState) -> None:
        result.status = _status_of(step)
        (self._at_work.add if result.status in _AT_WORK else self._at_work.discard)(result.tool_call.order)
        result.output = self._value(step.output) if step.done else None
        result.start_time = _first_start(step)
        result.end_time = step.finished_at if step.ended else None
        result.execution_time = _seconds(result.start_time, result.end_time)
        result.retry_count = max(0, step.tries - 1)
        result.error = self._error_of(result, step)

    def _value(self, kept: Kept | None) -> Any:
        if kept is None:
            return None
        return kept.value if kept.blob is None else self._large.get(kept.blob.sha256)

    def _error_of(self, result: ExecutionResult, step: StepState) -> str | None:
        if step.status is StepStatus.BLOCKED or (step.status is StepStatus.SKIPPED and step.cause):
            return f"{UNSATISFIED}: {self._unsatisfied(result.tool_call) or step.reason}"
        if step.done:
            return None
        if step.status is StepStatus.SKIPPED:
            return step.reason  # not the error of an attempt before somebody left it out
        return (step.error.message if step.error is not None else step.reason if step.ended else None) or None

    def _unsatisfied(self, call: ToolCall) -> str:
        """Return which calls that a call needs did not succeed, and how they ended."""
        results = (self.state.results[order] for order in call.dependencies)
        return ", ".join(
            f"call {result.tool_call.label} {_WORDS[result.status]}" for result in results if result.status in _WORDS
        )

    def _tell_chain(self) -> None:
        state, run = self.state, self._run
        state.status = ExecutionStatus.of_run(run.status)
        state.current_step = min(self._at_work, default=None)
        state.start_time = run.started_at
        state.end_time = run.finished_at if run.status in RUN_ENDED else None
        state.total_execution_time = _seconds(state.start_time, state.end_time)


def _status_of(step: StepState) -> ExecutionStatus:
    status = ExecutionStatus.of_step(StepStatus.SUCCEEDED if step.done else step.status)
    late = step.error is not None and step.error.error_type is ErrorType.TIMEOUT
    return ExecutionStatus.TIMEOUT if status is ExecutionStatus.FAILED and late else status


def _first_start(step: StepState) -> datetime | None:
    """Return when the first of the attempts began that led to where the step stands."""
    if step.status not in STEP_ENDED and not step.tries and step.last is None:
        return None
    first = step.attempts.get((None, step.attempt - max(0, step.tries - 1)))
    return first.started_at if first is not None else step.started_at


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return 0.0 if start is None or end is None else max(0.0, (end - start).total_seconds())
