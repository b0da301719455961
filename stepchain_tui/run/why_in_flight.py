"""The answers for steps that have no result yet, one for each status.

Each returns question, answer and the id of the step that it comes from in the end.
"""

from __future__ import annotations

from stepchain_tui.run.status import AttemptStatus, StepStatus, worded
from stepchain_tui.run.step_state import AttemptState, StepState
from stepchain_tui.run.why_asked import Answer, Asked
from stepchain_tui.run.why_chains import names, why_halted
from stepchain_tui.run.why_history import delay_of, waits
from stepchain_tui.run.why_words import listed, numbered, quoted, spoken

_PARENTS_SHOWN = 10
_SLOTLESS = frozenset({"plan", "approve"})


def pending(asked: Asked) -> Answer:
    """Return what a pending step waits for, followed to the root."""
    step, chains = asked.step, asked.chains
    question = "why is it waiting?"
    path = chains.to_root(step)
    again = f", after {asked.history.again}" if asked.history.again else ""
    if len(path) > 1:
        parents = chains.waits_for(step)
        for parent in parents[:_PARENTS_SHOWN] if len(parents) > 1 else ():
            asked.add(chains.sentence(chains.to_root(parent)))
        if len(parents) > _PARENTS_SHOWN:
            asked.add(f"it waits for {numbered(len(parents) - _PARENTS_SHOWN, 'more step')}")
        others = f" (and for {numbered(len(parents) - 1, 'more step')})" if len(parents) > 1 else ""
        return question, chains.sentence(path) + others + again, path[-1].id
    halt = why_halted(asked.state)
    cut_off = step.last is not None and step.last.status is AttemptStatus.INTERRUPTED
    if cut_off:
        question = "why is it pending again?"
        again = f", after its last try was cut off ({step.reason})"
    if halt:
        return question, f"{step.id} has not begun{' again' if again else ''}, because {halt}{again}", ""
    return question, f"{step.id} is ready, and starts as soon as it has a slot{again}", ""


def queued(asked: Asked) -> Answer:
    """Return which limit is full, and who holds its slots."""
    step = asked.step
    is_limit = step.reason.startswith("limit")
    limit = asked.written("limit") if is_limit else None
    holders = [
        other
        for other in asked.state.steps.values()
        if _holds_slot(other) and (not is_limit or asked.written("limit", other.id) == limit)
    ]
    # A cap over all runs is held by other runs too; a part's limit is written in a plan of its own.
    known = bool(holders) and "cap" not in step.reason and (not is_limit or limit is not None)
    held = f", held by {names(holders)}" if known else ""
    why = f"{step.reason}{held}" if step.reason else f"no slot is free{held}"
    halt = why_halted(asked.state)
    return (
        "why is it queued?",
        f"{step.id} is ready and waits for a slot: {why}" + (f"; {halt}" if halt else ""),
        "",
    )


def running(asked: Asked) -> Answer:
    """Return what a running step is doing: its try, its parts, a tool call that a person has to allow."""
    step = asked.step
    if asked.history.asks_for:
        tools = listed(sorted(set(asked.history.asks_for.values())))
        return "why is it waiting?", f"{step.id} asks a person whether it may call {tools}", ""
    path = asked.chains.to_root(step)
    if len(path) > 1:
        return "what is it doing?", asked.chains.sentence(path), path[-1].id
    how = _how(step.last)
    again = f"; it runs again because {asked.history.again}" if asked.history.again else ""
    return "what is it doing?", f"{step.id} {asked.chains.doing(step)}{how}{again}", ""


def retrying(asked: Asked) -> Answer:
    """Return when the next try is, and what went wrong with the last one."""
    step, last = asked.step, asked.history.retry
    words = f"{step.id} {asked.chains.retrying(step)}"
    if last is not None:
        words += (
            f", because try {last.tries} {worded(last.status)} with a "
            f"{worded(last.error.error_type)}: {quoted(last.error.message)}"
        )
        asked.add(f"the delay of {spoken(last.delay)}: {delay_of(last)}")
    return "why is it retried?", words, ""


def waiting(asked: Asked) -> Answer:
    """Return what a person is asked."""
    step, waiting = asked.step, asked.step.waiting
    if waiting is None:
        return "why is it waiting?", f"{step.id} waits for a person", ""
    words = f"{step.id} {waits(waiting, asked.history.breakpoint_by)}"
    if waiting.deadline is not None:
        left = spoken((waiting.deadline - asked.now).total_seconds())
        asked.add(f"if nobody answers within {left}, it counts as {waiting.on_timeout or 'deny'}")
    if waiting.fields:
        asked.add(f"the answer has the fields {listed(sorted(waiting.fields))}")
    return "why is it waiting?", words, ""


def _holds_slot(step: StepState) -> bool:
    if step.status is not StepStatus.RUNNING or step.outline.kind in _SLOTLESS:
        return False
    return step.items is None or any(item.status is StepStatus.RUNNING for item in step.items)


def _how(attempt: AttemptState | None) -> str:
    if attempt is None:
        return ""
    words = [f"mode {attempt.mode}"] if attempt.mode else []
    if attempt.model:
        words.append(f"model {attempt.model}")
    return f", {', '.join(words)}" if words else ""
