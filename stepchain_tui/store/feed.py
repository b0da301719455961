"""Who waits for changes, and how they are woken: at once by this process, within a poll by another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from stepchain_tui.core.errors import StoreError


class Feed:
    """Wakes those who follow a store."""

    def __init__(self) -> None:
        self._followers: set[asyncio.Event] = set()
        self._is_open = True

    def open(self) -> None:
        """Let followers wait again after a close."""
        self._is_open = True

    def wake(self) -> None:
        """Tell every follower that there is something new; on the loop's thread."""
        for follower in self._followers:
            follower.set()

    def close(self) -> None:
        """End every follower's iteration."""
        self._is_open = False
        self.wake()

    def _open_now(self) -> bool:
        return self._is_open

    async def follow(self, version: Callable[[], Awaitable[int]], poll: float) -> AsyncIterator[None]:
        """Yield at once and after each change, until the store is closed.

        Args:
            version: Returns a number that changes when another process has written.
            poll: Seconds between two looks at that number.
        """
        changed = asyncio.Event()
        self._followers.add(changed)
        try:
            seen = await version()
            yield
            while self._open_now():
                try:
                    async with asyncio.timeout(poll):
                        await changed.wait()
                except TimeoutError:
                    try:
                        now = await version()
                    except StoreError:
                        if self._open_now():
                            raise
                        return
                    if now == seen:
                        continue
                    seen = now
                if not self._open_now():
                    return
                changed.clear()
                yield
        finally:
            self._followers.discard(changed)
