"""What a person can know of tools in one engine process, and which of equal tools is preferred."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from stepchain_tui.core.errors import PlanError, UsageError
from stepchain_tui.core.settings import Settings
from stepchain_tui.core.values import encode_json
from stepchain_tui.engine import EngineService, toolbox
from stepchain_tui.engine.single_call import SingleCall
from stepchain_tui.plan import Plan, compile_template, load_plan
from stepchain_tui.plan.literals import literal
from stepchain_tui.run import RunStatus
from stepchain_tui.tools.health import better_mode, healthier_first
from stepchain_tui.tools.registry import shared_tools
from tests.support.engines import Bench

TIME = f"{{command: {sys.executable}, args: [-m, mcp_server_time, --local-timezone, UTC]}}"
CODE = """
import time

def rest() -> None:
    time.sleep(1)

def fail() -> None:
    raise ValueError("no luck")
"""
ABSURD = """
import json, sys

deep = {"type": "object"}
for _ in range(50):
    deep = {"type": "object", "properties": {"a": deep}}
large = {"type": "object", "properties": {f"name{n}": {"type": "string"} for n in range(10_000)}}
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    answer = {"jsonrpc": "2.0", "id": asked["id"]}
    if asked["method"] == "initialize":
        version, about = asked["params"]["protocolVersion"], {"name": "odd", "version": "1"}
        answer["result"] = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}
    elif asked["method"] == "tools/list":
        tools = [{"name": "deep", "inputSchema": deep}, {"name": "large", "inputSchema": large}]
        answer["result"] = {"tools": tools}
    else:
        answer["error"] = {"code": -32601, "message": "no"}
    print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class _Record:
    name: str
    success_rate: float | None
    mean_seconds: float | None


def _names(*records: _Record) -> list[str]:
    return [record.name for record in healthier_first(records)]


def test_of_equal_tools_the_one_that_succeeds_more_often_is_preferred() -> None:
    assert _names(_Record("a.find", 0.5, 0.1), _Record("b.find", 0.9, 3.0)) == ["b.find", "a.find"]


def test_of_tools_that_succeed_alike_the_faster_is_preferred() -> None:
    assert _names(_Record("a.find", 1.0, 2.0), _Record("b.find", 1.0, 0.5), _Record("c.find", 1.0, None)) == [
        "b.find",
        "a.find",
        "c.find",
    ]


def test_a_tool_that_nobody_tried_comes_after_those_that_work_and_before_those_that_never_did() -> None:
    broken, untried, works = _Record("a.find", 0.0, 0.1), _Record("b.find", None, None), _Record("c.find", 0.1, 9.0)

    assert _names(broken, untried, works) == ["c.find", "b.find", "a.find"]


def test_the_name_decides_where_nothing_is_known() -> None:
    assert _names(_Record("b.find", None, None), _Record("a.find", None, None)) == ["a.find", "b.find"]


# --- what one engine knows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text(CODE)
    return tmp_path


def _plan(folder: Path, text: str) -> str:
    path = folder / "plan.yaml"
    path.write_text(text)
    return str(path)


async def _run(bench: Bench, path: str) -> None:
    run = await bench.start(load_plan(Path(path)).plan)
    await run.end()


