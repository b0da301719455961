"""Rules 2 and 3 across processes: one owner for each run, and what a killed owner leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from stepchain_tui.core.errors import CommandRefusedError, RunLockedError
from stepchain_tui.engine import Engine, EngineService
from stepchain_tui.plan import plan_to_json
from stepchain_tui.store import SQLiteStore
from tests.support.engines import PATIENCE, Bench, plan_of, shell

OWNER = """
import asyncio, sys
from pathlib import Path
from stepchain_tui.engine import Engine, RunSource
from stepchain_tui.plan import plan_from_json
from stepchain_tui.store import SQLiteStore

async def main(store, plan, folder):
    async with Engine(SQLiteStore(store)) as engine:
        source = RunSource(plan=plan_from_json(Path(plan).read_bytes()), folder=Path(folder))
        handle = await engine.start(source, run_id="r")
        print(await handle.wait())

asyncio.run(main(*sys.argv[1:]))
"""


class Owner:
    """Another process that carries run `r` out."""

    def __init__(self, folder: Path, *steps: dict[str, object]) -> None:
        self.store = folder / "runs.db"
        plan = folder / "plan.json"
        plan.write_bytes(plan_to_json(plan_of(*steps)))
        command = [sys.executable, "-c", OWNER, str(self.store), str(plan), str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> str:
        return self.process.communicate(timeout=PATIENCE)[0].strip()


@pytest.fixture
def owners() -> Iterator[list[Owner]]:
    made: list[Owner] = []
    yield made
    for owner in made:
        if owner.process.poll() is None:
            owner.kill()
        if owner.process.stdout is not None:
            owner.process.stdout.close()


async def appears(path: Path) -> None:
    async with asyncio.timeout(20):
        while not path.exists() or not path.read_text().endswith("\n"):
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


WORK = "sleep 300 & echo $! > child; echo x >> tries; [ -e go ] || { echo $$ > self; sleep 300; }"


async def test_a_second_engine_is_refused_with_the_pid_of_the_first(tmp_path: Path, owners: list[Owner]) -> None:
    owners.append(Owner(tmp_path, shell("a", WORK)))
    await appears(tmp_path / "self")
    async with Bench(SQLiteStore(tmp_path / "runs.db"), tmp_path) as bench:
        for call in (lambda: bench.engine.resume("r"), lambda: bench.start(plan_of(shell("a", "true")), "r")):
            with pytest.raises(RunLockedError) as caught:
                await call()
            assert caught.value.pid == owners[0].process.pid


async def test_an_owner_takes_commands_of_another_process_and_answers_them(tmp_path: Path, owners: list[Owner]) -> None:
    owners.append(Owner(tmp_path, shell("a", WORK), shell("b", "true", "a")))
    await appears(tmp_path / "self")
    async with Engine(SQLiteStore(tmp_path / "runs.db")) as engine:
        service = EngineService(engine)
        with pytest.raises(CommandRefusedError, match="waits for no retry"):
            await service.steer("r", "try_now", {"step": "a"})
        assert (await service.steer("r", "pause"))["ok"]
        assert (await service.steer("r", "cancel"))["message"] == "cancelled"
        assert owners[0].end() == "cancelled"
        row = await engine.store.get_run("r")
        assert (row.status, row.owner) == ("cancelled", None)


async def test_a_killed_owner_leaves_nothing_running_and_its_attempt_costs_no_try(
    tmp_path: Path, owners: list[Owner]
) -> None:
    owners.append(
        Owner(tmp_path, shell("before", "echo x >> before"), shell("a", WORK, "before"), shell("b", "true", "a"))
    )
    await appears(tmp_path / "self")
    left = [int((tmp_path / name).read_text()) for name in ("self", "child")]
    owners[0].kill()
    store = SQLiteStore(tmp_path / "runs.db")
    await store.open()
    assert (await store.get_run("r")).shown_status == "interrupted"
    await store.close()
    (tmp_path / "go").touch()
    async with Bench(SQLiteStore(tmp_path / "runs.db"), tmp_path) as bench:
        run = await bench.resume("r")
        assert run.state.status == "succeeded"
        assert not any(map(alive, left))
        step = run.state.steps["a"]
        assert [(found.status, found.tries) for found in step.attempts.values()] == [
            ("interrupted", 1),
            ("succeeded", 1),
        ]
        assert str(owners[0].process.pid) in step.attempts[None, 1].reason
        assert (tmp_path / "before").read_text() == "x\n"
        assert (tmp_path / "tries").read_text() == "x\nx\n"
        names = await run.names()
        assert names.index("step.interrupted") < names.index("run.interrupted") < names.index("run.resumed")
        await run.check()
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


async def test_after_three_killed_owners_the_engine_asks(tmp_path: Path, owners: list[Owner]) -> None:
    for _ in range(3):
        owners.append(Owner(tmp_path, shell("a", WORK)))
        await appears(tmp_path / "self")
        owners[-1].kill()
        (tmp_path / "self").unlink()
    async with Bench(SQLiteStore(tmp_path / "runs.db"), tmp_path) as bench:
        run = await bench.resume("r", detach=True)
        assert run.state.status == "waiting"
        assert run.state.steps["a"].waiting.reason == "interrupted"
        assert (tmp_path / "tries").read_text() == "x\n" * 3
        assert (await bench.tell("r", "approve", step="a", approved=False))["ok"]


async def test_a_run_with_a_dead_owner_can_be_cancelled_by_anybody(tmp_path: Path, owners: list[Owner]) -> None:
    owners.append(Owner(tmp_path, shell("a", WORK), shell("b", "true", "a")))
    await appears(tmp_path / "self")
    left = [int((tmp_path / name).read_text()) for name in ("self", "child")]
    owners[0].kill()
    async with Engine(SQLiteStore(tmp_path / "runs.db")) as engine:
        assert (await EngineService(engine).steer("r", "cancel"))["ok"]
        state = await engine.store.load_state("r")
        assert (state.status, [step.status for step in state.steps.values()]) == ("cancelled", ["cancelled"] * 2)
        assert not any(map(alive, left))
