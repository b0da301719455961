"""The Tools screen: what can be called, how it fares, which servers answer, and what a person does about those."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tui_desk import Desk, Person, lend_terminal

from stepchain_tui.core.settings import Settings
from stepchain_tui.store.archive import export_run
from stepchain_tui.store.importing import import_run
from stepchain_tui.tui.actions import Scope, in_scopes
from stepchain_tui.tui.host import HostError
from stepchain_tui.tui.screens.home import HomeScreen
from stepchain_tui.tui.screens.tools import ToolsScreen

PLAN = "goal: Use tools\nsteps:\n  - {id: hello, shell: 'echo hello'}\n"
HIGH, LOW = (200, 60), (80, 24)
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}


def tool(name: str, kind: str = "plan", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "kind": kind, "server": name.partition(".")[0] if kind == "mcp" else "", "description": "",
        "arguments": None, "calls": 0, "succeeded": 0, "failed": 0, "success_rate": None, "mean_seconds": None,
        "cpu_share": None, "hint": "", "last_called_at": None, "last_error": "", **more,
    }  # fmt: skip


def called(succeeded: int, failed: int, mean: float) -> dict[str, Any]:
    calls = succeeded + failed
    numbers = {"calls": calls, "succeeded": succeeded, "failed": failed}
    return {**numbers, "success_rate": succeeded / calls, "mean_seconds": mean}


def server(name: str, state: str = "ready", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "transport": "stdio", "where": f"mcp-{name} --root data", "state": state, "since": None,
        "tools": 2, "protocol_version": "2025-06-18", "error": "", "hint": "", "pid": 4711, "stderr_path": "",
        "restarts": 0, "from": "plan", **more,
    }  # fmt: skip


class FakeTools:
    """What an engine would tell of its tools, and what it was asked."""

    def __init__(self, **answer: Any) -> None:
        self.answer: dict[str, Any] = {
            "tools": [],
            "servers": [],
            "breakers": [],
            "pools": [],
            "problems": [],
            **answer,
        }
        self.asked: list[tuple[str | None, bool]] = []
        self.done: list[tuple[str, str]] = []
        self.connected = asyncio.Event()
        self.connected.set()
        self.refusal: HostError | None = None

    async def tools(self, plan_path: str | None, *, connect: bool) -> dict[str, Any]:
        self.asked.append((plan_path, connect))
        if connect:
            await self.connected.wait()
        if self.refusal is not None:
            raise self.refusal
        return self.answer

    async def restart_server(self, name: str) -> None:
        self.done.append(("restart", name))
        if self.refusal is not None:
            raise self.refusal

    async def reset_breaker(self, name: str) -> None:
        self.done.append(("reset", name))
        self.answer["breakers"] = []


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTools]:
    """Every app's engine tells of these tools."""
    from stepchain_tui.tui.thread_host import ThreadHost

    fake = FakeTools()
    for name in ("tools", "restart_server", "reset_breaker"):
        monkeypatch.setattr(
            ThreadHost, name, lambda _, *args, name=name, **more: getattr(fake, name)(*args, **more), raising=False
        )
    return fake


def line_with(person: Person, text: str) -> str:
    return next((line for line in person.text.splitlines() if text in line), "")


def full(engine: FakeTools) -> None:
    """A bit of everything."""
    engine.answer = {
        "tools": [
            tool(
                "fs.read_file",
                "mcp",
                description="Reads a file.\nOnly text.",
                arguments=SCHEMA,
                **called(199, 1, 0.012),
            ),
            tool("parse", hint="process", **called(3, 1, 2.5), cpu_share=0.98, last_error="ValueError: bad row"),
            tool("web_search", "built_in"),
        ],
        "servers": [
            server("fs"),
            server("clock", "failed", tools=None, pid=None, error="mcp-clock: not found", hint="Install it."),
            server("far", "connecting", transport="http", where="https://far.test/mcp", tools=None, pid=None),
        ],
        "breakers": [
            {
                "name": "openai",
                "state": "half_open",
                "failures": 5,
                "opened_at": None,
                "until": "2026-01-01T12:00:30+00:00",
                "last_error": "429 slow",
            }
        ],
        "pools": [{"name": "threads", "size": 8, "busy": 2, "idle": 1, "waiting": 3, "address": ""}],
        "problems": ["clock: mcp-clock: not found"],
    }


