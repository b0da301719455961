"""Where the time of one step went: it is always in one phase, and the events say when that changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RUN_ENDED, RunStatus
from stepchain_tui.run.why_words import spoken


class Phase(StrEnum):
    """What a step's time can go to; the value follows a length of time in a sentence."""

    PARENTS = "waiting for parents"
    SLOT = "waiting for a slot"
    RUNNING = "running"
    RETRY = "waiting for a retry"
    PERSON = "waiting for a person"
    STOPPED = "while the run was stopped"
    ENDED = "ended"


_STOPS = e.RunPaused | e.RunInterrupted | e.RunFinished


@dataclass(slots=True)
class Times:
    """Seconds of a step in each phase, over the whole life of the run, reruns included."""

    seconds: dict[Phase, float] = field(default_factory=dict)

    @property
    def taken(self) -> float:
        """Seconds from being ready to the end, without those while nobody carried the run out."""
        left_out = (Phase.PARENTS, Phase.STOPPED)
        return sum(seconds for phase, seconds in self.seconds.items() if phase not in left_out)

    def words(self) -> str:
        """Return where the time went, the longest first: `8 s running, 2 s waiting for a retry`."""
        told = sorted(self.seconds.items(), key=lambda pair: -pair[1])
        return ", ".join(f"{spoken(seconds)} {phase}" for phase, seconds in told if seconds >= 0.001)


def run_seconds(state: RunState, now: datetime) -> float:
    """Return how long a run has taken so far."""
    begin = state.started_at or state.created_at
    return (end_of(state, now) - begin).total_seconds() if begin else 0.0


def end_of(state: RunState, now: datetime) -> datetime:
    """Return the moment up to which a run's time counts: now only while it goes on."""
    if state.status in RUN_ENDED and state.finished_at is not None:
        return state.finished_at
    return now if state.status in (RunStatus.RUNNING, RunStatus.WAITING) else state.last_at or now


def times_of(state: RunState, events: Sequence[e.Event], step_id: str, now: datetime) -> Times:
    """Return where the time of a step went, from the start of the run until it ended or `now`."""
    meter = _Meter(step_id, set(state.steps[step_id].outline.parents))
    for event in events:
        meter.read(event)
    meter.close(end_of(state, now))
    return meter.times


class _Meter:
    def __init__(self, step_id: str, parents: set[str]) -> None:
        self.times = Times()
        self._step_id = step_id
        self._parents = parents
        self._unended = set(parents)
        self._live = False
        self._own: Phase | None = None  # None while the step has neither begun nor ended
        self._after = False  # it waits at a breakpoint after it: its result is there
        self._retry_at: datetime | None = None
        self._phase: Phase | None = None
        self._since: datetime | None = None

    def read(self, event: e.Event) -> None:
        step_id = getattr(event, "step_id", None)
        if step_id == self._step_id:
            self._own_event(event)
        elif step_id is not None:
            if step_id in self._parents:
                self._parent_event(event, step_id)
            return
        elif isinstance(event, e.RunStarted | e.RunResumed):
            self._live = True
        elif isinstance(event, _STOPS):
            self._live = False
        self._change(event.at)

    def close(self, at: datetime) -> None:
        self._add(at)

    def _parent_event(self, event: e.Event, step_id: str) -> None:
        if isinstance(event, e.StepEnd):
            self._unended.discard(step_id)
        elif isinstance(event, e.StepStarted | e.StepInterrupted) or (
            isinstance(event, e.StepInvalidated) and not event.stale
        ):
            self._unended.add(step_id)
        self._change(event.at)

    def _own_event(self, event: e.Event) -> None:
        match event:
            case e.StepStarted():
                self._own = Phase.RUNNING
            case e.StepRetryScheduled():
                self._own, self._retry_at = Phase.RETRY, event.retry_at
            case e.StepWaiting():
                self._own, self._after = Phase.PERSON, event.place == "after"
            case e.StepResumed():
                self._own = Phase.ENDED if self._after else Phase.RUNNING if event.attempt else None
            case e.StepInterrupted():
                self._own = None
            case e.StepInvalidated():
                self._own = self._own if event.stale else None
            case _ if isinstance(event, e.StepEnd):
                self._own = Phase.ENDED

    def _change(self, at: datetime) -> None:
        phase = self._own
        if phase is None or phase is Phase.RETRY:
            if not self._live:
                phase = Phase.STOPPED
            elif phase is None:
                phase = Phase.PARENTS if self._unended else Phase.SLOT
        if phase is not self._phase:
            self._add(at)
            self._phase = phase

    def _add(self, at: datetime) -> None:
        since, phase, self._since = self._since, self._phase, at
        if since is None or phase is None or phase is Phase.ENDED or at <= since:
            return
        seconds = self.times.seconds
        if phase is Phase.RETRY and self._retry_at is not None and self._retry_at < at:
            # From then on nothing but a slot was missing.
            due = max(since, self._retry_at)
            seconds[Phase.SLOT] = seconds.get(Phase.SLOT, 0.0) + (at - due).total_seconds()
            at = due
        seconds[phase] = seconds.get(phase, 0.0) + (at - since).total_seconds()
