"""Which steps of a run come next: what is ready, skipped or blocked, and what waits in the queue (rules 4 and 6)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from stepchain_tui.engine.readiness import READY, Verdict, decide, is_failure
from stepchain_tui.engine.scheduler import WorkQueue
from stepchain_tui.engine.work import Work
from stepchain_tui.plan import TriggerRule
from stepchain_tui.run import events as e
from stepchain_tui.run.status import STEP_ENDED, StepStatus

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

SHOWN_AFTER = 0.1
"""Seconds that a ready step waits for a slot before it is said to be queued."""
_NOT_BEGUN = (StepStatus.PENDING, StepStatus.QUEUED)
"""A step that was queued waits for its parents again when one of them is made pending by a revision."""


class Frontier:
    """The border between what has ended and what has not begun.

    Attributes:
        queue: Ready work, in the order in which it starts.
        ready: Steps whose work is in the queue.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._core = driver.core
        self._state = driver.state
        self._emit = driver.emit
        self.queue = WorkQueue()
        self.ready: dict[str, Work] = {}
        self._unended: dict[str, set[str]] = {}
        self._ended: deque[str] = deque()
        self._unshown: list[Work] = []
        self._showing = False

    @property
    def has_ended(self) -> bool:
        """Whether there are ended steps that were not followed up."""
        return bool(self._ended)

    def count(self) -> None:
        """Find out for every step which of its parents have not ended."""
        steps = self._state.steps
        if self._state.counts.get(StepStatus.PENDING) == len(steps):
            self._unended = {step_id: set(step.outline.parents) for step_id, step in steps.items()}
        else:
            self._unended = {step_id: self._unended_parents(step_id) for step_id in steps}

    def could_begin(self, step_id: str) -> bool:
        """Return whether it is worth looking at a step: one none of whose parents has ended only waits."""
        left = self._unended[step_id]
        return not left or len(left) < len(self._state.steps[step_id].outline.parents)

    def show_soon(self) -> None:
        """Record that ready steps are queued, if they still wait for a slot a little later."""
        if self._unshown and not self._showing:
            self._showing = True
            self._core.loop.call_later(SHOWN_AFTER, self._show_queued)

    def _unended_parents(self, step_id: str) -> set[str]:
        steps = self._state.steps
        return {parent for parent in steps[step_id].outline.parents if steps[parent].status not in STEP_ENDED}

    def recount(self, step_ids: list[str]) -> None:
        """Look anew at steps that were made pending again, and at those that wait for them."""
        affected = dict.fromkeys(step_ids)
        for step_id in step_ids:
            affected.update(dict.fromkeys(self._driver.graph.children[step_id]))
        for step_id in affected:
            self._unended[step_id] = self._unended_parents(step_id)
            self.withdraw(step_id)
        for step_id in affected:  # only now: a step that is skipped at once counts as one that ends
            if self._state.steps[step_id].status in (StepStatus.PENDING, StepStatus.QUEUED):
                self.consider(step_id)

    def drop(self) -> None:
        """Let go of all that is queued; what is ready is found anew by whoever asks for this."""
        for work in self.queue.waiting():
            work.withdrawn = True
        self.ready.clear()
        self._unshown.clear()

    def consider(self, step_id: str) -> None:
        """Queue, skip or block a pending step, if its parents say so."""
        step = self._state.steps[step_id]
        if self._driver.passive or self._driver.cancelling is not None:
            return
        if step.outline.part_of and not self._driver.groups.is_open(step_id):
            return
        parents = step.outline.parents
        readiness = READY
        if parents:
            rule = self._driver.graph.rules.get(step_id, TriggerRule.ALL_SUCCESS)
            readiness = decide(rule, [self._state.steps[parent] for parent in parents])
        match readiness.verdict:
            case Verdict.READY:
                self.enqueue(Work(self._driver.prepared(step_id), tries=step.tries))
            case Verdict.SKIP:
                self._emit(e.StepSkipped, step_id=step_id, reason=readiness.reason, cause=readiness.cause)
                self._ended.append(step_id)
            case Verdict.BLOCK:
                self._emit(e.StepBlocked, step_id=step_id, reason=readiness.reason, cause=readiness.cause)
                self._ended.append(step_id)
            case Verdict.WAIT:
                pass

    def enqueue(self, work: Work) -> None:
        """Put work into the queue; `settle` starts it."""
        if work.item is None:
            self.ready[work.step.id] = work
            self._unshown.append(work)
        step = work.step.step
        if self._state.priorities and (priority := self._state.priorities.get(work.step.id)) is not None:
            step = step.model_copy(update={"priority": priority})
        key = self._core.scheduler.sort_key(step, work.step.position)
        self.queue.push(work, (key, -1 if self._was_answered(work) else work.item or 0))

    def _was_answered(self, work: Work) -> bool:
        """Return whether a person was asked about an item's call and answered: that goes on before others ask."""
        answers = self._state.steps[work.step.id].answers
        return work.item is not None and any(item == work.item for item, _ in answers)

    def withdraw(self, step_id: str) -> None:
        """Take a step that has not begun out of the queue; also if it holds a slot and loads its inputs."""
        if (work := self.ready.pop(step_id, None)) is not None:
            work.withdrawn = True
        if (work := self._driver.bodies.get((step_id, None))) is not None and not work.attempt:
            work.withdrawn = True
            self._driver.set_aside(work)

    def step_ended(self, step_id: str) -> None:
        """Take note that a step has a result; `settle` looks at what follows."""
        self._ended.append(step_id)

    def follow_ended(self) -> None:
        """Look at what waits for the steps that have ended."""
        driver, steps, unended = self._driver, self._state.steps, self._unended
        children, rules, around = driver.graph.children, driver.graph.rules, driver.graph.around
        while self._ended:
            parent = steps[self._ended.popleft()]
            parent_id = parent.outline.id
            stands_in_the_way = is_failure(parent)
            unsuccessful = parent.status not in (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
            outer = around.get(parent_id) if around else None
            if outer is not None or parent.outline.kind == "plan":
                driver.groups.step_ended(parent)
            for child_id in children[parent_id]:
                left = unended[child_id]
                left.discard(parent_id)
                if (left and not unsuccessful) or child_id == outer:
                    continue
                if steps[child_id].status not in _NOT_BEGUN or child_id in self.ready:
                    continue
                if (child_id, None) in driver.bodies:  # it has its slot and loads its inputs
                    continue
                early = unsuccessful if rules.get(child_id) is TriggerRule.ONE_FAILED else stands_in_the_way
                if early or not left:
                    self.consider(child_id)

    def _show_queued(self) -> None:
        """Record which steps are ready and wait for a slot, each once; a wait too short to be seen is no event."""
        unshown, self._unshown, self._showing = self._unshown, [], False
        if self._driver.over or self._driver.stopping is not None:
            return
        reason = "" if self._driver.slots.free else f"{self._driver.slots.size} steps run at once"
        for work in unshown:
            if work.withdrawn or self.ready.get(work.step.id) is not work:
                continue
            if self._state.steps[work.step.id].status is StepStatus.QUEUED:
                continue  # said before: by an engine that ended since, or before the queue was made anew
            if work.step.talks and self._driver.budgets.holds(None, work.step.scope):
                why = "held back by the budget"
            else:
                why = reason or (f"limit '{work.step.limit}' is full" if work.step.limit else "the cap over all runs")
            self._emit(e.StepQueued, step_id=work.step.id, reason=why)
