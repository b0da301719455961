"""Attempts: how work begins, runs and ends, and what each end is recorded as."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stepchain_tui.engine.body import carry_out, failed, timed_out
from stepchain_tui.engine.breakers import refused_by_breaker, waits_for_probe
from stepchain_tui.engine.reuse import ask_cache, is_cached, keep_result, origin_of
from stepchain_tui.engine.work import Ending, Result, Stop, Work
from stepchain_tui.plan import ActionKind, OnInterrupt, Step
from stepchain_tui.resilience.retry import RetryDecision
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.state import StepState
from stepchain_tui.run.status import AttemptStatus
from stepchain_tui.run.values import Kept

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

ASK_AFTER_INTERRUPTIONS = 3
"""Interruptions of one step after which the engine asks before it tries again."""


class Attempts:
    """Makes the attempts of one run; each holds its slots from `begin` to `conclude`."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._core = driver.core
        self._state = driver.state
        self._inputs = driver.inputs
        self._emit = driver.emit

    def begin(self, work: Work) -> None:
        """Begin with work that has its slots; whatever keeps it from running becomes its result."""
        needs_nothing = work.step.needs_nothing and work.item is None
        if not needs_nothing and (missing := self._inputs.missing(work)):
            self._driver.side_task(self._load_then_begin(work, missing), f"load inputs of {work.step.id}")
            return
        step = self._state.steps[work.step.id]
        if step.interruptions and self._held_after_interruption(work, step):
            return
        if step.pinned_output is not None:
            self._driver.release(work)
            self.succeed_step(step.id, 0, step.pinned_output, by="its pin")
            return
        try:
            if work.step.when is not None and work.item is None and work.tries == 0 and not self._inputs.wanted(work):
                self._emit(e.StepSkipped, step_id=step.id, reason="its `when` is false")
                self._driver.release(work)
                self._driver.frontier.step_ended(step.id)
                return
            if step.breakpoint == "before" and not step.passed and work.item is None and work.tries == 0:
                kept = None if work.step.is_map else self._inputs.resolve(work)[1]
                self._driver.release(work)
                self._driver.approvals.stop_at(step, "before", kept)
                return
        except Exception as error:  # noqa: BLE001 - an expression of the plan: becomes the step's failure
            self.start_event(work)
            self.conclude(work, failed(error, work.step.kind))
            return
        if work.step.is_map and work.item is None:
            self.start_event(work)
            self._driver.release(work)
            self._driver.maps.expand(work)
            return
        self._start(work)

    def _held_after_interruption(self, work: Work, step: StepState) -> bool:
        """Return whether a step that was cut off is not simply tried again: its effect may have happened (rule 2)."""
        wanted = what_after_interruption(work.step.step, step)
        if wanted is OnInterrupt.SKIP:
            self._driver.release(work)
            self._emit(e.StepSkipped, step_id=step.id, reason="it was cut off, and its on_interrupt is skip")
            self._driver.frontier.step_ended(step.id)
            return True
        if wanted is OnInterrupt.ASK:
            self._driver.release(work)
            self._driver.approvals.ask_before_another_try(step)
            return True
        return False

    async def _load_then_begin(self, work: Work, missing: list[Any]) -> None:
        try:
            await self._inputs.load(missing)
        except Exception as error:  # noqa: BLE001 - a kept value that cannot be read: becomes the step's failure
            if not (work.withdrawn or work.stop is not None or self._driver.over):
                self.start_event(work)
                self.conclude(work, failed(error, work.step.kind))
                return
        if self._was_called_back(work):
            return
        self.begin(work)
        self._driver.settle()

    def _start(self, work: Work) -> None:
        try:
            call, kept = self._inputs.call_for(work, self._driver)
        except Exception as error:  # noqa: BLE001 - an expression or function of the plan: becomes the step's failure
            self.start_event(work)
            self.conclude(work, failed(error, work.step.kind))
            return
        work.call = call
        if work.step.step.cache is not False and is_cached(work, self._state.steps[work.step.id]):
            self._driver.side_task(self._ask_cache_then_start(work), f"cache of {work.step.id}")
            return
        self.start_event(work, kept)
        call.attempt = work.attempt
        if work.step.kind is ActionKind.APPROVE:
            self._driver.release(work)
            self._driver.approvals.ask(work)
            return
        if work.step.kind is ActionKind.PLAN:
            self._driver.groups.open(work)
            return
        self._driver.journal.recorder.after_commit(lambda: self._launch(work))

    async def _ask_cache_then_start(self, work: Work) -> None:
        answer = await ask_cache(self._driver, work)
        if self._was_called_back(work):
            return
        work.cached = answer
        if answer.entry is None:
            self._start(work)
        else:
            assert work.call is not None
            self.start_event(work, self._inputs.resolve(work)[1])
            self._core.recorder.cache_used(answer.entry.key)
            self.conclude(work, Result(Ending.CACHED))
        self._driver.settle()

    def _was_called_back(self, work: Work) -> bool:
        """Return whether work was stopped before its attempt began, and let go of it then."""
        driver = self._driver
        if not (work.withdrawn or work.stop is not None or driver.paused or driver.over):
            return False
        driver.release(work)
        if not work.withdrawn and driver.stopping is None:
            driver.frontier.enqueue(Work(driver.prepared(work.step.id), work.item, work.tries))
        driver.settle()
        return True

    def start_event(self, work: Work, kept: Kept | None = None) -> None:
        """Record that an attempt began."""
        step = self._state.steps[work.step.id]
        prepared, tries = work.step, work.tries + 1
        if work.item is not None:
            assert step.items is not None
            work.attempt = step.items[work.item].attempt + 1
            self._emit(
                e.ItemStarted,
                step_id=step.id,
                item=work.item,
                attempt=work.attempt,
                tries=tries,
                max_attempts=prepared.policy.max_attempts,
                input=kept,
                cache=work.cached.said if work.cached is not None else "",
            )
            return
        work.attempt = step.attempt + 1
        self._emit(
            e.StepStarted,
            step_id=step.id,
            attempt=work.attempt,
            tries=tries,
            max_attempts=prepared.policy.max_attempts if not prepared.is_map else 1,
            input=kept,
            content_hash=self._inputs.content_hash(prepared),
            mode=prepared.mode,
            model=self._inputs.model_label(work),
            revision=self._state.revision,
            cache=work.cached.said if work.cached is not None else "",
        )

    def _launch(self, work: Work) -> None:
        if work.stop is not None or self._driver.over:
            self.conclude(work, Result(Ending.STOPPED))
            return
        work.task = self._core.loop.create_task(self._body(work), name=work.step.id)
        if work.step.timeout is not None and not work.step.waits_for_worker:
            self._core.deadlines.add(work.step.timeout, work)

    async def _body(self, work: Work) -> None:
        assert work.call is not None
        work.begun = True
        try:
            result = Result(Ending.STOPPED)
            if work.stop is None and not work.overdue:
                executors = self._core.executors
                breakers = self._core.breakers
                asked = work.step.has_breaker and breakers.known  # what never failed costs nothing
                refused = breakers.admit(work, executors) if asked else None
                result = refused or await carry_out(executors.get(work.step.kind), work.call, work.step.kind)
            if result.ending is Ending.STOPPED and work.overdue:
                result = timed_out(work.call)
            elif result.ending is Ending.STOPPED and work.stop is None:
                result = failed(RuntimeError("the step's work was cancelled from within"), work.step.kind)
            elif result.ending is Ending.FAILED and (work.stop is not None or work.overdue):
                # What a body raises while it is being stopped is no failure of its own.
                result = timed_out(work.call) if work.stop is None else Result(Ending.STOPPED)
            if work.ticket is not None or (result.failure is not None and work.step.has_breaker):
                self._core.breakers.learn(work, result, self._core.executors)
            self.conclude(work, result)
        except Exception as error:  # noqa: BLE001 - a bug of ours must end the run with its traceback, not hang it
            self._driver.abort(error)

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
        except Exception as error:  # noqa: BLE001 - a result that cannot be kept: becomes the step's failure
            return failed(error, work.step.kind)
        warnings = tuple(work.warnings)
        if work.step.step.cache is not False:
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
        if work.stop is None and (is_item or not work.step.is_map) and work.step.kind is not ActionKind.PLAN:
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


def what_after_interruption(step: Step, state: StepState) -> OnInterrupt:
    """Return what is to be done with a step that was cut off: what it says, or to ask where that happens too often."""
    if "on_interrupt" not in step.model_fields_set and state.interruptions >= ASK_AFTER_INTERRUPTIONS:
        return OnInterrupt.ASK
    return step.on_interrupt