def _by_name(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize(
    ("mode", "share", "seconds", "better"),
    [
        ("thread", 0.9, 1.0, "process"),
        ("inline", 0.9, 1.0, "process"),
        ("thread", 0.9, 0.01, ""),
        ("thread", 0.3, 1.0, ""),
        ("thread", None, 1.0, ""),
        ("process", 0.02, 1.0, "thread"),
        ("process", 0.3, 1.0, ""),
        ("process", 0.02, None, ""),
        ("", 0.9, 1.0, ""),
    ],
)
def test_a_function_that_computes_belongs_in_a_process_and_one_that_waits_in_a_thread(
    mode: str, share: float | None, seconds: float | None, better: str
) -> None:
    assert better_mode(mode, share, seconds) == better


async def test_the_mode_of_a_function_is_held_against_what_its_calls_did(folder: Path) -> None:
    path = _plan(
        folder,
        """
tools:
  rest: {function: "./code.py:rest", mode: process}
  idle: {function: "./code.py:rest", mode: thread}
steps:
  - {id: a, tool: rest}
  - {id: b, tool: idle}
""",
    )
    async with Bench(folder=folder) as bench:
        await _run(bench, path)
        rows = _by_name((await EngineService(bench.engine).tools(path))["tools"])

    assert {name: rows[name]["hint"] for name in ("rest", "idle")} == {"rest": "thread", "idle": ""}
    assert rows["rest"]["cpu_share"] < 0.1
    assert rows["rest"]["mean_seconds"] >= 1.0


async def test_what_was_called_once_and_is_nowhere_now_is_still_told(folder: Path) -> None:
    path = _plan(folder, "tools: {old: './code.py:fail'}\nsteps: [{id: a, tool: old}]\n")
    async with Bench(folder=folder) as bench:
        await _run(bench, path)
        row = _by_name((await EngineService(bench.engine).tools())["tools"])["old"]

    assert (row["kind"], row["calls"], row["failed"], row["last_error"]) == ("", 1, 1, "no luck")
    assert row["arguments"] is None


async def test_tools_that_were_registered_are_told_as_such(folder: Path) -> None:
    shared_tools().register(lambda words: words, name="look_up", description="Look words up.")
    try:
        async with Bench(folder=folder) as bench:
            row = _by_name((await EngineService(bench.engine).tools(connect=False))["tools"])["look_up"]
    finally:
        shared_tools().unregister("look_up")

    assert (row["kind"], row["description"], list(row["arguments"]["properties"])) == (
        "registered",
        "Look words up.",
        ["words"],
    )


async def test_a_plan_that_changed_is_read_again(folder: Path) -> None:
    path = _plan(folder, "tools: {one: './code.py:rest'}\nsteps: [{id: s, shell: 'true'}]\n")
    async with Bench(folder=folder) as bench:
        service = EngineService(bench.engine)
        assert "one" in _by_name((await service.tools(path, connect=False))["tools"])
        _plan(folder, "tools: {another: './code.py:rest'}\nsteps: [{id: s, shell: 'true'}]\n")
        assert "another" in _by_name((await service.tools(path, connect=False))["tools"])
        _plan(folder, "tools: {another: './code.py:nothing'}\nsteps: [{id: s, shell: 'true'}]\n")
        with pytest.raises(PlanError, match="there is no function 'nothing'"):
            await service.tools(path, connect=False)


async def test_pools_and_breakers_are_told_too(folder: Path) -> None:
    path = _plan(folder, "tools: {rest: {function: './code.py:rest', mode: process}}\nsteps: [{id: a, tool: rest}]\n")
    async with Bench(folder=folder) as bench:
        await _run(bench, path)
        found = await EngineService(bench.engine).tools()

    pools = _by_name(found["pools"])
    assert pools["processes"]["idle"] == 1
    assert pools["processes"]["size"] >= 1
    assert pools["threads"]["busy"] == 0
    assert found["breakers"] == []


async def test_a_module_whose_import_never_ends_does_not_hold_up_the_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolbox, "IMPORT_SECONDS", 0.2)
    (folder / "slow.py").write_text(
        f"import pathlib, time\nwhile not pathlib.Path({str(folder / 'go')!r}).exists(): time.sleep(0.02)\n"
        "def never(): pass\n"
    )
    path = _plan(folder, "tools: {slow: './slow.py:never'}\nsteps: [{id: s, shell: 'true'}]\n")
    async with Bench(folder=folder) as bench:
        found = await EngineService(bench.engine).tools(path)
    (folder / "go").touch()

    assert found["problems"] == ["tool 'slow': its module was not imported within 0.2s"]
    assert _by_name(found["tools"])["python_code"]["arguments"]


# --- servers


