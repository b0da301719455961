"""Looking after a store: checks, deleting runs, rebuilding summaries, indexing in idle time."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stepchain_tui.core.errors import StepChainError, StoreError, UnknownRunError
from stepchain_tui.run.events import decode_event
from stepchain_tui.run.state import RunState
from stepchain_tui.store.blobs import FileBlobs, what_is
from stepchain_tui.store.migrations import SHIFT
from stepchain_tui.store.reader import Reader
from stepchain_tui.store.records import Batch, Command
from stepchain_tui.store.references import let_go
from stepchain_tui.store.rows import RowMaker, files_of
from stepchain_tui.store.search import index_some, unindex_events, unindex_lines
from stepchain_tui.store.writer import Writer

if TYPE_CHECKING:
    from stepchain_tui.store.sqlite import SQLiteStore

_SPAN = 1 << SHIFT
_QUICK_CHECK_BYTES = 256 * 1024 * 1024
"""Over this size only the small tables are checked on opening; `stepchain doctor` checks all."""
_QUIET_SECONDS = 0.5
_PAUSE_SECONDS = 0.01
_PATIENCE = 4
"""After so many looks without quiet, rows are indexed between commits all the same."""
_BETWEEN_COMMITS = 40
_DELETED_AT_ONCE = 5_000
_CLOSING_SECONDS = 0.2


# --- checks


def left_open(path: Path) -> bool:
    """Return whether the last process that wrote the store did not close it: its write-ahead log is still there."""
    wal = path.with_name(path.name + "-wal")
    return wal.exists() and wal.stat().st_size > 0


def check_after_unclean_end(connection: sqlite3.Connection, path: Path) -> None:
    """Look for damage after an unclean end.

    Raises:
        StoreError: The database is damaged.
    """
    tables = [""] if path.stat().st_size < _QUICK_CHECK_BYTES else ["('runs')", "('steps')", "('commands')"]
    for table in tables:
        found = connection.execute(f"PRAGMA quick_check{table}").fetchone()
        if found and found[0] != "ok":
            raise StoreError(
                f"the store {path} is damaged: {found[0]}",
                hint="`stepchain doctor` looks at the whole store; keep a copy of the file before you try anything.",
            )


async def integrity_check(reader: Reader, blobs: FileBlobs, *, full: bool) -> list[str]:
    """Return what is wrong; `full` also compares indexes with tables, reads every event and every large value.

    Args:
        reader: One that nobody else uses: it reads all of the store as it is at one moment.
        blobs: The files beside the store.
        full: See above.
    """
    await reader.fetch("BEGIN")
    rows = await reader.fetch("PRAGMA integrity_check" if full else "PRAGMA quick_check")
    problems = [str(row[0]) for row in rows if row[0] != "ok"]
    for name, uses in await reader.fetch("SELECT sha256, uses FROM blobs"):
        try:
            if full:
                await asyncio.to_thread(blobs.get, name)
            elif not await asyncio.to_thread(blobs.path(name).exists):
                problems.append(f"the file of {what_is(name)} is missing: {blobs.path(name)} ({uses} uses)")
        except StepChainError as error:
            problems.append(str(error))
    if full:
        references: Counter[str] = Counter()
        damaged: list[str] = []
        for run_id, last_seq in await reader.fetch("SELECT run_id, last_seq FROM runs ORDER BY key"):
            damaged += await _check_run(reader, run_id, last_seq, references)
        for (names,) in await reader.fetch("SELECT sha256 FROM cache WHERE sha256 IS NOT NULL"):
            references.update(names.split())
        problems += damaged + await _check_references(reader, references, all_known=not damaged)
    return problems


async def _check_references(reader: Reader, references: Counter[str], *, all_known: bool) -> list[str]:
    """Compare how often each file is referred to with how often that was counted."""
    counted = dict(await reader.fetch("SELECT sha256, uses FROM blobs"))
    return [
        f"the file {name[:12]}... is referred to {references[name]} times, but {counted.get(name, 0)} are counted"
        for name in sorted(counted.keys() | references.keys())
        if references[name] > counted.get(name, 0) or (all_known and references[name] < counted.get(name, 0))
    ]


async def _check_run(reader: Reader, run_id: str, last_seq: int, references: Counter[str]) -> list[str]:
    expected = 1
    async for seq, _, _, data in reader.raw_events(run_id, 0, None):
        if seq != expected:
            return [f"run '{run_id}': event {expected} is missing"]
        try:
            event = decode_event(data)
        except StoreError as error:
            return [f"run '{run_id}': event {seq}: {error}"]
        references.update(file.name for file in files_of(event))
        expected += 1
    return [f"run '{run_id}': event {expected} is missing"] if last_seq >= expected else []


# --- single writes


def insert_command(connection: sqlite3.Connection, command: Command, arguments: str, sent_at: int) -> None:
    """Store a command. Raises UnknownRunError, and StoreError for an id that was used before."""
    if connection.execute("SELECT 1 FROM runs WHERE run_id = ?", (command.run_id,)).fetchone() is None:
        raise UnknownRunError(command.run_id)
    try:
        connection.execute(
            "INSERT INTO commands (id, run_id, command, arguments, sender, sent_at) VALUES (?, ?, ?, ?, ?, ?)",
            (command.id, command.run_id, command.command, arguments, command.sender, sent_at),
        )
    except sqlite3.IntegrityError:
        raise StoreError(
            f"a command with the id '{command.id}' was sent before", hint="Give each command an id of its own."
        ) from None


def shorten_log(connection: sqlite3.Connection, run_id: str) -> int:
    """Remove the last lines of a run that is being deleted, few enough to let others write; return how many are left.

    Only the run's own numbers are kept right: should this be cut off, the run can be deleted again.
    """
    row = connection.execute("SELECT key, log_lines, indexed_lines FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        raise UnknownRunError(run_id)
    key, lines, indexed = row
    left = max(0, int(lines) - _DELETED_AT_ONCE)
    unindex_lines(connection, key, left, indexed)
    base = key << SHIFT
    connection.execute("DELETE FROM logs WHERE id > ? AND id < ?", (base + left, base + _SPAN))
    connection.execute(
        "UPDATE runs SET log_lines = ?, indexed_lines = min(indexed_lines, ?) WHERE key = ?", (left, left, key)
    )
    return left


def delete_run(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """Remove a run and return the names of the files that nothing refers to any more."""
    row = connection.execute("SELECT key, indexed_lines, indexed_seq FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        raise UnknownRunError(run_id)
    key, indexed_lines, indexed_seq = row
    first, end = key << SHIFT, (key + 1) << SHIFT
    unindex_lines(connection, key, 0, indexed_lines)
    unindex_events(connection, key, indexed_seq)
    used: list[str] = []
    for (data,) in connection.execute("SELECT data FROM events WHERE id >= ? AND id < ?", (first, end)):
        if b'"sha256":"' in data:
            with contextlib.suppress(StoreError):
                used += [file.name for file in files_of(decode_event(data))]
    unused = let_go(connection.cursor(), used)
    for table in ("events", "steps", "logs"):
        connection.execute(f"DELETE FROM {table} WHERE id >= ? AND id < ?", (first, end))
    connection.execute("DELETE FROM log_sources WHERE step IN (SELECT id FROM log_steps WHERE run = ?)", (key,))
    for statement in (
        "log_steps WHERE run",
        "owners WHERE run",
        "imports WHERE run",
        "spending WHERE run",
        "runs WHERE key",
    ):
        connection.execute(f"DELETE FROM {statement} = ?", (key,))
    connection.execute("DELETE FROM commands WHERE run_id = ?", (run_id,))
    return unused


async def sweep_files(reader: Reader, blobs: FileBlobs) -> int:
    """Remove files that nothing refers to; fresh ones stay, their event may be on its way."""
    names = await asyncio.to_thread(blobs.names)
    known = {name for (name,) in await reader.fetch("SELECT sha256 FROM blobs")}
    return await asyncio.to_thread(blobs.remove, [name for name in names if name not in known])


async def rebuild_summaries(store: SQLiteStore, maker: RowMaker, run_id: str) -> list[str]:
    """Fold a run's events, rewrite its rows from them, and return what was different before."""
    summary, steps = await store.get_run(run_id), await store.list_steps(run_id)
    state: RunState = await store.load_state(run_id)
    lock = store.lock_run(run_id)
    try:
        await store.write(lambda connection: _reset_seq(connection, run_id, state.last_seq))
        store.commit(Batch(states={run_id: state}, touched={run_id: None}))
        await store.flush()
    finally:
        lock.release()
        maker.forget(run_id)
    after, steps_after = await store.get_run(run_id), await store.list_steps(run_id)
    different = [
        f"{name}: {getattr(summary, name)!r} is {getattr(after, name)!r}"
        for name in summary.__struct_fields__
        if name != "owner_alive" and getattr(summary, name) != getattr(after, name)
    ]
    before = {step.step_id: step for step in steps}
    different += [f"step '{step.step_id}'" for step in steps_after if before.pop(step.step_id, None) != step]
    return different + [f"step '{step_id}' is not of this run" for step_id in before]


