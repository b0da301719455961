"""PostgreSQL: SQLAlchemy keeps the connections, psycopg speaks to the server, and a stop reaches it."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from psycopg.types.string import TextLoader
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.db.address import DatabaseAddress
from stepchain_tui.executors.db.failures import postgresql_failure
from stepchain_tui.executors.db.statement import Statement
from stepchain_tui.executors.db.wire import Wire
from stepchain_tui.executors.db.work import Answer, Order, SqlDatabase, Work
from stepchain_tui.executors.words import one_line
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

MOST_CONNECTIONS = 10
"""Connections to one database; more steps wait for one."""
CONNECT_SECONDS = 10
"""How long a connection may take to be made, where the url has no `connect_timeout`."""
_LONGEST_CONNECT = 3600
_LONGEST_WORDS = 200
_STOP_SECONDS = 2.0
"""How long the server has to stop a statement before its connection is closed."""
_ROLLBACK_SECONDS = 1.0
_AS_TEXT = (
    *("numeric", "uuid", "date", "time", "timetz", "timestamp", "timestamptz", "interval", "inet", "cidr"),
    *("int4range", "int8range", "numrange", "daterange", "tsrange", "tstzrange"),
    *("int4multirange", "int8multirange", "nummultirange", "datemultirange", "tsmultirange", "tstzmultirange"),
)
"""Types that come as the text that the server makes of them: all their values have one, not all fit into Python's."""
_SESSION = "SELECT set_config('datestyle', 'ISO', false), set_config('intervalstyle', 'iso_8601', false)"
_WATCH_CLIENT = "SET client_connection_check_interval = '2s'"
"""Makes the server stop a statement whose client died; servers before version 14 and some systems do not know it."""


