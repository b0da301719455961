"""What a run is made from: its plan, where the plan lives, and the values it was given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stepchain_tui.core.secrets import Redactor, environment_without_secrets
from stepchain_tui.core.values import decode_json
from stepchain_tui.plan import (
    InputType,
    Mode,
    OnFailure,
    Plan,
    PlanGraph,
    Step,
    SubPlan,
    effective_mode,
    load_subplans,
    plan_to_json,
    subplan_key,
    subplans_to_json,
)
from stepchain_tui.plan.kinds import calls_tools
from stepchain_tui.plan.servers import settings_servers
from stepchain_tui.plan.shared import secrets_of_servers
from stepchain_tui.run.events import StepOutline
from stepchain_tui.run.ids import parent_path, split_id

if TYPE_CHECKING:
    from stepchain_tui.engine.recording import Recording


class Definition(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What one step of a run is to do: the step with the id it has in the run, and the plan that it is written in.

    Attributes:
        step: The step; its id is the run's (`outer/inner`), its references are those of its own plan.
        plan: The plan it is written in.
        folder: What `./` in that plan is relative to.
        scope: What the ids of that plan's steps begin with in the run: empty, or `outer/`.
        path: The file of that plan, where it is a sub-plan.
    """

    step: Step
    plan: Plan
    folder: Path
    scope: str = ""
    path: Path | None = None


