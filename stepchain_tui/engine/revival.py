"""Going on with a run that has stopped: fresh tries, a changed plan, a fresh start (rules 10 and 11)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import InputError
from stepchain_tui.core.values import encode_json
from stepchain_tui.engine.hashes import StepHasher
from stepchain_tui.engine.recorder import Journal
from stepchain_tui.engine.source import RunSource
from stepchain_tui.plan import PlanGraph, plan_from_json
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import STEP_ENDED, RunStatus, StepStatus

_TRIED_ANEW = (StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.BLOCKED, StepStatus.CANCELLED)


def source_of(state: RunState, given: dict[str, Any] | None = None) -> RunSource:
    """Return the source of a run as it was kept.

    Args:
        state: The run.
        given: Values of its secret inputs, which are never stored.

    Raises:
        InputError: A secret input is missing.
    """
    given = given or {}
    missing = [name for name in state.secret_inputs if name not in given]
    if missing:
        hint = " ".join(f"--input {name}=..." for name in missing)
        raise InputError(f"secret inputs are not stored: give {', '.join(missing)} again", hint=f"Add {hint}")
    return RunSource(
        plan=plan_from_json(encode_json(state.plan)),
        folder=Path(state.plan_folder),
        path=Path(state.plan_path) if state.plan_path else None,
        text=state.plan_text,
        working_folder=Path(state.working_folder),
        max_concurrent=state.max_concurrent,
        inputs={**state.inputs, **{name: given[name] for name in state.secret_inputs}},
    )


def start_over(journal: Journal) -> None:
    """Make every step pending: the run starts over, its old attempts stay."""
    for step in journal.state.steps.values():
        if step.status is not StepStatus.PENDING or step.attempts:
            journal.emit(e.StepInvalidated, step_id=step.id, reason="fresh start")


def give_fresh_tries(journal: Journal, graph: PlanGraph) -> list[str]:
    """Make what failed, timed out, was blocked or cancelled pending again; returns the ids.

    What succeeded stays done; where it stands on something that is tried anew, it is marked stale.
    """
    state = journal.state
    if state.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
        return []
    anew = [step.id for step in state.steps.values() if step.status in _TRIED_ANEW]
    for step_id in anew:
        journal.emit(e.StepInvalidated, step_id=step_id, reason="resume", keep_items=True)
    mark_stale(journal, graph, anew, "resume")
    return anew


def mark_stale(journal: Journal, graph: PlanGraph, changed: list[str], reason: str) -> None:
    """Mark the results that stand on steps that changed."""
    steps = journal.state.steps
    causes: dict[str, str] = {}
    for step_id in changed:
        for child in graph.descendants(step_id) if graph.children[step_id] else ():
            causes.setdefault(child, step_id)
    for step_id, cause in causes.items():
        if steps[step_id].status is StepStatus.SUCCEEDED:
            journal.emit(e.StepInvalidated, step_id=step_id, reason=reason, cause=cause, stale=True)


def revise(journal: Journal, source: RunSource, hasher: StepHasher) -> bool:
    """Give a stopped run the plan of `source`, if it differs; unchanged steps keep their results.

    Changed steps that have a result, and what stands on them, are marked stale.
    """
    state = journal.state
    plan = source.plan_json()
    if plan == state.plan:
        return False
    before = {step["id"]: step for step in state.plan["steps"]}
    journal.emit(
        e.RunRevised,
        revision=state.revision + 1,
        plan=plan,
        steps=source.outlines(),
        plan_text=source.text,
        max_concurrent=source.slots,
        reason="the plan file changed",
    )
    changed = []
    for step in source.plan.steps:
        found = state.steps[step.id]
        if step.id not in before or found.status not in STEP_ENDED or not found.content_hash:
            continue
        if hasher.hash_of(step, source) != found.content_hash:
            changed.append(step.id)
            journal.emit(e.StepInvalidated, step_id=step.id, reason="edit", cause=step.id, stale=True)
    mark_stale(journal, source.graph, changed, "edit")
    return True
