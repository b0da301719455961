"""Rows into tables: what one transaction of the writer does.

`Tables` remembers, for the runs it writes, their integer keys, the last event stored and how long each log is, so
that a batch needs no reads. What it remembers of a run is dropped when a transaction with that run fails and when
its lock is taken anew: in between another process may have written it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from stepchain_tui.core.errors import StoreError, UnknownRunError
from stepchain_tui.store.migrations import SHIFT
from stepchain_tui.store.references import count_references
from stepchain_tui.store.rows import BatchRows, LogRow, RunRow, RunRows
from stepchain_tui.store.shared import store_shared

_SPAN = 1 << SHIFT
_OF_THE_RUN = 10
"""Values of a `RunRow` that stand in the run's own row; those behind them are what it has spent."""

_INSERT_EVENT = "INSERT INTO events VALUES (?, ?)"
_INSERT_STEP = "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE_STEP = (
    "UPDATE steps SET status = ?, attempts = ?, error_type = ?, error = ?, started_at = ?, finished_at = ? WHERE id = ?"
)
_INSERT_LOG = "INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?)"
_UPDATE_RUN = (
    "UPDATE runs SET status = ?, reason = ?, started_at = ?, finished_at = ?, steps_total = ?, steps_done = ?, "
    "steps_failed = ?, input_tokens = ?, output_tokens = ?, last_seq = ? WHERE key = ?"
)
_INSERT_RUN = (
    "INSERT INTO runs (run_id, goal, plan_path, created_at, parent_run_id, parent_step_id, status, reason, started_at, "
    "finished_at, steps_total, steps_done, steps_failed, input_tokens, output_tokens, last_seq) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SET_OWNER = "INSERT INTO owners (run, record) VALUES (?, ?) ON CONFLICT (run) DO UPDATE SET record = excluded.record"
_SET_WORKERS = (
    "INSERT INTO owners (run, workers) VALUES (?, ?) ON CONFLICT (run) DO UPDATE SET workers = excluded.workers"
)
_SET_SPENDING = "INSERT OR REPLACE INTO spending VALUES (?, ?, ?, ?)"
_SET_IMPORT = "INSERT INTO imports VALUES (?, ?) ON CONFLICT (run) DO UPDATE SET record = excluded.record"


@dataclass(slots=True)
class _StepLog:
    """How long the log of one step is; positions in it begin at 0."""

    id: int
    lines: int


@dataclass(slots=True)
class _Source:
    """The lines of one attempt, or of one item's: `first` and `last` are positions in the step's log."""

    id: int
    step: _StepLog
    lines: int
    first: int
    last: int


@dataclass(slots=True)
class _Known:
    """What is remembered of one run."""

    key: int
    last_seq: int
    lines: int
    steps: dict[str, _StepLog] = field(default_factory=dict)
    sources: dict[tuple[str, int, int], _Source] = field(default_factory=dict)


class Tables:
    """Stores rows through one connection; the caller begins and ends the transaction.

    `leaves_files` tells that there may be files of large values that nothing refers to any more.
    """

    leaves_files = False

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()
        self._runs: dict[str, _Known] = {}

    def close(self) -> None:
        """Let go of the last statement, without which the connection would not really close."""
        self._cursor.close()

    def forget(self, run_ids: Iterable[str]) -> None:
        """Let go of what is remembered of these runs."""
        for run_id in run_ids:
            self._runs.pop(run_id, None)

    def store(self, batch: BatchRows) -> None:
        """Store all rows of a batch within the open transaction."""
        for rows in batch.runs:
            self._store_run(rows)
        if batch.answers:
            self._cursor.executemany("UPDATE commands SET answer = ? WHERE id = ?", batch.answers)
        if batch.shared is not None and store_shared(self._cursor, batch.shared):
            self.leaves_files = True

    def _store_run(self, rows: RunRows) -> None:
        cursor = self._cursor
        known = self._runs.get(rows.run_id) or self._find(rows)
        base = known.key << SHIFT
        if rows.logs:
            self._store_logs(known, rows.logs)
        events = rows.events
        if events:
            first = events[0][0]
            if first != known.last_seq + 1:
                raise StoreError(
                    f"event {first} of run '{rows.run_id}' does not follow event {known.last_seq}, the last one stored",
                    hint="Another engine has written the run, or a batch before this one failed: read its state again.",
                )
            cursor.executemany(_INSERT_EVENT, [(base | seq, data) for seq, data in events])
            known.last_seq = events[-1][0]
        if rows.all_steps:
            cursor.execute("DELETE FROM steps WHERE id >= ? AND id < ?", (base, base + _SPAN))
            cursor.executemany(_INSERT_STEP, [(base | row[0], *row[1:]) for row in rows.steps])
        elif rows.steps:
            cursor.executemany(_UPDATE_STEP, [(*row[3:], base | row[0]) for row in rows.steps])
        if rows.summary is not None:
            cursor.execute(_UPDATE_RUN, (*rows.summary[:_OF_THE_RUN], known.key))
            _set_spending(cursor, known.key, rows.summary)
        if rows.files:
            count_references(cursor, rows.files)
        if rows.sets_owner:
            record = None if rows.owner is None else msgspec.json.encode(rows.owner).decode()
            cursor.execute(_SET_OWNER, (known.key, record))
        if rows.workers is not None:
            cursor.execute(_SET_WORKERS, (known.key, rows.workers))
        if rows.imported is not None:
            cursor.execute(_SET_IMPORT, (known.key, msgspec.json.encode(rows.imported).decode()))

    def _find(self, rows: RunRows) -> _Known:
        cursor, run_id = self._cursor, rows.run_id
        found = cursor.execute("SELECT key, last_seq, log_lines FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        if found is None:
            if rows.created is None or rows.summary is None:
                raise UnknownRunError(run_id)
            cursor.execute(_INSERT_RUN, (run_id, *rows.created, *rows.summary[:_OF_THE_RUN]))
            found = (cursor.lastrowid, 0, 0)
            _set_spending(cursor, int(cursor.lastrowid or 0), rows.summary)
        key, _, lines = found
        base = key << SHIFT
        last = cursor.execute("SELECT max(id) FROM events WHERE id >= ? AND id < ?", (base, base + _SPAN)).fetchone()[0]
        known = _Known(key, 0 if last is None else last - base, lines)
        self._runs[run_id] = known
        return known

    # --- logs

    def _store_logs(self, known: _Known, logs: Sequence[LogRow]) -> None:
        number = (known.key << SHIFT) | known.lines
        sources = known.sources
        changed: dict[int, _Source] = {}
        rows = []
        before: tuple[str, int, int] | None = None
        source: _Source | None = None
        for step_id, attempt, item, stream, at, text in logs:
            names = (step_id, attempt, item)
            if source is None or names != before:
                source, before = sources.get(names) or self._source(known, names), names
                changed[source.id] = source
            step = source.step
            number += 1
            position = step.lines
            step.lines = position + 1
            if not source.lines:
                source.first = position
            source.last = position
            source.lines += 1
            rows.append((number, (step.id << SHIFT) | position, source.id, stream, at, text))
        known.lines += len(rows)
        cursor = self._cursor
        cursor.executemany(_INSERT_LOG, rows)
        cursor.execute("UPDATE runs SET log_lines = ? WHERE key = ?", (known.lines, known.key))
        cursor.executemany(
            "UPDATE log_sources SET lines = ?, first = ?, last = ? WHERE id = ?",
            [(source.lines, source.first, source.last, source.id) for source in changed.values()],
        )
        steps = {source.step.id: source.step for source in changed.values()}
        cursor.executemany(
            "UPDATE log_steps SET lines = ? WHERE id = ?", [(step.lines, step.id) for step in steps.values()]
        )

    def _source(self, known: _Known, names: tuple[str, int, int]) -> _Source:
        step_id, attempt, item = names
        step = known.steps.get(step_id) or self._step_log(known, step_id)
        cursor = self._cursor
        found = cursor.execute(
            "SELECT id, lines, first, last FROM log_sources WHERE step = ? AND attempt = ? AND item = ?",
            (step.id, attempt, item),
        ).fetchone()
        if found is None:
            cursor.execute("INSERT INTO log_sources VALUES (NULL, ?, ?, ?, 0, 0, 0)", (step.id, attempt, item))
            found = (cursor.lastrowid, 0, 0, 0)
        source = known.sources[names] = _Source(found[0], step, *found[1:])
        return source

    def _step_log(self, known: _Known, step_id: str) -> _StepLog:
        cursor = self._cursor
        found = cursor.execute(
            "SELECT id, lines FROM log_steps WHERE run = ? AND step_id = ?", (known.key, step_id)
        ).fetchone()
        if found is None:
            cursor.execute("INSERT INTO log_steps VALUES (NULL, ?, ?, 0)", (known.key, step_id))
            found = (cursor.lastrowid, 0)
        step = known.steps[step_id] = _StepLog(*found)
        return step


def _set_spending(cursor: sqlite3.Cursor, key: int, row: RunRow) -> None:
    """Keep what a run has spent on models; most runs ask none."""
    turns, cost, unpriced = row[_OF_THE_RUN:]
    if turns:
        cursor.execute(_SET_SPENDING, (key, turns, cost, unpriced))
