"""A plan as a graph: who waits for whom.

A step waits for the steps it lists and for the steps its expressions use. The graph is made once for each revision of
a plan and never changes. Nothing here recurses: chains of 10,000 steps are ordinary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

from stepchain_tui.plan.models import Plan, Step
from stepchain_tui.plan.templates import EXPRESSION_KEYS, compile_key, texts_with_expressions

_EXPRESSION_KEYS = frozenset(EXPRESSION_KEYS)


@dataclass(frozen=True)
class PlanGraph:
    """The edges of a plan.

    Attributes:
        order: All step ids, in the order of the plan.
        parents: For each step the steps it waits for: the listed ones first, then those its expressions use.
        children: For each step the steps that wait for it, in the order of the plan.
    """

    order: tuple[str, ...]
    parents: Mapping[str, tuple[str, ...]]
    children: Mapping[str, tuple[str, ...]]
    _places: Mapping[str, int] = field(repr=False)

    @classmethod
    def of(cls, plan: Plan) -> PlanGraph:
        """Return the graph of a plan that `check_plan` finds nothing wrong with.

        Names that are no steps are left out, so a plan that is being written has a graph too.

        Raises:
            ExpressionError: An expression cannot be read.
        """
        order = tuple(step.id for step in plan.steps)
        places = {step_id: place for place, step_id in enumerate(order)}
        parents: dict[str, tuple[str, ...]] = {}
        children: dict[str, list[str]] = {step_id: [] for step_id in order}
        for step in plan.steps:
            wanted = dict.fromkeys((*step.dependencies, *step_references(step)))
            parents[step.id] = tuple(parent for parent in wanted if parent in places and parent != step.id)
            for parent in parents[step.id]:
                children[parent].append(step.id)
        return cls(order, parents, {step_id: tuple(found) for step_id, found in children.items()}, places)

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """The steps that wait for none."""
        return tuple(step_id for step_id in self.order if not self.parents[step_id])

    @cached_property
    def leaves(self) -> tuple[str, ...]:
        """The steps that none waits for."""
        return tuple(step_id for step_id in self.order if not self.children[step_id])

    def descendants(self, step_id: str) -> list[str]:
        """Return all that follows a step, in the order of the plan, without the step itself.

        Raises:
            KeyError: The plan has no such step.
        """
        return self._reach(step_id, self.children)

    def ancestors(self, step_id: str) -> list[str]:
        """Return all that comes before a step, in the order of the plan, without the step itself.

        Raises:
            KeyError: The plan has no such step.
        """
        return self._reach(step_id, self.parents)

    def topological(self) -> Iterable[str]:
        """Yield all steps, parents before children.

        Raises:
            graphlib.CycleError: Steps wait for each other.
        """
        return TopologicalSorter(self.parents).static_order()

    def _reach(self, step_id: str, edges: Mapping[str, tuple[str, ...]]) -> list[str]:
        found: set[str] = set()
        waiting = list(edges[step_id])
        while waiting:
            other = waiting.pop()
            if other not in found:
                found.add(other)
                waiting.extend(edges[other])
        found.discard(step_id)
        return sorted(found, key=self._places.__getitem__)


def step_references(step: Step) -> tuple[str, ...]:
    """Return the ids that the expressions of `step` use, in the order they are read.

    Raises:
        ExpressionError: An expression cannot be read.
    """
    written = step.model_fields_set & _EXPRESSION_KEYS
    if not written:
        return ()
    values = step.__dict__
    if len(written) == 1:
        (key,) = written
        if isinstance(value := values[key], str) and "{{" not in value:
            return ()
    found: dict[str, None] = {}
    for location, text in texts_with_expressions(values):
        if "{{" in text:
            template = compile_key(str(location[0]) if len(location) == 1 else "", text)
            found.update(dict.fromkeys(str(use[1]) for use in template.uses if use[0] == "steps"))
    return tuple(found)


def find_cycle(parents: Mapping[str, Iterable[str]]) -> list[str] | None:
    """Return steps that wait for each other as a path `['a', 'b', 'a']` (a before b before a), or None."""
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None
