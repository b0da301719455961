"""What can be wrong between steps: ids, dependencies, references, cycles, and the names that expressions use.

Works on plain data that need not be a valid plan, so that all mistakes of a file are found at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stepchain_tui.plan.check_entries import list_in, mapping_in
from stepchain_tui.plan.expressions import ExpressionError, Template
from stepchain_tui.plan.graph import find_cycle
from stepchain_tui.plan.problems import Location, Mistake, unknown
from stepchain_tui.plan.templates import ONCE_KEYS, compile_key, texts_with_expressions

_SUGGESTION_WORK = 50_000
_CYCLES = 20


class NameChecker:
    """Checks all names of one plan.

    Args:
        data: The plan as plain data; parts of the wrong shape are passed over.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self._data = data
        self._steps = [step for step in enumerate(list_in(data.get("steps"))) if isinstance(step[1], dict)]
        self._places: dict[str, int] = {}
        for place, step in self._steps:
            if isinstance(step.get("id"), str):
                self._places.setdefault(step["id"], place)
        self._inputs = mapping_in(data.get("inputs"))
        self._secrets = frozenset(name for name in list_in(data.get("secrets")) if isinstance(name, str))
        self._edges: dict[str, dict[str, Location]] = {step_id: {} for step_id in self._places}
        self._suggestions_left = _SUGGESTION_WORK

    def mistakes(self) -> Iterator[Mistake]:
        """Yield every mistake, in the order of the plan, cycles last."""
        for place, step in self._steps:
            yield from self._check_id(place, step)
            yield from self._check_limit(place, step)
            yield from self._check_dependencies(place, step)
            yield from self._check_expressions(place, step)
        yield from self._check_cycles()

    def _check_id(self, place: int, step: dict[str, Any]) -> Iterator[Mistake]:
        step_id = step.get("id")
        if isinstance(step_id, str) and self._places[step_id] != place:
            yield Mistake(("steps", place, "id"), f"id '{step_id}' is already taken by steps[{self._places[step_id]}]")

    def _check_limit(self, place: int, step: dict[str, Any]) -> Iterator[Mistake]:
        limit, limits = step.get("limit"), mapping_in(self._data.get("limits"))
        if isinstance(limit, str) and limit not in limits:
            yield self._unknown(("steps", place, "limit"), "limit", limit, limits)

    def _check_dependencies(self, place: int, step: dict[str, Any]) -> Iterator[Mistake]:
        for position, parent in enumerate(list_in(step.get("dependencies"))):
            if isinstance(parent, str):
                yield from self._edge(place, step, parent, ("steps", place, "dependencies", position))

    def _edge(self, place: int, step: dict[str, Any], parent: str, location: Location) -> Iterator[Mistake]:
        """Note that a step waits for `parent`."""
        step_id = step.get("id")
        if parent not in self._places:
            yield self._unknown(location, "step", parent, self._places)
        elif parent == step_id:
            yield Mistake(location, f"step '{parent}' cannot wait for itself")
        elif isinstance(step_id, str) and self._places[step_id] == place:
            self._edges[step_id].setdefault(parent, location)

    def _check_expressions(self, place: int, step: dict[str, Any]) -> Iterator[Mistake]:
        for key in ONCE_KEYS:
            value = step.get(key)
            if isinstance(value, str) and "{{" not in value and "{%" not in value:
                yield from self._compiled(("steps", place, key), key, value)[1]
        for within, text in texts_with_expressions(step):
            location = ("steps", place, *within)
            key = str(within[0])
            template, problems = self._compiled(location, key if len(within) == 1 else "", text)
            yield from problems
            if template is not None:
                yield from self._check_uses(place, step, key, location, template)

    def _compiled(self, location: Location, key: str, text: str) -> tuple[Template | None, list[Mistake]]:
        try:
            return compile_key(key, text), []
        except ExpressionError as error:
            return None, [Mistake(location, error.message, error.suggestion)]

    def _check_uses(
        self, place: int, step: dict[str, Any], key: str, location: Location, template: Template
    ) -> Iterator[Mistake]:
        for use in template.uses:
            root, name = use[0], str(use[1]) if len(use) > 1 else ""
            if root == "steps":
                yield from self._edge(place, step, name, location)
            elif root == "inputs" and name and name not in self._inputs:
                yield self._unknown(location, "input", name, self._inputs)
            elif root == "secrets" and name not in self._secrets and name not in list_in(step.get("secrets")):
                mistake = self._unknown(location, "secret", name, self._secrets)
                more = "" if mistake.suggestion else "; name it under the plan's 'secrets'"
                yield Mistake(location, mistake.message + more, mistake.suggestion)
            elif root in ("item", "index") and key in ONCE_KEYS:
                yield Mistake(location, f"'{root}' has no value in '{key}', which is read once and not for each item")
            elif root in ("item", "index") and step.get("for_each") is None:
                yield Mistake(location, f"'{root}' has a value only in a step with 'for_each'")
        if template.uses_chain_result and key == "args" and not list_in(step.get("dependencies")):
            yield Mistake(location, "CHAIN_RESULT stands for the last of 'dependencies', and none are listed")

    def _check_cycles(self) -> Iterator[Mistake]:
        parents: dict[str, Iterable[str]] = {step_id: list(found) for step_id, found in self._edges.items()}
        for _ in range(_CYCLES):
            path = find_cycle(parents)
            if path is None:
                return
            steps = path[:-1]
            first = min(range(len(steps)), key=lambda index: self._places[steps[index]])
            steps = steps[first:] + steps[:first]
            shown = [*steps, steps[0]]
            if len(shown) > 12:
                shown = [*shown[:6], "...", *shown[-5:]]
            yield Mistake(self._edges[steps[0]][steps[-1]], f"steps wait for each other: {' -> '.join(shown)}")
            parents = {step_id: found for step_id, found in parents.items() if step_id not in steps}

    def _unknown(self, location: Location, what: str, name: str, known: Iterable[str]) -> Mistake:
        """Return the mistake of an unknown name; closest names are looked for while that stays cheap."""
        candidates = list(known)
        self._suggestions_left -= len(candidates)
        return unknown(location, what, name, candidates if self._suggestions_left >= 0 else ())
