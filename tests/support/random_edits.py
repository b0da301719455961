"""Random edits of a run's plan, sensible ones and others."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.support.random_plans import FILES, steps

_SET = ("args", "retry", "timeout", "priority", "when", "on_failure", "trigger_rule", "breakpoint", "on_interrupt")
_ODD = ("nothing", "name", "no steps", "no action", "max_concurrent", "limits")


@dataclass(frozen=True)
class Edit:
    """One change of a plan.

    Attributes:
        what: What is changed.
        which: Which step.
        value: What it becomes; for `add` the step, for `inner` another edit, of the sub-plan.
    """

    what: str
    which: int
    value: Any = None


_values: dict[str, st.SearchStrategy[Any]] = {
    "args": st.integers(1, 3),
    "retry": st.builds(
        lambda n, delay: {"max_attempts": n, "initial_delay": delay, "jitter": False},
        st.integers(1, 3),
        st.sampled_from((0.0, 5.0, 600.0)),
    ),
    "timeout": st.sampled_from((2.0, 50.0)),
    "priority": st.integers(-2, 2),
    "when": st.sampled_from((True, False)),
    "on_failure": st.sampled_from(("continue", "fail")),
    "trigger_rule": st.sampled_from(("all_success", "all_done", "one_failed", "none_failed")),
    "breakpoint": st.sampled_from(("before", "after")),
    "on_interrupt": st.sampled_from(("ask", "rerun", "skip")),
}


def _sets() -> st.SearchStrategy[Edit]:
    return st.sampled_from(_SET).flatmap(lambda what: st.builds(Edit, st.just(what), st.integers(0, 9), _values[what]))


def _of_steps(letter: str) -> st.SearchStrategy[Edit]:
    which = st.integers(0, 9)
    return st.one_of(
        _sets(),
        st.builds(Edit, st.just("drop"), which),
        st.builds(Edit, st.just("add"), which, steps(f"{letter}9", ())),
        st.builds(Edit, st.just("dependencies"), which, st.lists(st.integers(0, 9), max_size=2)),
        st.builds(Edit, st.just("for_each"), which, st.lists(st.integers(0, 3), max_size=3)),
    )


def edits() -> st.SearchStrategy[list[Edit]]:
    """Draw the changes that make one revision."""
    odd = st.builds(Edit, st.sampled_from(_ODD), st.integers(0, 3))
    inner = st.builds(Edit, st.just("inner"), st.integers(0, 1), st.one_of(_of_steps("p"), odd))
    return st.lists(st.one_of(_of_steps("s"), _of_steps("s"), inner, odd), min_size=1, max_size=3)


def edited(plan: dict[str, Any], files: dict[str, Any], changes: list[Edit]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a plan and its sub-plans (name to plan) after some changes; what is made may not be valid."""
    plan, files = copy.deepcopy(plan), copy.deepcopy(files)
    for change in changes:
        if change.what == "inner":
            name = FILES[change.which]
            if name in files:
                _change(files[name], change.value)
        else:
            _change(plan, change)
    return plan, files


def _change(plan: dict[str, Any], change: Edit) -> None:
    found: list[dict[str, Any]] = plan["steps"]
    if not found:
        return
    step = found[change.which % len(found)]
    match change.what:
        case "nothing":
            return
        case "name":
            step["name"] = f"called {change.which}"
        case "no steps":
            plan["steps"] = []
        case "no action":
            for key in ("function", "approve", "plan"):
                step.pop(key, None)
        case "max_concurrent":
            plan["max_concurrent"] = change.which + 1
        case "limits":
            plan["limits"] = dict.fromkeys(plan.get("limits", {}), change.which + 1)
        case "drop":
            _drop(plan, step)
        case "add":
            names = {other["id"] for other in found}
            added = {**change.value, "dependencies": [step["id"]]}
            if added["id"] not in names:
                found.append(added)
        case "dependencies":
            step["dependencies"] = sorted({found[n % len(found)]["id"] for n in change.value})
        case "args":
            if "function" in step:
                step["args"] = {**step.get("args", {}), "version": change.value}
        case "for_each":
            step["for_each"] = change.value
        case what:
            step[what] = change.value


def _drop(plan: dict[str, Any], step: dict[str, Any]) -> None:
    """Take a step out; who waited for it waits no longer, who reads it is left with a mistake."""
    plan["steps"].remove(step)
    for other in plan["steps"]:
        if step["id"] in other.get("dependencies", ()):
            other["dependencies"] = [name for name in other["dependencies"] if name != step["id"]]
