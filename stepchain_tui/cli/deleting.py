"""What `delete` and `prune` do once their words are understood."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from stepchain_tui.cli.stores import reading, require_store, store_missing, writing
from stepchain_tui.cli.text import clean_line, local_time, put, put_json, say, size, table, words_of
from stepchain_tui.core.errors import RunLockedError, UsageError
from stepchain_tui.core.paths import store_path
from stepchain_tui.store import RunSummary, SQLiteStore
from stepchain_tui.store.pruning import PruneRule, choose

_ALL = sys.maxsize


@dataclass(frozen=True, slots=True)
class Manner:
    """How runs are deleted: without asking, not at all, told as JSON."""

    yes: bool
    dry_run: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Going:
    """Runs that go, and about how many bytes that frees."""

    runs: Sequence[RunSummary]
    frees: int


Choose = Callable[[SQLiteStore], Awaitable[_Going]]


def delete(given: str | None, names: Sequence[str], manner: Manner) -> int:
    """Delete runs by their ids and return the exit code."""
    require_store(given, names[0])

    async def chosen(store: SQLiteStore) -> _Going:
        found = {run.run_id: run for run in [await store.get_run(name) for name in names]}
        for run in found.values():
            if store.owner_alive(run.run_id):
                raise RunLockedError(run.run_id, run.owner.pid if run.owner else 0)
        return await _going(store, list(found.values()))

    return _carry_out(given, chosen, manner)


def prune(given: str | None, rule: PruneRule, manner: Manner) -> int:
    """Delete the runs that a rule names and return the exit code."""
    if store_missing(store_path(given)):
        _tell([], 0, manner, "there is no store yet")
        return 0

    async def chosen(store: SQLiteStore) -> _Going:
        runs = await store.list_runs(limit=_ALL)
        runs = [run for run in runs if not store.owner_alive(run.run_id)]
        measured = runs if rule.max_bytes is not None else []
        whole, sizes = await store.measure([run.run_id for run in measured])
        return await _going(store, choose(runs, rule, whole, sizes))

    return _carry_out(given, chosen, manner)


async def _going(store: SQLiteStore, runs: Sequence[RunSummary]) -> _Going:
    whole, sizes = await store.measure([run.run_id for run in runs])
    return _Going(runs, whole.freed_by(sizes.values()))


def _carry_out(given: str | None, choose_runs: Choose, manner: Manner) -> int:
    async def look() -> _Going:
        async with reading(given) as store:
            return await choose_runs(store)

    going = asyncio.run(look())
    if manner.dry_run or not going.runs:
        _tell(going.runs, going.frees, manner, "would go" if going.runs else "nothing to delete")
        return 0
    if not manner.yes and not _confirmed(going):
        say("nothing was deleted")
        return 0
    freed, smaller = asyncio.run(_delete(given, [run.run_id for run in going.runs]))
    _tell(going.runs, freed, manner, "deleted")
    if not smaller and not manner.as_json:
        say("  the space is used again by the next runs")
    return 0


async def _delete(given: str | None, run_ids: Sequence[str]) -> tuple[int, bool]:
    """Delete runs and return how many bytes are free now, and whether the file is smaller."""
    async with writing(given) as store:
        before, _ = await store.measure([])
        for run_id in run_ids:
            await store.delete_run(run_id)
        await store.sweep_files()
        after, _ = await store.measure([])
        return max(0, before.total - after.total), await store.give_back()


def _confirmed(going: _Going) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"nobody can be asked whether {_count(going.runs)} may go", hint="Give --yes; --dry-run shows what goes."
        )
    for line in _rows(going.runs):
        say(line)
    say(f"Delete {_count(going.runs)}, about {size(going.frees)}? [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _tell(runs: Sequence[RunSummary], frees: int, manner: Manner, what: str) -> None:
    if manner.as_json:
        put_json(
            {
                "dry_run": manner.dry_run,
                "bytes": frees,
                "runs": [{"run_id": run.run_id, "status": run.shown_status, "goal": run.goal} for run in runs],
            }
        )
        return
    if not runs:
        say(what)
        return
    for line in _rows(runs):
        put(line)
    say(f"{_count(runs)} {what}, about {size(frees)}")


def _rows(runs: Sequence[RunSummary]) -> list[str]:
    return table(
        [
            (
                run.run_id,
                words_of(run.shown_status),
                local_time(run.finished_at or run.created_at),
                clean_line(run.goal),
            )
            for run in runs
        ]
    )


def _count(runs: Sequence[RunSummary]) -> str:
    return "1 run" if len(runs) == 1 else f"{len(runs):,} runs"
