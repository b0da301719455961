"""The MCP servers of one engine process: one for each way to reach one, shared by all runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.mcp.server import CONNECT_SECONDS, McpServer
from stepchain_tui.mcp.spec import ServerSpec
from stepchain_tui.sandbox.guard import WorkerGuard

REST_AFTER = 600.0
"""Seconds without a call after which a server's connection is ended."""
_LOOK_EVERY = 60.0


class McpServers:
    """Makes and keeps the servers.

    Args:
        log_folder: Where their logs go; None to keep none.
        connect_timeout: Seconds that connecting may take.
        rest_after: Seconds without a call after which a connection is ended, and made anew by the next call.
        clock: The time.
    """

    def __init__(
        self,
        log_folder: Path | None,
        *,
        connect_timeout: float = CONNECT_SECONDS,
        rest_after: float = REST_AFTER,
        clock: Clock | None = None,
    ) -> None:
        self._log_folder = log_folder
        self._connect_timeout = connect_timeout
        self._rest_after = rest_after
        self._clock = clock or SystemClock()
        self._guard = WorkerGuard()
        self._servers: dict[str, McpServer] = {}
        self._keeper: asyncio.Task[None] | None = None

    def get(self, spec: ServerSpec) -> McpServer:
        """Return the server of a spec: the one that is there where it is reached the same way."""
        found = self._servers.get(spec.key)
        if found is None:
            found = self._servers[spec.key] = McpServer(
                spec,
                self._log_folder,
                guard=self._guard,
                connect_timeout=self._connect_timeout,
                clock=self._clock,
                on_connected=self._watch_over,
            )
        found.hide(spec.redactor)
        return found

    def find(self, name: str) -> McpServer | None:
        """Return the server of a name, the latest where there are several; None where there is none."""
        return next((one for one in reversed(self._servers.values()) if one.spec.name == name), None)

    def rows(self) -> list[dict[str, Any]]:
        """Return how each server is, see `McpServer.row`."""
        return [server.row() for server in self._servers.values()]

    async def close(self) -> None:
        """End all servers within 4 s, for good; may be called again. Servers that are asked for later are new ones."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        servers, self._servers = self._servers, {}
        guard, self._guard = self._guard, WorkerGuard()
        await asyncio.gather(*(server.close(for_good=True) for server in servers.values()))
        await asyncio.to_thread(guard.close)

    def _watch_over(self) -> None:
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep(), name="mcp-keeper")

    async def _keep(self) -> None:
        """Let servers rest that nobody has called for long."""
        while True:
            await asyncio.sleep(min(_LOOK_EVERY, self._rest_after))
            now = self._clock.monotonic()
            for server in list(self._servers.values()):
                if server.is_at_rest and now - server.last_used >= self._rest_after:
                    await server.rest()
