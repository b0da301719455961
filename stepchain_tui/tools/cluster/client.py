"""One cluster: the pilots that were asked for, the lanes to those that are there, and the calls that wait for one."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.tools.cluster.connection import Connection
from stepchain_tui.tools.cluster.failures import (
    no_pilots,
    no_workers,
    not_installed_there,
    other_version,
    scheduler_lost,
    worker_unreachable,
)
from stepchain_tui.tools.cluster.lane import ClusterCall, Lane
from stepchain_tui.tools.cluster.pilot import Terms, own_version
from stepchain_tui.tools.process_pool import finish

if TYPE_CHECKING:
    from stepchain_tui.tools.threads import ThreadPool

IDLE_SECONDS = 0.5
"""How long a pilot without a call is kept: its slot is somebody else's to use."""
AHEAD = 8
"""Pilots that are asked for beyond the cluster's slots, so that one that grows by demand sees the demand."""
_FAILED_PILOTS = 4
"""Pilots in a row that end before they could be reached, until the calls that wait fail."""


class Cluster:
    """Carries out calls on one cluster; connects with the first call, and again after the scheduler was lost.

    Args:
        address: The scheduler's address, or `local` for a cluster that is started on this machine.
        threads: Where the library is imported.
        patience: Seconds that a call waits for a cluster that has no worker.
    """

    def __init__(self, address: str, threads: ThreadPool, patience: float = 60.0) -> None:
        self.address = address
        self._patience = patience
        self._connection = Connection(address, threads, self._heard)
        self._waiting: deque[ClusterCall] = deque()
        self._pilots: dict[str, tuple[str, Any]] = {}
        self._coming: set[str] = set()
        self._told: set[str] = set()
        self._lanes: dict[Lane, asyncio.TimerHandle | None] = {}
        self._open: set[Lane] = set()
        self._failed = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching = False

    def row(self) -> dict[str, Any]:
        """Return how busy the cluster is, as far as we use it: `{name, size, busy, idle, waiting, address}`."""
        busy = sum(lane.call is not None for lane in self._lanes)
        size = max(self._connection.slots, busy)
        return {
            "name": "cluster",
            "size": size,
            "busy": busy,
            "idle": size - busy,
            "waiting": len(self._waiting),
            "address": self._connection.scheduler,
        }

    async def run(self, call: ClusterCall) -> Any:
        """Carry out a call and return its JSON value.

        Cancelling ends what runs of it on its worker, within 4 s, before the cancellation goes on.

        Raises:
            AttemptError: It failed, or the cluster could not carry it out.
        """
        await self._connection.open()
        self._waiting.append(call)
        self._give_out()
        try:
            return await call.reply
        except asyncio.CancelledError:
            call.reply.cancel()
            if call in self._waiting:
                self._waiting.remove(call)
            elif call.lane is not None:
                await finish(call.lane.stop(call))
            raise

    async def close(self) -> None:
        """End what runs, give all slots back and let go of the cluster; a local one ends. May be called again."""
        # First those that have no slot yet: with a slot they would wait for an engine that is gone.
        await self._connection.cancel([self._pilots[name][1] for name in self._coming])
        self._drop()
        lanes = list(self._open)
        for lane in lanes:
            lane.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*(lane.closed() for lane in lanes), *self._tasks, return_exceptions=True)
        await self._connection.close()

    def kill(self) -> None:
        """End a cluster on this machine at once."""
        self._connection.kill()

    # --- from calls to pilots

    def _give_out(self) -> None:
        """Give waiting calls to free lanes, and ask for more pilots where that leaves calls waiting."""
        for lane in list(self._lanes):
            self._is_free(lane)
        if self._waiting and self._connection.is_open:
            if not self._watching:
                self._watching = True
                self._spawn(self._watch())
            most = min(len(self._waiting) + len(self._lanes), self._connection.slots + AHEAD)
            self._recruit(most - len(self._lanes) - len(self._coming))

    def _is_free(self, lane: Lane) -> None:
        """Give a lane its next call; where there is none, let it go after a while."""
        if lane not in self._lanes:
            return
        timer = self._lanes[lane]
        while self._waiting and lane.is_free:
            if timer is not None:
                timer.cancel()
            timer = self._lanes[lane] = None
            lane.take(self._waiting.popleft())
        if lane.is_free and timer is None:
            self._lanes[lane] = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._let_go, lane)

    def _let_go(self, lane: Lane) -> None:
        if self._coming and not self._waiting:
            futures = [self._pilots[name][1] for name in self._coming]
            self._coming.clear()
            self._spawn(self._connection.cancel(futures))
        del self._lanes[lane]
        lane.let_go()

    def _recruit(self, count: int) -> None:
        version = own_version()
        terms = [
            Terms(pilot=f"stepchain-{secrets.token_hex(8)}", key=secrets.token_hex(16), version=version)
            for _ in range(count)
        ]
        if terms:
            for each, future in zip(terms, self._connection.submit(terms), strict=True):
                name = each["pilot"]
                self._pilots[name] = (each["key"], future)
                self._coming.add(name)
                self._spawn(self._follow(name, future, self._connection.number))

    async def _follow(self, name: str, future: Any, connection: int) -> None:
        """Wait until a pilot has ended, and see whether calls that wait are in need of another one."""
        await future._state.wait()
        was_coming, has_told = name in self._coming, name in self._told
        self._coming.discard(name)
        self._told.discard(name)
        self._pilots.pop(name, None)
        if connection != self._connection.number:
            return
        if not self._connection.is_open:
            self._drop()
            return
        if was_coming and future.status == "error":
            error = await future.exception()
            if isinstance(error, ImportError) or "deserializ" in str(error):
                self._fail_waiting(not_installed_there(self.address, str(error)))
            else:
                self._has_failed(no_pilots(self.address, f"{type(error).__name__}: {error}"))
        elif was_coming and future.status == "finished":
            answer = await future
            if "refused" in answer:
                self._fail_waiting(other_version(self.address, str(answer["refused"]), own_version()))
            elif not has_told:
                self._has_failed(no_pilots(self.address, "they start, and nothing is heard of them"))
        future.release()
        self._give_out()

    def _heard(self, told: dict[str, Any]) -> None:
        """Connect to a pilot of ours that tells that it is there; it is let go again where nobody needs it."""
        name = str(told.get("pilot", ""))
        known = self._pilots.get(name)
        if known is not None:
            self._told.add(name)
            self._spawn(self._attach(name, known[0], told))

    async def _attach(self, name: str, key: str, told: dict[str, Any]) -> None:
        worker, connection = str(told.get("address", "")), self._connection.number
        try:
            lane = await Lane.connect(
                worker,
                name,
                key,
                str(told.get("folder", "")),
                str(told.get("python", "")),
                self._connection.arguments,
                self._is_free,
                self._is_over,
            )
        except (OSError, TimeoutError, ValueError) as error:
            self._has_failed(worker_unreachable(worker, error))
            return
        self._failed = 0
        self._open.add(lane)
        is_wanted = name in self._coming and connection == self._connection.number
        self._coming.discard(name)
        if is_wanted and self._waiting:
            self._lanes[lane] = None
            self._is_free(lane)
        else:
            lane.let_go()

    def _is_over(self, lane: Lane) -> None:
        self._open.discard(lane)
        timer = self._lanes.pop(lane, None)
        if timer is not None:
            timer.cancel()
        known = self._pilots.get(lane.pilot)
        if known is not None:  # where its worker died, the scheduler starts it once more
            self._spawn(self._connection.cancel([known[1]]))
        self._give_out()

    # --- when things go wrong

    async def _watch(self) -> None:
        """Look after calls that wait: at how many slots there are, and whether there are any at all."""
        loop = asyncio.get_running_loop()
        since: float | None = None
        try:
            while self._waiting and self._connection.is_open:
                await asyncio.sleep(1.0)
                await self._connection.count_slots()
                if self._connection.slots or self._lanes:
                    since = None
                    self._give_out()
                    continue
                since = since or loop.time()
                if loop.time() - since >= self._patience:
                    self._fail_waiting(no_workers(self.address, self._patience))
        finally:
            self._watching = False

    def _drop(self) -> None:
        """Fail all that is under way, and end what runs: the scheduler is gone, or we are going."""
        self._connection.number += 1
        waiting, self._waiting = list(self._waiting), deque()
        self._coming.clear()
        self._told.clear()
        self._pilots.clear()
        for lane in list(self._lanes):
            call = lane.call
            lane.cut(None if call is None else scheduler_lost(self.address, call.label))
        for call in waiting:
            call.fail(scheduler_lost(self.address, call.label))

    def _has_failed(self, error: AttemptError) -> None:
        """Count a pilot that could not be used; after a few in a row, the calls that wait fail with `error`."""
        self._failed += 1
        if self._failed >= _FAILED_PILOTS:
            self._fail_waiting(error)

    def _fail_waiting(self, error: AttemptError) -> None:
        self._failed = 0
        waiting, self._waiting = list(self._waiting), deque()
        for call in waiting:
            call.fail(error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._is_done)

    def _is_done(self, task: asyncio.Task[None]) -> None:
        """Let a failure of the work between calls end those that wait: nobody else would."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail_waiting(no_pilots(self.address, f"{type(error).__name__}: {error}"))
