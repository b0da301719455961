"""What an MCP server says beside its answers, kept in a file of bounded size."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path

from stepchain_tui.core.secrets import Redactor

LARGEST = 5 * 1024 * 1024
"""Bytes after which the file starts anew."""
_LONGEST_LINE = 16_384
_LAST_LINES = 20


class ServerLog:
    """The file that gets a server's stderr, its stray output and its log messages outside of calls.

    Written line by line, secrets taken out; nobody but the user may read it. A file that cannot be written is no
    reason to fail a call: the lines are then lost.

    Args:
        path: The file, whose folder is made; None for none, of which only the last lines are known.
        redactor: Takes out what may not be shown.
    """

    def __init__(self, path: Path | None, redactor: Redactor) -> None:
        self.path = path
        self._redactor = redactor
        self._descriptor: int | None = None
        self._size = 0
        self._torn = b""
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    @property
    def last_line(self) -> str:
        """The last line of the server's own that says something, cut to a length that fits into a message."""
        for line in reversed(self._last):
            if line.strip():
                return line.strip()[:300]
        return ""

    def take(self, data: bytes) -> None:
        """Keep a piece of output; its last line is held back until it ends or grows too long."""
        *lines, torn = (self._torn + data).split(b"\n")
        if len(torn) > _LONGEST_LINE:
            lines.append(torn)
            torn = b""
        self._torn = torn
        self._keep([line[:_LONGEST_LINE].decode("utf-8", "replace") for line in lines])

    def say(self, text: str) -> None:
        """Keep some lines that are ours."""
        self._keep([line[:_LONGEST_LINE] for line in text.splitlines() or [""]], ours=True)

    def flush(self) -> None:
        """Keep what has no line end yet."""
        if self._torn:
            self.take(b"\n")

    def forget_lines(self) -> None:
        """Begin anew with `last_line`: what comes belongs to a new process."""
        self._last.clear()

    def close(self) -> None:
        """Close the file; may be called again."""
        self.flush()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _keep(self, lines: list[str], *, ours: bool = False) -> None:
        if not lines:
            return
        shown = [self._redactor.text(line) for line in lines]
        if not ours:
            self._last.extend(shown)
        data = "".join(f"{line}\n" for line in shown).encode("utf-8", "replace")
        with contextlib.suppress(OSError):
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self.path is None:
            return
        if self._descriptor is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self.path, flags, 0o600)
            self._size = os.fstat(self._descriptor).st_size
        if self._size + len(data) > LARGEST:
            os.ftruncate(self._descriptor, 0)
            data = b"... the file had grown too large and starts anew\n" + data
            self._size = 0
        os.write(self._descriptor, data)
        self._size += len(data)
