"""How soon stopped work is gone: `python bench/bench_stopping.py`.

For a worker process, a command and a snippet in the sandbox, each stopped by its timeout, by `cancel` of its step and
by `cancel` of its run: prints the seconds until its processes and their children are gone, and until its slots are
free. Functions and commands have children and do not listen to TERM, so that the whole grace is part of the time. Exits
with 1 where any of it takes over 4 s. `--rounds N`: how often each is measured: the median is printed, the worst held.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil

from stepchain_tui.engine import Engine, RunSource
from stepchain_tui.plan import Plan
from stepchain_tui.run import Event
from stepchain_tui.run.events import StepStarted
from stepchain_tui.store import Command, SQLiteStore

BOUND = 4.0
TIMEOUT = 2.0
"""Seconds of an attempt that is stopped by its timeout: long enough for a worker to start and begin."""
WAYS = ("timeout", "cancel step", "cancel run")
FUNCTION = """
import pathlib, signal, subprocess, time
def deaf(folder):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "300"])
    (pathlib.Path(folder) / "ready").touch()
    while True:
        time.sleep(300)
"""
SHELL = (
    "trap '' TERM; sleep 300 & (trap '' TERM; while :; do sleep 300; done) & touch ready; while :; do sleep 300; done"
)
SNIPPET = "import time\nprint('ready')\ntime.sleep(0.001)\nwhile True:\n    pass"
"""What it prints comes out when it rests."""


def step_of(kind: str, folder: Path, timeout: float | None) -> dict[str, object]:
    """Return a step that never ends."""
    limit = {} if timeout is None else {"timeout": timeout}
    if kind == "process":
        args = {"folder": str(folder)}
        return {"id": "a", "function": "./deaf.py:deaf", "args": args, "mode": "process", **limit}
    return {"id": "a", "shell": SHELL, **limit} if kind == "shell" else {"id": "a", "python": SNIPPET, **limit}


def living() -> set[psutil.Process]:
    """Return our children and theirs, but for dead ones that nobody has collected."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
        except psutil.NoSuchProcess:
            continue
    return found


async def work_of(engine: Engine, kind: str, folder: Path, before: set[psutil.Process]) -> set[psutil.Process]:
    """Return the processes of the body once it does what never ends."""
    while True:
        await asyncio.sleep(0.005)
        if not (await engine.store.read_log("run") if kind == "python" else (folder / "ready").exists()):
            continue
        # The guard of the sandbox's workers stays as long as the engine.
        if found := {process for process in living() - before if kind != "python" or process.name() == "monty"}:
            return found


async def stop_time(kind: str, how: str, folder: Path) -> tuple[float, float]:
    """Return the seconds until the processes of a stopped step are gone, and until its slots are free."""
    (folder / "deaf.py").write_text(FUNCTION)
    plan = Plan.model_validate({"steps": [step_of(kind, folder, TIMEOUT if how == "timeout" else None)]})
    source = RunSource(plan=plan, folder=folder, working_folder=folder)
    before, started = living(), [0.0]

    def hear(events: list[Event]) -> None:
        if any(isinstance(event, StepStarted) for event in events):
            started[0] = time.perf_counter()

    async with Engine(SQLiteStore(folder / "runs.db")) as engine:
        handle = await engine.start(source, run_id="run")
        handle.subscribe(hear)
        at_work = await work_of(engine, kind, folder, before)
        if (kind, how) == ("python", "timeout"):
            at_work = set()  # such a snippet ends itself: its worker is kept for the next one
        if how == "timeout":
            begin = started[0] + TIMEOUT
        else:
            begin = time.perf_counter()
            arguments = {"step": "a"} if how == "cancel step" else {}
            order = Command(id="stop", run_id="run", command="cancel", arguments=arguments, sent_at=datetime.now(UTC))
            await engine.apply(order)
        gone = free = 0.0
        await asyncio.sleep(begin - time.perf_counter())
        while not (gone and free):
            gone = gone or (0.0 if at_work & living() else time.perf_counter() - begin)
            free = free or (0.0 if engine.core.slots.taken else time.perf_counter() - begin)
            await asyncio.sleep(0.002)
        await handle.wait()
    return gone, free


def main() -> int:
    """Print the figures; 1 where the bound is not held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds, worst = parser.parse_args().rounds, 0.0
    for kind in ("process", "shell", "python"):
        for how in WAYS:
            found = []
            for _ in range(rounds):
                with tempfile.TemporaryDirectory() as name:
                    found.append(asyncio.run(asyncio.wait_for(stop_time(kind, how, Path(name)), 60)))
            gone, free = (statistics.median(pair[place] for pair in found) for place in (0, 1))
            worst = max(worst, *(max(pair) for pair in found))
            print(f"{kind:8} {how:12} processes gone {gone:6.3f} s, slots free {free:6.3f} s")
    print(f"the longest took {worst:.3f} s (held: under {BOUND:g})")
    return 0 if worst < BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
