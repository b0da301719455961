"""What an MCP server says beside its answers, kept in a file of bounded size."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Container
from itertools import chain, count
from pathlib import Path

from stepchain_tui.core.secrets import Redactor
from stepchain_tui.store.gate import Gate

LARGEST = 5 * 1024 * 1024
"""Bytes after which the file starts anew."""
_LONGEST_LINE = 16_384
_LAST_LINES = 20
_LONGEST_FORM = 6
"""Characters of one character of a secret at most, as JSON escapes it."""


class ServerLog:
    """The file that gets a server's stderr, its stray output and its log messages outside of calls.

    Written line by line, secrets taken out before a long line is cut; nobody but the user may read it. A file that
    cannot be written is no reason to fail a call: the lines are then lost.

    Args:
        path: The file, whose folder is made; None for none, of which only the last lines are known.
        redactor: Knows what may not be shown; `hide` tells of more.
    """

    def __init__(self, path: Path | None, redactor: Redactor) -> None:
        self.path = path
        self._secrets: dict[str, str] = {}
        self._gate = Gate(redactor)
        self._beyond = 0
        self.hide(redactor)
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

    def hide(self, redactor: Redactor) -> None:
        """Take out from now on what this redactor knows, too: who shares a server has secrets of their own."""
        known = set(self._secrets.values())
        more = {secret: name for secret, name in redactor.names.items() if secret not in known}
        if not more:
            return
        for secret, name in more.items():
            self._secrets[_free_name(name, self._secrets)] = secret
        self._gate = Gate(Redactor(self._secrets))
        self._beyond = _LONGEST_FORM * max(map(len, self._secrets.values()))

    def clean(self, text: str) -> str:
        """Return a text without secrets, cut to the length of a line."""
        window = text[: _LONGEST_LINE + self._beyond]
        shown = self._gate.text(window)
        if len(window) < len(text):  # its end may be the beginning of a secret
            shown = shown[: max(0, len(shown) - self._beyond)]
        return shown[:_LONGEST_LINE]

    def take(self, data: bytes) -> None:
        """Keep a piece of output; its last line is held back until it ends, and of a long one only the beginning."""
        most = 4 * (_LONGEST_LINE + self._beyond + 1)  # bytes of so many characters
        lines = data.split(b"\n")
        lines[0] = self._torn + lines[0][:most]
        self._torn = lines.pop()[:most]
        self._keep([self.clean(line[:most].decode("utf-8", "replace")) for line in lines])

    def say(self, text: str) -> None:
        """Keep some lines that are ours."""
        self._keep([self.clean(line) for line in text.splitlines() or [""]], ours=True)

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
        if not ours:
            self._last.extend(lines)
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
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


def _free_name(name: str, taken: Container[str]) -> str:
    """Return a name that tells two secrets of the same name apart."""
    numbered = (f"{name} {number}" for number in count(2))
    return next(one for one in chain((name,), numbered) if one not in taken)
