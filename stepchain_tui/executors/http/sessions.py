"""Connections that are kept between requests: one session for each event loop, closed with the loop at the latest.

A session keeps no cookies, follows no `.netrc` and sends nothing twice by itself: what goes to a server is what the
step says. Connectors hold the connections; a session made over a shared connector leaves it open.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from stepchain_tui.core.errors import NotAvailableError

if TYPE_CHECKING:
    import aiohttp


class _Closable(Protocol):
    @property
    def closed(self) -> bool: ...


T = TypeVar("T", bound=_Closable)
CONNECT_TIMEOUT = 30.0
"""Seconds until a server that does not take a connection is given up, within the call's own time."""


def load_aiohttp() -> Any:
    """Return the package aiohttp.

    Raises:
        NotAvailableError: It is not installed.
    """
    try:
        import aiohttp
    except ImportError as error:
        raise NotAvailableError(
            "HTTP steps need aiohttp, which is not installed", hint="pip install aiohttp"
        ) from error
    return aiohttp


class PerLoop(Generic[T]):
    """One object for each event loop, ended by `close`, by the end of its loop, or when it is dropped.

    The end of a loop is noticed by an async generator, which asyncio closes when the loop is shut down.

    Args:
        make: Returns a new object; called on the loop.
        end: Ends one; awaited on its loop.
    """

    def __init__(self, make: Callable[[], Awaitable[T]], end: Callable[[T], Awaitable[Any]]) -> None:
        self._make = make
        self._end = end
        self._kept: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}

    async def get(self) -> T:
        """Return the object of the running loop."""
        loop = asyncio.get_running_loop()
        kept = self._kept.get(loop)
        if kept is not None and not kept[0].closed:
            return kept[0]
        self._kept = {other: held for other, held in self._kept.items() if not other.is_closed()}
        made = await self._make()
        guard = _until_end(made, self._end)
        self._kept[loop] = (made, guard)
        await anext(guard)
        return made

    async def close(self) -> None:
        """End the objects of all loops that run; those of other loops end when their loop does."""
        here = asyncio.get_running_loop()
        kept, self._kept = self._kept, {}
        for loop, (_, guard) in kept.items():
            if loop is here:
                await guard.aclose()
            elif loop.is_running():
                with suppress(RuntimeError):  # it stopped meanwhile
                    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(guard.aclose(), loop))


async def _until_end(made: T, end: Callable[[T], Awaitable[Any]]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await end(made)


class Connectors(PerLoop["aiohttp.TCPConnector"]):
    """The connections that the sessions of several executors share."""

    def __init__(self) -> None:
        super().__init__(_make_connector, lambda connector: connector.close())


async def _make_connector() -> aiohttp.TCPConnector:
    # No limit of its own: how much goes on at once is the engine's to say, and a hidden wait would cost a step's time.
    connector: aiohttp.TCPConnector = load_aiohttp().TCPConnector(limit=0)
    return connector


class Sessions(PerLoop["aiohttp.ClientSession"]):
    """The sessions of one executor.

    Args:
        connectors: Where the connections come from; the session's own where it is left out.
    """

    def __init__(self, connectors: Connectors | None = None) -> None:
        self._connectors = connectors
        super().__init__(self._make_session, lambda session: session.close())

    async def _make_session(self) -> aiohttp.ClientSession:
        library = load_aiohttp()
        connector = None if self._connectors is None else await self._connectors.get()
        trace = library.TraceConfig()
        trace.on_connection_reuseconn.append(_mark_reused)
        session: aiohttp.ClientSession = library.ClientSession(
            connector=connector,
            connector_owner=connector is None,
            cookie_jar=library.DummyCookieJar(),
            headers={"User-Agent": "stepchain"},
            timeout=library.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            trace_configs=[trace],
        )
        # Without this a GET, PUT or DELETE whose connection is lost is sent again behind the back of the step's retry.
        session._retry_connection = False
        return session


async def _mark_reused(session: Any, context: Any, parameters: Any) -> None:
    if isinstance(context.trace_request_ctx, dict):
        context.trace_request_ctx["reused"] = True
