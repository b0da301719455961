"""Python steps as the engine sees them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import psutil
import pytest

from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.python import PythonExecutor
from stepchain_tui.executors.types import SkipStep, StepCall
from stepchain_tui.plan import Step
from stepchain_tui.run import AttemptError, ErrorType, Failure
from tests.support.command_line import CommandLine


class Ports:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.lines: list[tuple[str, str]] = []
        self.first = asyncio.Event()

    def log(self, stream: str, text: str) -> None:
        raise AssertionError("the sandbox prints on a thread")

    def log_from_thread(self, stream: str, text: str) -> None:
        self.lines.append((stream, text))
        self.loop.call_soon_threadsafe(self.first.set)

    async def spawned(self, pid: int, process_group: int, process_started_at: float) -> None:
        raise AssertionError("the worker is the pool's, not the attempt's")

    def model_turn(self, **turn: Any) -> None:
        raise AssertionError("no model here")

    def begun(self) -> None: ...

    def warn(self, text: str) -> None:
        raise AssertionError(text)


@pytest.fixture
async def executor():
    executor = PythonExecutor()
    yield executor
    await executor.close()


def call_for(code: str, args: dict[str, Any] | None = None, timeout: float | None = 30, **step: Any) -> StepCall:
    return StepCall(
        run_id="r",
        step=Step(id="total", python=code, **step),
        attempt=1,
        item=None,
        value=code,
        args=args or {},
        options={},
        mode="process",
        timeout=timeout,
        environment={},
        cwd=Path.cwd(),
        plan_folder=Path.cwd(),
        ports=Ports(),
    )


async def test_the_output_is_the_value_of_the_last_expression(executor):
    call = call_for("print('adding', len(values))\nsum(values)", {"values": [1, 2, 3]})
    outcome = await executor.execute(call)
    assert outcome.output == 6
    assert call.ports.lines == [("stdout", "adding 3\n")]


async def test_a_failure_carries_the_sandboxs_traceback_with_the_steps_name(executor):
    with pytest.raises(AttemptError) as caught:
        await executor.execute(call_for("def share(n):\n    return 1 / n\nshare(0)"))
    record = Failure.of(caught.value, caught.value.error_type)
    assert (record.error_type, record.exception) == (ErrorType.TOOL_ERROR, "ZeroDivisionError")
    assert record.message == "division by zero (line 2, column 12)"
    assert 'File "total", line 2, in share' in record.traceback
    assert "runner.py" not in record.traceback


async def test_a_mistake_in_the_code_is_not_tried_again(executor):
    with pytest.raises(AttemptError) as caught:
        await executor.execute(call_for("sum(values"))
    assert caught.value.error_type is ErrorType.USER_ERROR


async def test_the_steps_timeout_is_the_sandboxs(executor):
    with pytest.raises(AttemptError) as caught:
        await executor.execute(call_for("while True:\n    pass", timeout=0.2))
    assert caught.value.error_type is ErrorType.TIMEOUT


async def test_cancelling_the_step_ends_its_process(executor):
    call = call_for("import time\nprint('began')\ntime.sleep(0.01)\nwhile True:\n    pass")
    task = asyncio.create_task(executor.execute(call))
    await asyncio.wait_for(call.ports.first.wait(), 30)
    [pid] = executor.runner.worker_pids()
    process = psutil.Process(pid)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not process.is_running()
    assert (await executor.execute(call_for("1"))).output == 1


async def test_where_bubblewrap_is_not_installed_its_steps_are_refused_or_skipped_with_the_reason(
    executor, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AttemptError, match="'bwrap' cannot be used here: bubblewrap is not installed") as caught:
        await executor.execute(call_for("1", engine="bwrap"))
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert "apt install bubblewrap" in caught.value.hint
    with pytest.raises(SkipStep, match="bubblewrap is not installed"):
        await executor.execute(call_for("1", engine="bwrap", optional=True))


class HeldPorts(Ports):
    """What an attempt's process tells: on the loop, and its process first."""

    def __init__(self) -> None:
        super().__init__()
        self.spawns: list[tuple[int, int, float]] = []
        self.durable = asyncio.Event()
        self.durable.set()

    def log(self, stream: str, text: str) -> None:
        self.log_from_thread(stream, text)

    async def spawned(self, pid: int, process_group: int, process_started_at: float) -> None:
        self.spawns.append((pid, process_group, process_started_at))
        self.first.set()
        await self.durable.wait()


def bwrap_call(code: str, args: dict[str, Any] | None = None, timeout: float | None = 30) -> StepCall:
    call = call_for(code, args, timeout, engine="bwrap")
    call.ports = HeldPorts()
    return call


