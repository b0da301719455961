"""The log of a step: a million lines cost what a screenful costs, and nothing a tool prints harms the terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from told_runs import ToldRun
from tui_desk import Desk

from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.run.values import Kept
from stepchain_tui.store import Batch, LogLine, SQLiteStore
from stepchain_tui.tui.log_lines import GrowingLog, WholeLines
from stepchain_tui.tui.text import shortened, visible
from stepchain_tui.tui.widgets.log_view import PAGES, LogView
from tests.support.command_line import CommandLine

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MILLION = 1_000_000


def write_run(store: SQLiteStore, run_id: str, lines: int, texts: dict[int, str]) -> None:
    """Store a run that is over, whose one step printed `lines` lines."""
    state = RunState()
    facts = [
        e.RunCreated(
            seq=1, run_id=run_id, at=NOW, goal="a lot of lines", plan={"steps": []},
            steps=(e.StepOutline(id="loud", kind="shell"),),
        ),
        e.RunStarted(seq=2, run_id=run_id, at=NOW, owner=e.OwnerRecord(pid=1, process_started_at=0.0)),
        e.StepStarted(seq=3, run_id=run_id, at=NOW, step_id="loud", attempt=1),
    ]  # fmt: skip
    for fact in facts:
        state.apply(fact)
    store.commit(Batch(events=list(facts), states={run_id: state}, touched={run_id: None}))
    for start in range(0, lines, 20_000):
        logs = [
            (run_id, LogLine(at=NOW, step_id="loud", attempt=1, text=texts.get(n, f"line {n}")))
            for n in range(start, min(start + 20_000, lines))
        ]
        store.commit(Batch(logs=logs))
    ends = [
        e.StepSucceeded(seq=4, run_id=run_id, at=NOW, step_id="loud", attempt=1, output=Kept(value="done")),
        e.RunFinished(seq=5, run_id=run_id, at=NOW, status=RunStatus.SUCCEEDED),
    ]
    for fact in ends:
        state.apply(fact)
    store.commit(Batch(events=list(ends), states={run_id: state}, touched={run_id: None}))


@pytest.mark.timeout(300)
async def test_a_million_lines_scroll_like_a_hundred(desk: Desk) -> None:
    async with desk.store() as store:
        write_run(store, "huge", MILLION, {777_777: "the needle"})
        await store.flush()
    async with desk.app(run_id="huge") as person:
        person.run.step_pane.tab = "log"
        await person.sees("line 999999")
        log = person.run.step_pane.query_one("#log", LogView)
        assert log.count == MILLION
        assert log.virtual_size.height == MILLION
        await person.press("2")
        before = log.reads
        assert before <= 4
        await person.press("g")
        await person.sees("line 0")
        log.scroll_to(y=500_000, animate=False)
        await person.quiet()
        await person.sees("line 500000")
        await person.press("pagedown", "pagedown", "G")
        await person.sees("line 999999")
        assert log.reads - before <= 12
        assert len(log._pages) <= PAGES
        await person.press("g", "slash")
        await person.type("needle")
        await person.press("enter")
        await person.sees("the needle")
        assert log.found_line == 777_777


async def test_only_pages_in_sight_are_read_however_far_one_scrolls(desk: Desk) -> None:
    async with desk.store() as store:
        write_run(store, "large", 50_000, {})
        await store.flush()
    async with desk.app(run_id="large") as person:
        person.run.step_pane.tab = "log"
        await person.sees("line 49999")
        log = person.run.step_pane.query_one("#log", LogView)
        for step in range(200):
            log.scroll_to(y=step * 249, animate=False)
        await person.quiet()
        assert log.reads < 60
        await person.sees("line 49551")


async def test_the_newest_line_stays_in_sight_until_one_goes_up(desk: Desk) -> None:
    plan = desk.plan(
        f"steps:\n  - {{id: loud, shell: 'seq 1 200; while [ ! -e {desk.folder}/go ]; do sleep 0.02; done; "
        "seq 201 400; echo the end'}\n"
    )
    async with desk.app(plan=plan) as person:
        person.run.step_pane.tab = "log"
        await person.press("s")
        await person.sees(" 200")
        log = person.run.step_pane.query_one("#log", LogView)
        assert log.follow
        await person.press("2", "g")
        assert not log.follow
        (desk.folder / "go").touch()
        await person.run_is("succeeded")
        await person.until(lambda: log.count == 401)
        assert log.scroll_y == 0
        await person.press("f")
        await person.sees("the end")


async def test_nothing_that_a_tool_prints_is_markup_or_reaches_the_terminal(desk: Desk) -> None:
    (desk.folder / "nasty.txt").write_bytes(
        b"plain [bold]not bold[/bold] [red\n"
        b"\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b[2J\x1b[H\x1bPdcs\x1b\\after\n"
        b"bell\x07 back\x08 null\x00 \x9b31mc1\n"
        b"tab\there\rover\n" + b"x" * 5000 + b"\n" + "\u202eright to left\u2066\n".encode()
    )
    plan = desk.plan("steps:\n  - {id: nasty, shell: 'cat nasty.txt; exit 0'}\n")
    async with desk.app(plan=plan, size=(120, 40)) as person:
        await person.press("s")
        await person.run_is("succeeded")
        for tab in ("log", "output", "tries", "input"):
            person.run.step_pane.tab = tab
            await person.quiet()
            shown = person.text.replace("\n", "")
            assert all(character.isprintable() for character in shown), tab
        person.run.step_pane.tab = "log"
        await person.sees("plain [bold]not bold[/bold] [red", "redafter", "bell␇ back␈", "over")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10%\r20%\r30%", "30%"),
        ("done\r", "done"),
        ("a\tb", "a   b"),
        ("\x00\x7f", "␀␡"),
        ("a\u202eb", "a·b"),
        ("日本", "日本"),
    ],
)
def test_text_is_made_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_long_line_is_cut_with_a_marker() -> None:
    assert shortened("x" * 2_500).endswith("… 500 more characters")


async def test_the_command_line_prints_a_line_that_came_in_pieces_as_a_line(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "ask", kind="prompt")
        run.begins("ask")
        await run.write()
        await run.writes("ask", "one ", item=0)
        await run.writes("ask", "uno ", item=1)
        await run.writes("ask", "two", item=0)
        await run.writes("ask", "a thought\rof mine", item=1, stream="reasoning")
        await run.writes("ask", "", item=0, stream="text")
        await run.writes("ask", "cut o", item=0)
        await run.writes("ask", "f", item=0)
        await run.writes("ask", "once more", item=0, attempt=2)
    stepchain = CommandLine(desk.folder)
    lines = [
        line.partition(" ")[2] for line in stepchain("logs", "told", "--store", str(desk.store_path)).out.splitlines()
    ]
    assert lines == [
        "ask[1] a thought␍of mine", "ask[0] one two", "ask[0] cut of", "ask[1] uno ", "ask[0] once more",
    ]  # fmt: skip
    told = stepchain("logs", "told", "ask", "--json", "--store", str(desk.store_path)).out
    assert "text+" not in told
    assert [json.loads(line)["text"] for line in told.splitlines()][1] == "one two"


def test_a_line_longer_than_the_store_keeps_is_cut_and_nothing_of_it_lost() -> None:
    rows = [LogLine(n=n, at=NOW, step_id="a", attempt=1, stream="text+", text="x" * 1_000) for n in range(1, 100)]
    whole, grown = WholeLines(), GrowingLog()
    lines = [line for row in rows for line in whole.take(row)] + list(whole.rest())
    grown.take(rows)
    assert [len(line.text) for line in lines] == [len(line.text) for line in grown.lines] == [65_000, 34_000]
    assert list(whole.rest()) == []
