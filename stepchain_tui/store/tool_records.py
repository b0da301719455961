"""How each tool did over all runs, counted from `tool.finished` events.

A batch adds what its events say to what is there, one row a tool. What was counted stays when runs are deleted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from stepchain_tui.run.events import ToolFinished
from stepchain_tui.store.gate import Gate
from stepchain_tui.store.moments import micros, moment
from stepchain_tui.store.records import ToolRecord
from stepchain_tui.store.texts import ERROR_PREVIEW, clean_text

CUT_OFF = "the call was ended before it was done"
"""The error of a call that was stopped from outside: what happened to it says nothing of the tool."""
TOOL_COLUMNS = "name, calls, succeeded, failed, seconds, cpu_seconds, cpu_wall_seconds, last_called_at, last_error"
"""What `tool_record` takes."""
ToolRow = tuple[str, int, int, int, float, float, float, int, str]
"""The values of `TOOL_COLUMNS`; the moment in microseconds."""

_ADD = f"""INSERT INTO tools ({TOOL_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
    calls = calls + excluded.calls,
    succeeded = succeeded + excluded.succeeded,
    failed = failed + excluded.failed,
    seconds = seconds + excluded.seconds,
    cpu_seconds = cpu_seconds + excluded.cpu_seconds,
    cpu_wall_seconds = cpu_wall_seconds + excluded.cpu_wall_seconds,
    last_called_at = max(last_called_at, excluded.last_called_at),
    last_error = CASE excluded.last_error WHEN '' THEN last_error ELSE excluded.last_error END"""


def count_call(event: ToolFinished, gate: Gate | None) -> ToolRow:
    """Return what one call adds to the record of its tool, without the secrets that `gate` takes out."""
    name, at = clean_text(event.tool_name), micros(event.at) or 0
    error = None if event.error is None else event.error.message
    if error == CUT_OFF:
        return (name, 1, 0, 0, 0.0, 0.0, 0.0, at, "")
    seconds, computed = event.execution_time, event.cpu_time
    times = (seconds, 0.0, 0.0) if computed is None else (seconds, computed, seconds)
    if error is None:
        return (name, 1, 1, 0, *times, at, "")
    text = clean_text(error if gate is None else gate.text(error))
    return (name, 1, 0, 1, *times, at, text[:ERROR_PREVIEW] or "it failed and did not say why")


def added(rows: Iterable[ToolRow]) -> list[ToolRow]:
    """Return rows with those of the same tool added up, in the order in which their calls ended."""
    sums: dict[str, ToolRow] = {}
    for row in rows:
        before = sums.get(row[0])
        sums[row[0]] = row if before is None else _sum(before, row)
    return list(sums.values())


def _sum(one: ToolRow, later: ToolRow) -> ToolRow:
    return (
        one[0],
        one[1] + later[1],
        one[2] + later[2],
        one[3] + later[3],
        one[4] + later[4],
        one[5] + later[5],
        one[6] + later[6],
        max(one[7], later[7]),
        later[8] or one[8],
    )


def store_tools(cursor: sqlite3.Cursor, rows: Sequence[ToolRow]) -> None:
    """Add rows to the records within the open transaction."""
    cursor.executemany(_ADD, rows)


def tool_record(row: Sequence[Any]) -> ToolRecord:
    """Return a row of `TOOL_COLUMNS` as a record."""
    return ToolRecord(
        name=row[0],
        calls=row[1],
        succeeded=row[2],
        failed=row[3],
        seconds=row[4],
        cpu_seconds=row[5],
        cpu_wall_seconds=row[6],
        last_called_at=moment(row[7]),
        last_error=row[8],
    )
