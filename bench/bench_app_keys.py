"""From a key to its paint while 10,000 log lines arrive and 50 steps change a second, in a run of 1,000 steps.

Another process writes the run; the app follows it, with the graph and the log of a step in sight. Keys walk through the
graph. Run by hand: `python bench/bench_app_keys.py`. Prints the median and the 95th percentile, how much of that the
screen's thread computed itself (a busy machine makes the rest longer), and the longest time for which it did nothing
else.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from textual import events

from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.values import Kept
from stepchain_tui.store import Batch, LogLine, SQLiteStore
from stepchain_tui.tui.app import StepChainApp
from stepchain_tui.tui.library import prepare_store
from stepchain_tui.tui.screens.run import RunScreen

STEPS, CHANGES, LINES, BATCHES = 1_000, 50, 10_000, 20
"""Of the changes and lines a second, how many batches they come in."""
KEYS, PAUSE_SECONDS, SECONDS = 300, 0.03, 40
P95_MS, LONGEST_MS = 33.0, 100.0
RUN = "bench"


async def write(path: Path) -> None:
    """Write the run, then for `SECONDS` what happens in it."""
    store, state, number = SQLiteStore(path), RunState(), 0
    await store.open()
    lock = store.acquire_run(RUN)
    names = [f"step_{n}" for n in range(STEPS)]

    def fact(kind: type[Any], **fields: Any) -> e.Event:
        nonlocal number
        number += 1
        made: e.Event = kind(seq=number, run_id=RUN, at=datetime.now(UTC), **fields)
        state.apply(made)
        return made

    outlines = tuple(
        e.StepOutline(id=name, kind="shell", parents=(names[(n - 1) // 3],) if n else ())
        for n, name in enumerate(names)
    )
    owner = e.OwnerRecord(pid=os.getpid(), process_started_at=0.0)
    begun = [
        fact(e.RunCreated, goal="Bench", plan={"steps": []}, steps=outlines),
        fact(e.RunStarted, owner=owner),
        fact(e.StepStarted, step_id=names[0], attempt=1),
    ]
    store.commit(Batch(events=begun, states={RUN: state}, touched={RUN: None}, owners={RUN: owner}))
    await store.flush()
    print("ready", flush=True)
    begin, place, done = time.monotonic(), 1, 0
    while done < SECONDS * BATCHES:
        done += 1
        made, touched = [], set()
        for _ in range(CHANGES // BATCHES + (done % 2)):
            if place < STEPS:
                name = names[place]
                made.append(fact(e.StepStarted, step_id=name, attempt=1))
                if place > 5:
                    made.append(
                        fact(e.StepSucceeded, step_id=names[place - 5], attempt=1, output=Kept(value={"rows": place}))
                    )
                    touched.add(names[place - 5])
                touched.add(name)
                place += 1
        at = datetime.now(UTC)
        lines = [
            (RUN, LogLine(at=at, step_id=names[n % 2], attempt=1, text=f"line {done} {n} of a chatty tool"))
            for n in range(LINES // BATCHES)
        ]
        store.commit(Batch(events=made, states={RUN: state}, touched={RUN: touched}, logs=lines))
        await asyncio.sleep(max(0.0, begin + done / BATCHES - time.monotonic()))
    await store.close()
    lock.release()


class Stopwatch:
    """Tells when what a key did is painted, and how long the screen's thread was busy at a stretch."""

    def __init__(self, app: StepChainApp) -> None:
        self._app = app
        self._painted = asyncio.Event()
        self._wanted = ""
        self.longest = 0.0
        self.computed: list[float] = []
        """Milliseconds of computing for each key."""
        display = app._display

        def shown(screen: Any, renderable: Any) -> None:
            display(screen, renderable)
            if isinstance(app.screen, RunScreen) and app.screen.graph.selected != self._wanted:
                self._painted.set()

        app._display = shown  # type: ignore[method-assign]

    async def press(self, key: str) -> float:
        """Return the milliseconds from a key to the paint of the step that it selects."""
        screen = self._app.screen
        assert isinstance(screen, RunScreen)
        self._wanted = screen.graph.selected or ""
        self._painted.clear()
        begin, computed = time.perf_counter(), time.thread_time()
        assert self._app._driver is not None
        self._app._driver.send_message(events.Key(key, key))
        await asyncio.wait_for(self._painted.wait(), 5)
        self.computed.append((time.thread_time() - computed) * 1000)
        return (time.perf_counter() - begin) * 1000

    async def watch(self) -> None:
        """Note the longest stretch for which nothing else had a turn."""
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.longest = max(self.longest, (now - last) * 1000 - 1)
            last = now


def start_writer(path: Path) -> subprocess.Popen[bytes]:
    """Return the process that writes the run, once it has begun."""
    writer = subprocess.Popen([sys.executable, __file__, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    return writer


def tell(what: str, took: list[float]) -> float:
    """Print how long something took and return the 95th percentile."""
    took.sort()
    p95 = took[int(len(took) * 0.95)]
    print(f"{what}: median {statistics.median(took):.1f} ms   p95 {p95:.1f} ms   most {took[-1]:.1f} ms")
    return p95


async def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        for variable in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            os.environ[variable] = name
        path = Path(name) / "runs.db"
        await prepare_store(path)
        writer = await asyncio.to_thread(start_writer, path)
        gc.disable()  # as `run_app` does: the app begins to collect once it is painted
        app = StepChainApp(path, run_id=RUN, folder=Path(name))
        try:
            async with app.run_test(size=(200, 60)) as pilot:
                await pilot.pause(2.0)  # after the first paint the app collects its garbage, and freezes the rest
                screen = app.screen
                assert isinstance(screen, RunScreen)
                screen.step_pane.tab = "log"
                screen.select_step("step_0")
                await pilot.pause(1.0)
                stopwatch = Stopwatch(app)
                watching = asyncio.create_task(stopwatch.watch())
                took = []
                for number in range(KEYS):
                    took.append(await stopwatch.press("jk"[number % 2]))  # down to a child, and up again
                    await asyncio.sleep(PAUSE_SECONDS)
                watching.cancel()
                lines = screen.step_pane.view.count if screen.step_pane.view is not None else 0
                await app.finish("keep")
        finally:
            writer.kill()
            writer.wait()
    p95 = tell(f"{KEYS} keys", took)
    tell("computed", stopwatch.computed)
    print(f"longest stretch {stopwatch.longest:.1f} ms   log lines by then {lines:,}")
    return 0 if p95 <= P95_MS and stopwatch.longest <= LONGEST_MS else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(write(Path(sys.argv[1])))
    else:
        sys.exit(asyncio.run(main()))
