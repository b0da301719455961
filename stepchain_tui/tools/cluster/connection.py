"""The connection to one scheduler: made when it is needed, made again after it was lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stepchain_tui.tools.cluster.channel import TOPIC
from stepchain_tui.tools.cluster.failures import no_library, unreachable
from stepchain_tui.tools.cluster.pilot import Terms
from stepchain_tui.tools.cluster.quiet import quiet_library
from stepchain_tui.tools.process_pool import finish

if TYPE_CHECKING:
    from stepchain_tui.tools.cluster.local import LocalCluster
    from stepchain_tui.tools.threads import ThreadPool

LOCAL = "local"
CONNECT_SECONDS = 10.0
_CANCEL_SECONDS = 2.0


class Connection:
    """Asks a scheduler for pilots, and hears from them.

    Args:
        address: The scheduler's address, or `local` for a cluster that is started on this machine.
        threads: Where the library is imported, which takes about a second.
        heard: Takes what a pilot tells when it is there.

    Attributes:
        slots: How many calls the cluster's workers can carry out at once, as far as that is known.
        number: Counts the connections: what belongs to an earlier one is over.
    """

    def __init__(self, address: str, threads: ThreadPool, heard: Callable[[dict[str, Any]], None]) -> None:
        self.address = address
        self.slots = 0
        self.number = 0
        self._threads = threads
        self._heard = heard
        self._client: Any = None
        self._comm: Any = None
        self._local: LocalCluster | None = None
        self._opening: asyncio.Task[None] | None = None

    @property
    def scheduler(self) -> str:
        """The scheduler's address, for people."""
        return str(self._client.scheduler.address) if self._client is not None else self.address

    @property
    def is_open(self) -> bool:
        """Whether the scheduler is there, as far as that is known.

        The library connects anew by itself, to a scheduler that may have been started again and knows nothing of what
        we subscribed to: only the connection that we made counts.
        """
        client = self._client
        return client is not None and client.status == "running" and client.scheduler_comm is self._comm

    @property
    def arguments(self) -> dict[str, Any]:
        """What a connection to a worker is made with: the keys, where there are any."""
        found: dict[str, Any] = self._client.connection_args
        return found

    async def open(self) -> None:
        """Connect to the scheduler where that is not done; who asks meanwhile shares the outcome.

        Raises:
            AttemptError: The library is missing, or the scheduler does not answer.
        """
        if self.is_open:
            return
        if self._opening is None or self._opening.done():
            self._opening = asyncio.ensure_future(self._connect())
            self._opening.add_done_callback(_looked_at)
        await asyncio.shield(self._opening)

    def submit(self, terms: list[Terms]) -> list[Any]:
        """Ask for pilots, and return the futures that are done when they have ended."""
        names = [each["pilot"] for each in terms]
        found: list[Any] = self._client.map(_begin_pilot, terms, key=names, pure=False, retries=0)
        return found

    async def cancel(self, futures: list[Any]) -> None:
        """Take back the request for pilots; those that have begun see it soon."""
        if self.is_open and futures:
            with contextlib.suppress(Exception):  # a scheduler that is going away may fail in any way
                await asyncio.wait_for(self._client.cancel(futures), _CANCEL_SECONDS)

    async def count_slots(self) -> None:
        """Ask how many slots the cluster has; what was known stays where there is no answer."""
        if self.is_open:
            with contextlib.suppress(Exception):  # as above
                found = await asyncio.wait_for(self._client.nthreads(), CONNECT_SECONDS)
                self.slots = sum(found.values())

    async def close(self) -> None:
        """Let go of the scheduler; a cluster on this machine ends. May be called again."""
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.wait([opening])
        await self._disconnect()
        local, self._local = self._local, None
        if local is not None:
            await local.close()

    def kill(self) -> None:
        """End a cluster on this machine at once."""
        if self._local is not None:
            self._local.kill()

    async def _connect(self) -> None:
        try:
            await self._threads.submit(lambda _: quiet_library()).result
            distributed = import_module("distributed")
        except ImportError as error:
            raise no_library(error) from error
        await self._disconnect()
        self.number += 1
        address, security = self.address, None
        if address == LOCAL:
            local = await self._local_cluster()
            address, security = local.address, local.security()
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
            self._comm = client.scheduler_comm
            client.subscribe_topic(TOPIC, self._take_event)
            self._client = client
            await self.count_slots()
        except BaseException as error:
            self._client = None
            started, self._local = self._local, None
            if started is not None:  # one that does not answer is of no use to the next try either
                await finish(started.close())
            if client is not None:
                with contextlib.suppress(Exception):  # as above
                    await client._close(fast=True)
            if isinstance(error, Exception):
                raise unreachable(address, error) from error
            raise

    def _take_event(self, event: Any) -> None:
        if isinstance(event[1], dict):
            self._heard(event[1])

    async def _local_cluster(self) -> LocalCluster:
        from stepchain_tui.tools.cluster.local import LocalCluster

        local, self._local = self._local, None
        if local is not None and not local.alive:
            await local.close()
            local = None
        self._local = local or await LocalCluster.start()
        return self._local

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # as above
                await client._close(fast=True)


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


def _looked_at(task: asyncio.Task[None]) -> None:
    """Have a failure that nobody waits for any more not reported as lost."""
    if not task.cancelled():
        task.exception()


async def _begin_pilot(terms: Terms) -> dict[str, Any]:
    """Be a pilot, on a worker; travels by value, so that the scheduler needs no StepChain."""
    from stepchain_tui.tools.cluster.pilot import carry_calls

    return await carry_calls(terms)


_begin_pilot.__module__ = "__main__"  # what Dask sends by value
_begin_pilot.__annotations__ = {}
