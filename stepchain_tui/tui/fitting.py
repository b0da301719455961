"""Whether an action fits now, and if not, why: pure functions of the situation, named by the registry of actions."""

from __future__ import annotations

from dataclasses import dataclass

from stepchain_tui.run.status import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus
from stepchain_tui.run.step_state import BREAKPOINT
from stepchain_tui.tui.views import RunView, StepView, stands_after


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides whether an action fits.

    Attributes:
        run: The run on the screen, None before it was started.
        step: The selected step.
        asking: The step whose question is in sight, see `Session.asking`.
        plan_path: The plan's file, or empty.
        replay_of: The run whose recording the run replays, or empty.
        has_text: Whether the pane in sight holds text that can be searched and copied.
        has_table: Whether the output in sight is rows.
    """

    run: RunView | None = None
    step: StepView | None = None
    asking: StepView | None = None
    plan_path: str = ""
    replay_of: str = ""
    has_inputs: bool = False
    has_text: bool = True
    has_table: bool = False


def can_start(now: Situation) -> str | None:
    """Return why a start does not fit now."""
    if now.run is None or now.run.status in RUN_ENDED:
        return None if now.plan_path else "the run's plan has no file to start from"
    if now.run.live:
        return "the run is going on already"
    return f"the run is {now.run.status}: p goes on with it"


def can_pause(now: Situation) -> str | None:
    """Return why pausing or going on does not fit now."""
    if now.run is None:
        return "nothing runs yet: s starts"
    if now.run.status is RunStatus.SUCCEEDED:
        return "the run succeeded: there is nothing to go on with"
    return None


def is_live(now: Situation) -> str | None:
    """Return why what only a live run can do does not fit now."""
    if now.run is None:
        return "nothing runs yet: s starts"
    return None if now.run.live else f"nobody carries the run out: it is {now.run.status}"


def can_cancel_run(now: Situation) -> str | None:
    """Return why cancelling the run does not fit now."""
    if now.run is None:
        return "nothing runs yet: s starts"
    return f"the run is over: it {now.run.status}" if now.run.status in RUN_ENDED else None


def can_cancel_step(now: Situation) -> str | None:
    """Return why cancelling the step does not fit now."""
    if now.run is None or now.step is None:
        return "nothing runs yet: s starts"
    if now.step.status in STEP_ENDED:
        return f"{now.step.id} is over: it is {_word(now.step.status)}"
    return None


def can_rerun(now: Situation) -> str | None:
    """Return why a rerun does not fit now."""
    if now.run is None or now.step is None:
        return "nothing ran yet: s starts"
    status = now.step.status
    if now.run.live and status in (StepStatus.RUNNING, StepStatus.WAITING):
        return f"{now.step.id} is {status}: x cancels it first"
    if now.run.live and status is StepStatus.RETRYING:
        return f"{now.step.id} is retrying: t tries now"
    if status in (StepStatus.PENDING, StepStatus.QUEUED) and not now.step.attempt:
        return f"{now.step.id} has not run yet"
    return None


def can_rerun_failed(now: Situation) -> str | None:
    """Return why a rerun of failed items does not fit now."""
    if now.run is None or now.step is None:
        return "nothing ran yet: s starts"
    if now.step.items is None:
        return f"{now.step.id} has no items"
    return None if now.step.has_failed_items else f"no item of {now.step.id} failed"


def can_repair(now: Situation) -> str | None:
    """Return why a repair does not fit now."""
    if now.run is None or now.step is None:
        return "nothing ran yet: s starts"
    if now.step.status not in (StepStatus.FAILED, StepStatus.TIMED_OUT):
        return f"{now.step.id} is {_word(now.step.status)}: only what failed is repaired"
    if now.replay_of:
        return f"a replay is never carried out: repair run {now.replay_of}, which it replays"
    return None


def can_try_now(now: Situation) -> str | None:
    """Return why trying at once does not fit now."""
    if now.run is None or now.step is None:
        return "nothing runs yet: s starts"
    if now.step.status is StepStatus.RETRYING or now.step.retry_at is not None:
        return None
    return f"{now.step.id} is {_word(now.step.status)} and waits for no retry"


def can_answer(now: Situation) -> str | None:
    """Return why an answer does not fit now."""
    if now.asking is None or now.asking.waiting is None:
        return "nobody waits for an answer here"
    return None


# --- by hand


def has_run(now: Situation) -> str | None:
    """Return why what is asked about a run, or made from it, does not fit now."""
    return "nothing ran yet: s starts" if now.run is None or now.step is None else None


def can_replay(now: Situation) -> str | None:
    """Return why running the run once more from its recording does not fit now."""
    if now.run is None:
        return "nothing ran yet: s starts"
    return "the run is going on: what it keeps is not whole" if now.run.live else None


def can_break(now: Situation) -> str | None:
    """Return why a breakpoint does not fit now."""
    if now.run is None or now.step is None:
        return "nothing runs yet: write `breakpoint: before` into the plan"
    return None


def can_go_on(now: Situation) -> str | None:
    """Return why going on from a breakpoint does not fit now."""
    if now.asking is None or now.asking.waiting is None or now.asking.waiting.reason != BREAKPOINT:
        return "no breakpoint holds a step"
    return None


def can_skip(now: Situation) -> str | None:
    """Return why leaving the step out does not fit now."""
    if now.run is None or now.step is None:
        return "nothing runs yet: s starts"
    if now.step.status is StepStatus.RUNNING:
        return f"{now.step.id} is running: x cancels it first"
    if stands_after(now.step.waiting):
        return f"{now.step.id} has succeeded already: c lets it go on"
    if now.step.status in (StepStatus.SUCCEEDED, StepStatus.SKIPPED):
        return f"{now.step.id} is over: it is {now.step.status}"
    return None


def can_mark(now: Situation) -> str | None:
    """Return why taking the step as succeeded does not fit now."""
    if now.run is None or now.step is None:
        return "nothing runs yet: s starts"
    return _busy(now.step)


def can_pin(now: Situation) -> str | None:
    """Return why pinning the output does not fit now."""
    if now.run is None or now.step is None:
        return "nothing runs yet: s starts"
    return None if now.step.pinned else _busy(now.step)


def _busy(step: StepView) -> str | None:
    if step.status is StepStatus.RUNNING:
        return f"{step.id} is running: x cancels it first"
    if step.waiting is not None and step.waiting.attempt is not None:
        return f"{step.id} waits for an answer: a answers it"
    return None


# --- the plan


def has_inputs(now: Situation) -> str | None:
    """Return why changing inputs does not fit now."""
    if not now.has_inputs:
        return "this plan asks for no inputs"
    return "the run keeps the inputs it began with" if now.run is not None and now.run.status not in RUN_ENDED else None


def can_edit(now: Situation) -> str | None:
    """Return why editing the plan does not fit now."""
    return None if now.run is not None or now.plan_path else "the plan has no file that could be edited"


def has_text(now: Situation) -> str | None:
    """Return why what needs text does not fit now."""
    return None if now.has_text else "there is nothing in this pane"


def has_table(now: Situation) -> str | None:
    """Return why turning rows into JSON and back does not fit now."""
    return None if now.has_table else "no output of rows is in sight"


def _word(status: str) -> str:
    return status.replace("_", " ")
