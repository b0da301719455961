"""Tools that start processes, call other tools, or fail in odd ways leave nothing behind and nobody waiting."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from stepchain_tui.executors.function import FunctionExecutorFactory, ToolSpec
from stepchain_tui.tools.executor import Executor
from stepchain_tui.tools.types import ToolCall
from tests.support.command_line import PATIENCE, environment

OWNER = """
import subprocess, sys
from stepchain_tui.tools.executor import Executor
from stepchain_tui.tools.types import ToolCall

def work(path: str, busy: bool) -> None:
    child = subprocess.Popen(["sleep", "4321"])
    open(path, "w").write(f"{child.pid}\\n")
    while True:
        if not busy:
            __import__("time").sleep(1)

executor = Executor(mode="process")
arguments = {"path": sys.argv[1], "busy": sys.argv[2] == "busy"}
executor.execute_tool_calls(lambda _: work, [ToolCall("1", "work", arguments)])
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("state", ["busy", "idle"])
def test_what_a_tool_started_ends_with_its_owner(tmp_path: Path, state: str, how: signal.Signals) -> None:
    (tmp_path / "owner.py").write_text(OWNER)
    told = tmp_path / "child"
    owner = subprocess.Popen([sys.executable, "owner.py", str(told), state], cwd=tmp_path, env=environment())
    try:
        end = time.monotonic() + PATIENCE
        while not (told.exists() and told.read_text().endswith("\n")):
            assert time.monotonic() < end
            assert owner.poll() is None
            time.sleep(0.01)
        child = psutil.Process(int(told.read_text()))
    finally:
        owner.send_signal(how)
        owner.wait(PATIENCE)
    end = time.monotonic() + PATIENCE
    while _lives(child):
        assert time.monotonic() < end, "the child of the tool lives on"
        time.sleep(0.01)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_as_many_tools_as_there_are_threads_may_call_tools_themselves() -> None:
    count = 70
    with Executor() as executor:
        barrier = threading.Barrier(64)

        def inner(number: int) -> int:
            return number * 2

        def outer(number: int) -> int:
            if number < 64:
                barrier.wait(PATIENCE)
            answer = executor.execute_tool_calls(lambda _: inner, [ToolCall("i", "inner", {"number": number})])
            return int(answer["i"])

        calls = [ToolCall(str(number), "outer", {"number": number}) for number in range(count)]
        results = executor.execute_tool_calls(lambda _: outer, calls)
    assert results == {str(number): str(number * 2) for number in range(count)}


class Odd(BaseException):
    pass


async def test_a_batch_that_ends_in_an_odd_way_fails_all_its_calls() -> None:
    def fails(batch: list[dict[str, int]], ctx: object) -> list[int]:
        raise Odd("odd")

    executor = FunctionExecutorFactory.create_executor(ToolSpec(tool_name="t"), fails, executor_type="batching")
    calls = [executor.execute({"number": number}, None) for number in range(3)]
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), PATIENCE)
    assert all(isinstance(result, BaseException) for result in results)


async def test_a_result_that_cannot_be_copied_is_given_and_not_kept() -> None:
    called = []

    async def opens(args: dict[str, int], ctx: object) -> dict[str, object]:
        called.append(os.getpid())
        return {"lock": threading.Lock()}

    executor = FunctionExecutorFactory.create_executor(ToolSpec(tool_name="t"), opens, executor_type="cached")
    for _ in range(2):
        assert "lock" in await executor.execute({"a": 1}, None)
    assert len(called) == 2
