"""What one frame of a large run costs the screen's thread: 50 changed steps of 1,000, beside a full screen.

Run by hand: `python bench/bench_app_frames.py`. Prints the median and the 95th percentile of handling and painting.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stepchain_tui.run.status import RunStatus, StepStatus
from stepchain_tui.tui.app import StepChainApp
from stepchain_tui.tui.library import prepare_store
from stepchain_tui.tui.screens.run import RunScreen
from stepchain_tui.tui.views import Frame, RunView, Span, StepView

STEPS, CHANGED, FRAMES, BOUND_MS = 1_000, 50, 200, 33.0
START = datetime(2026, 1, 1, tzinfo=UTC)


def frames() -> list[Frame]:
    names = [f"step_{n}" for n in range(STEPS)]
    parents = {name: (names[(n - 1) // 3],) if n else () for n, name in enumerate(names)}
    steps = {name: StepView(name, "shell") for name in names}
    view = RunView("bench", status=RunStatus.RUNNING, live=True, total=STEPS, started_at=START)
    made = [Frame(view, dict(steps), parents)]
    for number in range(FRAMES):
        at = START + timedelta(seconds=number)
        chosen = [names[(number * CHANGED + n) % STEPS] for n in range(CHANGED)]
        status = StepStatus.RUNNING if (number * CHANGED // STEPS) % 2 == 0 else StepStatus.SUCCEEDED
        changed = {
            name: StepView(name, "shell", status=status, started_at=at, spans=(Span(at, None, str(status)),))
            for name in chosen
        }
        made.append(Frame(dataclasses.replace(view, done=number), changed))
    return made


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for variable in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
            os.environ[variable] = name
        folder = Path(name)
        await prepare_store(folder / "runs.db")
        (folder / "plan.yaml").write_text("steps:\n  - {id: step_0, shell: 'true'}\n")
        app = StepChainApp(folder / "runs.db", folder / "plan.yaml", in_process=True, folder=folder)
        app.clock = type("Clock", (), {"now": lambda _: START + timedelta(seconds=FRAMES)})()  # type: ignore[assignment]
        async with app.run_test(size=(200, 60)) as pilot:
            await pilot.pause(0.5)
            screen = app.screen
            assert isinstance(screen, RunScreen)
            first, *others = frames()
            screen.take_frame(first)
            await pilot.pause(1.0)
            gc.collect()
            gc.freeze()  # as `run_app` does once the app is painted
            took = []
            for frame in others:
                begin = time.perf_counter()
                screen.take_frame(frame)
                handled = time.perf_counter() - begin
                begin = time.perf_counter()
                screen._compositor.render_strips()
                took.append((handled + time.perf_counter() - begin) * 1000)
                await asyncio.sleep(0)
            await app.finish("cancel")
    took.sort()
    p95 = took[int(len(took) * 0.95)]
    print(f"{STEPS} steps, {CHANGED} changed: median {statistics.median(took):.1f} ms   p95 {p95:.1f} ms")
    sys.exit(0 if p95 <= BOUND_MS else 1)


if __name__ == "__main__":
    asyncio.run(main())
