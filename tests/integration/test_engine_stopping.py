"""Rule 8 with real processes and threads: timeout, cancel and pause-now stop the work for real."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from stepchain_tui.core.settings import Settings
from stepchain_tui.run import RunState
from tests.support.engines import PATIENCE, Bench, Watched, plan_of, shell
from tests.support.world import World

TREE = "sleep 300 & echo $! > child; trap '' TERM; echo $$ > self; touch ready; while :; do sleep 300; done"
"""A command with a child, that does not listen to TERM."""
SLEEPER = """
import subprocess, time, os, pathlib
def sleep(folder):
    folder = pathlib.Path(folder)
    child = subprocess.Popen(["sleep", "300"])
    (folder / "child").write_text(str(child.pid))
    (folder / "self").write_text(str(os.getpid()))
    (folder / "ready").touch()
    time.sleep(300)
"""
ENDLESS = "import time\nprint('ready')\ntime.sleep(0.001)\nwhile True:\n    pass"
"""A snippet; what it prints comes out when it rests."""
GONE_WITHIN = 4.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    return tmp_path


def sleeping(kind: str, folder: Path, **keys: Any) -> dict[str, Any]:
    if kind == "shell":
        return shell("a", TREE, **keys)
    return {"id": "a", "function": "./sleeper.py:sleep", "args": {"folder": str(folder)}, "mode": "process", **keys}


async def appears(path: Path) -> None:
    async with asyncio.timeout(20):
        while not path.exists():
            await asyncio.sleep(0.01)


def pids(folder: Path) -> list[int]:
    return [int((folder / name).read_text()) for name in ("self", "child")]


def sandbox_workers() -> set[int]:
    return {child.pid for child in psutil.Process().children() if child.name() == "monty" and alive(child.pid)}


async def nothing_is_held(bench: Bench, folder: Path) -> None:
    """Return when the processes of the step are gone and its slots are free."""
    async with asyncio.timeout(PATIENCE):
        while bench.engine.core.slots.taken or any(map(alive, pids(folder))):
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("kind", ["shell", "process"])
@pytest.mark.parametrize("how", ["cancel step", "cancel", "pause now", "close"])
async def test_a_process_and_its_children_are_gone_when_their_step_was_stopped(
    kind: str, how: str, folder: Path
) -> None:
    async with Bench(folder=folder) as bench:
        run = await bench.start(plan_of(sleeping(kind, folder)))
        await appears(folder / "ready")
        begin = time.monotonic()
        if how == "cancel step":
            await run.tell("cancel", step="a")
        elif how == "cancel":
            await run.tell("cancel")
        elif how == "pause now":
            await run.tell("pause", now=True)
        else:
            await bench.engine.interrupt("its engine ended")
        await nothing_is_held(bench, folder)
        assert time.monotonic() - begin < GONE_WITHIN
        status = await run.end()
        expected = {"cancel step": "failed", "cancel": "cancelled", "pause now": "paused", "close": "interrupted"}
        assert status == expected[how]
        attempt = run.state.steps["a"].last
        assert attempt.status == ("cancelled" if how.startswith("cancel") else "interrupted")
        await run.check()


@pytest.mark.parametrize("kind", ["shell", "process"])
async def test_a_timeout_ends_the_process_and_its_children(kind: str, folder: Path) -> None:
    async with Bench(folder=folder) as bench:
        run = await bench.start(plan_of(sleeping(kind, folder, timeout=1.0 if kind == "shell" else 2.0)))
        await appears(folder / "ready")
        await run.until_status("a", "timed_out")
        assert not any(map(alive, pids(folder)))
        assert bench.engine.core.slots.taken == 0
        assert run.state.steps["a"].error.error_type == "timeout"
        assert await run.end() == "failed"


@pytest.mark.parametrize("kind", ["shell", "process"])
@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_a_slot_is_free_for_the_next_step_only_when_the_processes_of_the_last_one_are_gone(
    kind: str, how: str, folder: Path
) -> None:
    world, seen = World(), list[bool]()
    world.will("next", lambda: seen.extend(map(alive, pids(folder))))
    limit = {} if how == "cancel" else {"timeout": 1.0 if kind == "shell" else 2.0}
    plan = plan_of(sleeping(kind, folder, **limit), world.step("next"), max_concurrent=1)
    async with Bench(folder=folder) as bench:
        run = await bench.start(plan)
        await appears(folder / "ready")
        assert world.count("next") == 0
        if how == "cancel":
            await run.tell("cancel", step="a")
        await run.until_status("next", "succeeded")
        assert seen == [False, False]
        assert await run.end() == "failed"
        assert bench.engine.core.slots.taken == 0


async def test_a_snippet_that_is_called_off_computes_no_longer_when_its_slot_is_free() -> None:
    world, seen = World(), list[set[int]]()
    before = sandbox_workers()
    world.will("next", lambda: seen.append(sandbox_workers() - before))
    plan = plan_of({"id": "a", "python": ENDLESS}, world.step("next"), max_concurrent=1)
    async with Bench() as bench:
        run = await bench.start(plan)
        await run.until_status("a", "running")
        await bench.engine.core.recorder.settle()
        async with asyncio.timeout(PATIENCE):
            while not await run.log("a"):
                await asyncio.sleep(0.01)
        assert sandbox_workers() - before
        await run.tell("cancel", step="a")
        await run.until_status("next", "succeeded")
        assert seen == [set()]
        assert await run.end() == "failed"
        assert bench.engine.core.slots.taken == 0


async def test_the_process_of_an_attempt_is_stored_before_its_command_runs(folder: Path) -> None:
    async with Bench(folder=folder) as bench:
        run = await bench.start(plan_of(shell("a", "echo $$ > self; touch ready; sleep 300")))
        await appears(folder / "ready")
        spawned = (await run.events("step.spawned"))[0]
        assert spawned.pid == int((folder / "self").read_text())
        await run.tell("cancel")
        await run.end()


# --- threads


class Stuck:
    """Gates of threads that listen to nobody."""

    def __init__(self) -> None:
        self.gates: list[threading.Event] = []

    def gate(self) -> threading.Event:
        self.gates.append(threading.Event())
        return self.gates[-1]


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    made = Stuck()
    yield made
    for gate in made.gates:
        gate.set()


async def test_a_thread_keeps_its_slot_until_it_ends(stuck: Stuck) -> None:
    world, gate = World(), stuck.gate()
    world.will("a", gate)
    async with Bench() as bench:
        plan = plan_of(world.thread_step("a", timeout=0.2), world.step("b"), max_concurrent=1)
        run = await bench.start(plan)
        await run.until_status("a", "timed_out")
        await run.until_status("b", "queued")
        assert world.running == ["a"]
        notes = [line.text for line in await run.log("a") if line.stream == "engine"]
        assert any("cannot be stopped" in note for note in notes)
        gate.set()
        assert await run.end() == "failed"
        assert run.statuses == {"a": "timed_out", "b": "succeeded"}
        assert world.ended == ["a", "b"]
        assert bench.engine.core.slots.taken == 0


async def test_a_stuck_thread_that_is_tried_again_gives_every_slot_back(stuck: Stuck) -> None:
    world, first, second = World(), stuck.gate(), stuck.gate()
    world.will("a", first, second, "ok")
    async with Bench(settings=Settings(max_running=4)) as bench:
        step = world.thread_step("a", timeout=0.2, retry={"max_attempts": 3, "initial_delay": 0}, limit="x")
        run = await bench.start(plan_of(step, limits={"x": 3}, max_concurrent=3))
        await run.until_status("a", "succeeded")
        assert world.running == ["a", "a"]
        assert bench.engine.core.slots.taken == 2
        first.set()
        second.set()
        assert await run.end() == "succeeded"
        assert bench.engine.core.slots.taken == 0
        await run.check()


async def test_pause_now_waits_for_a_stuck_thread(stuck: Stuck) -> None:
    world, gate = World(), stuck.gate()
    world.will("a", gate)
    async with Bench() as bench:
        run = await bench.start(plan_of(world.thread_step("a"), world.step("b", "a")), "r")
        async with asyncio.timeout(10):
            while "a" not in world.running:
                await asyncio.sleep(0.01)
        await run.tell("pause", now=True)
        await run.until_status("a", "pending")
        assert run.handle.live
        gate.set()
        assert await run.end() == "paused"
        world.will("a", "ok")
        again = await bench.resume("r")
        assert again.state.status == "succeeded"
        assert [found.status for found in again.state.steps["a"].attempts.values()] == ["interrupted", "succeeded"]


async def test_a_cancelled_run_ends_when_its_stuck_thread_does(stuck: Stuck) -> None:
    world, gate = World(), stuck.gate()
    world.will("a", gate)
    async with Bench() as bench:
        run = await bench.start(plan_of(world.thread_step("a")))
        async with asyncio.timeout(10):
            while "a" not in world.running:
                await asyncio.sleep(0.01)
        await run.tell("cancel")
        await run.until_status("a", "cancelled")
        gate.set()
        assert await run.end() == "cancelled"


def finished(state: RunState) -> bool:
    return all(step.ended for step in state.steps.values())


async def test_many_commands_at_once_leave_no_process_behind(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    async with Bench(folder=tmp_path) as bench:
        runs: list[Watched] = []
        for n in range(3):
            steps = [shell(f"s{i}", "sleep 300" if i % 2 else "exit 3") for i in range(4)]
            runs.append(await bench.start(plan_of(*steps), f"r{n}"))
        for run in runs:
            await run.until(lambda state: sum(step.status == "failed" for step in state.steps.values()) == 2)
            await run.tell("cancel")
        for run in runs:
            assert await run.end() == "cancelled"
            assert finished(run.state)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
