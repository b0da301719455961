"""Budgets: what is asked at the limit, who is held back meanwhile, and how a run goes on without paying twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.run.budgets import run_limits
from stepchain_tui.store import MemoryStore
from tests.support.engines import Bench, Watched, plan_of
from tests.support.talking import HOST, Talk, TalkingBench, prompt, write_prices


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


async def test_what_an_answer_cost_is_in_its_event_and_adds_up(bench_of: Any, talk: Talk) -> None:
    talk.takes["a"] = [(1000, 1000), (2000, 0)]
    async with bench_of() as bench:
        run = await bench.run(plan_of(prompt("a"), prompt("b", "a", model="unknown")))
        turns = await run.events("model.turn")
        assert [turn.cost for turn in turns] == [pytest.approx(0.3), pytest.approx(0.2), None]
        usage = run.state.usage
        assert (usage.turns, cost_of(run), usage.unpriced_turns, usage.unknown_turns) == (3, 0.5, 1, 0)
        attempt = run.state.steps["a"].last
        assert attempt is not None
        assert attempt.usage == run.state.steps["a"].usage
        await run.check()


async def test_at_the_limit_of_dollars_the_run_asks_says_what_was_spent_and_holds_no_slot(
    bench_of: Any, talk: Talk
) -> None:
    talk.takes["a"] = [(1000, 1000), (1000, 1000)]
    async with bench_of() as bench:
        run = await bench.start(plan_of(prompt("a"), budget={"usd": 0.5}))
        waiting = await question(run, "a")
        assert waiting.reason == "budget"
        assert waiting.question == (
            "The run has spent $0.30 of $0.50, and the next answer of dear for a is expected to cost $0.30. "
            "How is it to go on?"
        )
        facts = waiting.input.value
        assert (facts["scope"], facts["unit"], facts["limit"], facts["spent"]) == ("run", "usd", 0.5, 0.3)
        cheap = {"model": "cheap", "input": 10, "output": 20, "cost": pytest.approx(0.03)}
        assert facts["models"] == [cheap]
        assert (run.state.status, bench.engine._drivers[run.run_id].slots.taken) == ("waiting", 0)
        await run.tell("approve", step="a", fields={"action": "top_up", "usd": "0.25"})
        assert await run.end() == "succeeded"
        assert talk.models == [("a", "dear"), ("a", "dear")]  # what was answered before is not asked again
        assert run_limits(run.state).usd == 0.75
        attempts = [attempt.status for attempt in run.state.steps["a"].attempts.values()]
        assert (attempts, run.state.steps["a"].tries) == (["interrupted", "succeeded"], 1)
        await run.check()


async def test_tokens_are_a_budget_too_and_need_no_price(bench_of: Any, talk: Talk) -> None:
    talk.takes["a"] = [(600, 300), (600, 300)]
    async with bench_of() as bench:
        run = await bench.start(plan_of(prompt("a", model="unknown"), budget={"tokens": 1500}))
        waiting = await question(run, "a")
        assert "has used 900 of 1,500 tokens, and the next answer of unknown for a is expected to take 900" in (
            waiting.question
        )
        answer = await run.tell("approve", step="a", fields={"action": "top_up", "tokens": 1000})
        assert answer["message"] == "a: 1,000 tokens more"
        assert await run.end() == "succeeded"


async def test_a_budget_in_dollars_for_a_model_of_unknown_price_fails_before_the_first_call(
    bench_of: Any, talk: Talk
) -> None:
    async with bench_of() as bench:
        run = await bench.run(plan_of(prompt("a", model="unknown"), budget={"usd": 1}))
        error = run.state.steps["a"].error
        assert error is not None
        assert (error.error_type, talk.asked) == ("user_error", [])
        assert error.message == (f"step 'a' has a budget in dollars, and the price of unknown at {HOST} is not known")
        assert "prices.json" in error.hint


async def test_an_answer_by_a_name_without_a_price_has_the_price_that_it_was_let_through_with(
    bench_of: Any, talk: Talk
) -> None:
    talk.called["dear"] = "vendor/dear-q4"
    models = {"house": {"options": {"model": "dear"}}}
    async with bench_of() as bench:
        plan = plan_of(prompt("a", model="house"), prompt("b", "a"), models=models, budget={"usd": 0.9})
        talk.called["house"] = "vendor/dear-q4"
        run = await bench.run(plan)
        assert (cost_of(run), run.state.usage.unpriced_turns) == (0.6, 0)


async def test_a_rerun_begins_estimates_anew_and_only_text_counts(bench_of: Any, talk: Talk) -> None:
    talk.takes["a"] = [(None, None)]
    content = [{"type": "output_text", "text": "x" * 120, "annotations": [{"url": "y" * 4000}]}]
    talk.writes["a"] = [{"type": "message", "id": "m" * 4000, "content": content}]
    async with bench_of() as bench:
        plan = plan_of(
            prompt("a", model="unknown", budget={"tokens": 45}),
            {"id": "ask", "approve": "on?"},
        )
        run = await bench.start(plan)
        await run.until_status("a", "succeeded")
        limits = bench.engine._drivers[run.run_id].budgets.limits
        assert limits.spent("a").input_tokens == 40  # 10 of the question, 30 of 120 characters
        await run.tell("rerun", step="a")
        await run.until(lambda state: state.steps["a"].attempt == 2 and state.steps["a"].status == "succeeded")
        assert (limits.spent("a").input_tokens, limits.spent("").input_tokens) == (40, 80)


async def test_while_one_step_asks_others_are_held_back_and_what_runs_ends_normally(bench_of: Any, talk: Talk) -> None:
    talk.gates["slow"] = asyncio.Event()
    talk.takes["slow"] = [(100, 100)]
    async with bench_of() as bench:
        plan = plan_of(
            prompt("slow"),
            prompt("a", "free"),
            prompt("b", "free"),
            prompt("c", "free"),
            {"id": "free", "shell": "true"},
            {"id": "other", "shell": "true", "dependencies": ["free"]},
            budget={"usd": 0.06},
        )
        run = await bench.start(plan)
        await run.until(lambda state: any(step.status == "waiting" for step in state.steps.values()))
        asking = [step.id for step in run.state.steps.values() if step.status == "waiting"]
        await run.until_status("other", "succeeded")
        talk.gates["slow"].set()
        await run.until_status("slow", "succeeded")
        await run.until(lambda state: state.status == "waiting")
        assert len(asking) == 1
        held = {step.id: step.status.value for step in run.state.steps.values() if step.id in "abc"}
        assert sorted(held.values()) in (["pending", "pending", "waiting"], ["queued", "queued", "waiting"])
        assert talk.models == [("slow", "dear")]
        await run.tell("approve", step=asking[0], fields={"action": "finish"})
        assert await run.end() == "succeeded"
        assert len(await run.events("step.waiting")) == 1
        await run.check()


async def test_answers_in_flight_count_so_that_a_budget_is_not_exceeded_side_by_side(bench_of: Any, talk: Talk) -> None:
    gate = asyncio.Event()
    for step_id in "abcd":
        talk.caps[step_id], talk.gates[step_id] = 1000, gate
    async with bench_of() as bench:
        run = await bench.start(plan_of(*(prompt(step_id) for step_id in "abcd"), budget={"usd": 0.95}))
        await run.until(lambda state: any(step.status == "pending" and step.attempt for step in state.steps.values()))
        assert (len(talk.began), cost_of(run)) == (3, 0)  # the fourth waits for what the others really take
        gate.set()
        await run.until(lambda state: state.status == "waiting")
        assert (len(talk.asked), cost_of(run)) == (3, 0.9)
        waiting = [step.waiting.question for step in run.state.steps.values() if step.waiting is not None]
        assert [text[:36] for text in waiting] == ["The run has spent $0.90 of $0.95, an"]


async def test_the_budget_of_a_step_counts_all_its_items_and_holds_nobody_else(bench_of: Any, talk: Talk) -> None:
    async with bench_of() as bench:
        plan = plan_of(
            prompt("each", for_each=[1, 2, 3, 4], budget={"usd": 0.65}, max_concurrent=2),
            prompt("other"),
        )
        run = await bench.start(plan)
        waiting = await question(run, "each")
        assert waiting.question.startswith("Step each has spent $0.60 of $0.65")
        await run.until_status("other", "succeeded")
        await run.tell("approve", step="each", fields={"action": "top_up", "usd": 1})
        assert await run.end() == "succeeded"
        assert len(talk.asked) == 5
        assert run.state.budgets["each"].usd == 1
        await run.check()


async def test_a_rerun_by_hand_begins_the_budget_of_the_step_anew_but_not_that_of_the_run(
    bench_of: Any, talk: Talk
) -> None:
    async with bench_of() as bench:
        run = await bench.run(plan_of(prompt("a", budget={"usd": 0.3}), budget={"usd": 1}), "r")
        again = await bench.rerun("r", "a")
        assert (again.state.status, cost_of(again)) == ("succeeded", 0.6)
        spent = again.state.steps["a"].spent
        assert spent is not None
        assert round(spent.cost, 6) == 0.3
        assert run.run_id == "r"


async def test_a_run_that_waits_goes_on_in_another_engine_with_its_conversation(bench_of: Any, talk: Talk) -> None:
    talk.takes["a"] = [(1000, 1000), (1000, 1000)]
    store = MemoryStore()
    plan = plan_of(prompt("a"), budget={"usd": 0.5})
    async with bench_of(store) as bench:
        assert (await bench.run(plan, "r", detach=True)).state.status == "waiting"
    async with bench_of(store) as bench:
        raised = plan.model_copy(update={"budget": plan.budget.model_copy(update={"usd": 5.0})})
        run = await bench.run(raised, "r")
        assert run.state.status == "succeeded"
        assert len(talk.asked) == 2


async def test_an_answer_that_its_provider_did_not_count_is_estimated(bench_of: Any, talk: Talk) -> None:
    talk.takes["a"] = [(None, None)] * 8
    talk.caps["a"] = 90
    async with bench_of() as bench:
        run = await bench.start(plan_of(prompt("a", model="unknown"), budget={"tokens": 450}))
        await question(run, "a")
        assert (len(talk.asked), run.state.usage.unknown_turns) == (4, 4)


async def test_the_budget_of_a_plan_in_a_plan_holds_for_its_own_steps(
    bench_of: Any, talk: Talk, tmp_path: Path
) -> None:
    inner = {"budget": {"usd": 0.35}, "steps": [prompt("one"), prompt("two", "one")]}
    (tmp_path / "inner.yaml").write_text(json.dumps(inner))
    async with bench_of(folder=tmp_path) as bench:
        run = await bench.start(plan_of({"id": "sub", "plan": "./inner.yaml"}, prompt("own")))
        waiting = await question(run, "sub/two")
        assert waiting.question.startswith("Step sub has spent $0.30 of $0.35")
        await run.until_status("own", "succeeded")
        await run.tell("approve", step="sub/two", fields={"action": "finish"})
        assert await run.end() == "succeeded"


BOB = """
import os, time

