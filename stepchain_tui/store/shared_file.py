"""What runs share as a file of JSON lines: the cache, circuit breakers and records of tools of a `JSONLStore`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from stepchain_tui.store.journal import Appender, Place, appending, framed, read_batches
from stepchain_tui.store.shared import CacheRow, SharedRows
from stepchain_tui.store.shared_memory import SharedMemory
from stepchain_tui.store.tool_records import ToolRow


class SharedLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one batch has for all runs.

    Attributes:
        cleared: Whether all entries of the cache went first.
        cache: Entries of the cache.
        used: Keys of entries that were taken over.
        breakers: `(name, JSON)`.
        tools: What is added to the records of tools.
    """

    cleared: bool = False
    cache: list[CacheRow] = []
    used: list[str] = []
    breakers: list[tuple[str, str]] = []
    tools: list[ToolRow] = []


_lines = msgspec.json.Decoder(SharedLine)


class SharedFile:
    """The file and what it adds up to.

    Args:
        path: The file; it may not exist.
        sync: Whether what was appended must survive a power cut.
    """

    def __init__(self, path: Path, *, sync: bool) -> None:
        self._path = path
        self._sync = sync
        self._place = Place()
        self.memory = SharedMemory()

    def refresh(self) -> None:
        """Read what is new. Raises OSError."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._place, self.memory = Place(), SharedMemory()
            return
        if self._place.is_seen(status):
            return
        if not self._place.goes_on(self._path, status):
            self._place, self.memory = Place(), SharedMemory()
        self._place.see(status)
        for batch in read_batches(self._path, self._place):
            for line in batch:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            found = _lines.decode(line)
        except (msgspec.DecodeError, ValueError):
            return  # a damaged entry is one that has to be made again
        if found.cleared:
            self.memory.clear()
        self.memory.store(SharedRows([(row, ()) for row in found.cache], found.used, found.breakers, found.tools))

    @contextmanager
    def appending(self) -> Iterator[Appender]:
        """Hold the file for appending; all that is in it was read, and a cut off end is gone. Raises OSError."""
        with appending(self._path, create=True) as appender:
            self.refresh()
            if appender.size > self._place.offset:
                appender.cut(self._place.offset)
                appender.size = self._place.offset
            yield appender

    def append(self, appender: Appender, rows: SharedRows, *, cleared: bool = False) -> None:
        """Append what a batch has for all runs; it is taken over with the next look. Raises OSError."""
        line = SharedLine(
            cleared=cleared,
            cache=[row for row, _ in rows.cache],
            used=rows.used,
            breakers=rows.breakers,
            tools=rows.tools,
        )
        appender.append(framed([msgspec.json.encode(line)]), sync=self._sync)

    def compact(self) -> None:
        """Write the file anew where most of it was replaced by later lines. Raises OSError."""
        if not self._path.exists():
            return
        with self.appending():
            rows = self.memory.rows()
            cache = [row for row, _ in rows.cache]
            line = msgspec.json.encode(SharedLine(cache=cache, breakers=rows.breakers, tools=rows.tools))
            if self._path.stat().st_size <= 2 * len(line) + 65_536:
                return
            temporary = self._path.with_suffix(".new")
            temporary.unlink(missing_ok=True)
            with appending(temporary, create=True) as anew:
                anew.append(framed([line]), sync=self._sync)
            temporary.replace(self._path)
