"""The answers for steps that have a result, one for each status and one for a stale result.

Each returns question, answer and the id of the step that it comes from in the end.
"""

from __future__ import annotations

from stepchain_tui.run import events as e
from stepchain_tui.run.status import ErrorType, Mark, StepStatus
from stepchain_tui.run.step_state import StepState
from stepchain_tui.run.why_asked import Answer, Asked
from stepchain_tui.run.why_chains import FAILED, ended_as
from stepchain_tui.run.why_history import BY_PIN, answered
from stepchain_tui.run.why_words import by, listed, numbered, quoted, spoken


def succeeded(asked: Asked) -> Answer:
    """Return where a result comes from: a run of the step, the cache, another run, a person."""
    step, history, last = asked.step, asked.history, asked.step.last
    if Mark.PINNED in step.marks:
        words = f"{step.id} is pinned{by(history.pinned_by)}: it gives the output it was pinned with and is not run"
        return "why does it keep its output?", words, ""
    if history.set_by == BY_PIN:
        return "why was it not run?", f"{step.id} was pinned when it was to run, and gave the pinned output", ""
    if history.set_by:
        return "why did it succeed?", f"{step.id} was marked succeeded by hand{by(history.set_by)}", ""
    if Mark.CACHED in step.marks:
        return _cached(asked)
    if step.origin:
        words = f"{step.id} was not run here: its result was taken over from {step.origin}"
        return "why was it not run?", words, ""
    took = f"succeeded{_at_try(step)} after {spoken(asked.times.taken)}"
    if history.again:
        return "why did it run again?", f"{step.id} ran again because {history.again}, and {took}", ""
    if history.answered is not None and (waiting := history.answered).attempt is not None:
        return "why did it succeed?", f"{step.id} succeeded: {answered(waiting, '')}", ""
    if asked.is_slow:
        return "why did it take so long?", f"{step.id} {took}: {asked.times.words()}", ""
    if last is not None and last.cache.startswith("miss"):
        return "why was it not cached?", f"{step.id} {took}; the cache had no result: {_after(last.cache)}", ""
    return "why did it succeed?", f"{step.id} {took}", ""


def _cached(asked: Asked) -> Answer:
    step, last = asked.step, asked.step.last
    words = f"{step.id} took its result from the cache"
    if step.origin:
        words += f", made by {step.origin}"
    run_id, _, made_by = step.origin.partition("/")
    source = asked.state.steps.get(made_by) if run_id == asked.state.run_id else None
    if last is not None and _after(last.cache):
        words += f" ({_after(last.cache)})"
    elif source is not None and source is not step and source.finished_at and step.finished_at:
        words += f" {spoken((step.finished_at - source.finished_at).total_seconds())} earlier"
    return "why is it cached?", words, ""


def failed(asked: Asked) -> Answer:
    """Return how a step failed or timed out, and why there was no other try."""
    step, error = asked.step, asked.step.error
    question = "why did it time out?" if step.status is StepStatus.TIMED_OUT else "why did it fail?"
    words = f"{step.id} {'timed out' if step.status is StepStatus.TIMED_OUT else 'failed'}{_at_try(step)}"
    if error is None:
        return question, words, ""
    words += f": {quoted(error.message)}"
    if error.exception != "Denied":
        words += _why_no_other_try(asked, error.error_type)
    if error.hint:
        asked.add(f"hint: {quoted(error.hint)}")
    part = asked.chains.failed_part(step)
    return question, words, part.id if part is not step else ""


def _why_no_other_try(asked: Asked, error_type: ErrorType) -> str:
    step = asked.step
    if step.outline.kind == "plan":
        return "; each of its steps had tries of its own"
    if step.items is not None:
        return "; each item had tries of its own"
    if error_type is ErrorType.USER_ERROR:
        return "; a user error is never tried again"
    if step.max_attempts == 1:
        return "; its policy gives one try"
    if step.tries >= step.max_attempts:
        return f"; its {numbered(step.max_attempts, 'try')} are used up"
    return "; it was not tried again"


def skipped(asked: Asked) -> Answer:
    """Return why a step was skipped, followed to the first one that was."""
    step = asked.step
    root = asked.chains.to_skipped(step)
    question = "why was it skipped?"
    if root is step or root.status is not StepStatus.SKIPPED:
        return question, f"{step.id} {_why_skipped(asked, step)}", step.cause
    return question, f"{step.id} was skipped because {root.id} {_why_skipped(asked, root)}", root.id


def _why_skipped(asked: Asked, step: StepState) -> str:
    reason, last = step.reason, step.last
    if reason.startswith("skipped"):
        return f"was {reason}"
    if "`when`" in reason:
        condition = asked.written("when", step.id)
        return f"was skipped because {reason}" + (f": {quoted(str(condition))}" if condition else "")
    if reason.startswith("none of its parents failed"):
        return "runs only where a parent failed, and none did"
    if step.outline.optional and last is not None and last.reason == reason:
        return f"is optional and cannot run here: {reason}"
    return f"was skipped because {reason}"


def blocked(asked: Asked) -> Answer:
    """Return which step that this one needs did not succeed."""
    step = asked.step
    path = asked.chains.to_failure(step)
    root = path[-1] if len(path) > 1 else asked.state.steps.get(step.cause)
    if root is None:
        return "why is it blocked?", f"{step.id} cannot run because {step.reason or step.cause}", step.cause
    words = f"{step.id} cannot run because {root.id} {ended_as(root)}"
    if root.status not in FAILED:
        then = step.reason or f"{root.id} did not succeed"
        words = f"{step.id} could not run because {then}; meanwhile {root.id} {asked.chains.doing(root)}"
    elif len(path) > 2:
        between = [other.id for other in path[1:-1]]
        words += f" (it needs {listed(between)}, blocked too)"
    return "why is it blocked?", words, asked.chains.failed_part(root).id


def cancelled(asked: Asked) -> Answer:
    """Return who called a step off, and whether it alone."""
    step, command = asked.step, asked.history.cancel
    words = f"{step.id} was " + (step.reason if step.reason.startswith("cancelled") else "cancelled")
    if command is not None and step.reason == f"cancelled by {command.by or 'a person'}":
        words += ", on its own" if command.arguments.get("step") == step.id else ", with the whole run"
    elif step.reason and not step.reason.startswith("cancelled"):
        words += f": {step.reason}"
    return "why was it cancelled?", words, ""


def stale(asked: Asked) -> Answer:
    """Return what happened to the step that the result stands on."""
    cause = next(
        (
            event.cause
            for event in reversed(asked.events)
            if isinstance(event, e.StepInvalidated) and event.stale and event.step_id == asked.step.id
        ),
        "",
    )
    root = asked.state.steps.get(cause)
    words = f"the result of {asked.step.id} is stale: {asked.history.stale}"
    if root is not None and root is not asked.step:
        words += f", and {cause} {asked.chains.doing(root)}"
    return "why is it stale?", words, "" if root is asked.step else cause


def _at_try(step: StepState) -> str:
    return f" at try {step.tries} of {step.max_attempts}" if step.max_attempts > 1 else ""


def _after(cache: str) -> str:
    """Return what the cache said after `hit` or `miss`."""
    return cache.partition(":")[2].strip() or cache.partition(",")[2].strip()
