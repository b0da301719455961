"""What the schema knows and this release does not carry out yet.

One table: a release that brings a feature takes its line out, and checks, schema and documentation follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stepchain_tui.plan.problems import Mistake

PLAN_KEYS = frozenset(("budget", "models", "trace"))
STEP_KEYS = frozenset(
    (
        "tools",
        "require_approval",
        "max_turns",
        "history",
        "expects",
        "budget",
    )
)
_OFF: dict[str, Any] = {"require_approval": False}


def unavailable(data: dict[str, Any]) -> Iterator[Mistake]:
    """Yield what a plan, as plain data, asks for and cannot have yet."""
    for key in data:
        if key in PLAN_KEYS and data[key] is not None:
            yield later((key,), f"'{key}'")
    agents = data.get("agents")
    for name, entry in agents.items() if isinstance(agents, dict) else ():
        if isinstance(entry, dict):
            yield later(("agents", name), "an agent that the plan describes itself", on_key=False)
    steps = data.get("steps")
    for place, step in enumerate(steps if isinstance(steps, list | tuple) else ()):
        if isinstance(step, dict):
            yield from _in_step(place, step)


def _in_step(place: int, step: dict[str, Any]) -> Iterator[Mistake]:
    for key, value in step.items():
        if value is None or (key in _OFF and value is _OFF[key]):
            continue
        if key in STEP_KEYS and not (key == "require_approval" and "tool" in step):
            yield later(("steps", place, key), f"'{key}'")


def later(location: tuple[str | int, ...], what: str, *, on_key: bool = True) -> Mistake:
    """Return the mistake of asking for what a later release brings."""
    return Mistake(location, f"{what} is not available yet", on_key=on_key)
