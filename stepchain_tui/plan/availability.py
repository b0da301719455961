"""What the schema knows and this release does not carry out yet.

One table: a release that brings a feature takes its line out, and checks, schema and documentation follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stepchain_tui.plan.problems import Mistake

ACTIONS = frozenset(("agent", "tool", "http", "db"))
PLAN_KEYS = frozenset(("budget", "mcp_servers", "tools", "agents", "models", "trace", "cluster"))
STEP_KEYS = frozenset(
    (
        "tools",
        "require_approval",
        "max_turns",
        "history",
        "request",
        "expects",
        "budget",
    )
)
VALUES: dict[str, frozenset[str]] = {
    "mode": frozenset(("cluster",)),
    "engine": frozenset(("bwrap",)),
}
"""Single words of a step's keys."""
EXECUTORS = frozenset(("standard", "default"))
_OFF: dict[str, Any] = {"require_approval": False}


def unavailable(data: dict[str, Any]) -> Iterator[Mistake]:
    """Yield what a plan, as plain data, asks for and cannot have yet."""
    for key in data:
        if key in PLAN_KEYS and data[key] is not None:
            yield _later((key,), f"'{key}'")
    defaults = data.get("defaults")
    mode = defaults.get("mode") if isinstance(defaults, dict) else None
    if isinstance(mode, str) and mode in VALUES["mode"]:
        yield _later(("defaults", "mode"), f"mode '{mode}'", on_key=False)
    steps = data.get("steps")
    for place, step in enumerate(steps if isinstance(steps, list | tuple) else ()):
        if isinstance(step, dict):
            yield from _in_step(place, step)


def _in_step(place: int, step: dict[str, Any]) -> Iterator[Mistake]:
    for key, value in step.items():
        if value is None or (key in _OFF and value is _OFF[key]):
            continue
        if key in ACTIONS:
            yield _later(("steps", place, key), f"action '{key}'")
        elif key in STEP_KEYS:
            yield _later(("steps", place, key), f"'{key}'")
        elif key in VALUES and isinstance(value, str) and value in VALUES[key]:
            yield _later(("steps", place, key), f"{key} '{value}'", on_key=False)
        elif key == "executor" and isinstance(value, str) and value not in EXECUTORS:
            yield _later(
                ("steps", place, key), f"executor '{value}' (only: {', '.join(sorted(EXECUTORS))})", on_key=False
            )


def _later(location: tuple[str | int, ...], what: str, *, on_key: bool = True) -> Mistake:
    return Mistake(location, f"{what} is not available yet", on_key=on_key)
