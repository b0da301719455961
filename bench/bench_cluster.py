"""What a call on a cluster costs, against the library's own: run by hand, `python bench/bench_cluster.py [--check]`.

A scheduler and two workers run as processes of their own. 1,000 short calls are made at once, as a plan would, each in
a process that can be killed, with its own log, result and time; the bound is `client.map` and `gather` of
`distributed` itself over the same cluster, `pure=False`, in threads that cannot be stopped. In turns, so that whatever
else the machine does falls on both; medians of rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stepchain_tui.tools import FunctionCall, FunctionCaller, Pools
from tests.support.cluster import TestCluster

CALLS, ROUNDS = 1_000, 5
RATIO = 1.3
"""How much more than the library's own the calls may take."""
FIRST_LINE = 1.0
"""Seconds until a printed line may be here."""


def double(number: int) -> int:
    return number * 2


def talk() -> float:
    print("now", flush=True)
    time.sleep(0.5)
    return time.time()


async def taken(work: Awaitable[Any]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def ours(caller: FunctionCaller, address: str, environment: dict[str, str], count: int) -> list[int]:
    calls = (
        FunctionCall(
            double, {"number": number}, mode="cluster", cluster=address, environment=environment, log=lambda *_: None
        )
        for number in range(count)
    )
    found: list[int] = await asyncio.gather(*map(caller.run, calls))
    assert found == [number * 2 for number in range(count)]
    return found


async def theirs(client: Any, count: int) -> list[int]:
    found: list[int] = await client.gather(client.map(double, range(count), pure=False, retries=0))
    assert found == [number * 2 for number in range(count)]
    return found


async def first_line(caller: FunctionCaller, address: str) -> float:
    """Return how long a printed line takes from the worker to here, the beginning of the call included."""
    began = time.perf_counter()
    here: list[float] = []
    await caller.run(
        FunctionCall(talk, {}, mode="cluster", cluster=address, log=lambda *_: here.append(time.perf_counter() - began))
    )
    return here[0]


async def measure(cluster: TestCluster) -> dict[str, float]:
    from distributed import Client

    pools = Pools()
    caller = FunctionCaller(pools)
    environment = dict(os.environ)
    figures: dict[str, float] = {}
    try:
        figures["first call"] = await taken(ours(caller, cluster.address, environment, 1))
        async with Client(cluster.address, asynchronous=True) as client:
            await ours(caller, cluster.address, environment, 50)
            await theirs(client, 50)
            pairs = []
            for _ in range(ROUNDS):
                mine = await taken(ours(caller, cluster.address, environment, CALLS))
                pairs.append((mine, await taken(theirs(client, CALLS))))
                print(f"  {pairs[-1][0]:.3f} s / {pairs[-1][1]:.3f} s", file=sys.stderr)
        figures["1,000 calls"] = statistics.median(mine for mine, _ in pairs)
        figures["1,000 calls of distributed"] = statistics.median(other for _, other in pairs)
        figures["ratio"] = statistics.median(mine / other for mine, other in pairs)
        one_by_one = [await taken(ours(caller, cluster.address, environment, 1)) for _ in range(100)]
        figures["one call after the other"] = statistics.median(one_by_one)
        figures["first line"] = statistics.median([await first_line(caller, cluster.address) for _ in range(3)])
    finally:
        await pools.close()
    return figures


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="fail where a bound is not held")
    check = arguments.parse_args().check
    with TestCluster(2) as cluster:
        figures = asyncio.run(measure(cluster))
    for name, figure in figures.items():
        print(f"{name:28} {figure:10.4f}" + ("" if name == "ratio" else " s"))
    late = []
    if figures["ratio"] > RATIO:
        late.append(f"1,000 calls take {figures['ratio']:.2f} of what distributed's own take, not {RATIO}")
    if figures["first line"] > FIRST_LINE:
        late.append(f"a line takes {figures['first line']:.2f} s")
    for line in late:
        print(f"too slow: {line}", file=sys.stderr)
    return 1 if late and check else 0


if __name__ == "__main__":
    sys.exit(main())
