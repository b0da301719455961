"""Function steps behind executors of several types: every mode, real threads and processes."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from tools_calls import is_gone, ports_of, read_pid, step_call, until

from stepchain_tui.executors import use_executor
from stepchain_tui.executors.function import BaseFunctionExecutor, FunctionExecutor, FunctionExecutorFactory
from stepchain_tui.executors.types import StepCall
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import Pools

MODES = ("inline", "thread", "process")


@pytest_asyncio.fixture
async def executor() -> AsyncIterator[FunctionExecutor]:
    pools = Pools(process_workers=2)
    made = FunctionExecutor(pools)
    yield made
    await made.close()
    await pools.close()


def add(a: int, b: int = 1) -> int:
    return a + b


def typed_call(*, executor: str, batch: int | None = None, **keys: Any) -> StepCall:
    """Return a call whose step names an executor."""
    call = step_call(**keys)
    return msgspec.structs.replace(call, step=call.step.model_copy(update={"executor": executor, "batch": batch}))


class Doubling(BaseFunctionExecutor):
    async def _execute_function(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        return 2 * await self.func(args, ctx)


class DoubtfulContext(BaseFunctionExecutor):
    async def _execute_function(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        return await self.func({**args, "b": 5}, None)


class InATask(BaseFunctionExecutor):
    async def _execute_function(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        return await asyncio.wait_for(asyncio.create_task(self.func(args, ctx)), timeout)


@pytest.fixture
def own_types() -> Iterator[None]:
    types = {"doubling": Doubling, "doubtful": DoubtfulContext, "in_a_task": InATask}
    for name, executor_class in types.items():
        FunctionExecutorFactory.register(name, executor_class)
    yield
    for name in types:
        FunctionExecutorFactory.unregister(name)


@pytest.mark.usefixtures("own_types")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "result"), [("doubling", 6), ("doubtful", 7), ("in_a_task", 3)])
async def test_an_executor_of_ones_own_calls_the_function_in_the_steps_mode(
    executor: FunctionExecutor, mode: str, name: str, result: int
) -> None:
    call = typed_call(function=add, args={"a": 2}, mode=mode, executor=name)
    assert (await executor.execute(call)).output == result


@pytest.mark.usefixtures("own_types")
async def test_a_process_behind_an_executor_of_ones_own_is_killed_with_the_step(
    executor: FunctionExecutor, tmp_path: Path
) -> None:
    def hang(file: str) -> None:
        Path(file).write_text(str(os.getpid()))
        time.sleep(600)

    file = tmp_path / "pid"
    for name in ("doubling", "in_a_task"):
        file.unlink(missing_ok=True)
        task = asyncio.create_task(
            executor.execute(typed_call(function=hang, args={"file": str(file)}, mode="process", executor=name))
        )
        pid = await until(lambda: read_pid(file))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert is_gone(pid)


@pytest.mark.usefixtures("own_types")
async def test_a_thread_behind_an_executor_of_ones_own_is_told_to_the_engine(executor: FunctionExecutor) -> None:
    go_on, started = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        go_on.wait(30)

    call = typed_call(function=hang, executor="doubling")
    task = asyncio.create_task(executor.execute(call))
    await until(started.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.lingering is not None
    assert not call.lingering.done()
    go_on.set()
    await asyncio.wait_for(call.lingering, 10)


async def test_an_unknown_type_names_the_step_and_what_there_is(executor: FunctionExecutor) -> None:
    with pytest.raises(
        AttemptError, match=r"step 's': executor 'streeming': no function executor .*there are: "
    ) as caught:
        await executor.execute(typed_call(function=add, args={"a": 1}, executor="streeming"))
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert caught.value.hint == "did you mean 'streaming'?"


async def test_a_class_that_cannot_be_made_is_told_with_the_step(executor: FunctionExecutor) -> None:
    class Odd(Doubling):
        def __init__(self, spec: Any) -> None:
            super().__init__(spec, add)

    FunctionExecutorFactory.register("odd", Odd)
    try:
        with pytest.raises(AttemptError, match=r"step 's': executor 'odd' cannot be made: .*positional") as caught:
            await executor.execute(typed_call(function=add, args={"a": 1}, executor="odd"))
    finally:
        FunctionExecutorFactory.unregister("odd")
    assert "Odd takes what the base class" in caught.value.hint


@pytest.mark.parametrize("mode", MODES)
async def test_a_file_beside_the_plan_changes_how_the_next_call_is_carried_out(
    executor: FunctionExecutor, tmp_path: Path, mode: str
) -> None:
    file = tmp_path / "executors" / "times.py"
    file.parent.mkdir()
    for factor in (2, 3):
        file.write_text(
            "from stepchain_tui.executors.function import BaseFunctionExecutor\n"
            "class Times(BaseFunctionExecutor):\n"
            "    async def _execute_function(self, args, ctx, timeout):\n"
            f"        return {factor} * await self.func(args, ctx)\n"
        )
        call = typed_call(function=add, args={"a": 4}, mode=mode, folder=tmp_path, executor="times")
        assert (await executor.execute(call)).output == 5 * factor


async def test_a_fake_stands_in_for_all_function_steps(executor: FunctionExecutor) -> None:
    class Fake(BaseFunctionExecutor):
        async def _execute_function(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
            return ["made up", args, ctx.step_id]

    call = step_call(function=add, args={"a": 1})
    with use_executor(FunctionExecutorFactory, "standard", Fake):
        assert (await executor.execute(call)).output == ["made up", {"a": 1}, "s"]
    assert (await executor.execute(call)).output == 2


# --- batches


def score(batch: list[dict[str, Any]]) -> list[list[Any]]:
    print(f"{len(batch)} of them")
    return [[args["x"] * 10, len(batch), os.getpid()] for args in batch]


@pytest.mark.parametrize("mode", MODES)
async def test_concurrent_steps_are_one_call_of_the_function_in_every_mode(
    executor: FunctionExecutor, mode: str
) -> None:
    calls = [
        typed_call(function=score, args={"x": number}, mode=mode, executor="batching", batch=5) for number in range(10)
    ]
    results = [outcome.output for outcome in await asyncio.gather(*map(executor.execute, calls))]
    assert [result[:2] for result in results] == [[number * 10, 5] for number in range(10)]
    assert all(ports_of(call).text() == "5 of them\n" for call in calls), "each attempt has its group's output"
    assert (results[0][2] == os.getpid()) is (mode != "process")


@pytest.mark.parametrize("mode", MODES)
async def test_a_batching_function_without_the_argument_is_told_so(executor: FunctionExecutor, mode: str) -> None:
    call = typed_call(function=add, args={"a": 1}, mode=mode, executor="batching", batch=1)
    with pytest.raises(AttemptError, match=r"add\(\) has no parameter 'batch'"):
        await executor.execute(call)


async def test_cancelling_every_step_of_a_batch_ends_its_process(executor: FunctionExecutor, tmp_path: Path) -> None:
    def hang(batch: list[Any], file: str = str(tmp_path / "pid")) -> None:
        Path(file).write_text(str(os.getpid()))
        time.sleep(600)

    calls = [typed_call(function=hang, mode="process", executor="batching", batch=2) for _ in range(2)]
    tasks = [asyncio.create_task(executor.execute(call)) for call in calls]
    pid = await until(lambda: read_pid(tmp_path / "pid"))
    tasks[0].cancel()
    await asyncio.gather(tasks[0], return_exceptions=True)
    assert not is_gone(pid), "the other still waits for it"
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    assert is_gone(pid)
