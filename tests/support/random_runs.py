"""Random plans, what their steps come to, and what must hold after every event of every run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from stepchain_tui.plan import Plan
from stepchain_tui.run import AttemptError, ErrorType, Event, RunState, StepState
from stepchain_tui.run import events as e
from stepchain_tui.run.status import STEP_ENDED, StepStatus
from tests.support.engines import plan_of
from tests.support.world import World

LIMIT = "scarce"
ERRORS: dict[str, Callable[[], Exception]] = {
    "tool": lambda: RuntimeError("broke"),
    "user": lambda: TypeError("not like this"),
    "server": lambda: ConnectionError("gone"),
    "rate": lambda: AttemptError("slow down", error_type=ErrorType.RATE_LIMIT, retry_after=2.0),
}
RULES = ("all_success", "all_success", "all_success", "all_done", "one_failed", "none_failed")


@dataclass(frozen=True)
class Drawn:
    """One step of a random plan: its keys, and what each of its calls comes to (the last one repeats)."""

    keys: dict[str, Any]
    outcomes: tuple[str, ...]
    turns: int


@st.composite
def drawn_steps(draw: st.DrawFn, *, questions: bool, maps: bool) -> tuple[Drawn, ...]:
    """Draw the steps of a plan; each may follow any that come before it."""
    found = []
    count = draw(st.integers(1, 7))
    for n in range(count):
        parents = sorted(draw(st.sets(st.integers(0, n - 1), max_size=3))) if n else []
        keys: dict[str, Any] = {"id": f"s{n}", "dependencies": [f"s{parent}" for parent in parents]}
        if parents:
            keys["trigger_rule"] = draw(st.sampled_from(RULES))
        if draw(st.integers(0, 3)) == 0:
            keys["on_failure"] = "continue"
        if draw(st.integers(0, 7)) == 0:
            keys["when"] = False
        keys["priority"] = draw(st.integers(-1, 1))
        if questions and draw(st.integers(0, 6)) == 0:
            keys["approve"] = "go?"
        else:
            keys["retry"] = {"max_attempts": draw(st.integers(1, 3)), "jitter": False}
            if draw(st.booleans()):
                keys["retry"]["initial_delay"] = draw(st.sampled_from([0.0, 1.5]))
            if draw(st.booleans()):
                keys["limit"] = LIMIT
            if maps and draw(st.integers(0, 4)) == 0:
                keys["for_each"] = list(range(draw(st.integers(0, 3))))
                keys["max_concurrent"] = draw(st.integers(1, 3))
        outcomes = draw(st.lists(st.sampled_from(["ok", "ok", *ERRORS]), min_size=1, max_size=4))
        found.append(Drawn(keys, tuple(outcomes), draw(st.integers(0, 4))))
    return tuple(found)


@dataclass(frozen=True)
class Order:
    """A command that is given when so many events were stored."""

    after: int
    command: str
    step: int
    flag: bool


def orders() -> st.SearchStrategy[list[Order]]:
    """Draw commands at random moments."""
    commands = ("pause", "resume", "cancel", "cancel step", "rerun", "skip", "try_now", "restart")
    one = st.builds(Order, st.integers(0, 30), st.sampled_from(commands), st.integers(0, 6), st.booleans())
    return st.lists(one, max_size=6)


def build(world: World, steps: tuple[Drawn, ...], most: int, scarce: int) -> Plan:
    """Return the plan whose steps do in `world` what was drawn."""
    found = []
    for drawn in steps:
        keys = dict(drawn.keys)
        name = keys["id"]
        if "approve" not in keys:
            step = world.step(name)
            keys = {**step, "function": "tests.support.world:act_awaiting", **keys}
            world.will(name, *(_outcome(word, drawn.turns) for word in drawn.outcomes))
        found.append(keys)
    return plan_of(*found, max_concurrent=most, limits={LIMIT: scarce})


def _outcome(word: str, turns: int) -> Callable[..., Any]:
    async def do() -> str:
        for _ in range(turns):
            await asyncio.sleep(0)
        if word in ERRORS:
            raise ERRORS[word]()
        return word

    return lambda **_: do()


# --- what must hold


def may_start(rule: str, parents: list[StepState]) -> bool:
    """Return whether a step may run with these parents; said anew, not asked of the engine."""
    good = {StepStatus.SUCCEEDED}
    bad = {StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.BLOCKED, StepStatus.CANCELLED}
    ended = [parent.status in STEP_ENDED for parent in parents]
    harmless = [
        parent.status in good
        or (parent.outline.continues and parent.status in (StepStatus.FAILED, StepStatus.TIMED_OUT))
        for parent in parents
    ]
    match rule:
        case "all_success":
            return all(harmless)
        case "all_done":
            return all(ended)
        case "one_failed":
            return any(parent.status in bad for parent in parents)
        case _:
            pairs = zip(harmless, parents, strict=True)
            return all(fine or parent.status is StepStatus.SKIPPED for fine, parent in pairs)


def check_history(events: list[Event], plan: Plan) -> RunState:
    """Hold the invariants after every event of a run; return what the events add up to."""
    state, steps = RunState(), {step.id: step for step in plan.steps}
    ready_again: dict[str, bool] = {}
    for number, event in enumerate(events, 1):
        assert event.seq == number
        if isinstance(event, e.StepStarted):
            step = steps[event.step_id]
            before = state.steps[event.step_id]
            parents = [state.steps[name] for name in before.outline.parents]
            is_first = event.tries == 1  # a try that was promised is made, whatever becomes of the parents meanwhile
            assert not is_first or not parents or may_start(step.trigger_rule.value, parents), (
                f"{step.id} started too early: {story(events[:number])}"
            )
            assert before.status is not StepStatus.SUCCEEDED
            assert ready_again.get(step.id, True), f"{step.id} started again after it succeeded"
            assert event.attempt == before.attempt + 1
            assert event.tries <= event.max_attempts
        elif isinstance(event, e.StepSucceeded):
            ready_again[event.step_id] = False
        elif isinstance(event, e.StepInvalidated) and not event.stale:
            ready_again[event.step_id] = True
        state.apply(event)
        _check_slots(state, plan)
        _check_counts(state)
        if isinstance(event, e.RunFinished):
            assert all(step.ended for step in state.steps.values()), "a run ended with open steps"
            assert (event.status == "succeeded") == (event.status != "cancelled" and went_well(state))
    return state


def story(events: list[Event]) -> str:
    """Return the end of a run's history, as short as it can be read."""
    words = []
    for event in events[-25:]:
        name = type(event).__name__
        detail = getattr(event, "step_id", "") or getattr(event, "command", "")
        words.append(f"{event.seq} {name} {detail} {getattr(event, 'arguments', '') or getattr(event, 'reason', '')}")
    return "\n".join(["", *words])


