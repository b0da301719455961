"""What commands claim, held against what becomes of them: receipts, reruns, edits and forks (rules 10 to 12)."""

from __future__ import annotations

from collections.abc import Iterable

from stepchain_tui.engine import Decision, Receipt
from stepchain_tui.plan import Step
from stepchain_tui.run import RunState
from stepchain_tui.run import events as e
from stepchain_tui.run.ids import is_inside
from stepchain_tui.run.status import Mark, StepStatus
from tests.support.machine_witness import Witness

_NOT_CARRIED_OUT = (StepStatus.SKIPPED, StepStatus.BLOCKED, StepStatus.CANCELLED)
_SHOWN_ONLY = {"name", "description", "tags"}


def standing_on(state: RunState, step_ids: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return what is carried out anew with some steps, and the plan steps around that are only opened again.

    Said anew, not asked of the engine: what waits for a step follows it with all its parts; the plan step around it
    is opened again, and what waits for that follows as well.
    """
    anew: set[str] = set()
    around: set[str] = set()
    waiting = [step_id for step_id in step_ids if step_id in state.steps]
    while waiting:
        current = waiting.pop()
        if current in anew:
            continue
        anew.add(current)
        anew.update(step_id for step_id in state.steps if is_inside(step_id, current))
        waiting += _waits_for(state, current)
        outer = state.steps[current].outline.part_of
        while outer and outer not in around:
            around.add(outer)
            waiting += _waits_for(state, outer)
            outer = state.steps[outer].outline.part_of
    return anew, around - anew


def _waits_for(state: RunState, step_id: str) -> list[str]:
    return [other.id for other in state.steps.values() if step_id in other.outline.parents]


def check_rerun(witness: Witness, event: e.CommandApplied) -> None:
    """Hold which steps a rerun made pending: the step, its parts, and with `downstream` what follows."""
    step_id = event.arguments["step"]
    anew, around = standing_on(witness.state, [step_id])
    if not event.arguments.get("downstream"):
        anew = {step_id, *(other for other in anew if is_inside(other, step_id))}
    for other in _made_pending(witness, event, "rerun"):
        assert other in anew or other in around, f"the rerun of {step_id} makes {other} pending, which is not behind it"


def check_edit(
    witness: Witness, event: e.CommandApplied, before: dict[str, Step], was: RunState, *, plans_changed: bool
) -> None:
    """Hold that a revision keeps the results of what it does not change and of what does not stand on that.

    What was stale before counts as changed: an earlier revision may have changed it without running it again.
    """
    succeeded = {step.id for step in was.steps.values() if step.status is StepStatus.SUCCEEDED}
    state = witness.state
    changed = [
        step_id
        for step_id in state.steps
        if step_id not in before or _as_done(before[step_id]) != _as_done(witness.step_of(step_id))
    ]
    changed += [step_id for step_id in succeeded if Mark.STALE in was.steps[step_id].marks]
    if plans_changed:
        changed += [step.id for step in state.steps.values() if step.outline.kind == "plan"]
    anew, around = standing_on(state, changed)
    for other in _made_pending(witness, event, "edit"):
        if other in succeeded:
            assert event.arguments.get("rerun"), f"the edit makes {other} pending, which succeeded"
            assert other in anew or other in around, f"the edit makes {other} pending, which did not change"


def _as_done(step: Step) -> dict[str, object]:
    return step.model_dump(mode="json", exclude_unset=True, exclude=_SHOWN_ONLY)


def _made_pending(witness: Witness, command: e.CommandApplied, reason: str) -> Iterable[str]:
    for event in witness.events[command.seq :]:
        if isinstance(event, e.CommandApplied | e.StepStarted | e.ItemStarted):
            return
        if isinstance(event, e.StepInvalidated) and not event.stale and event.reason == reason:
            yield event.step_id


def check_fork(parent: RunState, child: Witness, step_id: str) -> None:
    """Hold what a fork took over: what its parent had done, but for the step and what stands on it."""
    taken: dict[str, e.StepSucceeded] = {}
    known: set[str] = set()
    for event in child.events:
        if isinstance(event, e.RunStarted):
            break
        if isinstance(event, e.RunCreated):
            known = {outline.id for outline in event.steps}
        if isinstance(event, e.StepSucceeded):
            taken[event.step_id] = event
    anew, around = standing_on(parent, [step_id])
    wanted = {
        other.id
        for other in parent.steps.values()
        if other.id not in anew | around
        and other.id in known
        and (other.status is StepStatus.SUCCEEDED or (other.waiting is not None and other.waiting.place == "after"))
    }
    assert wanted - set(taken) <= {other for other in wanted if parent.steps[other].output is None}
    assert set(taken) & known <= wanted, f"the fork takes {set(taken) & known - wanted} over"
    for other in wanted & set(taken):
        assert taken[other].output == parent.steps[other].output
        assert taken[other].origin


def check_receipt(receipt: Receipt, witness: Witness, since: int) -> None:
    """Hold a receipt against what was carried out since that event, when all went well and nobody stepped in."""
    begun = {event.step_id for event in witness.events[since:] if isinstance(event, e.StepStarted | e.ItemStarted)}
    for line in receipt.steps:
        step = witness.state.steps.get(line.step_id)
        if step is None:
            continue
        if line.decision is not Decision.RUN:
            assert step.id not in begun, f"the receipt says {line}, and it was carried out"
        if line.decision in (Decision.REUSE, Decision.STALE):
            assert step.status is StepStatus.SUCCEEDED, f"the receipt says {line}, it is {step.status}"
            stale = line.decision is Decision.STALE
            assert (Mark.STALE in step.marks) == stale, f"the receipt says {line}, its marks are {step.marks}"
        elif line.decision is Decision.RUN and step.id not in begun:
            in_flight = line.status in (StepStatus.RUNNING, StepStatus.WAITING)
            assert in_flight or step.status in _NOT_CARRIED_OUT or Mark.PINNED in step.marks, (
                f"the receipt says {line}, and it was not carried out: it is {step.status}"
            )
