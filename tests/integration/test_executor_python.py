"""Python steps as the engine sees them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest

from stepchain_tui.executors.python import PythonExecutor
from stepchain_tui.executors.types import SkipStep, StepCall
from stepchain_tui.plan import Step
from stepchain_tui.run import AttemptError, ErrorType, Failure


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


async def test_closing_an_executor_that_did_nothing_does_nothing():
    executor = PythonExecutor()
    await executor.close()
    await executor.close()