FULL_PYTHON = """
import asyncio, enum, statistics
from dataclasses import dataclass

class Base:
    def name(self):
        return type(self).__name__

class Child(Base):
    def __init__(self, values):
        self.values = values
    def doubled(self):
        yield from (2 * value for value in self.values)

@dataclass
class Found:
    name: str
    mean: float

child = Child(values)
print("of", child.name())
await asyncio.sleep(0)
Found(child.name(), statistics.mean(child.doubled()))
"""


@pytest.mark.needs("bwrap")
async def test_bwrap_has_all_of_python(executor):
    call = bwrap_call(FULL_PYTHON, {"values": [1, 2, 3]})
    assert (await executor.execute(call)).output == {"name": "Child", "mean": 4}
    assert call.ports.lines == [("stdout", "of Child\n")]


@pytest.mark.needs("bwrap")
async def test_bwrap_has_the_packages_that_are_installed_here(executor):
    code = "import pydantic\nclass P(pydantic.BaseModel):\n    x: int\nP(x='3').x, pydantic.VERSION"
    import pydantic

    assert (await executor.execute(bwrap_call(code))).output == [3, pydantic.VERSION]


@pytest.mark.needs("bwrap")
async def test_nothing_of_the_code_runs_before_its_process_is_durable(executor):
    call = bwrap_call("print('ran')\n1")
    call.ports.durable.clear()
    task = asyncio.create_task(executor.execute(call))
    await asyncio.wait_for(call.ports.first.wait(), 30)
    [(pid, group, started_at)] = call.ports.spawns
    assert pid == group
    assert psutil.Process(pid).create_time() == started_at
    for _ in range(100):
        await asyncio.sleep(0)
    assert call.ports.lines == []
    call.ports.durable.set()
    assert (await task).output == 1
    assert call.ports.lines == [("stdout", "ran\n")]


