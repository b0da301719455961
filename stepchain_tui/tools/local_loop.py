"""An event loop for each thread that waits for calls: a sync caller so needs no other thread's loop in between.

It waits for other threads only, not for files and sockets, so it sleeps on a queue: half the cost of a selector and a
pipe, and nothing that would have to be closed, or that a forked child would share.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Alarm:
    """What the loop sleeps on, in place of a selector."""

    def __init__(self) -> None:
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        """Wake the loop; from any thread."""
        self._rings.put(None)

    def select(self, timeout: float | None) -> tuple[()]:
        """Return when somebody rang, or when the time is over; there are never any events of files."""
        try:
            if timeout is None or timeout > 0:
                self._rings.get(timeout=timeout)
            while True:
                self._rings.get_nowait()
        except queue.Empty:
            return ()


class WaitingLoop(asyncio.BaseEventLoop):
    """Runs tasks, timers and what other threads hand over. It can do nothing with files, sockets or processes."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Alarm()

    def __del__(self) -> None:
        """Go without a word: there is nothing that should have been closed."""

    def _process_events(self, event_list: object) -> None:
        """Do nothing: there are none."""

    def _write_to_self(self) -> None:
        self._selector.ring()


class _Local(threading.local):
    loop: WaitingLoop | None = None
    pid = 0


_local = _Local()


def has_running_loop() -> bool:
    """Return whether a loop runs in this thread, so that no other can."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def run_here(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in this thread; what interrupts it cancels it first.

    Raises:
        RuntimeError: A loop runs in this thread already.
    """
    loop = _local.loop
    if loop is None or _local.pid != os.getpid():
        loop, _local.pid = WaitingLoop(), os.getpid()
        _local.loop = loop
    task = loop.create_task(work)
    try:
        return loop.run_until_complete(task)
    except BaseException:
        if not task.done():
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        raise