async def test_all_lists_are_in_sight_where_there_is_room(desk: Desk, engine: FakeTools) -> None:
    full(engine)
    desk.plan(PLAN, "hello.yaml")
    async with desk.app(size=HIGH) as person:
        await person.press("M")
        await person.sees("1 Tools", "2 MCP servers", "3 Breakers", "4 Pools", "5 fs.read_file")
        assert all(text in line_with(person, "fs.read_file  ") for text in ("MCP", "99% of 200", "12ms"))
        assert all(text in line_with(person, "parse  ") for text in ("75% of 4", "2.5s", "use a process"))
        assert "not called" in line_with(person, "web_search")
        assert all(text in line_with(person, "mcp-fs") for text in ("✓ ready", "stdio", "4711"))
        assert "✕ failed" in line_with(person, "clock  ")
        assert "◔ connecting" in line_with(person, "far.test")
        assert all(text in line_with(person, "openai") for text in ("↻ half open", "5", "429 slow"))
        assert all(text in line_with(person, "threads") for text in ("2 of 8 busy", "3"))
        await person.sees("3 tools · 3 servers, 1 failed · 1 breaker open", "clock: mcp-clock: not found")
        await person.sees("Reads a file.", '"required": [')
        assert engine.asked[0] == (str(desk.folder / "hello.yaml"), True)


async def test_a_small_terminal_shows_one_list_and_keys_lead_to_the_others(desk: Desk, engine: FakeTools) -> None:
    full(engine)
    async with desk.app(size=LOW) as person:
        await person.press("M")
        await person.sees("Tools", "Servers", "Breakers", "Pools", "99% of 200", "5 fs.read_file")
        assert "2 MCP servers" not in person.text
        for key, seen in (("2", "mcp-fs"), ("3", "half open"), ("4", "2 of 8 busy"), ("1", "99% of 200")):
            await person.press(key)
            await person.sees(seen)
        await person.press("down", "5")
        await person.sees("5 parse", "4 calls: 3 succeeded, 1 failed")
        await person.press("pagedown", "pagedown")
        await person.sees("ValueError: bad row")


async def test_everything_is_ascii_where_the_terminal_has_no_more(desk: Desk, engine: FakeTools) -> None:
    full(engine)
    async with desk.app(size=LOW, settings=Settings(ascii=True)) as person:
        await person.press("M")
        for key, seen in (("1", "99% of 200"), ("2", "+ ready"), ("3", "@ half open"), ("4", "2 of 8")):
            await person.press(key)
            await person.sees(seen)
            assert person.text.isascii(), person.text


async def test_without_tools_it_says_where_they_come_from(desk: Desk, engine: FakeTools) -> None:
    async with desk.app(size=HIGH) as person:
        await person.press("M")
        await person.sees(
            "no tools: a plan names them", "no MCP servers: a plan or the settings", "no breakers", "no pools"
        )
        assert engine.asked[0] == (None, True) or engine.asked[0][1]
        await person.press("R")
        assert "choose a server first" in person.toasts
        await person.press("b", "y")
        assert "choose a breaker first" in person.toasts
        assert "nothing to copy" in person.toasts


async def test_five_hundred_tools_are_filtered_as_one_types(desk: Desk, engine: FakeTools) -> None:
    engine.answer["tools"] = [tool(f"s{n % 7}.tool_{n}", "mcp", description=f"does {n}") for n in range(500)]
    async with desk.app(size=HIGH) as person:
        await person.press("M")
        await person.sees("500 tools", "s0.tool_0")
        await person.press("G")
        await person.sees("s2.tool_499", "5 s2.tool_499")
        await person.press("slash")
        await person.type("does 12")
        await person.sees("s5.tool_12 ", "15 of 500", "5 s5.tool_12")
        assert "s1.tool_8 " not in person.text
        await person.press("enter")
        assert person.app.screen.focused is person.app.screen.query_one("#tools")
        await person.press("slash", *"xyz")
        await person.sees("none of 500 fits the filter")
        await person.press("escape", "escape", "g")
        await person.sees("s1.tool_8 ")


async def test_a_server_that_hangs_holds_nothing_up(desk: Desk, engine: FakeTools) -> None:
    full(engine)
    engine.connected.clear()
    async with desk.app(size=HIGH) as person:
        await person.pilot.press("M")
        await person.sees("connecting ...", "fs.read_file", "far.test")
        await person.pilot.press("2", "down", "5")
        await person.sees("5 clock")
        assert "connecting ..." in person.text
        engine.connected.set()
        await person.until(lambda: "connecting ..." not in person.text)
        await person.quiet()


