"""Calls of tools: side by side, checked before the function is called, told in four fields."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any

import pydantic
import pytest

from stepchain_tui.agents import AgentRegistry, StepExecutor, ValidationError
from stepchain_tui.tools import StepContext

PATIENCE = 10.0
FIELDS = {"tool_name", "result", "error", "execution_time"}


class Tools:
    """Tools that keep what they were called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def add(self, a: int, b: int = 2) -> int:
        self.calls.append((a, b))
        return a + b

    async def search(self, query: str, limit: int | None = None) -> dict[str, Any]:
        self.calls.append((query, limit))
        return {"query": query, "limit": limit}

    def fail(self) -> None:
        self.calls.append("fail")
        raise ValueError("it broke")


@pytest.fixture
def tools() -> Tools:
    return Tools()


@pytest.fixture
def executor(tools: Tools) -> StepExecutor:
    made = StepExecutor(AgentRegistry())
    for name in ("add", "search", "fail"):
        made.register_tool(name, getattr(tools, name))
    return made


async def called(executor: StepExecutor, *calls: Any, **context: Any) -> list[dict[str, Any]]:
    results = await executor.execute_tool_calls(list(calls), context)
    for result in results:
        assert set(result) == FIELDS
        assert result["execution_time"] >= 0
        assert result["error"] is None or result["result"] is None
    await executor.close()
    return results


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


# --- what is registered


def test_a_tool_is_kept_with_its_function_its_schema_and_whether_it_is_async(executor: StepExecutor) -> None:
    schema = {"type": "object"}
    executor.register_tool("later", asyncio.sleep, schema)
    assert executor._tool_registry["later"] == {"func": asyncio.sleep, "schema": schema, "is_async": True}
    assert executor._tool_registry["add"]["is_async"] is False
    assert executor.list_tools() == ["add", "fail", "later", "search"]


@pytest.mark.parametrize(
    ("name", "function", "schema", "told"),
    [
        ("", len, None, "name"),
        ("x", 3, None, "int, not a function"),
        ("x", len, "string", "no form"),
        ("x", len, {"type": "nothing"}, "JSON schema"),
    ],
)
def test_what_is_no_tool_is_refused_when_it_is_registered(
    executor: StepExecutor, name: str, function: Any, schema: Any, told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        executor.register_tool(name, function, schema)


# --- how calls are carried out


@pytest.mark.parametrize(
    "written",
    [
        {"name": "add", "arguments": {"a": 1, "b": 5}},
        {"name": "add", "arguments": '{"a": 1, "b": 5}'},
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 5}'}},
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 5}}},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1, "b": 5}'},
        SimpleNamespace(name="add", arguments={"a": 1, "b": 5}),
        SimpleNamespace(id="c1", function=SimpleNamespace(name="add", arguments='{"a": 1, "b": 5}')),
    ],
    ids=["mapping", "text", "openai", "openai mapping", "responses", "object", "nested object"],
)
async def test_a_call_may_be_written_in_every_usual_form(executor: StepExecutor, written: Any) -> None:
    (result,) = await called(executor, written)
    assert (result["tool_name"], result["result"], result["error"]) == ("add", 6, None)


async def test_calls_overlap_and_their_results_keep_their_order(executor: StepExecutor) -> None:
    threads, loops = threading.Barrier(3), asyncio.Barrier(3)

    def in_thread(number: int) -> int:
        threads.wait(PATIENCE)
        return number

    async def on_loop(number: int) -> int:
        async with asyncio.timeout(PATIENCE):
            await loops.wait()
        return number

    executor.register_tool("in_thread", in_thread)
    executor.register_tool("on_loop", on_loop)
    names = ["in_thread", "on_loop"] * 3
    results = await called(executor, *(call(name, number=number) for number, name in enumerate(names)))
    assert [(result["tool_name"], result["result"]) for result in results] == list(zip(names, range(6), strict=True))


async def test_a_failing_call_does_not_sink_the_others(executor: StepExecutor) -> None:
    first, failed, last = await called(executor, call("add", a=1), call("fail"), call("search", query="q"))
    assert (first["result"], last["result"]) == (3, {"query": "q", "limit": None})
    assert failed["error"] == "ValueError: it broke"


async def test_a_blocking_tool_does_not_hold_up_the_loop(executor: StepExecutor) -> None:
    turned = threading.Event()

    def wait() -> bool:
        return turned.wait(PATIENCE)

    executor.register_tool("wait", wait)
    asyncio.get_running_loop().call_soon(turned.set)
    (result,) = await called(executor, call("wait"))
    assert result["result"] is True


