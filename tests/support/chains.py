"""Chains for tests: calls in a word, and a clock whose waits take no time."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from stepchain_tui import MemoryStore
from stepchain_tui.chain import ChainExecutor, ToolCall
from stepchain_tui.core.clock import FakeClock
from stepchain_tui.core.settings import Settings
from stepchain_tui.store import AbstractStore


class QuickClock(FakeClock):
    """A clock that is at once where somebody waits for it to be.

    Attributes:
        waits: How long the waits would have been, in seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    async def sleep_until(self, moment: datetime) -> None:
        """Go on to that moment."""
        seconds = (moment - self.now()).total_seconds()
        if seconds > 0:
            self.waits.append(seconds)
            self.advance(seconds)
        await asyncio.sleep(0)


def executor(store: AbstractStore | None = None, **keys: Any) -> ChainExecutor:
    """Return an executor that nobody's settings change; on a store in memory where none is given."""
    keys.setdefault("clock", QuickClock())
    return ChainExecutor(store=store or MemoryStore(), settings=Settings(), **keys)


def call(order: int, *needed: int, name: str = "", timeout: float | None = None, **parameters: Any) -> ToolCall:
    """Return the call of a tool, `tool1` for order 1, that needs others."""
    return ToolCall(name or f"tool{order}", parameters, order, list(needed), timeout)
