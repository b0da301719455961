"""How two plans differ: which steps came and went, and which keys of the others say something else.

Plans are compared by what is written in them, so a value that is written and one that is taken by default differ.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepchain_tui.core.values import to_json_value
from stepchain_tui.plan.graph import step_references
from stepchain_tui.plan.models import Plan, Step

_SHOWN = 60
_BEFORE_DIFFERENCE = 12
_PLAN_KEYS = tuple(Plan.model_fields)
_STEP_KEYS = tuple(Step.model_fields)


@dataclass(frozen=True, slots=True)
class KeyChange:
    """One key that says something else.

    Attributes:
        key: The key; with dots where it stands within another one, such as `retry.max_attempts`.
        before: The JSON value it had; None where it was not written.
        after: The JSON value it has; None where it is not written.
    """

    key: str
    before: Any
    after: Any

    def lines(self, owner: str) -> list[str]:
        """Return the change as text: one line, or a small difference where the value has several lines."""
        if all(isinstance(value, str | None) for value in (self.before, self.after)) and "\n" in (
            f"{self.before or ''}{self.after or ''}"
        ):
            found = text_difference(self.before or "", self.after or "", "", "")[2:]
            return [f"~ {owner}{self.key}:", *(f"    {line}" for line in found)]
        before, after = _shown_beside(self.before, self.after)
        return [f"~ {owner}{self.key}: {before} -> {after}"]


@dataclass(frozen=True, slots=True)
class PlanDifference:
    """What is different in a plan.

    Attributes:
        added: Steps that are new, in the order of the later plan.
        removed: Steps that are gone, in the order of the earlier plan.
        changes: For each step of both whose keys differ, what differs; in the order of the later plan.
        plan_changes: Keys of the plan itself that differ, in the order in which plans have them.
        dependencies_changed: Steps of both that wait for others than before, because of `dependencies` or of
            expressions; in the order of the later plan.
        reordered: The steps of both stand in another order.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changes: Mapping[str, tuple[KeyChange, ...]]
    plan_changes: tuple[KeyChange, ...]
    dependencies_changed: tuple[str, ...]
    reordered: bool

    @property
    def changed(self) -> tuple[str, ...]:
        """The steps of both plans whose keys differ, in the order of the later plan."""
        return tuple(self.changes)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changes or self.plan_changes or self.reordered)

    def lines(self) -> list[str]:
        """Return the difference as text: `~ plan.key: before -> after`, `- step`, `+ step`, `~ step: key: ...`."""
        found = [line for change in self.plan_changes for line in change.lines("plan.")]
        found += [f"- {step_id}" for step_id in self.removed]
        found += [f"+ {step_id}" for step_id in self.added]
        for step_id, changes in self.changes.items():
            found += [line for change in changes for line in change.lines(f"{step_id}: ")]
        if self.reordered:
            found.append("~ plan.steps: in another order")
        return found


def compare_plans(before: Plan, after: Plan) -> PlanDifference:
    """Return what is different in `after`; steps are told apart by their ids.

    Args:
        before: The earlier plan.
        after: The later plan; both without mistakes.

    Raises:
        ExpressionError: An expression cannot be read.
    """
    old, new = ({step.id: step for step in plan.steps} for plan in (before, after))
    changes = {}
    for step_id, step in new.items():
        if step_id in old and (found := tuple(_step_changes(old[step_id], step))):
            changes[step_id] = found
    kept = [step_id for step_id in new if step_id in old]
    return PlanDifference(
        added=tuple(step_id for step_id in new if step_id not in old),
        removed=tuple(step_id for step_id in old if step_id not in new),
        changes=changes,
        plan_changes=tuple(_changes(_written(before), _written(after), _PLAN_KEYS)),
        dependencies_changed=tuple(step_id for step_id in changes if _parents(old[step_id]) != _parents(new[step_id])),
        reordered=kept != [step_id for step_id in old if step_id in new],
    )


def text_difference(before: str, after: str, before_name: str, after_name: str) -> list[str]:
    """Return the lines of a unified diff of two texts; none where they are equal."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), before_name, after_name
    )
    found = []
    for line in lines:
        found.append(line.rstrip("\r\n"))
        if not line.endswith(("\n", "\r")):
            found.append("\\ No newline at end of text")
    return found


def _parents(step: Step) -> set[str]:
    """Return the steps that `step` waits for: the edges of `PlanGraph`, made for the steps that changed only."""
    return {*step.dependencies, *step_references(step)}


def _step_changes(before: Step, after: Step) -> Iterator[KeyChange]:
    if before is after:
        return
    same = before.model_fields_set == after.model_fields_set and before.fields is None
    if not same or before.__dict__ != after.__dict__:
        yield from _changes(_written(before), _written(after), _STEP_KEYS)


def _written(part: Plan | Step) -> dict[str, Any]:
    """Return what is written in a plan, without its steps, or in a step."""
    exclude = {"steps"} if isinstance(part, Plan) else None
    found: dict[str, Any] = part.model_dump(
        mode="json", exclude=exclude, exclude_unset=True, by_alias=True, fallback=to_json_value
    )
    return found


def _changes(before: dict[str, Any], after: dict[str, Any], order: Sequence[str]) -> Iterator[KeyChange]:
    """Yield the keys of `order` that differ, mappings key by key."""
    waiting = [(key, before, after, key) for key in reversed(order) if key in before or key in after]
    while waiting:
        key, old, new, name = waiting.pop()
        if (key in old) == (key in new) and old.get(key) == new.get(key):
            continue
        one, other = old.get(key), new.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            waiting += [(inner, one, other, f"{name}.{inner}") for inner in dict.fromkeys((*one, *other))][::-1]
        else:
            yield KeyChange(name, one, other)


def _shown_beside(before: Any, after: Any) -> tuple[str, str]:
    """Return two values as short texts that show where they begin to differ."""
    texts = [_shown(before), _shown(after)]
    if max(map(len, texts)) <= _SHOWN:
        return texts[0], texts[1]
    pairs = enumerate(zip(*texts, strict=False))
    same = next((place for place, (one, other) in pairs if one != other), min(map(len, texts)))
    start = same - _BEFORE_DIFFERENCE
    cut = [f"...{text[start:]}" if start > 0 else text for text in texts]
    short = [text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..." for text in cut]
    return short[0], short[1]


def _shown(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
