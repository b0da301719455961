"""Holds back a server that sends more messages than anybody reads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, TransportStreams
    from mcp.shared.message import SessionMessage

BURST = 2_000
"""Messages that are no answers and are taken at once."""
PER_SECOND = 500
"""Messages that are no answers and are taken in a second, in the long run."""
_TOOLS_CHANGED = "notifications/tools/list_changed"
_CHANGES_APART = 1.0
"""Seconds between two times that we take note of other tools."""


class GatedTransport:
    """A transport (`mcp.client.Transport`) whose messages are dropped beyond a rate, but for answers.

    Each would become a task, a log line, an event or an answer of ours. Those that say that the tools are others now
    end here: many of them are told as one.

    Args:
        inner: The transport.
        on_dropped: Told how many messages were dropped, when an answer passes, once a second and at the end.
        on_tools_changed: Told that the tools are others now, at once and then once a second at most.
    """

    def __init__(self, inner: Any, on_dropped: Callable[[int], None], on_tools_changed: Callable[[], None]) -> None:
        self._inner = inner
        self._on_dropped = on_dropped
        self._changes = _Changes(on_tools_changed)

    async def __aenter__(self) -> TransportStreams:
        read, write = await self._inner.__aenter__()
        return _GatedStream(read, self._on_dropped, self._changes.notice), write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._changes.close()
        await self._inner.__aexit__(kind, error, trace)


class _Changes:
    """Tells of changes at once, and of those that follow soon as one."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell
        self._pause: asyncio.TimerHandle | None = None
        self._is_owed = False

    def notice(self) -> None:
        """Take note of one more change."""
        if self._pause is not None:
            self._is_owed = True
            return
        self._pause = asyncio.get_running_loop().call_later(_CHANGES_APART, self._go_on)
        self._tell()

    def close(self) -> None:
        """Tell nothing any more."""
        if self._pause is not None:
            self._pause.cancel()

    def _go_on(self) -> None:
        self._pause, was_owed, self._is_owed = None, self._is_owed, False
        if was_owed:
            self.notice()


class _GatedStream:
    def __init__(
        self,
        inner: ReadStream[SessionMessage | Exception],
        on_dropped: Callable[[int], None],
        on_tools_changed: Callable[[], None],
    ) -> None:
        self._inner = inner
        self._on_dropped = on_dropped
        self._on_tools_changed = on_tools_changed
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
        method = getattr(getattr(item, "message", None), "method", None)
        if method is None:
            self._tell()  # an answer: what was dropped belongs to the call that ends now
            return True
        if method == _TOOLS_CHANGED:
            self._on_tools_changed()
            return False
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