class Bob:
    def run_step(self, request, memory):
        while not os.path.exists(request):
            time.sleep(0.005)
        return "done"
"""


async def test_an_agent_that_asks_no_model_keeps_no_prompt_waiting(bench_of: Any, talk: Talk, tmp_path: Path) -> None:
    (tmp_path / "bob.py").write_text(BOB)
    for step_id in ("p", "q"):
        talk.takes[step_id], talk.caps[step_id] = [(10, 10)], 600
    async with bench_of(folder=tmp_path) as bench:
        agent = {"id": "bob", "agent": "./bob.py:Bob", "request": str(tmp_path / "go"), "priority": 1}
        run = await bench.start(plan_of(agent, prompt("p"), prompt("q"), budget={"tokens": 1000}))
        await run.until_status("p", "succeeded")
        await run.until_status("q", "succeeded")
        assert run.state.steps["bob"].status == "running"
        (tmp_path / "go").write_text("")
        assert await run.end() == "succeeded"


async def test_a_cancelled_question_lets_the_others_ask(bench_of: Any, talk: Talk) -> None:
    async with bench_of() as bench:
        run = await bench.start(plan_of(prompt("a"), prompt("b", priority=-1), budget={"usd": 0.05}))
        await question(run, "a")
        await run.tell("cancel", step="a")
        await question(run, "b")
        await run.tell("cancel")
        assert await run.end() == "cancelled"
        await run.check()


async def test_the_calls_of_a_model_are_told_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text('def note(text: str) -> str:\n    """Write it down."""\n    return text\n')
    calls = [{"name": "note", "arguments": {"text": "one"}}, {"name": "note", "arguments": {"txt": "two"}}]
    step = {"id": "a", "prompt": "Note it", "model": "scripted", "replies": [{"calls": calls}, "done"]}
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of({**step, "tools": ["./tools.py:note"]}))
        told = sorted(line.text for line in await run.log("a") if line.text.startswith("called "))
        assert [text.partition(" (")[0] for text in told] == [
            'called note with {"text":"one"}',
            'called note with {"txt":"two"}',
        ]
        assert ["failed: " in text for text in told] == [False, True]
