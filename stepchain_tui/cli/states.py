"""Runs as they are read: what a dead owner left reads as interrupted, and damage is told without hiding the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from stepchain_tui.cli.text import clean_line, say
from stepchain_tui.core.clock import SystemClock
from stepchain_tui.engine.takeover import record_death
from stepchain_tui.run import Event, RunState, RunStatus, decode_event
from stepchain_tui.store import CorruptEvent, RunSummary, SQLiteStore

if TYPE_CHECKING:
    from stepchain_tui.engine.recorder import Journal

_TOLD = 20
"""Damaged events that are named one by one."""


class _Reading:
    """A journal for a state that is only read: what it emits is folded and never stored."""

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.events: list[Event] = []
        self._clock = SystemClock()

    def emit(self, event_type: Any, **fields: Any) -> None:
        """Fold an event that whoever takes the run over would record."""
        moment = self.state.last_at or self._clock.now()
        event = event_type(seq=self.state.last_seq + 1, run_id=self.state.run_id, at=moment, **fields)
        self.state.apply(event)
        self.events.append(event)


@dataclass(frozen=True, slots=True)
class ReadRun:
    """A run as it is.

    Attributes:
        state: The run; what a dead owner left as running reads as interrupted.
        summary: Its row.
        corrupt: Events that could not be taken into account.
        unstored: The events that make of the stored run the one in `state`.
    """

    state: RunState
    summary: RunSummary
    corrupt: Sequence[CorruptEvent] = ()
    unstored: Sequence[Event] = ()


async def read_state(store: SQLiteStore, run_id: str) -> ReadRun:
    """Return a run as it is; a damaged one as far as it can be read."""
    summary = await store.get_run(run_id)
    state, corrupt = await store.load_readable(run_id)
    if summary.shown_status is not RunStatus.INTERRUPTED or state.status is RunStatus.INTERRUPTED:
        return ReadRun(state, summary, corrupt)
    reading = _Reading(state)
    record_death(cast("Journal", reading))
    return ReadRun(state, summary, corrupt, reading.events)


async def events_of(store: SQLiteStore, run: ReadRun) -> list[Event]:
    """Return the events that add up to a run as it was read."""
    broken = {found.seq for found in run.corrupt}
    events = [
        decode_event(data)
        async for seq, _, _, data in store.read_raw_events(run.summary.run_id)
        if seq not in broken and seq <= run.state.last_seq
    ]
    return [*events, *run.unstored]


def say_what_is_broken(run: ReadRun) -> None:
    """Tell on standard error which events of a run are left out because they are damaged."""
    for found in run.corrupt[:_TOLD]:
        what = " ".join(word for word in (found.type, found.step_id) if word)
        named = f" ({clean_line(what)})" if what else ""
        say(f"warning: event {found.seq}{named} of run {run.summary.run_id} is damaged: {clean_line(found.problem)}")
    if len(run.corrupt) > _TOLD:
        say(f"warning: ... and {len(run.corrupt) - _TOLD:,} more events")
    if run.corrupt:
        say("  What is shown leaves them out; `stepchain doctor` checks the whole store.")
