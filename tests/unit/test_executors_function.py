"""Function executors called directly, without a plan: document 004's classes and what they promise."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from stepchain_tui.core.clock import FakeClock
from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.base import CallTimeoutError
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.function import (
    BaseFunctionExecutor,
    BatchingFunctionExecutor,
    CachedFunctionExecutor,
    FunctionExecutorFactory,
    FunctionToolExecutor,
    IFunctionExecutor,
    StreamingFunctionExecutor,
    ToolSpec,
)
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import StepContext

SPEC = ToolSpec(tool_name="double")


async def double(args: dict[str, Any], ctx: Any) -> int:
    await asyncio.sleep(0)
    return args["x"] * 2


def plain_double(args: dict[str, Any], ctx: Any) -> int:
    assert threading.current_thread() is not threading.main_thread()
    return args["x"] * 2


async def async_chunks(args: dict[str, Any], ctx: Any) -> AsyncIterator[Any]:
    for chunk in args["chunks"]:
        await asyncio.sleep(0)
        yield chunk


def plain_chunks(args: dict[str, Any], ctx: Any) -> Iterator[Any]:
    assert threading.current_thread() is not threading.main_thread()
    yield from args["chunks"]


class Callable:
    async def __call__(self, args: dict[str, Any], ctx: Any) -> int:
        return args["x"] * 2

    def method(self, args: dict[str, Any], ctx: Any) -> int:
        return args["x"] * 2


@pytest.mark.parametrize(
    "function",
    [double, plain_double, functools.partial(double), functools.partial(plain_double), Callable(), Callable().method],
)
@pytest.mark.parametrize("name", ["standard", "default", "cached", "streaming"])
async def test_functions_of_every_make_are_called_with_args_and_context(function: Any, name: str) -> None:
    executor = FunctionExecutorFactory.create_executor(SPEC, function, executor_type=name)
    assert isinstance(executor, IFunctionExecutor)
    assert isinstance(executor, BaseFunctionExecutor)
    assert await executor.execute({"x": 5}) == 10
    assert await executor.execute({"x": 6}, None) == 12


def test_an_executor_has_its_spec_and_its_function() -> None:
    executor = FunctionToolExecutor(SPEC, double)
    assert executor.spec is SPEC
    assert executor.func is double
    assert FunctionToolExecutor(SPEC, plain_double).func == plain_double


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(UsageError, match="double: func must be a function, this is int"):
        FunctionToolExecutor(SPEC, 4)  # type: ignore[arg-type]


async def test_args_must_be_a_mapping() -> None:
    with pytest.raises(UsageError, match="args must be a mapping, this is list"):
        await FunctionToolExecutor(SPEC, double).execute([1])  # type: ignore[arg-type]


async def test_what_a_function_raises_comes_as_it_is_and_is_counted() -> None:
    async def fail(args: Any, ctx: Any) -> None:
        raise KeyError("x")

    executor = FunctionToolExecutor(SPEC, fail)
    with pytest.raises(KeyError, match="x"):
        await executor.execute({})
    assert (executor.metrics.calls, executor.metrics.failed, executor.metrics.succeeded) == (1, 1, 0)


async def test_a_function_over_its_time_is_cancelled_for_real() -> None:
    seen: list[str] = []

    async def sleep(args: Any, ctx: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    executor = FunctionToolExecutor(ToolSpec(tool_name="sleep", timeout=0.01), sleep)
    with pytest.raises(CallTimeoutError, match=r"sleep ran longer than its timeout of 0.01 s") as caught:
        await executor.execute({})
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.error_type is ErrorType.TIMEOUT
    assert seen == ["cancelled"]


async def test_a_plain_function_over_its_time_is_asked_to_stop() -> None:
    asked, started = threading.Event(), threading.Event()

    def wait(args: Any, ctx: CallContext) -> None:
        started.set()
        while not ctx.cancelled:
            asked.wait(0.002)
        asked.set()

    with pytest.raises(CallTimeoutError):
        await FunctionToolExecutor(ToolSpec(tool_name="wait", timeout=0.05), wait).execute({})
    assert not started.is_set() or await asyncio.to_thread(asked.wait, 10)


async def test_a_function_gets_the_callers_context_or_one_of_its_own() -> None:
    async def who(args: Any, ctx: Any) -> Any:
        return ctx

    executor = FunctionToolExecutor(SPEC, who)
    mine = {"user": "me"}
    assert await executor.execute({}, mine) is mine
    known = StepContext(step_id="s", secrets={"TOKEN": "t"})
    assert await executor.execute({}, known) is known
    own = await executor.execute({})
    assert isinstance(own, CallContext)
    assert (own.run_id, own.step_id, own.cancelled) == ("", "", False)


# --- streaming


@pytest.mark.parametrize("function", [async_chunks, plain_chunks])
@pytest.mark.parametrize("name", ["standard", "streaming"])
@pytest.mark.parametrize(
    ("chunks", "joined", "told"),
    [(["a", "b", "c"], "abc", ["a", "b", "c"]), ([1, {"a": 2}], [1, {"a": 2}], ["1\n", "{'a': 2}\n"]), ([], "", [])],
)
async def test_chunks_are_told_in_order_and_joined(
    function: Any, name: str, chunks: list[Any], joined: Any, told: list[str]
) -> None:
    seen: list[str] = []
    executor = FunctionExecutorFactory.create_executor(SPEC, function, executor_type=name)
    assert await executor.execute({"chunks": chunks}, StepContext(write=seen.append)) == joined
    assert seen == told


async def test_a_chunk_is_told_before_the_next_is_made() -> None:
    seen: list[str] = []

    async def three(args: Any, ctx: Any) -> AsyncIterator[str]:
        for number in range(3):
            assert seen == [str(each) for each in range(number)]
            yield str(number)

    await StreamingFunctionExecutor(SPEC, three).execute({}, StepContext(write=seen.append))
    assert seen == ["0", "1", "2"]


@pytest.mark.parametrize("function", [async_chunks, plain_chunks])
async def test_stream_gives_the_chunks_to_the_caller(function: Any) -> None:
    executor = StreamingFunctionExecutor(SPEC, function)
    assert [chunk async for chunk in executor.stream({"chunks": [1, "b", None]})] == [1, "b", None]


@pytest.mark.parametrize("function", [double, plain_double])
async def test_stream_of_a_plain_value_is_one_chunk(function: Any) -> None:
    assert [chunk async for chunk in StreamingFunctionExecutor(SPEC, function).stream({"x": 2})] == [4]


async def test_a_generator_that_is_not_read_on_is_closed() -> None:
    closed = threading.Event()

    def endless(args: Any, ctx: Any) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    chunks = StreamingFunctionExecutor(SPEC, endless).stream({})
    assert await anext(chunks) == 1
    await chunks.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(closed.wait, 10)


@pytest.mark.parametrize("make", ["async", "plain"])
async def test_endless_chunks_end_with_a_message_that_says_what_to_do(make: str) -> None:
    closed = threading.Event()

    async def endless(args: Any, ctx: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "x" * 1_000_000
        finally:
            closed.set()

    def plain(args: Any, ctx: Any) -> Iterator[str]:
        try:
            while True:
                yield "x" * 1_000_000
        finally:
            closed.set()

    with pytest.raises(AttemptError, match="more than 10,485,760 characters") as caught:
        await FunctionToolExecutor(SPEC, endless if make == "async" else plain).execute({})
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert "file" in caught.value.hint
    assert await asyncio.to_thread(closed.wait, 10)


@pytest.mark.parametrize("function", ["async", "plain"])
async def test_an_error_between_chunks_comes_as_it_is(function: str) -> None:
    async def broken(args: Any, ctx: Any) -> AsyncIterator[str]:
        yield "a"
        raise ValueError("no more")

    def plain(args: Any, ctx: Any) -> Iterator[str]:
        yield "a"
        raise ValueError("no more")

    seen: list[str] = []
    with pytest.raises(ValueError, match="no more"):
        await FunctionToolExecutor(SPEC, broken if function == "async" else plain).execute(
            {}, StepContext(write=seen.append)
        )
    assert seen == ["a"]


# --- cached


class Counted:
    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    async def __call__(self, args: dict[str, Any], ctx: Any) -> Any:
        self.calls.append(args)
        if args.get("fail"):
            raise OSError("not now")
        return {"calls": [len(self.calls)]}


async def test_a_second_call_does_not_run_the_function_until_the_result_is_too_old() -> None:
    clock, function = FakeClock(), Counted()
    executor = CachedFunctionExecutor(SPEC, function, clock=clock)
    assert executor.cache_ttl == 300
    first = await executor.execute({"x": 1})
    clock.advance(299)
    assert await executor.execute({"x": 1}) == first
    assert len(function.calls) == 1
    clock.advance(2)
    assert await executor.execute({"x": 1}) == {"calls": [2]}


async def test_the_age_may_be_set_before_the_first_call() -> None:
    clock, function = FakeClock(), Counted()
    executor = CachedFunctionExecutor(SPEC, function, clock=clock)
    executor.cache_ttl = 10
    await executor.execute({})
    clock.advance(11)
    await executor.execute({})
    assert len(function.calls) == 2


async def test_errors_are_not_kept() -> None:
    function = Counted()
    executor = CachedFunctionExecutor(SPEC, function)
    for _ in range(2):
        with pytest.raises(OSError, match="not now"):
            await executor.execute({"fail": True})
    assert len(function.calls) == 2


async def test_a_caller_cannot_spoil_what_another_gets() -> None:
    executor = CachedFunctionExecutor(SPEC, Counted())
    for _ in range(3):
        result = await executor.execute({})
        assert result == {"calls": [1]}
        result["calls"].append("mine")


def key(args: dict[Any, Any]) -> str:
    return CachedFunctionExecutor(SPEC, double)._generate_cache_key(args)


def test_the_key_is_that_of_the_document() -> None:
    assert key({"b": 1, "a": "x"}) == str(sorted({"a": "x", "b": 1}.items()))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": {"x": 1, "y": [1, {"p": 1, "q": 2}]}}, {"a": {"y": [1, {"q": 2, "p": 1}], "x": 1}}),
        ({"a": {3, 1, 2}}, {"a": {1, 2, 3}}),
        ({1: "a", "b": 2, None: 3}, {None: 3, "b": 2, 1: "a"}),
    ],
)
def test_the_order_of_arguments_does_not_count(one: dict[Any, Any], other: dict[Any, Any]) -> None:
    assert key(one) == key(other)


def test_arguments_that_differ_have_other_keys() -> None:
    args = [{"a": 1}, {"a": True}, {"a": "1"}, {"a": 1.0}, {"a": [1]}, {"a": (1,)}, {"a": {"a": 1}}, {"a": None}, {}]
    assert len({key(each) for each in args}) == len(args)


async def test_arguments_that_cannot_be_compared_are_never_found_again() -> None:
    function = Counted()
    executor = CachedFunctionExecutor(SPEC, function)
    around: list[Any] = []
    around.append(around)
    for args in ({"lock": threading.Lock()}, {"around": around}):
        function.calls.clear()
        await executor.execute(args)
        await executor.execute(args)
        assert len(function.calls) == 2


async def test_the_cache_is_bounded() -> None:
    executor = CachedFunctionExecutor(SPEC, double, cache_size=3)
    for number in range(10):
        await executor.execute({"x": number})
    assert len(executor.cache) == 3


async def test_chunks_are_kept_joined() -> None:
    executor = CachedFunctionExecutor(SPEC, async_chunks)
    assert [await executor.execute({"chunks": ["a", "b"]}) for _ in range(2)] == ["ab", "ab"]


# --- batching


def batching(function: Any, batch_size: int = 5, max_wait: float = 30) -> BatchingFunctionExecutor:
    return BatchingFunctionExecutor(ToolSpec(tool_name="score", batch_size=batch_size, max_wait=max_wait), function)


class Batches:
    def __init__(self, give: Any = None) -> None:
        self.seen: list[list[Any]] = []
        self.give = give

    async def __call__(self, batch: list[dict[str, Any]], ctx: Any) -> Any:
        self.seen.append([args["x"] for args in batch])
        return self.give(batch) if self.give else [args["x"] * 10 for args in batch]


async def test_ten_calls_are_two_batches_of_five() -> None:
    function = Batches()
    executor = batching(function)
    results = await asyncio.gather(*(executor.execute({"x": number}) for number in range(10)))
    assert results == [number * 10 for number in range(10)]
    assert function.seen == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


async def test_five_is_the_size_unless_the_spec_says_another() -> None:
    function = Batches()
    executor = FunctionExecutorFactory.create_executor(SPEC, function, executor_type="batching")
    await asyncio.gather(*(executor.execute({"x": number}) for number in range(10)))
    assert [len(batch) for batch in function.seen] == [5, 5]


async def test_a_group_that_is_not_full_is_called_after_its_wait() -> None:
    function = Batches()
    executor = batching(function, max_wait=0.01)
    assert await asyncio.gather(executor.execute({"x": 1}), executor.execute({"x": 2})) == [10, 20]
    assert function.seen == [[1, 2]]


async def test_a_plain_function_and_a_generator_can_take_batches() -> None:
    def plain(batch: list[Any], ctx: Any) -> tuple[int, ...]:
        return tuple(args["x"] for args in batch)

    async def chunks(batch: list[Any], ctx: Any) -> AsyncIterator[str]:
        for args in batch:
            yield str(args["x"])

    for function, expected in ((plain, [1, 2]), (chunks, ["1", "2"])):
        executor = batching(function, batch_size=2)
        assert await asyncio.gather(executor.execute({"x": 1}), executor.execute({"x": 2})) == expected


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda batch: [1], "score returned 1 results for a batch of 2 calls"),
        (lambda batch: [1] * 3, "score returned 3 results for a batch of 2 calls"),
        (lambda batch: "ab", "score returned a str for a batch of 2 calls"),
        (lambda batch: None, "score returned a NoneType for a batch of 2 calls"),
        (lambda batch: {1: 1, 2: 2}, "score returned a dict for a batch of 2 calls"),
    ],
)
async def test_a_wrong_number_of_results_fails_the_group_and_no_other(give: Any, message: str) -> None:
    function = Batches(lambda batch: give(batch) if batch[0]["x"] == 0 else [0] * len(batch))
    executor = batching(function, batch_size=2)
    calls = (executor.execute({"x": number}) for number in range(4))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(result) for result in results[:2]] == [message] * 2
    assert isinstance(results[0], AttemptError)
    assert results[0].error_type is ErrorType.USER_ERROR
    assert results[2:] == [0, 0]


async def test_a_group_that_fails_fails_its_own_calls_only() -> None:
    def give(batch: list[Any]) -> list[int]:
        if batch[0]["x"] == 0:
            raise ConnectionError("gone")
        return [0] * len(batch)

    executor = batching(Batches(give), batch_size=2)
    calls = (executor.execute({"x": number}) for number in range(4))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionError, ConnectionError, int, int]
    assert results[0].__notes__ == ["in a batch of 2 calls of score"]  # type: ignore[union-attr]


async def test_a_cancelled_call_leaves_the_others_of_its_group() -> None:
    go_on = asyncio.Event()

    async def slow(batch: list[Any], ctx: Any) -> list[Any]:
        await go_on.wait()
        return [args["x"] for args in batch]

    executor = batching(slow, batch_size=2)
    tasks = [asyncio.create_task(executor.execute({"x": number})) for number in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks[0].cancel()
    go_on.set()
    assert await tasks[1] == 1
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


async def test_when_all_calls_of_a_group_are_cancelled_its_work_is_too() -> None:
    seen, started = [], asyncio.Event()

    async def slow(batch: list[Any], ctx: Any) -> list[Any]:
        try:
            started.set()
            await asyncio.sleep(60)
        finally:
            seen.append("ended")
        return []

    executor = batching(slow, batch_size=2)
    tasks = [asyncio.create_task(executor.execute({"x": number})) for number in range(2)]
    await started.wait()
    for task in tasks:
        task.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True))
    assert seen == ["ended"], "before the cancellation went on"


async def test_a_call_that_is_cancelled_while_it_waits_is_not_in_the_group() -> None:
    function = Batches()
    executor = batching(function, batch_size=2)
    first = asyncio.create_task(executor.execute({"x": 1}))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await asyncio.gather(executor.execute({"x": 2}), executor.execute({"x": 3})) == [20, 30]
    assert function.seen == [[2, 3]]


async def test_closing_gives_up_what_waits_and_runs() -> None:
    executor = batching(Batches())
    waiting = asyncio.create_task(executor.execute({"x": 1}))
    await asyncio.sleep(0)
    await executor.close()
    await executor.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"batch_size": 0}, "batch_size is 0"), ({"batch_size": "5"}, "'5'"), ({"max_wait": -1}, "max_wait is -1")],
)
def test_a_size_or_a_wait_that_cannot_be_meant_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BatchingFunctionExecutor(ToolSpec(tool_name="score", **wrong), double)


# --- one's own


async def test_a_hook_may_return_yield_or_await() -> None:
    class Returns(BaseFunctionExecutor):
        def _execute_function(self, args: Any, ctx: Any, timeout: float | None) -> Any:
            return timeout

    class Yields(BaseFunctionExecutor):
        async def _execute_function(self, args: Any, ctx: Any, timeout: float | None) -> Any:
            async for chunk in self.func(args, ctx):
                yield chunk.upper()

    class YieldsPlainly(BaseFunctionExecutor):
        def _execute_function(self, args: Any, ctx: Any, timeout: float | None) -> Any:
            yield from args["chunks"]

    assert await Returns(ToolSpec(tool_name="x", timeout=7), double).execute({}) == 7
    for function in (async_chunks, plain_chunks):
        assert await Yields(SPEC, function).execute({"chunks": ["a", "b"]}) == "AB"
    assert await YieldsPlainly(SPEC, double).execute({"chunks": [1, 2]}) == [1, 2]


def test_a_spec_without_a_name_is_refused() -> None:
    with pytest.raises(UsageError, match="tool_name: Field required") as caught:
        ToolSpec()
    assert "tool_name" in caught.value.hint
