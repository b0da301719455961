"""Finding words in logs, outputs and errors.

Indexing a line costs as much as storing it, so it is not done while a run writes: rows behind a mark (`runs.indexed_*`)
are in the FTS5 tables, those after it are looked through as they are. So a search is always exact, and idle time
makes it fast. A line is a hit when each word of the query begins a word of it, whatever their case.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any

import msgspec

from stepchain_tui.store.migrations import SHIFT
from stepchain_tui.store.reader import Reader, like

_LOW = (1 << SHIFT) - 1
_WORD = re.compile(r"[^\W_]+")
_ENDINGS = {
    "succeeded": ("output", "output"),
    "failed": ("error", "error"),
    "timed_out": ("error", "error"),
    "retry_scheduled": ("error", "error"),
}
_TEXT_LIMIT = 20_000
"""Characters of an output or error that are looked at."""
HIT_LENGTH = 500
"""Characters of a hit's text that are shown."""
CHUNK = 500
"""Rows that are indexed in one go: a few milliseconds."""


class _Found(msgspec.Struct):
    type: str
    step_id: str = ""
    attempt: int = 0
    output: Any = None
    error: Any = None


_found = msgspec.json.Decoder(_Found)


class Query:
    """What is searched for: words, each of which must begin a word of the text."""

    def __init__(self, text: str) -> None:
        self.words = [word.casefold() for word in _WORD.findall(text)]
        self.plain = text.strip()
        self._patterns = [re.compile(rf"(?<![^\W_]){re.escape(word)}", re.IGNORECASE) for word in self.words]

    @property
    def match(self) -> str:
        """The query in FTS5's language."""
        return " ".join(f'"{word}"*' for word in self.words)

    @property
    def likes(self) -> list[str]:
        """LIKE patterns that every hit fits; LIKE folds the case of ASCII only."""
        words = [word for word in self.words if word.isascii()]
        return [like(word) for word in words] if self.words else [like(self.plain)]

    def fits(self, text: str) -> bool:
        """Return whether `text` is a hit."""
        if not self.words:
            return self.plain.casefold() in text.casefold()
        return all(pattern.search(text) for pattern in self._patterns)


def event_text(data: bytes) -> tuple[str, str, str, int]:
    """Return `(kind, text, step id, attempt)` of what can be found in an event; kind is empty where nothing can."""
    kind, field = _ENDINGS.get(data[9:60].split(b'"', 1)[0].rpartition(b".")[2].decode("ascii", "replace"), ("", ""))
    if not kind:
        return "", "", "", 0
    try:
        found = _found.decode(data)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return "", "", "", 0
    value = found.output if field == "output" else found.error
    if field == "error" and isinstance(value, dict):
        text = str(value.get("message", ""))
    elif isinstance(value, dict):
        blob = value.get("blob")
        text = blob.get("preview", "") if isinstance(blob, dict) else words_of(value.get("value"))
    else:
        text = ""
    return (kind, text[:_TEXT_LIMIT], found.step_id, found.attempt) if text else ("", "", "", 0)


