"""The clusters of one engine process: one connection for each address, made when the first call needs it."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from stepchain_tui.tools.cluster.client import Cluster
from stepchain_tui.tools.cluster.connection import LOCAL
from stepchain_tui.tools.cluster.failures import bad_address

if TYPE_CHECKING:
    from stepchain_tui.tools.cluster.lane import ClusterCall
    from stepchain_tui.tools.threads import ThreadPool

_ADDRESS = re.compile(r"(tcp|tls)://([\w.-]+|\[[0-9a-fA-F:]+\]):\d{1,5}", re.ASCII)


class Clusters:
    """Carries out calls on clusters.

    Args:
        threads: Where what takes long is done off the loop.
        patience: Seconds that a call waits for a cluster that has no worker.
    """

    def __init__(self, threads: ThreadPool, patience: float = 60.0) -> None:
        self._threads = threads
        self._patience = patience
        self._known: dict[str, Cluster] = {}

    def rows(self) -> list[dict[str, Any]]:
        """Return how busy each cluster is; see `Cluster.row`."""
        return [cluster.row() for cluster in self._known.values()]

    async def run(self, address: str, call: ClusterCall) -> Any:
        """Carry out a call on the cluster at an address; empty, or `local`, is one on this machine.

        Raises:
            AttemptError: The address is none, the call failed, or the cluster could not carry it out.
        """
        address = address.strip() or LOCAL
        cluster = self._known.get(address)
        if cluster is None:
            if address != LOCAL and _ADDRESS.fullmatch(address) is None:
                raise bad_address(address)
            cluster = self._known[address] = Cluster(address, self._threads, self._patience)
        return await cluster.run(call)

    async def close(self) -> None:
        """Let go of all clusters and end local ones; may be called again."""
        known, self._known = self._known, {}
        await asyncio.gather(*(cluster.close() for cluster in known.values()))

    def kill(self) -> None:
        """End local clusters at once."""
        for cluster in self._known.values():
            cluster.kill()
