"""Forecasts and the money in receipts: from what a plan's own runs took, unknown where nothing is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.engine import EngineService
from stepchain_tui.engine.receipt import Decision, Receipt, account
from tests.support.engines import Bench, plan_of
from tests.support.talking import Talk, TalkingBench, prompt, write_prices


@pytest.fixture(autouse=True)
def prices(isolated: Path) -> None:
    write_prices()


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
def bench_of(talk: Talk, tmp_path: Path) -> Callable[..., Bench]:
    return partial(TalkingBench, talk, folder=tmp_path)


def write(folder: Path, *steps: dict[str, Any], **keys: Any) -> str:
    path = folder / "plan.yaml"
    path.write_text(json.dumps({"goal": "a goal", "steps": list(steps), **keys}))
    return str(path)


async def run(bench: Bench, plan: str, run_id: str) -> None:
    await (await EngineService(bench.engine, detach=True).start(plan, run_id=run_id)).wait()


async def test_without_an_earlier_run_everything_is_unknown(bench_of: Any, tmp_path: Path) -> None:
    async with bench_of() as bench:
        plan = write(tmp_path, prompt("a"), {"id": "b", "shell": "true"})
        told = await EngineService(bench.engine).forecast(plan)
        assert (told["runs"], told["tokens"], told["usd"], told["unknown_steps"]) == (0, None, None, ["a"])
        assert [step["step_id"] for step in told["steps"]] == ["a"]


async def test_a_forecast_is_the_mean_of_the_plans_own_runs_with_its_range(
    bench_of: Any, talk: Talk, tmp_path: Path
) -> None:
    async with bench_of() as bench:
        plan = write(tmp_path, prompt("a"), prompt("b", "a", model="unpriced"))
        await run(bench, plan, "r1")
        talk.takes["a"] = [(1000, 1000), (2000, 0)]
        await run(bench, plan, "r2")
        other = tmp_path / "other"
        other.mkdir()
        talk.takes["a"] = [(9000, 9000)]
        await run(bench, write(other, prompt("a")), "r3")  # another plan's runs say nothing of this one
        told = await EngineService(bench.engine).forecast(plan)
        assert (told["runs"], told["unknown_steps"], told["warnings"]) == (2, ["b"], [])
        assert told["tokens"] == {"low": 4000, "mean": 5000, "high": 6000}
        assert told["usd"] == {"low": 0.3, "mean": 0.4, "high": 0.5}


@pytest.mark.parametrize(
    ("usd", "warning"),
    [
        (1.0, []),
        (0.45, ["it may exceed the budget of $0.45: earlier runs took $0.30 to $0.50"]),
        (0.35, ["it is expected to exceed the budget of $0.35: earlier runs took $0.30 to $0.50"]),
    ],
)
async def test_it_warns_where_the_budget_will_not_do(
    usd: float, warning: list[str], bench_of: Any, talk: Talk, tmp_path: Path
) -> None:
    async with bench_of() as bench:
        plan = write(tmp_path, prompt("a"))
        await run(bench, plan, "r1")
        talk.takes["a"] = [(1000, 1000), (2000, 0)]
        await run(bench, plan, "r2")
        told = await EngineService(bench.engine).forecast(write(tmp_path, prompt("a"), budget={"usd": usd}))
        assert told["warnings"] == warning


async def test_the_items_of_a_map_and_the_parts_of_a_plan_count_as_their_step(
    bench_of: Any, talk: Talk, tmp_path: Path
) -> None:
    (tmp_path / "inner.yaml").write_text(json.dumps({"steps": [prompt("say")]}))
    (tmp_path / "deep.yaml").write_text(json.dumps({"steps": [{"id": "in", "plan": "./inner.yaml"}]}))
    async with bench_of() as bench:
        plan = write(
            tmp_path,
            prompt("each", for_each=[1, 2, 3]),
            {"id": "sub", "plan": "./inner.yaml"},
            {"id": "subs", "plan": "./inner.yaml", "for_each": [1, 2]},
            {"id": "deep", "plan": "./deep.yaml", "for_each": [1, 2]},
        )
        await run(bench, plan, "r1")
        told = await EngineService(bench.engine).forecast(plan)
        found = {step["step_id"]: step["tokens"]["mean"] for step in told["steps"]}
        assert found == {"each": 6000, "sub/say": 2000, "subs": 4000, "deep": 4000}
        assert told["tokens"]["mean"] == 16_000


async def test_a_receipt_tells_what_is_not_spent_again_and_what_is_expected(
    bench_of: Any, talk: Talk, tmp_path: Path
) -> None:
    async with bench_of() as bench:
        plan = write(tmp_path, prompt("a"), prompt("b", "a"), budget={"usd": 0.7})
        await run(bench, plan, "r1")
        service = EngineService(bench.engine)
        receipt = await service.receipt("r1", "rerun", {"step": "b"})
        assert (receipt.tokens_saved, receipt.usd_saved) == (2000, pytest.approx(0.3))
        line = receipt.steps[1]
        assert (line.decision, line.tokens, line.usd) == (Decision.RUN, 2000, pytest.approx(0.3))
        assert receipt.forecast is not None
        assert receipt.forecast.budget.usd == pytest.approx(0.1)
        assert receipt.warnings == (
            "it is expected to exceed what is left of the budget, $0.10: earlier runs took $0.30",
        )
        assert Receipt.from_json(json.loads(json.dumps(receipt.to_json()))) == receipt


async def test_a_run_that_did_not_end_speaks_for_itself(bench_of: Any, talk: Talk, tmp_path: Path) -> None:
    async with bench_of() as bench:
        plan = write(
            tmp_path, prompt("a"), {"id": "ask", "approve": "go on?", "dependencies": ["a"]}, prompt("b", "ask")
        )
        await run(bench, plan, "r1")
        told = await EngineService(bench.engine).receipt("r1", "rerun", {"step": "a"})
        assert told.forecast is not None
        assert (told.forecast.runs, told.steps[0].tokens) == (1, 2000)


async def test_what_was_really_run_is_told_with_what_it_took_now(bench_of: Any, talk: Talk, tmp_path: Path) -> None:
    async with bench_of() as bench:
        plan = write(tmp_path, prompt("a"), prompt("b", "a"))
        await run(bench, plan, "r1")
        talk.takes["b"] = [(100, 50)]
        again = await bench.rerun("r1", "b")
        told = account(again.state)
        assert [(line.decision, line.tokens) for line in told.steps] == [(Decision.REUSE, 2000), (Decision.RUN, 150)]
        assert (told.tokens_run, told.usd_run) == (150, pytest.approx(0.02))


async def test_what_only_found_a_budget_reached_was_not_run(bench_of: Any, talk: Talk, tmp_path: Path) -> None:
    async with bench_of() as bench:
        steps = [prompt("a"), prompt("b", "a"), prompt("c", "a"), prompt("each", "a", for_each=[1, 2])]
        handle = await bench.run(plan_of(*steps, budget={"usd": 0.35}), "r1", detach=True)
        assert handle.state.status == "waiting"
        assert any(step.attempt for step in list(handle.state.steps.values())[1:])
        told = account(await bench.store.load_state("r1"))
        assert [line.step_id for line in told.steps if line.decision is Decision.RUN] == ["a"]


async def test_a_sum_of_which_a_part_is_unknown_is_unknown(bench_of: Any, talk: Talk, tmp_path: Path) -> None:
    talk.takes["a"] = [(None, None), (10, 10)]
    async with bench_of() as bench:
        await run(bench, write(tmp_path, prompt("a")), "r1")
        line = account(await bench.store.load_state("r1")).steps[0]
        assert (line.tokens, line.usd) == (None, None)
