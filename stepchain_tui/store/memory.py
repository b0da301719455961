"""`MemoryStore`: the whole contract without a disk, for tests and for runs that nobody wants to keep."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stepchain_tui.core.errors import RunLockedError, StepChainError, StoreError, UnknownRunError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.core.values import decode_json, encode_json, to_json_value
from stepchain_tui.run.events import Event
from stepchain_tui.run.status import RunStatus
from stepchain_tui.run.values import Kept
from stepchain_tui.store.base import AbstractStore, RunLock
from stepchain_tui.store.blobs import MemoryBlobs, keep_value, value_of
from stepchain_tui.store.feed import Feed
from stepchain_tui.store.moments import moment
from stepchain_tui.store.problems import not_open
from stepchain_tui.store.query import Query
from stepchain_tui.store.reader import decoded, event_head
from stepchain_tui.store.records import Batch, CacheEntry, Command, LogLine, RunSummary, StepSummary
from stepchain_tui.store.rows import (
    STREAM_NAMES,
    NewRun,
    RowMaker,
    RunRow,
    RunRows,
    StepRow,
    run_summary,
    step_summary,
)
from stepchain_tui.store.search import HIT_LENGTH, event_text
from stepchain_tui.store.shared import clean_scope
from stepchain_tui.store.shared_memory import SharedMemory


@dataclass(slots=True)
class _Run:
    """Everything of one run."""

    run_id: str
    number: int
    created: NewRun
    summary: RunRow
    events: list[bytes] = field(default_factory=list)
    steps: dict[str, StepRow] = field(default_factory=dict)
    lines: list[LogLine] = field(default_factory=list)
    owner: str | None = None
    workers: str = "[]"


class _MemoryLock(RunLock):
    def __init__(self, run_id: str, held: dict[str, _MemoryLock]) -> None:
        self.run_id = run_id
        self._held = held
        held[run_id] = self

    def release(self) -> None:
        """Let go; may be called twice."""
        if self._held.get(self.run_id) is self:
            del self._held[self.run_id]


class MemoryStore(AbstractStore):
    """Keeps runs in memory, for as long as the object lives; closing it keeps them, other processes see nothing."""

    def __init__(self) -> None:
        self.location = "memory"
        self._runs: dict[str, _Run] = {}
        self._made = 0
        self._commands: dict[str, Command] = {}
        self._shared = SharedMemory()
        self._blobs = MemoryBlobs()
        self._maker = RowMaker()
        self._feed = Feed()
        self._held: dict[str, _MemoryLock] = {}
        self._error: StepChainError | None = None
        self._version = 0
        self._open = False
        self._read_only = False

    # --- opening and closing

    async def open(self, *, read_only: bool = False) -> None:
        """Make the store ready; see `AbstractStore.open`."""
        self._open, self._read_only = True, read_only
        self._feed.open()

    async def close(self) -> None:
        """Let followers go; what is kept stays."""
        self._open = False
        self._feed.close()
        self._raise_error()

    def _ready(self, *, write: bool = False) -> None:
        if not self._open:
            raise not_open(self.location)
        if write and self._read_only:
            raise StoreError("the store memory was opened for reading only", hint="Open it with `open()` to write.")

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    # --- writing

    def commit(self, batch: Batch, done: Callable[[BaseException | None], None] | None = None) -> None:
        """Store a batch; see `AbstractStore.commit`."""
        self._ready(write=True)
        self._raise_error()
        try:
            rows = self._maker.rows(batch)
            for run in rows.runs:
                self._check(run)
        except StepChainError as error:
            for run_id in {event.run_id for event in batch.events}:
                self._maker.forget(run_id)
            if done is None:
                self._error = error
            else:
                done(error)
            return
        for run in rows.runs:
            self._store(run)
        for answer, command_id in rows.answers:
            if (command := self._commands.get(command_id)) is not None:
                self._commands[command_id] = msgspec.structs.replace(command, answer=decode_json(answer))
        if rows.shared is not None:
            self._shared.store(rows.shared)
        self._changed()
        if done is not None:
            done(None)

    def _check(self, rows: RunRows) -> None:
        run = self._runs.get(rows.run_id)
        if run is None and (rows.created is None or rows.summary is None):
            raise UnknownRunError(rows.run_id, self._runs)
        last = 0 if run is None else len(run.events)
        if rows.events and rows.events[0][0] != last + 1:
            raise StoreError(
                f"event {rows.events[0][0]} of run '{rows.run_id}' does not follow event {last}, the last one stored",
                hint="Another engine has written the run, or a batch before this one failed: read its state again.",
            )

    def _store(self, rows: RunRows) -> None:
        run = self._runs.get(rows.run_id)
        if run is None and rows.created is not None and rows.summary is not None:
            self._made += 1
            run = self._runs[rows.run_id] = _Run(rows.run_id, self._made, rows.created, rows.summary)
        if run is None:
            raise UnknownRunError(rows.run_id, self._runs)
        for step_id, attempt, item, stream, at, text in rows.logs:
            run.lines.append(
                LogLine(
                    n=len(run.lines) + 1,
                    at=moment(at),
                    step_id=step_id,
                    attempt=attempt,
                    item=item,
                    stream=STREAM_NAMES.get(stream, str(stream)),
                    text=text,
                )
            )
        run.events += [data for _, data in rows.events]
        if rows.summary is not None:
            run.summary = rows.summary
        if rows.all_steps:
            run.steps.clear()
        for row in rows.steps:
            run.steps[row[1]] = row
        if rows.sets_owner:
            run.owner = None if rows.owner is None else encode_json(rows.owner).decode()
        if rows.workers is not None:
            run.workers = rows.workers

    def _changed(self) -> None:
        self._version += 1
        self._feed.wake()

    async def flush(self) -> None:
        """Raise the error of a batch that failed and had no `done`."""
        self._ready(write=True)
        self._raise_error()

    def set_redactor(self, run_id: str, redactor: Redactor | None) -> None:
        """Set what is secret in a run; see `AbstractStore.set_redactor`."""
        self._maker.set_redactor(run_id, redactor)

    def keep(self, value: Any, redactor: Redactor | None = None) -> Kept:
        """Return a JSON value as events carry it; see `AbstractStore.keep`."""
        self._ready(write=True)
        return keep_value(value, self._maker.gates_for(redactor), lambda: self._blobs)

    async def delete_run(self, run_id: str) -> None:
        """Forget a run; see `AbstractStore.delete_run`."""
        self._ready(write=True)
        self._run(run_id)
        lock = self.acquire_run(run_id)
        del self._runs[run_id]
        self._commands = {name: command for name, command in self._commands.items() if command.run_id != run_id}
        self._maker.forget(run_id)
        lock.release()
        self._changed()

    # --- reading

    def _run(self, run_id: str) -> _Run:
        self._ready()
        try:
            return self._runs[run_id]
        except KeyError:
            raise UnknownRunError(run_id, self._runs) from None

    async def load_value(self, kept: Kept) -> Any:
        """Return the whole value that `keep` was given."""
        return value_of(kept, lambda: self._blobs)

    async def read_events(self, run_id: str, after: int = 0, limit: int | None = None) -> list[Event]:
        """Return a run's events with `seq > after`, by `seq`."""
        end = None if limit is None else after + limit
        return list(decoded(run_id, enumerate(self._run(run_id).events[after:end], after + 1)))

    async def read_raw_events(
        self, run_id: str, after: int = 0, limit: int | None = None
    ) -> AsyncIterator[tuple[int, str, str, bytes]]:
        """Yield `(seq, type, step_id, JSON)`; see `AbstractStore.read_raw_events`."""
        end = None if limit is None else after + limit
        for seq, data in enumerate(self._run(run_id).events[after:end], after + 1):
            head = event_head(data)
            yield seq, head.type, head.step_id, data

    async def list_runs(
        self,
        *,
        limit: int = 100,
        offset: int = 0,
        text: str = "",
        statuses: Sequence[RunStatus] = (),
        plan_path: str = "",
    ) -> list[RunSummary]:
        """Return runs, newest first; see `AbstractStore.list_runs`."""
        self._ready()
        newest = sorted(self._runs.values(), key=lambda run: (run.created[2], run.number), reverse=True)
        found = [
            summary
            for summary in map(self._summary, newest)
            if text.casefold() in f"{summary.run_id}\n{summary.goal}\n{summary.plan_path}".casefold()
            and (not statuses or summary.shown_status in statuses)
            and (not plan_path or summary.plan_path == plan_path)
        ]
        return found[offset : offset + limit]

    def _summary(self, run: _Run) -> RunSummary:
        summary = run_summary((run.run_id, *run.created, *run.summary, run.owner))
        if summary.could_be_live:
            return msgspec.structs.replace(summary, owner_alive=self.owner_alive(run.run_id))
        return summary

    async def get_run(self, run_id: str) -> RunSummary:
        """Return one run's row by its id or a unique prefix of it."""
        begins = [name for name in self._runs if run_id and name.startswith(run_id)]
        if run_id not in self._runs and len(begins) == 1:
            run_id = begins[0]
        try:
            return self._summary(self._run(run_id))
        except UnknownRunError as error:
            if begins:
                error.hint = f"Several begin like this: {', '.join(sorted(begins)[:8])}"
            raise

    async def children_of(self, run_id: str) -> list[RunSummary]:
        """Return the runs that were forked from a run, oldest first."""
        self._ready()
        children = [run for run in self._runs.values() if run.created[3] == run_id]
        return [self._summary(run) for run in sorted(children, key=lambda run: (run.created[2], run.number))]

    async def list_steps(self, run_id: str) -> list[StepSummary]:
        """Return the rows of a run's steps in plan order."""
        rows = sorted(self._run(run_id).steps.values(), key=lambda row: row[0])
        return [step_summary(run_id, row) for row in rows]

    async def read_log(
        self,
        run_id: str,
        *,
        step_id: str | None = None,
        attempt: int | None = None,
        item: int | None = None,
        after: int = 0,
        before: int | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[LogLine]:
        """Return log lines by number; see `AbstractStore.read_log`."""
        lines = [
            line
            for line in _of(self._run(run_id).lines, step_id, attempt)
            if line.n > after and (before is None or line.n < before) and (item is None or line.item == item)
        ]
        return lines[max(0, len(lines) - limit) :] if newest else lines[:limit]

    async def count_log(self, run_id: str, *, step_id: str | None = None, attempt: int | None = None) -> int:
        """Return how many log lines there are."""
        return len(_of(self._run(run_id).lines, step_id, attempt))

    async def read_log_page(
        self, run_id: str, *, step_id: str, attempt: int | None = None, offset: int = 0, limit: int = 200
    ) -> list[LogLine]:
        """Return the lines at positions `offset` to `offset + limit` of a step's log."""
        return _of(self._run(run_id).lines, step_id, attempt)[offset : offset + limit]

    async def search(self, text: str, *, run_id: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return hits in logs, outputs and errors; see `AbstractStore.search`."""
        self._ready()
        query = Query(text)
        if not query.plain:
            return []
        runs = list(self._runs.values()) if run_id is None else [self._run(run_id)]
        hits: list[dict[str, Any]] = []
        for run in sorted(runs, key=lambda run: -run.number):
            for seq, data in zip(range(len(run.events), 0, -1), reversed(run.events), strict=True):
                kind, found, step_id, attempt = event_text(data)
                if kind and query.fits(found):
                    hits.append(_hit(run.run_id, step_id, attempt, kind, seq, found))
            hits += [
                _hit(run.run_id, line.step_id, line.attempt, "log", line.n, line.text)
                for line in reversed(run.lines)
                if query.fits(line.text)
            ]
        return hits[:limit]

    # --- what runs share

    async def find_cached(self, key: str) -> CacheEntry | None:
        """Return the entry of that key; see `AbstractStore.find_cached`."""
        self._ready()
        return self._shared.find(key)

    async def last_cached(self, scope: str) -> CacheEntry | None:
        """Return the newest entry of a step, None where there is none."""
        self._ready()
        return self._shared.last(clean_scope(scope, self._maker.gates))

    async def clear_cache(self) -> int:
        """Forget all entries and return how many there were."""
        self._ready(write=True)
        cleared = self._shared.clear()
        self._changed()
        return cleared

    async def read_breakers(self) -> dict[str, dict[str, Any]]:
        """Return what is kept of each circuit breaker, by name."""
        self._ready()
        return self._shared.breakers()

    # --- commands, changes, ownership

    async def send_command(self, command: Command) -> None:
        """Store a command."""
        self._run(command.run_id)
        self._ready(write=True)
        if command.id in self._commands:
            raise StoreError(
                f"a command with the id '{command.id}' was sent before", hint="Give each command an id of its own."
            )
        arguments = to_json_value(command.arguments)
        for gate in self._maker.gates_for(None):
            arguments = gate.value(arguments)
        self._commands[command.id] = msgspec.structs.replace(command, arguments=arguments)
        self._changed()

    async def pending_commands(self, run_ids: Sequence[str]) -> list[Command]:
        """Return the unanswered commands for these runs in the order they were sent."""
        self._ready()
        wanted = set(run_ids)
        return [command for command in self._commands.values() if command.run_id in wanted and command.answer is None]

    async def get_command(self, command_id: str) -> Command | None:
        """Return a command with its answer, or None."""
        self._ready()
        return self._commands.get(command_id)

    async def data_version(self) -> int:
        """Return a number that changes with each write."""
        self._ready()
        return self._version

    def changes(self, poll: float = 0.05) -> AsyncIterator[None]:
        """Yield at once, and then each time the store may hold something new, until it is closed."""
        return self._feed.follow(self._poll, poll)

    async def _poll(self) -> int:
        return self._version

    def acquire_run(self, run_id: str) -> RunLock:
        """Take the run's lock; raises RunLockedError."""
        self._ready(write=True)
        if run_id in self._held:
            raise RunLockedError(run_id, os.getpid())
        self._maker.forget(run_id)
        return _MemoryLock(run_id, self._held)

    def owner_alive(self, run_id: str) -> bool:
        """Return whether somebody holds the run's lock."""
        return run_id in self._held

    async def read_workers(self, run_id: str) -> list[dict[str, Any]]:
        """Return what the last owner recorded of its pool workers."""
        return list(decode_json(self._run(run_id).workers))

    @property
    def folder(self) -> Path | None:
        """None: there are no files."""
        return None


def _of(lines: list[LogLine], step_id: str | None, attempt: int | None) -> list[LogLine]:
    return [
        line
        for line in lines
        if (step_id is None or line.step_id == step_id) and (attempt is None or line.attempt == attempt)
    ]


def _hit(run_id: str, step_id: str, attempt: int, kind: str, n: int, text: str) -> dict[str, Any]:
    return {"run_id": run_id, "step_id": step_id, "attempt": attempt, "kind": kind, "n": n, "text": text[:HIT_LENGTH]}
