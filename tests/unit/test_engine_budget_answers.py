"""What may be answered at a budget, for whom and for how long an answer counts, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.plan import plan_to_json
from stepchain_tui.run.budgets import run_limits
from stepchain_tui.store import MemoryStore
from tests.support.engines import Bench, Watched, plan_of
from tests.support.talking import HOST, PRICES, Talk, TalkingBench, prompt, write_prices


@pytest.fixture(autouse=True)
def prices(isolated: Path) -> None:
    write_prices()


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
def bench_of(talk: Talk) -> Callable[..., Bench]:
    return partial(TalkingBench, talk)


async def question(run: Watched, step_id: str) -> Any:
    await run.until_status(step_id, "waiting")
    return run.state.steps[step_id].waiting


def cost_of(run: Watched) -> float:
    return round(run.state.usage.cost, 6)


async def test_a_cheaper_model_answers_the_rest_of_the_run(bench_of: Any, talk: Talk) -> None:
    talk.takes["a"] = [(1000, 1000), (1000, 1000)]
    async with bench_of() as bench:
        run = await bench.start(plan_of(prompt("a"), prompt("b", "a"), budget={"usd": 0.5}))
        await question(run, "a")
        refused = await run.tell("approve", step="a", fields={"action": "cheaper_model", "model": "unknown"})
        assert (refused["ok"], refused["message"]) == (
            False,
            f"the price of unknown at {HOST} is not known, and the budget is in dollars",
        )
        await run.tell("approve", step="a", fields={"action": "cheaper_model", "model": "cheap"})
        assert await run.end() == "succeeded"
        assert talk.models == [("a", "dear"), ("a", "cheap"), ("b", "cheap")]
        assert cost_of(run) == 0.36


async def test_a_cheaper_model_answers_only_for_the_one_that_it_was_chosen_for(bench_of: Any, talk: Talk) -> None:
    talk.takes["a"] = [(1000, 1000), (1000, 1000)]
    talk.hosts["local"] = "localhost:1"
    write_prices({**PRICES, "localhost:1/local": {"input": 0, "output": 0}})
    async with bench_of() as bench:
        plan = plan_of(prompt("a"), prompt("b", "a", model="local"), prompt("c", "b"), budget={"usd": 0.5})
        run = await bench.start(plan)
        await question(run, "a")
        await run.tell("approve", step="a", fields={"action": "cheaper_model", "model": "cheap"})
        assert await run.end() == "succeeded"
        assert talk.models == [("a", "dear"), ("a", "cheap"), ("b", "local"), ("c", "cheap")]
        await run.check()


async def test_the_last_word_on_a_model_holds_and_an_edit_of_the_budget_takes_it_back(
    bench_of: Any, talk: Talk
) -> None:
    write_prices({**PRICES, f"{HOST}/cheapest": {"input": 1, "output": 2}})
    talk.takes["a"] = [(1000, 1000), (1000, 1000), (1000, 1000)]
    async with bench_of() as bench:
        plan = plan_of(
            prompt("a"),
            prompt("b", "a"),
            {"id": "ask", "approve": "on?", "dependencies": ["b"]},
            prompt("c", "ask"),
            budget={"usd": 0.34},
        )
        run = await bench.start(plan)
        await question(run, "a")
        await run.tell("approve", step="a", fields={"action": "cheaper_model", "model": "cheap"})
        await run.until(lambda state: state.steps["a"].attempt == 2 and state.steps["a"].waiting is not None)
        assert run.state.steps["a"].waiting.input.value["model"] == "cheap"
        await run.tell("approve", step="a", fields={"action": "cheaper_model", "model": "cheapest"})
        await run.until_status("ask", "waiting")
        edited = json.loads(plan_to_json(plan))
        assert (await run.tell("edit", plan={**edited, "budget": {"usd": 9}}))["ok"]
        await run.tell("approve", step="ask")
        assert await run.end() == "succeeded"
        assert [model for _, model in talk.models] == ["dear", "cheap", "cheapest", "cheapest", "dear"]


async def test_what_cannot_help_is_neither_offered_nor_taken(bench_of: Any, talk: Talk) -> None:
    talk.takes["a"] = [(1000, 1000), (1000, 1000)]
    async with bench_of() as bench:
        run = await bench.start(plan_of(prompt("a"), budget={"usd": 0.31}))
        waiting = await question(run, "a")
        assert waiting.input.value["models"] == []
        cheaper = {"action": "cheaper_model", "model": "cheap"}
        told = await run.tell("approve", step="a", fields=cheaper)
        assert (told["ok"], told["message"]) == (
            False,
            "cheap does not help: its answer is expected to cost $0.03, and with that the budget is exceeded by $0.02",
        )
        told = await run.tell("approve", step="a", fields={"action": "top_up", "usd": 0.28})
        assert (told["ok"], told["message"], told["hint"]) == (
            False,
            "that is not enough: with the next answer the budget is exceeded by $0.29",
            "Add at least usd=0.29.",
        )
        await run.tell("approve", step="a", fields={"action": "top_up", "usd": 0.29})
        assert await run.end() == "succeeded"


@pytest.mark.parametrize(
    ("budget", "taken"), [({"tokens": 2500}, (1000, 1000)), ({"usd": 0.2}, (1000, 1000))], ids=["tokens", "overdrawn"]
)
async def test_a_cheaper_model_is_offered_for_dollars_that_are_left_only(
    budget: dict[str, Any], taken: tuple[int, int], bench_of: Any, talk: Talk
) -> None:
    talk.takes["a"], talk.caps["a"] = [taken, taken], 0  # nothing is expected of an answer: it goes over the limit
    async with bench_of() as bench:
        run = await bench.start(plan_of(prompt("a"), budget=budget))
        waiting = await question(run, "a")
        assert waiting.fields["action"]["choices"] == ["top_up", "finish", "stop"]
        told = await run.tell("approve", step="a", fields={"action": "cheaper_model", "model": "cheap"})
        assert not told["ok"]
        await run.tell("approve", step="a", fields={"action": "finish"})
        assert await run.end() == "succeeded"
        assert not run_limits(run.state)


@pytest.mark.parametrize("answer", [{"fields": {"action": "stop"}}, {"approved": False}], ids=["stop", "deny"])
async def test_stop_pauses_the_run_and_a_resume_asks_again_with_nothing_paid_twice(
    answer: dict[str, Any], bench_of: Any, talk: Talk
) -> None:
    talk.takes["a"] = [(1000, 1000), (1000, 1000)]
    store = MemoryStore()
    async with bench_of(store) as bench:
        run = await bench.start(plan_of(prompt("a"), prompt("b", "a"), budget={"usd": 0.5}), "r")
        await question(run, "a")
        told = await run.tell("approve", step="a", **answer)
        assert told["message"] == "stopped at the budget: the run is paused"
        assert await run.end() == "paused"
        assert run.state.steps["a"].status == "pending"
        await run.check()
    async with bench_of(store) as bench:
        again = await bench.resume("r", detach=True)
        assert (again.state.status, talk.models) == ("waiting", [("a", "dear")])
        await bench.tell("r", "approve", step="a", fields={"action": "finish"})
        assert again.state.run_id == "r"
        done = await bench.resume("r", detach=True)
        assert done.state.status == "succeeded"
        assert [step for step, _ in talk.models] == ["a", "a", "b"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "step 'a' waits at a budget: a yes alone does not say how to go on"),
        ({"action": "more"}, "'more' is no answer to a budget"),
        ({"action": "edit"}, "'edit' is no answer to a budget"),
        ({"action": "top_up", "usd": "-1"}, "'usd' is an amount of dollars above 0"),
        ({"action": "top_up", "usd": "nan"}, "'usd' is an amount of dollars above 0"),
        ({"action": "top_up", "tokens": "5"}, "the budget has no limit in tokens: there is nothing to add to"),
        ({"action": "top_up", "euro": "5"}, "the question of 'a' has no field 'euro'"),
        ({"action": "cheaper_model"}, "which model is to be asked instead?"),
        ({"action": "cheaper_model", "model": "dear"}, "dear is the model that is asked already"),
        ({"action": "cheaper_model", "model": "scripted"}, "answers that the plan writes have no cheaper model"),
    ],
)
async def test_an_answer_that_does_not_fit_is_refused_and_the_question_stays(
    fields: dict[str, Any], message: str, bench_of: Any, talk: Talk
) -> None:
    async with bench_of() as bench:
        run = await bench.start(plan_of(prompt("a"), budget={"usd": 0.05}))
        await question(run, "a")
        told = await run.tell("approve", step="a", fields=fields)
        assert (told["ok"], told["message"]) == (False, message)
        assert told["hint"]
        assert run.state.steps["a"].status == "waiting"


async def test_an_edit_of_the_budget_lets_a_waiting_run_go_on(bench_of: Any, talk: Talk) -> None:
    async with bench_of() as bench:
        run = await bench.start(plan_of(prompt("a"), budget={"usd": 0.05}))
        await question(run, "a")
        edited = json.loads(plan_to_json(plan_of(prompt("a"), budget={"usd": 0.06})))
        await run.tell("edit", plan=edited)
        assert run.state.steps["a"].status == "waiting"
        await run.tell("edit", plan={**edited, "budget": {"usd": 1}})
        assert await run.end() == "succeeded"


async def test_the_budget_of_a_step_that_asks_can_be_edited(bench_of: Any, talk: Talk) -> None:
    async with bench_of() as bench:
        run = await bench.start(plan_of(prompt("a", budget={"usd": 0.05})))
        await question(run, "a")
        await run.tell("edit", plan=json.loads(plan_to_json(plan_of(prompt("a")))))
        assert await run.end() == "succeeded"


async def test_an_edit_of_the_budget_of_a_plan_in_a_plan_takes_the_place_of_what_was_answered(
    bench_of: Any, talk: Talk, tmp_path: Path
) -> None:
    inner: dict[str, Any] = {"budget": {"usd": 0.35}, "steps": [prompt("one"), prompt("two", "one")]}
    inner["steps"] += [{"id": "ask", "approve": "on?", "dependencies": ["two"]}, prompt("three", "ask")]
    (tmp_path / "inner.yaml").write_text(json.dumps(inner))
    store, plan = MemoryStore(), plan_of({"id": "sub", "plan": "./inner.yaml"})
    async with bench_of(store, folder=tmp_path) as bench:
        run = await bench.start(plan, "r")
        await question(run, "sub/two")
        await run.tell("approve", step="sub/two", fields={"action": "finish"})
        await run.until_status("sub/ask", "waiting")
    (tmp_path / "inner.yaml").write_text(json.dumps({**inner, "budget": {"usd": 0.65}}))
    async with bench_of(store, folder=tmp_path) as bench:
        run = await bench.start(plan, "r")
        await run.tell("approve", step="sub/ask")
        waiting = await question(run, "sub/three")
        assert waiting.question.startswith("Step sub has spent $0.60 of $0.65")
