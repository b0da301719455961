"""Taking an exported run into a store, once all of its file was checked: as history, until somebody trusts it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from stepchain_tui.core.errors import CommandRefusedError, UnknownRunError, UsageError
from stepchain_tui.core.ids import check_run_id
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import AttemptStatus, RunStatus, StepStatus
from stepchain_tui.store.archive import FileLine, ValueLine
from stepchain_tui.store.archive_check import ArchiveError, ArchiveReader
from stepchain_tui.store.base import AbstractStore
from stepchain_tui.store.imports import ImportMark, UntrustedRunError
from stepchain_tui.store.lines import LoggedLine
from stepchain_tui.store.records import Batch, LogLine, RunSummary

_AT_ONCE = 1_000
_REASON = "it was going on when it was exported"


async def import_run(
    store: AbstractStore, path: Path, *, now: datetime, run_id: str | None = None, large: bool = False
) -> RunSummary:
    """Store a run that was exported, marked as one that came from elsewhere; returns its row.

    All of the file is checked before anything is stored. What was in flight when it was exported is interrupted, and
    the processes that it names are forgotten: they are none of this machine's.

    Args:
        store: An open store.
        path: The file.
        now: The moment.
        run_id: The run's id here; the one in the file if None.
        large: Whether the file may be much smaller than what is in it.

    Raises:
        ArchiveError: The file is no exported run, or not a good one; nothing was stored.
        CommandRefusedError: There is a run of that id already.
        StoreError: The store does not take it; nothing of it is left.
    """
    reader = ArchiveReader(path)
    await asyncio.to_thread(reader.begin, large=large)
    name = _name(path, run_id or reader.header.run_id, given=run_id is not None)
    await _refuse_known(store, name)
    await asyncio.to_thread(reader.check)
    async with _owned(store, name):
        await _store_all(store, reader, name, ImportMark(at=now, source=path.name))
    return await store.get_run(name)


async def trust_run(store: AbstractStore, run_id: str) -> bool:
    """Note that a person lets the steps of an imported run be carried out here; returns whether that was news.

    Raises:
        UnknownRunError: There is no such run.
        UntrustedRunError: Its import was cut off: there is nothing whole to trust.
    """
    summary = await store.get_run(run_id)
    mark = summary.imported
    if mark is None or mark.trusted:
        return False
    if not mark.whole:
        raise UntrustedRunError(summary.run_id, mark)
    store.commit(Batch(imported={summary.run_id: msgspec.structs.replace(mark, trusted=True)}))
    await store.flush()
    return True


def _name(path: Path, run_id: str, *, given: bool) -> str:
    try:
        return check_run_id(run_id)
    except UsageError as error:
        if given:
            raise
        raise ArchiveError(path, f"its run id is none: {error.message}", "Give it one of your own with --as.") from None


async def _refuse_known(store: AbstractStore, run_id: str) -> None:
    try:
        known = await store.get_run(run_id)
    except UnknownRunError:
        return
    if known.run_id == run_id:
        cut_off = known.imported is not None and not known.imported.whole
        hint = f"Its import was cut off: `stepchain delete {run_id}` first." if cut_off else "Give another with --as."
        raise CommandRefusedError(f"there is a run '{run_id}' already", hint=hint)


@asynccontextmanager
async def _owned(store: AbstractStore, run_id: str) -> AsyncIterator[None]:
    """Own a run that is about to be stored; where that fails, nothing of it stays."""
    lock = store.acquire_run(run_id)
    try:
        await _refuse_known(store, run_id)
        try:
            yield
        except BaseException:
            lock.release()
            with contextlib.suppress(UnknownRunError):
                await store.delete_run(run_id)
            raise
    finally:
        lock.release()


async def _store_all(store: AbstractStore, reader: ArchiveReader, run_id: str, mark: ImportMark) -> None:
    """Store the first event with the log and the large values, then all other events: no attempt ends before its log.

    A run whose import was cut off in between has a mark that is not whole.
    """
    state, events = RunState(), reader.events()
    first = _taken(next(events), run_id)
    state.apply(first)
    store.commit(Batch(events=[first], states={run_id: state}, touched={run_id: None}, imported={run_id: mark}))
    await _store_lines_and_values(store, reader, run_id)
    made: list[e.Event] = []
    for event in events:
        made.append(_taken(event, run_id))
        if len(made) >= _AT_ONCE:
            _apply(state, made)
            await _store(
                store, Batch(events=made, states={run_id: state}, touched={run_id: set()}, from_elsewhere=True)
            )
            made = []
    _apply(state, made)
    made += _cut_off(state, mark.at)
    whole = msgspec.structs.replace(mark, whole=True, last_seq=reader.header.events)
    last = Batch(events=made, states={run_id: state}, touched={run_id: None}, imported={run_id: whole})
    await _store(store, msgspec.structs.replace(last, from_elsewhere=True))


async def _store(store: AbstractStore, batch: Batch) -> None:
    """Store a batch, and let others have their turn."""
    store.commit(batch)
    await store.flush()
    await asyncio.sleep(0)


def _apply(state: RunState, events: list[e.Event]) -> None:
    for event in events:
        state.apply(event)


async def _store_lines_and_values(store: AbstractStore, reader: ArchiveReader, run_id: str) -> None:
    logs: list[tuple[str, LogLine]] = []
    for record in reader.lines_and_values():
        if isinstance(record, ValueLine):
            store.keep(msgspec.json.decode(record.value))
            continue
        if isinstance(record, FileLine):
            store.keep_file(record.data, suffix=record.suffix)
            continue
        logs.append((run_id, _log_line(record)))
        if len(logs) >= _AT_ONCE:
            await _store(store, Batch(logs=logs))
            logs = []
    await _store(store, Batch(logs=logs))


def _log_line(line: LoggedLine) -> LogLine:
    return LogLine(
        at=line.at, step_id=line.step_id, attempt=line.attempt, item=line.item, stream=line.stream, text=line.text
    )


def _taken(event: e.Event, run_id: str) -> e.Event:
    """Return an event as one of the run here; processes of another machine must not be looked for on this one."""
    changed = msgspec.structs.replace(event, run_id=run_id)
    if isinstance(changed, e.StepSpawned):
        return msgspec.structs.replace(changed, pid=0, process_group=0, process_started_at=0.0)
    return changed


def _cut_off(state: RunState, now: datetime) -> list[e.Event]:
    """Return, and take into account, the events that interrupt what was in flight."""
    made: list[e.Event] = []
    at = max(now, state.last_at or now)

    def add(kind: type[e.StepInterrupted | e.ItemInterrupted | e.RunInterrupted], **fields: object) -> None:
        event = kind(seq=state.last_seq + 1, run_id=state.run_id, at=at, reason=_REASON, **fields)  # type: ignore[arg-type]
        state.apply(event)
        made.append(event)

    for step in list(state.steps.values()):
        waits_inside = step.waiting is not None and step.waiting.item is not None
        if step.status is not StepStatus.RUNNING and not (step.status is StepStatus.WAITING and waits_inside):
            continue
        for attempt in list(step.attempts.values()):
            if attempt.item is not None and attempt.status is AttemptStatus.RUNNING:
                add(e.ItemInterrupted, step_id=step.id, item=attempt.item, attempt=attempt.n)
        add(e.StepInterrupted, step_id=step.id, attempt=step.attempt, asked=True)
    if state.status is RunStatus.RUNNING:
        add(e.RunInterrupted)
    return made
