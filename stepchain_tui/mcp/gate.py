"""Holds back a server that sends more messages than anybody reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, TransportStreams
    from mcp.shared.message import SessionMessage

BURST = 2_000
"""Log and progress messages that are taken at once."""
PER_SECOND = 500
"""Log and progress messages a second that are taken in the long run."""
_HELD_BACK = ("notifications/message", "notifications/progress")


class GatedTransport:
    """A transport (`mcp.client.Transport`) whose log and progress messages are dropped beyond a rate.

    Each would become a task, a log line or an event; answers and all other messages pass.

    Args:
        inner: The transport.
        on_dropped: Told how many messages were dropped, when messages pass again and when the stream ends.
    """

    def __init__(self, inner: Any, on_dropped: Callable[[int], None]) -> None:
        self._inner = inner
        self._on_dropped = on_dropped

    async def __aenter__(self) -> TransportStreams:
        read, write = await self._inner.__aenter__()
        return _GatedStream(read, self._on_dropped), write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)


class _GatedStream:
    def __init__(self, inner: ReadStream[SessionMessage | Exception], on_dropped: Callable[[int], None]) -> None:
        self._inner = inner
        self._on_dropped = on_dropped
        self._tokens = float(BURST)
        self._filled_at = time.monotonic()
        self._dropped = 0
        self._told_at = 0.0

    @property
    def last_context(self) -> Any:
        """The context of whoever sent the last message, where the transport keeps it."""
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        while True:
            try:
                item = await self._inner.receive()
            except BaseException:
                self._tell()
                raise
            if self._passes(item):
                return item

    async def aclose(self) -> None:
        await self._inner.aclose()

    def close(self) -> None:
        self._inner.close()  # type: ignore[attr-defined]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        import anyio

        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        await self.aclose()
        return None

    def _passes(self, item: SessionMessage | Exception) -> bool:
        message = getattr(item, "message", None)
        if getattr(message, "method", None) not in _HELD_BACK or hasattr(message, "id"):
            self._tell()  # an answer: what was dropped belongs to the call that ends now
            return True
        now = time.monotonic()
        self._tokens = min(BURST, self._tokens + (now - self._filled_at) * PER_SECOND)
        self._filled_at = now
        if self._tokens < 1:
            self._dropped += 1
            return False
        self._tokens -= 1
        if now - self._told_at >= 1:
            self._tell()
        return True

    def _tell(self) -> None:
        if self._dropped:
            dropped, self._dropped, self._told_at = self._dropped, 0, time.monotonic()
            self._on_dropped(dropped)
