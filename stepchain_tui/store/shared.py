"""What runs share: results in the cache, circuit breakers, and how tools did.

The cache has at most `CACHE_LIMIT` entries. Each has a number that says when it was last written or taken over,
counted in uses, not in seconds; the lowest numbers go first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stepchain_tui.core.values import decode_json, encode_json, to_json_value
from stepchain_tui.run.events import ToolFinished
from stepchain_tui.run.values import BlobReference, Kept
from stepchain_tui.store.gate import Gate
from stepchain_tui.store.moments import micros, moment
from stepchain_tui.store.records import CACHE_LIMIT, Batch, CacheEntry
from stepchain_tui.store.references import count_references, let_go
from stepchain_tui.store.tool_records import ToolRow, added, count_call, store_tools

CACHE_COLUMNS = "key, scope, action, input, code, output, run_id, step_id, attempt, item, created_at"
"""What `cache_entry` takes."""
CacheRow = tuple[str, str, str, str, str, str, str, str, int, int | None, int]
"""The values of `CACHE_COLUMNS`; the output as JSON, the moment in microseconds."""

_NEXT_USE = "(SELECT coalesce(max(used), 0) + 1 FROM cache)"
_INSERT = f"INSERT INTO cache ({CACHE_COLUMNS}, sha256, used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, {_NEXT_USE})"
_LEFT_ALONE = frozenset({"name", "state", "opened_at", "until"})


@dataclass(slots=True)
class SharedRows:
    """All that one batch stores of what runs share."""

    cache: list[tuple[CacheRow, tuple[BlobReference, ...]]] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    breakers: list[tuple[str, str]] = field(default_factory=list)
    """(name, JSON)"""
    tools: list[ToolRow] = field(default_factory=list)
    """What is added to the records, one row a tool."""


def shared_rows(batch: Batch, gates: dict[str, Gate]) -> SharedRows | None:
    """Return the rows of what a batch has for all runs, without secrets; None where it has nothing.

    Args:
        batch: What is written.
        gates: run_id -> its gate; those of all runs are passed by what belongs to none.
    """
    finished: list[ToolFinished] = []
    if not batch.from_elsewhere:
        finished = [event for event in batch.events if type(event) is ToolFinished and not event.replayed]
    if not (finished or batch.cache or batch.cache_used or batch.breakers):
        return None
    made = SharedRows(
        used=list(batch.cache_used), tools=added(count_call(event, gates.get(event.run_id)) for event in finished)
    )
    for entry in batch.cache:
        made.cache.append((_cache_row(entry, gates), entry.output.references))
    for name, record in batch.breakers.items():
        value = to_json_value(record)
        for gate in gates.values():
            value = gate.value(value, _LEFT_ALONE)
        made.breakers.append((name, encode_json(value).decode()))
    return made


def clean_scope(scope: str, gates: dict[str, Gate]) -> str:
    """Return the name of a step as it is stored: without the secrets of any run."""
    for gate in gates.values():
        scope = gate.text(scope)
    return scope


def _cache_row(entry: CacheEntry, gates: dict[str, Gate]) -> CacheRow:
    output = encode_json(to_json_value(msgspec.to_builtins(entry.output, enc_hook=to_json_value)))
    if (gate := gates.get(entry.run_id)) is not None and gate.hit(output):
        output = encode_json(gate.kept(decode_json(output)))
    return (
        entry.key,
        clean_scope(entry.scope, gates),
        entry.action,
        entry.input,
        entry.code,
        output.decode(),
        entry.run_id,
        entry.step_id,
        entry.attempt,
        entry.item,
        micros(entry.created_at) or 0,
    )


def cache_entry(row: Sequence[Any]) -> CacheEntry:
    """Return a row of `CACHE_COLUMNS` as an entry."""
    return CacheEntry(
        key=row[0],
        scope=row[1],
        action=row[2],
        input=row[3],
        code=row[4],
        output=msgspec.json.decode(row[5], type=Kept),
        run_id=row[6],
        step_id=row[7],
        attempt=row[8],
        item=row[9],
        created_at=moment(row[10]),
    )


def store_shared(cursor: sqlite3.Cursor, rows: SharedRows) -> list[str]:
    """Store rows within the open transaction; return the names of the files that nothing refers to now.

    The cache's column `sha256` has the names of all files of an entry, with blanks between them.
    """
    if rows.tools:
        store_tools(cursor, rows.tools)
    if rows.breakers:
        cursor.executemany(
            "INSERT INTO breakers VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET record = excluded.record",
            rows.breakers,
        )
    for key in rows.used:
        cursor.execute(f"UPDATE cache SET used = {_NEXT_USE} WHERE key = ?", (key,))
    if not rows.cache:
        return []
    count_references(cursor, [reference for _, references in rows.cache for reference in references])
    gone: list[tuple[str | None]] = []
    for row, references in rows.cache:
        gone += cursor.execute("DELETE FROM cache WHERE key = ? RETURNING sha256", (row[0],)).fetchall()
        cursor.execute(_INSERT, (*row, " ".join(reference.name for reference in references) or None))
    (entries,) = cursor.execute("SELECT count(*) FROM cache").fetchone()
    if entries > CACHE_LIMIT:
        gone += cursor.execute(
            "DELETE FROM cache WHERE number IN (SELECT number FROM cache ORDER BY used LIMIT ?) RETURNING sha256",
            (entries - CACHE_LIMIT,),
        ).fetchall()
    return let_go(cursor, _names(gone))


def _names(gone: list[tuple[str | None]]) -> list[str]:
    return [name for (names,) in gone if names is not None for name in names.split()]


def clear_cache(connection: sqlite3.Connection) -> int:
    """Remove all entries and return how many there were."""
    gone = connection.execute("DELETE FROM cache RETURNING sha256").fetchall()
    let_go(connection.cursor(), _names(gone))
    return len(gone)