@dataclass(kw_only=True, eq=False)
class RunSource:
    """A plan with all that carrying it out needs.

    Attributes:
        plan: The plan.
        folder: What `./` in it is relative to.
        path: Its file, or None.
        text: The file's text.
        working_folder: Where the command was typed.
        inputs: Every input's value, secret ones included; never stored as it is.
        environment: The variables that secrets and children's environments come from.
        checked: The plan was found valid, as every plan that was loaded from a file is.
        max_concurrent: How many steps may run at once, instead of what the plan says.
        plans: The plans that its `plan` steps run, by file; read from their files if None.
        kept: It was made from what a run keeps, so its plan is the run's.
        servers: The MCP servers of the user's settings; read from their file if None.
        answers_after: The last event that was imported: what persons said of tool calls before was said elsewhere.
        recording: What the run replays, None where it is carried out.
        live: Kinds of steps that a replay carries out all the same.
    """

    plan: Plan
    folder: Path
    path: Path | None = None
    text: str = ""
    working_folder: Path = field(default_factory=Path.cwd)
    inputs: dict[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    checked: bool = False
    max_concurrent: int | None = None
    plans: dict[str, SubPlan] | None = None
    kept: bool = False
    servers: Mapping[str, Mapping[str, Any]] | None = None
    answers_after: int = 0
    recording: Recording | None = None
    live: tuple[str, ...] = ()

    @property
    def slots(self) -> int:
        """How many steps may run at once."""
        return self.max_concurrent or self.plan.max_concurrent

    @cached_property
    def graph(self) -> PlanGraph:
        """The plan's graph; that of a run with sub-plans is `graph.graph_of`."""
        return PlanGraph.of(self.plan)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Step id -> place in the plan."""
        return {step.id: position for position, step in enumerate(self.plan.steps)}

    # --- sub-plans

    @cached_property
    def has_subplans(self) -> bool:
        """Whether any step of the plan runs another plan."""
        return any(step.plan is not None for step in self.plan.steps)

    @cached_property
    def subplans(self) -> dict[str, SubPlan]:
        """Every plan that a `plan` step reaches, by file.

        Raises:
            PlanError: One cannot be read or has mistakes.
        """
        if not self.has_subplans:
            return {}
        return self.plans if self.plans is not None else load_subplans(self.plan, self.folder, self.path)

    def subplan_of(self, definition: Definition) -> SubPlan:
        """Return the plan that a `plan` step runs."""
        return self.subplans[subplan_key(definition.step, definition.folder)]

    def definition(self, step_id: str) -> Definition:
        """Return what a step of the run is to do.

        Raises:
            KeyError: There is no such step.
        """
        found = self._definitions.get(step_id)
        if found is None:
            found = self._definitions[step_id] = self._define(step_id)
        return found

    @cached_property
    def _definitions(self) -> dict[str, Definition]:
        return {}

    @cached_property
    def _inner_positions(self) -> dict[str, dict[str, int]]:
        return {
            key: {step.id: position for position, step in enumerate(subplan.plan.steps)}
            for key, subplan in self.subplans.items()
        }

    def _define(self, step_id: str) -> Definition:
        if (position := self.positions.get(step_id)) is not None:
            return Definition(self.plan.steps[position], self.plan, self.folder)
        outer = parent_path(step_id)
        if not outer:
            raise KeyError(step_id)
        around = self.definition(split_id(outer)[0])
        key = subplan_key(around.step, around.folder)
        subplan = self.subplans[key]
        step = subplan.plan.steps[self._inner_positions[key][step_id.removeprefix(f"{outer}/")]]
        inner = step.model_copy(update={"id": step_id})
        return Definition(inner, subplan.plan, subplan.folder, f"{outer}/", subplan.path)

    # --- values

    @cached_property
    def secret_inputs(self) -> tuple[str, ...]:
        """Names of the inputs that are never stored."""
        return tuple(name for name, spec in self.plan.inputs.items() if spec.type is InputType.SECRET)

    @property
    def stored_inputs(self) -> dict[str, Any]:
        """The inputs that may be stored."""
        return {name: value for name, value in self.inputs.items() if name not in self.secret_inputs}

    @cached_property
    def _secret_names(self) -> tuple[str, ...]:
        inner = (name for subplan in self.subplans.values() for name in subplan.plan.secrets)
        plans = (self.plan, *(subplan.plan for subplan in self.subplans.values()))
        if self.servers is None and any(calls_tools(step.kind) for plan in plans for step in plan.steps):
            self.servers = settings_servers()
        servers = self.servers or {}
        of_servers = (name for plan in plans for name in sorted(secrets_of_servers(plan, servers)))
        return tuple(dict.fromkeys((*self.plan.secrets, *inner, *of_servers)))

    def know_servers(self, servers: Mapping[str, Mapping[str, Any]]) -> None:
        """Take note of the servers of the settings: what they read as secrets are secrets of this run."""
        self.servers = servers
        for name in ("_secret_names", "_all_secret_names", "secrets", "redactor"):
            self.__dict__.pop(name, None)

    @cached_property
    def secrets(self) -> dict[str, str]:
        """The values of the variables under `secrets:` of the plan and its sub-plans that are set."""
        return {name: self.environment[name] for name in self._secret_names if name in self.environment}

    @cached_property
    def _all_secret_names(self) -> frozenset[str]:
        plans = (self.plan, *(subplan.plan for subplan in self.subplans.values()))
        of_steps = (name for plan in plans for step in plan.steps for name in step.secrets)
        of_models = (place.api_key_env for plan in plans for place in plan.models.values() if place.api_key_env)
        return frozenset((*self._secret_names, *of_steps, *of_models))

    @property
    def secret_names(self) -> frozenset[str]:
        """The variables that the plan, its sub-plans, steps, models and the servers they call name as secrets."""
        return self._all_secret_names

    @cached_property
    def redactor(self) -> Redactor:
        """What takes secrets out of all that is stored for this run."""
        given = {name: str(self.inputs[name]) for name in self.secret_inputs if name in self.inputs}
        return Redactor.of_environment(self.environment, self._all_secret_names, given)

    def child_environment(self, definition: Definition) -> dict[str, str]:
        """Return the environment for a process of a step: without secrets but those its own plan or it names.

        For a process on another machine only those that the step itself names are there.
        """
        step = definition.step
        is_far = effective_mode(step, definition.plan.defaults) is Mode.CLUSTER
        named = step.secrets if is_far else (*definition.plan.secrets, *step.secrets)
        withheld = self._all_secret_names.difference(named)
        kept = environment_without_secrets(self.environment, keep=named)
        return {name: value for name, value in kept.items() if name not in withheld}

    # --- what a run keeps

    def outlines(self) -> tuple[StepOutline, ...]:
        """Return what the run's state needs to know of each step; the parts of maps come when those are expanded."""
        return tuple(self._outlines(self.plan, self.graph, self.folder, "", "", None))

    def parts_of(self, step_id: str, items: int) -> tuple[StepOutline, ...]:
        """Return the outlines of the parts of a map of plans with this many items."""
        subplan = self.subplan_of(self.definition(step_id))
        graph = PlanGraph.of(subplan.plan)
        return tuple(
            outline
            for item in range(items)
            for outline in self._outlines(subplan.plan, graph, subplan.folder, f"{step_id}[{item}]/", step_id, item)
        )

    def _outlines(
        self, plan: Plan, graph: PlanGraph, folder: Path, scope: str, part_of: str, item: int | None
    ) -> Iterator[StepOutline]:
        parents = graph.parents
        for step in plan.steps:
            yield StepOutline(
                id=f"{scope}{step.id}",
                kind=step.kind.value,
                parents=tuple(f"{scope}{parent}" for parent in parents[step.id]) if scope else parents[step.id],
                name=step.name or "",
                continues=step.on_failure is OnFailure.CONTINUE,
                is_map=step.for_each is not None,
                optional=step.optional,
                breakpoint=step.breakpoint.value if step.breakpoint and self.recording is None else "",
                part_of=part_of,
                part_of_item=item,
            )
            if step.plan is not None and step.for_each is None:
                inner, outer = self.subplans[subplan_key(step, folder)], f"{scope}{step.id}"
                yield from self._outlines(inner.plan, PlanGraph.of(inner.plan), inner.folder, f"{outer}/", outer, None)

    def plan_json(self) -> dict[str, Any]:
        """Return the plan as the JSON value that the run keeps."""
        value: dict[str, Any] = decode_json(plan_to_json(self.plan))
        return value

    def plans_json(self) -> dict[str, Any]:
        """Return the sub-plans as the JSON value that the run keeps."""
        return subplans_to_json(self.subplans) if self.subplans else {}
