"""The two ways to write: at once on the caller's thread, or through one thread with group commit.

Both store batches in the order in which they came, each whole or not at all, and both wait at most five seconds for
another process that is writing. `done` is always called on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.store.connect import BUSY_SECONDS
from stepchain_tui.store.imports import ImportMark
from stepchain_tui.store.problems import is_busy, store_error
from stepchain_tui.store.rows import BatchRows
from stepchain_tui.store.tables import Tables

Done = Callable[[BaseException | None], None]
Job = Callable[[sqlite3.Connection], Any]
T = TypeVar("T")

SHORT_BUSY_SECONDS = 0.05
"""How long the event loop's thread may stand still for another process before the batch is put aside."""
RETRY_SECONDS = 0.005
GROUP_LIMIT = 2_000
"""Batches that one transaction of the writer thread takes at most."""
_IMPORT_MARK = "SELECT record FROM imports JOIN runs ON runs.key = imports.run WHERE runs.run_id = ?"
_FAILURES = (sqlite3.Error, OSError, StepChainError, ValueError, TypeError, LookupError, ArithmeticError)


class Writer(ABC):
    """Stores batches through one connection.

    Args:
        connection: In autocommit mode; closed by `close`.
        location: The store's name in messages.
        wake: Called on the loop's thread after each commit.
        failed: Called with the ids of the runs whose batch was not stored.
    """

    def __init__(
        self, connection: sqlite3.Connection, location: str, wake: Callable[[], None], failed: Callable[[str], None]
    ) -> None:
        self._connection = connection
        self._location = location
        self._wake = wake
        self._failed = failed
        self._error: StepChainError | None = None
        self.tables = Tables(connection)

    @abstractmethod
    def commit(self, batch: BatchRows, done: Done | None) -> None:
        """Store a batch, now or soon; see `AbstractStore.commit`."""

    @abstractmethod
    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out `job` in a transaction of its own, after everything committed so far, and return its result."""

    @abstractmethod
    async def flush(self) -> None:
        """Return when everything committed so far is stored."""

    @abstractmethod
    async def close(self) -> None:
        """Store what is left and close the connection."""

    def _close_connection(self) -> None:
        """Close, and leave no write-ahead log behind: one that is found later tells of an unclean end."""
        self.tables.close()
        with contextlib.suppress(sqlite3.Error):  # somebody is reading just now; the log is emptied another time
            self._connection.execute("PRAGMA busy_timeout = 100")
            self._connection.execute("PRAGMA wal_checkpoint (TRUNCATE)").fetchall()
        self._connection.close()

    def import_mark(self, run_id: str) -> ImportMark | None:
        """Return the mark of a run that came from elsewhere, None for all others."""
        found = self._connection.execute(_IMPORT_MARK, (run_id,)).fetchall()
        return msgspec.json.decode(found[0][0], type=ImportMark) if found else None

    def raise_error(self) -> None:
        """Raise the error of a batch that nobody was told of."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def refuse(self, error: StepChainError, done: Done | None) -> None:
        """Tell of a batch that could not even be made into rows."""
        if done is not None:
            done(error)
        else:
            self._error = self._error or error

    def _transact(self, batches: list[BatchRows]) -> None:
        """Store batches in one transaction, or none of them."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            for batch in batches:
                self.tables.store(batch)
            connection.execute("COMMIT")
        except BaseException:
            self._undo(batches)
            raise

    def _undo(self, batches: list[BatchRows]) -> None:
        for batch in batches:
            self.tables.forget(rows.run_id for rows in batch.runs)
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _run_job(self, job: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = job(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result

    def _tell(self, batch: BatchRows, done: Done | None, error: BaseException | None) -> None:
        """Pass on how a batch ended; on the loop's thread."""
        if error is None:
            if done is not None:
                done(None)
            return
        for rows in batch.runs:
            self._failed(rows.run_id)
        self.refuse(error if isinstance(error, StepChainError) else store_error(error, self._location), done)


