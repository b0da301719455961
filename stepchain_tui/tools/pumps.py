"""The read end of a pipe on the event loop: bounded reads, text that is always valid, nothing kept.

One read of 64 KiB for each turn of the loop, so that a child that prints 100 MB gets its fair share of the loop and
no more; what the reader does not take in time stays in the pipe and holds the child back.
"""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import Callable

CHUNK = 65_536
_LEFT_AT_END = 16
"""Reads at most when a pipe is emptied at the end of a call: a background child may write on forever."""


class PipePump:
    """Reads a pipe until its end and hands on what comes, as bytes.

    Args:
        descriptor: The read end; closed by `close`.
        take: Called on the loop with each piece of 1 to 65,536 bytes.

    Attributes:
        ended: Done when the write end is closed everywhere, or when `close` was called.
    """

    def __init__(self, descriptor: int, take: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._take = take
        self.ended: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._read)

    def empty(self) -> None:
        """Take what is in the pipe now, without waiting for more."""
        for _ in range(_LEFT_AT_END):
            if self.ended.done() or not self._read():
                return

    def close(self) -> None:
        """Stop reading and close the read end; may be called again."""
        if self._descriptor < 0:
            return
        if not self._loop.is_closed():
            self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        if not self.ended.done() and not self._loop.is_closed():
            self.ended.set_result(None)

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        self._take(data)
        return True


class TextStream:
    """Turns pieces of bytes into pieces of text: UTF-8, what is not is replaced, characters are never torn."""

    __slots__ = ("_decoder", "_log", "_stream")

    def __init__(self, stream: str, log: Callable[[str, str], None]) -> None:
        self._stream = stream
        self._log = log
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, data: bytes) -> None:
        """Log the text of some bytes."""
        text = self._decoder.decode(data)
        if text:
            self._log(self._stream, text)

    def finish(self) -> None:
        """Log what is left of a torn character at the end."""
        text = self._decoder.decode(b"", final=True)
        if text:
            self._log(self._stream, text)
