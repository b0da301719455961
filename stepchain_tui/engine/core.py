"""What all runs of one engine process share: the store and its recorder, the clock, the executors, the cap."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.clock import Clock
from stepchain_tui.core.settings import Settings
from stepchain_tui.engine.breakers import Breakers
from stepchain_tui.engine.deadlines import Deadlines
from stepchain_tui.engine.hashes import StepHasher
from stepchain_tui.engine.recorder import Recorder
from stepchain_tui.engine.scheduler import Scheduler, Slots
from stepchain_tui.engine.work import Work
from stepchain_tui.llm.prices import Prices
from stepchain_tui.store.base import AbstractStore

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver
    from stepchain_tui.executors.factory import Executors


class EngineCore:
    """The shared parts; made by `Engine.open` on the loop that carries the runs out."""

    def __init__(
        self,
        store: AbstractStore,
        recorder: Recorder,
        executors: Executors,
        *,
        settings: Settings,
        clock: Clock,
        scheduler: Scheduler,
        breakers: Mapping[str, Mapping[str, Any]] | None = None,
        compression: Any = None,
        prices: Prices | None = None,
    ) -> None:
        self.store = store
        self.recorder = recorder
        self.executors = executors
        self.settings = settings
        self.clock = clock
        self.scheduler = scheduler
        self.slots = Slots(settings.max_running)
        self.starving: set[Driver] = set()
        """Runs that wait for a slot of the cap over all runs."""
        self.hasher = StepHasher()
        self.breakers = Breakers(breakers or {}, settings, recorder, clock)
        self.loop = asyncio.get_running_loop()
        self.compression = compression
        """What decides how earlier outputs go into prompts that say nothing of it, see `llm.history`; None for not."""
        self.prices = prices or Prices()
        """What tokens cost, as far as it is known."""
        self.deadlines = Deadlines(self.loop, _stop_overdue)
        self.thread_id = threading.get_ident()

    def with_recorder(self, recorder: Recorder) -> EngineCore:
        """Return parts of their own for a rehearsal: what is counted and recorded there is not counted here."""
        other = EngineCore(
            self.store,
            recorder,
            self.executors,
            settings=self.settings,
            clock=self.clock,
            scheduler=self.scheduler,
            compression=self.compression,
            prices=self.prices,
        )
        other.hasher = self.hasher
        return other

    def seconds(self, number: float) -> timedelta:
        """Return a duration."""
        return timedelta(seconds=number)

    def resize(self, size: int) -> None:
        """Change the cap over all runs; slots that are taken stay so until they are given back."""
        self.slots.size = size
        self._wake()

    def give_back_slot(self) -> None:
        """Free a slot of the cap and let the runs that wait for one look."""
        self.slots.taken -= 1
        if self.starving:
            self._wake()

    def _wake(self) -> None:
        starving, self.starving = self.starving, set()
        for driver in starving:
            self.loop.call_soon(driver.settle)


def _stop_overdue(work: Work) -> None:
    if work.stop is None and work.task is not None:
        work.overdue = True
        if work.begun:
            work.task.cancel()
