"""Revisions: a run gets another plan in its middle, and what that means to what was done (rule 11).

Unchanged steps keep their results. A step that succeeded and now does something else is stale, with all that stands on
it; one that did not succeed is tried anew. What runs may not change under its own feet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from stepchain_tui.core.errors import CommandRefusedError, InputError, UsageError
from stepchain_tui.core.values import encode_json
from stepchain_tui.engine.calling_off import OPENED_AGAIN
from stepchain_tui.engine.graph import RunGraph, graph_of
from stepchain_tui.engine.hashes import StepHasher
from stepchain_tui.engine.recorder import Journal
from stepchain_tui.engine.source import RunSource
from stepchain_tui.plan import ActionKind, Plan, Step, plan_from_json, resolve_inputs, subplans_from_json
from stepchain_tui.plan.executor_types import FIXED_TYPES
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import STEP_ENDED, Mark, StepStatus
from stepchain_tui.run.step_state import StepState

_SHOWN_ONLY = frozenset(("name", "description", "tags"))
"""Keys that change nothing of what is done."""
_NEXT_TIME = frozenset(
    ("retry", "timeout", "priority", "on_failure", "trigger_rule", "breakpoint", "on_interrupt", "budget")
)
"""Keys that a step which runs may get new values of: they count from its next try, or from its end."""

_WITH_CODE = frozenset((ActionKind.FUNCTION, ActionKind.TOOL, ActionKind.AGENT))
"""The kinds of steps that have a file of code behind them."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a revision changes.

    Attributes:
        same: Nothing at all.
        written: Steps of both plans that are written otherwise, apart from what is only shown.
        content: Those of them, and of steps whose code changed, that do something else than what their result is of.
        removed: Steps that are gone.
        added: Steps that are new.
    """

    same: bool
    written: tuple[str, ...]
    content: tuple[str, ...]
    removed: tuple[str, ...]
    added: tuple[str, ...]


def revised_source(source: RunSource, state: RunState, arguments: Mapping[str, Any]) -> RunSource:
    """Return the source of a run with another plan; where it lives and what it was given stay.

    Args:
        source: The run's source.
        state: The run.
        arguments: `plan` as JSON; `text`, its file's text; `plans`, its sub-plans, read from their files where they are
            not given; `inputs` for inputs that are new.

    Raises:
        UsageError: The plan is no plan.
        CommandRefusedError: It has an input that has no value.
    """
    data = arguments.get("plan")
    if not isinstance(data, dict):
        raise UsageError("an edit needs a plan")
    try:
        plan = plan_from_json(encode_json(data))
        kept = arguments.get("plans")
        plans = subplans_from_json(kept) if kept is not None else None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"the revision is no plan: {place}: {first['msg']}") from None
    return RunSource(
        plan=plan,
        folder=source.folder,
        path=source.path,
        text=str(arguments.get("text") or ""),
        working_folder=source.working_folder,
        inputs=_inputs_for(plan, source, arguments.get("inputs") or {}),
        environment=source.environment,
        max_concurrent=state.max_concurrent if plan.max_concurrent == source.plan.max_concurrent else None,
        plans=plans,
    )


def _inputs_for(plan: Plan, source: RunSource, given: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in source.inputs.items() if name in plan.inputs}
    try:
        fresh = resolve_inputs(plan, {**known, **given}, source.working_folder, source.folder)
    except InputError as error:
        raise CommandRefusedError(error.message, hint=error.hint) from error
    return {**fresh, **{name: value for name, value in known.items() if name not in given}}


def changes_of(before: RunSource, after: RunSource, state: RunState, hasher: StepHasher) -> Changes:
    """Return what another source changes of a run."""
    same = before.plan_json() == after.plan_json() and before.plans_json() == after.plans_json()
    written: list[str] = []
    content: list[str] = []
    removed: list[str] = []
    kept = _ids_of(after, state) if not same else state.steps.keys()
    for step_id, step in state.steps.items():
        if step_id not in kept:
            removed.append(step_id)
            continue
        old, new = before.definition(step_id), after.definition(step_id)
        changed = not same and _differs(old.step, new.step, _SHOWN_ONLY)
        if changed:
            written.append(step_id)
        if step.content_hash:
            if step.content_hash != hasher.hash_of(new, after):
                content.append(step_id)
        elif changed and hasher.hash_of(old, before) != hasher.hash_of(new, after):
            content.append(step_id)
    added = [outline.id for outline in after.outlines() if outline.id not in state.steps] if not same else []
    return Changes(same, tuple(written), tuple(content), tuple(removed), tuple(added))


def _ids_of(after: RunSource, state: RunState) -> set[str]:
    """Return the ids that a revision's steps will have; a plan that becomes a map has its parts only once expanded."""
    return {outline.id for outline in _outlines(after, state)}


