"""The HTTP client below the openai package: what a server sends has an end, and goes nowhere else.

Loads httpx2, so that it is imported with the openai package only, when the first request is sent.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx2
import openai

from stepchain_tui.llm.choice import ADDRESS_VARIABLE
from stepchain_tui.llm.openai_stream import EVENT_LIMIT, TooLongError

if TYPE_CHECKING:
    from stepchain_tui.llm.choice import ModelChoice

CONNECT_TIMEOUT = 30.0
"""Seconds for a connection to be made."""
ERROR_LIMIT = 1_000_000
"""Bytes of an answer that is an error which are read."""
_EVENT_ENDS = (b"\n\n", b"\n\r", b"\r\r")
_PLAIN = ("", "identity")


def client_of(choice: ModelChoice) -> openai.AsyncOpenAI:
    """Return a client that follows no redirect, and never holds more of an answer than a result may be large.

    Raises:
        httpx2.InvalidURL: The address cannot be asked.
    """
    parts = urlsplit(choice.base_url)
    timeout = openai.Timeout(None, connect=CONNECT_TIMEOUT)
    # What the address asks for behind `?` belongs behind the path that the package adds to it.
    base_url = urlunsplit(parts._replace(query="", fragment=""))
    client = openai.AsyncOpenAI(
        api_key=choice.api_key,
        base_url=base_url,
        max_retries=0,
        timeout=timeout,
        default_headers={"Accept-Encoding": "identity", **_not_for(choice)},
        default_query=dict(parse_qsl(parts.query)),
        http_client=_Client(base_url=base_url, timeout=timeout, follow_redirects=False),
    )
    if choice.address_from != ADDRESS_VARIABLE:
        client.organization = client.project = None
    return client


def _not_for(choice: ModelChoice) -> dict[str, Any]:
    """Return what keeps the package from sending the environment's headers to an address that is not the user's own."""
    if choice.address_from == ADDRESS_VARIABLE:
        return {}
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    names = [name.strip() for name, colon, _ in (line.partition(":") for line in lines) if colon]
    return dict.fromkeys(names, openai.omit) | {"Authorization": f"Bearer {choice.api_key}"}


class _Client(openai.DefaultAsyncHttpxClient):
    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        response = await super().send(request, **options)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        if response.headers.get("content-encoding", "").strip().lower() in _PLAIN:
            room = None if response.is_success else ERROR_LIMIT
        elif response.is_success:
            await response.aclose()
            raise httpx2.DecodingError("the answer is compressed, which was not asked for", request=request)
        else:
            # A few bytes could unpack to more than there is room for; the status says enough.
            del response.headers["content-encoding"]
            room = 0
        response.stream = _Body(response.stream, room)
        return response


class _Body(httpx2.AsyncByteStream):
    """The body of an answer: of a stream any number of events that each fit, of anything else its beginning.

    Events are not kept as they come, so that only one of them at a time takes memory here.

    Args:
        inner: The body as it comes.
        room: Bytes after which it is cut off; None for a stream of events.
    """

    def __init__(self, inner: httpx2.AsyncByteStream, room: int | None) -> None:
        self._inner = inner
        self._room = room

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, last = 0, b""
        async for piece in self._inner:
            if self._room is not None:
                size += len(piece)
                yield piece[: max(0, len(piece) - (size - self._room))] if size > self._room else piece
                if size >= self._room:
                    return
                continue
            # A line's end right behind another one ends an event, and may have come in two pieces.
            seen = last + piece
            ended = max(seen.rfind(end) for end in _EVENT_ENDS)
            size = size + len(piece) if ended < 0 else len(seen) - ended
            if size > EVENT_LIMIT:
                raise TooLongError
            last = piece[-1:]
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()
