"""An MCP server as the rest of the house sees it: its tools, calls of them, how it is, and its end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.mcp.connection import Connection
from stepchain_tui.mcp.failures import failure_of, server_failure, timed_out, told_failure, unknown_tool
from stepchain_tui.mcp.log import ServerLog
from stepchain_tui.mcp.records import CallRecord, OnLog, OnProgress
from stepchain_tui.mcp.results import text_of
from stepchain_tui.mcp.spec import ServerSpec
from stepchain_tui.mcp.tools import McpTool
from stepchain_tui.plan.models import DEFAULT_SERVER_TIMEOUT
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.sandbox.guard import WorkerGuard

if TYPE_CHECKING:
    from mcp_types import CallToolResult

CONNECT_SECONDS = 10.0
"""Seconds that connecting may take."""
ServerState = Literal["idle", "connecting", "ready", "failed", "closed"]
_NOT_IN_A_FILE_NAME = re.compile(r"[^A-Za-z0-9_-]+")


class McpServer:
    """One server, connected at the first need and anew when its connection was lost.

    Any task of one event loop may use it. A call that was sent is never sent again: whether it may be tried once more
    is for the caller to say.

    Args:
        spec: What is written about it.
        log_folder: Where its log goes; None to keep none.
        guard: Ends what we start when we are killed; one of its own where none is given.
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
        guard: WorkerGuard | None = None,
        connect_timeout: float = CONNECT_SECONDS,
        clock: Clock | None = None,
        on_connected: Callable[[], None] | None = None,
    ) -> None:
        self._on_connected = on_connected
        self.spec = spec
        name = _NOT_IN_A_FILE_NAME.sub("_", spec.name)[:60]
        path = None if log_folder is None else log_folder / f"{name}-{spec.key[:12]}.log"
        self._log = ServerLog(path, spec.redactor)
        self._own_guard = guard is None
        self._guard = guard or WorkerGuard()
        raised = spec.timeout if spec.timeout > DEFAULT_SERVER_TIMEOUT else 0.0
        self._connect_timeout = max(connect_timeout, raised)
        self._clock = clock or SystemClock()
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._connected_times = 0
        self._tools: tuple[McpTool, ...] | None = None
        self._listing = asyncio.Lock()
        self._state: ServerState = "idle"
        self._since: str | None = None
        self._error: AttemptError | None = None
        self.last_used = self._clock.monotonic()

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
            AttemptError: It cannot be reached, does not answer in time, or answers something else.
        """
        async with self._listing:
            connection = await self._connected()
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
        known = self._tools if self._connection is not None and self._connection.is_usable else None
        if anew and known is not None:
            known = await self.tools(anew=True)
        found = _named(name, known or ())
        if found is None:
            was_known = known is not None
            listed = await self.tools()
            found = _named(name, listed)
            if found is None and was_known:
                listed = await self.tools(anew=True)
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
            raise await self._failure(error, connection, record, doing="listing its tools") from error
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

        for is_last in (False, True):
            connection = await self._connected()
            record = CallRecord(on_log=on_log)
            self.last_used = self._clock.monotonic()
            try:
                result = await connection.call(tool, arguments, record, on_progress, meta)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # whatever a server's answer made the SDK raise
                if not record.was_sent and not is_last:
                    continue  # the connection was lost before: a new one is made for this call
                raise await self._failure(error, connection, record, tool=tool) from error
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
        await self._drop()
        await self._connected()

    async def close(self) -> None:
        """End the connection, and the server where we started it, within 4 s; may be called again.

        A later call connects anew.
        """
        await self._drop()
        self._log.close()
        if self._own_guard:
            await asyncio.to_thread(self._guard.close)
            self._guard = WorkerGuard()
        self._is("closed")

    @property
    def is_at_rest(self) -> bool:
        """Whether it is connected and no call is in flight."""
        return self._opening is None and self._connection is not None and not self._connection.calls

    async def rest(self) -> None:
        """End a connection that nobody needs now; the next call makes a new one."""
        await self._drop()
        self._is("idle")

    def row(self) -> dict[str, Any]:
        """Return how it is, for screens: plain values without secrets."""
        self._notice()
        connection = self._connection
        error = self._error if self._state == "failed" else None
        return {
            "name": self.spec.name,
            "transport": self.spec.transport,
            "where": self.spec.where,
            "state": self._state,
            "since": self._since,
            "tools": None if self._tools is None else len(self._tools),
            "protocol_version": connection.protocol_version if connection is not None else "",
            "error": error.message if error is not None else "",
            "hint": error.hint if error is not None else "",
            "pid": connection.pid if connection is not None else None,
            "stderr_path": str(self._log.path or "") if self.spec.command else "",
            "restarts": max(0, self._connected_times - 1),
            "from": self.spec.source,
        }

    async def _connected(self) -> Connection:
        """Return a connection that a call can be made on; callers that come meanwhile wait for the same one."""
        if self._connection is not None and self._connection.is_usable:
            return self._connection
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name=f"mcp-open-{self.spec.name}")
            self._opening.add_done_callback(self._opened)
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not opening.cancelled() or (task is not None and task.cancelling()):
                raise  # it is the caller who is cancelled
            raise server_failure(self.spec, "was closed while it connected", "The next call connects anew.") from None

    async def _open(self) -> Connection:
        self._notice()
        self._leave_connection()
        self._tools = None
        self._is("connecting")
        connection = Connection(self.spec, self._log, self._guard, self._forget_tools)
        try:
            await asyncio.wait([connection.opened], timeout=self._connect_timeout)
            if connection.opened.done():
                connection.opened.result()
            else:
                raise timed_out(
                    self.spec,
                    "did not connect",
                    self._connect_timeout,
                    "If it installs itself at its first start, start it once by hand, or raise the server's timeout.",
                )
        except asyncio.CancelledError:
            self._end(connection.abandon())
            raise
        except Exception as error:  # whatever a server's answer made the SDK raise
            failure = await self._failure(error, connection, connection.record, doing="connecting")
            self._end(connection.abandon())
            self._is("failed", failure)
            raise failure from error
        self._connection = connection
        self._connected_times += 1
        self._is("ready")
        if self._on_connected is not None:
            self._on_connected()
        return connection

    def _opened(self, task: asyncio.Task[Connection]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # told to those who wait; where nobody does any more the row has it

    async def _drop(self) -> None:
        """End what is there, and wait until nothing of it is left."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        self._leave_connection()
        if self._ending:
            await asyncio.wait(self._ending)

    def _leave_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._end(connection.close())

    def _end(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _forget_tools(self) -> None:
        self._tools = None

    def _notice(self) -> None:
        """See that a connection was lost while nobody called."""
        connection = self._connection
        if self._state == "ready" and connection is not None and not connection.is_usable:
            what = f"{connection.end_words() or 'closed the connection'} while no call was made"
            self._is("failed", server_failure(self.spec, what, "The next call connects anew."))

    def _is(self, state: ServerState, error: AttemptError | None = None) -> None:
        self._state, self._error = state, error
        self._since = self._clock.now().isoformat()

    async def _failure(
        self, error: BaseException, connection: Connection, record: CallRecord, *, tool: str = "", doing: str = ""
    ) -> AttemptError:
        if isinstance(error, AttemptError):
            return error
        ended = "" if connection.is_usable else await connection.wait_for_end_words()
        words = {"tool": tool, "doing": doing, "ended": ended, "last_line": self._log.last_line}
        failure = failure_of(error, self.spec, record, **words)
        if not connection.is_usable and connection is self._connection:
            self._is("failed", failure)
        return failure


def _named(name: str, tools: tuple[McpTool, ...]) -> McpTool | None:
    return next((tool for tool in tools if tool.name == name), None)
