"""The databases that steps share: one pool of connections for each url, for as long as the engine process lives.

Nobody tells when a run has ended, and it may go on later: what it has in memory is kept just as long.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.db.address import POSTGRESQL, SQLITE, DatabaseAddress
from stepchain_tui.executors.db.extras import require
from stepchain_tui.executors.db.work import SqlDatabase
from stepchain_tui.executors.threads import call_threads


class Databases:
    """Makes and keeps SQL databases."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, ...], SqlDatabase] = {}

    async def get(self, address: DatabaseAddress, folder: Path, run_id: str) -> SqlDatabase:
        """Return the database of an address.

        Args:
            address: Where it is.
            folder: What the path of a SQLite file is relative to.
            run_id: The run, which has its databases in memory for itself.

        Raises:
            UsageError: No driver of ours speaks to it, or its url has an unknown option.
            NotAvailableError: Its driver is not installed.
        """
        if address.driver == POSTGRESQL:
            key: tuple[str, ...] = (address.url,)
        elif address.driver == SQLITE:
            key = (address.url, str(folder), run_id if address.place == ":memory:" else "")
        else:
            raise UsageError(
                f"SQL for '{address.driver}' is not spoken here (there are: {POSTGRESQL}, {SQLITE})",
                hint="Register an executor of your own under this name, or name it under `executor:`.",
            )
        found = self._made.get(key)
        if found is None:
            make = await _maker(address, folder)
            found = self._made.get(key) or self._made.setdefault(key, make())
        return found

    async def close(self) -> None:
        """Close all of them; may be called twice."""
        made, self._made = self._made, {}
        for database in made.values():
            await database.close()


async def _maker(address: DatabaseAddress, folder: Path) -> Callable[[], SqlDatabase]:
    if address.driver == SQLITE:
        from stepchain_tui.executors.db.sqlite import SqliteDatabase

        return lambda: SqliteDatabase(address, folder)
    # The first import takes a third of a second, which the loop does not have.
    await call_threads().submit(lambda _: _require_postgresql()).result
    from stepchain_tui.executors.db.postgresql import PostgresqlDatabase

    return lambda: PostgresqlDatabase(address)


def _require_postgresql() -> None:
    for module in ("psycopg", "greenlet", "sqlalchemy.ext.asyncio"):
        require(module, "postgres", "PostgreSQL")
    from stepchain_tui.executors.db import postgresql  # noqa: F401 - loaded here, in a thread
