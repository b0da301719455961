"""The half of `SQLiteStore` that reads: each question goes to the part that knows the answer."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stepchain_tui.run.events import Event
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.run.values import BlobReference, Kept
from stepchain_tui.store import search, space
from stepchain_tui.store.base import AbstractStore
from stepchain_tui.store.blobs import FileBlobs, value_of
from stepchain_tui.store.logs import LogReader
from stepchain_tui.store.reader import Reader
from stepchain_tui.store.records import CacheEntry, Command, LogLine, RunSummary, StepSummary, ToolRecord
from stepchain_tui.store.rows import RowMaker
from stepchain_tui.store.shared import clean_scope


class SQLiteReading(AbstractStore):
    """Answers from a reader. It is long because the contract is: each method is a line or two."""

    _blobs: FileBlobs
    _maker: RowMaker

    @abstractmethod
    def _reading(self) -> Reader:
        """Return the reader. Raises StoreError where the store is not open."""

    @abstractmethod
    def _reading_logs(self) -> LogReader:
        """Return what reads logs. Raises StoreError where the store is not open."""

    async def load_value(self, kept: Kept) -> Any:
        """Return the whole value that `keep` was given."""
        if kept.blob is None:
            return kept.value
        return await asyncio.to_thread(value_of, kept, lambda: self._blobs)

    async def load_file(self, reference: BlobReference) -> bytes:
        """Return the bytes of a file; see `AbstractStore.load_file`."""
        return await asyncio.to_thread(self._blobs.get, reference.name)

    def file_path(self, reference: BlobReference) -> Path | None:
        """Return where a file is."""
        return self._blobs.path(reference.name)

    async def read_events(self, run_id: str, after: int = 0, limit: int | None = None) -> list[Event]:
        """Return a run's events with `seq > after`; see `AbstractStore.read_events`."""
        return await self._reading().events(run_id, after, limit)

    async def load_state(self, run_id: str) -> RunState:
        """Return the fold of all events of a run."""
        return await self._reading().state(run_id)

    def read_raw_events(
        self, run_id: str, after: int = 0, limit: int | None = None
    ) -> AsyncIterator[tuple[int, str, str, bytes]]:
        """Yield `(seq, type, step_id, JSON)`; see `AbstractStore.read_raw_events`."""
        return self._reading().raw_events(run_id, after, limit)

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
        return await self._reading().list_runs(limit, offset, text, statuses, plan_path)

    async def get_run(self, run_id: str) -> RunSummary:
        """Return one run's row by its id or a unique prefix of it."""
        return await self._reading().get_run(run_id)

    async def children_of(self, run_id: str) -> list[RunSummary]:
        """Return the runs that were forked from a run, oldest first."""
        return await self._reading().children_of(run_id)

    async def list_steps(self, run_id: str) -> list[StepSummary]:
        """Return the rows of a run's steps in plan order."""
        return await self._reading().list_steps(run_id)

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
        return await self._reading_logs().lines(
            run_id,
            step_id=step_id,
            attempt=attempt,
            item=item,
            after=after,
            before=before,
            limit=limit,
            newest=newest,
        )

    async def count_log(self, run_id: str, *, step_id: str | None = None, attempt: int | None = None) -> int:
        """Return how many log lines there are."""
        return await self._reading_logs().count(run_id, step_id=step_id, attempt=attempt)

    async def read_log_page(
        self, run_id: str, *, step_id: str, attempt: int | None = None, offset: int = 0, limit: int = 200
    ) -> list[LogLine]:
        """Return the lines at positions `offset` to `offset + limit` of a step's log."""
        return await self._reading_logs().page(run_id, step_id=step_id, attempt=attempt, offset=offset, limit=limit)

    async def search(self, text: str, *, run_id: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return hits in logs, outputs and errors; see `AbstractStore.search`."""
        return await search.search(self._reading(), text, run_id, limit)

    async def find_cached(self, key: str) -> CacheEntry | None:
        """Return the entry of that key; see `AbstractStore.find_cached`."""
        entry = await self._reading().cached(key)
        if entry is None or not entry.output.references:
            return entry
        return entry if await asyncio.to_thread(self._blobs.touch_all, entry.output) else None

    async def last_cached(self, scope: str) -> CacheEntry | None:
        """Return the newest entry of a step, None where there is none."""
        return await self._reading().last_cached(clean_scope(scope, self._maker.gates))

    async def read_breakers(self) -> dict[str, dict[str, Any]]:
        """Return what is kept of each circuit breaker, by name."""
        return await self._reading().breakers()

    async def read_tools(self) -> list[ToolRecord]:
        """Return how each tool did, by name; see `AbstractStore.read_tools`."""
        return await self._reading().tools()

    async def pending_commands(self, run_ids: Sequence[str]) -> list[Command]:
        """Return the unanswered commands for these runs in the order they were sent."""
        return await self._reading().pending_commands(run_ids)

    async def get_command(self, command_id: str) -> Command | None:
        """Return a command with its answer, or None."""
        return await self._reading().command(command_id)

    async def data_version(self) -> int:
        """Return a number that changes whenever any connection has written."""
        return await self._reading().data_version()

    async def read_workers(self, run_id: str) -> list[dict[str, Any]]:
        """Return what the last owner recorded of its pool workers."""
        return await self._reading().workers(run_id)

    async def measure(self, run_ids: Sequence[str]) -> tuple[space.StoreSize, Mapping[str, space.RunSize]]:
        """Return how much the store takes, and how much of that each of these runs. Raises UnknownRunError."""
        reader = self._reading()
        return await space.measure_store(reader), await space.measure_runs(reader, run_ids)
