"""When a step may start, is skipped or is blocked: pure decisions over the statuses of its parents (rule 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from stepchain_tui.plan import TriggerRule
from stepchain_tui.run.status import STEP_ENDED, StepStatus
from stepchain_tui.run.step_state import StepState


class Verdict(Enum):
    """What the parents say."""

    WAIT = "wait"
    READY = "ready"
    SKIP = "skip"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Readiness:
    """A verdict with its reason and the step it comes from."""

    verdict: Verdict
    reason: str = ""
    cause: str = ""


WAIT = Readiness(Verdict.WAIT)
READY = Readiness(Verdict.READY)
_NONE_FAILED = Readiness(Verdict.SKIP, "none of its parents failed")

UNSUCCESSFUL = frozenset({StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.BLOCKED, StepStatus.CANCELLED})
_WORDS = {
    StepStatus.FAILED: "failed",
    StepStatus.TIMED_OUT: "timed out",
    StepStatus.BLOCKED: "is blocked",
    StepStatus.CANCELLED: "was cancelled",
}


def is_failure(parent: StepState) -> bool:
    """Return whether the parent's end stands in the way: an unsuccessful one without `on_failure: continue`."""
    if parent.status not in UNSUCCESSFUL:
        return False
    return not (parent.outline.continues and parent.status in (StepStatus.FAILED, StepStatus.TIMED_OUT))


def _root_of(parent: StepState) -> str:
    return parent.cause if parent.status is StepStatus.BLOCKED and parent.cause else parent.id


def decide(rule: TriggerRule, parents: Sequence[StepState]) -> Readiness:
    """Return whether a step with these parents may start, must wait, is skipped or is blocked."""
    for parent in parents:
        if parent.status is not StepStatus.SUCCEEDED:
            break
    else:
        return _NONE_FAILED if rule is TriggerRule.ONE_FAILED else READY
    ended = all(parent.status in STEP_ENDED for parent in parents)
    match rule:
        case TriggerRule.ALL_SUCCESS:
            for parent in parents:
                if is_failure(parent):
                    return Readiness(Verdict.BLOCK, f"{parent.id} {_WORDS[parent.status]}", _root_of(parent))
            if not ended:
                return WAIT
            for parent in parents:
                if parent.status is StepStatus.SKIPPED:
                    return Readiness(Verdict.SKIP, f"{parent.id} was skipped", parent.cause or parent.id)
            return READY
        case TriggerRule.ALL_DONE:
            return READY if ended else WAIT
        case TriggerRule.ONE_FAILED:
            if any(parent.status in UNSUCCESSFUL for parent in parents):
                return READY
            return _NONE_FAILED if ended else WAIT
        case TriggerRule.NONE_FAILED:
            for parent in parents:
                if is_failure(parent):
                    return Readiness(Verdict.BLOCK, f"{parent.id} {_WORDS[parent.status]}", _root_of(parent))
            return READY if ended else WAIT
