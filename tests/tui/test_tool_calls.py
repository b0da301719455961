"""The tab of tool calls: each call with its state, time, arguments and result, also while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from told_runs import ToldRun
from tui_desk import Desk, Person, lend_terminal

from stepchain_tui.cli.family import Family
from stepchain_tui.cli.showing import put_run
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tui.calls import MOST_CALLS, read_calls
from stepchain_tui.tui.widgets.tools_pane import ToolsPane
from tests.support.command_line import CommandLine

WIDE = (200, 50)


async def look_at_tools(person: Person, step_id: str = "agent") -> ToolsPane:
    person.run.step_pane.tab = "tools"
    person.run.select_step(step_id)
    await person.quiet()
    return person.run.query_one(ToolsPane)


async def test_calls_are_listed_with_tool_state_time_arguments_and_result_or_error(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "agent", "quiet")
        run.begins("agent")
        run.called("agent", "1", "web_search", {"query": "rain", "limit": 5}, {"hits": 3}, seconds=0.25)
        run.called("agent", "2", "fetch_page", {"url": "https://a.test"}, error="404 not found", seconds=3.25)
        await run.write()
    async with desk.app(run_id="told", size=WIDE) as person:
        await look_at_tools(person)
        first, second = (
            next(line for line in person.text.splitlines() if tool in line) for tool in ("web_search", "fetch_page")
        )
        assert all(text in first for text in ("✓ succeeded", "250ms", 'query="rain", limit=5', '{"hits":3}'))
        assert all(text in second for text in ("✕ failed", "3.2s", 'url="https://a.test"', "tool error: 404 not found"))
        assert person.text.index("fetch_page") < person.text.index("web_search"), "the newest call is on top"
        await person.sees(
            '"url": "https://a.test"', "hint: Ask differently.", "took 3.250s", "0.010s of them computing"
        )
        await person.press("2", "down")
        await person.sees('"query": "rain"', '"hits": 3')
        await look_at_tools(person, "quiet")
        await person.sees("no tool was called")


async def test_a_call_is_there_while_it_runs_and_the_chosen_one_stays_chosen(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "agent")
        run.begins("agent")
        run.called("agent", "1", "first", {"n": "one"}, "uno")
        run.called("agent", "2", "second", {"n": "two"}, "due")
        await run.write()
        async with desk.app(run_id="told", size=WIDE) as person:
            await look_at_tools(person)
            await person.press("2", "down")
            await person.sees('"n": "one"', "uno")
            run.calls("agent", "3", "third", {"n": "three"})
            await run.write()
            await person.sees("▶ running", "third")
            await person.quiet()
            await person.sees('"n": "one"', "uno")
            await person.press("g")
            await person.sees('"n": "three"', "no result: running")
            run.tell(
                e.ToolFinished, step_id="agent", attempt=1, call_id="3", tool_name="third", execution_time=61.0,
                arguments={"n": "three"}, result=store.keep("tre"),
            )  # fmt: skip
            await run.write()
            await person.sees("1:01", "tre", "took 61.000s")
            assert "running: " not in person.text


async def test_a_call_whose_attempt_ended_without_it_runs_no_more(desk: Desk) -> None:
    failure = Failure(error_type=ErrorType.TIMEOUT, message="too slow")
    async with desk.store() as store:
        run = ToldRun(store, "told", "agent")
        run.begins("agent")
        run.calls("agent", "1", "sleepy", {})
        run.tell(e.StepTimedOut, step_id="agent", attempt=1, error=failure)
        await run.write()
    async with desk.app(run_id="told", size=WIDE) as person:
        await look_at_tools(person)
        assert "⧖ timed out" in next(line for line in person.text.splitlines() if "sleepy" in line)
        await person.sees("no result: timed out")


async def test_calls_of_several_attempts_and_items_say_who_called(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "agent")
        run.begins("agent")
        run.called("agent", "1", "again", {})
        run.tell(e.StepInterrupted, step_id="agent", attempt=1, reason="the engine ended")
        run.begins("agent", attempt=2)
        run.called("agent", "1", "again", {}, attempt=2)
        await run.write()
    async with desk.app(run_id="told", size=WIDE) as person:
        pane = await look_at_tools(person)
        assert pane.table.table is not None
        assert [pane.table.table.cell(row, 0)[0] for row in range(2)] == ["2", "1"]


async def test_a_large_result_is_shown_in_part_and_whole_in_the_pager(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "page.sh"
    script.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/paged\n')
    script.chmod(0o755)
    monkeypatch.setenv("PAGER", str(script))
    async with desk.store() as store:
        run = ToldRun(store, "told", "agent")
        run.begins("agent")
        run.called("agent", "1", "big", {"n": 1}, [f"entry {n}" for n in range(50_000)])
        await run.write()
    async with desk.app(run_id="told", size=WIDE) as person:
        lend_terminal(monkeypatch, person)
        pane = await look_at_tools(person)
        await person.sees("bytes in all: o opens all of it in the pager")
        assert len(pane.call.content.raw) < 3_000
        await person.press("o")
        paged = (tmp_path / "paged").read_text()
        assert '"entry 49999"' in paged
        assert '"n": 1' in paged


async def test_nothing_that_a_tool_says_reaches_the_terminal_as_a_command(desk: Desk) -> None:
    nasty = "\x1b[2J\x1b]0;owned\x07[bold]\u202eevil"
    async with desk.store() as store:
        run = ToldRun(store, "told", "agent")
        run.begins("agent")
        run.called("agent", "1", f"tool{nasty}", {nasty: nasty}, nasty)
        run.called("agent", "2", "other", nasty, error=nasty)
        await run.write()
    async with desk.app(run_id="told", size=WIDE) as person:
        await look_at_tools(person)
        await person.press("2")
        for _ in range(2):
            assert not set("\x1b\x07\u202e") & set(person.text)
            assert "[bold]" in person.text
            await person.press("down")


async def test_the_newest_calls_are_listed_and_how_many_more_there_were_is_told(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "agent")
        run.begins("agent")
        for n in range(MOST_CALLS + 5):
            run.called("agent", str(n), f"tool_{n}", {"n": n}, n)
        await run.write()
    async with desk.app(run_id="told", size=WIDE) as person:
        pane = await look_at_tools(person)
        assert pane.table.count == MOST_CALLS
        await person.sees(f"tool_{MOST_CALLS + 4}", "5 older calls not shown")
        await person.press("2", "slash")
        await person.type("tool_7 ")
        await person.press("backspace", "enter")
        await person.until(lambda: pane.table.found_line is not None)


async def test_calls_of_a_damaged_run_are_shown_all_the_same(desk: Desk) -> None:
    import sqlite3

    async with desk.store() as store:
        run = ToldRun(store, "told", "agent", "other")
        run.begins("agent")
        run.called("agent", "1", "web_search", {"query": "rain"}, "wet")
        run.begins("other")
        await run.write()
    with sqlite3.connect(desk.store_path) as connection:
        connection.execute("UPDATE events SET data = '{broken' WHERE id = (SELECT max(id) FROM events)")
    connection.close()
    async with desk.app(run_id="told", size=WIDE) as person:
        await look_at_tools(person)
        await person.sees("web_search", "wet")


PLAN = """
goal: Call tools
tools: {shout: "./tools.py:shout"}
steps:
  - {id: loud, tool: shout, args: {text: hello, times: 2}}
  - {id: bad, tool: shout, args: {text: boom}, on_failure: continue, retry: {max_attempts: 1}}
