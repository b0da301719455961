"""What `MemoryStore` and `JSONLStore` share: the contract over an index in memory.

A store says where things go besides: `_refresh` brings the index up to date before something is read, and
`_keep_rows`, `_keep_command` and `_drop_run` write what the index is about to take.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import msgspec

from stepchain_tui.core.errors import StepChainError, StoreError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.core.values import decode_json, to_json_value
from stepchain_tui.run.events import Event
from stepchain_tui.run.status import RunStatus
from stepchain_tui.run.values import BlobReference, Kept
from stepchain_tui.store.base import AbstractStore
from stepchain_tui.store.blobs import Blobs, FileBlobs, keep_bytes, keep_value, value_of
from stepchain_tui.store.feed import Feed
from stepchain_tui.store.index import RunBody, RunIndex, find_words
from stepchain_tui.store.problems import not_open
from stepchain_tui.store.reader import decoded, event_head
from stepchain_tui.store.records import Batch, CacheEntry, Command, LogLine, RunSummary, StepSummary, ToolRecord
from stepchain_tui.store.rows import BatchRows, RowMaker
from stepchain_tui.store.shared import clean_scope
from stepchain_tui.store.shared_memory import SharedMemory


class IndexedStore(AbstractStore):
    """Answers from an index in memory. It is long because the contract is: each method is a line or two.

    Args:
        location: What names the store in messages.
        blobs: Where large values go.
    """

    def __init__(self, location: str, blobs: Blobs) -> None:
        self.location = location
        self.index = RunIndex(self.owner_alive)
        self._blobs = blobs
        self._commands: dict[str, Command] = {}
        self._shared = SharedMemory()
        self._maker = RowMaker()
        self._feed = Feed()
        self._error: StepChainError | None = None
        self._open = False
        self._read_only = False

    # --- where it goes besides

    @abstractmethod
    def _refresh(self, run_id: str | None = None) -> None:
        """Bring the index up to date for one run, or for all runs and what they share."""

    @abstractmethod
    def _keep_rows(self, rows: BatchRows) -> None:
        """Write what a checked batch stores: all of it, or raise StoreError and leave nothing of it."""

    @abstractmethod
    def _keep_command(self, command: Command) -> None:
        """Write a command to a run that is there."""

    @abstractmethod
    def _body(self, run_id: str) -> RunBody:
        """Return the events and log lines of a run. Raises UnknownRunError."""

    def _new_body(self) -> RunBody | None:
        """Return the body of a run that begins, None where it is left in a file."""
        return None

    def _changed(self) -> None:
        """Tell who follows that there is something new."""
        self._feed.wake()

    def _ready(self, *, write: bool = False) -> None:
        if not self._open:
            raise not_open(self.location)
        if write and self._read_only:
            raise StoreError(
                f"the store {self.location} was opened for reading only", hint="Open it with `open()` to write."
            )

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    # --- writing

    def commit(self, batch: Batch, done: Callable[[BaseException | None], None] | None = None) -> None:
        """Store a batch before this returns; see `AbstractStore.commit`."""
        self._ready(write=True)
        self._raise_error()
        try:
            rows = self._maker.rows(batch)
            self._keep_rows(rows)
        except StepChainError as error:
            for run_id in {event.run_id for event in batch.events}:
                self._maker.forget(run_id)
            if done is None:
                self._error = error
            else:
                done(error)
            return
        self._take_rows(rows)
        self._changed()
        if done is not None:
            done(None)

    def _check_rows(self, rows: BatchRows) -> None:
        for run in rows.runs:
            self.index.check(run)

    def _take_rows(self, rows: BatchRows) -> None:
        for run in rows.runs:
            self.index.store(run, self._new_body)
        for answer, command_id in rows.answers:
            self._take_answer(command_id, answer)
        if rows.shared is not None:
            self._shared.store(rows.shared)

    def _take_answer(self, command_id: str, answer: str | bytes) -> None:
        if (command := self._commands.get(command_id)) is not None:
            self._commands[command_id] = msgspec.structs.replace(command, answer=decode_json(answer))

    async def flush(self) -> None:
        """Raise the error of a batch that failed and had no `done`: `commit` has stored all others."""
        self._ready(write=True)
        self._raise_error()

    def set_redactor(self, run_id: str, redactor: Redactor | None) -> None:
        """Set what is secret in a run; see `AbstractStore.set_redactor`."""
        self._maker.set_redactor(run_id, redactor)

    def keep(self, value: Any, redactor: Redactor | None = None) -> Kept:
        """Return a JSON value as events carry it; see `AbstractStore.keep`."""
        self._ready(write=True)
        return keep_value(value, self._maker.gates_for(redactor), lambda: self._blobs)

    def keep_file(self, data: bytes, *, suffix: str = "", redactor: Redactor | None = None) -> BlobReference:
        """Return the reference to bytes that were put into a file; see `AbstractStore.keep_file`."""
        self._ready(write=True)
        return keep_bytes(data, suffix, self._maker.gates_for(redactor), self._files_of_bytes)

    @abstractmethod
    def _files_of_bytes(self) -> FileBlobs:
        """Return where bytes go."""

    def _forget(self, run_id: str) -> None:
        """Let go of all that is remembered of a run that was deleted."""
        self.index.runs.pop(run_id, None)
        self._commands = {name: command for name, command in self._commands.items() if command.run_id != run_id}
        self._maker.forget(run_id)

    # --- reading

    def _look(self, run_id: str | None = None) -> RunIndex:
        self._ready()
        self._refresh(run_id)
        return self.index

    def _look_into(self, run_id: str) -> RunBody:
        self._look(run_id)
        return self._body(run_id)

    async def load_value(self, kept: Kept) -> Any:
        """Return the whole value that `keep` was given."""
        return value_of(kept, lambda: self._blobs)

    async def load_file(self, reference: BlobReference) -> bytes:
        """Return the bytes of a file; see `AbstractStore.load_file`."""
        return self._files_of_bytes().get(reference.name)

    async def read_events(self, run_id: str, after: int = 0, limit: int | None = None) -> list[Event]:
        """Return a run's events with `seq > after`, by `seq`."""
        return list(decoded(run_id, self._look_into(run_id).numbered_events(after, limit)))

    async def read_raw_events(
        self, run_id: str, after: int = 0, limit: int | None = None
    ) -> AsyncIterator[tuple[int, str, str, bytes]]:
        """Yield `(seq, type, step_id, JSON)`; see `AbstractStore.read_raw_events`."""
        for seq, data in self._look_into(run_id).numbered_events(after, limit):
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
        return self._look().list_runs(limit, offset, text, statuses, plan_path)

    async def get_run(self, run_id: str) -> RunSummary:
        """Return one run's row by its id or a unique prefix of it."""
        index = self._look(run_id)
        if run_id not in index.runs:
            self._refresh()
        return index.get_run(run_id)

    async def children_of(self, run_id: str) -> list[RunSummary]:
        """Return the runs that were forked from a run, oldest first."""
        return self._look().children_of(run_id)

    async def list_steps(self, run_id: str) -> list[StepSummary]:
        """Return the rows of a run's steps in plan order."""
        return self._look(run_id).list_steps(run_id)

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
        body = self._look_into(run_id)
        if step_id is None and attempt is None and item is None:
            first, end = after, len(body.lines) if before is None else before - 1
            return body.lines[max(first, end - limit) : end] if newest else body.lines[first : min(end, first + limit)]
        lines = [
            line
            for line in body.lines_of(step_id, attempt)
            if line.n > after and (before is None or line.n < before) and (item is None or line.item == item)
        ]
        return lines[max(0, len(lines) - limit) :] if newest else lines[:limit]

    async def count_log(self, run_id: str, *, step_id: str | None = None, attempt: int | None = None) -> int:
        """Return how many log lines there are."""
        return len(self._look_into(run_id).lines_of(step_id, attempt))

    async def read_log_page(
        self, run_id: str, *, step_id: str, attempt: int | None = None, offset: int = 0, limit: int = 200
    ) -> list[LogLine]:
        """Return the lines at positions `offset` to `offset + limit` of a step's log."""
        return self._look_into(run_id).lines_of(step_id, attempt)[offset : offset + limit]

    async def search(self, text: str, *, run_id: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return hits in logs, outputs and errors; see `AbstractStore.search`."""
        index = self._look(run_id)
        runs = list(index.runs.values()) if run_id is None else [index.run(run_id)]
        newest = sorted(runs, key=lambda run: run.age, reverse=True)

        def bodies() -> Iterator[tuple[str, RunBody]]:
            for run in newest:
                yield run.run_id, self._body(run.run_id)

        hits: list[dict[str, Any]] = []
        for hit in find_words(bodies(), text):
            if len(hits) >= limit:
                break
            hits.append(hit)
        return hits

    # --- what runs share

    async def find_cached(self, key: str) -> CacheEntry | None:
        """Return the entry of that key; see `AbstractStore.find_cached`."""
        self._look_at_shared()
        return self._shared.find(key)

    async def last_cached(self, scope: str) -> CacheEntry | None:
        """Return the newest entry of a step, None where there is none."""
        self._look_at_shared()
        return self._shared.last(clean_scope(scope, self._maker.gates))

    async def read_breakers(self) -> dict[str, dict[str, Any]]:
        """Return what is kept of each circuit breaker, by name."""
        self._look_at_shared()
        return self._shared.breakers()

    async def read_tools(self) -> list[ToolRecord]:
        """Return how each tool did, by name; see `AbstractStore.read_tools`."""
        self._look_at_shared()
        return self._shared.tools()

    def _look_at_shared(self) -> None:
        self._ready()

    # --- commands and changes

    async def send_command(self, command: Command) -> None:
        """Store a command; durable when this returns."""
        self._ready(write=True)
        self._look(command.run_id).run(command.run_id)
        if command.id in self._commands:
            raise StoreError(
                f"a command with the id '{command.id}' was sent before", hint="Give each command an id of its own."
            )
        arguments = to_json_value(command.arguments)
        for gate in self._maker.gates_for(None):
            arguments = gate.value(arguments)
        cleaned = msgspec.structs.replace(command, arguments=arguments)
        self._keep_command(cleaned)
        self._commands[command.id] = cleaned
        self._changed()

    async def pending_commands(self, run_ids: Sequence[str]) -> list[Command]:
        """Return the unanswered commands for these runs in the order they were sent."""
        self._ready()
        wanted = set(run_ids)
        for run_id in wanted:
            self._refresh(run_id)
        return [command for command in self._commands.values() if command.run_id in wanted and command.answer is None]

    async def get_command(self, command_id: str) -> Command | None:
        """Return a command with its answer, or None."""
        self._look()
        return self._commands.get(command_id)

    def changes(self, poll: float = 0.05) -> AsyncIterator[None]:
        """Yield at once, and then each time the store may hold something new, until it is closed."""
        return self._feed.follow(self._version, poll)

    @abstractmethod
    async def _version(self) -> int:
        """Return `data_version`, also of a store that was closed meanwhile."""

    async def data_version(self) -> int:
        """Return a number that changes with each write, by whichever process."""
        self._ready()
        return await self._version()

    async def read_workers(self, run_id: str) -> list[dict[str, Any]]:
        """Return what the last owner recorded of its pool workers."""
        return list(decode_json(self._look(run_id).run(run_id).workers))
