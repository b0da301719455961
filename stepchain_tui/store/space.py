"""How much room runs take in a SQLite store, what deleting some of them would free, and giving it back."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stepchain_tui.core.errors import StoreError
from stepchain_tui.run.events import decode_event
from stepchain_tui.store import locks
from stepchain_tui.store.connect import connect_writer
from stepchain_tui.store.migrations import SHIFT
from stepchain_tui.store.reader import Reader
from stepchain_tui.store.rows import files_of

_SPAN = 1 << SHIFT
_EVENT_EXTRA, _LINE_EXTRA = 24, 60
"""Bytes of a row and of what indexes it, beside its text."""
_WORTH = 1_000_000
"""Free bytes within the file below which it is not written anew: they are used again."""


@dataclass(slots=True)
class RunSize:
    """How much of the store a run takes.

    Attributes:
        rows: Bytes of its events and log lines, about.
        values: Name of each file beside the store -> how often the run refers to it.
    """

    rows: int
    values: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class StoreSize:
    """How much a store takes.

    Attributes:
        rows: Bytes of the file that are in use.
        free: Bytes of the file that are not.
        values: Name of each file beside the store -> its bytes and how often it is referred to.
    """

    rows: int
    free: int
    values: dict[str, tuple[int, int]]

    @property
    def total(self) -> int:
        """Bytes in use."""
        return self.rows + sum(size for size, _ in self.values.values())

    def freed_by(self, runs: Iterable[RunSize]) -> int:
        """Return about how many bytes deleting runs frees; what others refer to as well stays."""
        used: Counter[str] = Counter()
        rows = 0
        for run in runs:
            rows += run.rows
            used.update(run.values)
        values = sum(
            self.values[name][0] for name, uses in used.items() if name in self.values and uses >= self.values[name][1]
        )
        return min(rows, self.rows) + values


async def measure_store(reader: Reader) -> StoreSize:
    """Return how much a store takes."""
    pages, free, size = [(await reader.fetch(f"PRAGMA {name}"))[0][0] for name in _PAGES]
    values = await reader.fetch("SELECT sha256, bytes, uses FROM blobs")
    return StoreSize((pages - free) * size, free * size, {row[0]: (row[1], row[2]) for row in values})


_PAGES = ("page_count", "freelist_count", "page_size")
_WORD_INDEXES = ("log_words", "event_words")


async def measure_runs(reader: Reader, run_ids: Iterable[str]) -> Mapping[str, RunSize]:
    """Return how much each of these runs takes. Raises UnknownRunError."""
    return {run_id: await _measure(reader, await reader.key(run_id)) for run_id in run_ids}


async def _measure(reader: Reader, key: int) -> RunSize:
    span = (key << SHIFT, (key << SHIFT) + _SPAN)
    rows = 0
    for table, column, extra in (("events", "data", _EVENT_EXTRA), ("logs", "text", _LINE_EXTRA)):
        found = await reader.fetch(
            f"SELECT coalesce(sum(length({column}) + {extra}), 0) FROM {table} WHERE id >= ? AND id < ?", span
        )
        rows += int(found[0][0])
    size = RunSize(rows)
    with_values = await reader.fetch(
        'SELECT data FROM events WHERE id >= ? AND id < ? AND instr(data, CAST(\'"sha256":"\' AS BLOB))', span
    )
    for (data,) in with_values:
        with contextlib.suppress(StoreError):
            size.values.update(file.name for file in files_of(decode_event(data)))
    return size


async def give_back(path: Path, lock_folder: Path) -> bool:
    """Write a store's file anew without its free pages, if they are worth it; returns whether that was done.

    While it is written nobody else can write, for as long as that takes: so it is left where another process has
    the store open. The free pages are then used by the next runs.
    """
    return await asyncio.to_thread(locks.while_alone, lock_folder, lambda alone: alone and _vacuum(path))


def _vacuum(path: Path) -> bool:
    connection = connect_writer(path, durability="process")
    try:
        pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _PAGES)
        if free * size < max(_WORTH, pages * size // 10):
            return False
        for words in _WORD_INDEXES:  # what was deleted lies in them as marks until their parts are merged
            connection.execute(f"INSERT INTO {words} ({words}) VALUES ('optimize')")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint (TRUNCATE)").fetchall()
    except sqlite3.Error:  # no room for two copies, or somebody reads: the free pages stay, nothing is lost
        return False
    finally:
        connection.close()
    return True
