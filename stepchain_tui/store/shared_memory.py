"""What runs share, without a disk: the part of `MemoryStore` that `shared` is of `SQLiteStore`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from stepchain_tui.core.values import decode_json
from stepchain_tui.run.values import BlobReference
from stepchain_tui.store.records import CACHE_LIMIT, CacheEntry, ToolRecord
from stepchain_tui.store.shared import CacheRow, SharedRows, cache_entry
from stepchain_tui.store.tool_records import ToolRow, added, tool_record

_HASH = re.compile(rb'\\?"sha256\\?":\\?"([0-9a-f]{64})')


def hashes_in(lines: Iterable[bytes]) -> set[str]:
    """Return the hashes of all files that lines refer to."""
    return {found.decode() for line in lines for found in _HASH.findall(line)}


class SharedMemory:
    """Keeps the cache, the circuit breakers and the records of tools."""

    def __init__(self) -> None:
        self._cache: dict[str, CacheRow] = {}
        """In the order of writing."""
        self._used: dict[str, None] = {}
        """The same keys, in the order of use."""
        self._breakers: dict[str, str] = {}
        self._tools: list[ToolRow] = []

    def store(self, rows: SharedRows) -> None:
        """Take the rows of a batch."""
        self._breakers.update(rows.breakers)
        if rows.tools:
            self._tools = added([*self._tools, *rows.tools])
        for key in rows.used:
            if key in self._cache:
                self._use(key)
        for row, _ in rows.cache:
            key = row[0]
            self._cache.pop(key, None)
            self._cache[key] = row
            self._use(key)
        for key in list(self._used)[: max(0, len(self._used) - CACHE_LIMIT)]:
            del self._cache[key], self._used[key]

    def _use(self, key: str) -> None:
        self._used.pop(key, None)
        self._used[key] = None

    def find(self, key: str) -> CacheEntry | None:
        """Return the entry of that key, or None."""
        row = self._cache.get(key)
        return None if row is None else cache_entry(row)

    def last(self, scope: str) -> CacheEntry | None:
        """Return the newest entry of a step, or None."""
        rows = [row for row in reversed(self._cache.values()) if row[1] == scope]
        return cache_entry(max(rows, key=lambda row: row[-1])) if rows else None

    def rows(self) -> SharedRows:
        """Return all there is; entries of the cache in the order of use."""
        cache: list[tuple[CacheRow, tuple[BlobReference, ...]]] = [(self._cache[key], ()) for key in self._used]
        return SharedRows(cache, [], sorted(self._breakers.items()), sorted(self._tools))

    def hashes(self) -> set[str]:
        """Return the hashes of all files that entries of the cache refer to."""
        return hashes_in(row[5].encode() for row in self._cache.values())

    def clear(self) -> int:
        """Forget all entries and return how many there were."""
        cleared = len(self._cache)
        self._cache.clear()
        self._used.clear()
        return cleared

    def breakers(self) -> dict[str, dict[str, Any]]:
        """Return what is kept of each circuit breaker, by name."""
        return {name: decode_json(record) for name, record in sorted(self._breakers.items())}

    def tools(self) -> list[ToolRecord]:
        """Return how each tool did, by name."""
        return [tool_record(row) for row in sorted(self._tools)]
