"""Random plans of every kind of step that needs no process: chains, diamonds, maps, questions, plans in plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

BODY = "tests.support.bodies:body"
LIMIT = "scarce"
FILES = ("inner.json", "innermost.json")
"""The sub-plans; the first one may name the second."""
RULES = ("all_success", "all_success", "all_success", "all_success", "all_done", "one_failed", "none_failed")
OUTCOMES = ("ok", "ok", "ok", "wait", "wait", "tool", "user", "server", "rate", "stubborn", "deaf")
FIELDS = {"why": {"type": "text"}, "n": {"type": "integer", "default": 3}}


@dataclass(frozen=True)
class Sketch:
    """A random plan.

    Attributes:
        plan: The plan as JSON, without what its functions are told.
        files: The sub-plans that it may name, in the same form.
        outcomes: What the calls of each step come to, one after the other and from the start again.
    """

    plan: dict[str, Any]
    files: dict[str, dict[str, Any]]
    outcomes: dict[str, tuple[str, ...]]


@st.composite
def sketches(draw: st.DrawFn) -> Sketch:
    """Draw a plan."""
    files: dict[str, dict[str, Any]] = {}
    if draw(st.booleans()):
        deep = draw(st.booleans())
        if deep:
            files[FILES[1]] = draw(_plans("q", 3, ()))
        files[FILES[0]] = draw(_plans("p", 4, (FILES[1],) if deep else ()))
    plan = draw(_plans("s", 8, (FILES[0],) if files else ()))
    plan["max_concurrent"] = draw(st.integers(1, 4))
    names = [step["id"] for found in (plan, *files.values()) for step in found["steps"]]
    outcomes = {name: tuple(draw(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=3))) for name in names}
    return Sketch(plan, files, outcomes)


@st.composite
def _plans(draw: st.DrawFn, letter: str, most: int, files: tuple[str, ...]) -> dict[str, Any]:
    count = draw(st.integers(1, most))
    plan: dict[str, Any] = {
        "goal": "anything",
        "steps": [draw(steps(f"{letter}{n}", tuple(f"{letter}{m}" for m in range(n)), files)) for n in range(count)],
        "limits": {LIMIT: draw(st.integers(1, 2))},
    }
    if letter != "s" and draw(st.booleans()):
        plan["max_concurrent"] = draw(st.integers(1, 2))
    return plan


@st.composite
def steps(draw: st.DrawFn, name: str, before: tuple[str, ...], files: tuple[str, ...] = ()) -> dict[str, Any]:
    """Draw a step that may follow others, and may run one of these files."""
    parents = sorted(draw(st.sets(st.sampled_from(before), max_size=3))) if before else []
    step: dict[str, Any] = {"id": name, "dependencies": parents}
    if parents:
        step["trigger_rule"] = draw(st.sampled_from(RULES))
    kind = draw(st.sampled_from(("function", "function", "function", "map", "approve", "plan" if files else "map")))
    is_map = kind == "map" or draw(st.integers(0, 5)) == 5
    if kind == "plan":
        step["plan"] = f"./{draw(st.sampled_from(files))}"
    elif kind == "approve":
        step["approve"] = "go?"
        if draw(st.booleans()):
            step["fields"] = FIELDS
        if draw(st.integers(0, 2)) == 2:
            step["timeout"] = draw(st.sampled_from((30.0, 3600.0)))
            step["on_timeout"] = draw(st.sampled_from(("deny", "approve")))
    else:
        step["function"] = BODY
        _draw_tries(draw, step)
    if kind == "plan" and draw(st.integers(0, 3)) == 3:
        step["timeout"] = 300.0
    if is_map:
        _draw_map(draw, step, parents)
    _draw_more(draw, step, parents)
    return step


def _draw_tries(draw: st.DrawFn, step: dict[str, Any]) -> None:
    step["retry"] = {"max_attempts": draw(st.integers(1, 3)), "jitter": False}
    if draw(st.booleans()):
        step["retry"]["initial_delay"] = draw(st.sampled_from((0.0, 1.5, 600.0)))
    if draw(st.integers(0, 2)) == 2:
        step["timeout"] = draw(st.sampled_from((2.0, 20.0)))
    if draw(st.integers(0, 2)) == 2:
        step["limit"] = LIMIT
    if draw(st.integers(0, 3)) == 3:
        step["on_interrupt"] = draw(st.sampled_from(("ask", "rerun", "skip")))


def _draw_map(draw: st.DrawFn, step: dict[str, Any], parents: list[str]) -> None:
    if parents and draw(st.booleans()):
        # what did not succeed has no output: goes over nothing then
        step["for_each"] = f"{{{{ steps.{parents[0]}.output if steps.{parents[0]}.status == 'succeeded' else [] }}}}"
    else:
        step["for_each"] = list(range(draw(st.integers(0, 4))))
    if draw(st.booleans()):
        step["max_concurrent"] = draw(st.integers(1, 2))
    if draw(st.integers(0, 2)) == 2:
        step["batch"] = 2


def _draw_more(draw: st.DrawFn, step: dict[str, Any], parents: list[str]) -> None:
    chance = draw(st.integers(0, 15))
    if chance == 15:
        step["when"] = False
    elif chance == 14 and parents:
        step["when"] = f"{{{{ steps.{parents[0]}.status == 'succeeded' }}}}"
    if draw(st.integers(0, 4)) == 4:
        step["on_failure"] = "continue"
    if draw(st.integers(0, 2)) == 2:
        step["priority"] = draw(st.integers(-1, 1))
    if draw(st.integers(0, 7)) == 7:
        step["breakpoint"] = draw(st.sampled_from(("before", "after")))
    if draw(st.integers(0, 7)) == 7:
        step["optional"] = True
