"""The pools under hard conditions: workers that die, hang, flood, and owners that are killed."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tools_calls import LoopWatch, is_gone, ports_of, read_pid, step_call, until

from stepchain_tui.executors.function import FunctionExecutor
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import Pools


@pytest_asyncio.fixture
async def pools() -> AsyncIterator[Pools]:
    pools = Pools(process_workers=2)
    yield pools
    await pools.close()


@pytest.fixture
def executor(pools: Pools) -> FunctionExecutor:
    return FunctionExecutor(pools)


def add(a: int, b: int = 1) -> int:
    return a + b


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda: os._exit(3), "ended with exit code 3"),
        (lambda: os._exit(0), "ended with exit code 0"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL"),
        (lambda: ctypes.string_at(0), "was killed by SIGSEGV"),
    ],
)
async def test_a_worker_that_dies_fails_only_its_own_call(executor: FunctionExecutor, how: Any, words: str) -> None:
    def slow() -> str:
        time.sleep(0.3)
        return "fine"

    beside = asyncio.create_task(executor.execute(step_call(function=slow, mode="process")))
    with pytest.raises(AttemptError, match=words) as caught:
        await executor.execute(step_call(function=how, mode="process"))
    assert caught.value.error_type is ErrorType.TOOL_ERROR
    assert caught.value.details["pid"] > 0
    assert caught.value.hint
    assert (await beside).output == "fine"
    assert (await executor.execute(step_call(function=add, args={"a": 1}, mode="process"))).output == 2


async def test_an_idle_worker_that_is_killed_costs_nothing(executor: FunctionExecutor, pools: Pools) -> None:
    await executor.execute(step_call(function=add, args={"a": 1}, mode="process"))
    (worker,) = pools.processes.workers
    os.kill(worker["pid"], signal.SIGKILL)
    await until(lambda: not pools.processes.workers)
    assert (await executor.execute(step_call(function=add, args={"a": 1}, mode="process"))).output == 2


def _stubborn(folder: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    Path(folder, "child").write_text(str(child.pid))
    Path(folder, "worker").write_text(str(os.getpid()))
    while True:
        time.sleep(1)


async def test_cancel_ends_a_function_that_ignores_term_with_its_children(
    executor: FunctionExecutor, tmp_path: Path
) -> None:
    call = step_call(function=_stubborn, args={"folder": str(tmp_path)}, mode="process")
    task = asyncio.create_task(executor.execute(call))
    worker = await until(lambda: read_pid(tmp_path / "worker"))
    child = read_pid(tmp_path / "child")
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 4
    assert is_gone(worker)
    assert is_gone(child)


async def test_cancel_lets_a_function_in_a_process_clean_up(executor: FunctionExecutor, tmp_path: Path) -> None:
    def careful(folder: str) -> None:
        try:
            Path(folder, "started").write_text("1")
            time.sleep(60)
        finally:
            Path(folder, "cleaned").write_text("yes")

    task = asyncio.create_task(
        executor.execute(step_call(function=careful, args={"folder": str(tmp_path)}, mode="process"))
    )
    await until(lambda: read_pid(tmp_path / "started"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "cleaned").read_text() == "yes"


async def test_a_queued_call_that_is_cancelled_takes_no_worker(executor: FunctionExecutor, pools: Pools) -> None:
    busy = [asyncio.create_task(executor.execute(step_call(function=_nap, mode="process"))) for _ in range(2)]
    queued = asyncio.create_task(executor.execute(step_call(function=_nap, mode="process")))
    await until(lambda: len(pools.processes.workers) == 2)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    await asyncio.gather(*busy)
    assert len(pools.processes.workers) == 2


def _nap() -> None:
    time.sleep(0.3)


async def test_output_belongs_to_the_call_that_printed_it(executor: FunctionExecutor) -> None:
    def count(name: str) -> None:
        for number in range(200):
            print(name, number)

    calls = [
        step_call(function=count, args={"name": f"{mode}{index}"}, mode=mode)
        for mode in ("thread", "process")
        for index in range(4)
    ]
    await asyncio.gather(*(executor.execute(call) for call in calls))
    for call in calls:
        assert ports_of(call).text() == "".join(f"{call.args['name']} {number}\n" for number in range(200))


@pytest.mark.parametrize("mode", ["thread", "process"])
async def test_a_hundred_megabytes_of_print_pass_without_piling_up(executor: FunctionExecutor, mode: str) -> None:
    def flood() -> None:
        line = "x" * 999
        for _ in range(100_000):
            print(line)

    call = step_call(function=flood, mode=mode, keep=False)
    before = _memory()
    async with LoopWatch() as watch:
        await executor.execute(call)
    assert ports_of(call).characters == 100_000_000
    assert ports_of(call).largest <= 1_100_000
    assert _memory() - before < 50_000_000
    assert watch.longest < 0.5


def _memory() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


async def test_workers_are_reported_before_their_first_call_and_when_they_end(tmp_path: Path) -> None:
    reports: list[list[int]] = []

    async def changed(workers: list[dict[str, Any]]) -> None:
        reports.append([worker["pid"] for worker in workers])
        await asyncio.sleep(0.05)
        (tmp_path / "durable").touch()

    pools = Pools(process_workers=1, on_workers_changed=lambda workers: changed(workers))
    executor = FunctionExecutor(pools)
    call = step_call(
        function=lambda file: [Path(file).exists(), os.getpid()],
        args={"file": str(tmp_path / "durable")},
        mode="process",
    )
    durable, pid = (await executor.execute(call)).output
    assert durable
    assert reports == [[pid]]
    await pools.close()
    await pools.close()
    assert reports == [[pid], []]
    assert is_gone(pid)


async def test_processes_start_where_the_terminal_app_has_taken_stderr(
    executor: FunctionExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Captured:
        def fileno(self) -> int:
            return -1

        def write(self, text: str) -> int:
            return len(text)

        def flush(self) -> None: ...

    monkeypatch.setattr(sys, "stderr", Captured())
    monkeypatch.setattr(sys, "stdout", Captured())
    assert (await executor.execute(step_call(function=add, args={"a": 1}, mode="process"))).output == 2


def test_functions_run_inside_the_running_app(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from textual.app import App
from tools_calls import ports_of, step_call
from stepchain_tui.executors.function import FunctionExecutor
from stepchain_tui.tools import Pools

def speak(mode):
    print("from", mode)
    return mode

class Host(App):
    async def on_mount(self):
        pools, seen = Pools(process_workers=1), [sys.stderr.fileno()]
        for mode in ("inline", "thread", "process"):
            call = step_call(function=speak, args={{"mode": mode}}, mode=mode)
            seen.append((await FunctionExecutor(pools).execute(call)).output + ": " + ports_of(call).text())
        await pools.close()
        self.exit(seen)

print(Host().run(headless=True))
"""
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    expected = [-1, "inline: from inline\n", "thread: from thread\n", "process: from process\n"]
    assert eval(done.stdout.splitlines()[-1]) == expected


