"""What a run is made from: its plan, where the plan lives, and the values it was given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from stepchain_tui.core.secrets import Redactor, environment_without_secrets
from stepchain_tui.plan import InputType, OnFailure, Plan, PlanGraph, Step, TriggerRule, plan_to_json
from stepchain_tui.run.events import StepOutline


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

    @property
    def slots(self) -> int:
        """How many steps may run at once."""
        return self.max_concurrent or self.plan.max_concurrent

    @cached_property
    def graph(self) -> PlanGraph:
        """The plan's graph."""
        return PlanGraph.of(self.plan)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Step id -> place in the plan."""
        return {step.id: position for position, step in enumerate(self.plan.steps)}

    @cached_property
    def rules(self) -> dict[str, TriggerRule]:
        """The trigger rules that are not all_success."""
        return {
            step.id: step.trigger_rule for step in self.plan.steps if step.trigger_rule is not TriggerRule.ALL_SUCCESS
        }

    @cached_property
    def secret_inputs(self) -> tuple[str, ...]:
        """Names of the inputs that are never stored."""
        return tuple(name for name, spec in self.plan.inputs.items() if spec.type is InputType.SECRET)

    @property
    def stored_inputs(self) -> dict[str, Any]:
        """The inputs that may be stored."""
        return {name: value for name, value in self.inputs.items() if name not in self.secret_inputs}

    @cached_property
    def secrets(self) -> dict[str, str]:
        """The values of the variables under the plan's `secrets:` that are set."""
        return {name: self.environment[name] for name in self.plan.secrets if name in self.environment}

    @cached_property
    def redactor(self) -> Redactor:
        """What takes secrets out of all that is stored for this run."""
        named = {*self.plan.secrets, *(name for step in self.plan.steps for name in step.secrets)}
        given = {name: str(self.inputs[name]) for name in self.secret_inputs if name in self.inputs}
        return Redactor.of_environment(self.environment, named, given)

    def child_environment(self, step: Step) -> dict[str, str]:
        """Return the environment for a process of this step: without secrets but those that are named for it."""
        return environment_without_secrets(self.environment, keep=(*self.plan.secrets, *step.secrets))

    def outlines(self) -> tuple[StepOutline, ...]:
        """Return what the run's state needs to know of each step."""
        parents = self.graph.parents
        return tuple(
            StepOutline(
                id=step.id,
                kind=step.kind.value,
                parents=tuple(parents[step.id]),
                name=step.name or "",
                continues=step.on_failure is OnFailure.CONTINUE,
                is_map=step.for_each is not None,
                optional=step.optional,
            )
            for step in self.plan.steps
        )

    def plan_json(self) -> dict[str, Any]:
        """Return the plan as the JSON value that the run keeps."""
        from stepchain_tui.core.values import decode_json

        value: dict[str, Any] = decode_json(plan_to_json(self.plan))
        return value
