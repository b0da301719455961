"""`--dry-run` of the commands that carry a run out: their receipts, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stepchain_tui.cli.carrying import open_engine
from stepchain_tui.cli.receipts import put_receipt
from stepchain_tui.cli.stores import read_run, reading, require_store, store_missing
from stepchain_tui.core.errors import RunLockedError, UnknownRunError
from stepchain_tui.core.ids import check_run_id
from stepchain_tui.core.paths import store_path
from stepchain_tui.engine import Engine, EngineService, Receipt, load_source
from stepchain_tui.engine.forecast import forecast
from stepchain_tui.engine.rehearsal import receipt_of_start
from stepchain_tui.store import MemoryStore

if TYPE_CHECKING:
    from stepchain_tui.cli.runs import RunOrder
    from stepchain_tui.store import SQLiteStore


def rehearse_run(order: RunOrder, *, as_json: bool) -> int:
    """Print what `run` would do; return the exit code.

    Raises:
        PlanError: The plan has mistakes, all of them named.
        InputError: Inputs are missing, unknown or badly typed.
    """
    source = load_source(order.plan, order.inputs, None, order.max_concurrent)
    if order.run_id is not None and _is_known(order.store, check_run_id(order.run_id)):
        arguments = {"fresh": order.fresh}
        return rehearse(order.store, order.run_id, "resume", arguments, as_json=as_json, plan_path=order.plan)

    async def work() -> Receipt:
        async with Engine(MemoryStore()) as engine:
            receipt = receipt_of_start(engine.core, source)
            if store_missing(store_path(order.store)):
                return receipt.with_forecast(await forecast(engine.store, source))
        async with reading(order.store) as store:
            return receipt.with_forecast(await forecast(store, source))

    return put_receipt(asyncio.run(work()), as_json=as_json)


def _is_known(given: str | None, run_id: str) -> bool:
    async def found(store: SQLiteStore, known: str) -> str:
        return known

    if store_missing(store_path(given)):
        return False
    try:
        return read_run(given, run_id, found) == run_id
    except UnknownRunError:
        return False


def rehearse(
    given: str | None,
    run_id: str,
    command: str,
    arguments: Mapping[str, Any],
    *,
    as_json: bool,
    plan_path: str | None = None,
) -> int:
    """Print what going on with a run, or another command, would do; return the exit code.

    Raises:
        RunLockedError: It is to be resumed, and a living process carries it out.
        CommandRefusedError: It would be refused.
        UnknownRunError: The store does not hold the run.
    """
    require_store(given, run_id)

    async def work() -> Receipt:
        async with open_engine(given) as engine:
            summary = await engine.store.get_run(run_id)
            if command == "resume" and engine.store.owner_alive(summary.run_id):
                raise RunLockedError(summary.run_id, summary.owner.pid if summary.owner is not None else 0)
            return await EngineService(engine).receipt(summary.run_id, command, arguments, plan_path=plan_path)

    return put_receipt(asyncio.run(work()), as_json=as_json)