@pytest.mark.needs("bwrap")
async def test_an_attempt_that_ends_before_its_process_is_durable_leaves_no_process(executor):
    call = bwrap_call("1")
    call.ports.durable.clear()
    task = asyncio.create_task(executor.execute(call))
    await asyncio.wait_for(call.ports.first.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(call.ports.spawns[0][0])


@pytest.mark.needs("bwrap")
async def test_cancelling_a_step_ends_all_of_its_processes(executor):
    call = bwrap_call("import os, time\nfor _ in range(3):\n    os.fork()\nprint('began')\ntime.sleep(600)")
    task = asyncio.create_task(executor.execute(call))
    while not call.ports.lines:
        await asyncio.sleep(0.005)
    family = psutil.Process(call.ports.spawns[0][0]).children(recursive=True)
    assert len(family) >= 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [process for process in family if process.is_running()]


@pytest.mark.needs("bwrap")
async def test_a_failure_in_bwrap_points_into_the_code(executor):
    with pytest.raises(AttemptError) as caught:
        await executor.execute(bwrap_call("def share(n):\n    return 1 / n\nshare(0)"))
    record = Failure.of(caught.value, caught.value.error_type)
    assert (record.error_type, record.exception) == (ErrorType.TOOL_ERROR, "ZeroDivisionError")
    assert record.message == "division by zero (line 2, column 12)"
    assert record.details == {"line": 2, "column": 12, "source": "return 1 / n"}
    assert 'File "total", line 2, in share' in record.traceback
    assert "inside" not in record.traceback


@pytest.mark.needs("bwrap")
@pytest.mark.parametrize(
    ("code", "exception", "error_type", "words"),
    [
        ("x = (", "SyntaxError", "user_error", "(line 1, column 5)"),
        ("total + 1", "NameError", "user_error", "'total' is not defined (line 1, column 1)"),
        ("'a' + 1", "TypeError", "user_error", "(line 1, column 1)"),
        ("import no_such_package", "ModuleNotFoundError", "user_error", "no_such_package"),
        ("open('/etc/shadow')", "FileNotFoundError", "tool_error", "/etc/shadow"),
        ("open('/usr/x', 'w')", "OSError", "tool_error", "Read-only"),
        ("raise TimeoutError('late')", "TimeoutError", "timeout", "late"),
        ("raise ValueError('no')", "ValueError", "tool_error", "no (line 1, column 1)"),
    ],
)
async def test_errors_in_bwrap_are_classified(executor, code, exception, error_type, words):
    with pytest.raises(AttemptError, match=re.escape(words)) as caught:
        await executor.execute(bwrap_call(code))
    assert (caught.value.exception, caught.value.error_type) == (exception, error_type)
    assert caught.value.hint


@pytest.mark.needs("bwrap")
async def test_bwrap_refuses_names_that_are_none(executor):
    with pytest.raises(AttemptError, match="'two words' cannot be a name"):
        await executor.execute(bwrap_call("1", {"two words": 1}))


@pytest.mark.needs("bwrap")
async def test_a_large_argument_travels_whole(executor):
    text = "x" * 5_000_000
    assert (await executor.execute(bwrap_call("len(text)", {"text": text}))).output == 5_000_000


@pytest.mark.needs("bwrap")
async def test_twenty_steps_run_side_by_side(executor):
    calls = [executor.execute(bwrap_call("n * n", {"n": n})) for n in range(20)]
    assert [outcome.output for outcome in await asyncio.gather(*calls)] == [n * n for n in range(20)]


@pytest.mark.needs("bwrap")
async def test_closing_ends_what_runs_in_bwrap(executor):
    call = bwrap_call("import time\nprint('began')\ntime.sleep(600)")
    task = asyncio.create_task(executor.execute(call))
    while not call.ports.lines:
        await asyncio.sleep(0.005)
    await executor.close()
    with pytest.raises(AttemptError, match="was closed"):
        await task
    assert not psutil.pid_exists(call.ports.spawns[0][0])
    with pytest.raises(UsageError):
        await executor.execute(bwrap_call("1"))


BROKEN = "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"


async def test_where_namespaces_are_forbidden_the_reason_is_bubblewraps_own(executor, monkeypatch, tmp_path):
    program = tmp_path / "bwrap"
    program.write_text(BROKEN)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(AttemptError, match="No permissions to create new namespace") as caught:
        await executor.execute(bwrap_call("1"))
    assert caught.value.error_type is ErrorType.USER_ERROR
    program.write_text(BROKEN.replace("No permissions", "ASKED AGAIN"))
    with pytest.raises(AttemptError, match="No permissions"):
        await executor.execute(bwrap_call("1"))


async def test_closing_an_executor_that_did_nothing_does_nothing():
    executor = PythonExecutor()
    await executor.close()
    await executor.close()


# --- whole runs


PLAN = """
steps:
  - id: numbers
    python: "class N(int):\\n    pass\\nprint('in full Python')\\n[int(N(n)) for n in (n for n in range(4))]"
    engine: bwrap
  - id: total
    python: "sum(numbers)"
    args: {numbers: "{{ steps.numbers.output }}"}
"""
ENDLESS = """
steps:
  - id: loop
    python: "import time\\nprint('began')\\ntime.sleep(600)"
    engine: bwrap
"""


@pytest.fixture
def typed(tmp_path):
    command_line = CommandLine(tmp_path)
    yield command_line
    command_line.end()


@pytest.mark.needs("bwrap")
def test_a_plan_may_choose_bwrap(typed):
    typed.write("plan.yaml", PLAN)
    answer = typed("run", "plan.yaml", "--run-id", "r", "--json")
    assert answer.code == 0, answer.err
    spawned = [event["step_id"] for event in answer.events if event["type"] == "step.spawned"]
    assert spawned == ["numbers"]
    outputs = {step["id"]: step["output"] for step in typed.show("r")["steps"]}
    assert outputs == {"numbers": [0, 1, 2, 3], "total": 6}
    assert "in full Python" in typed("logs", "r", "numbers").out


def test_a_plan_that_chooses_bwrap_where_there_is_none_fails_with_the_reason(typed, tmp_path):
    typed.write("plan.yaml", PLAN)
    (tmp_path / "bin").mkdir()
    answer = typed("run", "plan.yaml", "--run-id", "r", env={"PATH": str(tmp_path / "bin")})
    assert answer.code == 1
    [numbers, total] = typed.show("r")["steps"]
    assert numbers["error_type"] == "user_error"
    assert "bubblewrap is not installed" in str(numbers["error"])
    assert total["status"] == "blocked"


@pytest.mark.needs("bwrap")
def test_after_a_kill_9_of_the_run_nothing_of_its_sandbox_is_left(typed):
    typed.write("plan.yaml", ENDLESS)
    process = typed.start("run", "plan.yaml", "--run-id", "r", "--json")
    event = typed.until(process, "step.spawned", "loop")
    sandbox = psutil.Process(event["pid"])
    family = [sandbox, *sandbox.children(recursive=True)]
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=4)
    assert not alive
    assert typed.show("r")["status"] == "interrupted"
