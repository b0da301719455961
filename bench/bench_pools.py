"""What a call through each pool costs; run by hand: `python bench/bench_pools.py`. Bounds are generous, for CI."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from stepchain_tui.executors.function import FunctionExecutor
from stepchain_tui.executors.shell import ShellExecutor
from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import Step
from stepchain_tui.tools import Pools

BOUNDS = {
    "inline": 100e-6,
    "inline, by reference": 150e-6,
    "thread": 2e-3,
    "process": 10e-3,
    "process, by value": 20e-3,
    "shell": 100e-3,
    "first call of a worker": 3.0,
    "answer after a cancel": 1.0,
}
"""Seconds that the median may take."""


class SilentPorts:
    """Takes what a call tells and forgets it."""

    def log(self, stream: str, text: str) -> None: ...

    log_from_thread = log

    async def spawned(self, pid: int, process_group: int, process_started_at: float) -> None: ...

    def model_turn(self, **_: Any) -> None: ...

    def begun(self) -> None: ...

    def warn(self, text: str) -> None: ...


def nothing() -> None: ...


def sleep() -> None:
    time.sleep(60)


def call(mode: str = "", function: Any = None, shell: Any = None) -> StepCall:
    step = Step(id="s", shell=shell) if shell else Step(id="s", function=function)
    return StepCall(
        run_id="r",
        step=step,
        attempt=1,
        item=None,
        value=step.action,
        args={},
        options={},
        mode=mode,
        timeout=None,
        environment=dict(os.environ),
        cwd=Path("/tmp"),
        plan_folder=Path(__file__).parent,
        ports=SilentPorts(),
    )


async def median(times: int, work: Callable[[], Awaitable[Any]]) -> float:
    await work()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


async def cancel_time(executor: FunctionExecutor) -> float:
    task = asyncio.create_task(executor.execute(call("process", "./bench_pools.py:sleep")))
    await asyncio.sleep(0.5)
    started = time.perf_counter()
    task.cancel()
    await asyncio.wait([task])
    return time.perf_counter() - started


async def main() -> dict[str, float]:
    pools = Pools()
    functions, shell = FunctionExecutor(pools), ShellExecutor()
    figures = {}
    by_reference = "./bench_pools.py:nothing"
    for name, times, one in (
        ("inline", 20_000, call("inline", nothing)),
        ("inline, by reference", 20_000, call("inline", by_reference)),
        ("thread", 3_000, call("thread", nothing)),
    ):
        figures[name] = await median(times, lambda one=one: functions.execute(one))
    started = time.perf_counter()
    await functions.execute(call("process", by_reference))
    figures["first call of a worker"] = time.perf_counter() - started
    figures["process"] = await median(1_000, lambda: functions.execute(call("process", by_reference)))
    figures["process, by value"] = await median(500, lambda: functions.execute(call("process", lambda: None)))
    figures["shell"] = await median(100, lambda: shell.execute(call(shell="true")))
    figures["answer after a cancel"] = await cancel_time(functions)
    await pools.close()
    return figures


if __name__ == "__main__":
    measured = asyncio.run(main())
    late = [name for name, seconds in measured.items() if seconds > BOUNDS[name]]
    for name, seconds in measured.items():
        print(f"{name:28} {seconds * 1e6:12,.1f} us   (bound {BOUNDS[name] * 1e6:12,.0f} us)")
    sys.exit(f"too slow: {', '.join(late)}" if late else 0)
