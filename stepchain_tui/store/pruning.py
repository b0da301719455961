"""Which runs go when a store is tidied up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from stepchain_tui.run.status import RunStatus
from stepchain_tui.store.records import RunSummary
from stepchain_tui.store.space import RunSize, StoreSize

ENDED = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
"""What goes where nothing else is said: of a run that is paused, waits or was interrupted more is still to come."""


@dataclass(frozen=True, slots=True)
class PruneRule:
    """What of a store may go. Each part narrows it: a run goes only when all that are given say so.

    Attributes:
        statuses: Only runs of these statuses.
        before: Only runs that ended before this moment (or, without an end, were created before it).
        keep: Not the newest runs, this many of them.
        max_bytes: Only as many, the oldest first, as it takes to make the store this small.
    """

    statuses: Sequence[RunStatus] = ENDED
    before: datetime | None = None
    keep: int | None = None
    max_bytes: int | None = None


def choose(
    runs: Sequence[RunSummary], rule: PruneRule, size: StoreSize, sizes: Mapping[str, RunSize]
) -> list[RunSummary]:
    """Return the runs that go, oldest first; those with a living owner never do.

    Args:
        runs: All runs of the store, newest first.
        rule: What may go.
        size: The store's size; of use where the rule has `max_bytes`.
        sizes: Sizes of all runs, likewise.
    """
    fitting = [run for run in runs if run.shown_status in rule.statuses and not run.owner_alive]
    fitting = fitting[rule.keep or 0 :]
    if rule.before is not None:
        fitting = [run for run in fitting if (run.finished_at or run.created_at) < rule.before]
    oldest_first = fitting[::-1]
    if rule.max_bytes is None:
        return oldest_first
    going: list[RunSummary] = []
    for run in oldest_first:
        if size.total - size.freed_by(sizes[one.run_id] for one in going) <= rule.max_bytes:
            break
        going.append(run)
    return going
