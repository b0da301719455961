"""Chains of causes: what a step waits for or was blocked by, followed through the graph to the root.

Only statuses are looked at, so a chain tells how things stand now. Each walk visits a step once.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import pairwise

from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus, worded
from stepchain_tui.run.step_state import BREAKPOINT, StepState
from stepchain_tui.run.why_words import listed, numbered, quoted, spoken

NAMED = 4
"""Links of a chain that a sentence names; of those between only the number is told."""
FAILED = frozenset({StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.CANCELLED})
UNSUCCESSFUL = FAILED | {StepStatus.BLOCKED}
_URGENCY = (
    StepStatus.WAITING,
    StepStatus.RETRYING,
    StepStatus.QUEUED,
    StepStatus.RUNNING,
    StepStatus.PENDING,
)
"""Which root is named where there are several: first what a person can do something about."""


class Chains:
    """The chains of one run as it stands.

    Args:
        state: The run.
        now: The moment at which it is asked.
    """

    def __init__(self, state: RunState, now: datetime) -> None:
        self._state = state
        self._steps = state.steps
        self._now = now
        self._parts: dict[str, list[StepState]] = {}
        for step in self._steps.values():
            if step.outline.part_of:
                self._parts.setdefault(step.outline.part_of, []).append(step)

    # --- what a step waits for

    def waits_for(self, step: StepState) -> list[StepState]:
        """Return the steps that keep this one waiting: parents, a sub-plan's step, or the parts of one."""
        if step.status is StepStatus.RUNNING:
            return [part for part in self._parts.get(step.id, ()) if part.status not in STEP_ENDED]
        if step.status is not StepStatus.PENDING:
            return []
        parents = (self._steps[step_id] for step_id in step.outline.parents if step_id in self._steps)
        found = [parent for parent in parents if parent.status not in STEP_ENDED]
        if not found and (whole := self._steps.get(step.outline.part_of)) is not None:
            return [] if whole.status is StepStatus.RUNNING else [whole]
        return found

    def to_root(self, step: StepState) -> list[StepState]:
        """Return the chain from a step to what everything waits for in the end; just the step if it is that itself."""
        roots = _paths(step, self.waits_for)
        return min(roots, key=lambda path: (_URGENCY.index(path[-1].status), len(path))) if roots else [step]

    def sentence(self, path: list[StepState]) -> str:
        """Return a chain as a clause that begins with its first step: `c waits for b, which is running`."""
        first, *rest = path
        if not rest:
            return f"{first.id} {self.doing(first)}"
        words = f"{first.id} {self._verb(first)} {rest[0].id}"
        if len(rest) > NAMED:
            words += f", which waits, over {numbered(len(rest) - 2, 'more step')}, for {rest[-1].id}"
        else:
            for before, step in pairwise(rest):
                words += f", which {self._verb(before)} {step.id}"
        return f"{words}, which {self.doing(rest[-1])}"

    @staticmethod
    def _verb(step: StepState) -> str:
        return "runs its part" if step.status is StepStatus.RUNNING else "waits for"

    def doing(self, step: StepState) -> str:
        """Return what a step is doing or how it ended, as a clause without subject."""
        match step.status:
            case StepStatus.PENDING:
                halt = why_halted(self._state)
                return "has not begun" + (f", because {halt}" if halt else "")
            case StepStatus.QUEUED:
                return "is ready and waits for a slot" + (f" ({step.reason})" if step.reason else "")
            case StepStatus.RUNNING:
                return self._running(step)
            case StepStatus.RETRYING:
                return self.retrying(step)
            case StepStatus.WAITING:
                waiting = step.waiting
                if waiting is not None and waiting.reason == BREAKPOINT:
                    return f"is held at the breakpoint {waiting.place or 'before'} it"
                return f"waits for a person: {quoted(waiting.question)}" if waiting else "waits for a person"
        return ended_as(step)

    def retrying(self, step: StepState) -> str:
        """Return `is retrying 2/3 in 4 s (rate limit)`."""
        left = (step.retry_at - self._now).total_seconds() if step.retry_at else 0.0
        when = f"in {spoken(left)}" if left > 0 else "as soon as it has a slot"
        why = worded(step.error.error_type) if step.error else ""
        halt = why_halted(self._state)
        return (
            f"is retrying {step.tries + 1}/{step.max_attempts} {when}"
            + (f" ({step.reason or why})" if step.reason or why else "")
            + (f", but {halt}" if halt else "")
        )

    def _running(self, step: StepState) -> str:
        since = f" for {spoken((self._now - step.started_at).total_seconds())}" if step.started_at else ""
        notes = [f"try {step.tries} of {step.max_attempts}"] if step.max_attempts > 1 else []
        if counted := self.inside(step):
            notes.append(counted)
        return f"has been running{since}" + (f" ({'; '.join(notes)})" if notes else "")

    def inside(self, step: StepState) -> str:
        """Return how the items of a map, or the parts of a sub-plan, stand; empty for another step."""
        if step.items is not None:
            return f"{numbered(len(step.items), 'item')}: {counts(item.status for item in step.items)}"
        if parts := self._parts.get(step.id):
            return f"{numbered(len(parts), 'part')}: {counts(part.status for part in parts)}"
        return ""

    # --- what stood in a step's way

    def to_failure(self, step: StepState) -> list[StepState]:
        """Return the chain from a blocked step to the step that did not succeed."""
        wanted = step.cause
        paths = _paths(step, self._in_the_way)
        return next((path for path in paths if path[-1].id == wanted), paths[0] if paths else [step])

    def failed_part(self, step: StepState) -> StepState:
        """Return the part that a failed sub-plan failed by, the step itself where it is none or failed by itself."""
        while True:
            found = next((part for part in self._parts.get(step.id, ()) if part.status in FAILED), None)
            if found is None or step.status not in FAILED:
                return step
            step = found

    def to_skipped(self, step: StepState) -> StepState:
        """Return the skipped step that a skip comes from in the end, the step itself where nobody else is named."""
        seen = {step.id}
        while step.cause and step.cause not in seen and step.cause in self._steps:
            seen.add(step.cause)
            step = self._steps[step.cause]
        return step

    def _in_the_way(self, step: StepState) -> list[StepState]:
        if step.status is not StepStatus.BLOCKED:
            return []
        named = (*step.outline.parents, step.outline.part_of)
        found = [self._steps[step_id] for step_id in named if step_id in self._steps]
        return [parent for parent in found if parent.status in UNSUCCESSFUL]


