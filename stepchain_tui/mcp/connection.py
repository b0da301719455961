"""One connection to a server: the task that enters the SDK's client and leaves it again, and calls from any task."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from stepchain_tui.core.values import to_json_value
from stepchain_tui.mcp.gate import GatedTransport
from stepchain_tui.mcp.http import HttpTransport
from stepchain_tui.mcp.log import ServerLog
from stepchain_tui.mcp.records import CallRecord, OnProgress, current_record
from stepchain_tui.mcp.spec import ServerSpec
from stepchain_tui.mcp.stdio import StdioTransport
from stepchain_tui.sandbox.guard import WorkerGuard

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import CallToolResult, InputRequiredResult, Tool
    from pydantic import TypeAdapter

LOG_LEVEL: Literal["info"] = "info"
"""The least level of the log messages that a server is asked for."""
MOST_PAGES = 100
MOST_TOOLS = 5_000


class Connection:
    """A connection from its opening to its end. It is used once: after its end there is a new one.

    The SDK's client has to be left by the task that entered it, and a dead server cancels that task; so it is a task
    of its own, and calls come from any other.

    Args:
        spec: The server.
        log: Gets what belongs to no call.
        guard: Ends the process group of a server that we start, when we are killed.
        on_tools_changed: Told when the server says that its tools are others now.

    Attributes:
        opened: Done when calls can be made; failed with the SDK's error when that is impossible.
        ended: Set when the connection is no more and nothing of it is left.
    """

    def __init__(
        self, spec: ServerSpec, log: ServerLog, guard: WorkerGuard, on_tools_changed: Callable[[], None]
    ) -> None:
        self._spec = spec
        self._log = log
        self._on_tools_changed = on_tools_changed
        self._transport = StdioTransport(spec, log, guard) if spec.command else HttpTransport(spec)
        self._client: Client | None = None
        self._calls: list[CallRecord] = []
        self._leave = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.record = CallRecord()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.opened.add_done_callback(_look_at)
        self.ended = asyncio.Event()
        self._owner = asyncio.create_task(self._own(), name=f"mcp-{spec.name}")

    @property
    def is_usable(self) -> bool:
        """Whether a call may be made on it."""
        return self._client is not None and not self._transport.lost.is_set() and not self._leave.is_set()

    @property
    def calls(self) -> int:
        """How many calls are in flight."""
        return len(self._calls)

    @property
    def protocol_version(self) -> str:
        """What both sides speak, empty while they do not."""
        return self._client.protocol_version if self._client is not None else ""

    @property
    def pid(self) -> int | None:
        """The process of a server that we started, while it lives."""
        child = getattr(self._transport, "child", None)
        return child.pid if child is not None and not child.exited.done() else None

    def end_words(self) -> str:
        """Return how the server's process ended, empty where it did not or where that is not known."""
        return self._transport.end_words()

    async def wait_for_end_words(self) -> str:
        """Return the same, and give a process that closes its output a moment to end."""
        child = getattr(self._transport, "child", None)
        if child is not None:
            await asyncio.wait([child.exited], timeout=0.5)
        return self.end_words()

    async def list_tools(self, record: CallRecord) -> list[Tool]:
        """Ask for all tools, page by page; errors come as the SDK raises them."""
        from mcp import MCPError
        from mcp_types import METHOD_NOT_FOUND, PaginatedRequestParams

        session, cursor = self._session(), None
        found: list[Tool] = []
        with self._in_flight(record):
            for _ in range(MOST_PAGES):
                try:
                    page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor) if cursor else None)
                except MCPError as error:
                    if error.code == METHOD_NOT_FOUND and not found:
                        return []
                    raise
                found += page.tools
                cursor = page.next_cursor
                if not cursor or len(found) >= MOST_TOOLS:
                    break
        return found[:MOST_TOOLS]

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        record: CallRecord,
        on_progress: OnProgress | None,
        meta: Mapping[str, Any] | None,
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; errors come as the SDK raises them.

        Its structured content is not held against the output schema: a schema of a stranger could take for ever.
        """
        from mcp_types import CallToolRequest, CallToolRequestParams

        async def progress(done: float, total: float | None, message: str | None) -> None:
            if on_progress is not None:
                on_progress(done, total, message)

        fit = to_json_value(dict(arguments))  # half a character would be sent to nobody
        params = CallToolRequestParams(name=tool, arguments=fit, _meta=dict(meta) if meta else None)
        with self._in_flight(record):
            result: CallToolResult | InputRequiredResult = await self._session().send_request(
                CallToolRequest(params=params),
                _call_result(),
                progress_callback=progress if on_progress is not None else None,
            )
            return result

    async def close(self, patience: float = 3.0) -> None:
        """End the connection, and the server where we started it; a client that does not leave is cancelled."""
        self._leave.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self.ended.wait()
                return
        self._owner.cancel()
        await self.ended.wait()

    async def abandon(self) -> None:
        """End a connection that is still being opened, at once."""
        self._owner.cancel()
        await self.ended.wait()

    @contextmanager
    def _in_flight(self, record: CallRecord) -> Iterator[None]:
        token = current_record.set(record)
        self._calls.append(record)
        self._quiet.clear()
        try:
            yield
        finally:
            self._calls.remove(record)
            if not self._calls:
                self._quiet.set()
            current_record.reset(token)

    def _session(self) -> Any:
        if self._client is None:
            raise ConnectionError("the connection is closed")
        return self._client.session

    async def _own(self) -> None:
        from mcp import Client
        from mcp_types import Implementation

        _hold_back_logging()
        current_record.set(self.record)
        try:
            async with Client(
                GatedTransport(self._transport, self._dropped, self._on_tools_changed),
                logging_callback=self._logged,
                log_level=LOG_LEVEL,
                client_info=Implementation(name="stepchain", version=_version()),
                cache=None,
            ) as client:
                await _ask_for_logs(client)
                self._client = client
                if not self.opened.done():
                    self.opened.set_result(None)
                await self._stay()
        except asyncio.CancelledError:
            # Ours, or the SDK's for a transport that broke: either way the connection is over, and this task with it.
            if not self.opened.done():
                self.opened.set_exception(ConnectionError(self.record.problem or "the connection was given up"))
        except BaseException as error:  # noqa: BLE001 - whatever ends the client is the caller's to know
            if not self.opened.done():
                self.opened.set_exception(leaf_of(error))
        finally:
            self._client = None
            self.ended.set()

    async def _stay(self) -> None:
        """Return when the connection is to be left: asked to, or lost and no call goes on."""
        leaving = asyncio.ensure_future(self._leave.wait())
        lost = asyncio.ensure_future(self._transport.lost.wait())
        waits = [leaving, lost]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            waits.append(asyncio.ensure_future(self._quiet.wait()))  # over HTTP others may yet have their answers
            await asyncio.wait((leaving, waits[-1]), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in waits:
                waiting.cancel()

    # --- what the server says by itself

    async def _logged(self, params: Any) -> None:
        text = params.data if isinstance(params.data, str) else _as_json(params.data)
        if params.logger:
            text = f"{params.logger}: {text}"
        self._tell(str(params.level), self._log.clean(text))

    def _dropped(self, count: int) -> None:
        self._tell("warning", f"{count} messages of the server were dropped: it sends more than anybody reads")

    def _tell(self, level: str, text: str) -> None:
        """Hand a log message to the call it belongs to; where the server does not say which, to all in flight."""
        record = current_record.get()
        records = [record] if record is not None and record in self._calls else self._calls
        takers = [one.on_log for one in records if one.on_log is not None]
        for take in takers:
            take(level, text)
        if not takers:
            self._log.say(f"{level}: {text}")


def leaf_of(error: BaseException) -> BaseException:
    """Return the first error that is no group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _ask_for_logs(client: Client) -> None:
    """Ask a server of the older protocol for its log messages; in the newer one each request does."""
    from mcp import MCPError
    from mcp_types import EmptyResult, SetLevelRequest, SetLevelRequestParams
    from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

    capabilities = client.server_capabilities
    if client.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS and capabilities.logging is not None:
        request = SetLevelRequest(params=SetLevelRequestParams(level=LOG_LEVEL))
        with suppress(MCPError):  # a server without log messages can still be called
            await client.session.send_request(request, EmptyResult)


@cache
def _call_result() -> TypeAdapter[CallToolResult | InputRequiredResult]:
    from mcp_types import CallToolResult, InputRequiredResult
    from pydantic import TypeAdapter

    return TypeAdapter(CallToolResult | InputRequiredResult)


@cache
def _hold_back_logging() -> None:
    """Keep the SDK's own log lines off the terminal: without a handler Python prints warnings to stderr."""
    for name in ("mcp", "client", "httpx2", "httpcore2"):
        logging.getLogger(name).addHandler(logging.NullHandler())


@cache
def _version() -> str:
    try:
        return importlib.metadata.version("stepchain")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "0"


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _look_at(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()  # nobody may be waiting any more, which is no reason for a warning
