"""Going on with a run that has stopped: fresh tries, a changed plan, a fresh start (rules 10 and 11)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import InputError
from stepchain_tui.engine.graph import RunGraph, graph_of
from stepchain_tui.engine.hashes import StepHasher
from stepchain_tui.engine.recorder import Journal
from stepchain_tui.engine.recording import plans_of, stand_ins
from stepchain_tui.engine.revision import changes_of, mark_changed_code, mark_stale, revise
from stepchain_tui.engine.source import RunSource
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import STEP_ENDED, AttemptStatus, RunStatus, StepStatus

_TRIED_ANEW = (StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.BLOCKED, StepStatus.CANCELLED)


def source_of(state: RunState, given: dict[str, Any] | None = None) -> RunSource:
    """Return the source of a run as it was kept.

    Args:
        state: The run.
        given: Values of its secret inputs, which are never stored.

    Raises:
        InputError: A secret input is missing.
        UsageError: What the run keeps as its plan is none.
    """
    given = {**(stand_ins(state.secret_inputs) if state.replay_of else {}), **(given or {})}
    missing = [name for name in state.secret_inputs if name not in given]
    if missing:
        hint = " ".join(f"--input {name}=..." for name in missing)
        raise InputError(f"secret inputs are not stored: give {', '.join(missing)} again", hint=f"Add {hint}")
    plan, plans = plans_of(state)
    return RunSource(
        plan=plan,
        folder=Path(state.plan_folder),
        path=Path(state.plan_path) if state.plan_path else None,
        text=state.plan_text,
        working_folder=Path(state.working_folder),
        max_concurrent=state.max_concurrent,
        plans=plans,
        kept=True,
        inputs={**state.inputs, **{name: given[name] for name in state.secret_inputs}},
    )


def source_at_rest(state: RunState) -> RunSource:
    """Return the source of a run of which nothing is carried out: its secret inputs are empty."""
    return source_of(state, dict.fromkeys(state.secret_inputs, ""))


def start_over(journal: Journal) -> None:
    """Make every step pending: the run starts over, its old attempts stay."""
    reason = "fresh start"
    for step in journal.state.steps.values():
        for attempt in step.attempts.values():  # a question that is open is not asked any more
            if attempt.status is AttemptStatus.RUNNING and attempt.item is not None:
                journal.emit(e.ItemInterrupted, step_id=step.id, item=attempt.item, attempt=attempt.n, reason=reason)
        if step.last is not None and step.last.status is AttemptStatus.RUNNING:
            journal.emit(e.StepInterrupted, step_id=step.id, attempt=step.attempt, reason=reason, asked=True)
        if step.status is not StepStatus.PENDING or step.attempts:
            journal.emit(e.StepInvalidated, step_id=step.id, reason=reason, again=True)


def give_fresh_tries(journal: Journal, graph: RunGraph) -> list[str]:
    """Make what failed, timed out, was blocked or cancelled pending again; returns the ids.

    What succeeded stays done; where it stands on something that is tried anew, it is marked stale. A sub-plan that has
    its result, or was skipped, is not opened again for what became of its parts.
    """
    state = journal.state
    if state.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
        return []
    failed = [step.id for step in state.steps.values() if step.status in _TRIED_ANEW]
    anew = graph.that_can_begin(failed, lambda outer: state.steps[outer].status in STEP_ENDED)
    for step_id in anew:
        journal.emit(e.StepInvalidated, step_id=step_id, reason="resume", keep_items=True)
    mark_stale(journal, graph, anew, "resume")
    return anew


def go_on(journal: Journal, source: RunSource, hasher: StepHasher, *, fresh: bool = False, tries: bool = True) -> bool:
    """Record what going on with a stopped run means to its steps; the death of its owner is recorded already.

    Args:
        journal: The run's journal.
        source: The run's source; where its plan is another one than the run's, it becomes the next revision.
        hasher: Tells whether what a step does has changed.
        fresh: The run starts over.
        tries: What failed, timed out, was blocked or cancelled is tried anew.

    Returns:
        Whether there is anything to carry out.
    """
    state = journal.state
    if fresh:
        start_over(journal)
    if not source.kept and (source.plan_json() != state.plan or source.plans_json() != state.plans):
        changes = changes_of(source_at_rest(state), source, state, hasher)
        revise(journal, source, changes, reason="the plan file changed")
    graph = graph_of(source, state)
    if not fresh:
        mark_changed_code(journal, source, graph, hasher)
        if tries and give_fresh_tries(journal, graph):
            return True
    return state.status is not RunStatus.SUCCEEDED or not all(step.ended for step in state.steps.values())
