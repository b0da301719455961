"""The plans that runs keep: the one to edit, and every revision of it; all of it runs in the reader's thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.values import encode_json
from stepchain_tui.llm.plan_yaml import plan_yaml
from stepchain_tui.tui.queries import Lines, text_lines
from stepchain_tui.tui.views import parents_of

if TYPE_CHECKING:
    from stepchain_tui.plan import InputSpec, Plan, PlanDifference
    from stepchain_tui.store.base import AbstractStore

Data = Mapping[str, Any]
"""A plan as the JSON value that a run keeps."""


def step_parents(plan: Plan, folder: Path, path: Path | None = None) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return step id -> its parents, and the kinds in that order: of the plan's steps and the parts of sub-plans.

    Args:
        plan: A plan without mistakes.
        folder: What `./` in it is relative to.
        path: Its file.
    """
    if all(step.plan is None for step in plan.steps):  # most plans: the engine need not be loaded for them
        from stepchain_tui.plan import PlanGraph

        return dict(PlanGraph.of(plan).parents), [step.kind.value for step in plan.steps]
    from stepchain_tui.engine.source import RunSource

    outlines = RunSource(plan=plan, folder=folder, path=path).outlines()
    return {outline.id: outline.parents for outline in outlines}, [outline.kind for outline in outlines]


# --- the plan to edit


@dataclass(frozen=True, slots=True)
class EditedPlan:
    """The plan of a run, as it is edited.

    Attributes:
        revision: The newest revision, which is what an edit is of.
        text: Its text.
        made: The text was made from the plan, as there is no file that it came from.
        folder: What `./` in it is relative to.
        path: The file that the run was started from, or None.
        parents: The run's steps -> their parents, the parts of sub-plans among them.
        inputs: Names of the inputs that the run has.
        statuses: How its steps stood when the plan was read.
    """

    run_id: str
    revision: int
    text: str
    made: bool
    folder: Path
    path: Path | None
    parents: Mapping[str, tuple[str, ...]]
    inputs: frozenset[str]
    statuses: Mapping[str, str]

    @property
    def name(self) -> str:
        """What the plan is called in messages: its file's name."""
        return self.path.name if self.path is not None else "plan.yaml"


async def read_edited_plan(store: AbstractStore, run_id: str) -> EditedPlan:
    """Return the plan of a run as it is now.

    Raises:
        UnknownRunError: There is no such run.
        StoreError: Its events are damaged.
    """
    state = await store.load_state(run_id)
    return EditedPlan(
        run_id=run_id,
        revision=state.revision,
        text=state.plan_text or plan_yaml(state.plan, known_keys=False),
        made=not state.plan_text,
        folder=Path(state.plan_folder),
        path=Path(state.plan_path) if state.plan_path else None,
        parents=parents_of(state),
        inputs=frozenset((*state.inputs, *state.secret_inputs)),
        statuses={step_id: str(step.status) for step_id, step in state.steps.items()},
    )


@dataclass(frozen=True, slots=True)
class Revision:
    """What an edited text comes to.

    Attributes:
        arguments: Those of the command `edit`, but for the revision that it is of.
        parents: Step id -> its parents.
        new_inputs: Inputs that need a value and have none in the run.
    """

    arguments: Mapping[str, Any]
    parents: Mapping[str, tuple[str, ...]]
    new_inputs: Mapping[str, InputSpec] = field(default_factory=dict)


def make_revision(text: str, edited: EditedPlan) -> Revision:
    """Return a text as a revision of a run's plan, checked as a whole; blocking.

    Raises:
        PlanError: It has mistakes; one line for each.
    """
    from stepchain_tui.engine.service import revision_arguments
    from stepchain_tui.plan import parse_plan

    arguments = revision_arguments(text, edited.name, edited.folder)
    plan = parse_plan(text, edited.name, edited.folder).plan
    new = {name: spec for name, spec in plan.inputs.items() if name not in edited.inputs and not spec.has_default}
    return Revision(arguments, step_parents(plan, edited.folder)[0], new)


# --- all revisions


@dataclass(frozen=True, slots=True)
class KeptRevision:
    """One revision of a run's plan.

    Attributes:
        text: The text of its file, or one made from the plan.
        plan: The plan.
        changed: How many steps are new, gone or written otherwise than in the revision before; 0 for the first.
    """

    number: int
    at: datetime
    by: str
    reason: str
    text: str
    plan: Plan
    changed: int = 0


async def read_revisions(store: AbstractStore, run_id: str) -> list[KeptRevision]:
    """Return every revision of a run's plan that can be read, the first one first."""
    from stepchain_tui.core.errors import StepChainError
    from stepchain_tui.plan import compare_plans, plan_from_json
    from stepchain_tui.run import events as e

    found: list[KeptRevision] = []
    async for _, kind, _, data in store.read_raw_events(run_id):
        if kind not in ("run.created", "run.revised"):
            continue
        try:
            event = e.decode_event(data)
        except StepChainError:
            continue  # the screen of the run says which events are damaged
        match event:
            case e.RunRevised():
                number, by, reason = event.revision, event.by, event.reason
            case e.RunCreated():
                number, by, reason = 1, "", "as it was started"
            case _:
                continue
        plan = plan_from_json(encode_json(event.plan))
        changed = _count(compare_plans(found[-1].plan, plan)) if found else 0
        text = event.plan_text or plan_yaml(event.plan, known_keys=False)
        found.append(KeptRevision(number, event.at, by, reason, text, plan, changed))
    return found


def _count(found: PlanDifference) -> int:
    return len(found.added) + len(found.removed) + len(found.changed)


def revision_lines(revision: KeptRevision) -> Lines:
    """Return the whole text of a revision; blocking."""
    return text_lines(revision.text) if revision.text else Lines()


def difference_lines(before: KeptRevision, after: KeptRevision) -> Lines:
    """Return what is different in `after`: by steps and keys, then, as text, what no key shows; blocking."""
    from stepchain_tui.plan import compare_plans, text_difference

    lines = compare_plans(before.plan, after.plan).lines()
    names = (f"revision {before.number}", f"revision {after.number}")
    text = text_difference(before.text, after.text, *names)
    both = [*lines, *([""] if lines and text else []), *text]
    return text_lines("\n".join(both)) if both else Lines()