class DirectWriter(Writer):
    """Commits on the caller's thread, within the call.

    Only where another process is writing at that very moment is a batch put aside and tried again every 5 ms, so
    that the event loop goes on; what comes after it waits behind it.
    """

    _waiting: deque[tuple[BatchRows, Done | None]]
    _timer: asyncio.TimerHandle | None = None
    _since = 0.0

    def __init__(
        self, connection: sqlite3.Connection, location: str, wake: Callable[[], None], failed: Callable[[str], None]
    ) -> None:
        super().__init__(connection, location, wake, failed)
        self._waiting = deque()
        self._drained: asyncio.Future[None] | None = None
        connection.execute(f"PRAGMA busy_timeout = {int(SHORT_BUSY_SECONDS * 1000)}")

    def commit(self, batch: BatchRows, done: Done | None) -> None:
        """Store a batch before this returns, or put it aside."""
        if self._waiting:
            self._waiting.append((batch, done))
            return
        try:
            self._transact([batch])
        except _FAILURES as error:
            if is_busy(error):
                self._put_aside(batch, done)
            else:
                self._tell(batch, done, error)
            return
        self._wake()
        if done is not None:
            done(None)

    def _put_aside(self, batch: BatchRows, done: Done | None) -> None:
        self._waiting.append((batch, done))
        self._since = time.monotonic()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            while self._waiting:
                time.sleep(RETRY_SECONDS)
                self._try_again()
            return
        self._timer = loop.call_later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        self._timer = None
        self._connection.execute("PRAGMA busy_timeout = 1")
        try:
            self._try_again()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {int(SHORT_BUSY_SECONDS * 1000)}")
            if self._waiting:
                self._timer = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._retry)
            elif self._drained is not None:
                self._drained.set_result(None)
                self._drained = None

    def _try_again(self) -> None:
        while self._waiting:
            batch, done = self._waiting[0]
            error: BaseException | None = None
            try:
                self._transact([batch])
            except _FAILURES as failure:
                if is_busy(failure) and time.monotonic() - self._since < BUSY_SECONDS:
                    return
                error = failure
            self._waiting.popleft()
            if error is None:
                self._since = time.monotonic()
                self._wake()
            self._tell(batch, done, error)

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out `job` in a transaction of its own on this thread."""
        until = time.monotonic() + BUSY_SECONDS
        while True:
            await self._drain()
            try:
                result = self._run_job(job)
            except _FAILURES as error:
                if not is_busy(error) or time.monotonic() > until:
                    raise error if isinstance(error, StepChainError) else store_error(error, self._location) from error
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._wake()
                return result

    async def _drain(self) -> None:
        if self._waiting:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    async def flush(self) -> None:
        """Return when nothing is put aside any more."""
        await self._drain()
        self.raise_error()

    async def close(self) -> None:
        """Store what was put aside and close the connection."""
        try:
            await self._drain()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._close_connection()


class ThreadWriter(Writer):
    """Commits in a thread of its own: whatever is queued goes into one transaction."""

    def __init__(
        self, connection: sqlite3.Connection, location: str, wake: Callable[[], None], failed: Callable[[str], None]
    ) -> None:
        super().__init__(connection, location, wake, failed)
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = threading.Thread(
            target=self._work, name="stepchain-store-writer", daemon=True
        )
        self._thread.start()

    def commit(self, batch: BatchRows, done: Done | None) -> None:
        """Queue a batch."""
        self._queue.put((batch, done, asyncio.get_running_loop()))

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out `job` in a transaction of its own on the writer's thread."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put((job, future, loop))
        return await asyncio.shield(future)

    async def flush(self) -> None:
        """Return when everything queued so far is stored."""
        await self._pass()
        self.raise_error()

    async def _pass(self) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._queue.put((None, future, loop))
        await asyncio.shield(future)

    async def close(self) -> None:
        """Store what is queued, end the thread and close the connection."""
        if self._thread is None:
            return
        try:
            await self._pass()
        finally:
            thread, self._thread = self._thread, None
            self._queue.put(None)
            await asyncio.to_thread(thread.join)
            self._close_connection()

    # --- on the writer's thread

    def _work(self) -> None:
        while (entry := self._queue.get()) is not None:
            group = []
            while True:
                if entry is not None and isinstance(entry[0], BatchRows):
                    group.append(entry)
                else:
                    self._store_group(group)
                    group = []
                    if entry is None:
                        return
                    self._do_job(*entry)
                if len(group) >= GROUP_LIMIT:
                    break
                try:
                    entry = self._queue.get_nowait()
                except queue.Empty:
                    break
            self._store_group(group)

    def _store_group(self, group: list[tuple[BatchRows, Done | None, asyncio.AbstractEventLoop]]) -> None:
        if not group:
            return
        try:
            self._transact([batch for batch, _, _ in group])
            ends: list[BaseException | None] = [None] * len(group)
        except BaseException as failure:  # noqa: BLE001 - each batch tells below what was wrong with it
            ends = [failure if is_busy(failure) else self._store_alone(batch) for batch, _, _ in group]
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[BatchRows, Done | None, BaseException | None]]] = {}
        for (batch, done, loop), error in zip(group, ends, strict=True):
            by_loop.setdefault(loop, []).append((batch, done, error))
        for loop, told in by_loop.items():
            self._call(loop, self._tell_all, told)

    def _store_alone(self, batch: BatchRows) -> BaseException | None:
        """Store one batch of a group that failed: what is wrong with one run must not hurt another."""
        try:
            self._transact([batch])
        except BaseException as error:  # noqa: BLE001 - the thread must live on; `done` is handed the error
            return error
        return None

    def _tell_all(self, told: list[tuple[BatchRows, Done | None, BaseException | None]]) -> None:
        self._wake()
        for told_now, (batch, done, error) in enumerate(told, 1):
            try:
                self._tell(batch, done, error)
            except BaseException:
                asyncio.get_running_loop().call_soon(self._tell_all, told[told_now:])
                raise

    def _do_job(self, job: Job | None, future: asyncio.Future[Any], loop: asyncio.AbstractEventLoop) -> None:
        result: Any = None
        problem: BaseException | None = None
        try:
            result = None if job is None else self._run_job(job)
        except _FAILURES as error:
            problem = error if isinstance(error, StepChainError) else store_error(error, self._location)
        except BaseException as error:  # noqa: BLE001 - the thread must live on; whoever waits is handed the error
            problem = error
        self._call(loop, self._finish, future, result, problem, job is not None)

    def _finish(self, future: asyncio.Future[Any], result: Any, error: BaseException | None, wrote: bool) -> None:
        if wrote:
            self._wake()
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    @staticmethod
    def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
        try:
            loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError as error:
            if not loop.is_closed():
                raise
            del error  # nobody is left to be told
