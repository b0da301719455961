"""Finding words in logs, outputs and errors.

Indexing a line costs as much as storing it, so it is not done while a run writes: rows behind a mark (`runs.indexed_*`)
are in the FTS5 tables, those after it are looked through as they are. So a search is always exact, and idle time
makes it fast. A line is a hit when it has each word of the query, whatever their case; the last one, unless a space
follows it, may be the beginning of a word. FTS5 would first collect every line that a beginning fits, which takes
long where it is a common one; the words that begin so are few, and looking for any of them gives the newest at once.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from stepchain_tui.store.migrations import SHIFT
from stepchain_tui.store.query import Query
from stepchain_tui.store.reader import Reader

_LOW = (1 << SHIFT) - 1
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
_MOST_TERMS = 300
"""Words that a beginning is spelled out as; more are left to FTS5."""
CHUNK = 500
"""Rows that are indexed in one go: a few milliseconds."""


class _Found(msgspec.Struct):
    type: str
    step_id: str = ""
    attempt: int = 0
    output: Any = None
    error: Any = None


_found = msgspec.json.Decoder(_Found)


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


def unindex_lines(connection: sqlite3.Connection, key: int, after: int, indexed_lines: int) -> None:
    """Take a run's lines with `n > after` out of the word index; they must still be there."""
    base = key << SHIFT
    connection.execute(
        "INSERT INTO log_words (log_words, rowid, text) SELECT 'delete', id, text FROM logs WHERE id > ? AND id <= ?",
        (base + after, base + indexed_lines),
    )


def unindex_events(connection: sqlite3.Connection, key: int, indexed_seq: int) -> None:
    """Take a run's outputs and errors out of the word index; its events must still be there."""
    connection.executemany(
        "INSERT INTO event_words (event_words, rowid, text) VALUES ('delete', ?, ?)",
        _texts(connection, key << SHIFT, 0, indexed_seq),
    )


# --- searching


async def search(reader: Reader, text: str, run_id: str | None, limit: int) -> list[dict[str, Any]]:
    """Return hits, newest run first; see `AbstractStore.search`."""
    query = Query(text)
    if not query.plain:
        return []
    key = None if run_id is None else await reader.key(run_id)
    hits = await _log_hits(reader, query, text, key, limit) + await _event_hits(reader, query, key, limit)
    hits.sort(key=lambda hit: (hit[0] >> SHIFT, hit[1], hit[0]), reverse=True)
    return await _named(reader, hits[:limit])


_Hit = tuple[Any, ...]
"""row id, 1 for outputs and errors, kind, step id, attempt, text"""

_LOG_HITS = """
SELECT logs.id, 0, 'log', log_steps.step_id, log_sources.attempt, logs.text FROM {tables}
JOIN log_sources ON log_sources.id = logs.source JOIN log_steps ON log_steps.id = log_sources.step
WHERE {conditions} AND text_fits(?, logs.text) ORDER BY {order} LIMIT ?
"""


async def _log_hits(reader: Reader, query: Query, text: str, key: int | None, limit: int) -> list[_Hit]:
    """Return hits in the index and, of what is not in it yet, in the lines as they are."""
    likes = "".join(" AND logs.text LIKE ? ESCAPE '\\'" for _ in query.likes)
    match = await _match(reader, query, "log_terms")
    found: list[_Hit] = []
    if match:
        within, values = _within("log_words.rowid", key)
        sql = _LOG_HITS.format(
            tables="log_words CROSS JOIN logs ON logs.id = log_words.rowid",
            conditions=f"log_words MATCH ?{within}{likes}",
            order="log_words.rowid DESC",
        )
        found = await reader.fetch(sql, (match, *values, *query.likes, text, limit))
    within, values = _within("logs.id", key)
    since = "logs.id > (runs.key << 32) + runs.indexed_lines AND runs.indexed_lines < runs.log_lines"
    sql = _LOG_HITS.format(
        tables="runs CROSS JOIN logs",
        conditions=f"{since if match else 'logs.id > runs.key << 32'} "
        f"AND logs.id <= (runs.key << 32) + runs.log_lines{within}{likes}",
        order="runs.key DESC, logs.id DESC",
    )
    return found + await reader.fetch(sql, (*values, *query.likes, text, limit))


async def _match(reader: Reader, query: Query, terms: str) -> str:
    """Return the query in FTS5's language, a beginning spelled out as the words that begin so; empty without words."""
    words = list(query.whole)
    if begin := query.beginning:
        rows = await reader.fetch(
            f"SELECT term FROM {terms} WHERE term >= ? AND term < ? LIMIT ?",
            (begin, begin + "\U0010ffff", _MOST_TERMS + 1),
        )
        few = 0 < len(rows) <= _MOST_TERMS
        words.append(f"({' OR '.join([_quote(row[0]) for row in rows])})" if few else f'"{begin}"*')
    return " AND ".join(words)


def _quote(term: str) -> str:
    return '"' + term.replace('"', '""') + '"'


async def _event_hits(reader: Reader, query: Query, key: int | None, limit: int) -> list[_Hit]:
    rows: list[tuple[Any, ...]] = []
    match = await _match(reader, query, "event_terms")
    if match:
        within, values = _within("event_words.rowid", key)
        rows = await reader.fetch(
            "SELECT events.id, data FROM event_words CROSS JOIN events ON events.id = event_words.rowid "
            f"WHERE event_words MATCH ?{within} ORDER BY event_words.rowid DESC",
            (match, *values),
        )
    within, values = _within("events.id", key)
    likes = query.likes if query.words else []
    within += "".join(" AND CAST(data AS TEXT) LIKE ? ESCAPE '\\'" for _ in likes)
    since = "events.id > (runs.key << 32) + runs.indexed_seq AND runs.indexed_seq < runs.last_seq"
    rows += await reader.fetch(
        f"SELECT events.id, data FROM runs CROSS JOIN events WHERE {since if match else 'events.id > runs.key << 32'} "
        f"AND events.id <= (runs.key << 32) + runs.last_seq{within} ORDER BY runs.key DESC, events.id DESC",
        (*values, *likes),
    )
    found: list[_Hit] = []
    for row_id, data in rows:
        kind, text, step_id, attempt = event_text(data) if isinstance(data, bytes) else ("", "", "", 0)
        if kind and query.fits(text):
            found.append((row_id, 1, kind, step_id, attempt, text))
            if len(found) >= 2 * limit:
                break
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
    names: dict[int, str] = {row[0]: row[1] for row in rows}
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
