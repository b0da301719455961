"""An event loop for each thread that waits for calls: a sync caller so needs no other thread's loop in between."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Kept:
    """A loop that is closed with the thread, or with the interpreter."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.pid = os.getpid()
        self.finalizer = weakref.finalize(self, self.loop.close)


class _Local(threading.local):
    kept: _Kept | None = None


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
    kept = _local.kept
    if kept is None or kept.pid != os.getpid():
        if kept is not None:
            kept.finalizer.detach()  # it is our parent's: closing it here would take its events away there
        kept = _local.kept = _Kept()
    loop = kept.loop
    task = loop.create_task(work)
    try:
        return loop.run_until_complete(task)
    except BaseException:
        if not task.done():
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        raise
