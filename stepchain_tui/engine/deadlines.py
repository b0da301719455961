"""The deadlines of attempts, behind one timer.

An attempt of a few microseconds should not pay for a timer of its own: deadlines lie in a heap, one timer is set for
the earliest, and what ended in time is thrown away when its turn comes.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from stepchain_tui.engine.work import Work

SLACK = 1_000
"""Ended attempts that may lie in the heap before it is swept."""


class Deadlines:
    """Calls `expired` with an attempt that still runs when its time is over.

    Args:
        loop: The event loop whose clock counts.
        expired: What ends the attempt.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[Work], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._heap: list[tuple[float, int, Work]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._sweep_at = SLACK

    def add(self, seconds: float, work: Work) -> None:
        """Give an attempt that many seconds from now."""
        when = self._loop.time() + seconds
        heapq.heappush(self._heap, (when, next(self._order), work))
        if self._timer is None or when < self._timer.when():
            self._set_timer()
        if len(self._heap) > self._sweep_at:
            self._heap = [entry for entry in self._heap if _runs(entry[2])]
            heapq.heapify(self._heap)
            self._sweep_at = 2 * len(self._heap) + SLACK

    def close(self) -> None:
        """Forget all deadlines."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            self._timer = self._loop.call_at(self._heap[0][0], self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._heap and (self._heap[0][0] <= now or not _runs(self._heap[0][2])):
            work = heapq.heappop(self._heap)[2]
            if _runs(work):
                self._expired(work)
        self._set_timer()


def _runs(work: Work) -> bool:
    return work.task is not None and not work.task.done()
