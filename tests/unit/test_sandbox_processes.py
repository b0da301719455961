"""The sandbox's processes at the ends of their owner: a normal one, a hasty one, kill -9 and ctrl+c."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

HEAD = """
import asyncio, os, signal, sys, threading
from stepchain_tui.sandbox import MontyRunner
"""
NORMAL = """
async def main():
    runner = MontyRunner()
    await asyncio.gather(*(runner.run("x + 1", {"x": n}, timeout=60) for n in range(8)))
    await runner.close()
asyncio.run(main())
"""
HASTY = """
async def main():
    await asyncio.gather(*(MontyRunner().run("x + 1", {"x": n}, timeout=60) for n in range(3)))
asyncio.run(main())
"""
ABANDONED = """
async def main():
    runner, began = MontyRunner(), asyncio.Event()
    loop = asyncio.get_running_loop()
    code = "print(1)\\nwhile True:\\n    pass"
    asyncio.create_task(runner.run(code, on_print=lambda *_: loop.call_soon_threadsafe(began.set)))
    await began.wait()
asyncio.run(main())
"""
BUSY = """
def told(stream, text):
    print(*runner.worker_pids(), flush=True)
async def main():
    global runner
    runner = MontyRunner()
    await runner.run("import time\\nprint(1)\\ntime.sleep(0.01)\\n" + sys.argv[1], on_print=told, timeout=600)
asyncio.run(main())
"""
INTERRUPTED = """
async def main():
    runner, began = MontyRunner(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: loop.call_later(0.1, began.set))
    code = "print(1)\\nfor n in range(10):\\n    sum(range(300000))\\n'whole'"
    told = lambda *_: os.killpg(0, signal.SIGINT)
    print(await runner.run(code, on_print=told), flush=True)
    await began.wait()
    await runner.close()
asyncio.run(main())
"""

BUSY_IN_BWRAP = """
from stepchain_tui.sandbox import BwrapRunner
from stepchain_tui.sandbox.bubblewrap import Bubblewrap, candidate
def told(stream, text):
    print(text, end="", flush=True)
async def spawned(pid, group, started_at):
    print(pid, flush=True)
    if sys.argv[3] == "held":
        await asyncio.Event().wait()
async def main():
    way = candidate()
    if sys.argv[2] == "namespace":
        way = Bubblewrap(way.program, as_root=False)
    runner = BwrapRunner(way=way)
    share = 0.05 if sys.argv[3] == "share" else None
    code = "print('began')\\n" + sys.argv[1]
    await runner.run(code, on_print=told, on_spawned=spawned, timeout=600, cpu_limit=share)
asyncio.run(main())
"""


def start(script: str, *arguments: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HEAD + script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize("script", [NORMAL, HASTY, ABANDONED], ids=["normal", "hasty", "abandoned"])
def test_short_processes_end_with_exit_code_0_and_say_nothing(script):
    """Processes that used pydantic_monty's asynchronous pool died with SIGABRT here, one in four."""
    processes = [start(script) for _ in range(20)]
    ends = [(process.communicate(timeout=110), process.returncode) for process in processes]
    assert ends == [(("", ""), 0)] * 20


@pytest.mark.parametrize("code", ["while True:\n    pass", "sum(range(10 ** 15))", "import time\ntime.sleep(600)"])
def test_after_a_kill_9_of_the_owner_its_workers_end(code):
    with start(BUSY, code) as owner:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        workers = [psutil.Process(pid) for pid in pids]
        owner.kill()
    assert pids
    gone, alive = psutil.wait_procs(workers, timeout=4)
    assert not alive
    assert len(gone) == len(pids)


def tree_of(pid: int, size: int, status: str = "") -> list[psutil.Process]:
    """Return a process and all below it, once they are `size` and, where one is given, one has the status."""
    deadline = time.monotonic() + 20
    while True:
        top = psutil.Process(pid)
        found = [top, *top.children(recursive=True)]
        if len(found) >= size and (not status or status in {process.status() for process in found}):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.005)


@pytest.mark.needs("bwrap")
@pytest.mark.parametrize("way", ["own user", "namespace"])
@pytest.mark.parametrize(
    "code",
    [
        "while True:\n    pass",
        "import os, signal, time\nfor number in (1, 2, 13, 15):\n    signal.signal(number, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n    os.setsid()\ntime.sleep(600)",
    ],
    ids=["loop", "family"],
)
def test_after_a_kill_9_of_the_owner_nothing_of_a_bubblewrap_sandbox_is_left(code, way):
    with start(BUSY_IN_BWRAP, code, way, "") as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert owner.stdout.readline() == "began\n"
        processes = tree_of(pid, 4 if "fork" in code else 3)
        owner.kill()
    _, alive = psutil.wait_procs(processes, timeout=4)
    assert not alive


@pytest.mark.needs("bwrap")
def test_what_is_held_to_its_share_at_that_moment_ends_too():
    with start(BUSY_IN_BWRAP, "while True:\n    pass", "", "share") as owner:
        assert owner.stdout is not None
        processes = tree_of(int(owner.stdout.readline()), 3, psutil.STATUS_STOPPED)
        owner.kill()
    _, alive = psutil.wait_procs(processes, timeout=4)
    assert not alive


@pytest.mark.needs("bwrap")
def test_code_whose_owner_dies_before_its_process_is_known_never_runs():
    with start(BUSY_IN_BWRAP, "", "", "held") as owner:
        assert owner.stdout is not None
        processes = tree_of(int(owner.stdout.readline()), 2)
        owner.kill()
        _, alive = psutil.wait_procs(processes, timeout=4)
        assert not alive
        assert owner.stdout.read() == ""


def test_a_ctrl_c_of_the_terminal_is_ours_to_answer_and_does_not_crash_a_snippet():
    process = start(INTERRUPTED, start_new_session=True)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "whole\n", "")


def test_the_guard_leaves_a_process_alone_that_has_another_name():
    from stepchain_tui.sandbox.guard import WorkerGuard

    other = subprocess.Popen(["/bin/sleep", "60"])
    guard = WorkerGuard()
    guard.watch(other.pid)
    guard.close()
    assert other.poll() is None
    other.kill()
    other.wait()


def test_the_guard_forgets_what_has_ended(tmp_path):
    from stepchain_tui.sandbox.guard import WorkerGuard

    named = tmp_path / "monty-like"
    os.symlink("/bin/sleep", named)
    kept, forgotten = (subprocess.Popen([str(named), "60"]) for _ in range(2))
    while any("monty" not in psutil.Process(process.pid).name() for process in (kept, forgotten)):
        time.sleep(0.001)
    guard = WorkerGuard()
    for process in (kept, forgotten):
        guard.watch(process.pid)
    guard.forget(forgotten.pid)
    guard.close()
    guard.close()
    assert kept.wait(timeout=10) == -signal.SIGKILL
    assert forgotten.poll() is None
    forgotten.kill()
    forgotten.wait()


def test_the_guard_ends_a_whole_group_whose_leader_has_gone():
    from stepchain_tui.sandbox.guard import WorkerGuard

    leader = subprocess.Popen(
        ["/bin/sh", "-c", "trap '' TERM; sleep 60 & echo $!"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    guard = WorkerGuard()
    guard.watch(-leader.pid)
    assert leader.stdout is not None
    left = psutil.Process(int(leader.stdout.readline()))
    leader.wait()
    leader.stdout.close()
    guard.close()
    _, alive = psutil.wait_procs([left], timeout=10)
    assert alive == []
