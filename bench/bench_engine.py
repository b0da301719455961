"""Durable no-op steps per second against the bound, in one run: `python bench/bench_engine.py [--help]`.

The bound: a bare asyncio loop over the same graph that writes each start and finish as a row through one sqlite3
writer thread with group commit, WAL, NORMAL. `max_concurrent` 50 on both sides; median of interleaved pairs. Prints a
row for each graph and exits with 1 where a ratio is below what is to be held.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import queue
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from stepchain_tui.engine import Engine, RunSource
from stepchain_tui.plan import Plan, Step, require_valid
from stepchain_tui.store import SQLiteStore

Graph = dict[str, list[str]]
MAX_CONCURRENT = 50
HOLD = {"chain": 0.5, "fan-out": 0.25, "random": 0.25}
RESULT = "x" * 200


async def no_op() -> str:
    return RESULT


def chain(steps: int) -> Graph:
    return {f"s{i}": [f"s{i - 1}"] if i else [] for i in range(steps)}


def fan_out(steps: int) -> Graph:
    return {"s0": [], **{f"s{i}": ["s0"] for i in range(1, steps)}}


def random_graph(steps: int) -> Graph:
    dice = random.Random(7)
    graph: Graph = {}
    for i in range(steps):
        parents = {dice.randrange(max(0, i - 50), i) for _ in range(dice.choice((1, 1, 2)))} if i else set()
        graph[f"s{i}"] = [f"s{parent}" for parent in sorted(parents)]
    return graph


GRAPHS = {"chain": chain, "fan-out": fan_out, "random": random_graph}


class Writer:
    """One sqlite3 writer thread with group commit."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.queue: queue.SimpleQueue = queue.SimpleQueue()
        self.loop = loop
        self.thread = threading.Thread(target=self.run, args=(path,))
        self.thread.start()

    def run(self, path: Path) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.executescript(
            "pragma journal_mode=wal; pragma synchronous=normal; "
            "create table events(seq integer primary key, data text)"
        )
        while True:
            rows = [self.queue.get()]
            while not self.queue.empty():
                rows.append(self.queue.get_nowait())
            done = [row for row in rows if row is not None]
            connection.execute("begin immediate")
            connection.executemany("insert into events(data) values (?)", [(data,) for data, _ in done])
            connection.execute("commit")
            self.loop.call_soon_threadsafe(lambda batch: [f.set_result(None) for _, f in batch], done)
            if len(done) < len(rows):
                connection.close()
                return

    def write(self, data: str) -> asyncio.Future:
        future = self.loop.create_future()
        self.queue.put((data, future))
        return future


async def bound(graph: Graph, folder: Path) -> float:
    loop = asyncio.get_running_loop()
    writer = Writer(folder / "bound.db", loop)
    children: dict[str, list[str]] = {name: [] for name in graph}
    left = {name: len(parents) for name, parents in graph.items()}
    for name, parents in graph.items():
        for parent in parents:
            children[parent].append(name)
    slots, done, finished = asyncio.Semaphore(MAX_CONCURRENT), asyncio.Event(), 0

    async def carry_out(name: str) -> None:
        nonlocal finished
        async with slots:
            await writer.write(f'{{"type":"started","step":"{name}"}}')
            output = await no_op()
            await writer.write(f'{{"type":"succeeded","step":"{name}","output":"{output}"}}')
        finished += 1
        for child in children[name]:
            left[child] -= 1
            if not left[child]:
                tasks.add(loop.create_task(carry_out(child)))
        if finished == len(graph):
            done.set()

    start = time.perf_counter()
    tasks = {loop.create_task(carry_out(name)) for name, count in left.items() if not count}
    await done.wait()
    took = time.perf_counter() - start
    writer.queue.put(None)
    writer.thread.join()
    return took


async def ours(graph: Graph, folder: Path) -> float:
    steps = [
        Step(id=name, function=no_op, mode="inline", dependencies=tuple(parents)) for name, parents in graph.items()
    ]
    plan = Plan(goal="bench", steps=steps, max_concurrent=MAX_CONCURRENT)
    require_valid(plan, folder)
    async with Engine(SQLiteStore(folder / "ours.db")) as engine:
        source = RunSource(plan=plan, folder=folder, checked=True)
        start = time.perf_counter()
        handle = await engine.start(source)
        status = await handle.wait()
        took = time.perf_counter() - start
    assert status == "succeeded", status
    return took


def measure(which: str, steps: int, pairs: int) -> float:
    graph = GRAPHS[which](steps)
    ratios, rates = [], []
    for _ in range(pairs):
        with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
            bound_took = asyncio.run(bound(graph, Path(first)))
            our_took = asyncio.run(ours(graph, Path(second)))
        ratios.append(bound_took / our_took)
        rates.append((steps / bound_took, steps / our_took))
    ratio = statistics.median(ratios)
    bound_rate, our_rate = (statistics.median(column) for column in zip(*rates, strict=True))
    print(
        f"{which:8} {steps:6} steps  bound {bound_rate:8.0f}/s  ours {our_rate:8.0f}/s  ratio {ratio:.2f}", flush=True
    )
    return ratio


def main() -> int:
    gc.collect()
    gc.freeze()  # as every engine process of ours does: what was imported is not looked at again
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--graph", choices=[*GRAPHS], action="append")
    parser.add_argument("--slack", type=float, default=1.0, help="what the ratios to be held are multiplied with")
    options = parser.parse_args()
    held = True
    for which in options.graph or GRAPHS:
        held &= measure(which, options.steps, options.pairs) >= HOLD[which] * options.slack
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
