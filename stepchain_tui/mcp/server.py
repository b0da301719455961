"""An MCP server as the rest of the house sees it: its tools, calls of them, how it is, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.mcp.connection import Connection
from stepchain_tui.mcp.connector import Connector
from stepchain_tui.mcp.failures import server_failure, timed_out, told_failure, unknown_tool
from stepchain_tui.mcp.records import CallRecord, OnLog, OnProgress
from stepchain_tui.mcp.results import text_of
from stepchain_tui.mcp.spec import ServerSpec
from stepchain_tui.mcp.tools import McpTool
from stepchain_tui.plan.models import DEFAULT_SERVER_TIMEOUT
from stepchain_tui.sandbox.guard import WorkerGuard

if TYPE_CHECKING:
    from mcp_types import CallToolResult

CONNECT_SECONDS = 10.0
"""Seconds that connecting may take."""


class McpServer:
    """One server, connected at the first need and anew when its connection was lost.

    Any task of one event loop may use it. A call that was sent is never sent again: whether it may be tried once more
    is for the caller to say.

    Args:
        spec: What is written about it.
        log_folder: Where its log goes; None to keep none.
        guard: Ends what we start when we are killed.
        connect_timeout: Seconds that connecting may take; more where the spec's own timeout was raised over the
            default, for programs that install themselves at their first start.
        clock: Tells since when it is how it is.
        on_connected: Told when there is a new connection.
    """

    def __init__(
        self,
        spec: ServerSpec,
        log_folder: Path | None,
        *,
        guard: WorkerGuard,
        connect_timeout: float = CONNECT_SECONDS,
        clock: Clock | None = None,
        on_connected: Callable[[], None] | None = None,
    ) -> None:
        self.spec = spec
        raised = spec.timeout if spec.timeout > DEFAULT_SERVER_TIMEOUT else 0.0
        self._connect_timeout = max(connect_timeout, raised)
        self._clock = clock or SystemClock()
        self._connector = Connector(
            spec,
            log_folder,
            guard,
            self._connect_timeout,
            self._clock,
            on_connected=on_connected,
            on_tools_lost=self._forget_tools,
        )
        self._tools: tuple[McpTool, ...] | None = None
        self._listing = asyncio.Lock()
        self._closings = 0
        self._is_over = False
        self.last_used = self._clock.monotonic()

    def hide(self, redactor: Redactor) -> None:
        """Take out of its log and its row what another spec of the same server keeps secret."""
        self._connector.log.hide(redactor)

    # --- tools

    @property
    def known_tools(self) -> tuple[McpTool, ...] | None:
        """The tools as they were listed last, None where they were not listed on this connection."""
        return self._tools

    async def tools(self, *, anew: bool = False) -> tuple[McpTool, ...]:
        """Return all tools of the server, as it listed them last.

        Args:
            anew: Ask again, although they are known.

        Raises:
            AttemptError: It cannot be reached, does not answer in time or as it should, or was closed meanwhile.
        """
        return await self._listed(self._closings, anew=anew)

    async def _listed(self, begun: int, *, anew: bool = False) -> tuple[McpTool, ...]:
        async with self._listing:
            connection = await self._connected(begun)
            if self._tools is None or anew:
                self._tools = await self._list(connection)
            return self._tools

    async def tool(self, name: str, *, anew: bool = False) -> McpTool:
        """Return one tool; one that is not known may be new, so the server is asked once more.

        Args:
            name: Its name at the server.
            anew: Ask again, although it is known: it may have changed.

        Raises:
            AttemptError: There is none of that name, as a `user_error`, or the server cannot be asked.
        """
        connection, begun = self._connector.connection, self._closings
        known = self._tools if connection is not None and connection.is_usable else None
        if anew and known is not None:
            known = await self._listed(begun, anew=True)
        found = _named(name, known or ())
        if found is None:
            was_known = known is not None
            listed = await self._listed(begun)
            found = _named(name, listed)
            if found is None and was_known:
                listed = await self._listed(begun, anew=True)
                found = _named(name, listed)
            if found is None:
                raise unknown_tool(self.spec, name, [tool.name for tool in listed])
        return found

    async def _list(self, connection: Connection) -> tuple[McpTool, ...]:
        record = CallRecord()
        limit = asyncio.timeout(self._connect_timeout)
        try:
            async with limit:
                found = await connection.list_tools(record)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # whatever a server's answer made the SDK raise
            if limit.expired():
                hint = "Restart the server; its log may say why it hangs."
                raise timed_out(self.spec, "did not list its tools", self._connect_timeout, hint) from error
            raise await self._connector.failure(error, connection, record, doing="listing its tools") from error
        return tuple(McpTool.of(self.spec.name, tool) for tool in found)

    # --- calls

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
        on_log: OnLog | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> CallToolResult:
        """Call a tool and return its answer, which is no error.

        Args:
            tool: Its name at the server.
            arguments: JSON values by name; see `arguments.check_arguments`.
            timeout: Seconds that it may take; None where the caller counts.
            on_progress: Told how much is done.
            on_log: Told the server's log messages, those of other calls in flight among them where it does not say
                whose they are.
            meta: Further facts for the server, as `_meta`.

        Raises:
            AttemptError: As `tool_error`, what the tool says of itself; as `timeout`; as `server_error`, a server that
                cannot be reached or died; as `user_error`, what it refuses; as `rate_limit`, HTTP 429.
        """
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                result = await self._call(tool, arguments, on_progress, on_log, meta)
        except TimeoutError as error:
            if not limit.expired() or timeout is None:
                raise
            hint = "Raise the timeout, or ask for less."
            raise timed_out(self.spec, f"did not answer the call of '{tool}'", timeout, hint) from error
        if result.is_error:
            raise told_failure(self.spec, tool, text_of(result))
        return result

    async def _call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        on_progress: OnProgress | None,
        on_log: OnLog | None,
        meta: Mapping[str, Any] | None,
    ) -> CallToolResult:
        from mcp_types import CallToolResult

        begun = self._closings
        for is_last in (False, True):
            connection = await self._connected(begun)
            record = CallRecord(on_log=on_log)
            self.last_used = self._clock.monotonic()
            try:
                result = await connection.call(tool, arguments, record, on_progress, meta)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # whatever a server's answer made the SDK raise
                if not record.was_sent and not is_last:
                    continue  # the connection was lost before: a new one is made for this call
                raise await self._connector.failure(error, connection, record, tool=tool) from error
            finally:
                self.last_used = self._clock.monotonic()
            if not isinstance(result, CallToolResult):
                what = f"asks for input in the middle of a call, which a step cannot give (calling '{tool}')"
                raise server_failure(self.spec, what, "Call a tool that needs nobody to answer.")
            return result
        raise AssertionError("the last turn returns or raises")

    # --- the connection

    async def restart(self) -> None:
        """End the connection, and the server where we started it, and connect anew. Calls in flight fail.

        Raises:
            AttemptError: It cannot be connected to.
        """
        begun = self._closings
        await self._connector.drop()
        await self._connected(begun)

    async def close(self, *, for_good: bool = False) -> None:
        """End the connection, and the server where we started it, within 4 s; may be called again.

        What was begun before fails, also where it waited for its turn. A later call connects anew.

        Args:
            for_good: Let later calls fail, too.
        """
        self._closings += 1
        self._is_over = self._is_over or for_good
        await self._connector.drop()
        if self._connector.is_left:
            self._connector.log.close()
            self._connector.set_state("closed")

    async def _connected(self, begun: int) -> Connection:
        """Return the connection for what began at that count of closings.

        Raises:
            AttemptError: It was closed since, or there can be no connection.
        """
        for connect in (True, False):
            if self._is_over or begun != self._closings:
                hint = "Its engine has ended." if self._is_over else "The next call connects anew."
                raise server_failure(self.spec, "was closed", hint)
            if connect:
                connection = await self._connector.connected()
        return connection

    @property
    def is_at_rest(self) -> bool:
        """Whether it is connected and no call is in flight."""
        return self._connector.is_at_rest

    async def rest(self) -> None:
        """End a connection that nobody needs now; the next call makes a new one."""
        await self._connector.drop()
        if self._connector.is_left:
            self._connector.set_state("idle")

    def row(self) -> dict[str, Any]:
        """Return how it is, for screens: plain values without secrets."""
        return {
            "name": self.spec.name,
            "transport": self.spec.transport,
            "where": self.spec.where,
            "tools": None if self._tools is None else len(self._tools),
            "from": self.spec.source,
            **self._connector.facts(),
        }

    def _forget_tools(self) -> None:
        self._tools = None


def _named(name: str, tools: tuple[McpTool, ...]) -> McpTool | None:
    return next((tool for tool in tools if tool.name == name), None)
