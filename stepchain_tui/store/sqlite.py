"""`SQLiteStore`: runs in one SQLite file, durable from the first event.

This class only joins the parts: rows are made on the caller's thread (`rows`), a writer stores them (`writer`,
`tables`), an aiosqlite reader reads beside it (`reader`, `logs`, `search`), and large values are files (`blobs`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from stepchain_tui.core.errors import StepChainError, StoreError
from stepchain_tui.core.paths import store_path
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.run.values import BlobReference, Kept
from stepchain_tui.store import locks, search, space, upkeep
from stepchain_tui.store.base import RunLock
from stepchain_tui.store.blobs import FileBlobs, keep_bytes, keep_value
from stepchain_tui.store.connect import connect_reader_once, connect_writer, prepare_file, release_file
from stepchain_tui.store.feed import Feed
from stepchain_tui.store.imports import require_trust
from stepchain_tui.store.logs import LogReader
from stepchain_tui.store.migrations import migrate
from stepchain_tui.store.moments import micros
from stepchain_tui.store.problems import not_open, store_error
from stepchain_tui.store.reader import Reader
from stepchain_tui.store.records import Batch, Command
from stepchain_tui.store.references import remove_unused
from stepchain_tui.store.rows import RowMaker
from stepchain_tui.store.shared import clear_cache
from stepchain_tui.store.sqlite_reading import SQLiteReading
from stepchain_tui.store.writer import DirectWriter, ThreadWriter, Writer

T = TypeVar("T")


class SQLiteStore(SQLiteReading):
    """Keeps runs in a SQLite file: opening, writing and upkeep; reading is the half in `sqlite_reading`.

    Use one object from one thread; several objects, also of several processes, may share the file. `unclean_end`
    tells after `open` whether the last process that wrote the store did not close it.

    Args:
        path: The file; by default `$STEPCHAIN_STORE`, else `runs.db` in the user's data folder.
        durability: `process`: what was committed survives the death of the process (WAL, NORMAL); `power`: it
            survives a power cut as well (WAL, FULL).
        threaded: Whether a thread of its own writes; by default only under `power`. Without it `commit` stores the
            batch before it returns.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        durability: Literal["process", "power"] = "process",
        threaded: bool | None = None,
    ) -> None:
        self.path = store_path(path)
        self.location = str(self.path)
        self.durability = durability
        self.read_only = False
        self._threaded = durability == "power" if threaded is None else threaded
        self._real = Path(os.path.realpath(self.path))
        self._locks = self._real.with_name(self._real.name + ".locks")
        self._blobs = FileBlobs(self._real.with_name(self._real.name + ".files"), sync=durability == "power")
        self._maker = RowMaker()
        self._feed = Feed()
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._logs: LogReader | None = None
        self._idle = upkeep.IdleIndexing(self._index_some)
        self._opening = asyncio.Lock()
        self.unclean_end = False
        self._alone = False

    @property
    def folder(self) -> Path | None:
        """The folder for the store's large values."""
        return self._blobs.folder

    # --- opening and closing

    async def open(self, *, read_only: bool = False) -> None:
        """Make the store ready; see `AbstractStore.open`."""
        async with self._opening:
            if self._reader is not None:
                return
            self.read_only = read_only
            await asyncio.to_thread(prepare_file, self._real, read_only=read_only)
            try:
                if read_only:
                    await asyncio.to_thread(connect_reader_once, self._real)
                else:
                    connection = await asyncio.to_thread(self._open_writer)
                    make = ThreadWriter if self._threaded else DirectWriter
                    self._writer = make(connection, self.location, self._feed.wake, self._maker.forget)
            except BaseException as error:
                release_file(self._real)
                if isinstance(error, sqlite3.Error | OSError):
                    raise store_error(error, self.location) from error
                raise
            self._reader = Reader(self._real, self.owner_alive)
            self._logs = LogReader(self._reader)
            self._feed.open()
            if self._writer is not None and self._alone:
                self._idle.begin()

    def _open_writer(self) -> sqlite3.Connection:
        self._alone = locks.enter(self._locks, self.location)
        connection: sqlite3.Connection | None = None
        try:
            self.unclean_end = self._alone and upkeep.left_open(self._real)
            connection = connect_writer(self._real, durability=self.durability)
            if self.unclean_end:
                upkeep.check_after_unclean_end(connection, self._real)
            migrate(connection, self.location)
        except BaseException:
            if connection is not None:
                connection.close()
            locks.leave(self._locks)
            raise
        return connection

    async def close(self) -> None:
        """Write out what is queued and let everything go; may be called twice."""
        async with self._opening:
            self._feed.close()
            reader, writer = self._reader, self._writer
            self._reader = self._writer = self._logs = None
            try:
                try:
                    if writer is not None:
                        await self._idle.end(writer)
                    if reader is not None:
                        await self._tidy(writer, reader)
                finally:
                    if reader is not None:
                        await reader.close()
            finally:
                if writer is not None:
                    await writer.close()
                    locks.leave(self._locks)
                if reader is not None:
                    release_file(self._real)
            if writer is not None:
                writer.raise_error()

    async def _tidy(self, writer: Writer | None, reader: Reader) -> None:
        """Remove the files that this store's commits have left without anything that refers to them."""
        if writer is not None and writer.tables.leaves_files:
            with contextlib.suppress(StepChainError):  # the next one to clear the cache sweeps all the same
                await upkeep.sweep_files(reader, self._blobs)

    def _writing(self) -> Writer:
        if self._writer is None:
            if self._reader is None:
                raise not_open(self.location)
            raise StoreError(
                f"the store {self.location} was opened for reading only", hint="Open it with `open()` to write."
            )
        return self._writer

    def _reading(self) -> Reader:
        if self._reader is None:
            raise not_open(self.location)
        return self._reader

    def _reading_logs(self) -> LogReader:
        if self._logs is None:
            raise not_open(self.location)
        return self._logs

    # --- writing

    def commit(self, batch: Batch, done: Callable[[BaseException | None], None] | None = None) -> None:
        """Store a batch in one transaction; see `AbstractStore.commit`."""
        writer = self._writer or self._writing()
        writer.raise_error()
        try:
            rows = self._maker.rows(batch)
        except StepChainError as error:
            writer.refuse(error, done)
            return
        self._idle.wake()
        writer.commit(rows, done)

    async def flush(self) -> None:
        """Return when all that was committed so far is durable."""
        await self._writing().flush()

    def set_redactor(self, run_id: str, redactor: Redactor | None) -> None:
        """Set what is secret in a run; see `AbstractStore.set_redactor`."""
        self._maker.set_redactor(run_id, redactor)

    def keep(self, value: Any, redactor: Redactor | None = None) -> Kept:
        """Return a JSON value as events carry it; see `AbstractStore.keep`."""
        return keep_value(value, self._maker.gates_for(redactor), self._blob_files)

    def keep_file(self, data: bytes, *, suffix: str = "", redactor: Redactor | None = None) -> BlobReference:
        """Return the reference to bytes that were put into a file; see `AbstractStore.keep_file`."""
        return keep_bytes(data, suffix, self._maker.gates_for(redactor), self._blob_files)

    def _blob_files(self) -> FileBlobs:
        self._writing()
        return self._blobs

    async def write(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out `job` in a transaction of its own, after everything committed so far."""
        return await self._writing().run(job)

    async def delete_run(self, run_id: str) -> None:
        """Forget a run; see `AbstractStore.delete_run`."""
        lock = self.lock_run(run_id)
        try:
            left = 1
            while left:
                left = await self.write(lambda connection: upkeep.shorten_log(connection, run_id))
            unused = await self.write(lambda connection: upkeep.delete_run(connection, run_id))
        finally:
            lock.release()
        if unused:
            await asyncio.to_thread(remove_unused, self._blobs, unused, self._locks)

    # --- what runs share

    async def clear_cache(self) -> int:
        """Forget all entries and return how many there were."""
        cleared = await self.write(clear_cache)
        await self.sweep_files()
        return cleared

    # --- commands and changes

    async def send_command(self, command: Command) -> None:
        """Store a command; durable when this returns."""
        arguments = to_json_value(command.arguments)
        for gate in self._maker.gates_for(None):
            arguments = gate.value(arguments)
        await self.write(
            lambda connection: upkeep.insert_command(
                connection, command, encode_json(arguments).decode(), micros(command.sent_at) or 0
            )
        )

    def changes(self, poll: float = 0.05) -> AsyncIterator[None]:
        """Yield at once, and then each time the store may hold something new, until it is closed."""
        return self._feed.follow(self._version, poll)

    async def _version(self) -> int:
        return -1 if self._reader is None else await self._reader.data_version()

    # --- ownership

    def acquire_run(self, run_id: str) -> RunLock:
        """Take the run's lock for this process; see `AbstractStore.acquire_run`."""
        writer = self._writing()
        require_trust(run_id, writer.import_mark(run_id))
        return self.lock_run(run_id)

    def lock_run(self, run_id: str) -> RunLock:
        """Take the run's lock to look after the run, not to carry it out; raises RunLockedError."""
        writer = self._writing()
        lock = locks.acquire(self._locks, run_id, self.location)
        writer.tables.forget([run_id])
        self._maker.forget(run_id)
        return lock

    def owner_alive(self, run_id: str) -> bool:
        """Return whether a living process holds the run's lock."""
        return locks.is_locked(locks.lock_path(self._locks, run_id))

    # --- upkeep

    async def _index_some(self) -> int:
        return 0 if self._writer is None else await self._writer.run(search.index_some)

    async def integrity_check(self, *, full: bool = False) -> list[str]:
        """Return what is wrong with the file and the large values beside it; an empty list is good news."""
        self._reading()
        reader = Reader(self._real, self.owner_alive)
        try:
            return await upkeep.integrity_check(reader, self._blobs, full=full)
        finally:
            await reader.close()

    async def rebuild_summaries(self, run_id: str) -> list[str]:
        """Fold a run's events anew, write its summary rows from that, and return what was different."""
        return await upkeep.rebuild_summaries(self, self._maker, run_id)

    async def give_back(self) -> bool:
        """Make the file smaller where much of it is free, and nobody else has it open; returns whether it was."""
        self._writing()
        return await space.give_back(self._real, self._locks)

    async def sweep_files(self) -> int:
        """Remove files that nothing refers to and return their number; fresh ones stay."""
        return await upkeep.sweep_files(self._reading(), self._blobs)