SCRIPT = """
import asyncio, os, sys, threading
from pathlib import Path
sys.path.insert(0, {tests!r})
from tools_calls import step_call
from stepchain_tui.executors.function import FunctionExecutor
from stepchain_tui.tools import Pools

print("imported", os.getpid(), flush=True)
FACTOR = 3

class Shape:
    def __init__(self, size): self.size = size

def helper(shape): return shape.size * FACTOR

def work(shape): return [helper(shape), os.getpid(), __name__]

def hang():
    import subprocess, time
    child = subprocess.Popen(["sleep", "600"])
    print("pids", os.getpid(), child.pid, flush=True)
    Path({folder!r}, "worker").write_text(str(os.getpid()))
    Path({folder!r}, "child").write_text(str(child.pid))
    time.sleep(600)

async def main():
    pools = Pools(process_workers=1)
    executor = FunctionExecutor(pools)
    if sys.argv[1:] == ["hang"]:
        await executor.execute(step_call(function=hang, mode="process"))
    print((await executor.execute(step_call(function=work, args={{"shape": Shape(4)}}, mode="process"))).output)
    if sys.argv[1:] != ["leave"]:
        await pools.close()

asyncio.run(main())
"""


def _script(folder: Path) -> Path:
    file = folder / "script.py"
    file.write_text(textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), folder=str(folder)))
    return file


@pytest.mark.parametrize("how", ["close", "leave"])
def test_a_script_needs_no_main_guard(tmp_path: Path, how: str) -> None:
    done = subprocess.run(
        [sys.executable, str(_script(tmp_path)), how],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    own = int(first.split()[1])
    value, pid = eval(second)[:2]
    assert value == 12
    assert pid != own
    _wait_gone([pid])


def test_when_the_owner_is_killed_no_worker_outlives_it(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, str(_script(tmp_path)), "hang"],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    deadline = time.monotonic() + 30
    while not read_pid(tmp_path / "child"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    owner.kill()
    owner.wait()
    _wait_gone([read_pid(tmp_path / "worker")])
    child = read_pid(tmp_path / "child")
    if not is_gone(child):  # the kernel may end the worker before it could end its group: whoever takes over does
        os.kill(child, signal.SIGKILL)


def _wait_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while not all(map(is_gone, pids)):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.01)


def test_a_function_that_hangs_in_a_thread_does_not_hold_up_the_end(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import asyncio, sys, threading
sys.path.insert(0, {str(Path(__file__).parent)!r})
from tools_calls import step_call
from stepchain_tui.executors.function import FunctionExecutor
from stepchain_tui.tools import Pools

started = threading.Event()

def hang():
    started.set()
    threading.Event().wait()

async def main():
    pools = Pools()
    task = asyncio.create_task(FunctionExecutor(pools).execute(step_call(function=hang)))
    while not started.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    print("stuck", len(pools.threads.stuck))
    await pools.close()

asyncio.run(main())
"""
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stuck 1\n", "")


async def test_more_calls_than_threads_wait_for_one() -> None:
    pools = Pools(threads=2)
    gate, running, most = threading.Event(), [0], [0]
    lock = threading.Lock()

    def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        gate.wait(30)
        with lock:
            running[0] -= 1

    executor = FunctionExecutor(pools)
    tasks = [asyncio.create_task(executor.execute(step_call(function=work))) for _ in range(6)]
    await until(lambda: running[0] == 2)
    gate.set()
    await asyncio.gather(*tasks)
    assert most == [2]
    await pools.close()


async def test_closing_ends_what_still_runs_in_a_process(tmp_path: Path) -> None:
    pools = Pools(process_workers=1)
    call = step_call(function=_stubborn, args={"folder": str(tmp_path)}, mode="process")
    task = asyncio.create_task(FunctionExecutor(pools).execute(call))
    worker = await until(lambda: read_pid(tmp_path / "worker"))
    started = time.monotonic()
    await asyncio.gather(pools.close(), pools.close())
    assert time.monotonic() - started < 4
    assert is_gone(worker)
    assert is_gone(read_pid(tmp_path / "child"))
    with pytest.raises(AttemptError, match="was killed by SIGKILL"):
        await task
    with pytest.raises(RuntimeError, match="closed"):
        await FunctionExecutor(pools).execute(step_call(function=add, args={"a": 1}, mode="process"))
