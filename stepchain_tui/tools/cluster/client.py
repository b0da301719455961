"""One cluster: the connection to its scheduler, the pilots that were asked for, and the calls that wait for one."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.tools.cluster.channel import TOPIC
from stepchain_tui.tools.cluster.failures import (
    no_library,
    no_pilots,
    no_workers,
    not_installed_there,
    other_version,
    scheduler_lost,
    unreachable,
    worker_unreachable,
)
from stepchain_tui.tools.cluster.lane import ClusterCall, Lane
from stepchain_tui.tools.cluster.pilot import Terms, own_version
from stepchain_tui.tools.cluster.quiet import quiet_library
from stepchain_tui.tools.process_pool import finish

if TYPE_CHECKING:
    from stepchain_tui.tools.cluster.local import LocalCluster
    from stepchain_tui.tools.threads import ThreadPool

LOCAL = "local"
CONNECT_SECONDS = 10.0
IDLE_SECONDS = 0.5
"""How long a pilot without a call is kept: its slot is somebody else's to use."""
AHEAD = 8
"""Pilots that are asked for beyond the cluster's slots, so that one that grows by demand sees the demand."""
_CLOSE_SECONDS = 2.0
_FAILED_PILOTS = 4
"""Pilots in a row that end before they could be reached, until the calls that wait fail."""


