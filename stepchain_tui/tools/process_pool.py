"""Processes for functions: as many as the machine has cores, each ended for real when its call is cancelled.

Workers are plain children of ours, each with its own pipes and its own session, not those of a pool library: the one
that can end a hung function (Pebble) shares one locked pipe among all workers, so that a worker killed while it holds
the lock stalls the rest, an idle worker's death breaks the pool, and nobody can say whose output a line is.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from stepchain_tui.core.secrets import environment_without_secrets
from stepchain_tui.tools import wire
from stepchain_tui.tools.chunks import OnChunk
from stepchain_tui.tools.process_worker import CallRecord, Log, WorkerProcess

WorkersChanged = Callable[[list[dict[str, Any]]], Awaitable[None] | None]


class ProcessPool:
    """Worker processes that are started when they are needed and ended by `close`.

    Args:
        size: Workers at most; 0 is one for each core.
        on_workers_changed: Told all workers as `{pid, process_group, process_started_at}` whenever one started or
            ended; a new worker gets its first call after this has returned (and was awaited, where it is awaitable).
    """

    def __init__(self, size: int = 0, on_workers_changed: WorkersChanged | None = None) -> None:
        self.size = size or os.cpu_count() or 1
        self._on_workers_changed = on_workers_changed
        self._free: list[WorkerProcess] = []
        self._workers: set[WorkerProcess] = set()
        self._slots: asyncio.Semaphore | None = None
        self._closing: asyncio.Task[None] | None = None
        self._telling: set[asyncio.Future[None]] = set()

    @property
    def workers(self) -> list[dict[str, Any]]:
        """The living workers as `{pid, process_group, process_started_at}`."""
        return [worker.child.record() for worker in self._workers]

    async def run(
        self,
        request: wire.Request,
        log: Log,
        label: str,
        on_start: Callable[[], None] | None = None,
        record: CallRecord | None = None,
        on_chunk: OnChunk | None = None,
    ) -> Any:
        """Carry out a call in a worker and return its JSON value.

        Cancelling ends the worker with its children, within 4 s, before the cancellation goes on.

        Args:
            request: The call.
            log: Takes a stream's name and what was printed on it, on the loop.
            label: What runs, for messages.
            on_start: Called when a worker is free and the call begins.
            record: Gets the process and its times.
            on_chunk: Takes each chunk of a function that yields, on the loop.

        Raises:
            RemoteError: The function raised.
            AttemptError: The worker died under the call, as a `tool_error`.
        """
        if self._closing is not None:
            raise RuntimeError("the pool of processes is closed")
        if self._slots is None:
            self._slots = asyncio.Semaphore(self.size)
        async with self._slots:
            worker = await self._take()
            if on_start is not None:
                on_start()
            try:
                result = await worker.call(request, log, label, record, on_chunk)
            except asyncio.CancelledError:
                await finish(self._retire(worker))
                raise
            except BaseException:
                await self._give_back(worker)
                raise
            await self._give_back(worker)
            return result

    async def warm(self) -> None:
        """Start one worker ahead of the first call."""
        if not self._workers and self._closing is None:
            self._free.append(await self._start())

    async def close(self) -> None:
        """End all workers with their children; may be called again."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close(), name="stepchain-pool-close")
        await asyncio.shield(self._closing)

    def kill(self) -> None:
        """End all workers at once without waiting; for signal handlers and the interpreter's end."""
        for worker in self._workers:
            if not worker.child.exited.done():
                worker.child.signal_group(signal.SIGKILL)

    async def _close(self) -> None:
        await asyncio.gather(*(self._retire(worker) for worker in list(self._workers)))

    async def _take(self) -> WorkerProcess:
        while self._free:
            worker = self._free.pop()
            if worker.alive:
                return worker
        return await self._start()

    async def _start(self) -> WorkerProcess:
        worker = await WorkerProcess.start(environment_without_secrets(os.environ))
        self._workers.add(worker)
        worker.child.exited.add_done_callback(lambda _: self._on_exit(worker))
        try:
            told = self._tell()
            if told is not None:
                await told
            if self._closing is not None:
                raise RuntimeError("the pool of processes is closed")
        except BaseException:
            await finish(self._retire(worker, grace=0))
            raise
        return worker

    async def _give_back(self, worker: WorkerProcess) -> None:
        if worker.alive and self._closing is None:
            self._free.append(worker)
        else:
            await finish(self._retire(worker))

    async def _retire(self, worker: WorkerProcess, grace: float | None = None) -> None:
        if worker not in self._workers:
            return
        await (worker.end() if grace is None else worker.end(grace))
        self._forget(worker)

    def _on_exit(self, worker: WorkerProcess) -> None:
        if worker in self._free:
            self._free.remove(worker)
            worker.child.signal_group(signal.SIGKILL)
            worker.dispose()
            self._forget(worker)

    def _forget(self, worker: WorkerProcess) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
            told = self._tell()
            if told is not None:
                telling = asyncio.ensure_future(told)
                self._telling.add(telling)
                telling.add_done_callback(self._telling.discard)

    def _tell(self) -> Awaitable[None] | None:
        return self._on_workers_changed(self.workers) if self._on_workers_changed is not None else None


async def finish(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` to its end, however often the awaiting task is cancelled meanwhile; then go on with a cancellation."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