def words_of(value: Any) -> str:
    """Return the text of a JSON value as a person reads it: its strings, numbers and keys."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return " ".join(f"{key}: {words_of(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(words_of, value))
    return "" if value is None else str(value)


# --- indexing, within a transaction of the writer


def index_some(connection: sqlite3.Connection, limit: int = CHUNK) -> int:
    """Index up to `limit` log lines and events of the runs that have some left; return how many were looked at."""
    behind = connection.execute(
        "SELECT key, log_lines, indexed_lines, last_seq, indexed_seq FROM runs "
        "WHERE indexed_lines < log_lines OR indexed_seq < last_seq LIMIT 50"
    ).fetchall()
    done = 0
    for key, lines, indexed_lines, last_seq, indexed_seq in behind:
        base = key << SHIFT
        upto = min(lines, indexed_lines + limit - done)
        connection.execute(
            "INSERT INTO log_words (rowid, text) SELECT id, text FROM logs WHERE id > ? AND id <= ?",
            (base + indexed_lines, base + upto),
        )
        done += upto - indexed_lines
        seq = min(last_seq, indexed_seq + max(0, limit - done))
        connection.executemany(
            "INSERT INTO event_words (rowid, text) VALUES (?, ?)", _texts(connection, base, indexed_seq, seq)
        )
        done += seq - indexed_seq
        connection.execute("UPDATE runs SET indexed_lines = ?, indexed_seq = ? WHERE key = ?", (upto, seq, key))
        if done >= limit:
            break
    return done


def _texts(connection: sqlite3.Connection, base: int, after: int, upto: int) -> list[tuple[int, str]]:
    rows = connection.execute("SELECT id, data FROM events WHERE id > ? AND id <= ?", (base + after, base + upto))
    texts = [(row[0], event_text(bytes(row[1]))[1]) for row in rows if isinstance(row[1], bytes)]
    return [(row_id, text) for row_id, text in texts if text]


def unindex(connection: sqlite3.Connection, key: int, indexed_lines: int, indexed_seq: int) -> None:
    """Take a run out of the word indexes; its rows must still be there."""
    base = key << SHIFT
    connection.execute(
        "INSERT INTO log_words (log_words, rowid, text) SELECT 'delete', id, text FROM logs WHERE id > ? AND id <= ?",
        (base, base + indexed_lines),
    )
    connection.executemany(
        "INSERT INTO event_words (event_words, rowid, text) VALUES ('delete', ?, ?)",
        _texts(connection, base, 0, indexed_seq),
    )


# --- searching


async def search(reader: Reader, text: str, run_id: str | None, limit: int) -> list[dict[str, Any]]:
    """Return hits, newest run first; see `AbstractStore.search`."""
    query = Query(text)
    if not query.plain:
        return []
    key = None if run_id is None else await reader.key(run_id)
    hits = await _log_hits(reader, query, key, limit) + await _event_hits(reader, query, key, limit)
    hits.sort(key=lambda hit: (hit[0] >> SHIFT, hit[1], hit[0]), reverse=True)
    return await _named(reader, hits[:limit])


_Hit = tuple[int, int, str, str, int, str]
"""row id, 1 for outputs and errors, kind, step id, attempt, text"""


async def _log_hits(reader: Reader, query: Query, key: int | None, limit: int) -> list[_Hit]:
    columns = (
        "logs.id, 0, 'log', log_steps.step_id, log_sources.attempt, logs.text FROM {} "
        "JOIN log_sources ON log_sources.id = logs.source JOIN log_steps ON log_steps.id = log_sources.step"
    )
    ids, values = _within("logs.id", key)
    found: list[_Hit] = []
    if query.words:
        within, _ = _within("log_words.rowid", key)
        rows = await reader.fetch(
            f"SELECT {columns.format('log_words CROSS JOIN logs ON logs.id = log_words.rowid')} "
            f"WHERE log_words MATCH ?{within} ORDER BY log_words.rowid DESC LIMIT ?",
            (query.match, *values, limit),
        )
        found = [row for row in rows if query.fits(row[5])]
    behind = "logs.id > (runs.key << 32) + " + ("runs.indexed_lines" if query.words else "0")
    likes = "".join(" AND logs.text LIKE ? ESCAPE '\\'" for _ in query.likes)
    wanted = " AND runs.indexed_lines < runs.log_lines" if query.words else ""
    rows = await reader.fetch(
        f"SELECT {columns.format('runs CROSS JOIN logs')} WHERE {behind} "
        f"AND logs.id <= (runs.key << 32) + runs.log_lines{wanted}{ids}{likes} "
        "ORDER BY runs.key DESC, logs.id DESC LIMIT ?",
        (*values, *query.likes, limit * 4),
    )
    return found + [row for row in rows if query.fits(row[5])]


async def _event_hits(reader: Reader, query: Query, key: int | None, limit: int) -> list[_Hit]:
    ids, values = _within("events.id", key)
    rows: list[tuple[Any, ...]] = []
    if query.words:
        within, _ = _within("event_words.rowid", key)
        rows = await reader.fetch(
            "SELECT events.id, data FROM event_words CROSS JOIN events ON events.id = event_words.rowid "
            f"WHERE event_words MATCH ?{within} ORDER BY event_words.rowid DESC LIMIT ?",
            (query.match, *values, limit),
        )
    behind = "events.id > (runs.key << 32) + " + ("runs.indexed_seq" if query.words else "0")
    wanted = "runs.indexed_seq < runs.last_seq AND " if query.words else ""
    rows += await reader.fetch(
        f"SELECT events.id, data FROM runs CROSS JOIN events WHERE {wanted}{behind} "
        f"AND events.id <= (runs.key << 32) + runs.last_seq{ids} ORDER BY runs.key DESC, events.id DESC",
        values,
    )
    found: list[_Hit] = []
    for row_id, data in rows:
        kind, text, step_id, attempt = event_text(bytes(data)) if isinstance(data, bytes) else ("", "", "", 0)
        if kind and query.fits(text):
            found.append((row_id, 1, kind, step_id, attempt, text))
    return found


def _within(column: str, key: int | None) -> tuple[str, tuple[int, ...]]:
    if key is None:
        return "", ()
    return f" AND {column} >= ? AND {column} < ?", (key << SHIFT, (key + 1) << SHIFT)


async def _named(reader: Reader, hits: list[_Hit]) -> list[dict[str, Any]]:
    keys = sorted({hit[0] >> SHIFT for hit in hits})
    rows = await reader.fetch(
        "SELECT key, run_id FROM runs WHERE key IN (SELECT value FROM json_each(?))",
        (msgspec.json.encode(keys).decode(),),
    )
    names = dict(rows)
    return [
        {
            "run_id": names[hit[0] >> SHIFT],
            "step_id": hit[3],
            "attempt": hit[4],
            "kind": hit[2],
            "n": hit[0] & _LOW,
            "text": hit[5][:HIT_LENGTH],
        }
        for hit in hits
        if hit[0] >> SHIFT in names
    ]