"""
TOOLS = '''
def shout(text: str, times: int = 1) -> dict:
    """Say it loudly."""
    if text == "boom":
        raise RuntimeError("too loud \\x1b[31m")
    return {"said": text.upper() * times}
'''


async def test_a_tool_step_shows_its_call(desk: Desk) -> None:
    desk.plan(TOOLS, "tools.py")
    async with desk.app(plan=desk.plan(PLAN), size=WIDE) as person:
        await person.press("s")
        await person.run_has_ended()
        await look_at_tools(person, "loud")
        await person.sees('text="hello", times=2', '{"said":"HELLOHELLO"}', "✓ succeeded", '"said": "HELLOHELLO"')
        await look_at_tools(person, "bad")
        await person.sees("✕ failed", 'text="boom"', "too loud", "RuntimeError")


def test_the_command_line_tells_calls_in_a_line_each(desk: Desk) -> None:
    desk.plan(TOOLS, "tools.py")
    desk.plan(PLAN)
    said = CommandLine(desk.folder)("run", "plan.yaml").err
    loud, bad = (next(line for line in said.splitlines() if name in line) for name in ("loud: shout", "bad: shout"))
    assert loud.startswith("  ✓ loud: shout  ")
    assert loud.endswith('ms  text="hello", times=2')
    assert bad.startswith("  ✕ bad: shout  ")
    assert "too loud" in bad
    assert "\x1b" not in said


async def test_show_lists_the_newest_calls_of_a_step(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "agent")
        run.begins("agent")
        for n in range(25):
            run.called("agent", str(n), f"tool_{n}", {"n": n}, n * 10)
        run.calls("agent", "last", "slow", {"text": "\x1b[2J"})
        await run.write()
        calls = await read_calls(store, "told")
        summary = await store.get_run("told")
        put_run(run.state, summary, {}, Family((), False), full=False, calls=calls)
        few = capsys.readouterr().out
        put_run(run.state, summary, {}, Family((), False), full=True, calls=calls)
        assert "tool_0 " in capsys.readouterr().out
    assert "agent: 26 tool calls, the newest 20 of them:" in few
    lines = few.splitlines()
    assert next(line for line in lines if "tool_24" in line).split() == ["✓", "tool_24", "250ms", "n=24", "→", "240"]
    assert lines[-1].split()[:2] == ["▶", "slow"]
    assert lines[-1].endswith("→ running")
    assert "tool_0 " not in few
    assert "\x1b" not in few


async def test_a_call_that_a_person_answered_is_one_call(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    denied = Failure(error_type=ErrorType.USER_ERROR, message="denied by bob", exception="DeniedError")
    async with desk.store() as store:
        run = ToldRun(store, "told", "agent")
        run.begins("agent")
        for call_id, approved in (("1", True), ("2", False)):
            asked = {"step_id": "agent", "attempt": 1, "call_id": f"{call_id}#ab12"}
            run.tell(e.ToolApprovalAsked, **asked, tool_name="save", arguments={"n": call_id})
            run.tell(e.ToolApprovalGiven, **asked, approved=approved, by="ada")
        run.begins("agent", attempt=2)
        run.called("agent", "1", "save", {"n": "1"}, "saved", attempt=2)
        run.tell(
            e.ToolFinished, step_id="agent", attempt=2, call_id="2", tool_name="save", execution_time=0.0,
            arguments={"n": "2"}, error=denied,
        )  # fmt: skip
        await run.write()
        calls = (await read_calls(store, "told")).of("agent")
        assert [(call.call_id, call.status) for call in calls] == [("2", "denied"), ("1", "succeeded")]
        assert calls[1].result == '"saved"; allowed, by ada'
        run.turn("agent", 1, [], [], input_tokens=None, output_tokens=None)
        summary = await store.get_run("told")
        put_run(run.state, summary, {}, Family((), False), full=False, calls=await read_calls(store, "told"))
    shown = capsys.readouterr().out
    assert "agent: 2 tool calls:" in shown
    assert "tokens   unknown\n" in shown
