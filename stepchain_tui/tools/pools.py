"""The one pool of threads and the one pool of processes of an engine process."""

from __future__ import annotations

import asyncio

from stepchain_tui.tools.output import LoopRelay, OutputRouter
from stepchain_tui.tools.process_pool import ProcessPool, WorkersChanged
from stepchain_tui.tools.threads import MAX_THREADS, ThreadPool

__all__ = ("Pools", "ProcessPool", "ThreadPool")


class Pools:
    """Owns both pools and the routing of what functions print. Nothing starts before it is needed.

    Args:
        process_workers: Worker processes at most; 0 is one for each core.
        threads: Functions in threads at once.
        on_workers_changed: See `ProcessPool`.

    Attributes:
        threads: The pool of threads.
        processes: The pool of processes.
        router: Routes `sys.stdout` and `sys.stderr` to the call that prints; put in place by the first call.
    """

    def __init__(
        self,
        *,
        process_workers: int = 0,
        threads: int = MAX_THREADS,
        on_workers_changed: WorkersChanged | None = None,
    ) -> None:
        self.threads = ThreadPool(threads)
        self.processes = ProcessPool(process_workers, on_workers_changed)
        self.router = OutputRouter()
        self._relay: LoopRelay | None = None

    @property
    def relay(self) -> LoopRelay:
        """What carries printed text from threads to the running loop."""
        if self._relay is None:
            self._relay = LoopRelay(asyncio.get_running_loop())
        return self._relay

    async def close(self) -> None:
        """End all workers and their children and let the threads go; idempotent."""
        self.router.remove()
        await self.threads.close()
        await self.processes.close()

    def kill(self) -> None:
        """End all workers at once without waiting; for the moment before the process ends."""
        self.processes.kill()
