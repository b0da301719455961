"""The one connection to a server: made at the first need, and anew when it was lost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from stepchain_tui.core.clock import Clock
from stepchain_tui.mcp.connection import Connection
from stepchain_tui.mcp.failures import failure_of, server_failure, timed_out
from stepchain_tui.mcp.log import ServerLog
from stepchain_tui.mcp.records import CallRecord
from stepchain_tui.mcp.spec import ServerSpec
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.sandbox.guard import WorkerGuard

ServerState = Literal["idle", "connecting", "ready", "failed", "closed"]
_NOT_IN_A_FILE_NAME = re.compile(r"[^A-Za-z0-9_-]+")


class Connector:
    """Makes the connection, keeps it, and knows how the server is.

    Args:
        spec: What is written about the server.
        log_folder: Where its log goes; None to keep none.
        guard: Ends what we start when we are killed.
        connect_timeout: Seconds that connecting may take.
        clock: Tells since when it is how it is.
        on_connected: Told when there is a new connection.
        on_tools_lost: Told when what is known of the server's tools holds no more.

    Attributes:
        log: What the server says beside its answers.
        connection: The connection, None where there is none; it may be lost.
    """

    def __init__(
        self,
        spec: ServerSpec,
        log_folder: Path | None,
        guard: WorkerGuard,
        connect_timeout: float,
        clock: Clock,
        *,
        on_connected: Callable[[], None] | None,
        on_tools_lost: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._guard = guard
        self._connect_timeout = connect_timeout
        self._clock = clock
        self._on_connected = on_connected
        self._on_tools_lost = on_tools_lost
        name = _NOT_IN_A_FILE_NAME.sub("_", spec.name)[:60]
        path = None if log_folder is None else log_folder / f"{name}-{spec.key[:12]}.log"
        self.log = ServerLog(path, spec.redactor)
        self.connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._connected_times = 0
        self._state: ServerState = "idle"
        self._since: str | None = None
        self._error: AttemptError | None = None

    @property
    def is_at_rest(self) -> bool:
        """Whether there is a connection and no call is in flight."""
        return self._opening is None and self.connection is not None and not self.connection.calls

    @property
    def is_left(self) -> bool:
        """Whether there is no connection and none is being made."""
        return self._opening is None and self.connection is None

    def facts(self) -> dict[str, Any]:
        """Return how the server is, as a part of its row."""
        self.notice()
        connection = self.connection
        error = self._error if self._state == "failed" else None
        return {
            "state": self._state,
            "since": self._since,
            "protocol_version": connection.protocol_version if connection is not None else "",
            "error": self.log.clean(error.message) if error is not None else "",
            "hint": error.hint if error is not None else "",
            "pid": connection.pid if connection is not None else None,
            "stderr_path": str(self.log.path or "") if self._spec.command else "",
            "restarts": max(0, self._connected_times - 1),
        }

    async def connected(self) -> Connection:
        """Return a connection that a call can be made on; callers that come meanwhile wait for the same one.

        Raises:
            AttemptError: There can be none.
        """
        if self.connection is not None and self.connection.is_usable:
            return self.connection
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name=f"mcp-open-{self._spec.name}")
            self._opening.add_done_callback(self._opened)
        opening = self._opening
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not opening.cancelled() or (task is not None and task.cancelling()):
                raise  # it is the caller who is cancelled
            raise server_failure(self._spec, "was closed while it connected", "The next call connects anew.") from None

    async def _open(self) -> Connection:
        self.notice()
        self._leave_connection()
        self._on_tools_lost()
        self.set_state("connecting")
        connection = Connection(self._spec, self.log, self._guard, self._on_tools_lost)
        try:
            await asyncio.wait([connection.opened], timeout=self._connect_timeout)
            if connection.opened.done():
                connection.opened.result()
            else:
                raise timed_out(
                    self._spec,
                    "did not connect",
                    self._connect_timeout,
                    "If it installs itself at its first start, start it once by hand, or raise the server's timeout.",
                )
        except asyncio.CancelledError:
            self._end(connection.abandon())
            raise
        except Exception as error:  # whatever a server's answer made the SDK raise
            failure = await self.failure(error, connection, connection.record, doing="connecting")
            self._end(connection.abandon())
            self.set_state("failed", failure)
            raise failure from error
        self.connection = connection
        self._connected_times += 1
        self.set_state("ready")
        if self._on_connected is not None:
            self._on_connected()
        return connection

    def _opened(self, task: asyncio.Task[Connection]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # told to those who wait; where nobody does any more the row has it

    async def drop(self) -> None:
        """End what is there, and wait until nothing of it is left."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        self._leave_connection()
        if self._ending:
            await asyncio.wait(self._ending)

    def _leave_connection(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            self._end(connection.close())

    def _end(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def notice(self) -> None:
        """Take note that a connection was lost while nobody called."""
        connection = self.connection
        if self._state == "ready" and connection is not None and not connection.is_usable:
            what = f"{connection.end_words() or 'closed the connection'} while no call was made"
            self.set_state("failed", server_failure(self._spec, what, "The next call connects anew."))

    def set_state(self, state: ServerState, error: AttemptError | None = None) -> None:
        """Keep how the server is, and since when."""
        self._state, self._error = state, error
        self._since = self._clock.now().isoformat()

    async def failure(
        self, error: BaseException, connection: Connection, record: CallRecord, *, tool: str = "", doing: str = ""
    ) -> AttemptError:
        """Return what went wrong as an error, see `failures.failure_of`, and keep it where the connection is over."""
        if isinstance(error, AttemptError):
            return error
        ended = "" if connection.is_usable else await connection.wait_for_end_words()
        words = {"tool": tool, "doing": doing, "ended": ended, "last_line": self.log.last_line}
        failure = failure_of(error, self._spec, record, **words)
        if not connection.is_usable and connection is self.connection:
            self.set_state("failed", failure)
        return failure
