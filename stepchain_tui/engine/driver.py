"""Carries out one run: decides what is ready, starts it when there is a slot, and records how it ends.

Everything here happens on the event loop's thread and never waits: results, commands and alarms come in as calls,
events go out through the journal, bodies start once their event is durable.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stepchain_tui.engine.approvals import Approvals
from stepchain_tui.engine.attempt import carry_out, failed, timed_out
from stepchain_tui.engine.inputs import InputResolver
from stepchain_tui.engine.maps import Maps
from stepchain_tui.engine.outcome import run_outcome
from stepchain_tui.engine.prepared import PreparedStep
from stepchain_tui.engine.readiness import READY, Verdict, decide, is_failure
from stepchain_tui.engine.recorder import Journal
from stepchain_tui.engine.scheduler import Slots, WorkQueue
from stepchain_tui.engine.work import NO_LANE, Ending, Lane, Result, Stop, Work
from stepchain_tui.plan import ActionKind, TriggerRule
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.status import STEP_ENDED, AttemptStatus, RunStatus, StepStatus
from stepchain_tui.run.values import Kept

if TYPE_CHECKING:
    from stepchain_tui.engine.core import EngineCore
    from stepchain_tui.engine.source import RunSource

ASK_AFTER_INTERRUPTIONS = 3
SHOWN_AFTER = 0.05
"""Seconds that a ready step waits for a slot before it is said to be queued."""
_UNFINISHED = (
    StepStatus.PENDING,
    StepStatus.QUEUED,
    StepStatus.RUNNING,
    StepStatus.RETRYING,
    StepStatus.WAITING,
)


class Driver:
    """One run that this process carries out.

    Args:
        core: What all runs of the process share: store, clock, executors, the cap.
        source: The plan, its folder and inputs.
        journal: The run's journal; its state is the truth.
        detach: Let go of the run when it can only go on by somebody's answer, as headless runs do. A paused run is
            let go of by everybody.
        passive: Only apply commands, start nothing.
    """

    def __init__(
        self, core: EngineCore, source: RunSource, journal: Journal, *, detach: bool, passive: bool = False
    ) -> None:
        self.core = core
        self.source = source
        self.journal = journal
        self.state = journal.state
        self.run_id = journal.run_id
        self.emit = journal.emit
        self.detach = detach
        self.passive = passive
        self.paused = self.state.status is RunStatus.PAUSED
        self.cancelling: str | None = None
        self.stopping: Stop | None = None
        self.over = False
        """Nothing is recorded any more."""
        self.leaving = False
        """The last event is recorded, though perhaps not stored yet: no command may change anything any more."""
        self.stop_reason = ""
        self.slots = Slots(source.plan.max_concurrent)
        self.limits = {name: Slots(size) for name, size in source.plan.limits.items()}
        self.queue = WorkQueue()
        self.ready: dict[str, Work] = {}
        """Steps whose work is in the queue."""
        self.bodies: dict[tuple[str, int | None], Work] = {}
        """Work that holds a slot."""
        self.aside: set[Work] = set()
        """Work that holds a slot although it has ended or was called off: a stuck thread, an input still loading."""
        self.alarms: dict[tuple[str, int | None], tuple[Work, asyncio.Task[None]]] = {}
        """Work that waits for the time of its next try."""
        self.inputs = InputResolver(core, source, self.state)
        self.maps = Maps(self)
        self.approvals = Approvals(self)
        self.done: asyncio.Future[RunStatus] = core.loop.create_future()
        self._prepared: dict[str, PreparedStep] = {}
        self._unended: dict[str, int] = {}
        self._ended: deque[str] = deque()
        self._unshown: list[Work] = []
        self._showing = False
        self._settling = False
        self._side: set[asyncio.Task[None]] = set()

    # --- starting

    def start(self) -> None:
        """Begin, or go on, from wherever the state is."""
        self._unended = {step_id: self._count_unended(step_id) for step_id in self.state.steps}
        for step_id, step in list(self.state.steps.items()):
            if step.status is StepStatus.WAITING:
                self.approvals.take_up(step)
            if self.passive:
                continue
            if step.outline.is_map and step.status in (StepStatus.WAITING, StepStatus.RUNNING):
                self.maps.reopen(step)
            elif step.status in (StepStatus.PENDING, StepStatus.QUEUED):
                self.consider(step_id)
            elif step.status is StepStatus.RETRYING and step.retry_at is not None:
                self.set_alarm(Work(self.prepared(step_id), tries=step.tries), step.retry_at)
        self.settle()

    def prepared(self, step_id: str) -> PreparedStep:
        """Return a step compiled for this run's revision of the plan."""
        found = self._prepared.get(step_id)
        if found is None:
            source = self.source
            position = source.positions[step_id]
            found = PreparedStep(source.plan.steps[position], position, source.plan, self.core.settings, source.folder)
            self._prepared[step_id] = found
        return found

    # --- what is ready

    def _count_unended(self, step_id: str) -> int:
        steps = self.state.steps
        return sum(steps[parent].status not in STEP_ENDED for parent in steps[step_id].outline.parents)

    def recount(self, step_ids: list[str]) -> None:
        """Look anew at steps that were made pending again, and at those that wait for them."""
        affected = dict.fromkeys(step_ids)
        for step_id in step_ids:
            affected.update(dict.fromkeys(self.source.graph.children[step_id]))
        for step_id in affected:
            self._unended[step_id] = self._count_unended(step_id)
            self.withdraw(step_id)
            if self.state.steps[step_id].status in (StepStatus.PENDING, StepStatus.QUEUED):
                self.consider(step_id)

    def consider(self, step_id: str) -> None:
        """Queue, skip or block a pending step, if its parents say so."""
        step = self.state.steps[step_id]
        if self.passive or self.cancelling is not None:
            return
        parents = step.outline.parents
        readiness = READY
        if parents:
            rule = self.source.rules.get(step_id, TriggerRule.ALL_SUCCESS)
            readiness = decide(rule, [self.state.steps[parent] for parent in parents])
        match readiness.verdict:
            case Verdict.READY:
                self.enqueue(Work(self.prepared(step_id), tries=step.tries))
            case Verdict.SKIP:
                self.emit(e.StepSkipped, step_id=step_id, reason=readiness.reason, cause=readiness.cause)
                self._ended.append(step_id)
            case Verdict.BLOCK:
                self.emit(e.StepBlocked, step_id=step_id, reason=readiness.reason, cause=readiness.cause)
                self._ended.append(step_id)
            case Verdict.WAIT:
                pass

    def enqueue(self, work: Work) -> None:
        """Put work into the queue; `settle` starts it."""
        if work.item is None:
            self.ready[work.step.id] = work
            self._unshown.append(work)
        key = self.core.scheduler.sort_key(work.step.step, work.step.position)
        self.queue.push(work, (key, work.item or 0))

    def withdraw(self, step_id: str) -> None:
        """Take a step that has not begun out of the queue; also if it holds a slot and loads its inputs."""
        if (work := self.ready.pop(step_id, None)) is not None:
            work.withdrawn = True
        if (work := self.bodies.get((step_id, None))) is not None and not work.attempt:
            work.withdrawn = True
            self.set_aside(work)

    def step_ended(self, step_id: str) -> None:
        """Take note that a step has a result; `settle` looks at what follows."""
        self._ended.append(step_id)

    def settle(self) -> None:
        """Follow up all that has happened: dependents, free slots, the end of the run."""
        if self._settling or self.over:
            return
        self._settling = True
        try:
            self._follow_ended()
            self._pump()
            self._follow_ended()
        finally:
            self._settling = False
        self._look_for_end()

    def _follow_ended(self) -> None:
        steps, rules = self.state.steps, self.source.rules
        while self._ended:
            parent = steps[self._ended.popleft()]
            stands_in_the_way = is_failure(parent)
            unsuccessful = parent.status not in (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
            for child_id in self.source.graph.children[parent.id]:
                self._unended[child_id] -= 1
                if steps[child_id].status is not StepStatus.PENDING or child_id in self.ready:
                    continue
                early = unsuccessful if rules.get(child_id) is TriggerRule.ONE_FAILED else stands_in_the_way
                if self._unended[child_id] == 0 or early:
                    self.consider(child_id)

    # --- slots

    def _has_room(self, lane: Lane) -> bool:
        if lane is NO_LANE:
            return True
        limit, map_id = lane
        if limit is not None and not self.limits[limit].free:
            return False
        return map_id is None or self.maps.has_room(map_id)

    def _pump(self) -> None:
        if self.paused or self.passive or self.stopping is not None or self.cancelling is not None:
            return
        while self.slots.free and self.core.slots.free:
            work = self.queue.pop(self._has_room)
            if work is None:
                break
            self._take(work)
            self._begin(work)
            if self._ended:
                self._follow_ended()
        if self._unshown and not self._showing:
            self._showing = True
            self.core.loop.call_later(SHOWN_AFTER, self._show_queued)
        if len(self.queue) and not self.core.slots.free:
            self.core.starving.add(self)

    def _show_queued(self) -> None:
        """Record which steps are ready and wait for a slot, each once; a wait too short to be seen is no event."""
        unshown, self._unshown, self._showing = self._unshown, [], False
        if self.over or self.stopping is not None:
            return
        reason = "" if self.slots.free else f"{self.slots.size} steps run at once"
        for work in unshown:
            if work.withdrawn or self.ready.get(work.step.id) is not work:
                continue
            why = reason or (f"limit '{work.step.limit}' is full" if work.step.limit else "the cap over all runs")
            self.emit(e.StepQueued, step_id=work.step.id, reason=why)

    def _take(self, work: Work) -> None:
        if work.item is None:
            self.ready.pop(work.step.id, None)
        self.slots.taken += 1
        self.core.slots.taken += 1
        if work.step.limit is not None:
            self.limits[work.step.limit].taken += 1
        if work.item is not None:
            self.maps.took(work.step.id)
        self.bodies[work.key] = work
        if self.state.status is RunStatus.WAITING:
            self.emit(e.RunResumed, reason="waits no longer")

    def set_aside(self, work: Work) -> None:
        """Let work keep its slots, and make room for the next attempt at the same step or item."""
        if self.bodies.get(work.key) is work:
            del self.bodies[work.key]
            self.aside.add(work)

    def release(self, work: Work) -> None:
        """Give back the slots of work; does nothing where it holds none."""
        if work in self.aside:
            self.aside.discard(work)
        elif self.bodies.get(work.key) is work:
            del self.bodies[work.key]
        else:
            return
        self.slots.taken -= 1
        if work.step.limit is not None:
            self.limits[work.step.limit].taken -= 1
        if work.item is not None:
            self.maps.gave_back(work.step.id)
        self.core.give_back_slot()

    # --- one attempt

    def _begin(self, work: Work) -> None:
        needs_nothing = work.step.needs_nothing and work.item is None
        if not needs_nothing and (missing := self.inputs.missing(work)):
            self.side_task(self._load_then_begin(work, missing), f"load inputs of {work.step.id}")
            return
        step = self.state.steps[work.step.id]
        if step.interruptions >= ASK_AFTER_INTERRUPTIONS and "on_interrupt" not in work.step.step.model_fields_set:
            self.release(work)
            self.approvals.ask_before_another_try(step)
            return
        try:
            if work.step.when is not None and work.item is None and work.tries == 0 and not self.inputs.wanted(work):
                self.emit(e.StepSkipped, step_id=step.id, reason="its `when` is false")
                self.release(work)
                self.step_ended(step.id)
                return
        except Exception as error:  # noqa: BLE001 - an expression of the plan: becomes the step's failure
            self.start_event(work)
            self.conclude(work, failed(error, work.step.kind))
            return
        if work.step.is_map and work.item is None:
            self.start_event(work)
            self.release(work)
            self.maps.expand(work)
            return
        self._start(work)

    async def _load_then_begin(self, work: Work, missing: list[Any]) -> None:
        try:
            await self.inputs.load(missing)
        except Exception as error:  # noqa: BLE001 - a kept value that cannot be read: becomes the step's failure
            if not (work.withdrawn or work.stop is not None or self.over):
                self.start_event(work)
                self.conclude(work, failed(error, work.step.kind))
                return
        if work.withdrawn or work.stop is not None or self.paused or self.over:
            self.release(work)
            if not work.withdrawn and self.stopping is None:
                self.enqueue(Work(work.step, work.item, work.tries))
            self.settle()
            return
        self._begin(work)
        self.settle()

    def _start(self, work: Work) -> None:
        try:
            call, kept = self.inputs.call_for(work, self)
        except Exception as error:  # noqa: BLE001 - an expression or function of the plan: becomes the step's failure
            self.start_event(work)
            self.conclude(work, failed(error, work.step.kind))
            return
        work.call = call
        self.start_event(work, kept)
        call.attempt = work.attempt
        if work.step.kind is ActionKind.APPROVE:
            self.release(work)
            self.approvals.ask(work)
            return
        self.journal.recorder.after_commit(lambda: self._launch(work))

    def start_event(self, work: Work, kept: Kept | None = None) -> None:
        """Record that an attempt began."""
        step = self.state.steps[work.step.id]
        prepared, tries = work.step, work.tries + 1
        if work.item is not None:
            assert step.items is not None
            work.attempt = step.items[work.item].attempt + 1
            self.emit(
                e.ItemStarted,
                step_id=step.id,
                item=work.item,
                attempt=work.attempt,
                tries=tries,
                max_attempts=prepared.policy.max_attempts,
                input=kept,
            )
            return
        work.attempt = step.attempt + 1
        self.emit(
            e.StepStarted,
            step_id=step.id,
            attempt=work.attempt,
            tries=tries,
            max_attempts=prepared.policy.max_attempts if not prepared.is_map else 1,
            input=kept,
            content_hash=self.inputs.content_hash(prepared),
            mode=prepared.mode,
            model=self.inputs.model_label(work),
            revision=self.state.revision,
        )

    def _launch(self, work: Work) -> None:
        if work.stop is not None or self.over:
            self.conclude(work, Result(Ending.STOPPED))
            return
        work.task = self.core.loop.create_task(self._body(work), name=work.step.id)
        if work.step.timeout is not None and not work.step.waits_for_worker:
            self.core.deadlines.add(work.step.timeout, work)

    async def _body(self, work: Work) -> None:
        assert work.call is not None
        work.begun = True
        try:
            result = Result(Ending.STOPPED)
            if work.stop is None and not work.overdue:
                executor = self.core.executors.get(work.step.kind)
                result = await carry_out(executor, work.call, work.step.kind)
            if result.ending is Ending.STOPPED and work.overdue:
                result = timed_out(work.call)
            elif result.ending is Ending.STOPPED and work.stop is None:
                result = failed(RuntimeError("the step's work was cancelled from within"), work.step.kind)
            elif result.ending is Ending.FAILED and (work.stop is not None or work.overdue):
                # What a body raises while it is being stopped is no failure of its own.
                result = timed_out(work.call) if work.stop is None else Result(Ending.STOPPED)
            self.conclude(work, result)
        except Exception as error:  # noqa: BLE001 - a bug of ours must end the run with its traceback, not hang it
            self.abort(error)

    def conclude(self, work: Work, result: Result) -> None:
        """Record how an attempt ended, and go on."""
        if self.over:
            self.release(work)
            return
        lingering = work.call.lingering if work.call is not None else None
        if lingering is not None and not lingering.done():
            self._hold_slot(work, lingering)
        else:
            self.release(work)
        if work.ports is not None:
            work.ports.end()
        if result.ending is Ending.SUCCEEDED:
            result = self._succeeded(work, result)
        if result.ending in (Ending.FAILED, Ending.TIMED_OUT):
            self._failed(work, result)
        elif result.ending is Ending.SKIPPED:
            self._skipped(work, result.reason)
        elif result.ending is Ending.STOPPED:
            self._stopped(work)
        self.settle()

    def _hold_slot(self, work: Work, lingering: asyncio.Future[None]) -> None:
        self.set_aside(work)
        if work.ports is not None:
            work.ports.note("its thread cannot be stopped and goes on; it keeps its slot until it ends")

        def ended(_: asyncio.Future[None]) -> None:
            self.release(work)
            self.settle()

        lingering.add_done_callback(ended)

    def _succeeded(self, work: Work, result: Result) -> Result:
        try:
            output = self.core.store.keep(result.output, self.source.redactor)
        except Exception as error:  # noqa: BLE001 - a result that cannot be kept: becomes the step's failure
            return failed(error, work.step.kind)
        warnings = tuple(work.warnings)
        if work.item is not None:
            self.emit(
                e.ItemSucceeded,
                step_id=work.step.id,
                item=work.item,
                attempt=work.attempt,
                output=output,
                warnings=warnings,
            )
            self.maps.item_ended(work.step.id)
        else:
            self.emit(e.StepSucceeded, step_id=work.step.id, attempt=work.attempt, output=output, warnings=warnings)
            self._ended.append(work.step.id)
        return result

    def _failed(self, work: Work, result: Result) -> None:
        failure = result.failure
        assert failure is not None
        overdue = result.ending is Ending.TIMED_OUT
        is_item = work.item is not None
        where: dict[str, Any] = {"step_id": work.step.id, "attempt": work.attempt}
        if is_item:
            where["item"] = work.item
        decision = None
        if work.stop is None and (is_item or not work.step.is_map):
            decision = work.step.policy.decide(work.tries + 1, failure)
        if decision is not None:
            retry_at = self.core.clock.now() + self.core.seconds(decision.delay)
            self.emit(
                e.ItemRetryScheduled if is_item else e.StepRetryScheduled,
                **where,
                status=AttemptStatus.TIMED_OUT if overdue else AttemptStatus.FAILED,
                error=failure,
                delay=decision.delay,
                retry_at=retry_at,
                tries=work.tries + 1,
                max_attempts=work.step.policy.max_attempts,
                reason=decision.reason,
            )
            again = Work(work.step, work.item, work.tries + 1)
            self.set_alarm(again, retry_at)
            return
        if is_item:
            self.emit(e.ItemTimedOut if overdue else e.ItemFailed, **where, error=failure)
            self.maps.item_ended(work.step.id)
            return
        self.emit(e.StepTimedOut if overdue else e.StepFailed, **where, error=failure)
        self._ended.append(work.step.id)

    def fail_step(self, step_id: str, attempt: int, failure: Failure, output: Kept | None = None) -> None:
        """Record that a step failed for good, without another try."""
        self.emit(e.StepFailed, step_id=step_id, attempt=attempt, error=failure, output=output)
        self._ended.append(step_id)

    def _skipped(self, work: Work, reason: str) -> None:
        if work.item is not None:
            self.maps.skip(work, reason)
            return
        self.emit(e.StepSkipped, step_id=work.step.id, reason=reason, attempt=work.attempt)
        self._ended.append(work.step.id)

    def _stopped(self, work: Work) -> None:
        reason = work.stop_reason or (work.stop.value if work.stop else "")
        where: dict[str, Any] = {"step_id": work.step.id, "attempt": work.attempt}
        if work.stop is Stop.CANCEL:
            if work.item is not None:
                self.emit(e.ItemCancelled, **where, item=work.item, reason=reason)
                self.maps.item_ended(work.step.id)
            else:
                self.emit(e.StepCancelled, **where, reason=reason)
                self._ended.append(work.step.id)
            return
        if work.item is not None:
            self.emit(e.ItemInterrupted, **where, item=work.item, reason=reason)
            if work.stop is Stop.PAUSE:
                self.enqueue(Work(work.step, work.item, work.tries))
            return
        self.emit(e.StepInterrupted, **where, reason=reason, asked=work.stop is Stop.PAUSE)
        if work.stop is Stop.PAUSE:
            self.consider(work.step.id)

    # --- alarms

    def set_alarm(self, work: Work, moment: datetime) -> None:
        """Queue the work when its time has come."""
        if moment <= self.core.clock.now():
            self.enqueue(work)
            return
        task = self.core.loop.create_task(self._wake(work, moment), name=f"{self.run_id}/{work.step.id} retry")
        self.alarms[work.key] = (work, task)

    async def _wake(self, work: Work, moment: datetime) -> None:
        await self.core.clock.sleep_until(moment)
        try:
            self.try_now(work.key)
        except Exception as error:  # noqa: BLE001 - a bug of ours must end the run with its traceback, not hang it
            self.abort(error)

    def try_now(self, key: tuple[str, int | None]) -> bool:
        """Queue work that waits for its next try; returns whether there was any."""
        found = self.alarms.pop(key, None)
        if found is None:
            return False
        work, task = found
        if task is not asyncio.current_task():
            task.cancel()
        self.enqueue(work)
        self.settle()
        return True

    def side_task(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Run something beside the bodies; the run does not end before it."""
        task = self.core.loop.create_task(coroutine, name=name)
        self._side.add(task)
        task.add_done_callback(self._side_done)

    def _side_done(self, task: asyncio.Task[None]) -> None:
        self._side.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.abort(error)
            return
        self.settle()

    # --- stopping

    def stop_body(self, work: Work, stop: Stop, reason: str = "") -> None:
        """Stop the body of one attempt; how it ended is recorded when it has."""
        if work.stop is None or (work.stop is Stop.PAUSE and stop is Stop.CANCEL):
            work.stop, work.stop_reason = stop, reason
        if work.task is not None and work.begun and not work.task.done():
            work.task.cancel()

    def stop_all(self, stop: Stop, reason: str = "") -> None:
        """Stop all bodies."""
        for work in list(self.bodies.values()):
            self.stop_body(work, stop, reason)

    def shut_down(self, reason: str) -> None:
        """End carrying the run out, at once and so that it can be resumed: bodies become interrupted."""
        if self.over or self.stopping is not None:
            return
        self.stopping = Stop.SHUTDOWN
        self.stop_reason = reason
        self.stop_all(Stop.SHUTDOWN, reason)
        self._look_for_end()

    def detach_when_waiting(self) -> None:
        """Let go of the run as soon as only a person's answer can go on with it: nobody watches it any more."""
        self.detach = True
        self._look_for_end()

    def abort(self, error: BaseException) -> None:
        """Give the run up without recording anything more: the store failed, or we have a bug."""
        if self.over:
            return
        self.over = self.leaving = True
        self._drop_alarms()
        stopping: list[asyncio.Task[None]] = []
        for work in [*self.bodies.values(), *self.aside]:
            work.stop = work.stop or Stop.SHUTDOWN
            if work.task is None or not work.begun:
                self.release(work)
            elif not work.task.done() and work.task is not asyncio.current_task():
                stopping.append(work.task)
            if work.task is not None:
                work.task.cancel()
        if stopping:  # nobody else may take the run before its work has ended
            ending = self.core.loop.create_task(_all_of(stopping), name=f"{self.run_id} ends")
            self._side.add(ending)
            ending.add_done_callback(lambda _: self._give_up(error))
        else:
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def _drop_alarms(self) -> None:
        for _, task in self.alarms.values():
            task.cancel()
        self.alarms.clear()
        self.approvals.drop_alarms()

    # --- the end

    def _look_for_end(self) -> None:
        if self.over or self.passive:
            return
        if self.bodies or self.aside or self._side:
            return
        if self.stopping is not None:
            self._end_interrupted()
            return
        counts = self.state.counts
        if not any(counts.get(status) for status in _UNFINISHED):
            self._finish()
        elif self.paused:
            self._let_go()
        elif self.approvals.open and not self.alarms and self._has_only_questions():
            self._wait_for_people()

    def _has_only_questions(self) -> bool:
        """Return whether all queued work is the next question of a map whose last one is open."""
        open_ones = self.approvals.open
        return all(work.item is not None and work.step.id in open_ones for work in self.queue.waiting())

    def _finish(self) -> None:
        status, reason = run_outcome(self.state, self.cancelling)
        self.emit(e.RunFinished, status=status, reason=reason)
        self._leave(status)

    def _end_interrupted(self) -> None:
        self.maps.interrupt(self.stop_reason, asked=False)
        if self.paused:
            self._leave(RunStatus.PAUSED)
            return
        self.emit(e.RunInterrupted, reason=self.stop_reason)
        self._leave(RunStatus.INTERRUPTED)

    def _let_go(self) -> None:
        self.maps.interrupt("paused", asked=True)
        self._leave(self.state.status)

    def _wait_for_people(self) -> None:
        if self.state.status is not RunStatus.WAITING or self.state.waiting_for != self.approvals.steps:
            self.emit(e.RunWaiting, reason="waits for an answer", steps=self.approvals.steps)
        if self.detach and not self.approvals.has_deadline:
            self.maps.interrupt("waits for an answer", asked=True)
            self._leave(RunStatus.WAITING)

    def _leave(self, status: RunStatus) -> None:
        self._drop_alarms()
        self.leaving = True
        self.core.recorder.owner(self.run_id, None)
        leaving = self.done

        def left() -> None:
            self.over = True
            if not leaving.done():
                leaving.set_result(status)

        self.stopping = self.stopping or Stop.SHUTDOWN
        self.core.recorder.after_commit(left)


async def _all_of(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
