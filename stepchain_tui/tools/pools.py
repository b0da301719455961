"""The one pool of threads, the one pool of processes and the clusters of an engine process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from stepchain_tui.tools.output import LoopRelay, OutputRouter
from stepchain_tui.tools.process_pool import ProcessPool, WorkersChanged
from stepchain_tui.tools.threads import MAX_THREADS, ThreadPool

if TYPE_CHECKING:
    from stepchain_tui.tools.cluster import Clusters

__all__ = ("Pools", "ProcessPool", "ThreadPool")


class Pools:
    """Owns the pools and the routing of what functions print. Nothing starts before it is needed.

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
        self._clusters: Clusters | None = None

    @property
    def clusters(self) -> Clusters:
        """The clusters that steps of mode cluster go to."""
        if self._clusters is None:
            from stepchain_tui.tools.cluster import Clusters

            self._clusters = Clusters(self.threads)
        return self._clusters

    def rows(self) -> list[dict[str, Any]]:
        """Return how busy each pool is, as `{name, size, busy, idle, waiting, address}`; clusters once they are used.

        `size` is how many calls can run at once, `idle` how many workers wait for one, `waiting` how many calls wait.
        """
        clusters = [] if self._clusters is None else self._clusters.rows()
        return [_thread_row(self.threads), _process_row(self.processes), *clusters]

    @property
    def relay(self) -> LoopRelay:
        """What carries printed text from threads to the running loop."""
        if self._relay is None:
            self._relay = LoopRelay(asyncio.get_running_loop())
        return self._relay

    async def close(self) -> None:
        """End all workers and their children and let the threads go; idempotent."""
        self.router.remove()
        if self._clusters is not None:
            await self._clusters.close()
        await self.threads.close()
        await self.processes.close()

    def kill(self) -> None:
        """End all workers at once without waiting; for the moment before the process ends."""
        self.processes.kill()
        if self._clusters is not None:
            self._clusters.kill()


def _thread_row(pool: ThreadPool) -> dict[str, Any]:
    alive, idle = pool._threads, pool._idle
    return {
        "name": "threads",
        "size": pool._size,
        "busy": max(alive - idle, 0),
        "idle": idle,
        "waiting": pool._backlog,
        "address": "",
    }


def _process_row(pool: ProcessPool) -> dict[str, Any]:
    alive, idle = len(pool._workers), len(pool._free)
    waiters = () if pool._slots is None else pool._slots._waiters or ()
    return {
        "name": "processes",
        "size": pool.size,
        "busy": alive - idle,
        "idle": idle,
        "waiting": sum(not waiter.done() for waiter in waiters),
        "address": "",
    }
