"""The steps of a run as a graph: those of its plan, and within its `plan` steps the parts of their sub-plans.

A part waits for parts of the same sub-plan; the `plan` step around them waits for all of them. So what follows a part
is what its siblings do with it, then the step around it, then what follows that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepchain_tui.plan import PlanGraph, TriggerRule
from stepchain_tui.run.ids import parent_path
from stepchain_tui.run.state import RunState

if TYPE_CHECKING:
    from stepchain_tui.engine.source import RunSource


@dataclass(frozen=True)
class RunGraph(PlanGraph):
    """The edges of a run.

    Attributes:
        rules: The trigger rules that are not all_success, by step id.
        around: For each part the `plan` step it is a part of.
        parts: For each `plan` step, and for each item of a map of plans (`outer[2]`), its own parts, in plan order.
    """

    rules: Mapping[str, TriggerRule] = field(default_factory=dict)
    around: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def places(self) -> Mapping[str, int]:
        """Step id -> place in the run, 0 for the first."""
        return self._places

    def all_around(self, step_id: str) -> list[str]:
        """Return the `plan` steps that a step is inside of, the innermost first."""
        found: list[str] = []
        while (outer := self.around.get(step_id)) is not None:
            found.append(outer)
            step_id = outer
        return found

    def all_inside(self, step_id: str) -> list[str]:
        """Return the parts of a `plan` step at any depth, in plan order."""
        found: list[str] = []
        waiting = [step_id] if self.parts else []
        while waiting:
            current = waiting.pop()
            if current != step_id:
                found.append(current)
            waiting.extend(reversed(self._own_parts(current)))
        return found

    def _own_parts(self, step_id: str) -> list[str]:
        found = list(self.parts.get(step_id, ()))
        item = 0
        while (of_item := self.parts.get(f"{step_id}[{item}]")) is not None:
            found.extend(of_item)
            item += 1
        return found

    def that_can_begin(self, step_ids: Iterable[str], has_result: Callable[[str], bool]) -> list[str]:
        """Return those of some steps that may be made pending together: a part only with the steps around it.

        A sub-plan whose step has a result is not opened again for a part, which would then never be carried out.

        Args:
            step_ids: The steps.
            has_result: Tells of a step whether it has one.
        """
        anew = dict.fromkeys(step_ids)
        return [
            step_id
            for step_id in anew
            if not any(has_result(outer) and outer not in anew for outer in self.all_around(step_id))
        ]

    def followers(self, step_ids: Iterable[str], *, stop_at: Callable[[str], bool] = lambda _: False) -> dict[str, str]:
        """Return all that stands on some steps, each with the one of them that it stands on, in plan order.

        Besides what waits for them these are the parts of `plan` steps that do, and the `plan` steps around them.

        Args:
            step_ids: The steps.
            stop_at: Tells of a step that it does not pass a change on, as one whose output is pinned.
        """
        causes: dict[str, str] = {}
        for start in step_ids:
            waiting = [start]
            while waiting:
                current = waiting.pop()
                outer = self.around.get(current)
                for child in self.children[current]:
                    if child in causes or stop_at(child):
                        continue
                    causes[child] = start
                    waiting.append(child)
                    if child != outer:
                        for part in self.all_inside(child):
                            causes.setdefault(part, start)
        return {step_id: causes[step_id] for step_id in sorted(causes, key=self._places.__getitem__)}

    def reach(self, step_id: str, *, stop_at: Callable[[str], bool] = lambda _: False) -> Reach:
        """Return what a step that is carried out anew means to the others; `stop_at` as for `followers`."""
        found = self.followers([step_id], stop_at=stop_at)
        around, inside = self.all_around(step_id), tuple(self.all_inside(step_id))
        known = {step_id, *around, *inside}
        following = tuple(other for other in found if other not in known)
        return Reach(step_id, inside, tuple(outer for outer in around if outer in found), following)


@dataclass(frozen=True, slots=True)
class Reach:
    """What a step that is carried out anew means to the others.

    Attributes:
        step_id: The step.
        inside: Its own parts.
        around: The `plan` steps it is inside of: they are opened again, their other parts are kept.
        following: What stands on it, with its parts, in plan order.
    """

    step_id: str
    inside: tuple[str, ...]
    around: tuple[str, ...]
    following: tuple[str, ...]


def graph_of(source: RunSource, state: RunState) -> RunGraph:
    """Return the graph of a run as it is now: a map of plans gets its parts when it is expanded."""
    if not source.has_subplans:
        plain = source.graph
        rules = _rules((step.id, step.trigger_rule) for step in source.plan.steps)
        return RunGraph(plain.order, plain.parents, plain.children, source.positions, rules)
    order = tuple(state.steps)
    parents = {step_id: step.outline.parents for step_id, step in state.steps.items()}
    children: dict[str, list[str]] = {step_id: [] for step_id in order}
    around: dict[str, str] = {}
    parts: dict[str, list[str]] = {}
    for step_id in order:
        for parent in parents[step_id]:
            children[parent].append(step_id)
        if outer := state.steps[step_id].outline.part_of:
            around[step_id] = outer
            parts.setdefault(parent_path(step_id), []).append(step_id)
    for step_id, outer in around.items():
        children[step_id].append(outer)
    return RunGraph(
        order,
        parents,
        {step_id: tuple(found) for step_id, found in children.items()},
        {step_id: place for place, step_id in enumerate(order)},
        _rules((step_id, source.definition(step_id).step.trigger_rule) for step_id in order),
        around,
        {path: tuple(found) for path, found in parts.items()},
    )


def _rules(found: Iterable[tuple[str, TriggerRule]]) -> dict[str, TriggerRule]:
    return {step_id: rule for step_id, rule in found if rule is not TriggerRule.ALL_SUCCESS}
