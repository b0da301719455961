"""Document 002: its examples as printed but for the import, and what its text promises of them."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from stepchain_tui.tools.executor import Executor, ToolExecutor
from stepchain_tui.tools.types import ToolCall

BASIC_SETUP = """
from toolregistry.executor import Executor

# Create executor instance
executor = Executor()

# Set execution mode
executor.set_execution_mode("process")  # or "thread"
"""

TOOL_EXECUTION = """
import json
from toolregistry.executor import Executor
from toolregistry.types import ToolCall

def get_tool_function(tool_name: str):
    \"\"\"Function to retrieve tool by name.\"\"\"
    # Implementation depends on your tool registry
    pass

# Prepare tool calls
tool_calls = [
    ToolCall(id="call_1", name="calculate", arguments='{"a": 5, "b": 3}'),
    ToolCall(id="call_2", name="multiply", arguments='{"x": 4, "y": 2}'),
]

# Execute tool calls
executor = Executor()
results = executor.execute_tool_calls(get_tool_function, tool_calls)

# Results: {"call_1": "8", "call_2": "8"}
"""

ASYNC_FUNCTION = """
import asyncio
from toolregistry.executor import Executor

async def async_calculator(a: int, b: int) -> int:
    \"\"\"Async calculation function.\"\"\"
    await asyncio.sleep(0.1)  # Simulate async work
    return a + b
"""

MODE_SELECTION = """
# Dynamic mode setting
executor.set_execution_mode("thread")  # Switch to thread mode

# Per-execution mode override
results = executor.execute_tool_calls(
    get_tool_fn,
    tool_calls,
    execution_mode="process"
)
"""

RESOURCE_MANAGEMENT = """
# Automatic cleanup on program exit
# Manual shutdown (rarely needed)
executor._shutdown_executors()
"""


def run(example: str, **names: Any) -> dict[str, Any]:
    """Run an example with only the import path changed and return its names."""
    example = example.replace("toolregistry.", "stepchain_tui.tools.")
    exec(compile(example, "document 002", "exec"), names)
    return names


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(process_workers=2) as executor:
        yield executor


def calculate(a: int, b: int) -> int:
    return a + b


def multiply(x: int, y: int) -> int:
    return x * y


def where() -> int:
    return os.getpid()


TOOLS = {"calculate": calculate, "multiply": multiply, "where": where}
CALLS = [
    ToolCall(id="call_1", name="calculate", arguments='{"a": 5, "b": 3}'),
    ToolCall(id="call_2", name="multiply", arguments='{"x": 4, "y": 2}'),
]


def test_the_basic_setup_runs_as_printed() -> None:
    names = run(BASIC_SETUP)
    assert names["executor"].execution_mode == "process"
    names["executor"].close()


def test_the_tool_execution_example_runs_as_printed_and_its_empty_resolver_knows_no_tool() -> None:
    names = run(TOOL_EXECUTION)
    assert list(names["results"]) == ["call_1", "call_2"]
    assert names["results"]["call_1"].startswith("Error: UnknownToolError: there is no tool 'calculate'")
    names["executor"].close()


def test_the_tool_execution_example_gives_the_printed_results_with_a_resolver_that_knows_them() -> None:
    names = run(TOOL_EXECUTION.replace("    pass", "    return TOOLS.get(tool_name)"), TOOLS=TOOLS)
    assert names["results"] == {"call_1": "8", "call_2": "8"}
    names["executor"].close()


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_the_async_example_is_run_as_if_it_were_sync(executor: Executor, mode: str) -> None:
    tool = run(ASYNC_FUNCTION)["async_calculator"]
    results = executor.execute_tool_calls(
        lambda name: tool, [ToolCall("call_1", "async_calculator", '{"a": 1, "b": 2}')], execution_mode=mode
    )
    assert results == {"call_1": "3"}


def test_the_mode_of_one_batch_leaves_the_default_as_it_is(executor: Executor) -> None:
    names = run(MODE_SELECTION, executor=executor, get_tool_fn=TOOLS.get, tool_calls=[ToolCall("call_1", "where")])
    assert int(names["results"]["call_1"]) != os.getpid()
    assert executor.execute_tool_calls(TOOLS.get, [ToolCall("call_1", "where")]) == {"call_1": str(os.getpid())}


def test_the_shutdown_example_may_run_twice_and_the_executor_is_used_again(executor: Executor) -> None:
    assert executor.execute_tool_calls(TOOLS.get, CALLS, "process") == {"call_1": "8", "call_2": "8"}
    for _ in range(2):
        run(RESOURCE_MANAGEMENT, executor=executor)
    assert executor.execute_tool_calls(TOOLS.get, CALLS, "process") == {"call_1": "8", "call_2": "8"}


async def test_it_works_inside_a_running_loop_and_has_an_awaitable_twin(executor: Executor) -> None:
    assert executor.execute_tool_calls(TOOLS.get, CALLS) == {"call_1": "8", "call_2": "8"}
    assert await executor.aexecute(TOOLS.get, CALLS) == {"call_1": "8", "call_2": "8"}
    assert await executor.execute_tool_calls_async(TOOLS.get, CALLS) == {"call_1": "8", "call_2": "8"}
    assert asyncio.get_running_loop().is_running()


def test_the_names_and_signatures_are_the_documents() -> None:
    parameters = inspect.signature(Executor.execute_tool_calls).parameters
    assert list(parameters)[:4] == ["self", "get_tool_fn", "tool_calls", "execution_mode"]
    assert parameters["execution_mode"].default is None
    assert list(inspect.signature(ToolCall).parameters)[:3] == ["id", "name", "arguments"]
    assert ToolExecutor is Executor


def test_results_that_are_no_json_become_text(executor: Executor) -> None:
    calls = [ToolCall("set", "make_set"), ToolCall("text", "make_text"), ToolCall("dict", "make_dict")]
    made = {"make_set": lambda: {1}, "make_text": lambda: "as it is", "make_dict": lambda: {"a": [1, None]}}
    results = executor.execute_tool_calls(made.get, calls)
    assert json.loads(results["set"]) == {"text": "{1}", "type": "set"}
    assert results["text"] == "as it is"
    assert json.loads(results["dict"]) == {"a": [1, None]}