def _differs(old: Step, new: Step, besides: frozenset[str]) -> bool:
    if old == new:
        return False
    return _as_written(old, besides) != _as_written(new, besides)


def _as_written(step: Step, besides: frozenset[str]) -> dict[str, Any]:
    return step.model_dump(mode="json", exclude_unset=True, exclude=set(besides))


def refuse_what_runs(before: RunSource, after: RunSource, state: RunState, changes: Changes) -> None:
    """Raise if a revision takes away or changes a step that is being carried out.

    Raises:
        CommandRefusedError: It does; names every such step.
    """
    busy = [step for step in state.steps.values() if _is_carried_out(step)]
    gone = [step.id for step in busy if step.id in changes.removed]
    changed = [
        step.id
        for step in busy
        if step.id in changes.written
        and _differs(before.definition(step.id).step, after.definition(step.id).step, _SHOWN_ONLY | _NEXT_TIME)
    ]
    if gone or changed:
        what = " and ".join(
            part
            for part in (
                f"takes {', '.join(gone)} away" if gone else "",
                f"changes {', '.join(changed)}" if changed else "",
            )
            if part
        )
        verb = "is" if len(gone) + len(changed) == 1 else "are"
        raise CommandRefusedError(
            f"the revision {what}, which {verb} being carried out", hint="Cancel that, or wait for its end, then edit."
        )


def _is_carried_out(step: StepState) -> bool:
    if step.status is StepStatus.WAITING:
        return step.waiting is not None and step.waiting.attempt is not None
    return step.status is StepStatus.RUNNING


def revise(
    journal: Journal,
    after: RunSource,
    changes: Changes,
    *,
    reason: str,
    by: str = "",
    rerun: bool = False,
) -> None:
    """Record a revision of a run's plan and what it means to its steps.

    Args:
        journal: The run's journal.
        after: The source as it is to be.
        changes: What it changes, see `changes_of`.
        reason: Why, as history shows it.
        by: Who made it.
        rerun: Steps that succeeded and changed run again, with what stands on them; else they are marked stale.
    """
    state = journal.state
    if not changes.same:
        others = after.stored_inputs != state.inputs or after.secret_inputs != state.secret_inputs
        inputs = after.stored_inputs if others else None
        journal.emit(
            e.RunRevised,
            revision=state.revision + 1,
            plan=after.plan_json(),
            steps=_outlines(after, state),
            plan_text=after.text,
            max_concurrent=after.slots,
            reason=reason,
            by=by,
            inputs=inputs,
            secret_inputs=after.secret_inputs,
            plans=after.plans_json(),
        )
        journal.recorder.touch_all(journal.run_id, state)
    graph = graph_of(after, state)
    _try_anew(journal, graph, changes)
    done = [step_id for step_id in changes.content if (step := state.steps[step_id]).done and not step.pinned]
    if rerun:
        _run_again(journal, graph, done)
        close_parts(journal, graph, "has a result without it")
        return
    close_parts(journal, graph, "has a result without it")
    words = {step_id: "edit" if step_id in changes.written else "code" for step_id in done}
    for step_id in done:
        if Mark.STALE not in state.steps[step_id].marks:
            journal.emit(e.StepInvalidated, step_id=step_id, reason=words[step_id], cause=step_id, stale=True)
    mark_stale(journal, graph, done, "edit")


def _outlines(source: RunSource, state: RunState) -> tuple[e.StepOutline, ...]:
    """Return the outlines of a revision's steps, the parts of maps that were expanded among them."""
    found: list[e.StepOutline] = []
    for outline in source.outlines():
        found.append(outline)
        _add_parts(source, state, outline, found)
    return tuple(found)


def _add_parts(source: RunSource, state: RunState, outline: e.StepOutline, found: list[e.StepOutline]) -> None:
    step = state.steps.get(outline.id)
    if outline.kind != "plan" or not outline.is_map or step is None or not step.items:
        return
    for part in source.parts_of(outline.id, len(step.items)):
        found.append(part)
        _add_parts(source, state, part, found)