def _check_slots(state: RunState, plan: Plan) -> None:
    running, scarce = 0, 0
    for step in plan.steps:
        if step.approve is not None:
            continue
        found = state.steps[step.id]
        if found.items is None and step.for_each is None:
            at_work = int(found.status is StepStatus.RUNNING)
        else:
            at_work = sum(item.status is StepStatus.RUNNING for item in found.items or ())
            assert at_work <= (step.max_concurrent or len(found.items or ()))
        running += at_work
        scarce += at_work if step.limit else 0
    assert running <= plan.max_concurrent, f"{running} at once, {plan.max_concurrent} allowed"
    assert scarce <= plan.limits[LIMIT]


def _check_counts(state: RunState) -> None:
    counted: dict[StepStatus, int] = {}
    for step in state.steps.values():
        counted[step.status] = counted.get(step.status, 0) + 1
    assert {status: n for status, n in state.counts.items() if n} == counted


def went_well(state: RunState) -> bool:
    """Return whether a run that is over succeeded by rule 6; said anew, not asked of the engine."""
    return all(
        step.outline.part_of != ""  # the parts of a sub-plan count through the step around them
        or step.status in (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
        or (step.outline.continues and step.status in (StepStatus.FAILED, StepStatus.TIMED_OUT))
        for step in state.steps.values()
    )


def expected_statuses(steps: tuple[Drawn, ...]) -> dict[str, str]:
    """Return how each step of a plan without maps and questions ends when nobody steps in."""
    found: dict[str, StepState] = {}
    for drawn in steps:
        keys = drawn.keys
        continues = keys.get("on_failure") == "continue"
        step = StepState(e.StepOutline(id=keys["id"], kind="function", continues=continues))
        parents = [found[name] for name in keys["dependencies"]]
        rule = keys.get("trigger_rule", "all_success")
        if parents and not may_start(rule, parents):
            blocked = rule in ("all_success", "none_failed") and not may_start("none_failed", parents)
            step.status = StepStatus.BLOCKED if blocked else StepStatus.SKIPPED
        elif keys.get("when") is False:
            step.status = StepStatus.SKIPPED
        else:
            step.status = _end_of(drawn)
        found[step.id] = step
    return {name: step.status.value for name, step in found.items()}


def _end_of(drawn: Drawn) -> StepStatus:
    for n in range(drawn.keys["retry"]["max_attempts"]):
        word = drawn.outcomes[min(n, len(drawn.outcomes) - 1)]
        if word == "ok":
            return StepStatus.SUCCEEDED
        if word == "user":
            break
    return StepStatus.FAILED
