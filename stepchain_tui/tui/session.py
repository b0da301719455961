"""What the app knows of one open plan or run: the plain model behind a run screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stepchain_tui.run.status import RUN_ENDED, RunStatus, StepStatus
from stepchain_tui.run.step_state import BREAKPOINT, BUDGET, TOOL_APPROVAL
from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.text import countdown, duration
from stepchain_tui.tui.views import Frame, RunView, StepView

if TYPE_CHECKING:
    from stepchain_tui.plan import InputSpec
    from stepchain_tui.tui.queries import PlanPreview

_WORKING = (StepStatus.WAITING, StepStatus.RUNNING, StepStatus.RETRYING)


@dataclass
class Session:
    """One open plan or run.

    Attributes:
        plan_path: The plan's file, or empty.
        run_id: The run, empty before it was started.
        inputs: What the plan's inputs are set to before the start.
        specs: The plan's inputs.
        view: The run as it is now.
        replay_of: The run whose recording this one replays, or empty.
        steps: Every step, in the order of the plan.
        parents: The graph.
    """

    plan_path: str = ""
    run_id: str = ""
    working_folder: str = ""
    goal: str = ""
    model: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    specs: Mapping[str, InputSpec] = field(default_factory=dict)
    view: RunView | None = None
    replay_of: str = ""
    steps: dict[str, StepView] = field(default_factory=dict)
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    selected: str = ""
    follow: bool = True
    working: dict[StepStatus, dict[str, None]] = field(default_factory=lambda: {status: {} for status in _WORKING})
    """The steps that wait, run or are to be tried again, by status: a run of 10,000 steps is not searched for them."""
    broken: bool = False
    """The plan has mistakes: an editor shows it instead."""

    @property
    def title(self) -> str:
        """What to call the plan: its file's name, or its goal."""
        if self.broken:
            return ""
        path = self.plan_path
        name = path.rsplit("/", 1)[-1] if path else ""
        for ending in (".yaml", ".yml", ".json"):
            name = name.removesuffix(ending)
        return name or self.goal or self.run_id

    @property
    def step(self) -> StepView | None:
        """The selected step."""
        return self.steps.get(self.selected)

    @property
    def missing_inputs(self) -> list[str]:
        """Inputs that have no value and no default."""
        return [name for name, spec in self.specs.items() if name not in self.inputs and not spec.has_default]

    def take_plan(self, plan: PlanPreview) -> None:
        """Show a plan that has not run."""
        self.goal, self.model, self.specs = plan.goal, plan.model, plan.inputs
        self.parents = plan.parents
        self.steps = {step_id: StepView(step_id, plan.kinds[step_id]) for step_id in plan.parents}
        if self.selected not in self.steps:
            self.selected = next(iter(self.steps), "")

    def take(self, frame: Frame) -> None:
        """Take over what changed in the run."""
        self.view = frame.view
        self.plan_path = frame.view.plan_path or self.plan_path
        self.working_folder = frame.view.working_folder or self.working_folder
        self.goal, self.model = frame.view.goal, frame.view.model
        if frame.parents is not None:
            self.parents = frame.parents
            known = {**self.steps, **frame.steps}
            self.steps = {step_id: known[step_id] for step_id in frame.parents}
        else:
            self.steps.update(frame.steps)
        for step_id, step in frame.steps.items():
            for status, members in self.working.items():
                if status is step.status:
                    members.setdefault(step_id)
                else:
                    members.pop(step_id, None)
        if self.selected not in self.steps:
            self.selected = next(iter(self.steps), "")

    def where_the_work_is(self) -> str:
        """Return the step to look at while following: one that waits, runs or failed, else where we are."""
        here = self.step
        if here is not None and here.status in _WORKING:
            return self.selected
        for status in _WORKING:
            for step_id in self.working[status]:
                if step_id in self.steps:
                    return step_id
        if self.view is None or self.view.status not in RUN_ENDED:
            return self.selected
        ended = [step for step in self.steps.values() if step.finished_at is not None]
        if self.view.status is RunStatus.FAILED:
            broken = [step for step in ended if step.status in (StepStatus.FAILED, StepStatus.TIMED_OUT)]
            return broken[0].id if broken else self.selected
        return max(ended, key=lambda step: step.finished_at or datetime.min).id if ended else self.selected

    @property
    def asking(self) -> StepView | None:
        """The step whose question is shown: the selected one, else the first that asks."""
        asking = [self.steps[step_id] for step_id in self.working[StepStatus.WAITING] if step_id in self.steps]
        return self.step if self.step in asking else next(iter(asking), None)

    def elapsed_seconds(self, now: datetime) -> float | None:
        """Return how long the run has taken, or None before it began."""
        view = self.view
        if view is None or view.started_at is None:
            return None
        end = view.finished_at or (now if view.live else view.last_at) or now
        return (end - view.started_at).total_seconds()


def step_title(step: StepView, glyphs: Glyphs, now: datetime) -> str:
    """Return a step's state in words: `↻ retrying 2/3 in 4s · rate limit`."""
    dot = f" {glyphs.dot} "
    text = f"{step.id}{step.marks}{dot}{glyphs.label(step.status)}"
    if step.breakpoint:
        text += f"{dot}{glyphs.stop} stops {step.breakpoint}"
    if step.status is StepStatus.RETRYING:
        text += f" {step.tries + 1}/{step.max_attempts}"
    if step.retry_at is not None:
        text += f" in {countdown((step.retry_at - now).total_seconds())}"
        why = step.retry_why or step.error_type.replace("_", " ")
        return f"{text}{dot}{why}" if why else text
    if step.items is not None:
        text += f" {step.items[0]}/{step.items[1]}"
    if step.status is StepStatus.RUNNING and step.max_attempts > 1:
        text += f" {max(1, step.tries)}/{step.max_attempts}"
    if step.status is StepStatus.RUNNING and step.started_at is not None:
        text += f"{dot}{duration((now - step.started_at).total_seconds())}"
    elif step.finished_at is not None and step.started_at is not None and step.finished_at >= step.started_at:
        text += f"{dot}{duration((step.finished_at - step.started_at).total_seconds())}"
    why = step.error or ("" if step.reason in (BREAKPOINT, BUDGET, TOOL_APPROVAL) else step.reason)
    return f"{text}{dot}{why}" if why and step.status is not StepStatus.SUCCEEDED else text
