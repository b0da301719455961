"""What travels between an engine and its pilots: tuples of plain values, many in one message where they come fast.

To a pilot: `("call", number, request)`, `("stop", number)`, `("taken", bytes)`, `("go",)`. From a pilot:
`("begun", number, pid)`, `("out", number, 0 or 1, bytes)`, `("reply", number, tag, bytes)` with the frames of
`tools.wire`, `("warn", number, text)`, `("ended", number)`. Calls travel as bytes that only the worker's
child process unpickles; what comes back is JSON and text, and nothing of it is unpickled.
"""

from __future__ import annotations

import asyncio
from typing import Any

OPERATION = "stepchain-calls"
"""What an engine asks a worker for when it connects to a pilot."""
TOPIC = "stepchain-pilots"
"""Where pilots tell that they are there."""
_BATCH_BYTES = 1_000_000
_SMALL = 64
"""Bytes that a message counts for beside its payload."""

Message = tuple[Any, ...]


class ChannelClosedError(Exception):
    """Signals that the other side is gone."""


class Channel:
    """A connection of Dask's on which both sides speak when they like.

    Args:
        comm: The connection (`distributed.comm.Comm`), which must not unpickle what it reads.

    Attributes:
        refused: Why a message of ours could not be written at all, which closes the connection; else None.
    """

    def __init__(self, comm: Any) -> None:
        self.refused: Exception | None = None
        self._comm = comm
        self._outgoing: list[Message] = []
        self._wake = asyncio.Event()
        self._writer = asyncio.ensure_future(self._write())

    def send(self, *message: Any) -> None:
        """Send a message after those before it; nothing when the other side is gone."""
        self._outgoing.append(message)
        self._wake.set()

    async def read(self) -> list[Message]:
        """Return the messages that have come.

        Raises:
            ChannelClosedError: The other side is gone, or sends what is no message.
        """
        from distributed.comm.core import CommClosedError

        try:
            found = await self._comm.read()
        except (CommClosedError, OSError) as error:
            raise ChannelClosedError(str(error)) from error
        if not isinstance(found, list | tuple) or not all(isinstance(one, list | tuple) and one for one in found):
            raise ChannelClosedError("it does not speak as we do")
        return [tuple(one) for one in found]

    def abort(self) -> None:
        """Close at once; may be called again."""
        self._writer.cancel()
        self._comm.abort()

    async def closed(self) -> None:
        """Return when nothing is written any more, after `abort`."""
        await asyncio.wait([self._writer])

    async def _write(self) -> None:
        from distributed.comm.core import CommClosedError

        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._outgoing:
                    await self._comm.write(self._batch(), serializers=("dask",))
        except (CommClosedError, OSError):
            return  # the reader learns of it too, and tells
        except Exception as error:  # noqa: BLE001 - what a message is made of may fail in any way; nobody may wait for it
            self.refused = error
            self._comm.abort()

    def _batch(self) -> list[Message]:
        """Take what may go out in one message: a pause between two lets the other side's words come through."""
        size, count = 0, 0
        for message in self._outgoing:
            size += weight(message[-1])
            count += 1
            if size > _BATCH_BYTES:
                break
        batch = self._outgoing[:count]
        del self._outgoing[:count]
        return batch


def weight(payload: Any) -> int:
    """Return how many bytes a message with this payload counts for, on both sides."""
    return _SMALL + (len(payload) if isinstance(payload, bytes) else 0)
