"""What the store costs: events per second by batch size, log lines, pages, history and search.

    python bench/bench_store.py [--steps 20000] [--profile] [--only events,logs,history,carry]

Each step writes two events (started, succeeded with a result of about 200 bytes) and its summary row; the time of
folding is measured apart and left out. Ratios matter, not figures.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stepchain_tui.core.secrets import Redactor
from stepchain_tui.run.events import Event, OwnerRecord, RunCreated, RunStarted, StepOutline, StepStarted, StepSucceeded
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.run.values import Kept
from stepchain_tui.store import Batch, LogLine, SQLiteStore
from stepchain_tui.store.archive import export_run
from stepchain_tui.store.importing import import_run

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
OUTPUT = {"rows": list(range(20)), "text": "x" * 120}
SECRETS = Redactor({f"SERVICE_{n}_KEY": f"secret-value-{n:04}-abcdefgh" for n in range(10)})


def begin(run_id: str, steps: int, goal: str = "bench") -> tuple[RunState, list[Event]]:
    state = RunState()
    outlines = tuple(StepOutline(id=f"step_{n}", kind="function") for n in range(steps))
    events: list[Event] = [
        RunCreated(seq=1, run_id=run_id, at=BEGIN, goal=goal, plan={"goal": goal}, steps=outlines),
        RunStarted(seq=2, run_id=run_id, at=BEGIN, owner=OwnerRecord(pid=1, process_started_at=1.0)),
    ]
    for event in events:
        state.apply(event)
    return state, events


async def write_events(folder: Path, steps: int, batch_steps: int, durability: str, secrets: bool) -> None:
    store = SQLiteStore(folder / f"{durability}-{batch_steps}-{secrets}.db", durability=durability)  # type: ignore[arg-type]
    await store.open()
    state, events = begin("run", steps)
    if secrets:
        store.set_redactor("run", SECRETS)
    store.commit(Batch(events=events, states={"run": state}, touched={"run": None}))
    await store.flush()
    spent, worst = 0.0, 0.0
    started = time.perf_counter()
    for first in range(0, steps, batch_steps):
        names = [f"step_{n}" for n in range(first, min(steps, first + batch_steps))]
        made: list[Event] = []
        for name in names:
            at = BEGIN + timedelta(milliseconds=first)
            seq = state.last_seq
            begun = StepStarted(seq=seq + 1, run_id="run", at=at, step_id=name, attempt=1, content_hash="a" * 32)
            state.apply(begun)
            ended = StepSucceeded(
                seq=seq + 2, run_id="run", at=at, step_id=name, attempt=1, output=store.keep(OUTPUT, SECRETS)
            )
            state.apply(ended)
            made += [begun, ended]
        before = time.perf_counter()
        store.commit(Batch(events=made, states={"run": state}, touched={"run": set(names)}))
        if durability == "power" and batch_steps == 1:
            await store.flush()
        took = time.perf_counter() - before
        spent += took
        worst = max(worst, took)
    before = time.perf_counter()
    await store.flush()
    spent += time.perf_counter() - before
    whole = time.perf_counter() - started
    await store.close()
    print(
        f"{durability:8} {batch_steps:5} steps a batch{' +gate' if secrets else '      '}"
        f" {2 * steps / spent:10,.0f} events/s {steps / spent:9,.0f} steps/s"
        f" {1e6 * spent / (steps / batch_steps):9.1f} us a commit, worst {1e3 * worst:6.1f} ms;"
        f" with fold and keep {steps / whole:9,.0f} steps/s"
    )


async def write_logs(folder: Path, lines: int) -> None:
    store = SQLiteStore(folder / "logs.db")
    await store.open()
    state, events = begin("run", 50)
    store.commit(Batch(events=events, states={"run": state}, touched={"run": None}))
    text = "2026-01-01T12:00:00 INFO worker-{} finished item {} of the batch in 12.5 ms, nothing to report"
    batches = [
        [
            ("run", LogLine(at=BEGIN, step_id=f"step_{n % 50 if n % 2 else 0}", attempt=1, text=text.format(n % 7, n)))
            for n in range(first, first + 1000)
        ]
        for first in range(0, lines, 1000)
    ]
    before = time.perf_counter()
    for batch in batches:
        store.commit(Batch(logs=batch))
    print(f"logs: {lines / (time.perf_counter() - before):,.0f} lines/s in batches of 1,000")
    total = await store.count_log("run", step_id="step_0")
    await timed("page at any offset", lambda n: store.read_log_page("run", step_id="step_0", offset=(n * total) // 50))
    await timed("page of an attempt", lambda n: store.read_log_page("run", step_id="step_0", attempt=1, offset=n * 900))
    await timed("read_log before", lambda n: store.read_log("run", step_id="step_1", before=n * 9999, newest=True))
    await timed("count", lambda _: store.count_log("run", step_id="step_0"))
    await timed("search, nothing indexed", lambda n: store.search(f"item {n * 1999}"), times=5)
    before = time.perf_counter()
    rows = 0
    worst = 0.0
    while True:
        chunk = time.perf_counter()
        done = await store._index_some()
        worst = max(worst, time.perf_counter() - chunk)
        if not done:
            break
        rows += done
    spent = time.perf_counter() - before
    print(f"indexing: {rows / spent:,.0f} rows/s, longest {1000 * worst:.1f} ms")
    await timed("search, one hit", lambda n: store.search(f"item {n * 1999}"))
    await timed("search, all lines", lambda _: store.search("finished"))
    await timed("search, a beginning", lambda n: store.search("fin"))
    await timed("search, common words", lambda n: store.search(f"finished worker item {n}"))
    await store.close()
    print(f"file: {(folder / 'logs.db').stat().st_size / lines:.0f} bytes a line of {len(text)}")


async def history(folder: Path, runs: int) -> None:
    store = SQLiteStore(folder / "history.db")
    await store.open()
    states, batch = {}, Batch()
    for n in range(runs):
        state, events = begin(f"run-{n:05}", 5, goal=f"report {n % 97} on the sales of region {n % 13}")
        state.created_at = BEGIN + timedelta(minutes=n)
        states[state.run_id] = state
        batch.events += events
        if len(states) == 500:
            store.commit(Batch(events=batch.events, states=states, touched=dict.fromkeys(states)))
            states, batch = {}, Batch()
    await store.flush()
    await store.write(lambda db: db.execute("UPDATE runs SET status = 'succeeded' WHERE key % 100") and None)
    await timed("list newest", lambda _: store.list_runs())
    await timed("list at offset", lambda n: store.list_runs(offset=n * 190))
    await timed("filter by text", lambda n: store.list_runs(text=f"region {n % 13}"))
    await timed("filter by text, no hit", lambda n: store.list_runs(text=f"nothing {n}"))
    await timed("filter by status", lambda _: store.list_runs(statuses=[RunStatus.INTERRUPTED, RunStatus.FAILED]))
    await timed("get by prefix", lambda n: store.get_run(f"run-00{n:03}"))
    await store.close()


async def carry(folder: Path, steps: int, lines: int) -> None:
    """Export a run and import it into another store; the memory that this takes beside the fold is to be flat."""
    store = SQLiteStore(folder / "from.db")
    await store.open()
    state, events = begin("run", steps)
    for n in range(steps):
        seq, name = state.last_seq, f"step_{n}"
        begun = StepStarted(seq=seq + 1, run_id="run", at=BEGIN, step_id=name, attempt=1)
        ended = StepSucceeded(seq=seq + 2, run_id="run", at=BEGIN, step_id=name, attempt=1, output=Kept(OUTPUT))
        state.apply(begun)
        state.apply(ended)
        events += [begun, ended]
    store.commit(Batch(events=events, states={"run": state}, touched={"run": None}))
    text = "2026-01-01T12:00:00 INFO worker-{} finished item {} of the batch in 12.5 ms, nothing to report"
    for first in range(0, lines, 1000):
        made = [
            LogLine(at=BEGIN, step_id="step_0", attempt=1, text=text.format(n % 7, n))
            for n in range(first, first + 1000)
        ]
        store.commit(Batch(logs=[("run", line) for line in made]))
    del events, state
    path = folder / "run.archive"
    before, peak = time.perf_counter(), peak_megabytes()
    await export_run(store, "run", path, program="bench", now=BEGIN)
    took = time.perf_counter() - before
    print(
        f"export: {steps:,} steps, {lines:,} lines in {took:.1f} s, {path.stat().st_size / 1e6:.1f} MB, "
        f"peak memory {peak:.0f} -> {peak_megabytes():.0f} MB"
    )
    await store.close()
    other = SQLiteStore(folder / "to.db")
    await other.open()
    before, peak = time.perf_counter(), peak_megabytes()
    await import_run(other, path, now=BEGIN)
    took = time.perf_counter() - before
    print(f"import: {took:.1f} s, peak memory {peak:.0f} -> {peak_megabytes():.0f} MB")
    before = time.perf_counter()
    await other.delete_run("run")
    print(f"delete: {time.perf_counter() - before:.1f} s")
    await other.close()


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1_000_000 if sys.platform == "darwin" else 1_000)


async def timed(what: str, call: Callable[[int], Awaitable[object]], times: int = 50) -> None:
    await call(0)
    spent = []
    for n in range(times):
        before = time.perf_counter()
        await call(n)
        spent.append(time.perf_counter() - before)
    spent.sort()
    print(f"{what:28} median {1000 * statistics.median(spent):7.2f} ms, p95 {1000 * spent[int(0.95 * times)]:7.2f} ms")


async def main(options: argparse.Namespace) -> None:
    only = set(options.only.split(","))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if "events" in only:
            for durability in ("process", "power"):
                for size in (1, 16, 1024):
                    steps = options.steps // (8 if durability == "power" and size == 1 else 1)
                    await write_events(folder, steps, size, durability, secrets=False)
            await write_events(folder, options.steps, 1, "process", secrets=True)
            await write_events(folder, options.steps, 16, "process", secrets=True)
        if "logs" in only:
            await write_logs(folder, options.lines)
        if "history" in only:
            await history(folder, options.runs)
        if "carry" in only:
            await carry(folder, options.steps // 2, options.lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--only", default="events,logs,history,carry")
    parser.add_argument("--folder", default=".")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    if given.profile:
        profiler = cProfile.Profile()
        profiler.runcall(asyncio.run, main(given))
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    else:
        asyncio.run(main(given))