async def test_looking_without_connecting_starts_no_server(folder: Path) -> None:
    path = _plan(folder, f"mcp_servers: {{time: {TIME}}}\nsteps: [{{id: s, shell: 'true'}}]\n")
    async with Bench(folder=folder) as bench:
        before = psutil.Process().children()
        found = await EngineService(bench.engine).tools(path, connect=False)
        children = psutil.Process().children()

    assert [(row["name"], row["state"], row["pid"]) for row in found["servers"]] == [("time", "idle", None)]
    assert set(children) <= set(before)
    assert found["problems"] == []


async def test_what_a_server_has_is_known_without_connecting_once_it_was_asked(folder: Path) -> None:
    path = _plan(folder, f"mcp_servers: {{time: {TIME}}}\nsteps: [{{id: s, shell: 'true'}}]\n")
    async with Bench(folder=folder) as bench:
        service = EngineService(bench.engine)
        asked = await service.tools(path)
        known = await service.tools(path, connect=False)

    row = _by_name(known["tools"])["time.get_current_time"]
    assert (row["kind"], row["server"]) == ("mcp", "time")
    assert list(row["arguments"]["properties"]) == ["timezone"]
    assert _by_name(known["servers"])["time"]["state"] == "ready"
    assert [one["name"] for one in asked["tools"]] == [one["name"] for one in known["tools"]]


async def test_a_server_that_cannot_be_reached_does_not_hide_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "hunter2hunter2")
    path = _plan(
        folder,
        f"""
secrets: [SERVICE_TOKEN]
inputs: {{place: {{}}}}
mcp_servers:
  time: {TIME}
  gone: {{command: no-such-program, env: {{TOKEN: "{{{{ secrets.SERVICE_TOKEN }}}}"}}}}
  dead: {{url: "http://127.0.0.1:1/mcp", headers: {{Authorization: "Bearer {{{{ secrets.SERVICE_TOKEN }}}}"}}}}
  asks: {{command: "{{{{ inputs.place }}}}"}}
steps: [{{id: s, shell: 'true'}}]
""",
    )
    async with Bench(folder=folder) as bench:
        found = await EngineService(bench.engine).tools(path)

    servers = _by_name(found["servers"])
    assert {name: row["state"] for name, row in servers.items()} == {
        "time": "ready",
        "gone": "failed",
        "dead": "failed",
        "asks": "failed",
    }
    assert "no-such-program" in servers["gone"]["error"]
    assert "needs a value of the input 'place'" in servers["asks"]["error"]
    assert len(found["problems"]) == 3
    assert "time.get_current_time" in _by_name(found["tools"])
    assert "hunter2hunter2" not in str(found)


async def test_a_variable_that_a_server_needs_and_nobody_set_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVICE_TOKEN", raising=False)
    servers = {"mine": {"command": "anything", "env": {"TOKEN": "{{ secrets.SERVICE_TOKEN }}"}}}
    async with Bench(folder=folder, settings=Settings(mcp_servers=servers)) as bench:
        found = await EngineService(bench.engine).tools(connect=False)

    (row,) = found["servers"]
    assert (row["state"], row["from"]) == ("failed", "settings")
    assert found["problems"] == [
        "MCP server 'mine': needs the environment variable 'SERVICE_TOKEN'. Set it, then try again."
    ]


async def test_of_equal_tools_on_two_servers_the_healthier_stands_first(folder: Path) -> None:
    path = _plan(
        folder,
        f"""
mcp_servers:
  a: {TIME}
  b: {TIME}
  c: {{command: {sys.executable}, args: [-m, mcp_server_time], allowed_tools: [get_current_time]}}
tools: {{now: a.get_current_time}}
defaults: {{retry: {{max_attempts: 1}}}}
steps:
  - {{id: wrong, tool: a.get_current_time, args: {{timezone: Nowhere}}, on_failure: continue}}
  - {{id: right, tool: b.get_current_time, args: {{timezone: UTC}}}}
""",
    )
    async with Bench(folder=folder) as bench:
        await _run(bench, path)
        rows = (await EngineService(bench.engine).tools(path))["tools"]

    assert [row["name"] for row in rows if row["name"].endswith("get_current_time")] == [
        "b.get_current_time",
        "c.get_current_time",
        "a.get_current_time",
    ]
    assert [row["name"] for row in rows if row["name"].endswith("convert_time")] == ["a.convert_time", "b.convert_time"]
    named = _by_name(rows)["now"]
    assert (named["kind"], named["server"], named["failed"]) == ("plan", "a", 1)


