"""Why a step or a run is as it is, answered from the run's events.

The answer is one sentence that names the cause: the chain of what waits for what, or what blocked what, is followed
to its root. Below it stands what happened, an event a line, and what holds now. Nothing is guessed: what the events
do not say is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from stepchain_tui.run import events as e
from stepchain_tui.run import why_ended, why_in_flight
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import Mark, StepStatus
from stepchain_tui.run.why_asked import Answer, Asked
from stepchain_tui.run.why_facts import Explanation, Fact
from stepchain_tui.run.why_history import read_history
from stepchain_tui.run.why_run import explain_run
from stepchain_tui.run.why_words import by

__all__ = ("Explanation", "Fact", "explain", "explain_run")


def explain(state: RunState, events: Sequence[e.Event], step_id: str, *, now: datetime) -> Explanation:
    """Return why a step is as it is.

    Args:
        state: The run, folded from `events`.
        events: All events of the run, in order.
        step_id: The step; one that a revision took out of the plan may be asked about too.
        now: The moment at which it is asked, aware.

    Raises:
        UnknownStepError: The run never had such a step.
    """
    history = read_history(events, step_id)
    if step_id not in state.steps and (gone := state.removed.get(step_id)) is not None:
        words = f"{step_id} is no longer in the plan{_taken_out(events, step_id)}"
        return Explanation(step_id, gone.status, "why is it gone?", words, "", tuple(history.facts), now)
    step = state.step(step_id)
    asked = Asked(state, events, step, history, now)
    question, words, cause = _answer(asked)
    asked.add_surroundings()
    facts = history.facts
    if cause and cause != step_id and (last := read_history(events, cause).facts):
        found = last[-1]
        facts = sorted([*facts, Fact(f"{cause}: {found.text}", found.at, found.seq)], key=lambda fact: fact.seq or 0)
    return Explanation(step_id, step.status, question, words, cause, (*facts, *asked.facts), now)


def _answer(asked: Asked) -> Answer:
    if Mark.STALE in asked.step.marks:
        return why_ended.stale(asked)
    match asked.step.status:
        case StepStatus.PENDING:
            return why_in_flight.pending(asked)
        case StepStatus.QUEUED:
            return why_in_flight.queued(asked)
        case StepStatus.RUNNING:
            return why_in_flight.running(asked)
        case StepStatus.RETRYING:
            return why_in_flight.retrying(asked)
        case StepStatus.WAITING:
            return why_in_flight.waiting(asked)
        case StepStatus.SUCCEEDED:
            return why_ended.succeeded(asked)
        case StepStatus.FAILED | StepStatus.TIMED_OUT:
            return why_ended.failed(asked)
        case StepStatus.SKIPPED:
            return why_ended.skipped(asked)
        case StepStatus.BLOCKED:
            return why_ended.blocked(asked)
        case StepStatus.CANCELLED:
            return why_ended.cancelled(asked)


def _taken_out(events: Sequence[e.Event], step_id: str) -> str:
    had = False
    found: e.RunRevised | None = None
    for event in events:
        if isinstance(event, e.RunCreated | e.RunRevised):
            has = any(outline.id == step_id for outline in event.steps)
            if isinstance(event, e.RunRevised) and had and not has:
                found = event
            had = has
    return f": revision {found.revision}{by(found.by)} took it out" if found is not None else ""
