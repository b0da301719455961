"""Why a run stands as it does: what it is doing, what it waits for, who or what stopped it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from stepchain_tui.run import events as e
from stepchain_tui.run.critical_path import critical_path
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import STEP_IN_FLIGHT, RunStatus, StepStatus
from stepchain_tui.run.step_state import StepState
from stepchain_tui.run.why_chains import FAILED, Chains, counts, ended_as, names
from stepchain_tui.run.why_facts import Explanation, Fact
from stepchain_tui.run.why_times import run_seconds
from stepchain_tui.run.why_words import by, listed, numbered, quoted, spoken

_STEPS_SHOWN = 10


def explain_run(state: RunState, events: Sequence[e.Event], *, now: datetime) -> Explanation:
    """Return why a run is as it is.

    A run whose engine died reads here as its events say, until somebody records the death: whoever knows that the
    owner is gone (the store) has to say so.

    Args:
        state: The run, folded from `events`.
        events: All events of the run, in order.
        now: The moment at which it is asked, aware.
    """
    question, words, cause, facts = _answer(state, events, now)
    history = [Fact(text, event.at, event.seq) for event in events if (text := _told(event))]
    steps = counts(step.status for step in state.steps.values())
    facts = [Fact(f"{numbered(len(state.steps), 'step')}: {steps}"), *facts]
    return Explanation("", state.status, question, words, cause, (*history, *facts), now)


def _answer(state: RunState, events: Sequence[e.Event], now: datetime) -> tuple[str, str, str, list[Fact]]:
    chains = Chains(state, now)
    took = spoken(run_seconds(state, now))
    match state.status:
        case RunStatus.PENDING:
            return "why does it not run?", "the run has not begun: no engine has taken it up", "", []
        case RunStatus.RUNNING:
            return _running(state, chains, took)
        case RunStatus.PAUSED:
            reason = state.reason or "paused"
            words = f"the run is {reason}" if reason.startswith("paused") else f"the run is paused: {reason}"
            at_work = [step for step in state.steps.values() if step.status is StepStatus.RUNNING]
            if at_work:
                words += f"; {names(at_work)} may finish first"
            return "why did it stop?", words, "", []
        case RunStatus.WAITING:
            waiting = [step for step in state.steps.values() if step.status is StepStatus.WAITING]
            if not waiting:
                return "why did it stop?", f"the run waits: {state.reason or 'for a person'}", "", []
            words = f"the run waits for a person: {chains.sentence([waiting[0]])}"
            words += f" (and {numbered(len(waiting) - 1, 'more step')})" if len(waiting) > 1 else ""
            return "why did it stop?", words, waiting[0].id, _facts(chains, waiting)
        case RunStatus.INTERRUPTED:
            reason = f": {state.reason}" if state.reason else ""
            return "why did it stop?", f"the run was interrupted{reason}; a resume goes on with it", "", []
        case RunStatus.CANCELLED:
            return "why did it stop?", f"the run was {state.reason or 'cancelled'}", "", []
        case RunStatus.FAILED:
            return _failed(state, chains)
        case RunStatus.SUCCEEDED:
            path = critical_path(state, events)
            facts = [
                Fact(f"critical path: {found.step_id} ran {spoken(found.running)}, waited {spoken(found.waiting)}")
                for found in sorted(path, key=lambda found: -(found.running + found.waiting))[:_STEPS_SHOWN]
            ]
            longest = max(path, key=lambda found: found.running, default=None)
            words = f"the run succeeded after {took}"
            if longest is not None and len(path) > 1:
                words += f"; of the critical path {longest.step_id} took longest, {spoken(longest.running)}"
            return "how long did it take?", words, longest.step_id if longest is not None else "", facts


def _running(state: RunState, chains: Chains, took: str) -> tuple[str, str, str, list[Fact]]:
    busy = [step for step in state.steps.values() if step.status in STEP_IN_FLIGHT]
    busy.sort(key=lambda step: step.status is StepStatus.QUEUED)
    words = f"the run has been going on for {took}"
    if busy:
        words += f": {chains.sentence([busy[0]])}"
        words += f" (and {numbered(len(busy) - 1, 'more step')} in flight)" if len(busy) > 1 else ""
    return "what is it doing?", words, busy[0].id if busy else "", _facts(chains, busy)


def _failed(state: RunState, chains: Chains) -> tuple[str, str, str, list[Fact]]:
    bad = [
        step
        for step in state.steps.values()
        if step.status in FAILED and not (step.outline.continues and step.status is not StepStatus.CANCELLED)
    ]
    bad.sort(key=lambda step: step.finished_at.timestamp() if step.finished_at else 0.0)
    if not bad:
        return "why did it fail?", f"the run failed: {state.reason}" if state.reason else "the run failed", "", []
    first = chains.failed_part(bad[0])
    words = f"the run failed because {first.id} {ended_as(first)}"
    if len(bad) > 1:
        words += f" (and {numbered(len(bad) - 1, 'more step')} did not succeed)"
    blocked = [step.id for step in state.steps.values() if step.status is StepStatus.BLOCKED]
    facts = _facts(chains, bad)
    if blocked:
        facts.append(Fact(f"blocked by that: {listed(blocked)}"))
    return "why did it fail?", words, first.id, facts


def _facts(chains: Chains, steps: Sequence[StepState]) -> list[Fact]:
    told = [Fact(chains.sentence([step])) for step in steps[:_STEPS_SHOWN]]
    if len(steps) > _STEPS_SHOWN:
        told.append(Fact(numbered(len(steps) - _STEPS_SHOWN, "more step")))
    return told


def _told(event: e.Event) -> str:
    """Return an event of the run as a line; an empty string for one of a step."""
    match event:
        case e.RunCreated():
            forked = event.parent_run_id
            at = f" at {event.parent_step_id}" if event.parent_step_id else ""
            return f"created, forked from {forked}{at}" if forked else "created"
        case e.RunStarted():
            return f"started by process {event.owner.pid}"
        case e.RunPaused():
            return _with_reason("paused", event.reason) + (", at once" if event.now else "")
        case e.RunResumed():
            owner = f", by process {event.owner.pid}" if event.owner is not None else ""
            return _with_reason("goes on", event.reason) + owner
        case e.RunWaiting():
            return _with_reason("waits", event.reason) + (f": {listed(event.steps)}" if event.steps else "")
        case e.RunInterrupted():
            return _with_reason("interrupted", event.reason)
        case e.RunRevised():
            return _with_reason(f"revision {event.revision}{by(event.by)}", event.reason)
        case e.RunFinished():
            return _with_reason(event.status.value, event.reason)
        case e.CommandApplied():
            return f"{event.command}{_arguments(event.arguments.items())}{by(event.by)}"
        case e.CommandRefused():
            return f"{event.command}{_arguments(event.arguments.items())}{by(event.by)} refused: {quoted(event.reason)}"
    return ""


def _with_reason(what: str, reason: str) -> str:
    if reason.startswith(what):
        return quoted(reason)
    return f"{what} ({quoted(reason)})" if reason else what


def _arguments(arguments: Iterable[tuple[str, object]]) -> str:
    given = [f"{name}={quoted(str(value), 40)}" for name, value in arguments if value not in (None, "", False)]
    return f" {' '.join(given)}" if given else ""