async def test_a_schema_that_is_absurdly_large_is_left_out_and_the_others_are_there(folder: Path) -> None:
    (folder / "server.py").write_text(ABSURD)
    path = _plan(
        folder,
        f"mcp_servers: {{odd: {{command: {sys.executable}, args: [server.py]}}}}\nsteps: [{{id: s, shell: 'true'}}]\n",
    )
    async with Bench(folder=folder) as bench:
        found = await EngineService(bench.engine).tools(path)

    rows = _by_name(found["tools"])
    assert found["problems"] == []
    assert rows["odd.large"]["arguments"] is None
    assert rows["odd.deep"]["arguments"]["properties"]
    assert len(encode_json(found)) < 100_000


async def test_a_server_is_started_anew_by_its_name(folder: Path) -> None:
    path = _plan(folder, f"mcp_servers: {{time: {TIME}}}\nsteps: [{{id: s, shell: 'true'}}]\n")
    async with Bench(folder=folder) as bench:
        service = EngineService(bench.engine)
        before = _by_name((await service.tools(path))["servers"])["time"]
        after = await service.restart_server("time")
        with pytest.raises(UsageError, match="no MCP server 'tim'") as refused:
            await service.restart_server("tim")

    assert before["pid"] != after["pid"]
    assert (after["state"], after["restarts"]) == ("ready", 1)
    assert "did you mean 'time'?" in refused.value.hint
    assert not psutil.pid_exists(before["pid"])
    assert not psutil.pid_exists(after["pid"])


# --- one call by itself


@pytest.mark.parametrize(
    "text",
    [
        "{{ inputs.x }}",
        "{{",
        "{{{{{",
        " {{ ",
        "{%{%{{%",
        "{% for x in y %}",
        "CHAIN_RESULT",
        "a {CHAIN_RESULT} b",
        "\\{{ 'x' }}",
    ],
)
def test_a_literal_is_given_back_as_it_is(text: str) -> None:
    template = compile_template(literal({"a": [text], "b": {"c": text}}))

    assert not template.uses_chain_result
    assert template.resolve({}, "the result of another step") == {"a": [text], "b": {"c": text}}


def test_a_long_literal_is_no_longer_than_an_expression_may_be() -> None:
    text = '{"a": {"b": {{"c": "CHAIN_RESULT"}}}}' * 20_000

    assert compile_template(literal(text)).resolve({}) == text


async def test_a_call_with_a_server_of_the_plan_takes_over_only_what_it_needs(folder: Path) -> None:
    path = _plan(
        folder,
        f"""
inputs: {{zone: {{default: UTC}}, other: {{}}}}
mcp_servers:
  time: {{command: {sys.executable}, args: [-m, mcp_server_time, --local-timezone, "{{{{ inputs.zone }}}}"]}}
  unused: {{command: nobody}}
tools: {{now: time.get_current_time, unused: './code.py:fail'}}
defaults: {{timeout: 20}}
steps: [{{id: a, tool: unused}}]
""",
    )
    source = SingleCall.of("now", Settings(), loaded=load_plan(Path(path))).source({"timezone": "UTC"})

    assert isinstance(source.plan, Plan)
    assert list(source.plan.mcp_servers) == ["time"]
    assert source.plan.tools == {"now": "time.get_current_time"}
    assert source.inputs == {"zone": "UTC"}
    assert source.plan.defaults.timeout == 20
    async with Bench(folder=folder) as bench:
        handle = await EngineService(bench.engine).start_source(source)
        assert await handle.wait() is RunStatus.SUCCEEDED