class Cluster:
    """Carries out calls on one cluster; connects with the first call, and again after the scheduler was lost.

    Args:
        address: The scheduler's address, or `local` for a cluster that is started on this machine.
        threads: Where the library is imported, which takes about a second.
        patience: Seconds that a call waits for a cluster that has no worker.
    """

    def __init__(self, address: str, threads: ThreadPool, patience: float = 60.0) -> None:
        self.address = address
        self._threads = threads
        self._patience = patience
        self._client: Any = None
        self._local: LocalCluster | None = None
        self._opening: asyncio.Task[None] | None = None
        self._waiting: deque[ClusterCall] = deque()
        self._lanes: dict[Lane, asyncio.TimerHandle | None] = {}
        self._keys: dict[str, str] = {}
        self._coming: dict[str, Any] = {}
        self._slots = 0
        self._failed = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._connection = 0

    def row(self) -> dict[str, Any]:
        """Return how busy the cluster is, as far as we use it: `{name, size, busy, idle, waiting, address}`."""
        busy = sum(lane.call is not None for lane in self._lanes)
        size = max(self._slots, busy)
        shown = self._client.scheduler.address if self._client is not None else self.address
        return {
            "name": "cluster",
            "size": size,
            "busy": busy,
            "idle": size - busy,
            "waiting": len(self._waiting),
            "address": str(shown),
        }

    async def run(self, call: ClusterCall) -> Any:
        """Carry out a call and return its JSON value.

        Cancelling ends what runs of it on its worker, within 4 s, before the cancellation goes on.

        Raises:
            AttemptError: It failed, or the cluster could not carry it out.
        """
        await self._open()
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
        if self._client is not None and self._coming:
            # Before the slots are free: a pilot that then begins would wait for an engine that is gone.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._client.cancel(list(self._coming.values())), _CLOSE_SECONDS)
        for lane in list(self._lanes):
            lane.let_go()
            if lane.call is not None:
                lane.cut(scheduler_lost(self.address, lane.call.label))
        self._drop(None)
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.wait([opening])
        await self._close_client()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        local, self._local = self._local, None
        if local is not None:
            await local.close()

    def kill(self) -> None:
        """End a local cluster at once."""
        if self._local is not None:
            self._local.kill()

    async def _open(self) -> None:
        """Connect to the scheduler where that is not done; calls that come meanwhile share the outcome."""
        if self._client is not None and self._client.status == "running":
            return
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._connect())
        await asyncio.shield(self._opening)

    async def _connect(self) -> None:
        try:
            await self._threads.submit(lambda _: quiet_library()).result
            distributed = import_module("distributed")
        except ImportError as error:
            raise no_library(error) from error
        await self._close_client()
        address, security = self.address, None
        if address == LOCAL:
            from stepchain_tui.tools.cluster.local import LocalCluster

            if self._local is not None and not self._local.alive:
                await self._local.close()
                self._local = None
            if self._local is None:
                self._local = await LocalCluster.start()
            address, security = self._local.address, self._local.security()
        client = None
        try:
            await _knock(address)
            client = distributed.Client(
                address,
                asynchronous=True,
                set_as_default=False,
                timeout=CONNECT_SECONDS,
                security=security,
                name="stepchain",
            )
            await client
            client.subscribe_topic(TOPIC, self._heard)
            self._slots = sum((await client.nthreads()).values())
        except Exception as error:
            if client is not None:
                with contextlib.suppress(Exception):
                    await client._close(fast=True)
            raise unreachable(address, error) from error
        self._client = client
        self._connection += 1
        self._failed = 0

    async def _close_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client._close(fast=True)

    # --- from calls to pilots

    def _give_out(self) -> None:
        """Give waiting calls to free lanes, and ask for more pilots where that leaves calls waiting."""
        for lane in list(self._lanes):
            while self._waiting and lane.is_free:
                self._occupy(lane)
        if self._waiting:
            self._recruit()

    def _occupy(self, lane: Lane) -> None:
        timer = self._lanes[lane]
        if timer is not None:
            timer.cancel()
            self._lanes[lane] = None
        lane.take(self._waiting.popleft())

    def _recruit(self) -> None:
        if self._client is None:
            return
        if self._watching is None:
            self._watching = self._spawn(self._watch())
        most = min(len(self._waiting) + len(self._lanes), self._slots + AHEAD)
        for _ in range(most - len(self._lanes) - len(self._coming)):
            name, key = f"stepchain-{secrets.token_hex(8)}", secrets.token_hex(16)
            terms = Terms(pilot=name, key=key, version=own_version())
            future = self._client.submit(_begin_pilot, terms, key=name, pure=False, retries=0)
            self._keys[name] = key
            self._coming[name] = future
            self._spawn(self._follow(name, future, self._connection))

    async def _follow(self, name: str, future: Any, connection: int) -> None:
        """Wait until a pilot has ended, and see whether calls that wait are in need of another one."""
        await future._state.wait()
        was_coming = self._coming.pop(name, None) is not None
        status = future.status
        if connection != self._connection:
            return
        if status == "cancelled" and self._client is not None and self._client.status != "running":
            self._drop(None)
            return
        if status == "error" and was_coming:
            self._failed += 1
            error = await future.exception()
            if isinstance(error, ImportError) or "deserializ" in str(error):
                self._fail_waiting(not_installed_there(self.address, str(error)))
            elif self._failed >= _FAILED_PILOTS:
                self._fail_waiting(no_pilots(self.address, f"{type(error).__name__}: {error}"[:300]))
        elif status == "finished" and was_coming:
            answer = await future
            if "refused" in answer:
                self._fail_waiting(other_version(self.address, str(answer["refused"]), own_version()))
        future.release()
        self._give_out()

    def _heard(self, event: tuple[float, Any]) -> None:
        """Connect to a pilot that tells that it is there."""
        told = event[1]
        name = str(told.get("pilot", ""))
        if name in self._keys:
            self._spawn(self._attach(name, told))

    async def _attach(self, name: str, told: dict[str, Any]) -> None:
        key, worker = self._keys.pop(name), str(told["address"])
        client = self._client
        if client is None:
            return
        try:
            lane = await Lane.connect(
                worker,
                name,
                key,
                str(told["folder"]),
                str(told["python"]),
                client.connection_args,
                self._is_free,
                self._is_over,
            )
        except (OSError, TimeoutError) as error:
            self._failed += 1
            if self._failed >= _FAILED_PILOTS:
                self._fail_waiting(worker_unreachable(worker, error))
            return
        self._failed = 0
        if self._coming.pop(name, None) is None or not self._waiting:
            lane.let_go()
            return
        self._lanes[lane] = None
        self._is_free(lane)

    def _is_free(self, lane: Lane) -> None:
        while self._waiting and lane.is_free:
            self._occupy(lane)
        if lane.is_free and self._lanes.get(lane, self) is None:
            self._lanes[lane] = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._let_go, lane)

    def _let_go(self, lane: Lane) -> None:
        if lane.is_free and lane in self._lanes:
            del self._lanes[lane]
            lane.let_go()
        if not self._waiting:
            for name in list(self._coming):
                self._cancel(name)

    def _cancel(self, name: str) -> None:
        """Take back the request for a pilot that nobody needs any more; one that has begun is let go when it tells."""
        future = self._coming.pop(name)
        if self._client is not None:
            self._spawn(self._client.cancel([future]))

    def _is_over(self, lane: Lane) -> None:
        timer = self._lanes.pop(lane, None)
        if timer is not None:
            timer.cancel()
        self._give_out()

    # --- when things go wrong

    async def _watch(self) -> None:
        """Look after calls that wait: at how many slots there are, and whether there are any at all."""
        loop = asyncio.get_running_loop()
        since: float | None = None
        try:
            while self._waiting and self._client is not None:
                await asyncio.sleep(1.0)
                if self._client is None or self._client.status != "running":
                    continue
                with contextlib.suppress(Exception):
                    self._slots = sum((await self._client.nthreads()).values())
                if self._slots or self._lanes:
                    since = None
                    self._give_out()
                    continue
                since = since or loop.time()
                if loop.time() - since >= self._patience:
                    self._fail_waiting(no_workers(self.address, self._patience))
        finally:
            self._watching = None

    def _drop(self, error: AttemptError | None) -> None:
        """Fail all that is under way: the scheduler is gone."""
        self._connection += 1
        for lane in list(self._lanes):
            call = lane.call
            lane.cut(None if call is None else error or scheduler_lost(self.address, call.label))
        self._lanes.clear()
        self._coming.clear()
        self._keys.clear()
        while self._waiting:
            call = self._waiting.popleft()
            call.fail(error or scheduler_lost(self.address, call.label))

    def _fail_waiting(self, error: AttemptError) -> None:
        self._failed = 0
        waiting, self._waiting = list(self._waiting), deque()
        for call in waiting:
            call.fail(error)

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _knock(address: str) -> None:
    """Raise OSError at once where nobody listens; the library would try for all of its timeout."""
    scheme, _, place = address.partition("://")
    if scheme == "tcp":
        host, _, port = place.rpartition(":")
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _begin_pilot(terms: Terms) -> dict[str, Any]:
    """Be a pilot, on a worker; travels by value, so that the scheduler needs no StepChain."""
    from stepchain_tui.tools.cluster.pilot import carry_calls

    return await carry_calls(terms)


_begin_pilot.__module__ = "__main__"  # what Dask sends by value
_begin_pilot.__annotations__ = {}