def _try_anew(journal: Journal, graph: RunGraph, changes: Changes) -> None:
    """Make pending what did not succeed and is written otherwise now, and what was held up by it."""
    steps = journal.state.steps
    touched = dict.fromkeys((*changes.written, *changes.added, *changes.content))
    anew: dict[str, str] = {}
    for step_id in touched:
        step, other_content = steps[step_id], step_id in changes.content
        if step.status in STEP_ENDED:
            wanted = step.status is not StepStatus.SUCCEEDED
        else:
            about_to_begin = step.status is StepStatus.QUEUED or step.stands_before
            wanted = about_to_begin or (step.status is StepStatus.RETRYING and other_content)
        if wanted:
            anew[step_id] = step_id
    behind = graph.followers(touched)
    if changes.removed:  # what was held up by a step that is gone has no edge to it any more
        behind |= dict.fromkeys((step_id for step_id in graph.order if step_id not in behind), "")
    around = set(graph.around.values())
    for step_id, cause in behind.items():
        step = steps[step_id]
        if step.held_up or (step_id in around and cause and step.status in OPENED_AGAIN):
            anew.setdefault(step_id, cause)
    for step_id in graph.that_can_begin(anew, lambda outer: steps[outer].status in STEP_ENDED):
        again = step_id in changes.content and steps[step_id].status in STEP_ENDED
        cause = anew[step_id]
        journal.emit(e.StepInvalidated, step_id=step_id, reason="edit", cause=cause, keep_items=True, again=again)


def close_parts(journal: Journal, graph: RunGraph, why: str) -> None:
    """Give a result to the parts without one of sub-plans that have theirs and are not opened again.

    Args:
        journal: The run's journal.
        graph: Its steps.
        why: What is said of the sub-plan's step.
    """
    steps = journal.state.steps
    for step_id in graph.around:
        outer = next((one for one in graph.all_around(step_id) if steps[one].ended), None)
        if outer is not None and steps[step_id].status is StepStatus.PENDING:
            journal.emit(e.StepSkipped, step_id=step_id, cause=outer, reason=f"{outer} {why}")


def _run_again(journal: Journal, graph: RunGraph, changed: list[str]) -> None:
    steps = journal.state.steps
    behind = graph.followers(changed, stop_at=lambda other: steps[other].pinned)
    around = {outer for step_id in (*changed, *behind) for outer in graph.all_around(step_id)}
    causes = {**behind, **dict.fromkeys(changed, "")}
    ended = [step_id for step_id in causes if steps[step_id].status in STEP_ENDED]
    for step_id in graph.that_can_begin(ended, lambda outer: steps[outer].status in STEP_ENDED):
        opened = step_id in around and step_id not in changed
        journal.emit(
            e.StepInvalidated,
            step_id=step_id,
            reason="edit",
            cause=causes[step_id],
            keep_items=opened,
            again=not opened,
        )


def mark_stale(journal: Journal, graph: RunGraph, changed: Iterable[str], reason: str) -> None:
    """Mark the results that stand on steps that changed; one that is pinned stands on nothing."""
    steps = journal.state.steps
    causes = graph.followers(changed, stop_at=lambda other: steps[other].pinned)
    for step_id, cause in causes.items():
        step = steps[step_id]
        if step.status is StepStatus.SUCCEEDED and Mark.STALE not in step.marks:
            journal.emit(e.StepInvalidated, step_id=step_id, reason=reason, cause=cause, stale=True)


def mark_changed_code(journal: Journal, source: RunSource, graph: RunGraph, hasher: StepHasher) -> None:
    """Mark the results whose code has changed since they were made, with what stands on them."""
    steps = journal.state.steps
    made = {
        step.id: step.content_hash
        for step in steps.values()
        if step.content_hash and step.status is StepStatus.SUCCEEDED and _has_code(step, source)
    }
    definitions = (source.definition(step_id) for step_id in made)
    changed = [
        step_id
        for step_id, found in hasher.hashes_of(definitions, source)
        if found != made[step_id] and not steps[step_id].marks & {Mark.STALE, Mark.PINNED}
    ]
    for step_id in changed:
        journal.emit(e.StepInvalidated, step_id=step_id, reason="code", cause=step_id, stale=True)
    if changed:
        mark_stale(journal, graph, changed, "code")


def _has_code(step: StepState, source: RunSource) -> bool:
    """Return whether a file of code is behind a step: its function's, or that of an executor of the plan's own."""
    return step.outline.kind in _WITH_CODE or source.definition(step.id).step.executor not in FIXED_TYPES
