"""How soon a run of 10,000 done steps is ready to go on, beside what running them took: `python bench/bench_resume.py`.

The run is a chain of no-ops whose last step fails. Prints both times and exits with 1 where their ratio is over 0.2.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from pathlib import Path

from stepchain_tui.engine import Engine, RunSource
from stepchain_tui.plan import Plan, Step, require_valid
from stepchain_tui.store import SQLiteStore

STEPS, BOUND = 10_000, 0.2


async def no_op() -> str:
    return "x" * 200


async def broken() -> None:
    raise ValueError("the last step fails")


async def main(folder: Path) -> float:
    steps = [Step(id="s0", function=no_op, mode="inline")]
    steps += [Step(id=f"s{n}", function=no_op, mode="inline", dependencies=(f"s{n - 1}",)) for n in range(1, STEPS)]
    steps.append(Step(id="last", function=broken, mode="inline", dependencies=(steps[-1].id,)))
    plan = Plan(goal="bench", steps=steps)
    require_valid(plan, folder)
    source = RunSource(plan=plan, folder=folder, checked=True)
    async with Engine(SQLiteStore(folder / "runs.db")) as engine:
        begin = time.perf_counter()
        await (await engine.start(source, run_id="run")).wait()
        took = time.perf_counter() - begin
    async with Engine(SQLiteStore(folder / "runs.db")) as engine:
        begin = time.perf_counter()
        handle = await engine.start(source, run_id="run")
        ready = time.perf_counter() - begin
        await handle.wait()
    print(f"{STEPS} steps ran in {took:.2f} s, were ready to go on in {ready:.2f} s, ratio {ready / took:.2f}")
    return ready / took


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory() as name:
        sys.exit(0 if asyncio.run(main(Path(name))) <= BOUND else 1)
