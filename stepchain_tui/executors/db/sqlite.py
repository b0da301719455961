"""SQLite files, and databases in memory: Python's own driver, one thread for one transaction at a time."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.db.address import DatabaseAddress
from stepchain_tui.executors.db.failures import sqlite_failure
from stepchain_tui.executors.db.values import for_sqlite
from stepchain_tui.executors.db.work import Answer, Order, SqlDatabase, Work
from stepchain_tui.executors.threads import call_threads
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

T = TypeVar("T")
LOCK_SECONDS = 5.0
"""How long a lock of somebody else is waited for, where the url has no `timeout`."""
_TURN_SECONDS = 0.5
"""How long the driver waits for a lock at once: nothing can stop it meanwhile."""
_INTERRUPT_SECONDS = 0.02
_MOST_AT_REST = 4
"""Connections to one file that are kept open for the next step."""
_MODES = ("ro", "rw", "rwc")
_COUNTED = frozenset({"insert", "update", "delete", "replace"})


class SqliteDatabase(SqlDatabase):
    """A file, or a database in memory that lives as long as this object.

    Args:
        address: Where it is.
        folder: What a path without a leading `/` is relative to.

    Raises:
        UsageError: The address has an option that SQLite does not know.
    """

    def __init__(self, address: DatabaseAddress, folder: Path) -> None:
        super().__init__(address)
        options = dict(address.options)
        unknown = sorted(options.keys() - {"mode", "timeout"})
        if unknown or options.get("mode", "rwc") not in _MODES:
            raise UsageError(
                f"the `url` of sqlite has an unknown {f'option {unknown[0]!r}' if unknown else 'mode'}",
                hint=f"Options are mode={', '.join(_MODES)} and timeout=SECONDS.",
            )
        self._mode = options.get("mode", "rwc")
        self.lock_seconds = _seconds(options.get("timeout"))
        name = address.path.removeprefix("/")
        self.in_memory = name in ("", ":memory:")
        self.file = folder / name
        self._idle: dict[bool, list[sqlite3.Connection]] = {False: [], True: []}
        self._turn = asyncio.Lock()
        self._closed = False

    async def carry_out(self, work: Work) -> list[Answer]:
        """Carry out a transaction; see `SqlDatabase`."""
        if not self.in_memory:
            return await self._in_thread(work)
        async with self._turn:
            return await self._in_thread(work)

    async def close(self) -> None:
        """Close the connections at rest; one that is at work is closed when it is done."""
        self._closed = True
        kept, self._idle = [*self._idle[False], *self._idle[True]], {False: [], True: []}
        for connection in kept:
            connection.close()

    async def _in_thread(self, work: Work) -> list[Answer]:
        transaction = _Transaction(self, work)
        call = call_threads().submit(lambda _: transaction.carry_out(), transaction.stop)
        try:
            answers: list[Answer] = await call.result
            return answers
        except asyncio.CancelledError:
            call.cancel()
            while not call.finished.done():
                transaction.stop()
                await asyncio.wait({call.finished}, timeout=_INTERRUPT_SECONDS)
            raise

    def take(self, read_only: bool) -> sqlite3.Connection:
        """Return a connection for one transaction; called in its thread.

        Raises:
            sqlite3.Error: The file cannot be opened.
        """
        try:
            return self._idle[read_only and not self.in_memory].pop()
        except IndexError:
            pass
        if self.in_memory:
            place = ":memory:"
        else:
            place = f"file:{quote(str(self.file))}?mode={'ro' if read_only else self._mode}"
        made = sqlite3.connect(
            place, uri=not self.in_memory, timeout=_TURN_SECONDS, isolation_level=None, check_same_thread=False
        )
        made.text_factory = _text
        return made

    def give_back(self, connection: sqlite3.Connection, read_only: bool, unchanged: bool) -> None:
        """Keep a connection for the next transaction, or close it; called in its thread.

        Args:
            connection: The connection, with no transaction open.
            read_only: As it was taken.
            unchanged: It is as if it were new: no settings, attached files or temporary tables.
        """
        kept = self._idle[read_only and not self.in_memory]
        if not self._closed and (self.in_memory or (unchanged and len(kept) < _MOST_AT_REST)):
            kept.append(connection)
        else:
            connection.close()


class _Transaction:
    """One transaction on its way through a thread."""

    def __init__(self, database: SqliteDatabase, work: Work) -> None:
        self._database, self._work = database, work
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._running: sqlite3.Connection | None = None

    def stop(self) -> None:
        """Interrupt the statement that runs and begin no other; from any thread, as often as one likes."""
        self._stopped.set()
        with self._lock:
            if self._running is not None:
                self._running.interrupt()

    def carry_out(self) -> list[Answer]:
        """Carry it out and return one answer for each statement; called in the thread.

        Raises:
            AttemptError: It failed and was rolled back.
        """
        database, work = self._database, self._work
        try:
            connection = database.take(work.read_only)
        except sqlite3.Error as error:
            raise sqlite_failure(error, work.name, database.address) from None
        self._running = connection
        unchanged = all(order.statement.keeps_session for order in work.orders)
        try:
            answers = self._statements(connection)
            if connection.in_transaction:
                self._patiently(lambda: connection.execute("COMMIT"))
            return answers
        except sqlite3.Error as error:
            raise sqlite_failure(error, work.name, database.address) from None
        finally:
            with self._lock:
                self._running = None
            try:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            except sqlite3.Error:
                unchanged = False
            database.give_back(connection, work.read_only, unchanged)

    def _statements(self, connection: sqlite3.Connection) -> list[Answer]:
        work = self._work
        if self._database.in_memory:
            connection.execute(f"PRAGMA query_only = {int(work.read_only)}")
        if not work.autocommit:
            # One that begins as a reader and writes later can fail for good where somebody else wrote in between.
            writes = not work.read_only and not all(order.statement.is_query for order in work.orders)
            self._patiently(lambda: connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN"))
        return [self._statement(connection, order) for order in work.orders]

    def _statement(self, connection: sqlite3.Connection, order: Order) -> Answer:
        text = order.statement.text
        if order.many is not None:
            return Answer(self._many(connection, order, [self._converted(each) for each in order.many]))
        values = self._converted(order.values)
        before = connection.total_changes
        cursor = self._patiently(lambda: connection.execute(text, values))
        if cursor.description is None:
            return Answer(_changed(connection, cursor, before))
        sink = self._work.new_sink()
        sink.begin([column[0] for column in cursor.description])
        sink.take(cursor)
        cursor.close()
        return Answer(sink.rows, sink)

    def _many(self, connection: sqlite3.Connection, order: Order, many: Sequence[Mapping[str, Any]]) -> int:
        """Carry a statement out for each of many values and return how many rows it changed or gave."""
        text, statement = order.statement.text, order.statement
        plain = statement.verb in _COUNTED and "returning" not in statement.words
        if plain and connection.in_transaction:  # else what was done before a lock came would be done again
            return self._patiently(lambda: connection.executemany(text, many)).rowcount
        count = 0
        for values in many:
            before = connection.total_changes
            cursor = self._patiently(partial(connection.execute, text, values))
            gave = cursor.description is not None
            count += sum(1 for _ in cursor) if gave else _changed(connection, cursor, before)
        return count

    def _converted(self, values: Mapping[str, Any]) -> dict[str, Any]:
        found = {}
        for key, value in values.items():
            try:
                found[key] = for_sqlite(value)
            except ValueError as error:
                raise AttemptError(
                    f"{self._work.name}: `params.{key}` {error}",
                    error_type=ErrorType.USER_ERROR,
                    hint="Pass it as text.",
                ) from error
        return found

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call again while somebody else holds the lock, for as long as the address says."""
        deadline = time.monotonic() + self._database.lock_seconds
        while True:
            if self._stopped.is_set():
                raise AttemptError(
                    f"{self._work.name}: was stopped", error_type=ErrorType.UNKNOWN, hint="Run it again."
                )
            try:
                return call()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() >= deadline:
                    raise


def _changed(connection: sqlite3.Connection, cursor: sqlite3.Cursor, before: int) -> int:
    """Return how many rows a statement changed; the driver counts only what begins with a word of `_COUNTED`.

    Args:
        connection: The connection, on which nothing was done since.
        cursor: Of the statement.
        before: The connection's `total_changes` before it, which says whether it changed anything.
    """
    if cursor.rowcount >= 0 or connection.total_changes == before:
        return max(0, cursor.rowcount)
    [(count,)] = connection.execute("SELECT changes()").fetchall()
    return int(count)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _seconds(text: str | None) -> float:
    try:
        found = LOCK_SECONDS if text is None else float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 3600:
        raise UsageError("the `timeout` in the `url` of sqlite is no number of seconds", hint="Write ?timeout=30.")
    return found
