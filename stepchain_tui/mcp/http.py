"""A server that somebody else runs: streamable HTTP, with what the SDK keeps to itself about a refused request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from stepchain_tui.mcp.messages import MOST_OF_A_MESSAGE
from stepchain_tui.mcp.records import current_record
from stepchain_tui.mcp.spec import ServerSpec

if TYPE_CHECKING:
    import httpx2
    from mcp.client._transport import TransportStreams

_END_OF_EVENT = b"\r\n\r\n"
CONNECT_SECONDS = 5.0
"""Seconds that opening a connection may take."""


class HttpTransport:
    """Exchanges messages with a server over HTTP (`mcp.client.Transport`).

    Args:
        spec: The server.

    Attributes:
        lost: Set when the server could not be reached or forgot our session: the next call begins anew.
    """

    def __init__(self, spec: ServerSpec) -> None:
        self._spec = spec
        self.lost = asyncio.Event()
        self._client: Any = None
        self._streams: Any = None

    async def __aenter__(self) -> TransportStreams:
        from mcp.client.streamable_http import streamable_http_client

        self._client = _client(self._spec, self.lost)
        await self._client.__aenter__()
        self._streams = streamable_http_client(
            self._spec.url, http_client=self._client, max_sse_event_size=MOST_OF_A_MESSAGE
        )
        try:
            streams: TransportStreams = await self._streams.__aenter__()
        except BaseException:
            await self._client.__aexit__(None, None, None)
            raise
        return streams

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._streams.__aexit__(kind, error, trace)
        finally:
            await self._client.__aexit__(None, None, None)

    def end_words(self) -> str:
        """Return nothing: a server of somebody else's does not tell us how it ended."""
        return ""


def _client(spec: ServerSpec, lost: asyncio.Event) -> httpx2.AsyncClient:
    import httpx2

    class TooLargeError(httpx2.StreamError):
        """Signals an answer that is more than a message may be; a class that the SDK knows how to take."""

    class CutError(httpx2.StreamError):
        """Signals an answer that ended in the middle."""

    class Body(httpx2.AsyncByteStream):
        """The body of an answer: one in JSON up to a limit, one in events as it comes."""

        def __init__(self, inner: httpx2.AsyncByteStream, is_json: bool) -> None:
            self._inner = inner
            self._is_json = is_json

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size, record = 0, current_record.get()
            try:
                async for piece in self._inner:
                    ended = -1 if self._is_json else piece.rfind(_END_OF_EVENT)
                    size = size + len(piece) if ended < 0 else len(piece) - ended
                    if size > MOST_OF_A_MESSAGE:
                        if record is not None:
                            record.too_large = True
                        if self._is_json:
                            raise TooLargeError("the answer is too large")
                    yield piece  # of too large an event the SDK takes no more
            except httpx2.TransportError as error:
                if record is not None:
                    record.problem = _words(error)
                lost.set()
                if not self._is_json:
                    raise
                raise CutError("the answer ended in the middle") from error

        async def aclose(self) -> None:
            await self._inner.aclose()

    class Client(httpx2.AsyncClient):
        """Keeps with the call why its request failed.

        In the SDK an error of the transport ends the whole connection, with all its calls; here it becomes an answer
        that fails the one request it belongs to.
        """

        async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
            record = current_record.get()
            try:
                response = await super().send(request, **options)
            except httpx2.TransportError as error:
                if record is not None:
                    not_sent = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol)
                    record.was_sent = not isinstance(error, not_sent)
                    record.problem = _words(error)
                lost.set()
                return httpx2.Response(503, request=request, stream=_Empty())
            if (packed := response.headers.get("content-encoding", "").strip().lower()) not in ("", "identity"):
                # A few bytes could unpack to more than there is room for.
                await response.aclose()
                if record is not None:
                    record.problem = f"its answer is compressed ({packed[:40]}), which was not asked for"
                return httpx2.Response(503, request=request, stream=_Empty())
            if response.status_code >= 400 and request.method == "POST":
                if record is not None:
                    record.status = response.status_code
                    record.headers = response.headers
                if response.status_code == 404 and "mcp-session-id" in request.headers:
                    lost.set()  # it forgot our session
            if request.method != "GET":
                assert isinstance(response.stream, httpx2.AsyncByteStream)
                kind = response.headers.get("content-type", "").lower()
                is_stream = response.is_success and kind.startswith("text/event-stream")
                response.stream = Body(response.stream, is_json=not is_stream)
            return response

    class _Empty(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in list[bytes]():
                yield piece

    return Client(
        headers={name: value for name, value in spec.headers.items() if name.lower() != "accept-encoding"}
        | {"Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
    )


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
