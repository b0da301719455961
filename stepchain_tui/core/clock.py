"""Time as a port: nothing else in the house asks the machine for it.

`now` is for records (aware UTC), `monotonic` for durations and deadlines (seconds).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the house may ask about time."""

    def now(self) -> datetime:
        """Return the current moment, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        ...

    async def sleep_until(self, moment: datetime) -> None:
        """Return when `now()` has reached `moment`; cancellable."""
        ...


class SystemClock:
    """The machine's clock."""

    __slots__ = ()

    def now(self) -> datetime:
        """Return the current moment, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic()

    async def sleep_until(self, moment: datetime) -> None:
        """Return when `now()` has reached `moment`.

        Looks again at least every minute, so that a laptop that slept wakes its waits on time.
        """
        while (left := (moment - self.now()).total_seconds()) > 0:  # noqa: ASYNC110 - it is the clock itself
            await asyncio.sleep(min(left, 60.0))


class FakeClock:
    """A clock that stands still until it is told to go on; for tests and simulations."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._ticks = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """Return the moment this clock was set to."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds this clock was advanced by."""
        return self._ticks

    async def sleep_until(self, moment: datetime) -> None:
        """Return when `advance` has reached `moment`."""
        if moment <= self._now:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (moment, next(self._order), waiter))
        await waiter

    @property
    def next_wake(self) -> datetime | None:
        """The earliest moment somebody sleeps until, or None."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def advance(self, seconds: float) -> None:
        """Go on by `seconds` and wake whoever slept until a moment that has come."""
        self._now += timedelta(seconds=seconds)
        self._ticks += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():
                waiter.set_result(None)
