"""The cluster that is started on this machine when a step asks for one: it works, and nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from tools_calls import is_gone, until

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import FunctionCall, FunctionCaller, Pools, StepContext

pytestmark = pytest.mark.timeout(180)
_ROOT = Path(__file__).parents[2]
_SCRIPT = """
import asyncio, json, os, sys, time
from stepchain_tui.tools import FunctionCall, FunctionCaller, Pools

def hang(file):
    import os, subprocess, time
    child = subprocess.Popen(["sleep", "600"])
    with open(file + ".new", "w") as out:
        out.write(f"{os.getpid()} {child.pid}")
    os.rename(file + ".new", file)
    time.sleep(600)

async def main():
    await FunctionCaller(Pools()).run(FunctionCall(hang, {"file": sys.argv[1]}, mode="cluster", cluster="local"))

asyncio.run(main())
"""


def family() -> list[int]:
    return [process.pid for process in psutil.Process().children(recursive=True)]


def where(ctx: StepContext) -> list[int]:
    ctx.log("here")
    return [os.getpid(), os.getppid()]


async def test_a_local_cluster_carries_out_calls_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(family())
    pools = Pools()
    caller = FunctionCaller(pools)
    calls = [FunctionCall(where, {}, mode="cluster", cluster=address) for address in ("", "local", " ")]
    found = [await caller.run(call) for call in calls]
    assert all(pid not in before and pid != os.getpid() for pair in found for pid in pair)
    (row,) = [row for row in pools.rows() if row["name"] == "cluster"]
    assert row["size"] == os.cpu_count(), "as many workers as cores, one cluster for all of these"
    started = set(family()) - before
    assert len(started) > 2
    await pools.close()
    for pid in started:
        await until(lambda pid=pid: is_gone(pid))
    assert list(tmp_path.iterdir()) == [], "no files either"


async def test_only_its_owner_can_use_a_local_cluster() -> None:
    pools = Pools()
    try:
        await FunctionCaller(pools).run(FunctionCall(where, {}, mode="cluster", cluster="local"))
        address = str(pools.rows()[-1]["address"])
        assert address.startswith("tls://127.0.0.1:")
        port = int(address.rpartition(":")[2])
        stranger = FunctionCall(where, {}, mode="cluster", cluster=f"tcp://127.0.0.1:{port}")
        with pytest.raises(AttemptError, match="does not answer") as caught:
            await FunctionCaller(pools).run(stranger)
        assert caught.value.error_type is ErrorType.SERVER_ERROR
        with socket.create_connection(("127.0.0.1", port)):
            pass
    finally:
        await pools.close()


async def test_a_local_cluster_that_was_killed_is_started_again() -> None:
    pools = Pools()
    try:
        caller = FunctionCaller(pools)
        first = await caller.run(FunctionCall(where, {}, mode="cluster", cluster="local"))
        pools.clusters.kill()
        await until(lambda: is_gone(first[1]))
        second: Any = None
        for _ in range(3):  # as the step's policy would: what is known of the death comes with the failure
            try:
                second = await caller.run(FunctionCall(where, {}, mode="cluster", cluster="local"))
                break
            except AttemptError as error:
                assert error.error_type is ErrorType.SERVER_ERROR  # noqa: PT017 - it may succeed at once
        assert second is not None
        assert second[1] != first[1]
    finally:
        await pools.close()


async def test_after_a_kill_9_of_its_owner_nothing_of_a_local_cluster_is_left(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SCRIPT, str(tmp_path / "pids"), cwd=_ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )  # fmt: skip
    pids = await until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().split(), 60)
    family = [process.pid for process in psutil.Process(owner.pid).children(recursive=True)]
    assert set(map(int, pids)) <= set(family)
    owner.send_signal(signal.SIGKILL)
    await owner.wait()
    for pid in family:
        await until(lambda pid=pid: is_gone(pid))
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_nothing_of_a_local_cluster_is_written_to_the_terminal(tmp_path: Path) -> None:
    script = (
        "import asyncio, json, os\n"
        "from stepchain_tui.tools import FunctionCall, FunctionCaller, Pools\n"
        "async def main():\n"
        "    pools = Pools()\n"
        "    print(await FunctionCaller(pools).run(FunctionCall(os.getcwd, {}, mode='cluster', cluster='local')))\n"
        "    pools.clusters.kill()\n"
        "    await asyncio.sleep(1)\n"
        "    await pools.close()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=_ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert err.decode() == ""
    assert out.decode().startswith("/")


async def test_importing_the_pools_loads_nothing_of_the_library() -> None:
    rooms = "stepchain_tui.tools.cluster.calls, stepchain_tui.executors.shell"
    script = f"import sys, json, {rooms}; print(json.dumps(sorted(sys.modules)))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cwd=_ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert not {"distributed", "dask", "tornado"} & set(json.loads(out))
