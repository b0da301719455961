"""Functions that yield, as steps: every mode, real threads and processes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from tools_calls import ports_of, step_call, until

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


def typed_call(*, executor: str, batch: int | None = None, **keys: Any) -> StepCall:
    """Return a call whose step names an executor."""
    call = step_call(**keys)
    return msgspec.structs.replace(call, step=call.step.model_copy(update={"executor": executor, "batch": batch}))


def plain_chunks(chunks: list[Any]) -> Iterator[Any]:
    for chunk in chunks:
        print("about to yield")
        yield chunk


async def async_chunks(chunks: list[Any]) -> AsyncIterator[Any]:
    for chunk in chunks:
        print("about to yield")
        await asyncio.sleep(0)
        yield chunk


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("function", [plain_chunks, async_chunks])
@pytest.mark.parametrize("executor_type", ["standard", "cached", "streaming"])
@pytest.mark.parametrize(
    ("chunks", "joined", "told"),
    [(["a", "b\n", "c"], "ab\nc", "ab\nc"), ([1, {"x": 2}], [1, {"x": 2}], "1\n{'x': 2}\n"), ([], "", "")],
)
async def test_chunks_are_logged_and_joined_in_every_mode(
    executor: FunctionExecutor, mode: str, function: Any, executor_type: str, chunks: list[Any], joined: Any, told: str
) -> None:
    call = typed_call(function=function, args={"chunks": chunks}, mode=mode, executor=executor_type)
    assert (await executor.execute(call)).output == joined
    assert ports_of(call).text("text") == told
    assert ports_of(call).text("stdout") == "about to yield\n" * len(chunks)


@pytest.mark.parametrize("mode", ["thread", "process"])
async def test_a_chunk_is_in_the_log_before_the_next_is_made(
    executor: FunctionExecutor, tmp_path: Path, mode: str
) -> None:
    def wait(file: str) -> Iterator[str]:
        for number in range(3):
            yield f"{number} "
            while not Path(f"{file}{number}").exists():
                time.sleep(0.005)

    call = step_call(function=wait, args={"file": str(tmp_path / "go")}, mode=mode)
    task = asyncio.create_task(executor.execute(call))
    for number in range(3):
        expected = "".join(f"{each} " for each in range(number + 1))
        await until(lambda expected=expected: ports_of(call).text("text") == expected)
        (tmp_path / f"go{number}").touch()
    assert (await task).output == "0 1 2 "


@pytest.mark.parametrize("mode", MODES)
async def test_an_error_between_chunks_is_told_like_all_others(
    executor: FunctionExecutor, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "f.py").write_text("def f():\n    yield 'a'\n    raise ConnectionError('gone')\n")
    call = step_call(function="./f.py:f", folder=tmp_path, mode=mode)
    with pytest.raises(AttemptError, match="gone") as caught:
        await executor.execute(call)
    assert (caught.value.exception, caught.value.error_type) == ("ConnectionError", ErrorType.SERVER_ERROR)
    assert ports_of(call).text("text") == "a"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("function", ["f", "g"])
async def test_endless_chunks_end_with_a_message_that_says_what_to_do(
    executor: FunctionExecutor, tmp_path: Path, mode: str, function: str
) -> None:
    (tmp_path / "f.py").write_text(
        "def f():\n    while True:\n        yield 'x' * 1_000_000\n"
        "async def g():\n    while True:\n        yield 'x' * 1_000_000\n"
    )
    call = step_call(function=f"./f.py:{function}", folder=tmp_path, mode=mode, keep=False)
    with pytest.raises(AttemptError, match="more than 10,485,760 characters") as caught:
        await executor.execute(call)
    assert caught.value.error_type is ErrorType.USER_ERROR


async def test_a_generator_in_a_thread_is_closed_at_its_next_chunk_when_it_is_cancelled(
    executor: FunctionExecutor,
) -> None:
    closed = threading.Event()

    def endless() -> Iterator[str]:
        try:
            while True:
                yield "x"
                time.sleep(0.001)
        finally:
            closed.set()

    call = step_call(function=endless)
    task = asyncio.create_task(executor.execute(call))
    await until(lambda: ports_of(call).text("text"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.lingering is not None
    await asyncio.wait_for(call.lingering, 10)
    assert closed.is_set()


class Shouting(BaseFunctionExecutor):
    async def _execute_function(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        async for chunk in self.func(args, ctx):
            yield chunk.upper()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("function", [plain_chunks, async_chunks])
async def test_an_executor_of_ones_own_may_change_chunks_as_they_come(
    executor: FunctionExecutor, mode: str, function: Any
) -> None:
    FunctionExecutorFactory.register("shouting", Shouting)
    try:
        call = typed_call(function=function, args={"chunks": ["a", "b"]}, mode=mode, executor="shouting")
        assert (await executor.execute(call)).output == "AB"
    finally:
        FunctionExecutorFactory.unregister("shouting")
    assert ports_of(call).text("text") == "AB", "each chunk is there once"
