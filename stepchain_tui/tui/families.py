"""Families of runs: forks below the runs that they were made from; all of it runs in the reader's thread."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepchain_tui.core.errors import UnknownRunError

if TYPE_CHECKING:
    from stepchain_tui.store.base import AbstractStore, RunSummary


@dataclass(frozen=True, slots=True)
class Member:
    """One run in the list of runs.

    Attributes:
        run: The run, None for one that was deleted and has forks.
        depth: How many runs stand above it in its family.
        forked_at: The step of its parent that it was forked at, or empty.
    """

    run_id: str
    run: RunSummary | None
    depth: int = 0
    forked_at: str = ""


def on_their_own(runs: Sequence[RunSummary], seen: Collection[str]) -> list[Member]:
    """Return runs without their families, those that were seen left out."""
    return [Member(run.run_id, run) for run in runs if run.run_id not in seen]


async def with_families(store: AbstractStore, runs: Sequence[RunSummary], seen: Collection[str]) -> list[Member]:
    """Return runs, newest first, each with its whole family where the first of it is met.

    Args:
        store: Where to look for relatives.
        runs: A page of runs.
        seen: Ids of the runs of earlier pages and their families.
    """
    known = set(seen)
    found: list[Member] = []
    for run in runs:
        if run.run_id in known:
            continue
        for member in await _family(store, run):
            if member.run_id not in known:
                known.add(member.run_id)
                found.append(member)
    return found


async def _family(store: AbstractStore, run: RunSummary) -> list[Member]:
    """Return the family of a run from its eldest on, children right below their parents, the oldest first."""
    eldest: RunSummary | None = run
    run_id, met = run.run_id, {run.run_id}
    while eldest is not None and eldest.parent_run_id and eldest.parent_run_id not in met:
        run_id = eldest.parent_run_id
        met.add(run_id)
        eldest = await _run(store, run_id)
    found: list[Member] = []
    waiting = [Member(run_id, eldest)]
    placed = set()
    while waiting:
        member = waiting.pop()
        if member.run_id in placed:
            continue
        placed.add(member.run_id)
        found.append(member)
        children = await store.children_of(member.run_id)
        waiting += [
            Member(child.run_id, child, member.depth + 1, child.parent_step_id or "") for child in reversed(children)
        ]
    return found


async def _run(store: AbstractStore, run_id: str) -> RunSummary | None:
    """Return a run, None where it was deleted; the beginning of another run's id is not it."""
    try:
        run = await store.get_run(run_id)
    except UnknownRunError:
        return None
    return run if run.run_id == run_id else None
