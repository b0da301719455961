"""One output stream of a command: all of it to the log, its beginning to the output, its end to an error."""

from __future__ import annotations

from collections.abc import Callable

from stepchain_tui.tools.pumps import TextStream

OUTPUT_LIMIT = 1_000_000
"""Bytes of a stream that the step's output keeps."""
TAIL_LIMIT = 4_000
"""Bytes of a stream that an error keeps."""


class Capture:
    """Keeps a bounded part of a stream and logs the whole.

    Args:
        stream: `stdout` or `stderr`.
        log: Takes the stream's name and text.
    """

    def __init__(self, stream: str, log: Callable[[str, str], None]) -> None:
        self._text = TextStream(stream, log)
        self._head = bytearray()
        self._tail = b""
        self.truncated = False

    def take(self, data: bytes) -> None:
        """Take the next piece."""
        room = OUTPUT_LIMIT - len(self._head)
        if room > 0:
            self._head += data[:room]
        self.truncated = self.truncated or len(data) > room
        self._tail = (self._tail + data)[-TAIL_LIMIT:]
        self._text.take(data)

    def finish(self) -> None:
        """Log what is left of a torn character."""
        self._text.finish()

    def text(self) -> str:
        """Return the beginning of the stream; a character torn by the cut is left out."""
        text = self._head.decode("utf-8", "replace")
        return text.rstrip("�") if self.truncated and text.endswith("�") else text

    def tail(self) -> str:
        """Return the end of the stream."""
        return self._tail.decode("utf-8", "replace").lstrip("�")
