"""The family tree of runs: which was forked from which, also where a parent is deleted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from stepchain_tui.cli.shapes import summary_record
from stepchain_tui.cli.text import draws_unicode
from stepchain_tui.core.errors import UnknownRunError
from stepchain_tui.run import RunState
from stepchain_tui.store import RunSummary, SQLiteStore


@dataclass(frozen=True, slots=True)
class Family:
    """The nearest relatives of a run.

    Attributes:
        children: The runs that were forked from it, oldest first.
        parent_deleted: It was forked from a run that the store does not hold any more.
    """

    children: Sequence[RunSummary]
    parent_deleted: bool


async def read_family(store: SQLiteStore, state: RunState) -> Family:
    """Return the nearest relatives of a run."""
    deleted = False
    if state.parent_run_id is not None:
        try:
            deleted = (await store.get_run(state.parent_run_id)).run_id != state.parent_run_id
        except UnknownRunError:
            deleted = True
    return Family(await store.children_of(state.run_id), deleted)


def tree_of(runs: Sequence[RunSummary]) -> dict[str, list[RunSummary]]:
    """Return run id -> its forks, oldest first; under an empty id those without a parent among `runs`, as they stand.

    Args:
        runs: Runs, newest first.
    """
    known = {run.run_id for run in runs}
    tree: dict[str, list[RunSummary]] = {"": []}
    for run in runs:
        if run.parent_run_id in known and run.parent_run_id is not None:
            tree.setdefault(run.parent_run_id, []).insert(0, run)
        else:
            tree[""].append(run)
    return tree


def family_rows(runs: Sequence[RunSummary]) -> list[tuple[str, RunSummary]]:
    """Return the runs with what stands in the first column: lines of a tree, and where a fork left its parent."""
    tree = tree_of(runs)
    last, further, through = ("└─ ", "├─ ", "│  ") if draws_unicode(sys.stdout) else ("`- ", "|- ", "|  ")

    def named(run: RunSummary) -> str:
        how = "" if not run.parent_run_id else f" at {run.parent_step_id}" if run.parent_step_id else " replayed"
        return f"{run.run_id}{how}"

    def below(run_id: str, indent: str) -> Iterator[tuple[str, RunSummary]]:
        children = tree.get(run_id, [])
        for child in children:
            is_last = child is children[-1]
            yield f"{indent}{last if is_last else further}{named(child)}", child
            yield from below(child.run_id, indent + ("   " if is_last else through))

    rows = []
    for run in tree[""]:
        rows.append((f"{run.run_id}{of_parent(run)}", run))
        rows.extend(below(run.run_id, ""))
    return rows


def of_parent(run: RunSummary) -> str:
    """Return what a run is made from: a fork has the step that it began at, a replay has none."""
    if not run.parent_run_id:
        return ""
    at = run.parent_step_id
    return f" (of {run.parent_run_id} at {at})" if at else f" (replay of {run.parent_run_id})"


def tree_records(runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """Return the runs as `runs --tree --json` prints them: forks as `children` of their parent."""
    tree = tree_of(runs)

    def record(run: RunSummary) -> dict[str, Any]:
        return {**summary_record(run), "children": [record(child) for child in tree.get(run.run_id, [])]}

    return [record(run) for run in tree[""]]
