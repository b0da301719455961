"""Carries out one run: decides what is ready, starts it when there is a slot, and records how it ends.

Everything here happens on the event loop's thread and never waits: results, commands and alarms come in as calls,
events go out through the journal, bodies start once their event is durable.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from stepchain_tui.engine.alarms import Alarms
from stepchain_tui.engine.approvals import Approvals
from stepchain_tui.engine.attempts import Attempts
from stepchain_tui.engine.budgets import Budgets
from stepchain_tui.engine.endings import Endings
from stepchain_tui.engine.frontier import Frontier
from stepchain_tui.engine.graph import graph_of
from stepchain_tui.engine.groups import Groups
from stepchain_tui.engine.inputs import InputResolver
from stepchain_tui.engine.maps import Maps
from stepchain_tui.engine.outcome import run_outcome
from stepchain_tui.engine.prepared import PreparedStep
from stepchain_tui.engine.recorder import Journal
from stepchain_tui.engine.recording import go_on_replaying
from stepchain_tui.engine.replaying import Replay
from stepchain_tui.engine.scheduler import Slots, limits_of
from stepchain_tui.engine.work import NO_LANE, Lane, Stop, Work
from stepchain_tui.run import events as e
from stepchain_tui.run.status import RunStatus, StepStatus
from stepchain_tui.run.step_state import StepState

if TYPE_CHECKING:
    from stepchain_tui.engine.core import EngineCore
    from stepchain_tui.engine.source import RunSource

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
        self.slots = Slots(self.state.max_concurrent)
        self.limits = {name: Slots(size) for name, size in limits_of(source, self.state).items()}
        self.graph = graph_of(source, self.state)
        self._places = self.graph.places
        self.bodies: dict[tuple[str, int | None], Work] = {}
        """Work that holds a slot."""
        self.aside: set[Work] = set()
        """Work that holds a slot although it has ended or was called off: a stuck thread, an input still loading."""
        self.replay = Replay(self, source.recording) if source.recording is not None else None
        """Gives attempts their recorded results, where the run is a replay."""
        self.inputs = InputResolver(self)
        self.frontier = Frontier(self)
        self.attempts = Attempts(self)
        self.endings = Endings(self)
        self.alarms = Alarms(self)
        self.maps = Maps(self)
        self.groups = Groups(self)
        self.approvals = Approvals(self)
        self.budgets = Budgets(self)
        self.done: asyncio.Future[RunStatus] = core.loop.create_future()
        self.on_left: Callable[[], None] = lambda: None
        """Called right before `done`: whoever waits for it finds the run free to be taken up again."""
        self._prepared: dict[str, PreparedStep] = {}
        self._settling = False
        self._side: set[asyncio.Task[None]] = set()

    # --- starting

    def start(self) -> None:
        """Begin, or go on, from wherever the state is."""
        self.frontier.count()
        for step in list(self.state.steps.values()):
            if step.status is StepStatus.WAITING:
                self.approvals.take_up(step)
                if step.outline.is_map and step.waiting is not None and step.waiting.attempt and not self.passive:
                    self.maps.reopen(step)
            elif step.outline.is_map and step.status is StepStatus.RUNNING and not self.passive:
                self.maps.reopen(step)
        self.find_work(self.state.steps.values())
        self.budgets.look_again()
        self.settle()

    def find_work(self, steps: Iterable[StepState]) -> None:
        """Queue what is ready of these steps, and set the alarms of those that wait for their next try."""
        if self.passive:
            return
        for step in steps:
            if step.status in (StepStatus.PENDING, StepStatus.QUEUED):
                if self.frontier.could_begin(step.id):
                    self.frontier.consider(step.id)
            elif step.status is StepStatus.RETRYING and step.outline.part_of and not self.groups.is_open(step.id):
                continue
            elif step.status is StepStatus.RETRYING and step.retry_at is not None:
                self.alarms.set(Work(self.prepared(step.id), tries=step.tries), step.retry_at)

    def prepared(self, step_id: str) -> PreparedStep:
        """Return a step compiled for this run's revision of the plan."""
        found = self._prepared.get(step_id)
        if found is None:
            definition = self.source.definition(step_id)
            found = PreparedStep(definition, self._places[step_id], self.core.settings)
            self._prepared[step_id] = found
        return found

    def adopt(self, source: RunSource) -> None:
        """Go on with another source of the same run, whose revision is recorded; what runs is not touched."""
        source.know_servers(self.core.settings.mcp_servers)
        source.answers_after = self.source.answers_after
        if self.source.recording is not None:
            go_on_replaying(source, self.source.recording, self.source.live)
        self.journal.set_redactor(source.redactor)
        self.source = source
        self.inputs.adopt(source)
        self._prepared.clear()
        self.lay_out()
        self.resize()
        for step_id in list(self.approvals.open):
            self.approvals.renew(step_id)
        self.alarms.drop()
        self.groups.renew()
        self.queue_anew()
        self.budgets.look_again()

    def queue_anew(self) -> None:
        """Find out once more what is ready, and in which order."""
        self.frontier.drop()
        self.find_work(self.state.steps.values())
        self.maps.queue_anew()

    def lay_out(self) -> None:
        """Take note that the run has other steps than before."""
        self.graph = graph_of(self.source, self.state)
        self._places = self.graph.places
        self.frontier.count()

    def resize(self) -> None:
        """Take the numbers of slots from the state; those that are taken stay so until they are given back."""
        self.slots.size = self.state.max_concurrent
        for name, size in limits_of(self.source, self.state).items():
            self.limits.setdefault(name, Slots(size)).size = size

    # --- what is ready

    def settle(self) -> None:
        """Follow up all that has happened: dependents, free slots, the end of the run."""
        if self._settling or self.over:
            return
        self._settling = True
        try:
            self.frontier.follow_ended()
            self._pump()
            self.frontier.follow_ended()
        finally:
            self._settling = False
        self._look_for_end()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Follow nothing up before all that is done inside has happened: its half is no state to decide from."""
        before, self._settling = self._settling, True
        try:
            yield
        finally:
            self._settling = before

    # --- slots

    def _has_room(self, lane: Lane) -> bool:
        if lane is NO_LANE:
            return True
        limit, map_id, scope, talks = lane
        if talks and self.budgets.holds(map_id, scope):
            return False
        if limit is not None and not self.limits[limit].free:
            return False
        if scope and not self.groups.has_room(scope):
            return False
        return map_id is None or self.maps.has_room(map_id)

    def _pump(self) -> None:
        if self.paused or self.passive or self.stopping is not None or self.cancelling is not None:
            return
        while self.slots.free and self.core.slots.free:
            work = self.frontier.queue.pop(self._has_room)
            if work is None:
                break
            self._take(work)
            self.attempts.begin(work)
            if self.frontier.has_ended:
                self.frontier.follow_ended()
        self.frontier.show_soon()
        if len(self.frontier.queue) and not self.core.slots.free:
            self.core.starving.add(self)

    def _take(self, work: Work) -> None:
        if work.item is None:
            self.frontier.ready.pop(work.step.id, None)
        self.slots.taken += 1
        self.core.slots.taken += 1
        if work.step.limit is not None:
            self.limits[work.step.limit].taken += 1
        if work.item is not None:
            self.maps.took(work.step.id)
        if work.step.scope:
            self.groups.took(work.step.scope)
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
        if work.step.scope:
            self.groups.gave_back(work.step.scope)
        self.core.give_back_slot()

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
            self.on_left()
            self.done.set_exception(error)
            self.done.exception()  # whoever waits for the run is told; nobody has to

    def _drop_alarms(self) -> None:
        self.alarms.drop()
        self.approvals.drop_alarms()
        self.groups.drop_alarms()

    # --- the end

    def _look_for_end(self) -> None:
        if self.over or self.leaving or self.passive:
            return
        if self.bodies or self.aside or self._side:
            return
        counts = self.state.counts
        if not any(counts.get(status) for status in _UNFINISHED):
            self._finish()
        elif self.stopping is not None:
            self._end_interrupted()
        elif self.paused:
            self._let_go()
        elif self.approvals.open and not self.alarms.waiting and not self._could_begin_anything():
            self._wait_for_people()

    def _could_begin_anything(self) -> bool:
        """Return whether queued work waits for other runs only, and not for items and parts that ask a person."""
        return any(self._has_room(work.lane) for work in self.frontier.queue.waiting())

    def _finish(self) -> None:
        status, reason = run_outcome(self.state, self.cancelling)
        self.emit(e.RunFinished, status=status, reason=reason)
        self._leave(status)

    def _end_interrupted(self) -> None:
        self._interrupt_what_is_open(self.stop_reason, asked=False)
        if self.paused:
            self._leave(RunStatus.PAUSED)
            return
        self.emit(e.RunInterrupted, reason=self.stop_reason)
        self._leave(RunStatus.INTERRUPTED)

    def _interrupt_what_is_open(self, reason: str, *, asked: bool) -> None:
        self.groups.interrupt(reason)
        self.maps.interrupt(reason, asked=asked)

    def _let_go(self) -> None:
        self._interrupt_what_is_open("paused", asked=True)
        self._leave(self.state.status)

    def _wait_for_people(self) -> None:
        if self.state.status is not RunStatus.WAITING or self.state.waiting_for != self.approvals.steps:
            self.emit(e.RunWaiting, reason="waits for an answer", steps=self.approvals.steps)
        if self.detach and not self.approvals.has_deadline:
            self._interrupt_what_is_open("waits for an answer", asked=True)
            self._leave(RunStatus.WAITING)

    def _leave(self, status: RunStatus) -> None:
        self._drop_alarms()
        self.leaving = True
        self.core.recorder.owner(self.run_id, None)

        def left() -> None:
            self.over = True
            if not self.done.done():
                self.on_left()
                self.done.set_result(status)

        self.stopping = self.stopping or Stop.SHUTDOWN
        self.core.recorder.after_commit(left)


async def _all_of(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
