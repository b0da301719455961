"""What functions print in our own process: caught where it belongs to a call, passed through where it does not.

A proxy stands for `sys.stdout` and `sys.stderr`. It asks a context variable whose call is printing; threads and tasks
that belong to no call reach the real stream. Threads that a function starts itself have no call (before Python 3.14
they inherit no context) and pass through. Writes to the descriptors 1 and 2 by C code are caught in mode process only.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TextIO, cast

LINE_LIMIT = 65_536
"""Characters of a line without an end that are kept back at most."""
_IN_FLIGHT = 131_072
"""Characters that may wait for the loop before a printing thread has to wait."""

_Log = Callable[[str, str], None]


class CallOutput:
    """What one call prints, handed on in whole lines.

    Args:
        log: Takes a stream's name and text; called on the loop's thread when there is a relay, else where it prints.
        relay: Carries text from a thread to the loop, or None when the call runs on the loop itself.
    """

    __slots__ = ("_closed", "_log", "_parts", "_relay")

    def __init__(self, log: _Log, relay: LoopRelay | None = None) -> None:
        self._log = log
        self._relay = relay
        self._parts: dict[str, list[str]] | None = None
        self._closed = False

    def write(self, stream: str, text: str) -> None:
        """Take some text; it is handed on when its line ends or grows too long."""
        if self._closed or not text:
            return
        if self._parts is None:
            self._parts = {}
        kept = self._parts.setdefault(stream, [])
        end = text.rfind("\n") + 1
        if end:
            kept.append(text[:end])
            self._hand_on(stream, "".join(kept))
            kept.clear()
            text = text[end:]
        if text:
            kept.append(text)
            if sum(map(len, kept)) > LINE_LIMIT:
                self._hand_on(stream, "".join(kept))
                kept.clear()

    def flush(self) -> None:
        """Hand on lines that have no end yet."""
        for stream, kept in (self._parts or {}).items():
            if kept:
                self._hand_on(stream, "".join(kept))
                kept.clear()

    def close(self) -> None:
        """Drop what is printed later under this call."""
        self._closed = True

    def _hand_on(self, stream: str, text: str) -> None:
        for start in range(0, len(text), LINE_LIMIT):
            piece = text[start : start + LINE_LIMIT]
            if self._relay is None:
                self._log(stream, piece)
            else:
                self._relay.send(self._log, stream, piece)


class LoopRelay:
    """Brings text from threads to the loop: one wake-up for many lines, and at most 128 K characters on the way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._waiting: deque[tuple[_Log, str, str]] = deque()
        self._size = 0
        self._scheduled = False
        self._room = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many characters are on the way."""
        return self._size

    def send(self, log: _Log, stream: str, text: str) -> None:
        """Have `log(stream, text)` called on the loop; waits while too much is on the way."""
        with self._room:
            if threading.get_ident() != self._loop_thread:
                while self._size > _IN_FLIGHT and not self._loop.is_closed():
                    self._room.wait(timeout=1.0)
            self._waiting.append((log, stream, text))
            self._size += len(text)
            if not self._scheduled:
                self._scheduled = True
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads the log any more
                    self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        with self._room:
            batch, self._waiting, self._size, self._scheduled = self._waiting, deque(), 0, False
            self._room.notify_all()
        for log, stream, text in batch:
            log(stream, text)


_current: ContextVar[CallOutput | None] = ContextVar("stepchain_call_output", default=None)


def current_output() -> ContextVar[CallOutput | None]:
    """Return the variable that holds whose call is printing."""
    return _current


class _RoutedStream(io.TextIOBase):
    """Stands for one of the two streams; what it does not know it asks the real one."""

    def __init__(self, stream: str, real: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self.real = real

    def write(self, text: str) -> int:
        output = _current.get()
        if output is None:
            return self.real.write(text)
        output.write(self.stream, text)
        return len(text)

    def flush(self) -> None:
        output = _current.get()
        if output is not None:
            output.flush()
        elif not self.real.closed:
            self.real.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return _current.get() is None and self.real.isatty()

    def fileno(self) -> int:
        return self.real.fileno()

    def close(self) -> None:
        """Stay open: the real stream is not ours."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.real, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return getattr(self.real, "errors", None)

    @property
    def buffer(self) -> Any:
        output = _current.get()
        return self.real.buffer if output is None else _RoutedBytes(self.stream, output)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class _RoutedBytes(io.RawIOBase):
    """`sys.stdout.buffer` of a call."""

    def __init__(self, stream: str, output: CallOutput) -> None:
        super().__init__()
        self._stream, self._output = stream, output

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._output.write(self._stream, bytes(data).decode("utf-8", "replace"))
        return len(data)


class OutputRouter:
    """Puts the proxies in place while at least one pool needs them."""

    _lock = threading.Lock()
    _users = 0

    def __init__(self) -> None:
        self._installed = False

    def install(self) -> None:
        """Route `sys.stdout` and `sys.stderr` from now on; may be called again."""
        if self._installed and isinstance(sys.stdout, _RoutedStream):
            return
        with self._lock:
            if not self._installed:
                OutputRouter._users += 1
                self._installed = True
            for name in ("stdout", "stderr"):
                real = getattr(sys, name)
                if real is not None and not isinstance(real, _RoutedStream):
                    setattr(sys, name, cast(TextIO, _RoutedStream(name, real)))

    def remove(self) -> None:
        """Put the real streams back when no other pool needs the proxies; may be called again."""
        with self._lock:
            if not self._installed:
                return
            self._installed = False
            OutputRouter._users -= 1
            if OutputRouter._users:
                return
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if isinstance(stream, _RoutedStream):
                    setattr(sys, name, stream.real)