class PostgresqlDatabase(SqlDatabase):
    """A PostgreSQL database and up to `MOST_CONNECTIONS` connections to it, made when they are needed.

    Args:
        address: Where it is; libpq reads the url, so whatever it knows may stand there.

    Raises:
        UsageError: Its `connect_timeout` is no whole number of seconds.
    """

    def __init__(self, address: DatabaseAddress) -> None:
        super().__init__(address)
        self._connect_seconds = _connect_seconds(dict(address.options).get("connect_timeout"))
        self._engine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=self._connect,
            pool_size=MOST_CONNECTIONS,
            max_overflow=0,
            pool_use_lifo=True,
            isolation_level="AUTOCOMMIT",
            use_native_hstore=False,
        )
        self._places = asyncio.Semaphore(MOST_CONNECTIONS)

    async def carry_out(self, work: Work) -> list[Answer]:
        """Carry out a transaction; see `SqlDatabase`."""
        task = asyncio.create_task(self._transaction(work), name=f"db {work.name}")
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # psycopg asks the server to stop. Where that does not answer either, being cancelled once more makes it
            # give up the connection.
            for _ in range(2):
                task.cancel()
                await asyncio.wait({task}, timeout=_STOP_SECONDS)
                if task.done():
                    break
            raise
        finally:
            if task.done() and not task.cancelled():
                task.exception()

    async def close(self) -> None:
        """Close the connections; may be called twice."""
        await self._engine.dispose()

    async def _transaction(self, work: Work) -> list[Answer]:
        if self._places.locked():
            work.tell(f"waiting: all {MOST_CONNECTIONS} connections to {self.address.label} are in use\n")
        async with self._places, self._connection(work) as driver:
            wire = Wire(driver)
            alone = work.autocommit or (work.is_query and not work.isolation and not work.read_only)
            statement: Statement | None = None
            try:
                if not alone:
                    await wire.run(_begin(work))
                answers = []
                for order in work.orders:
                    statement = order.statement
                    answers.append(await self._statement(driver, wire, order, work))
                if not alone:
                    await wire.run("COMMIT")
                return answers
            except psycopg.Error as error:
                # Without a statement the failure would read as one of connecting.
                known = statement or work.orders[0].statement
                raise postgresql_failure(error, work.name, self.address, known) from None

    async def _statement(self, driver: psycopg.AsyncConnection[Any], wire: Wire, order: Order, work: Work) -> Answer:
        statement = order.statement
        if order.many is not None:
            text = statement.rendered(lambda name, _: f"%({name})s", lambda piece: piece.replace("%", "%%"))
            await wire.take_rows_whole()
            async with driver.cursor() as cursor:
                await cursor.executemany(text, [_converted(each) for each in order.many])
                return Answer(max(0, cursor.rowcount))
        values = _converted(order.values)
        text = statement.rendered(lambda _, number: f"${number}")
        ordered = [values[name] for name in statement.names]
        try:
            return Answer(*await wire.run(text, ordered, work.new_sink, may_leave=work.is_query))
        except AttemptError:
            raise
        except (ValueError, RecursionError) as error:  # the server has JSON that Python has no values for
            raise AttemptError(
                f"{work.name}: a value in the rows cannot be read ({one_line(str(error), _LONGEST_WORDS)})",
                error_type=ErrorType.USER_ERROR,
                hint="Take it as text: cast(column as text), or a part of it.",
            ) from error

    @asynccontextmanager
    async def _connection(self, work: Work) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Lend a connection; afterwards it is as if it were new, or closed."""
        connection, driver = await self._checked_out(work)
        unchanged = all(order.statement.keeps_session for order in work.orders)
        clean = False
        try:
            yield driver
            clean = unchanged
        finally:
            wire = Wire(driver)
            await wire.stop()
            if wire.in_transaction and unchanged:
                with contextlib.suppress(psycopg.Error, TimeoutError):
                    async with asyncio.timeout(_ROLLBACK_SECONDS):
                        await wire.run("ROLLBACK")
                        clean = True
            if not clean or wire.in_transaction or not wire.at_rest:
                await connection.invalidate()
            await connection.close()

    async def _checked_out(self, work: Work) -> tuple[AsyncConnection, psycopg.AsyncConnection[Any]]:
        try:
            connection = await self._engine.connect()
            driver = await _driver_of(connection)
            if _is_stale(driver):
                await connection.invalidate()
                await connection.close()
                connection = await self._engine.connect()
                driver = await _driver_of(connection)
            return connection, driver
        except (psycopg.Error, SQLAlchemyError, UnicodeError) as error:
            raise self._connect_failure(error, work) from None

    def _connect_failure(self, error: Exception, work: Work) -> AttemptError:
        cause = getattr(error, "orig", None) or error
        if isinstance(cause, UnicodeError):
            return AttemptError(
                f"{work.name}: the `url` of postgresql names no host that can be asked",
                error_type=ErrorType.USER_ERROR,
                hint="Check the host's name: each part of it has 1 to 63 characters.",
            )
        if not isinstance(cause, psycopg.Error):
            cause = psycopg.OperationalError(str(cause))
        return postgresql_failure(cause, work.name, self.address)

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        url = "postgresql://" + self.address.url.partition("://")[2]
        options = dict(self.address.options)
        made = await psycopg.AsyncConnection.connect(
            url,
            autocommit=True,
            prepare_threshold=None,
            client_encoding="utf8",
            connect_timeout=self._connect_seconds,
            application_name=options.get("application_name", "stepchain"),
        )
        try:
            for name in _AS_TEXT:
                made.adapters.register_loader(name, TextLoader)
            await made.execute(_SESSION)
            with contextlib.suppress(psycopg.Error):
                await made.execute(_WATCH_CLIENT)
        except BaseException:
            await made.close()
            raise
        return made


def _connect_seconds(text: str | None) -> int:
    try:
        found = CONNECT_SECONDS if text is None else int(text)
    except ValueError:
        found = -1
    if not 0 <= found <= _LONGEST_CONNECT:
        raise UsageError(
            "the `connect_timeout` in the `url` of postgresql is no whole number of seconds",
            hint="Write ?connect_timeout=30.",
        )
    return found


async def _driver_of(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    return driver


def _is_stale(driver: psycopg.AsyncConnection[Any]) -> bool:
    """Whether a connection at rest was ended by the server: there is something to read where nothing was asked."""
    if driver.closed:
        return True
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
    return bool(poll.poll(0))


def _begin(work: Work) -> str:
    level = f" ISOLATION LEVEL {work.isolation.upper()}" if work.isolation else ""
    return f"BEGIN{level}{' READ ONLY' if work.read_only else ''}"


def _converted(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _for_driver(value) for name, value in values.items()}


def _for_driver(value: Any) -> Any:
    """Return a value as psycopg takes it: a list of plain values is an array, all else that holds others is JSON."""
    nested = isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value)
    return Jsonb(value) if nested or isinstance(value, Mapping) else value
