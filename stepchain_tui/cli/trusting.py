"""Whether the steps of an imported run may be carried out: asked of the store before a command does so."""

from __future__ import annotations

import asyncio

from stepchain_tui.cli.stores import read_run, require_store, writing
from stepchain_tui.store import SQLiteStore
from stepchain_tui.store.importing import trust_run
from stepchain_tui.store.imports import require_trust


def trust_imported(given: str | None, run_id: str) -> None:
    """Note that the user trusts the plan of a run that was imported; of no effect on any other.

    Raises:
        UnknownRunError: The store does not hold the run.
        UntrustedRunError: Its import was cut off.
    """
    require_store(given, run_id)

    async def work() -> None:
        async with writing(given) as store:
            await trust_run(store, run_id)

    asyncio.run(work())


def require_trusted(given: str | None, run_id: str) -> None:
    """See that the steps of a run may be carried out.

    Raises:
        UnknownRunError: The store does not hold the run.
        UntrustedRunError: It was imported, and nobody has said yet that they trust it.
    """

    async def look(store: SQLiteStore, known: str) -> None:
        require_trust(known, (await store.get_run(known)).imported)

    read_run(given, run_id, look)
