"""Reading the SQLite store through one aiosqlite connection, opened when it is first needed."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stepchain_tui.core.errors import StoreError, UnknownRunError
from stepchain_tui.core.values import decode_json, encode_json
from stepchain_tui.run.events import Event, decode_event
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.store.connect import reader_uri
from stepchain_tui.store.migrations import SHIFT, stand_ins_for_later_tables
from stepchain_tui.store.moments import moment
from stepchain_tui.store.problems import not_open, store_error
from stepchain_tui.store.query import like, text_fits
from stepchain_tui.store.records import CacheEntry, Command, LogLine, RunSummary, StepSummary, ToolRecord
from stepchain_tui.store.rows import RUN_COLUMNS, RUN_TABLES, STREAM_NAMES, run_summary, step_summary
from stepchain_tui.store.shared import CACHE_COLUMNS, cache_entry
from stepchain_tui.store.tool_records import TOOL_COLUMNS, tool_record

if TYPE_CHECKING:
    import aiosqlite

_SPAN = 1 << SHIFT
_LOW = _SPAN - 1
_PAGE = 2_000
"""Rows that are fetched and decoded before others get their turn."""
_LIVE = "('pending', 'running')"
_RUNS = f"SELECT {RUN_COLUMNS} FROM {RUN_TABLES}"


class EventHead(msgspec.Struct):
    """What can be read of an event without knowing its type."""

    type: str
    step_id: str = ""


_heads = msgspec.json.Decoder(EventHead)


def event_head(data: bytes) -> EventHead:
    """Return what can be read of an event, an empty type where nothing can."""
    try:
        return _heads.decode(data)
    except (msgspec.DecodeError, ValueError):
        return EventHead(type="")


class Reader:
    """Reads; never writes, and leaves no file in a folder that is not ours.

    Args:
        path: The store's file.
        owner_alive: Whether a living process owns a run; called off the event loop's thread.
    """

    def __init__(self, path: Path, owner_alive: Callable[[str], bool]) -> None:
        self._path = path
        self._owner_alive = owner_alive
        self._connection: aiosqlite.Connection | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def fetch(self, sql: str, parameters: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a statement."""
        try:
            connection = self._connection or await self._open()
            return list(await connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]
        except (sqlite3.Error, OSError) as error:
            raise store_error(error, str(self._path)) from error
        except ValueError as error:
            if not self._closed:
                raise
            raise not_open(str(self._path)) from error

    async def _open(self) -> aiosqlite.Connection:
        async with self._opening:
            if self._closed:
                raise not_open(str(self._path))
            if self._connection is None:
                import aiosqlite

                connecting = aiosqlite.connect(
                    reader_uri(self._path), uri=True, isolation_level=None, cached_statements=256
                )
                # a caller that dies without closing must not hang at exit
                connecting._thread.daemon = True
                connection = await connecting
                ((version,),) = await connection.execute_fetchall("PRAGMA user_version")
                for statement in stand_ins_for_later_tables(version):
                    await connection.execute_fetchall(statement)
                await connection.create_function("text_fits", 2, text_fits, deterministic=True)
                await connection.execute_fetchall("PRAGMA query_only = ON")
                await connection.execute_fetchall("PRAGMA busy_timeout = 5000")
                self._connection = connection
            return self._connection

    async def close(self) -> None:
        """Close the connection; reading after that is an error."""
        self._closed = True
        async with self._opening:
            connection, self._connection = self._connection, None
            if connection is not None:
                await connection.close()

    async def data_version(self) -> int:
        """Return a number that changes with each commit of another connection."""
        return int((await self.fetch("PRAGMA data_version"))[0][0])

    # --- runs and steps

    async def key(self, run_id: str) -> int:
        """Return the integer that a run's rows are addressed by. Raises UnknownRunError."""
        found = await self.fetch("SELECT key FROM runs WHERE run_id = ?", (run_id,))
        if not found:
            raise UnknownRunError(run_id, await self._near(run_id))
        return int(found[0][0])

    async def _near(self, run_id: str) -> list[str]:
        newest = await self.fetch("SELECT run_id FROM runs ORDER BY created_at DESC LIMIT 500")
        return [row[0] for row in newest]

    async def list_runs(
        self, limit: int, offset: int, text: str, statuses: Sequence[RunStatus], plan_path: str
    ) -> list[RunSummary]:
        """Return runs, newest first; see `AbstractStore.list_runs`."""
        where, values = [], []
        if text:
            where.append("(runs.run_id LIKE ? ESCAPE '\\' OR goal LIKE ? ESCAPE '\\' OR plan_path LIKE ? ESCAPE '\\')")
            values += [like(text)] * 3
        if plan_path:
            where.append("plan_path = ?")
            values.append(plan_path)
        if statuses:
            dead = await self._dead_runs()
            where.append(
                "CASE WHEN runs.key IN (SELECT value FROM json_each(?)) THEN 'interrupted' ELSE status END"
                " IN (SELECT value FROM json_each(?))"
            )
            values += [encode_json(dead).decode(), encode_json([str(status) for status in statuses]).decode()]
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        rows = await self.fetch(
            f"{_RUNS}{condition} ORDER BY runs.created_at DESC, runs.key DESC LIMIT ? OFFSET ?",
            (*values, limit, offset),
        )
        return await self._with_owners([run_summary(row) for row in rows])

    async def _dead_runs(self) -> list[int]:
        rows = await self.fetch(f"SELECT runs.key, {RUN_COLUMNS} FROM {RUN_TABLES} WHERE status IN {_LIVE}")
        summaries = await self._with_owners([run_summary(row[1:]) for row in rows])
        return [
            row[0]
            for row, summary in zip(rows, summaries, strict=True)
            if summary.shown_status is RunStatus.INTERRUPTED
        ]

    async def _with_owners(self, summaries: list[RunSummary]) -> list[RunSummary]:
        """Return the summaries with `owner_alive` where it matters; each check opens a file."""
        live = [summary.run_id for summary in summaries if summary.could_be_live]
        if not live:
            return summaries
        alive = await asyncio.to_thread(lambda: {run_id: self._owner_alive(run_id) for run_id in live})
        return [
            msgspec.structs.replace(summary, owner_alive=alive[summary.run_id]) if summary.run_id in alive else summary
            for summary in summaries
        ]

    async def get_run(self, run_id: str) -> RunSummary:
        """Return one run by its id or a unique prefix of it. Raises UnknownRunError."""
        rows = await self.fetch(f"{_RUNS} WHERE runs.run_id = ?", (run_id,))
        if not rows and run_id:
            rows = await self.fetch(
                f"{_RUNS} WHERE runs.run_id >= ? AND runs.run_id < ? ORDER BY runs.run_id LIMIT 9",
                (run_id, run_id + "\U0010ffff"),
            )
        if len(rows) != 1:
            error = UnknownRunError(run_id, await self._near(run_id))
            if rows:
                error.hint = f"Several begin like this: {', '.join(row[0] for row in rows[:8])}"
            raise error
        return (await self._with_owners([run_summary(rows[0])]))[0]

    async def children_of(self, run_id: str) -> list[RunSummary]:
        """Return the runs that were forked from a run, oldest first."""
        rows = await self.fetch(f"{_RUNS} WHERE runs.parent_run_id = ? ORDER BY runs.created_at, runs.key", (run_id,))
        return await self._with_owners([run_summary(row) for row in rows])

    async def list_steps(self, run_id: str) -> list[StepSummary]:
        """Return the rows of a run's steps in plan order. Raises UnknownRunError."""
        base = await self.key(run_id) << SHIFT
        rows = await self.fetch("SELECT * FROM steps WHERE id >= ? AND id < ? ORDER BY id", (base, base + _SPAN))
        return [step_summary(run_id, (row[0] & _LOW, *row[1:])) for row in rows]

    async def workers(self, run_id: str) -> list[dict[str, Any]]:
        """Return what the last owner recorded of its workers. Raises UnknownRunError."""
        rows = await self.fetch("SELECT workers FROM owners WHERE run = ?", (await self.key(run_id),))
        return list(decode_json(rows[0][0])) if rows and rows[0][0] else []

    # --- events

    async def events(self, run_id: str, after: int, limit: int | None) -> list[Event]:
        """Return a run's events after `after`. Raises StoreError naming the first that cannot be read."""
        events: list[Event] = []
        async for page in self._event_pages(run_id, after, limit):
            with _no_collection():
                events += decoded(run_id, page)
        return events

    async def state(self, run_id: str) -> RunState:
        """Return the fold of a run's events, of which no more than a page is held at a time."""
        state = RunState()
        async for page in self._event_pages(run_id, 0, None):
            with _no_collection():
                for event in decoded(run_id, page):
                    state.apply(event)
        return state

    async def raw_events(
        self, run_id: str, after: int, limit: int | None
    ) -> AsyncIterator[tuple[int, str, str, bytes]]:
        """Yield `(seq, type, step_id, JSON)`; type is empty where an event cannot be read."""
        async for page in self._event_pages(run_id, after, limit):
            for seq, data in page:
                head = event_head(data)
                yield seq, head.type, head.step_id, data

    async def _event_pages(self, run_id: str, after: int, limit: int | None) -> AsyncIterator[list[tuple[int, bytes]]]:
        base = await self.key(run_id) << SHIFT
        left = _SPAN if limit is None else limit
        while left > 0:
            size = min(left, _PAGE)
            rows = await self.fetch(
                "SELECT id, data FROM events WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
                (base + after, base + _SPAN, size),
            )
            if rows:
                yield [(row[0] & _LOW, _as_bytes(row[1])) for row in rows]
                after = rows[-1][0] & _LOW
            if len(rows) < size:
                return
            left -= len(rows)

    # --- what runs share

    async def cached(self, key: str) -> CacheEntry | None:
        """Return the cache's entry of that key, or None."""
        rows = await self.fetch(f"SELECT {CACHE_COLUMNS} FROM cache WHERE key = ?", (key,))
        return cache_entry(rows[0]) if rows else None

    async def last_cached(self, scope: str) -> CacheEntry | None:
        """Return the newest entry of a step, or None."""
        rows = await self.fetch(
            f"SELECT {CACHE_COLUMNS} FROM cache WHERE scope = ? ORDER BY created_at DESC, number DESC LIMIT 1", (scope,)
        )
        return cache_entry(rows[0]) if rows else None

    async def breakers(self) -> dict[str, dict[str, Any]]:
        """Return what is kept of each circuit breaker, by name."""
        rows = await self.fetch("SELECT name, record FROM breakers ORDER BY name")
        return {name: decode_json(record) for name, record in rows}

    async def tools(self) -> list[ToolRecord]:
        """Return how each tool did, by name."""
        return [tool_record(row) for row in await self.fetch(f"SELECT {TOOL_COLUMNS} FROM tools ORDER BY name")]

    # --- commands

    async def pending_commands(self, run_ids: Sequence[str]) -> list[Command]:
        """Return the unanswered commands for these runs in the order they were sent."""
        rows = await self.fetch(
            f"SELECT {_COMMAND} FROM commands WHERE answer IS NULL AND run_id IN (SELECT value FROM json_each(?)) "
            "ORDER BY number",
            (encode_json(list(run_ids)).decode(),),
        )
        return [_command(row) for row in rows]

    async def command(self, command_id: str) -> Command | None:
        """Return a command with its answer, or None."""
        rows = await self.fetch(f"SELECT {_COMMAND} FROM commands WHERE id = ?", (command_id,))
        return _command(rows[0]) if rows else None


