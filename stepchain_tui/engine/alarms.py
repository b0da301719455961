"""Work that waits for the time of its next try; it holds no slot meanwhile."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

from stepchain_tui.engine.work import Work

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver


class Alarms:
    """The alarms of one run.

    Attributes:
        waiting: Work by what it is the work of, with the task that waits for its time.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._core = driver.core
        self.waiting: dict[tuple[str, int | None], tuple[Work, asyncio.Task[None]]] = {}

    def drop(self) -> None:
        """Let go of all alarms; the times stay in the state."""
        for _, task in self.waiting.values():
            task.cancel()
        self.waiting.clear()

    def set(self, work: Work, moment: datetime) -> None:
        """Queue the work when its time has come."""
        if moment <= self._core.clock.now():
            self._driver.frontier.enqueue(work)
            return
        task = self._core.loop.create_task(self._wake(work, moment), name=f"{self._driver.run_id}/{work.step.id} retry")
        self.waiting[work.key] = (work, task)

    async def _wake(self, work: Work, moment: datetime) -> None:
        await self._core.clock.sleep_until(moment)
        try:
            self.try_now(work.key)
        except Exception as error:  # noqa: BLE001 - a bug of ours must end the run with its traceback, not hang it
            self._driver.abort(error)

    def try_now(self, key: tuple[str, int | None]) -> bool:
        """Queue work that waits for its next try; returns whether there was any."""
        found = self.waiting.pop(key, None)
        if found is None:
            return False
        work, task = found
        if task is not asyncio.current_task():
            task.cancel()
        self._driver.frontier.enqueue(work)
        self._driver.settle()
        return True