async def test_it_is_looked_again_while_it_is_in_sight_and_the_chosen_row_stays_chosen(
    desk: Desk, engine: FakeTools
) -> None:
    full(engine)
    async with desk.app(size=HIGH) as person:
        await person.press("M", "down")
        await person.sees("5 parse")
        engine.answer = {**engine.answer, "tools": [tool("anew"), *engine.answer["tools"]]}
        await person.sees("anew")
        await person.quiet()
        await person.sees("5 parse")
        assert [connect for _, connect in engine.asked].count(True) == 1, "nothing is connected to for a look"
        tools = await person.opened(ToolsScreen)
        await person.press("H")
        await person.opened(HomeScreen)
        asked = len(engine.asked)
        tools.look_again()
        await person.quiet()
        assert len(engine.asked) == asked, "what nobody sees is not asked for"
        await person.press("M", "r")
        assert [connect for _, connect in engine.asked].count(True) == 3


async def test_it_takes_the_plan_of_the_open_run_and_leads_back_to_it(desk: Desk, engine: FakeTools) -> None:
    plan = desk.plan(PLAN, "mine.yaml")
    desk.plan(PLAN, "another.yaml")
    async with desk.app(plan=plan, size=HIGH) as person:
        await person.press("s")
        await person.run_has_ended()
        run_id = person.session.run_id
        await person.press("M")
        await person.sees("tools · mine")
        assert engine.asked[0] == (str(plan), True)
        await person.press("escape")
        assert person.session.run_id == run_id
        await person.press("H")
        await person.opened(HomeScreen)
        await person.press("M")
        await person.sees("tools · another")
        await person.press("escape")
        await person.opened(HomeScreen)


async def test_no_server_of_an_imported_run_is_started_before_somebody_trusts_it(desk: Desk, engine: FakeTools) -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await person.press("s")
        await person.run_has_ended()
        run_id = person.session.run_id
    file = desk.folder / "run.gz"
    async with desk.store() as store:
        await export_run(store, run_id, file, program="a test", now=at)
        await import_run(store, file, now=at, run_id="theirs")
    async with desk.app(run_id="theirs", size=HIGH) as person:
        await person.run_is("succeeded")
        await person.press("M")
        await person.opened(ToolsScreen)
        assert {plan for plan, _ in engine.asked} == {None}
        await person.press("H")
        await person.opened(HomeScreen)
        await person.sees("theirs")
        await person.press("2", "M")
        await person.opened(ToolsScreen)
        assert {plan for plan, _ in engine.asked} == {None}
        await person.app.host.trust("theirs")
        await person.press("escape")
        await person.press("M")
        await person.sees("tools · plan")


async def test_a_server_is_restarted_after_asking_and_a_refusal_is_told(desk: Desk, engine: FakeTools) -> None:
    full(engine)
    async with desk.app(size=HIGH) as person:
        await person.press("M", "2", "R")
        await person.sees("Restart fs?", "Calls that it is carrying out fail")
        await person.press("n", "R", "y")
        assert engine.done == [("restart", "fs")]
        await person.press("down")
        engine.refusal = HostError("clock does not start", hint="Install it.")
        await person.press("R")
        assert engine.done[-1] == ("restart", "clock"), "one that failed has no calls to lose"
        assert "clock does not start\nInstall it." in person.toasts


async def test_the_server_of_the_selected_tool_is_meant(desk: Desk, engine: FakeTools) -> None:
    full(engine)
    async with desk.app(size=HIGH) as person:
        await person.press("M", "R", "y")
        assert engine.done == [("restart", "fs")]


async def test_a_breaker_is_reset(desk: Desk, engine: FakeTools) -> None:
    full(engine)
    async with desk.app(size=LOW) as person:
        await person.press("M", "3", "b")
        assert engine.done == [("reset", "openai")]
        await person.sees("no breakers: nothing that is called has failed so often")


async def test_why_the_engine_cannot_tell_is_shown_and_what_was_known_stays(desk: Desk, engine: FakeTools) -> None:
    full(engine)
    async with desk.app(size=HIGH) as person:
        await person.press("M")
        engine.refusal = HostError("hello.yaml:2:1: unknown key 'step'", hint="Mend the plan.")
        await person.sees("hello.yaml:2:1: unknown key 'step'. Mend the plan.", "fs.read_file")
        engine.refusal = None
        await person.until(lambda: "unknown key" not in person.text)


