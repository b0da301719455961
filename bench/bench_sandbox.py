"""What a sandboxed snippet costs beside pydantic-monty's own; run as `python -m bench.bench_sandbox` or as a file.

Prints the median time of a small snippet run by the bare pool, by `MontyRunner` and by `Sandbox` (held to half a core)
and their ratios (held: under 5), the time to the first result in a fresh runner and that of a cancellation, what a
snippet costs in bubblewrap where that is installed, and how much of a core a busy loop gets that may have half of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time

import psutil
from pydantic_monty import Monty

from stepchain_tui.run import AttemptError
from stepchain_tui.sandbox import BwrapRunner, MontyRunner, Sandbox, find_bubblewrap

SNIPPET = "total = 0\nfor n in values:\n    total += n\ntotal"
INPUTS = {"values": list(range(20))}
ENDLESS = "import time\nprint(1)\ntime.sleep(0.001)\nwhile True:\n    pass"
ROUNDS, EACH, EACH_BWRAP = 5, 500, 20
HELD = 5.0
WATCHED = 3.0
"""Seconds that a busy loop is watched."""


def bare() -> float:
    """Return the seconds that one snippet takes in the bare pool, limits and a fresh session included."""
    with Monty(min_processes=1, max_processes=1) as pool:
        started = time.perf_counter()
        for _ in range(EACH):
            with pool.checkout(limits={"max_memory": 100 << 20, "max_feed_duration_secs": 60.0}) as session:
                session.feed_run(SNIPPET, inputs=INPUTS)
        return (time.perf_counter() - started) / EACH


async def ours() -> tuple[float, float, float, float]:
    """Return the seconds of one snippet, of one in a `Sandbox`, of the first one, and of a cancellation."""
    runner = MontyRunner(max_workers=1)
    started = time.perf_counter()
    await runner.run(SNIPPET, INPUTS)
    first = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(EACH):
        await runner.run(SNIPPET, INPUTS)
    each = (time.perf_counter() - started) / EACH
    sandbox = Sandbox()
    await sandbox.execute(SNIPPET, inputs=INPUTS)
    started = time.perf_counter()
    for _ in range(EACH):
        await sandbox.execute(SNIPPET, inputs=INPUTS)
    held = (time.perf_counter() - started) / EACH
    stop = await cancellation(runner)
    await runner.close()
    return each, held, first, stop


async def cancellation(runner: MontyRunner | BwrapRunner) -> float:
    """Return the seconds from cancelling an endless loop until its process is gone."""
    began, loop = asyncio.Event(), asyncio.get_running_loop()
    task = asyncio.create_task(runner.run(ENDLESS, on_print=lambda *_: loop.call_soon_threadsafe(began.set)))
    await began.wait()
    started = time.perf_counter()
    task.cancel()
    await asyncio.wait({task})
    return time.perf_counter() - started


async def in_bwrap() -> tuple[float, float] | None:
    """Return the seconds of one snippet in bubblewrap, and of a cancellation; None where it does not work."""
    try:
        await find_bubblewrap()
    except AttemptError as error:
        print(f"bwrap            {error}")
        return None
    runner = BwrapRunner()
    started = time.perf_counter()
    for _ in range(EACH_BWRAP):
        await runner.run(SNIPPET, INPUTS)
    each = (time.perf_counter() - started) / EACH_BWRAP
    return each, await cancellation(runner)


async def busy(engine: str) -> float:
    """Return how much of a core an endless loop gets that may have half of one, its start included."""
    task = asyncio.create_task(Sandbox(engine=engine).execute("while True:\n    pass", timeout=WATCHED))
    used: dict[int, float] = {}
    before: dict[int, float] = {}
    started = time.perf_counter()
    while not task.done():
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
                before.setdefault(process.pid, used[process.pid] if time.perf_counter() - started < 0.02 else 0.0)
        await asyncio.sleep(0.01)
    await asyncio.wait({task})
    task.exception()
    return (sum(used.values()) - sum(before.values())) / (time.perf_counter() - started)


def main() -> int:
    """Print the figures; 1 where the ratio is not held."""
    pairs = [(bare(), asyncio.run(ours())) for _ in range(ROUNDS)]
    plain = statistics.median(pair[0] for pair in pairs)
    each, held, first, stop = (statistics.median(pair[1][place] for pair in pairs) for place in range(4))
    print(f"bare pool        {plain * 1e6:8.0f} us a snippet")
    print(f"MontyRunner      {each * 1e6:8.0f} us a snippet, ratio {each / plain:.2f} (held: under {HELD:g})")
    print(f"Sandbox          {held * 1e6:8.0f} us a snippet, ratio {held / plain:.2f} (held: under {HELD:g})")
    print(f"first snippet    {first * 1e3:8.1f} ms")
    print(f"cancellation     {stop * 1e3:8.1f} ms")
    print(f"busy loop        {asyncio.run(busy('monty')):8.2f} of a core (may have 0.5)")
    if (bwrap := asyncio.run(in_bwrap())) is not None:
        print(f"bwrap            {bwrap[0] * 1e3:8.1f} ms a snippet")
        print(f"  cancellation   {bwrap[1] * 1e3:8.1f} ms")
        print(f"  busy loop      {asyncio.run(busy('bwrap')):8.2f} of a core (may have 0.5)")
    return 0 if max(each, held) / plain < HELD else 1


if __name__ == "__main__":
    sys.exit(main())
