"""Every run of every test: its events add up to what its engine saw, and its summary rows say what they add up to.

`watch` is put around each test by an autouse fixture. What an engine saw is kept by its journals; when an engine has
closed, its runs are read from the store and folded anew. Store files of the real command line are read when the test
is over. Summary rows may be behind the events only while an owner is recorded: then they say what the events up to
the one they name add up to.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stepchain_tui.core.errors import StoreError, UnknownRunError
from stepchain_tui.engine import Engine
from stepchain_tui.engine.recorder import Journal, Recorder
from stepchain_tui.run import Event, RunState, StepStatus
from stepchain_tui.run.events import decode_event
from stepchain_tui.store import AbstractStore, RunSummary, SQLiteStore, StepSummary
from stepchain_tui.store.migrations import SHIFT
from stepchain_tui.store.rows import RUN_COLUMNS, RUN_TABLES, run_summary, step_summary
from stepchain_tui.store.texts import ERROR_PREVIEW
from tests.support.command_line import CommandLine

_BAD = (StepStatus.FAILED, StepStatus.TIMED_OUT)
_LOW = (1 << SHIFT) - 1


@dataclass(frozen=True)
class StoredRun:
    """One run as a store holds it, all of one moment."""

    row: RunSummary
    steps: list[StepSummary]
    events: list[Event]


# --- what must hold


def check_run(stored: StoredRun, seen: Iterable[RunState] = ()) -> RunState:
    """Hold a run against its rows and against the states of engines that carried it out.

    Args:
        stored: The run.
        seen: States that engines had when they let go of it; each is held against the events up to its last.

    Returns:
        What all events add up to.
    """
    run_id, row = stored.row.run_id, stored.row
    due: dict[int, list[RunState]] = {}
    for state in seen:
        due.setdefault(state.last_seq, []).append(state)
    state, last = RunState(), stored.events[-1].seq if stored.events else 0
    assert row.last_seq == last or (row.last_seq < last and row.owner is not None), (
        f"run {run_id}: its row is of event {row.last_seq}, stored are {last}"
    )
    for event in stored.events:
        state.apply(event)
        for other in due.pop(state.last_seq, ()):
            assert other == state, (
                f"run {run_id}: the engine saw something else than is stored: {_difference(other, state)}"
            )
        if state.last_seq == row.last_seq:
            check_rows(state, row, stored.steps)
    assert not due, f"run {run_id}: the engine saw events up to {max(due)}, stored are {state.last_seq}"
    return state


def check_rows(state: RunState, row: RunSummary, steps: list[StepSummary]) -> None:
    """Hold all columns of a run's summary rows against its fold."""
    counted = {status: sum(step.status is status for step in state.steps.values()) for status in StepStatus}
    assert {status: n for status, n in state.counts.items() if n} == {status: n for status, n in counted.items() if n}
    expected = RunSummary(
        run_id=state.run_id,
        goal=state.goal,
        status=state.status,
        plan_path=state.plan_path,
        created_at=state.created_at,
        started_at=state.started_at,
        finished_at=state.finished_at,
        steps_total=len(state.steps),
        steps_done=sum(step.ended for step in state.steps.values()),
        steps_failed=sum(counted[status] for status in _BAD),
        input_tokens=state.usage.input_tokens,
        output_tokens=state.usage.output_tokens,
        turns=state.usage.turns,
        cost=state.usage.cost,
        unpriced_turns=state.usage.unpriced_turns,
        last_seq=state.last_seq,
        reason=state.reason,
        parent_run_id=state.parent_run_id,
        parent_step_id=state.parent_step_id,
        owner=row.owner,
        owner_alive=row.owner_alive,
        imported=row.imported,
    )
    assert row == expected, f"run {state.run_id}: its row differs from its events: {_difference(row, expected)}"
    wanted = [
        StepSummary(
            run_id=state.run_id,
            step_id=step.id,
            position=position,
            kind=step.outline.kind,
            status=step.status,
            attempts=step.attempt,
            error_type=step.error.error_type if step.error else None,
            error=step.error.message[:ERROR_PREVIEW].encode("utf-8", "replace").decode() if step.error else "",
            started_at=step.started_at,
            finished_at=step.finished_at,
        )
        for position, step in enumerate(state.steps.values())
    ]
    assert [found.step_id for found in steps] == [found.step_id for found in wanted], f"run {state.run_id}: other steps"
    for found, step in zip(steps, wanted, strict=True):
        assert found == step, f"step {step.step_id} of run {state.run_id}: its row differs: {_difference(found, step)}"


