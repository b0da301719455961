"""Budgets and money as the command line tells and asks them, headless, over restarts, with a server that is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.model_streams import text
from tests.support.raw_model_server import RawModelServer

TOKENS = """
goal: A budget in tokens
budget: {tokens: 1500}
steps:
  - id: first
    prompt: Say one
    model: scripted
    replies: [{text: one, usage: {input_tokens: 600, output_tokens: 400, cached_tokens: 100}}]
  - id: second
    prompt: "Say two after {{ steps.first.output }}"
    model: scripted
    max_output_tokens: 800
    replies: [{text: two, usage: {input_tokens: 700, output_tokens: 300}}]
"""
DOLLARS = """
goal: A budget in dollars
budget: {usd: 0.05}
defaults: {model: large, max_output_tokens: 100}
steps:
  - {id: first, prompt: Say one}
  - {id: second, prompt: Say two, dependencies: [first]}
"""
TOOL = """
goal: A tool that is allowed for the run
mcp_servers: {}
steps:
  - id: ask
    prompt: Note it
    model: scripted
    tools: ["./tools.py:note"]
    require_approval: always
    replies:
      - {calls: [{name: note, arguments: {text: one}}]}
      - {calls: [{name: note, arguments: {text: two}}]}
      - done
"""
NOTE = '''
def note(text: str) -> str:
    """Write a text down."""
    with open("notes.txt", "a") as file:
        file.write(text + "\\n")
    return "noted"
'''


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("tokens.yaml", TOKENS)
    yield line
    line.end()


@pytest.fixture
def server() -> Iterator[RawModelServer]:
    with RawModelServer() as found:
        yield found


def test_at_a_budget_the_run_exits_with_3_says_how_to_answer_and_goes_on_with_the_answer(cli: CommandLine) -> None:
    asked = cli("run", "tokens.yaml", "--run-id", "r1")
    assert asked.code == 3
    assert "The run has used 1,000 of 1,500 tokens, and the next answer of scripted for second" in asked.err
    assert "the run took 1.0k tokens, $0, of a budget of 1.5k tokens" in asked.err
    for words in ("--field action=top_up --field tokens=1500", "--field action=finish", "--deny"):
        assert f"stepchain approve r1 second {words}" in asked.err

    topped = cli("approve", "r1", "second", "--field", "action=top_up", "--field", "tokens=1000")
    assert (topped.code, "second: 1,000 tokens more" in topped.err) == (0, True)
    again = cli("resume", "r1")
    assert (again.code, "reused 1 (saved 1.0k tokens)" in again.err) == (0, True)

    shown = cli.show("r1")
    assert shown["budget"] == {"usd": None, "tokens": 2500, "lifted": False, "model": None}
    assert shown["usage"] == {
        "turns": 2, "input_tokens": 1300, "output_tokens": 700, "cached_tokens": 100, "reasoning_tokens": None,
        "cost": 0.0, "unpriced_turns": 0, "unknown_turns": 0,
    }  # fmt: skip
    attempts = shown["steps"][1]["attempts"]
    assert [attempt["usage"] and attempt["usage"]["output_tokens"] for attempt in attempts] == [None, 300]
    assert cli("runs", "--json").json[0]["usage"] == {
        "turns": 2, "input_tokens": 1300, "output_tokens": 700, "cost": 0.0, "unpriced_turns": 0,
    }  # fmt: skip

    forecast = cli("run", "tokens.yaml", "--dry-run", "--json").json["forecast"]
    assert (forecast["runs"], forecast["tokens"]["mean"], forecast["unknown_steps"]) == (1, 2000, [])
    assert forecast["warnings"] == [
        "it is expected to exceed the budget of 1,500 tokens: earlier runs took 2,000 tokens"
    ]


def test_a_no_pauses_the_run_so_that_it_can_be_resumed(cli: CommandLine) -> None:
    cli("run", "tokens.yaml", "--run-id", "r1")
    assert cli("approve", "r1", "second", "--deny").code == 0
    assert cli.show("r1")["status"] == "paused"
    cli.write("tokens.yaml", TOKENS.replace("tokens: 1500", "tokens: 5000"))
    assert cli("run", "tokens.yaml", "--run-id", "r1").code == 0
    assert cli.show("r1")["usage"]["turns"] == 2  # what was answered before the pause was not asked again


def test_dollars_are_counted_by_the_users_prices_and_a_cheaper_model_answers_the_rest(
    cli: CommandLine, server: RawModelServer, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    host = server.url.split("/")[2]
    models = {f"{host}/large": {"input": 100, "output": 200}, f"{host}/small": {"input": 1, "output": 2}}
    (isolated / "prices.json").write_text(json.dumps({"models": models}))
    used = {"input_tokens": 100, "output_tokens": 100, "total_tokens": 200}
    server.answers(text("one", model="large", usage=used), text("two", model="small", usage=used))
    cli.write("dollars.yaml", DOLLARS)
    asked = cli("run", "dollars.yaml", "--run-id", "r1")
    assert asked.code == 3
    assert "The run has spent $0.03 of $0.05, and the next answer of large for second" in asked.err
    assert cli("approve", "r1", "second", "--field", "action=cheaper_model", "--field", "model=small").code == 0
    assert cli("resume", "r1").code == 0
    assert [body["model"] for body in server.bodies] == ["large", "small"]
    assert cli.show("r1")["usage"]["cost"] == pytest.approx(0.0303)


def test_the_longest_answer_that_the_models_of_a_plan_allow_counts_before_it_is_asked_for(
    cli: CommandLine, server: RawModelServer
) -> None:
    options = {"model": "large", "max_output_tokens": 4000}
    plan = {
        "goal": "A long answer",
        "budget": {"tokens": 500},
        "models": {"house": {"base_url": server.url, "options": options}},
        "steps": [{"id": "a", "prompt": "Say it", "model": "house"}],
    }
    cli.write("long.yaml", json.dumps(plan))
    asked = cli("run", "long.yaml", "--run-id", "r1")
    assert (asked.code, server.bodies) == (3, [])
    assert "is expected to take 4,0" in asked.err


def test_a_broken_file_of_prices_is_told(cli: CommandLine, isolated: Path) -> None:
    (isolated / "prices.json").write_text('{"models": {"m": {"input": "1"}}}')
    doctor = cli("doctor")
    assert (doctor.code, "PROBLEM" in doctor.out) == (2, True)
    assert f"{isolated / 'prices.json'}: models['m'].input: not an amount of dollars" in doctor.out


def test_a_tool_is_allowed_for_the_rest_of_the_run(cli: CommandLine) -> None:
    cli.write("tool.yaml", TOOL)
    cli.write("tools.py", NOTE)
    asked = cli("run", "tool.yaml", "--run-id", "r1")
    assert (asked.code, "stepchain approve r1 ask --remember" in asked.err) == (3, True)
    assert cli("approve", "r1", "ask", "--remember").code == 0
    assert cli("resume", "r1").code == 0
    assert (cli.folder / "notes.txt").read_text() == "one\ntwo\n"