def decoded(run_id: str, page: Iterable[tuple[int, bytes]]) -> Iterator[Event]:
    """Yield the events of `(seq, JSON)`. Raises StoreError naming the first that cannot be read."""
    for seq, data in page:
        try:
            yield decode_event(data)
        except StoreError as error:
            raise StoreError(f"event {seq} of run '{run_id}': {error}", hint=error.hint) from error


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from walking, again and again, what is only just being built."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


_COMMAND = "id, run_id, command, arguments, sender, sent_at, answer"


def _command(row: tuple[Any, ...]) -> Command:
    return Command(
        id=row[0],
        run_id=row[1],
        command=row[2],
        arguments=decode_json(row[3]),
        sender=row[4],
        sent_at=moment(row[5]),
        answer=None if row[6] is None else decode_json(row[6]),
    )


def _as_bytes(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data


LOG_COLUMNS = (
    "logs.id, logs.at, log_steps.step_id, log_sources.attempt, log_sources.item, logs.stream, logs.text "
    "FROM logs JOIN log_sources ON log_sources.id = logs.source JOIN log_steps ON log_steps.id = log_sources.step"
)


def log_line(row: tuple[Any, ...]) -> LogLine:
    """Return a row of `LOG_COLUMNS` as a line."""
    return LogLine(
        n=row[0] & _LOW,
        at=moment(row[1]),
        step_id=row[2],
        attempt=row[3],
        item=row[4],
        stream=STREAM_NAMES.get(row[5], row[5]),
        text=row[6],
    )
