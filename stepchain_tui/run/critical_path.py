"""The critical path: the chain of steps that decided how long a run took.

It is walked back from the step that ended last, each time to what it waited for longest: of its parents the one
that ended last, for a `plan` step its part that ended last, for the first parts of a sub-plan what that waited for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import AttemptStatus
from stepchain_tui.run.step_state import StepState


@dataclass(frozen=True, slots=True)
class PathStep:
    """One step of the critical path.

    Attributes:
        step_id: The step.
        waiting: Seconds from the end of what it waited for to its first try: the wait for a slot.
        running: Seconds from its first try to its end, waits for retries and for people included.
        started_at: When its first try began.
        finished_at: When it ended.
    """

    step_id: str
    waiting: float
    running: float
    started_at: datetime
    finished_at: datetime


def began_at(step: StepState) -> datetime | None:
    """Return when the first of the tries began that led to the step's result, or to where it is now.

    Returns:
        None where no attempt did: the step was skipped, blocked or set by hand, or has not begun.
    """
    found = step.last
    if found is None or (step.finished_at is not None and found.finished_at is not None and not _made_it(step)):
        return None
    while found.tries > 1:
        before = step.attempts.get((None, found.n - 1))
        if before is None or before.status is AttemptStatus.INTERRUPTED:
            break
        found = before
    return found.started_at


def _made_it(step: StepState) -> bool:
    """Return whether the step's end is that of its last attempt."""
    return step.last is not None and step.last.finished_at == step.finished_at


def critical_path(state: RunState, events: Sequence[e.Event]) -> tuple[PathStep, ...]:
    """Return the chain of ended steps that decided how long the run took, first step first.

    Args:
        state: The run.
        events: Its events: waits do not count while nobody carried the run out, or before a rerun was asked for.
    """
    ran = [step for step in state.steps.values() if step.ended and step.finished_at and began_at(step) is not None]
    if not ran:
        return ()
    walk = _Walk(state, events)
    return walk.back_from(max(ran, key=walk.end_of))


class _Walk:
    def __init__(self, state: RunState, events: Iterable[e.Event]) -> None:
        self._steps = state.steps
        self._gone_on: list[datetime] = []
        self._wanted: dict[str, datetime] = {}
        self._ended: dict[str, int] = {}
        for event in events:
            if isinstance(event, e.StepEnd):
                self._ended[event.step_id] = event.seq
            elif isinstance(event, e.StepInvalidated):
                if not event.stale:
                    self._wanted[event.step_id] = event.at
            elif isinstance(event, e.RunStarted | e.RunResumed):
                self._gone_on.append(event.at)
        self._parts: dict[str, list[StepState]] = {}
        for step in self._steps.values():
            if step.outline.part_of and step.ended and step.finished_at is not None:
                self._parts.setdefault(step.outline.part_of, []).append(step)

    def end_of(self, step: StepState) -> tuple[datetime, int]:
        """Return what orders ends: the moment and, of those at the same one, the event."""
        assert step.finished_at is not None
        return step.finished_at, self._ended.get(step.id, 0)

    def back_from(self, step: StepState | None) -> tuple[PathStep, ...]:
        path: list[PathStep] = []
        seen: set[str] = set()
        while step is not None and step.id not in seen:
            seen.add(step.id)
            before = self._before(step)
            began = began_at(step)
            if began is not None and step.finished_at is not None:
                path.append(self._told(step, began, before))
            step = before
        return tuple(reversed(path))

    def _before(self, step: StepState) -> StepState | None:
        inside = [part for part in self._parts.get(step.id, ()) if self.end_of(part) <= self.end_of(step)]
        if inside:
            return max(inside, key=self.end_of)
        begin = began_at(step) or step.finished_at
        while True:
            if (parent := self._last_of(step.outline.parents, begin)) is not None:
                return parent
            if not step.outline.part_of:
                return None
            step = self._steps[step.outline.part_of]

    def _last_of(self, step_ids: Iterable[str], begin: datetime | None) -> StepState | None:
        """Return the step that ended last of those that ended before `begin`: one that ran again since counts not."""
        steps = (self._steps[step_id] for step_id in step_ids if step_id in self._steps)
        ended = [
            step for step in steps if step.ended and step.finished_at and (begin is None or step.finished_at <= begin)
        ]
        return max(ended, key=self.end_of) if ended else None

    def _told(self, step: StepState, began: datetime, before: StepState | None) -> PathStep:
        end = step.finished_at
        assert end is not None
        if before is not None and before.outline.part_of == step.id and before.finished_at is not None:
            # Its parts stand in the path for it: what is left is the time after the last of them.
            after = max(0.0, (end - before.finished_at).total_seconds())
            return PathStep(step.id, 0.0, after, began, end)
        ready = [self._wanted[step.id]] if step.id in self._wanted else []
        if before is not None and before.finished_at is not None:
            ready.append(before.finished_at)
        if step.outline.part_of and (whole := began_at(self._steps[step.outline.part_of])) is not None:
            ready.append(whole)
        if position := bisect_right(self._gone_on, began):
            ready.append(self._gone_on[position - 1])
        waiting = max(0.0, (began - max(ready)).total_seconds()) if ready else 0.0
        return PathStep(step.id, waiting, max(0.0, (end - began).total_seconds()), began, end)
