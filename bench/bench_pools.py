"""What a call through each pool costs, and against other pools; run by hand: `python bench/bench_pools.py`.

Absolute bounds are generous, for CI. The ratios are against Pebble and `concurrent.futures` doing the same work in the
same process, in turns, so that whatever else the machine does falls on both; medians of rounds.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from stepchain_tui.executors.function import FunctionExecutor
from stepchain_tui.executors.shell import ShellExecutor
from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import Step
from stepchain_tui.tools import Executor, FunctionCall, FunctionCaller, Pools, ToolCall

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
RATIOS = {
    "process call / Pebble": 1.5,
    "thread call / ThreadPoolExecutor": 2.0,
    "200 CPU-bound calls in processes / ProcessPoolExecutor": 1.2,
}
"""How much more than the other it may take."""
CALLS, SECONDS_EACH = 200, 0.02
ROUNDS = 5


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


def compute(seconds: float = SECONDS_EACH) -> int:
    """Compute for a while on one core, measured by what it used and not by the clock."""
    end, turns = time.thread_time() + seconds, 0
    while time.thread_time() < end:
        turns += 1
        math.sqrt(turns)
    return turns


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


async def steps() -> dict[str, float]:
    """Measure calls as the engine makes them."""
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


def ratio(pairs: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the medians of both sides and the median of their ratios."""
    return (
        statistics.median(ours for ours, _ in pairs),
        statistics.median(theirs for _, theirs in pairs),
        statistics.median(ours / theirs for ours, theirs in pairs),
    )


async def awaited_calls() -> dict[str, tuple[float, float, float]]:
    """Compare one call after the other, awaited on a loop."""
    from pebble import ProcessPool

    loop = asyncio.get_running_loop()
    pools = Pools(process_workers=2)
    caller = FunctionCaller(pools)
    threads = ThreadPoolExecutor(8)
    processes = ProcessPool(max_workers=2, context=multiprocessing.get_context("forkserver"))
    in_process: list[tuple[float, float]] = []
    in_thread: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        in_process.append(
            (
                await median(300, lambda: caller.run(FunctionCall(nothing, {}, mode="process"))),
                await median(300, lambda: asyncio.wrap_future(processes.schedule(nothing))),
            )
        )
        in_thread.append(
            (
                await median(1_000, lambda: caller.run(FunctionCall(nothing, {}))),
                await median(1_000, lambda: loop.run_in_executor(threads, nothing)),
            )
        )
    processes.stop()
    processes.join()
    threads.shutdown()
    await pools.close()
    return {
        "process call / Pebble": ratio(in_process),
        "thread call / ThreadPoolExecutor": ratio(in_thread),
    }


def taken(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def blocking_calls() -> dict[str, tuple[float, float, float]]:
    """Compare what a script sees of `Executor`: one call after the other, and a batch of calls that compute."""
    from pebble import ProcessPool

    tools = {"nothing": nothing, "compute": compute}
    one = [ToolCall("one", "nothing")]
    many = [ToolCall(str(number), "compute") for number in range(CALLS)]
    workers = os.cpu_count() or 1
    pairs: dict[str, list[tuple[float, float]]] = {}
    with (
        Executor(process_workers=workers) as executor,
        ThreadPoolExecutor(8) as threads,
        ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("forkserver")) as processes,
        ProcessPool(max_workers=workers, context=multiprocessing.get_context("forkserver")) as pebble,
    ):

        def executed(mode: str) -> float:
            return _in_place(300, lambda: executor.execute_tool_calls(tools, one, mode))

        executor.execute_tool_calls(tools, many[: 2 * workers], "process")
        list(processes.map(compute, [SECONDS_EACH] * 2 * workers))
        for _ in range(ROUNDS):
            theirs = _in_place(300, lambda: pebble.schedule(nothing).result())
            pairs.setdefault("process call of Executor / Pebble", []).append((executed("process"), theirs))
            theirs = _in_place(300, lambda: threads.submit(nothing).result())
            pairs.setdefault("thread call of Executor / ThreadPoolExecutor", []).append((executed("thread"), theirs))
            ours = taken(lambda: executor.execute_tool_calls(tools, many, "process"))
            theirs = taken(lambda: list(processes.map(compute, [SECONDS_EACH] * CALLS)))
            pairs.setdefault("200 CPU-bound calls in processes / ProcessPoolExecutor", []).append((ours, theirs))
    return {name: ratio(found) for name, found in pairs.items()}


def _in_place(times: int, work: Callable[[], Any]) -> float:
    work()
    return statistics.median(taken(work) for _ in range(times))


def main() -> int:
    figures = asyncio.run(steps())
    for name, seconds in figures.items():
        print(f"{name:28} {seconds * 1e6:12,.1f} us   (bound {BOUNDS[name] * 1e6:12,.0f} us)")
    late = [name for name, seconds in figures.items() if seconds > BOUNDS[name]]
    for name, (ours, theirs, times) in {**asyncio.run(awaited_calls()), **blocking_calls()}.items():
        bound = RATIOS.get(name)
        told = f"(bound {bound:.1f})" if bound else "(no bound)"
        print(f"{name:56} {ours * 1e6:12,.0f} us / {theirs * 1e6:12,.0f} us = {times:5.2f}  {told}")
        if bound and times > bound:
            late.append(name)
    if late:
        print(f"too slow: {', '.join(late)}", file=sys.stderr)
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
