"""How busy the pools of an engine are, as the Tools screen shows it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

from tools_calls import until

from stepchain_tui.tools import FunctionCall, FunctionCaller, Pools


def row_of(pools: Pools, name: str) -> dict[str, Any]:
    return next(row for row in pools.rows() if row["name"] == name)


async def test_the_rows_of_threads_and_processes_count_what_runs_and_what_waits(tmp_path: Path) -> None:
    go = threading.Event()

    def wait() -> None:
        while not (tmp_path / "go").exists():
            time.sleep(0.005)

    pools = Pools(process_workers=2, threads=2)
    caller = FunctionCaller(pools)
    try:
        quiet = {"busy": 0, "idle": 0, "waiting": 0, "address": "", "size": 2}
        assert pools.rows() == [{"name": "threads", **quiet}, {"name": "processes", **quiet}]
        calls = [FunctionCall(wait, {}, mode="process") for _ in range(3)]
        calls += [FunctionCall(lambda: go.wait(30), {}, mode="thread") for _ in range(3)]
        tasks = [asyncio.create_task(caller.run(call)) for call in calls]
        at_work = {**quiet, "busy": 2, "waiting": 1}
        await until(lambda: row_of(pools, "processes") == {"name": "processes", **at_work})
        await until(lambda: row_of(pools, "threads") == {"name": "threads", **at_work})
        (tmp_path / "go").touch()
        go.set()
        await asyncio.gather(*tasks)
        await until(lambda: row_of(pools, "threads") == {"name": "threads", **quiet, "idle": 2})
        assert row_of(pools, "processes") == {"name": "processes", **quiet, "idle": 2}
    finally:
        (tmp_path / "go").touch()
        go.set()
        await pools.close()
