"""A few pictures of whole screens; what they must say is held by other tests, these hold how it looks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from stepchain_tui.core.clock import FakeClock
from stepchain_tui.engine.receipt import Decision, Receipt, ReceiptLine
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import AttemptStatus, ErrorType
from stepchain_tui.run.values import Kept
from stepchain_tui.store import Batch, LogLine, SQLiteStore
from stepchain_tui.tui.app import StepChainApp
from stepchain_tui.tui.screens.receipt import ReceiptScreen
from stepchain_tui.tui.screens.run import RunScreen

pytestmark = pytest.mark.needs("Python 3.11")

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
RUN = "20260101-120000-demo"
PARENTS = {"fetch": (), "clean": ("fetch",), "enrich": ("fetch",), "report": ("clean", "enrich")}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def facts() -> list[e.Event]:
    """A run that was paused while a step waits for its second try."""
    failure = Failure(
        error_type=ErrorType.RATE_LIMIT, message="429 slow down", exception="RateLimitError",
        hint="Wait, or lower max_concurrent.", traceback="Traceback (most recent call last):\n  ...",
    )  # fmt: skip
    outlines = tuple(e.StepOutline(id=name, kind="shell", parents=parents) for name, parents in PARENTS.items())
    number = iter(range(1, 100))

    def fact(kind: type[Any], seconds: float, **fields: Any) -> e.Event:
        made: e.Event = kind(seq=next(number), run_id=RUN, at=at(seconds), **fields)
        return made

    return [
        fact(e.RunCreated, 0, goal="Sales report", plan={"steps": []}, steps=outlines, plan_path="/plans/sales.yaml"),
        fact(e.RunStarted, 0, owner=e.OwnerRecord(pid=1, process_started_at=0.0)),
        fact(e.StepStarted, 0, step_id="fetch", attempt=1, input=Kept(value={"command": "fetch"})),
        fact(e.StepSucceeded, 4, step_id="fetch", attempt=1, output=Kept(value={"rows": 120, "from": ["a", "b"]})),
        fact(e.StepStarted, 4, step_id="clean", attempt=1),
        fact(e.StepStarted, 4, step_id="enrich", attempt=1, max_attempts=3),
        fact(e.StepRetryScheduled, 6, step_id="enrich", attempt=1, status=AttemptStatus.FAILED, error=failure,
             delay=60.0, retry_at=at(66), tries=1, max_attempts=3, reason="rate limit, Retry-After"),
        fact(e.StepSucceeded, 9, step_id="clean", attempt=1, output=Kept(value="clean")),
        fact(e.ModelTurn, 9, step_id="clean", attempt=1, model="scripted", input_tokens=12_000, output_tokens=400),
        fact(e.RunPaused, 9, reason="paused by ada"),
    ]  # fmt: skip


async def write(path: Path) -> None:
    store = SQLiteStore(path)
    await store.open()
    state, events = RunState(), facts()
    for event in events:
        state.apply(event)
    logs = [
        (RUN, LogLine(at=at(5), step_id="enrich", attempt=1, text="asking for 40 rows")),
        (RUN, LogLine(at=at(6), step_id="enrich", attempt=1, stream="stderr", text="429 slow down")),
    ]
    store.commit(Batch(events=events, states={RUN: state}, touched={RUN: None}, logs=logs))
    await store.close()


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StepChainApp]:
    time.tzset()
    monkeypatch.setattr(StepChainApp, "_warm_up", lambda _: None)
    asyncio.run(write(tmp_path / "runs.db"))
    made = StepChainApp(tmp_path / "runs.db", run_id=RUN, clock=FakeClock(at(30)), folder=Path("/"))
    yield made
    asyncio.run(made.finish("keep"))


def ready(*keys: str, step: str = "enrich", tab: str = "output") -> Any:
    async def run_before(pilot: Pilot[Any]) -> None:
        app = pilot.app
        assert isinstance(app, StepChainApp)
        assert isinstance(app.screen, RunScreen)
        while app.screen.session.view is None:
            await pilot.pause(0.02)
        app.screen.step_pane.tab = tab
        app.screen.select_step(step)
        await app.settled()
        await pilot.press(*keys)
        await pilot.pause(0.1)
        await app.settled()

    return run_before


def test_a_run_with_a_retry(snap_compare: Any, app: StepChainApp) -> None:
    """Graph, tries with the error and its log, timeline."""
    assert snap_compare(app, terminal_size=(120, 34), run_before=ready(tab="tries"))


def test_a_run_on_a_small_terminal(snap_compare: Any, app: StepChainApp) -> None:
    """Rails at the left, the log at the right."""
    assert snap_compare(app, terminal_size=(80, 24), run_before=ready(tab="log"))


def test_a_run_in_ascii(snap_compare: Any, app: StepChainApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but ASCII from us."""
    from stepchain_tui.tui.glyphs import ASCII

    app.glyphs = ASCII
    assert snap_compare(app, terminal_size=(100, 30), run_before=ready(step="fetch"))


def test_the_keys_of_a_run(snap_compare: Any, app: StepChainApp) -> None:
    """The menu of all keys over a run."""
    assert snap_compare(app, terminal_size=(120, 34), run_before=ready("question_mark"))


def test_a_receipt(snap_compare: Any, app: StepChainApp) -> None:
    """What runs, what is stale, what is left and what is taken again, with a warning above."""
    lines = [
        ReceiptLine(step_id="fetch", decision=Decision.REUSE, reason="it succeeded", seconds=252.0),
        ReceiptLine(step_id="clean", decision=Decision.STALE, reason="it stands on fetch", cause="fetch", seconds=9.0),
        ReceiptLine(step_id="enrich", decision=Decision.RUN, reason="its attempt 1 was cut off"),
        ReceiptLine(step_id="report", decision=Decision.LEAVE, reason="skipped by ada"),
    ]
    warning = "enrich: attempt 1 began at 2026-01-01 12:00:04 UTC and never reported: its effect may have happened"
    receipt = Receipt(run_id=RUN, command="edit", steps=tuple(lines), warnings=(warning,))

    async def run_before(pilot: Pilot[Any]) -> None:
        await ready()(pilot)
        await app.push_screen(ReceiptScreen("Apply the edit?", receipt, app.glyphs, accept="apply"))
        await pilot.pause(0.1)

    assert snap_compare(app, terminal_size=(80, 24), run_before=run_before)
