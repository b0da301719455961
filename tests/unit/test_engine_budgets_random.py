"""Money adds up and a budget holds, whatever is spent side by side, answered at the limit, and cut off in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepchain_tui.run import RunState, StepStatus
from stepchain_tui.run import events as e
from stepchain_tui.run.budgets import RUN, Limits
from stepchain_tui.store import MemoryStore
from tests.support.engines import plan_of
from tests.support.talking import Talk, TalkingBench, prompt, write_prices

CAP = 1000
"""What an answer may take at most; none takes more, so no budget can be exceeded at all."""
STEPS = ("a", "b", "c", "d")
TURNS = st.lists(st.tuples(st.integers(1, 1500), st.integers(0, CAP)), min_size=1, max_size=3)
TALKS = st.lists(TURNS, min_size=1, max_size=4)
ANSWERS = st.lists(
    st.sampled_from(["top_up", "cheaper_model", "finish", "stop", "restart", "top_up"]), min_size=1, max_size=6
)


@pytest.fixture(autouse=True)
def prices(isolated: Any) -> None:
    write_prices()


def check_budgets(events: list[e.Event], usd: float, own: float) -> RunState:
    """Fold events and hold every answer against the limits as they were when it was asked for."""
    state = RunState()
    for event in events:
        state.apply(event)
        if not isinstance(event, e.ModelTurn):
            continue
        said = {scope: state.budgets[scope].over(Limits(usd)) for scope in state.budgets if scope == RUN}
        limit = said.get(RUN, Limits(usd)).usd
        assert limit is None or state.usage.cost <= limit * (1 + 1e-9)
        step = state.steps["a"]
        said_of_a = state.budgets.get("a")
        of_a = Limits(own) if said_of_a is None else said_of_a.over(Limits(own))
        assert of_a.usd is None or step.spent is None or step.spent.cost <= of_a.usd * (1 + 1e-9)
    return state


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(TALKS, ANSWERS, st.integers(1, 4), st.sampled_from([0.01, 0.2, 0.5, 3.0]), st.sampled_from([0.05, 5.0]))
def test_the_events_add_up_no_answer_is_paid_twice_and_no_budget_is_exceeded(
    talks: list[list[tuple[int, int]]], answers: list[str], at_once: int, usd: float, own: float
) -> None:
    talk, store, left = Talk(), MemoryStore(), list(answers)
    for step_id, turns in zip(STEPS, talks, strict=False):
        talk.takes[step_id], talk.caps[step_id] = list(turns), CAP
    ids = STEPS[: len(talks)]
    steps = [prompt(step_id, **({"budget": {"usd": own}} if step_id == "a" else {})) for step_id in ids]
    plan = plan_of(*steps, budget={"usd": usd}, max_concurrent=at_once)

    async def go() -> None:
        state: RunState | None = None
        events: list[e.Event] = []
        while state is None or state.status != "succeeded":
            async with TalkingBench(talk, store) as bench:
                run = await (bench.run(plan, "r", detach=True) if state is None else bench.resume("r", detach=True))
                state = run.state
                await run.check()
                assert state.status in ("succeeded", "waiting", "paused"), state.reason
                for step in [one for one in state.steps.values() if one.status is StepStatus.WAITING]:
                    word = left.pop(0) if left else "finish"
                    fields: dict[str, Any] = {"action": word}
                    if word == "cheaper_model":
                        fields["model"] = "cheap"
                    if word != "restart":
                        told = await bench.tell("r", "approve", step=step.id, fields=fields)
                        assert told["ok"] or word == "cheaper_model", told  # it may be asked already
                state, events = await store.load_state("r"), await store.read_events("r")
        assert check_budgets(events, usd, own) == state
        costs = [event.cost for event in events if isinstance(event, e.ModelTurn)]
        assert state.usage.cost == pytest.approx(sum(cost or 0.0 for cost in costs))
        per_step = [step.usage.cost for step in state.steps.values() if step.usage is not None]
        assert state.usage.cost == pytest.approx(sum(per_step))
        per_attempt = [
            attempt.usage.cost
            for step in state.steps.values()
            for attempt in step.attempts.values()
            if attempt.usage is not None
        ]
        assert state.usage.cost == pytest.approx(sum(per_attempt))
        paid = [(step_id, turn) for step_id, _, turn, _ in talk.asked]
        assert sorted(paid) == sorted((step_id, n + 1) for step_id in ids for n in range(len(talk.takes[step_id])))
        assert all(step.tries == 1 for step in state.steps.values())

    asyncio.run(go())
