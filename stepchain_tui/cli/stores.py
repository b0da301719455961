"""Opening the store for a command that reads it or looks after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from stepchain_tui.core.errors import UnknownRunError
from stepchain_tui.core.paths import settings_path, store_path
from stepchain_tui.core.settings import load_settings
from stepchain_tui.store import SQLiteStore

Result = TypeVar("Result")


def store_missing(path: Path) -> bool:
    """Return whether there is no store yet: no file, or one that nothing was ever written to."""
    try:
        return (path.is_file() and path.stat().st_size == 0) or not path.exists()
    except OSError:
        return False


@asynccontextmanager
async def reading(given: str | None) -> AsyncIterator[SQLiteStore]:
    """Open the store for reading; nothing of it is made or changed."""
    store = SQLiteStore(store_path(given))
    await store.open(read_only=True)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def writing(given: str | None) -> AsyncIterator[SQLiteStore]:
    """Open the store for looking after it; it is made where there is none."""
    store = SQLiteStore(store_path(given), durability=load_settings(settings_path()).durability)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def require_store(given: str | None, run_id: str) -> None:
    """See that there is a store that can hold the run, so that none is made by asking for it.

    Raises:
        UnknownRunError: There is no store yet.
    """
    path = store_path(given)
    if store_missing(path):
        error = UnknownRunError(run_id)
        error.hint = f"There is no store at {path} yet; the first run makes one."
        raise error


def read_run(given: str | None, run_id: str, read: Callable[[SQLiteStore, str], Awaitable[Result]]) -> Result:
    """Return what `read(store, run_id)` returns, for a run named by its id or a unique prefix of it.

    Raises:
        UnknownRunError: The store does not hold the run.
        StoreError: The store cannot be read.
    """
    import asyncio

    require_store(given, run_id)

    async def work() -> Result:
        async with reading(given) as store:
            return await read(store, (await store.get_run(run_id)).run_id)

    return asyncio.run(work())
