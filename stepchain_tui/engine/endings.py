"""How attempts end: what each end is recorded as, and what follows from it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from msgspec import structs

from stepchain_tui.engine.body import failed
from stepchain_tui.engine.breakers import refused_by_breaker, waits_for_probe
from stepchain_tui.engine.budget_question import Reached
from stepchain_tui.engine.reuse import keep_result, keeps_result, origin_of
from stepchain_tui.engine.tool_approvals import ask_for_tool
from stepchain_tui.engine.work import Ending, Result, Stop, Work
from stepchain_tui.plan import ActionKind
from stepchain_tui.resilience.retry import RetryDecision
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.status import AttemptStatus
from stepchain_tui.run.values import Kept

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver
    from stepchain_tui.executors.types import ApprovalNeeded


class Endings:
    """Ends the attempts of one run: success, another try, failure, a skip, a cancellation, an interruption."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._core = driver.core
        self._state = driver.state
        self._emit = driver.emit

    def conclude(self, work: Work, result: Result) -> None:
        """Record how an attempt ended, and go on."""
        if self._driver.over:
            self._driver.release(work)
            return
        lingering = work.call.lingering if work.call is not None else None
        if lingering is not None and not lingering.done():
            self._hold_slot(work, lingering)
        else:
            self._driver.release(work)
        if work.ports is not None:
            work.ports.end()
        if self._driver.replay is not None:
            result = self._driver.replay.settled(work, result)
        if work.step.talks:
            self._driver.budgets.attempt_ended(work)
        if result.ending is Ending.SUCCEEDED:
            result = self._succeeded(work, result)
        elif result.ending is Ending.CACHED:
            self._found_in_cache(work)
        if result.ending in (Ending.FAILED, Ending.TIMED_OUT):
            self._failed(work, result)
        elif result.ending is Ending.SKIPPED:
            self._skipped(work, result.reason)
        elif result.ending is Ending.STOPPED:
            self._stopped(work)
        elif result.ending is Ending.CANCELLED:
            self._cancelled(work, result.reason)
        elif result.asks is not None:
            self._asks(work, result.asks)
        self._driver.settle()

    def _hold_slot(self, work: Work, lingering: asyncio.Future[None]) -> None:
        self._driver.set_aside(work)
        if work.ports is not None:
            work.ports.note("its thread cannot be stopped and goes on; it keeps its slot until it ends")

        def ended(_: asyncio.Future[None]) -> None:
            self._driver.release(work)
            self._driver.settle()

        lingering.add_done_callback(ended)

    def _succeeded(self, work: Work, result: Result) -> Result:
        try:
            output = self._core.store.keep(result.output, self._driver.source.redactor)
            if work.files:
                output = structs.replace(output, files=work.files)
        except Exception as error:  # noqa: BLE001 - a result that cannot be kept: becomes the step's failure
            return failed(error, work.step.kind)
        warnings = tuple(work.warnings)
        if keeps_result(work) and self._driver.replay is None:
            keep_result(self._driver, work, output)
        if work.item is not None:
            self._emit(
                e.ItemSucceeded,
                step_id=work.step.id,
                item=work.item,
                attempt=work.attempt,
                output=output,
                warnings=warnings,
            )
            self._driver.maps.item_ended(work.step.id)
        else:
            self._emit(e.StepSucceeded, step_id=work.step.id, attempt=work.attempt, output=output, warnings=warnings)
            self._follow_success(work.step.id)
        return result

    def _found_in_cache(self, work: Work) -> None:
        assert work.cached is not None
        entry = work.cached.entry
        assert entry is not None
        facts: dict[str, Any] = {"cached": True, "origin": origin_of(entry)}
        if work.item is None:
            self.succeed_step(work.step.id, work.attempt, entry.output, **facts)
            return
        where: dict[str, Any] = {"step_id": work.step.id, "item": work.item, "attempt": work.attempt}
        self._emit(e.ItemSucceeded, **where, output=entry.output, **facts)
        self._driver.maps.item_ended(work.step.id)

    def succeed_step(self, step_id: str, attempt: int, output: Kept, **facts: Any) -> None:
        """Record that a step is done, and stop there if there is a breakpoint after it.

        Args:
            step_id: The step.
            attempt: The attempt that did it, 0 where none did.
            output: Its output.
            facts: More fields of the event: `warnings`, `by`, `cached`, `origin`.
        """
        self._emit(e.StepSucceeded, step_id=step_id, attempt=attempt, output=output, **facts)
        self._follow_success(step_id)

    def _follow_success(self, step_id: str) -> None:
        step = self._state.steps[step_id]
        if step.breakpoint == "after" and self._driver.cancelling is None:
            self._driver.approvals.stop_at(step, "after", None)
        else:
            self._driver.frontier.step_ended(step_id)

    def _failed(self, work: Work, result: Result) -> None:
        failure = result.failure
        assert failure is not None
        overdue = result.ending is Ending.TIMED_OUT
        is_item = work.item is not None
        where: dict[str, Any] = {"step_id": work.step.id, "attempt": work.attempt}
        if is_item:
            where["item"] = work.item
        tries, decision = work.tries + 1, None
        replay = self._driver.replay
        is_final = work.stop is not None or (replay is not None and replay.covers(work))
        if not is_final and (is_item or not work.step.is_map) and work.step.kind is not ActionKind.PLAN:
            policy, breaker = self._driver.prepared(work.step.id).policy, refused_by_breaker(failure)
            if breaker and waits_for_probe(failure) and policy.max_attempts > 1:
                tries = work.tries  # another call is made to find out: waiting for that costs no try
            decision = policy.decide(max(1, tries), failure)
            if breaker and decision is not None:
                decision = RetryDecision(decision.delay, f"the circuit breaker of {breaker}")
        if decision is not None:
            retry_at = self._core.clock.now() + self._core.seconds(decision.delay)
            self._emit(
                e.ItemRetryScheduled if is_item else e.StepRetryScheduled,
                **where,
                status=AttemptStatus.TIMED_OUT if overdue else AttemptStatus.FAILED,
                error=failure,
                delay=decision.delay,
                retry_at=retry_at,
                tries=tries,
                max_attempts=work.step.policy.max_attempts,
                reason=decision.reason,
            )
            again = Work(self._driver.prepared(work.step.id), work.item, tries)
            self._driver.alarms.set(again, retry_at)
            return
        if is_item:
            self._emit(e.ItemTimedOut if overdue else e.ItemFailed, **where, error=failure)
            self._driver.maps.item_ended(work.step.id)
            return
        if overdue:
            self._emit(e.StepTimedOut, **where, error=failure)
            self._driver.frontier.step_ended(work.step.id)
        else:
            self.fail_step(work.step.id, work.attempt, failure, self._kept_beside(failure, result.output))

    def _kept_beside(self, failure: Failure, output: Any) -> Kept | None:
        """Return what a failure leaves behind, such as the outputs of a plan's other steps; too much is left out."""
        if output is None:
            return None
        try:
            return self._core.store.keep(output, self._driver.source.redactor)
        except AttemptError:
            return None

    def fail_step(self, step_id: str, attempt: int, failure: Failure, output: Kept | None = None) -> None:
        """Record that a step failed for good, without another try."""
        self._emit(e.StepFailed, step_id=step_id, attempt=attempt, error=failure, output=output)
        self._driver.frontier.step_ended(step_id)

    def _skipped(self, work: Work, reason: str) -> None:
        if work.item is not None:
            self._driver.maps.skip(work, reason)
            return
        self._emit(e.StepSkipped, step_id=work.step.id, reason=reason, attempt=work.attempt)
        self._driver.frontier.step_ended(work.step.id)

    def _cancelled(self, work: Work, reason: str) -> None:
        where: dict[str, Any] = {"step_id": work.step.id, "attempt": work.attempt}
        if work.item is not None:
            self._emit(e.ItemCancelled, **where, item=work.item, reason=reason)
            self._driver.maps.item_ended(work.step.id)
        else:
            self._emit(e.StepCancelled, **where, reason=reason)
            self._driver.frontier.step_ended(work.step.id)

    def _asks(self, work: Work, asked: ApprovalNeeded | Reached) -> None:
        """Ask a person about a tool call; while another item of the map asks already, the item is sent back."""
        if isinstance(asked, Reached):
            self._driver.budgets.ask(work, asked)
            return
        approvals = self._driver.approvals
        approvals.one_by_one.add(work.step.id)
        if work.step.id in approvals.open:
            self.send_back(work, "waits until another question is answered")
            self._driver.frontier.enqueue(Work(self._driver.prepared(work.step.id), work.item, work.tries))
        else:
            ask_for_tool(self._driver, work, asked)

    def send_back(self, work: Work, reason: str) -> None:
        """Record that an attempt goes back to pending at no cost of a try; nothing of it was done."""
        where: dict[str, Any] = {"step_id": work.step.id, "attempt": work.attempt}
        if work.item is not None:
            self._emit(e.ItemInterrupted, **where, item=work.item, reason=reason)
        else:
            self._emit(e.StepInterrupted, **where, reason=reason, asked=True)

    def _stopped(self, work: Work) -> None:
        reason = work.stop_reason or (work.stop.value if work.stop else "")
        where: dict[str, Any] = {"step_id": work.step.id, "attempt": work.attempt}
        if work.stop is Stop.CANCEL:
            self._cancelled(work, reason)
            return
        if work.item is not None:
            self._emit(e.ItemInterrupted, **where, item=work.item, reason=reason)
            if work.stop is Stop.PAUSE:
                self._driver.frontier.enqueue(Work(self._driver.prepared(work.step.id), work.item, work.tries))
            return
        self._emit(e.StepInterrupted, **where, reason=reason, asked=work.stop is Stop.PAUSE)
        if work.stop is Stop.PAUSE:
            self._driver.frontier.consider(work.step.id)
