"""Executor types as a plan author meets them: named in a step, changed while a run is there, beside the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.values import decode_json
from stepchain_tui.executors.function import BaseFunctionExecutor, FunctionExecutorFactory
from stepchain_tui.plan import Plan, plan_to_json
from stepchain_tui.run.status import ErrorType
from tests.support.engines import Bench, plan_of

CALLS = """
def score(batch):
    print(f"{len(batch)} of them")
    return [args["x"] * 10 for args in batch]

def short(batch):
    return [1]

def four():
    return 4

async def chunks():
    for chunk in ("one ", "two"):
        yield chunk
"""
TIMES = """
from stepchain_tui.executors.function import BaseFunctionExecutor

class Times(BaseFunctionExecutor):
    async def _execute_function(self, args, ctx, timeout):
        return {factor} * await self.func(args, ctx)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "calls.py").write_text(CALLS)
    (tmp_path / "executors").mkdir()
    return tmp_path


def step(function: str, **keys: Any) -> dict[str, Any]:
    return {"id": "a", "function": f"./calls.py:{function}", **keys}


def as_json(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = decode_json(plan_to_json(plan))
    return found


def items(function: str) -> Plan:
    keys = {"args": {"x": "{{ item }}"}, "max_concurrent": 10, "executor": "batching", "on_failure": "continue"}
    return plan_of(step(function, for_each=list(range(10)), **keys), max_concurrent=10)


async def test_the_items_of_a_step_are_carried_out_in_groups(folder: Path) -> None:
    async with Bench(folder=folder) as bench:
        run = await bench.run(items("score"))
        assert run.outputs["a"] == [number * 10 for number in range(10)]
        lines = [(line.item, line.text) for line in await run.log()]
        assert sorted(lines) == [(number, "5 of them") for number in range(10)]
        await run.check()


async def test_a_group_with_too_few_results_fails_its_items_with_the_numbers(folder: Path) -> None:
    async with Bench(folder=folder) as bench:
        run = await bench.run(items("short"))
        failures = [attempt.error for attempt in run.state.steps["a"].attempts.values() if attempt.item is not None]
        assert len(failures) == 10
        for failure in failures:
            assert failure is not None
            assert failure.message == "a returned 1 results for a batch of 5 calls"
            assert failure.error_type is ErrorType.USER_ERROR


async def test_a_file_beside_the_plan_is_a_type_and_a_rerun_uses_what_it_has_become(folder: Path) -> None:
    file = folder / "executors" / "times.py"
    file.write_text(TIMES.format(factor=2))
    async with Bench(folder=folder) as bench:
        run = await bench.run(plan_of(step("four", executor="times")))
        assert run.outputs == {"a": 8}
        file.write_text(TIMES.format(factor=3))
        assert (await bench.rerun(run.run_id, "a")).outputs == {"a": 12}


async def test_the_type_is_changed_in_the_plan_of_a_run_that_is_there(folder: Path) -> None:
    (folder / "executors" / "times.py").write_text(TIMES.format(factor=2))
    async with Bench(folder=folder) as bench:
        run = await bench.run(plan_of(step("four")))
        assert run.outputs == {"a": 4}
        changed = as_json(plan_of(step("four", executor="times")))
        assert (await bench.tell(run.run_id, "edit", plan=changed))["ok"]
        assert (await bench.rerun(run.run_id, "a")).outputs == {"a": 8}


async def test_a_broken_file_fails_the_step_with_its_name_and_a_mended_one_goes_on(folder: Path) -> None:
    file = folder / "executors" / "times.py"
    file.write_text("1 / 0\n")
    async with Bench(folder=folder) as bench:
        run = await bench.run(plan_of(step("four", executor="times")))
        error = run.state.steps["a"].error
        assert error is not None
        assert error.error_type is ErrorType.USER_ERROR
        assert "executors/times.py cannot be imported: ZeroDivisionError" in error.message
        assert "1 / 0" in error.traceback
        file.write_text(TIMES.format(factor=2))
        assert (await bench.rerun(run.run_id, "a")).outputs == {"a": 8}


async def test_a_type_that_is_gone_fails_the_step_with_those_there_are(folder: Path) -> None:
    class Own(BaseFunctionExecutor):
        async def _execute_function(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
            return "own"

    FunctionExecutorFactory.register("own", Own)
    async with Bench(folder=folder) as bench:
        try:
            run = await bench.run(plan_of(step("four", executor="own")))
        finally:
            FunctionExecutorFactory.unregister("own")
        assert run.outputs == {"a": "own"}
        again = await bench.rerun(run.run_id, "a")
        error = again.state.steps["a"].error
        assert error is not None
        assert error.message.startswith("step 'a': executor 'own': no function executor of type 'own' (there are: ")
        assert error.error_type is ErrorType.USER_ERROR


@pytest.mark.parametrize("executor", ["standard", "streaming"])
async def test_chunks_are_in_the_log_and_joined_in_the_output(folder: Path, executor: str) -> None:
    async with Bench(folder=folder) as bench:
        run = await bench.run(plan_of(step("chunks", executor=executor)))
        assert run.outputs == {"a": "one two"}
        assert "".join(line.text for line in await run.log() if line.stream.startswith("text")) == "one two"
