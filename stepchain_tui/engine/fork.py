"""Forks: a new run that takes over what another one did, up to a step (rule 10).

The results are copied with their origin, so that the child stands by itself: its parent may be deleted.
"""

from __future__ import annotations

from stepchain_tui.core.errors import CommandRefusedError
from stepchain_tui.engine.graph import graph_of
from stepchain_tui.engine.recorder import Journal
from stepchain_tui.engine.revision import close_parts
from stepchain_tui.engine.source import RunSource
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import Mark, StepStatus
from stepchain_tui.run.step_state import StepState


def create(journal: Journal, source: RunSource, *, parent: RunState | None = None, step_id: str | None = None) -> None:
    """Record that a run exists.

    Args:
        journal: The new run's journal.
        source: What it is made from.
        parent: The run that it is forked from, or None.
        step_id: The step that it is forked at.
    """
    replay_of = source.recording.run_id if source.recording is not None else ""
    journal.emit(
        e.RunCreated,
        goal=source.plan.goal,
        plan=source.plan_json(),
        steps=source.outlines(),
        plan_path=str(source.path or ""),
        plan_text=source.text,
        plan_folder=str(source.folder),
        working_folder=str(source.working_folder),
        inputs=source.stored_inputs,
        secret_inputs=source.secret_inputs,
        max_concurrent=source.slots,
        parent_run_id=parent.run_id if parent is not None else replay_of or None,
        parent_step_id=step_id,
        plans=source.plans_json(),
        replay_of=replay_of,
        live=source.live,
    )


def fork(journal: Journal, source: RunSource, parent: RunState, step_id: str) -> None:
    """Record a new run that takes over what its parent did, but for a step and all that follows it.

    Raises:
        UnknownStepError: The parent has no such step.
        CommandRefusedError: The step belongs to an item of a map of plans, which the child has yet to make.
    """
    parent.step(step_id)
    create(journal, source, parent=parent, step_id=step_id)
    state = journal.state
    if step_id not in state.steps:
        raise CommandRefusedError(
            f"'{step_id}' is a part of an item of a map", hint="Fork at the map itself, or rerun the part."
        )
    graph = graph_of(source, state)
    reach = graph.reach(step_id)
    anew = {step_id, *reach.inside, *reach.around, *reach.following}
    for other in state.steps:
        if (known := parent.steps.get(other)) is None:
            continue
        if known.pinned_output is not None:
            journal.emit(e.StepPinned, step_id=other, output=known.pinned_output, by=f"run {parent.run_id}")
        if other not in anew:
            _take_over(journal, source, parent, known)
    close_parts(journal, graph, "was taken over without it")


def _take_over(journal: Journal, source: RunSource, parent: RunState, known: StepState) -> None:
    origin = known.origin or f"{parent.run_id}/{known.id}"
    if known.output is not None and known.done:
        journal.emit(
            e.StepSucceeded,
            step_id=known.id,
            attempt=0,
            output=known.output,
            origin=origin,
            content_hash=known.content_hash,
        )
        if Mark.STALE in known.marks:
            journal.emit(e.StepInvalidated, step_id=known.id, reason="fork", cause=known.id, stale=True)
    elif known.items and any(item.status is StepStatus.SUCCEEDED for item in known.items):
        _take_items_over(journal, source, known, origin)


def _take_items_over(journal: Journal, source: RunSource, known: StepState, origin: str) -> None:
    """Take over the items that are done of a map that is not, so that only the others are left to do."""
    items = known.items or []
    outlines = tuple(e.ItemOutline(key=item.key, value=item.value) for item in items)
    parts = source.parts_of(known.id, len(items)) if known.outline.kind == "plan" else ()
    journal.emit(e.StepExpanded, step_id=known.id, attempt=0, items=outlines, steps=parts)
    for item in items:
        if item.status is StepStatus.SUCCEEDED and item.output is not None:
            journal.emit(
                e.ItemSucceeded, step_id=known.id, attempt=0, item=item.index, output=item.output, origin=origin
            )
    journal.emit(e.StepInvalidated, step_id=known.id, reason="fork", keep_items=True)
