"""A tool of a real server that needs a person's word, as the command line asks for it and answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import CommandLine
from tests.support.typed import Typed

PLAN = f"""
goal: A call that needs a word
mcp_servers:
  time: {{command: {json.dumps(sys.executable)}, args: [-m, mcp_server_time], require_approval: [convert_time]}}
steps:
  - id: now
    tool: time.get_current_time
    args: {{timezone: UTC}}
  - id: convert
    tool: time.convert_time
    args: {{source_timezone: UTC, time: "12:00", target_timezone: Asia/Tokyo}}
  - id: end
    python: "found"
    args: {{found: "{{{{ steps.convert.output.target.timezone }}}}"}}
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    line = Typed(tmp_path, monkeypatch, capsys)
    line.write("plan.yaml", PLAN)
    yield line
    line.end()


def step(cli: CommandLine, step_id: str) -> dict[str, Any]:
    found: dict[str, Any] = next(step for step in cli.show("r1")["steps"] if step["id"] == step_id)
    return found


def calls(cli: CommandLine) -> list[str]:
    """Return the tools that were really called, from what `show` tells of them."""
    return [line.split()[1] for line in cli("show", "r1").out.splitlines() if line.startswith("  ✓ time.")]


def test_headless_the_run_exits_with_3_and_says_how_to_answer(cli: CommandLine) -> None:
    asked = cli("run", "plan.yaml", "--run-id", "r1")
    assert asked.code == 3
    assert 'convert wants to call time.convert_time with {"source_timezone":"UTC"' in asked.err
    assert "stepchain approve r1 convert" in asked.err
    assert (step(cli, "now")["status"], step(cli, "convert")["status"]) == ("succeeded", "waiting")
    assert calls(cli) == ["time.get_current_time"]

    assert cli("approve", "r1", "convert").code == 0
    assert calls(cli) == ["time.get_current_time"]
    assert cli("resume", "r1").code == 0
    assert step(cli, "end")["output"] == "Asia/Tokyo"
    assert calls(cli) == ["time.get_current_time", "time.convert_time"]


@pytest.mark.parametrize(
    "answer",
    [
        ("--field", "target_timezone=Europe/Oslo"),
        ("--with", '{"source_timezone": "UTC", "time": "12:00", "target_timezone": "Europe/Oslo"}'),
    ],
    ids=["field", "with"],
)
def test_the_arguments_can_be_changed_in_the_answer(cli: CommandLine, answer: tuple[str, str]) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")
    allowed = cli("approve", "r1", "convert", *answer)
    assert (allowed.code, "with other arguments" in allowed.err) == (0, True)
    assert cli("resume", "r1").code == 0
    assert step(cli, "end")["output"] == "Europe/Oslo"


def test_a_no_fails_the_step_and_blocks_what_follows(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")
    assert cli("approve", "r1", "convert", "--deny").code == 0
    assert cli("resume", "r1").code == 1
    assert (step(cli, "convert")["error_type"], step(cli, "end")["status"]) == ("user_error", "blocked")
    assert calls(cli) == ["time.get_current_time"]
    why = cli("why", "r1", "convert").out
    assert "denied" in why


def test_nobody_is_asked_about_a_call_that_cannot_be_made(cli: CommandLine) -> None:
    cli.write("plan.yaml", PLAN.replace("target_timezone", "target_zone"))
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 1
    convert = step(cli, "convert")
    assert (convert["status"], convert["error_type"]) == ("failed", "user_error")
    assert "target_timezone" in convert["error"]


def test_arguments_that_are_no_mapping_are_refused_and_the_question_stays(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")
    wrong = cli("approve", "r1", "convert", "--with", "[1]")
    assert (wrong.code, "mapping" in wrong.err) == (2, True)
    assert step(cli, "convert")["status"] == "waiting"


SERVER = str(Path(__file__).parents[1] / "support" / "mcp_server.py")


def settings_of(tmp_path: Path, *, timeout: float = 20, extra: str = "") -> dict[str, str]:
    """Write settings with the server that misbehaves on request; return the variables that lead to them."""
    path = tmp_path / "own.toml"
    path.write_text(
        f"[mcp_servers.odd]\ncommand = {json.dumps(sys.executable)}\n"
        f'args = [{json.dumps(SERVER)}, "stdio"]\ntimeout = {timeout}\n'
        f'env = {{PAT = "{{{{ secrets.MYPAT }}}}"}}\n{extra}'
    )
    return {"STEPCHAIN_SETTINGS": str(path), "MYPAT": "supersecretvalue99"}


def test_what_a_server_of_the_settings_gets_as_a_secret_is_stored_nowhere(cli: CommandLine, tmp_path: Path) -> None:
    cli.write("plan.yaml", "steps: [{id: s, tool: odd.environment}]\n")
    answer = cli("run", "plan.yaml", "--run-id", "r1", "--json", env=settings_of(tmp_path))
    assert answer.code == 0, answer.err
    assert "[secret MYPAT]" in cli("show", "r1", "--json", "--full").out
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "own.toml")
    assert b"supersecretvalue99" not in answer.out.encode() + stored


def test_the_timeout_of_a_server_of_the_settings_holds(cli: CommandLine, tmp_path: Path) -> None:
    cli.write("plan.yaml", "steps: [{id: s, tool: odd.hang, retry: {max_attempts: 1}}]\n")
    assert cli("run", "plan.yaml", "--run-id", "r1", env=settings_of(tmp_path, timeout=4)).code == 1
    found = next(step for step in cli.show("r1")["steps"] if step["id"] == "s")
    assert (found["status"], "4 s" in found["error"]) == ("timed_out", True)


def test_a_word_is_for_the_server_that_was_meant(cli: CommandLine, tmp_path: Path) -> None:
    cli.write("plan.yaml", 'steps: [{id: s, tool: odd.echo, args: {message: "hi"}}]\n')
    first = settings_of(tmp_path, extra='require_approval = "always"\n')
    assert cli("run", "plan.yaml", "--run-id", "r1", env=first).code == 3
    assert cli("approve", "r1", "s", env=first).code == 0
    settings = tmp_path / "own.toml"
    settings.write_text(settings.read_text().replace('"stdio"]', '"stdio", "--page", "2"]'))
    assert cli("resume", "r1", env=first).code == 3
    assert cli("approve", "r1", "s", env=first).code == 0
    assert cli("resume", "r1", env=first).code == 0


def test_a_slip_in_the_names_of_those_asked_about_is_no_silent_pass(cli: CommandLine, tmp_path: Path) -> None:
    cli.write("plan.yaml", 'steps: [{id: s, tool: odd.echo, args: {message: "hi"}}]\n')
    variables = settings_of(tmp_path, extra='require_approval = ["ehco"]\n')
    assert cli("run", "plan.yaml", "--run-id", "r1", env=variables).code == 1
    found = next(step for step in cli.show("r1")["steps"] if step["id"] == "s")
    assert "require_approval names 'ehco'" in found["error"]
    assert "✓ odd.echo" not in cli("show", "r1").out
