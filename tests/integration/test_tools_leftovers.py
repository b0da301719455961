"""Whoever takes a dead owner's run over ends what it left, and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tools_calls import is_gone, read_pid

from stepchain_tui.tools import end_leftovers
from stepchain_tui.tools.wire import OWNER_VARIABLE


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def start(started: list[subprocess.Popen[bytes]], command: str, marked: bool = True) -> dict[str, Any]:
    environment = {**os.environ, OWNER_VARIABLE: "1"} if marked else dict(os.environ)
    process = subprocess.Popen(["sh", "-c", command], start_new_session=True, env=environment)
    started.append(process)
    created = psutil.Process(process.pid).create_time()
    return {"pid": process.pid, "process_group": process.pid, "process_started_at": created}


def wait_for(path: Path) -> int:
    deadline = time.monotonic() + 30
    while not (pid := read_pid(path)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return pid


def test_a_leader_and_its_children_are_ended_even_when_they_ignore_term(
    started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    child_file = tmp_path / "child"
    inner = f"trap '' TERM; echo $$ > {child_file}; while :; do sleep 1; done"
    record = start(started, f"trap '' TERM; sh -c \"{inner.replace('$', chr(92) + '$')}\" & wait; sleep 600")
    child = wait_for(child_file)
    before = time.monotonic()
    (ended,) = end_leftovers([record])
    assert time.monotonic() - before < 4
    assert {record["pid"], child} <= set(ended["ended"])
    assert is_gone(record["pid"])
    assert is_gone(child)


def test_children_of_a_leader_that_is_gone_are_ended(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    record = start(started, f"sleep 600 & echo $! > {tmp_path}/child; read _ < {tmp_path}/gate")
    child = wait_for(tmp_path / "child")
    os.kill(record["pid"], signal.SIGKILL)
    started[0].wait()
    (ended,) = end_leftovers([record])
    assert ended["ended"] == [child]
    assert is_gone(child)


def test_a_pid_that_is_somebody_elses_now_is_left_alone(started: list[subprocess.Popen[bytes]]) -> None:
    record = start(started, "sleep 600")
    record["process_started_at"] -= 60
    assert end_leftovers([record]) == []
    assert not is_gone(record["pid"])


def test_a_group_without_leader_and_without_our_mark_is_left_alone(
    started: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    record = start(started, f"sleep 600 & echo $! > {tmp_path}/child; read _ < {tmp_path}/gate", marked=False)
    child = wait_for(tmp_path / "child")
    os.kill(record["pid"], signal.SIGKILL)
    started[0].wait()
    assert end_leftovers([record]) == []
    assert not is_gone(child)


def test_our_own_group_and_records_from_before_the_start_of_the_machine_are_left_alone() -> None:
    own = {"pid": os.getpid(), "process_group": os.getpgrp(), "process_started_at": psutil.Process().create_time()}
    assert end_leftovers([own, {"pid": 1, "process_group": 1, "process_started_at": time.time()}]) == []
    assert end_leftovers([{"pid": 4_000_000, "process_group": 4_000_000, "process_started_at": 1.0}]) == []


def test_what_an_owner_killed_in_the_middle_of_its_steps_left_is_ended(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(
        f"""
import asyncio, json, os, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from tools_calls import ports_of, step_call
from stepchain_tui.executors.function import FunctionExecutor
from stepchain_tui.executors.shell import ShellExecutor
from stepchain_tui.tools import Pools

folder = Path({str(tmp_path)!r})

def hang(folder):
    child = subprocess.Popen(["sleep", "600"])
    (folder / "function").write_text(str(child.pid))
    time.sleep(600)

async def main():
    workers = []
    pools = Pools(on_workers_changed=lambda found: workers.extend(found))
    shell = step_call(shell=f"sleep 600 & echo $! > {{folder}}/shell; wait")
    asyncio.create_task(ShellExecutor().execute(shell))
    call = step_call(function=hang, args={{"folder": folder}}, mode="process")
    asyncio.create_task(FunctionExecutor(pools).execute(call))
    while not ((folder / "function").exists() and (folder / "shell").exists()):
        await asyncio.sleep(0.01)
    names = ("pid", "process_group", "process_started_at")
    records = workers + [dict(zip(names, record)) for record in ports_of(shell).processes]
    (folder / "records.json").write_text(json.dumps(records))
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run([sys.executable, str(script)], env=environment, timeout=60).returncode == -9
    import json

    records = json.loads((tmp_path / "records.json").read_text())
    assert len(records) == 2
    end_leftovers(records)
    assert is_gone(wait_for(tmp_path / "function"))
    assert is_gone(wait_for(tmp_path / "shell"))
    assert all(is_gone(record["pid"]) for record in records)
    assert end_leftovers(records) == []
