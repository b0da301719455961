"""Reading logs by place: any page of a million lines costs what the first one costs."""

from __future__ import annotations

from typing import Any

from stepchain_tui.store.base import LogLine
from stepchain_tui.store.migrations import SHIFT
from stepchain_tui.store.reader import LOG_COLUMNS, Reader, log_line

_SPAN = 1 << SHIFT

_FIRST_AFTER = """
WITH RECURSIVE halves (low, high) AS (
    SELECT ?1, ?2
    UNION ALL
    SELECT iif((SELECT id FROM logs WHERE place = (low + high) / 2) <= ?3, (low + high) / 2 + 1, low),
           iif((SELECT id FROM logs WHERE place = (low + high) / 2) <= ?3, high, (low + high) / 2)
    FROM halves WHERE low < high
)
SELECT low FROM halves WHERE low >= high
"""
"""The first place from ?1 on, ?2 at most, whose line has an id over ?3: ids grow with places within a step."""


class LogReader:
    """Reads the log lines of runs through a reader's connection."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def lines(
        self,
        run_id: str,
        *,
        step_id: str | None,
        attempt: int | None,
        item: int | None,
        after: int,
        before: int | None,
        limit: int,
        newest: bool,
    ) -> list[LogLine]:
        """Return log lines by number; see `AbstractStore.read_log`."""
        key = await self._reader.key(run_id)
        base = key << SHIFT
        low, high = base + after, base + (_SPAN if before is None else before)
        where, values, order = ["logs.id > ?", "logs.id < ?"], [low, high], "logs.id"
        if step_id is not None:
            span = await self._places(key, step_id, attempt, item)
            if span is None:
                return []
            first, end = span
            if after:
                first = await self._first_after(first, end, low)
            if before is not None:
                end = await self._first_after(first, end, high - 1)
            where, values, order = ["logs.place >= ?", "logs.place < ?"], [first, end], "logs.place"
        if attempt is not None:
            where.append("log_sources.attempt = ?")
            values.append(attempt)
        if item is not None:
            where.append("log_sources.item = ?")
            values.append(item)
        rows = await self._reader.fetch(
            f"SELECT {LOG_COLUMNS} WHERE {' AND '.join(where)} ORDER BY {order} {'DESC' if newest else ''} LIMIT ?",
            (*values, limit),
        )
        lines = [log_line(row) for row in rows]
        return lines[::-1] if newest else lines

    async def count(self, run_id: str, *, step_id: str | None, attempt: int | None) -> int:
        """Return how many lines there are, without counting them."""
        key = await self._reader.key(run_id)
        if step_id is None and attempt is None:
            rows = await self._reader.fetch("SELECT log_lines FROM runs WHERE key = ?", (key,))
        elif attempt is None:
            rows = await self._reader.fetch(
                "SELECT coalesce(sum(lines), 0) FROM log_steps WHERE run = ? AND step_id = ?", (key, step_id)
            )
        else:
            rows = await self._reader.fetch(
                "SELECT coalesce(sum(log_sources.lines), 0) FROM log_sources JOIN log_steps "
                "ON log_steps.id = log_sources.step WHERE run = ?1 AND (?2 IS NULL OR step_id = ?2) AND attempt = ?3",
                (key, step_id, attempt),
            )
        return int(rows[0][0])

    async def page(self, run_id: str, *, step_id: str, attempt: int | None, offset: int, limit: int) -> list[LogLine]:
        """Return the lines at positions of a step's log; see `AbstractStore.read_log_page`.

        Only where the lines of several attempts are mixed (items of one map, on different tries) those before
        `offset` are walked over; everywhere else the place is computed.
        """
        key = await self._reader.key(run_id)
        span = await self._places(key, step_id, attempt, None)
        if span is None or limit <= 0:
            return []
        first, end = span
        mixed = attempt is not None and end - first != await self.count(run_id, step_id=step_id, attempt=attempt)
        if mixed:
            sql = (
                f"SELECT {LOG_COLUMNS} WHERE logs.place >= ? AND logs.place < ? AND log_sources.attempt = ? "
                "ORDER BY logs.place LIMIT ? OFFSET ?"
            )
            values: tuple[Any, ...] = (first, end, attempt, limit, offset)
        else:
            sql = f"SELECT {LOG_COLUMNS} WHERE logs.place >= ? AND logs.place < ? ORDER BY logs.place"
            values = (first + offset, min(first + offset + limit, end))
        return [log_line(row) for row in await self._reader.fetch(sql, values)]

    async def _places(self, key: int, step_id: str, attempt: int | None, item: int | None) -> tuple[int, int] | None:
        """Return the places that the wanted lines of a step lie between, the second one excluded."""
        rows = await self._reader.fetch(
            "SELECT log_steps.id, min(first), max(last) FROM log_steps JOIN log_sources "
            "ON log_sources.step = log_steps.id WHERE run = ?1 AND step_id = ?2 AND log_sources.lines > 0 "
            "AND (?3 IS NULL OR attempt = ?3) AND (?4 IS NULL OR item = ?4) GROUP BY log_steps.id",
            (key, step_id, attempt, item),
        )
        if not rows:
            return None
        step, first, last = rows[0]
        return (step << SHIFT) + first, (step << SHIFT) + last + 1

    async def _first_after(self, first: int, end: int, line_id: int) -> int:
        rows = await self._reader.fetch(_FIRST_AFTER, (first, end, line_id))
        return int(rows[0][0])