def _difference(one: Any, other: Any) -> str:
    """Return where two objects of one class differ, down to the fields that are no such objects."""
    if type(one) is type(other) and isinstance(one, dict):
        pairs = {key: (one.get(key), other.get(key)) for key in {**one, **other}}
    elif type(one) is type(other) and isinstance(one, msgspec.Struct):
        pairs = {name: (getattr(one, name), getattr(other, name)) for name in one.__struct_fields__}
    elif type(one) is type(other) and isinstance(one, RunState):
        pairs = {made.name: (getattr(one, made.name), getattr(other, made.name)) for made in fields(one)}
    else:
        return f"{one!r}, not {other!r}"
    return ", ".join(f"{key}: {_difference(*pair)}" for key, pair in pairs.items() if pair[0] != pair[1])


# --- reading


def read_file(path: Path, run_ids: Iterable[str] | None = None) -> Iterator[StoredRun]:
    """Yield the runs of a store file, or those of these ids that it holds; other processes may write meanwhile."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        select = f"SELECT runs.key, {RUN_COLUMNS} FROM {RUN_TABLES}"
        wanted = None if run_ids is None else set(run_ids)
        for key, *columns in connection.execute(select).fetchall():
            row = run_summary(tuple(columns))
            if wanted is not None and row.run_id not in wanted:
                continue
            span = (key << SHIFT, (key + 1) << SHIFT)
            rows = connection.execute("SELECT * FROM steps WHERE id >= ? AND id < ? ORDER BY id", span)
            steps = [step_summary(row.run_id, (found[0] & _LOW, *found[1:])) for found in rows]
            data = connection.execute("SELECT data FROM events WHERE id >= ? AND id < ? ORDER BY id", span)
            yield StoredRun(row, steps, [decode_event(found[0]) for found in data])


async def read_store(store: AbstractStore, run_ids: Iterable[str]) -> list[StoredRun]:
    """Return those of these runs that a store holds."""
    found = []
    for run_id in run_ids:
        with contextlib.suppress(UnknownRunError):
            events = await store.read_events(run_id)
            found.append(StoredRun(await store.get_run(run_id), await store.list_steps(run_id), events))
    return found


def check_store(path: Path) -> dict[str, RunState]:
    """Fold every run of a store file and hold it against its summary rows; returns run id -> fold."""
    return {stored.row.run_id: check_run(stored) for stored in read_file(path)}


# --- around a test


@dataclass
class Watch:
    """What a test's engines saw, and its command lines."""

    journals: list[Journal] = field(default_factory=list)
    lines: list[CommandLine] = field(default_factory=list)
    problems: list[AssertionError] = field(default_factory=list)

    async def check_engine(self, store: AbstractStore, recorder: Recorder) -> None:
        """Check the runs of an engine that has closed.

        An engine whose store failed has said so; what it saw beyond the last event stored is not held against it.
        """
        seen: dict[str, list[RunState]] = {}
        others = []
        for journal in self.journals:
            if journal.recorder is recorder:
                seen.setdefault(journal.run_id, []).append(journal.state)
            else:
                others.append(journal)
        self.journals = others
        try:
            for stored in await _read_closed(store, seen):
                last = len(stored.events)
                states = seen[stored.row.run_id]
                check_run(stored, [state for state in states if not recorder.failure or state.last_seq <= last])
        except AssertionError as problem:
            self.problems.append(problem)

    def check_lines(self) -> None:
        """Check the stores that commands of this test have written."""
        for line in self.lines:
            if line.store.is_file() and line.store.stat().st_size:
                check_store(line.store)

    def check(self) -> None:
        """Raise what was found wrong."""
        for problem in self.problems:
            raise problem
        self.check_lines()


async def _read_closed(store: AbstractStore, run_ids: Iterable[str]) -> list[StoredRun]:
    if isinstance(store, SQLiteStore):
        return list(read_file(store.path, run_ids)) if store.path.is_file() else []
    try:
        await store.data_version()
    except StoreError:
        await store.open(read_only=True)
        try:
            return await read_store(store, run_ids)
        finally:
            await store.close()
    return await read_store(store, run_ids)


@contextlib.contextmanager
def watch(patch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Keep what engines and command lines do until this ends; `check` tells what is wrong with it."""
    kept = Watch()
    make_journal, close, make_line = Journal.__init__, Engine.close, CommandLine.__init__

    def journal_made(self: Journal, *arguments: Any, **keys: Any) -> None:
        make_journal(self, *arguments, **keys)
        kept.journals.append(self)

    async def closed(self: Engine, *arguments: Any, **keys: Any) -> None:
        recorder = None if self._core is None else self._core.recorder
        await close(self, *arguments, **keys)
        if recorder is not None:
            await kept.check_engine(self.store, recorder)

    def line_made(self: CommandLine, *arguments: Any, **keys: Any) -> None:
        make_line(self, *arguments, **keys)
        kept.lines.append(self)

    patch.setattr(Journal, "__init__", journal_made)
    patch.setattr(Engine, "close", closed)
    patch.setattr(CommandLine, "__init__", line_made)
    yield kept
