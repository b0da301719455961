"""Tool steps: as the engine carries them out, and as calls of their own (document 004's pattern)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tools_calls import is_gone, read_pid, until

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.tool import (
    BaseToolExecutor,
    IToolExecutor,
    ToolExecutorFactory,
    ToolSpec,
    ToolStepExecutor,
)
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.tools import StepContext, Tool, UnknownToolError
from stepchain_tui.tools.registry import shared_tools
from tests.support.engines import Bench, plan_of

CODE = '''
import os, time
from dataclasses import dataclass
from pathlib import Path
from stepchain_tui.tools import StepContext


@dataclass
class Point:
    x: int
    y: int = 0


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    print("adding")
    return a + b


def place(point: Point, tags: set[str] | None = None) -> list:
    return [type(point).__name__, point.x, point.y]


def who(word: str, ctx: StepContext) -> list:
    return [word, ctx.step_id, os.getpid()]


def fail() -> None:
    raise ConnectionError("the line is dead")


def hang(folder: str) -> None:
    Path(folder, "worker").write_text(str(os.getpid()))
    time.sleep(600)


def loose(*rest) -> None:
    pass
'''
MODES = ("inline", "thread", "process")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text(CODE)
    return tmp_path


@pytest_asyncio.fixture
async def bench(folder: Path) -> AsyncIterator[Bench]:
    async with Bench(folder=folder) as bench:
        yield bench


def tool(step_id: str, name: str, **keys: Any) -> dict[str, Any]:
    return {"id": step_id, "tool": name, **keys}


@pytest.mark.parametrize("mode", MODES)
async def test_a_tool_of_the_plan_is_called_with_converted_arguments(folder: Path, bench: Bench, mode: str) -> None:
    plan = plan_of(
        tool("sum", "add", args={"a": "2"}, mode=mode),
        tool("point", "place", args={"point": {"x": "3"}}, mode=mode),
        tool("more", "add", args={"a": "{{ steps.sum.output }}", "b": 10}, mode=mode),
        tools={"add": "./code.py:add", "place": {"function": "./code.py:place"}},
    )
    run = await bench.run(plan)
    assert run.outputs == {"sum": 3, "point": ["Point", 3, 0], "more": 13}
    assert [line.text for line in await run.log("sum")] == ["adding"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_call_is_told_as_events_with_its_times(folder: Path, bench: Bench, mode: str) -> None:
    plan = plan_of(tool("sum", "add", args={"a": 2}, mode=mode), tools={"add": "./code.py:add"})
    run = await bench.run(plan)
    names = await run.names()
    assert names.index("step.started") < names.index("tool.started") < names.index("tool.finished")
    assert names.index("tool.finished") < names.index("step.succeeded")
    started, finished = await run.events("tool.started", "tool.finished")
    assert (started.tool_name, started.arguments, started.step_id) == ("add", {"a": 2}, "sum")
    assert (finished.tool_name, finished.call_id) == ("add", started.call_id)
    assert finished.result.value == 3
    assert finished.error is None
    assert finished.execution_time >= 0
    assert (finished.cpu_time is None) is (mode == "inline")


@pytest.mark.parametrize("mode", MODES)
async def test_wrong_arguments_are_told_with_step_tool_and_field_and_nothing_is_called(
    folder: Path, bench: Bench, mode: str
) -> None:
    plan = plan_of(
        tool("unknown", "add", args={"a": 1, "bb": 2}, mode=mode, on_failure="continue"),
        tool("wrong", "add", args={"a": "two"}, mode=mode, on_failure="continue"),
        tool("missing", "add", mode=mode),
        tools={"add": "./code.py:add"},
        defaults={"retry": {"max_attempts": 3}},
    )
    run = await bench.run(plan)
    errors = {name: step.error for name, step in run.state.steps.items()}
    assert errors["unknown"].message == "step 'unknown': tool 'add': has no parameter 'bb'"
    assert errors["unknown"].hint == "did you mean 'b'?"
    assert errors["wrong"].message.startswith("step 'wrong': tool 'add': argument 'a': input should be a valid integer")
    assert errors["missing"].message == "step 'missing': tool 'add': needs 'a'"
    assert {error.error_type for error in errors.values()} == {"user_error"}
    assert not await run.log()
    failures = [event.error for event in await run.events("tool.finished")]
    assert sorted(failure.message for failure in failures) == sorted(error.message for error in errors.values())


async def test_a_function_that_cannot_be_a_tool_is_told_with_the_reason(folder: Path, bench: Bench) -> None:
    run = await bench.run(plan_of(tool("s", "loose"), tools={"loose": "./code.py:loose"}))
    error = run.state.steps["s"].error
    assert "step 's'" in error.message
    assert "loose cannot be a tool: it takes *rest" in error.message
    assert error.hint == "Give each argument a name, or take one list."


async def test_what_a_tool_raises_keeps_its_class_for_the_retry_table(folder: Path, bench: Bench) -> None:
    plan = plan_of(tool("s", "fail"), tools={"fail": "./code.py:fail"})
    run = await bench.run(plan)
    error = run.state.steps["s"].error
    assert (error.error_type, error.exception, error.message) == ("server_error", "ConnectionError", "the line is dead")
    (finished,) = await run.events("tool.finished")
    assert finished.error.message == "the line is dead"
    assert finished.result is None


async def test_the_context_is_the_steps_and_no_argument_of_the_tool(folder: Path, bench: Bench) -> None:
    plan = plan_of(
        tool("s", "who", args={"word": "hello"}),
        tool("forged", "who", args={"word": "hello", "ctx": "me"}, on_failure="continue"),
        tools={"who": "./code.py:who"},
    )
    run = await bench.run(plan)
    assert run.outputs["s"] == ["hello", "s", os.getpid()]
    assert "has no parameter 'ctx'" in run.state.steps["forged"].error.message


async def test_a_tool_says_where_it_runs_unless_the_step_does(folder: Path, bench: Bench) -> None:
    plan = plan_of(
        tool("tools_word", "who", args={"word": "a"}),
        tool("steps_word", "who", args={"word": "b"}, mode="thread"),
        tools={"who": {"function": "./code.py:who", "mode": "process"}},
        defaults={"mode": "inline"},
    )
    run = await bench.run(plan)
    assert run.outputs["tools_word"][2] != os.getpid()
    assert run.outputs["steps_word"][2] == os.getpid()


async def test_a_tool_that_is_mended_runs_mended(folder: Path, bench: Bench) -> None:
    plan = plan_of(tool("s", "fail"), tools={"fail": "./code.py:fail"})
    run = await bench.run(plan)
    assert run.statuses == {"s": "failed"}
    (folder / "code.py").write_text("def fail():\n    return 'mended'\n")
    assert (await bench.resume(run.run_id)).outputs == {"s": "mended"}


async def test_cancelling_a_step_ends_its_tool_and_tells_so(folder: Path, bench: Bench) -> None:
    plan = plan_of(tool("s", "hang", args={"folder": str(folder)}, mode="process"), tools={"hang": "./code.py:hang"})
    run = await bench.start(plan)
    worker = await until(lambda: read_pid(folder / "worker"))
    await run.tell("cancel")
    await run.end()
    assert is_gone(worker)
    assert run.statuses == {"s": "cancelled"}
    (finished,) = await run.events("tool.finished")
    assert finished.error.message == "the call was ended before it was done"


async def test_a_tool_that_took_too_long_is_counted_as_failed_by_timeout(folder: Path, bench: Bench) -> None:
    step = {"id": "s", "tool": "hang", "args": {"folder": str(folder)}, "timeout": 0.3}
    run = await bench.run(plan_of(step, tools={"hang": {"function": "./code.py:hang", "mode": "process"}}))
    assert run.statuses == {"s": "timed_out"}
    (ended,) = await run.events("tool.finished")
    assert (ended.error.error_type, "0.3 s" in ended.error.message) == ("timeout", True)
    (record,) = await bench.store.read_tools()
    assert (record.name, record.failed, record.success_rate) == ("hang", 1, 0.0)


async def test_secrets_among_the_arguments_are_stored_nowhere(
    folder: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_PASS_TOKEN", "hunter2-and-more")
    plan = plan_of(
        tool("s", "who", args={"word": "{{ secrets.THE_PASS_TOKEN }}"}, on_failure="continue"),
        tool("t", "add", args={"a": "{{ secrets.THE_PASS_TOKEN }}"}),
        tools={"who": "./code.py:who", "add": "./code.py:add"},
        secrets=["THE_PASS_TOKEN"],
    )
    run = await bench.run(plan, environment=dict(os.environ))
    assert run.statuses == {"s": "succeeded", "t": "failed"}
    assert not any("hunter2" in repr(event) for event in await run.events())


async def test_the_built_in_tool_computes_in_the_sandbox(folder: Path, bench: Bench) -> None:
    plan = plan_of(
        tool("s", "python_code", args={"code": "print('hi')\nsum(range(5))"}),
        tool("alias", "compute", args={"code": "6 * 7"}),
        tools={"compute": "python_code"},
    )
    run = await bench.run(plan)
    assert run.outputs["s"] == {"result": 10, "stdout": "hi\n"}
    assert run.outputs["alias"]["result"] == 42


@pytest.fixture
def registered() -> Iterator[Tool]:
    def greet(name: str = "you") -> str:
        return f"hello {name}"

    yield shared_tools().register(greet)
    shared_tools().unregister("greet")


async def test_a_tool_that_was_registered_in_python_may_be_called_by_plans(registered: Tool) -> None:
    async with Bench() as bench:
        run = await bench.run(plan_of(tool("s", "greet", args={"name": "Ada"})))
    assert run.outputs == {"s": "hello Ada"}


async def test_an_executor_of_ones_own_is_chosen_by_its_type(folder: Path, bench: Bench) -> None:
    class Twice(ToolStepExecutor):
        """Calls the tool twice."""

        async def _execute_tool(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
            first = await super()._execute_tool(args, ctx, timeout)
            return [first, await super()._execute_tool(args, ctx, timeout)]

    ToolExecutorFactory.register("twice", Twice)
    try:
        plan = plan_of(tool("s", "add", args={"a": 1}, executor="twice"), tools={"add": "./code.py:add"})
        run = await bench.run(plan)
        assert run.outputs == {"s": [2, 2]}
    finally:
        ToolExecutorFactory.unregister("twice")


async def test_the_factory_makes_executors_that_work_without_a_plan(registered: Tool) -> None:
    assert ToolExecutorFactory.list_executor_types() == ["standard", "default"]
    executor = ToolExecutorFactory.create_executor(ToolSpec(tool_name="greet"))
    assert isinstance(executor, IToolExecutor)
    assert isinstance(executor, BaseToolExecutor)
    assert await executor.execute({"name": "Ada"}) == "hello Ada"
    assert await executor.execute({}, StepContext(run_id="r")) == "hello you"
    with pytest.raises(AttemptError, match="tool 'greet': has no parameter 'nme'"):
        await executor.execute({"nme": "Ada"})
    await executor.close()
    await executor.close()
    with pytest.raises(UnknownToolError) as caught:
        ToolExecutorFactory.create_executor(ToolSpec(tool_name="gret"))
    assert caught.value.hint == "did you mean 'greet'?"
    with pytest.raises(UsageError, match="no tool executor of type 'fast'"):
        ToolExecutorFactory.create_executor(ToolSpec(tool_name="greet"), "fast")


async def test_without_a_plan_a_process_is_ended_when_its_time_is_over(folder: Path) -> None:
    hang = Tool("hang", "./code.py:hang", mode="process", folder=folder)
    executor = ToolExecutorFactory.create_executor(ToolSpec(tool_name="hang", timeout=2.0), tool=hang)
    assert isinstance(executor, BaseToolExecutor)
    with pytest.raises(TimeoutError, match="hang ran longer than its timeout of 2 s"):
        await executor.execute({"folder": str(folder)})
    assert is_gone(read_pid(folder / "worker"))
    await executor.close()


async def test_two_steps_with_one_tool_name_in_two_plans_call_their_own(tmp_path: Path) -> None:
    runs = []
    async with Bench(folder=tmp_path) as bench:
        for number in (1, 2):
            (tmp_path / f"code{number}.py").write_text(f"def f():\n    return {number}\n")
            plan = plan_of(tool("s", "f"), tools={"f": f"./code{number}.py:f"})
            runs.append(await bench.run(plan))
    assert [run.outputs["s"] for run in runs] == [1, 2]


async def test_many_tool_steps_at_once_share_the_pools(folder: Path, bench: Bench) -> None:
    steps = [tool(f"s{n}", "add", args={"a": n}, mode=MODES[n % 3]) for n in range(30)]
    run = await bench.run(plan_of(*steps, tools={"add": "./code.py:add"}, max_concurrent=30))
    assert run.outputs == {f"s{n}": n + 1 for n in range(30)}