def _paths(step: StepState, following: Callable[[StepState], list[StepState]]) -> list[list[StepState]]:
    """Return the shortest chain to each root that can be reached, nearest first; a root follows nothing."""
    before: dict[str, StepState | None] = {step.id: None}
    roots: list[StepState] = []
    queue = deque([step])
    while queue:
        found = queue.popleft()
        ahead = following(found)
        if not ahead and found is not step:
            roots.append(found)
        for other in ahead:
            if other.id not in before:
                before[other.id] = found
                queue.append(other)
    # A root for each way to fail would be many chains: the first of each status are enough to choose from.
    firsts: dict[tuple[StepStatus, str], StepState] = {}
    for root in roots:
        firsts.setdefault((root.status, root.id if root.id == step.cause else ""), root)
    return [_path_to(root, before) for root in firsts.values()]


def _path_to(step: StepState, before: dict[str, StepState | None]) -> list[StepState]:
    path: list[StepState] = []
    found: StepState | None = step
    while found is not None:
        path.append(found)
        found = before[found.id]
    return path[::-1]


def why_halted(state: RunState) -> str:
    """Return as a clause why no step of the run starts now; empty while it goes on."""
    reason = f" ({state.reason})" if state.reason else ""
    match state.status:
        case RunStatus.PENDING:
            return "the run has not begun"
        case RunStatus.PAUSED:
            return f"the run is {state.reason}" if state.reason.startswith("paused") else f"the run is paused{reason}"
        case RunStatus.WAITING:  # had it an engine, what is ready would have begun
            return "the run waits for a person, and nobody carries it out meanwhile"
        case RunStatus.INTERRUPTED:
            return f"the run was interrupted{reason}"
        case status if status in RUN_ENDED:
            return f"the run is over{reason}"
    return ""


def ended_as(step: StepState) -> str:
    """Return how a step ended, as a clause without subject."""
    match step.status:
        case StepStatus.SUCCEEDED:
            return "has succeeded"
        case StepStatus.FAILED:
            return f"failed: {quoted(step.error.message)}" if step.error else "failed"
        case StepStatus.TIMED_OUT:
            return f"timed out: {quoted(step.error.message)}" if step.error else "timed out"
        case StepStatus.SKIPPED:
            return f"was skipped: {step.reason}"
        case StepStatus.BLOCKED:
            return f"is blocked: {step.reason}" if step.reason else "is blocked"
        case StepStatus.CANCELLED:
            return f"was {step.reason}" if step.reason.startswith("cancelled") else f"was cancelled ({step.reason})"
    return f"is {step.status}"


def counts(statuses: Iterable[StepStatus]) -> str:
    """Return how many there are of each status: `7 succeeded, 2 failed, 1 pending`."""
    found = Counter(statuses)
    told = [f"{found[status]:,} {worded(status)}" for status in reversed(StepStatus) if found[status]]
    return ", ".join(told) or "none"


def names(steps: Iterable[StepState]) -> str:
    """Return the ids of steps as a list in a sentence."""
    return listed([step.id for step in steps])
