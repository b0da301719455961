"""In which order ready work starts, and the slots it needs (rules 4 and 5)."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.engine.work import Lane, Work
from stepchain_tui.plan import Step
from stepchain_tui.run.state import RunState

if TYPE_CHECKING:
    from stepchain_tui.engine.source import RunSource


class Scheduler:
    """The order of ready steps; pass your own to `AsyncExecutor` (document 000).

    The step with the smallest key starts first. The default is the higher priority, then plan order.
    """

    def sort_key(self, step: Step, position: int) -> Any:
        """Return the key of a step that is ready; `position` is its place in the plan, 0 for the first."""
        return (-step.priority, position)


class WorkQueue:
    """Ready work, in lanes: all work of a lane needs the same slots, so one full limit never hides other work."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, list[tuple[Any, int, Work]]] = {}
        self._order = itertools.count()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, work: Work, sort_key: Any) -> None:
        """Add work; its lane is what it needs slots of."""
        heapq.heappush(self._lanes.setdefault(work.lane, []), (sort_key, next(self._order), work))
        self._size += 1

    def pop(self, has_room: Callable[[Lane], bool]) -> Work | None:
        """Return the first work in order whose lane has room, or None."""
        best: list[tuple[Any, int, Work]] | None = None
        lanes = self._lanes
        for lane, heap in tuple(lanes.items()):
            while heap and heap[0][2].withdrawn:
                heapq.heappop(heap)
                self._size -= 1
            if not heap:
                del self._lanes[lane]
            elif (best is None or heap[0] < best[0]) and has_room(lane):
                best = heap
        if best is None:
            return None
        self._size -= 1
        return heapq.heappop(best)[2]

    def waiting(self) -> list[Work]:
        """Return the work that is still here, in no particular order."""
        return [work for heap in self._lanes.values() for _, _, work in heap if not work.withdrawn]


def limits_of(source: RunSource, state: RunState) -> dict[str, int]:
    """Return the named limits of a run: its plan's, those of its sub-plans, and what was changed for the run."""
    found = dict(source.plan.limits)
    for subplan in source.subplans.values():
        for name, size in subplan.plan.limits.items():
            name = limit_name(name, subplan.path)
            found[name] = min(size, found.get(name, size))
    return {**found, **state.limits}


def limit_name(name: str, path: Path | None) -> str:
    """Return what a named limit of a sub-plan is called in the run: `inner.yaml:name`."""
    return name if path is None else f"{path.name}:{name}"


class Slots:
    """Counted slots of one kind: never more taken than there are."""

    __slots__ = ("size", "taken")

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0

    @property
    def free(self) -> bool:
        """Whether there is one left."""
        return self.taken < self.size
