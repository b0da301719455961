"""The engine in a process of its own, without an app: what it does when nobody is there any more."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.settings import Settings
from stepchain_tui.engine import Engine, RunSource
from stepchain_tui.plan import Plan, Step
from stepchain_tui.run.status import RunStatus
from stepchain_tui.store import MemoryStore, SQLiteStore

ASKING = 'steps:\n  - {id: ask, approve: "Go on?"}\n  - {id: after, shell: "true", dependencies: [ask]}\n'


async def until_waiting(store: SQLiteStore, run_id: str) -> None:
    async for _ in store.changes():
        if (await store.get_run(run_id)).status is RunStatus.WAITING:
            return


async def test_an_engine_whose_app_has_gone_lets_go_of_a_run_that_only_a_person_can_go_on_with(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(ASKING)
    path = tmp_path / "runs.db"
    command = [sys.executable, "-m", "stepchain_tui.engine.host", "--store", str(path)]
    host = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert host.stdin is not None
    assert host.stdout is not None
    with host.stdin, host.stdout:
        assert json.loads(host.stdout.readline())["result"]["pid"] == host.pid
        request: dict[str, Any] = {"id": 1, "call": "start", "plan_path": str(tmp_path / "plan.yaml"), "run_id": "r"}
        host.stdin.write(json.dumps(request).encode() + b"\n")
        host.stdin.flush()
        assert json.loads(host.stdout.readline())["result"]["run_id"] == "r"
        store = SQLiteStore(path)
        await store.open(read_only=True)
        await until_waiting(store, "r")
        assert host.poll() is None
        host.stdin.close()
        assert host.wait(20) == 0
    summary = await store.get_run("r")
    assert (summary.shown_status, summary.owner) == (RunStatus.WAITING, None)
    await store.close()


@pytest.mark.parametrize("first", ["a", "b"])
async def test_the_wait_for_a_worker_does_not_count_as_time_of_the_attempt(tmp_path: Path, first: str) -> None:
    (tmp_path / "slow.py").write_text("import time\ndef nap():\n    time.sleep(1.0)\n")
    steps = [
        Step(id=name, function="./slow.py:nap", mode="process", timeout=1.8, priority=int(name == first))
        for name in ("a", "b")
    ]
    async with Engine(MemoryStore(), settings=Settings(process_workers=1)) as engine:
        handle = await engine.start(RunSource(plan=Plan(steps=steps), folder=tmp_path))
        assert await handle.wait() == "succeeded"
