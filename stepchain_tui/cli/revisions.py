"""The plans that a run had: one for each revision, as they really ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stepchain_tui.cli.text import indented_json
from stepchain_tui.core.errors import StoreError, UsageError
from stepchain_tui.core.values import encode_json
from stepchain_tui.plan import Plan, plan_from_json
from stepchain_tui.run import RunState
from stepchain_tui.run.events import RunCreated, RunRevised
from stepchain_tui.store import SQLiteStore


@dataclass(frozen=True, slots=True)
class PlanRevision:
    """One revision of a run's plan.

    Attributes:
        number: Its number, from 1.
        plan: The plan as a JSON value.
        text: The text of its file; empty for a plan that was made in Python.
    """

    number: int
    plan: dict[str, Any]
    text: str

    @property
    def shown_text(self) -> str:
        """The text of its file, or its JSON where it has none."""
        return self.text or indented_json(self.plan) + "\n"

    def parsed(self) -> Plan:
        """Return the plan."""
        return plan_from_json(encode_json(self.plan))


async def read_revision(store: SQLiteStore, state: RunState, number: int | None) -> PlanRevision:
    """Return a revision of a run's plan, the last one if `number` is None.

    Raises:
        UsageError: The run has no such revision.
        StoreError: The event that kept it is damaged.
    """
    if number is None or number == state.revision:
        if not state.plan:
            raise StoreError(f"the plan of run '{state.run_id}' is lost: the event that kept it is damaged")
        return PlanRevision(state.revision, state.plan, state.plan_text)
    for record in state.revisions:
        if record.number == number:
            (event,) = await store.read_events(state.run_id, after=record.seq - 1, limit=1)
            if isinstance(event, RunCreated | RunRevised):
                return PlanRevision(number, event.plan, event.plan_text)
    known = ", ".join(str(record.number) for record in state.revisions)
    raise UsageError(f"run '{state.run_id}' has no revision {number}", hint=f"It has: {known}.")


def revision_records(state: RunState) -> list[dict[str, Any]]:
    """Return the revisions of a run's plan as `show --json` prints them."""
    return [
        {"number": record.number, "seq": record.seq, "at": record.at, "by": record.by, "reason": record.reason}
        for record in state.revisions
    ]
