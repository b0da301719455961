"""Whether an action fits now, and if not, why: pure functions of the situation, named by the registry of actions."""

from __future__ import annotations

from dataclasses import dataclass

from stepchain_tui.run.status import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus
from stepchain_tui.tui.views import RunView, StepView


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides whether an action fits.

    Attributes:
        run: The run on the screen, None before it was started.
        step: The selected step.
        plan_path: The plan's file, or empty.
        has_text: Whether the pane in sight holds text that can be searched and copied.
    """

    run: RunView | None = None
    step: StepView | None = None
    plan_path: str = ""
    has_inputs: bool = False
    has_text: bool = True


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


def can_try_now(now: Situation) -> str | None:
    """Return why trying at once does not fit now."""
    if now.run is None or now.step is None:
        return "nothing runs yet: s starts"
    if now.step.status is StepStatus.RETRYING or now.step.retry_at is not None:
        return None
    return f"{now.step.id} is {_word(now.step.status)} and waits for no retry"


def can_answer(now: Situation) -> str | None:
    """Return why an answer does not fit now."""
    if now.run is None or now.step is None or now.step.waiting is None:
        return "nobody waits for an answer here"
    return None


def has_inputs(now: Situation) -> str | None:
    """Return why changing inputs does not fit now."""
    if not now.has_inputs:
        return "this plan asks for no inputs"
    return "the run keeps the inputs it began with" if now.run is not None and now.run.status not in RUN_ENDED else None


def has_file(now: Situation) -> str | None:
    """Return why editing does not fit now."""
    return None if now.plan_path else "the plan has no file that could be edited"


def has_text(now: Situation) -> str | None:
    """Return why what needs text does not fit now."""
    return None if now.has_text else "there is nothing in this pane"


def _word(status: str) -> str:
    return status.replace("_", " ")