async def test_what_a_server_wrote_to_stderr_is_shown_and_opened_without_its_escapes_and_secrets(
    desk: Desk, engine: FakeTools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAR_TOKEN", "hunter2hunter2")
    script = tmp_path / "page.sh"
    script.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/paged\n')
    script.chmod(0o755)
    monkeypatch.setenv("PAGER", str(script))
    words = tmp_path / "clock.log"
    words.write_bytes(b"ancient\n" * 30 + b"\x1b[2J\x1b]0;owned\x07no [b]module[/b] \xff with hunter2hunter2\n")
    full(engine)
    engine.answer["servers"][1]["stderr_path"] = str(words)
    async with desk.app(size=HIGH) as person:
        lend_terminal(monkeypatch, person)
        await person.press("M", "2", "down")
        await person.sees("last lines of its stderr", "no [b]module[/b] � with [secret FAR_TOKEN]")
        assert person.text.count("ancient") == 11
        with words.open("a") as file:
            file.write("and more\n")
        await person.sees("and more")
        await person.press("o")
        paged = (tmp_path / "paged").read_text()
        assert paged.count("ancient") == 30
        assert "no [b]module[/b]" in paged
        assert not {"\x1b", "\x07"} & set(paged)
        assert "hunter2" not in paged + person.text
        words.unlink()
        await person.sees("last lines of its stderr: o shows all", "nothing")
        await person.press("o")
        assert "wrote nothing to stderr" in person.toasts


async def test_nothing_that_a_server_says_is_markup_or_reaches_the_terminal(desk: Desk, engine: FakeTools) -> None:
    nasty = "\x1b[2J\x1b]0;owned\x07[bold]\u202eevil"
    deep: Any = {}
    for _ in range(3_000):
        deep = {"x": deep}
    engine.answer = {
        "tools": [
            tool(f"t{nasty}", "mcp", server=nasty, description=nasty * 3, arguments={nasty: nasty}, last_error=nasty),
            tool("deep", "mcp", arguments=deep, description="word " * 100_000),
        ],
        "servers": [server(f"s{nasty}", nasty, where=nasty, error=nasty, hint=nasty, protocol_version=nasty)],
        "breakers": [{"name": nasty, "state": nasty, "failures": 1, "until": nasty, "last_error": nasty}],
        "pools": [{"name": nasty, "size": 1, "busy": 0, "idle": 0, "waiting": 0, "address": nasty}],
        "problems": [nasty],
    }
    async with desk.app(size=HIGH) as person:
        await person.press("M")
        for key in ("1", "down", "2", "3", "4"):
            await person.press(key)
            assert "[bold]" in person.text
            assert not set("\x1b\x07\u202e") & set(person.text)
        await person.press("2", "R")
        assert not set("\x1b\x07\u202e") & set(person.text + person.toasts)


async def test_a_real_server_is_connected_to_listed_and_restarted(desk: Desk) -> None:
    server = f"{{command: {json.dumps(sys.executable)}, args: [-m, mcp_server_time, --local-timezone, UTC]}}"
    plan = f"mcp_servers:\n  clock: {server}\n  gone: {{command: no-such-command-here}}\n{PLAN.partition(chr(10))[2]}"
    async with desk.app(plan=desk.plan(plan), size=HIGH) as person:
        await person.pilot.press("M")
        await person.sees("clock.get_current_time", "clock.convert_time", "✓ ready", "✕ failed")
        await person.quiet()
        await person.press("slash", *"current", "enter")
        await person.sees("Get current time", '"timezone": {', "the MCP server clock")
        await person.press("escape", "2")
        before = line_with(person, "✓ ready")
        await person.press("R", "y")
        await person.until(lambda: "✓ ready" in person.text and line_with(person, "✓ ready") != before)
        await person.press("down")
        await person.sees("no-such-command-here")


def test_its_keys_do_one_thing_each_and_somebody_does_it() -> None:
    actions = in_scopes(ToolsScreen.SCOPES)
    keys = [key for action in actions for key in action.keys.split(",")]
    assert len(keys) == len(set(keys))
    assert all(hasattr(ToolsScreen, action.method) for action in actions if action.scope is Scope.TOOLS)
