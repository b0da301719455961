"""Taking over a run whose engine died: what it left running is ended before anything is run again (rule 2)."""

from __future__ import annotations

import asyncio
from typing import Any

from stepchain_tui.engine.recorder import Journal
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import AttemptStatus, RunStatus, StepStatus
from stepchain_tui.store.base import AbstractStore
from stepchain_tui.store.records import RunSummary
from stepchain_tui.tools.leftovers import end_leftovers


def processes_of(state: RunState) -> list[dict[str, Any]]:
    """Return the processes that attempts in flight have of their own."""
    return [
        {
            "pid": attempt.process.pid,
            "process_group": attempt.process.process_group,
            "process_started_at": attempt.process.process_started_at,
        }
        for step in state.steps.values()
        for attempt in step.attempts.values()
        if attempt.status is AttemptStatus.RUNNING and attempt.process is not None
    ]


async def end_what_was_left(store: AbstractStore, state: RunState) -> list[dict[str, Any]]:
    """End the processes that a dead owner of the run left behind; returns those that were ended."""
    records = [*processes_of(state), *await store.read_workers(state.run_id)]
    return await asyncio.to_thread(end_leftovers, records) if records else []


def is_owner_dead(summary: RunSummary, state: RunState) -> bool:
    """Return whether a run that nobody carries out was not let go of: its owner died."""
    return summary.owner is not None or state.status is RunStatus.RUNNING


def record_death(journal: Journal) -> bool:
    """Record what the owner's death did: attempts in flight are interrupted, at no cost of a try.

    Returns:
        Whether there was anything to record.
    """
    state, reason = journal.state, "its engine ended"
    if state.owner is not None and state.owner.pid:
        reason = f"its engine (process {state.owner.pid}) ended"
    cut_off = [
        step
        for step in state.steps.values()
        if step.status is StepStatus.RUNNING
        or (step.status is StepStatus.WAITING and step.waiting is not None and step.waiting.item is not None)
    ]
    if state.status is not RunStatus.RUNNING and not cut_off:
        return False
    for step in cut_off:
        waiting = step.waiting
        asks = None if waiting is None else (waiting.item, waiting.attempt)
        items = [
            one
            for one in step.attempts.values()
            if one.item is not None and one.status is AttemptStatus.RUNNING and (one.item, one.n) != asks
        ]
        for attempt in items:
            journal.emit(e.ItemInterrupted, step_id=step.id, item=attempt.item, attempt=attempt.n, reason=reason)
        if waiting is not None:  # the question stays open, and its map goes on behind it
            continue
        only_waited = step.outline.kind == "plan" or (step.outline.is_map and not items)
        journal.emit(e.StepInterrupted, step_id=step.id, attempt=step.attempt, reason=reason, asked=only_waited)
    if state.status is RunStatus.RUNNING:
        journal.emit(e.RunInterrupted, reason=reason)
    return True