def _reset_seq(connection: sqlite3.Connection, run_id: str, last_seq: int) -> None:
    connection.execute("UPDATE runs SET last_seq = ? WHERE run_id = ?", (last_seq, run_id))


# --- indexing in idle time


def _index_chunk(connection: sqlite3.Connection) -> int:
    return index_some(connection)


class IdleIndexing:
    """Indexes a few rows at a time when nothing was committed for half a second.

    Args:
        index: Indexes some rows and returns how many it looked at; 0 when all is done.
    """

    def __init__(self, index: Callable[[], Awaitable[int]]) -> None:
        self._index = index
        self._task: asyncio.Task[None] | None = None
        self._commits = 0

    def begin(self) -> None:
        """Index what earlier processes left, once it is quiet."""
        if self._task is None:
            with contextlib.suppress(RuntimeError):  # a store that is used without a loop is indexed by the next one
                self._task = asyncio.get_running_loop().create_task(self._work(), name="stepchain-store-indexing")

    def wake(self) -> None:
        """Note a commit; on the loop's thread."""
        self._commits += 1
        if self._task is None:
            self.begin()

    async def _work(self) -> None:
        left = 1
        try:
            looks = 0
            while left:
                seen = self._commits
                await asyncio.sleep(_QUIET_SECONDS)
                looks += 1
                allowed = _BETWEEN_COMMITS if looks % _PATIENCE == 0 else 0
                while left and (seen == self._commits or allowed > 0):
                    left = await self._index()
                    allowed -= 1
                    await asyncio.sleep(_PAUSE_SECONDS)
        except StepChainError:
            return  # searching looks through what is not indexed, so nothing is lost
        finally:
            self._task = None

    async def end(self, writer: Writer) -> None:
        """Stop, and index for a moment where this store has written something."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        until = time.monotonic() + (_CLOSING_SECONDS if self._commits else 0.0)
        with contextlib.suppress(StepChainError):
            left = 1
            while left and time.monotonic() < until:
                left = await writer.run(_index_chunk)
        self._commits = 0
