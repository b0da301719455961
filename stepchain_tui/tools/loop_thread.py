"""An event loop in a thread of its own with pools on it, for callers that have no loop or must not block theirs."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from stepchain_tui.tools.pools import Pools

T = TypeVar("T")
_CLOSE_SECONDS = 4.0
"""How long the end of workers may take: a stubborn one is killed after its grace."""
_living: weakref.WeakSet[LoopThread] = weakref.WeakSet()


class LoopThread:
    """Pools on a loop that runs until `close`. All methods but `pools` may be used from any thread.

    Workers end with the process whatever becomes of it: at its usual end by `close`, else by their own lifelines.

    Args:
        process_workers: Worker processes at most; 0 is one for each core.

    Attributes:
        pools: The pools, to be used on the loop only.
        closing: Whether `close` has begun; what fails from then on fails for that.
    """

    def __init__(self, process_workers: int = 0) -> None:
        self.pools = Pools(process_workers=process_workers)
        self.closing = False
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._work: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="stepchain-tools", daemon=True)
        self._thread.start()
        _living.add(self)

    @property
    def usable(self) -> bool:
        """Whether work can be given to it: a forked child has no such thread."""
        return not self.closing and self._pid == os.getpid()

    @property
    def is_current(self) -> bool:
        """Whether the caller is the loop itself, which must not wait for its own work."""
        return self._thread is threading.current_thread()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Have a coroutine run on the loop.

        Raises:
            RuntimeError: It is being closed.
        """
        with self._lock:
            if self.closing:
                work.close()
                raise RuntimeError("the pools are closed")
            return asyncio.run_coroutine_threadsafe(self._tracked(work), self._loop)

    def close(self, *, wait: bool = True) -> None:
        """End all workers with their children, fail what still runs, and end the loop; may be called again.

        Args:
            wait: Whether to return only when the workers are gone, 4 s later at most.
        """
        with self._lock:
            if self._pid != os.getpid():
                return
            if not self.closing:
                self.closing = True
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._begin_end)
        if wait and not self.is_current:
            self._thread.join(_CLOSE_SECONDS)
            if self._thread.is_alive():
                self.pools.kill()

    async def _tracked(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._work.add(task)
        try:
            return await work
        finally:
            self._work.discard(task)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        with contextlib.suppress(RuntimeError):
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _begin_end(self) -> None:
        self._ending = self._loop.create_task(self._end(), name="stepchain-tools-end")

    async def _end(self) -> None:
        try:
            await self.pools.close()
            if self._work:
                await asyncio.wait(list(self._work), timeout=1.0)
            for task in list(self._work):
                task.cancel()
        finally:
            self._loop.call_soon(self._loop.stop)


@atexit.register
def _close_all() -> None:
    living = list(_living)
    for thread in living:
        thread.close(wait=False)
    for thread in living:
        thread.close()
