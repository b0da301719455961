"""What follows a step in a graph of parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def following(parents: Mapping[str, Sequence[str]], step_id: str) -> list[str]:
    """Return all steps that depend on `step_id`, directly or not, in the order of the plan."""
    children: dict[str, list[str]] = {}
    for step, needed in parents.items():
        for parent in needed:
            children.setdefault(parent, []).append(step)
    found: set[str] = set()
    waiting = [step_id]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return [step for step in parents if step in found]