async def test_a_call_that_hangs_ends_at_its_limit_and_is_asked_to_stop(executor: StepExecutor) -> None:
    stopped = threading.Event()

    def hang(ctx: StepContext) -> None:
        for _ in range(2_000):
            if ctx.cancelled:
                stopped.set()
                return
            threading.Event().wait(0.005)

    executor.register_tool("hang", hang)
    hanging, fine = await called(executor, call("hang"), call("add", a=1), timeout=0.05)
    assert hanging["error"] == "TimeoutError: tool 'hang' took longer than 0.05 s"
    assert fine["result"] == 3
    assert stopped.wait(PATIENCE)


@pytest.mark.parametrize("error", [SystemExit(1), asyncio.CancelledError(), StopIteration(), MemoryError()])
@pytest.mark.parametrize("is_async", [True, False])
async def test_nothing_that_a_tool_raises_ends_its_caller(
    executor: StepExecutor, error: BaseException, is_async: bool
) -> None:
    def end() -> None:
        raise error

    async def end_later() -> None:
        raise error

    executor.register_tool("end", end_later if is_async else end)
    ended, fine = await called(executor, call("end"), call("add", a=1))
    assert ended["error"]
    assert fine["result"] == 3


async def test_a_tool_cannot_change_the_arguments_of_its_caller(executor: StepExecutor) -> None:
    async def change(rows: list[int]) -> list[int]:
        rows.append(3)
        return rows

    executor.register_tool("change", change)
    written = call("change", rows=[1, 2])
    (result,) = await called(executor, written)
    assert (result["result"], written) == ([1, 2, 3], call("change", rows=[1, 2]))


async def test_no_calls_give_no_results(executor: StepExecutor) -> None:
    assert await called(executor) == []


# --- what is wrong with a call


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"name": "serach", "arguments": {}}, ["no tool 'serach'", "did you mean 'search'?"]),
        (call("add", a="many"), ["argument 'a'", "integer", "'many'"]),
        (call("add"), ["needs 'a'"]),
        (call("add", a=1, c=2), ["no parameter 'c'"]),
        (call("add", a=1, bb=2), ["no parameter 'bb'", "did you mean 'b'?"]),
        ({"name": "add", "arguments": '{"a": 1'}, ["arguments of add", "no JSON"]),
        ({"name": "add", "arguments": "[1]"}, ["arguments of add", "no JSON object but list"]),
        ({"name": "add", "arguments": 3}, ["arguments of add", "int"]),
        ({"arguments": {"a": 1}}, ["needs a name"]),
        ("add", ["needs a name"]),
        (None, ["needs a name"]),
    ],
)
async def test_a_wrong_call_names_what_is_wrong_and_calls_nothing(
    executor: StepExecutor, tools: Tools, written: Any, told: list[str]
) -> None:
    (result,) = await called(executor, written)
    for words in told:
        assert words in result["error"]
    assert tools.calls == []


class Limits(pydantic.BaseModel):
    a: int = pydantic.Field(ge=0)
    b: int = 2


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "object", "properties": {"a": {"minimum": 0}}}, "add: arguments: a: expected minimum 0, got int -1"),
        (Limits, "add: arguments: a: expected greater than or equal to 0, got int -1"),
        ({"a": bool}, "add: arguments: a: expected bool, got int -1"),
    ],
)
async def test_a_tools_own_schema_is_held_before_its_function_is_called(
    executor: StepExecutor, tools: Tools, schema: Any, path: str
) -> None:
    executor.register_tool("add", tools.add, schema)
    (result,) = await called(executor, call("add", a=-1))
    assert result["error"].startswith(path)
    assert tools.calls == []


async def test_large_and_odd_results_come_back_as_they_are(executor: StepExecutor) -> None:
    marker = object()

    async def give(what: str) -> Any:
        return {"large": "x" * 1_000_000, "object": marker, "none": None}[what]

    executor.register_tool("give", give)
    large, odd, none = await called(executor, *(call("give", what=what) for what in ("large", "object", "none")))
    assert len(large["result"]) == 1_000_000
    assert odd["result"] is marker
    assert (none["result"], none["error"]) == (None, None)


async def test_results_of_json_values_can_be_kept(executor: StepExecutor) -> None:
    results = await called(executor, call("add", a=1), call("nothing"))
    assert [entry["tool_name"] for entry in json.loads(json.dumps(results))] == ["add", "nothing"]
