"""Attempts: how work begins and runs; how it ends is told in `endings`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepchain_tui.engine.body import carry_out, failed, timed_out
from stepchain_tui.engine.replaying import WHEN_IS_FALSE
from stepchain_tui.engine.reuse import ask_cache, is_cached, keeps_result
from stepchain_tui.engine.work import Ending, Result, Work
from stepchain_tui.plan import ActionKind, OnInterrupt, Step
from stepchain_tui.run import events as e
from stepchain_tui.run.step_state import REPLAYED, StepState
from stepchain_tui.run.values import Kept

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

ASK_AFTER_INTERRUPTIONS = 3
"""Interruptions of one step after which the engine asks before it tries again."""


class Attempts:
    """Makes the attempts of one run; each holds its slots from `begin` until `Endings.conclude`."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._core = driver.core
        self._state = driver.state
        self._inputs = driver.inputs
        self._emit = driver.emit

    def begin(self, work: Work) -> None:
        """Begin with work that has its slots; whatever keeps it from running becomes its result."""
        step = self._state.steps[work.step.id]
        needs_nothing = work.step.needs_nothing and work.item is None and not step.answers
        if not needs_nothing and (missing := self._inputs.missing(work)):
            self._driver.side_task(self._load_then_begin(work, missing), f"load inputs of {work.step.id}")
            return
        replay = self._driver.replay
        is_replayed = replay is not None and replay.covers(work)
        if step.interruptions and not is_replayed and self._held_after_interruption(work, step):
            return
        if step.pinned_output is not None:
            self._driver.release(work)
            self._driver.endings.succeed_step(step.id, 0, step.pinned_output, by="its pin")
            return
        if replay is not None and replay.take_over(work):
            return
        try:
            if work.step.when is not None and work.item is None and work.tries == 0 and not self._inputs.wanted(work):
                self._emit(e.StepSkipped, step_id=step.id, reason=WHEN_IS_FALSE)
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
            self._driver.endings.conclude(work, failed(error, work.step.kind))
            return
        if work.step.is_map and work.item is None:
            self.start_event(work)
            if replay is not None and (known := replay.result_of_map(work)) is not None:
                self._driver.endings.conclude(work, known)
                return
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
                self._driver.endings.conclude(work, failed(error, work.step.kind))
                return
        if self._was_called_back(work):
            return
        self.begin(work)
        self._driver.settle()

    def _start(self, work: Work) -> None:
        try:
            call, kept = self._inputs.call_for(work)
        except Exception as error:  # noqa: BLE001 - an expression or function of the plan: becomes the step's failure
            self.start_event(work)
            self._driver.endings.conclude(work, failed(error, work.step.kind))
            return
        work.call = call
        replay = self._driver.replay
        if replay is None and keeps_result(work) and is_cached(work, self._state.steps[work.step.id]):
            self._driver.side_task(self._ask_cache_then_start(work), f"cache of {work.step.id}")
            return
        self.start_event(work, kept)
        call.attempt = work.attempt
        if work.step.kind is ActionKind.APPROVE:
            self._driver.release(work)
            if replay is not None and replay.covers(work):
                replay.answer(work)
            else:
                self._driver.approvals.ask(work)
            return
        if work.step.kind is ActionKind.PLAN:
            if replay is not None and (refused := replay.refuse(work)) is not None:
                self._driver.endings.conclude(work, refused)
                return
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
            self._driver.endings.conclude(work, Result(Ending.CACHED))
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
        step, replay = self._state.steps[work.step.id], self._driver.replay
        prepared, tries = work.step, work.tries + 1
        said = work.cached.said if work.cached is not None else ""
        if replay is not None and replay.covers(work) and not (prepared.is_map and work.item is None):
            said = REPLAYED
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
                cache=said,
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
            model=replay.model_label(work) if said == REPLAYED and replay else self._inputs.model_label(work),
            revision=self._state.revision,
            cache=said,
        )

    def _launch(self, work: Work) -> None:
        if work.stop is not None or self._driver.over:
            self._driver.endings.conclude(work, Result(Ending.STOPPED))
            return
        work.task = self._core.loop.create_task(self._body(work), name=work.step.id)
        is_replayed = self._driver.replay is not None and self._driver.replay.covers(work)
        if work.step.timeout is not None and not work.step.waits_for_worker and not is_replayed:
            self._core.deadlines.add(work.step.timeout, work)

    async def _body(self, work: Work) -> None:
        assert work.call is not None
        work.begun = True
        try:
            result = Result(Ending.STOPPED)
            replay = self._driver.replay
            if replay is not None and replay.covers(work):
                self._driver.endings.conclude(work, await replay.carry_out(work))
                return
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
            elif result.ending in (Ending.FAILED, Ending.ASKS) and (work.stop is not None or work.overdue):
                # What a body raises while it is being stopped is no failure of its own.
                result = timed_out(work.call) if work.stop is None else Result(Ending.STOPPED)
            if work.ticket is not None or (result.failure is not None and work.step.has_breaker):
                self._core.breakers.learn(work, result, self._core.executors)
            self._driver.endings.conclude(work, result)
        except Exception as error:  # noqa: BLE001 - a bug of ours must end the run with its traceback, not hang it
            self._driver.abort(error)


def what_after_interruption(step: Step, state: StepState) -> OnInterrupt:
    """Return what is to be done with a step that was cut off: what it says, or to ask where that happens too often."""
    if "on_interrupt" not in step.model_fields_set and state.interruptions >= ASK_AFTER_INTERRUPTIONS:
        return OnInterrupt.ASK
    return step.on_interrupt
