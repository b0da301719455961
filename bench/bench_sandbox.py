"""What a sandboxed snippet costs beside pydantic-monty's own; run as `python -m bench.bench_sandbox` or as a file.

Prints the median time of a small snippet run by `MontyRunner` and by the bare pool, their ratio (held: under 5),
the time to the first result in a fresh runner, and the time that a cancellation takes.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from pydantic_monty import Monty

from stepchain_tui.sandbox import MontyRunner

SNIPPET = "total = 0\nfor n in values:\n    total += n\ntotal"
INPUTS = {"values": list(range(20))}
ROUNDS, EACH = 5, 500
HELD = 5.0


def bare() -> float:
    """Return the seconds that one snippet takes in the bare pool, limits and a fresh session included."""
    with Monty(min_processes=1, max_processes=1) as pool:
        started = time.perf_counter()
        for _ in range(EACH):
            with pool.checkout(limits={"max_memory": 100 << 20, "max_feed_duration_secs": 60.0}) as session:
                session.feed_run(SNIPPET, inputs=INPUTS)
        return (time.perf_counter() - started) / EACH


async def ours() -> tuple[float, float, float]:
    """Return the seconds of one snippet, of the first one, and of a cancellation."""
    runner = MontyRunner(max_workers=1)
    started = time.perf_counter()
    await runner.run(SNIPPET, INPUTS)
    first = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(EACH):
        await runner.run(SNIPPET, INPUTS)
    each = (time.perf_counter() - started) / EACH
    began, loop = asyncio.Event(), asyncio.get_running_loop()
    endless = "import time\nprint(1)\ntime.sleep(0.001)\nwhile True:\n    pass"
    task = asyncio.create_task(runner.run(endless, on_print=lambda *_: loop.call_soon_threadsafe(began.set)))
    await began.wait()
    started = time.perf_counter()
    task.cancel()
    await asyncio.wait({task})
    stop = time.perf_counter() - started
    await runner.close()
    return each, first, stop


def main() -> int:
    """Print the figures; 1 where the ratio is not held."""
    pairs = [(bare(), asyncio.run(ours())) for _ in range(ROUNDS)]
    plain = statistics.median(pair[0] for pair in pairs)
    each, first, stop = (statistics.median(pair[1][place] for pair in pairs) for place in range(3))
    print(f"bare pool        {plain * 1e6:8.0f} us a snippet")
    print(f"MontyRunner      {each * 1e6:8.0f} us a snippet")
    print(f"ratio            {each / plain:8.2f} (held: under {HELD:g})")
    print(f"first snippet    {first * 1e3:8.1f} ms")
    print(f"cancellation     {stop * 1e3:8.1f} ms")
    return 0 if each / plain < HELD else 1


if __name__ == "__main__":
    sys.exit(main())
