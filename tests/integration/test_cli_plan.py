"""`stepchain plan`: a goal in, a plan's file out, against a server that speaks the Responses API over loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Answer
from tests.support.model_server import RawModelServer, status, text
from tests.support.typed import Typed

GOOD = {
    "goal": "Greet",
    "steps": [
        {"id": "hello", "shell": "touch was-run && echo hello"},
        {"id": "shout", "python": "greeting.upper()", "args": {"greeting": "{{ steps.hello.output.stdout }}"}},
    ],
    "notes": ["echo is there"],
}
BAD = {"goal": "Greet", "steps": [{"id": "hello", "shell": "echo hello", "dependencies": ["helo"]}]}


@pytest.fixture
def server() -> Iterator[RawModelServer]:
    with RawModelServer() as one:
        yield one


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(tmp_path, monkeypatch, capsys)


def ask(line: Typed, server: RawModelServer, *words: str, answers: list[Any]) -> Answer:
    server.answers(*(text(json.dumps(one) if isinstance(one, dict) else one) for one in answers))
    return line("plan", *words, env=server.environment())


def test_a_goal_becomes_a_file_that_validates_and_nothing_of_it_is_run(line, server):
    answer = ask(line, server, "Greet the world", "-o", "greet.yaml", answers=[GOOD])
    assert (answer.code, answer.out) == (0, ""), answer.err
    assert "wrote greet.yaml: a plan of 2 steps" in answer.err
    assert "hello runs a command on this machine: touch was-run" in answer.err
    assert "taken for granted: echo is there" in answer.err
    assert not (line.folder / "was-run").exists()
    assert line("validate", "greet.yaml", store=False).code == 0
    (run,) = line("runs", "--json").json
    assert (run["goal"], run["status"]) == ("plan: Greet the world", "succeeded")
    assert "Greet the world" in json.dumps(server.bodies[0])
    assert server.bodies[0]["text"]["format"]["type"] == "json_schema"


def test_without_a_file_the_plan_is_printed(line, server):
    answer = ask(line, server, "Greet", answers=[GOOD])
    assert answer.code == 0
    assert answer.out.startswith("# Drafted by")
    assert "  - id: shout" in answer.out


def test_a_file_that_exists_is_left_alone_unless_forced_and_nobody_is_asked(line, server):
    line.write("mine.yaml", "mine")
    answer = ask(line, server, "Greet", "-o", "mine.yaml", answers=[GOOD])
    assert answer.code == 2
    assert "mine.yaml exists already" in answer.err
    assert server.bodies == []
    assert (line.folder / "mine.yaml").read_text() == "mine"
    assert ask(line, server, "Greet", "-o", "mine.yaml", "--force", answers=[GOOD]).code == 0
    assert "id: hello" in (line.folder / "mine.yaml").read_text()


def test_mistakes_that_stay_are_told_with_their_lines_and_the_file_is_there_to_be_mended(line, server):
    answer = ask(line, server, "Greet", "-o", "greet.yaml", "--json", answers=[BAD, BAD])
    assert answer.code == 2
    record = answer.json
    assert record["problems"] == ["steps[0].dependencies[0]: unknown step 'helo' (did you mean 'hello'?)"]
    assert record["usage"]["turns"] == 2
    again = ask(line, server, "Greet", "-o", "greet.yaml", "--force", answers=[BAD, BAD])
    assert "greet.yaml:7:9: steps[0].dependencies[0]: unknown step 'helo'" in again.err, again.err


def test_a_model_that_refuses_is_one_clear_error(line, server):
    answer = ask(line, server, "Greet", "-o", "greet.yaml", "--json", answers=["I would rather not."])
    assert answer.code == 1
    assert answer.error["error"].startswith("no plan was made: ")
    assert not (line.folder / "greet.yaml").exists()


def test_a_wrong_key_is_one_clear_error(line, server):
    server.answers(status(401, "Incorrect API key provided"))
    answer = line("plan", "Greet", env=server.environment())
    assert answer.code == 1
    assert "no plan was made: " in answer.err
    assert "Traceback" not in answer.err


def test_without_a_model_it_says_what_to_set(line):
    answer = line("plan", "Greet", env={"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""})
    assert answer.code == 2
    assert "no model can be asked: OPENAI_API_KEY is not set" in answer.err


def test_tools_that_are_named_are_told_to_the_model(line, server):
    line.write("words.py", 'def count(text: str) -> int:\n    """Count the words."""\n    return len(text.split())\n')
    answer = ask(line, server, "Count", "--tools", "./words.py:count,web_search", answers=[GOOD])
    assert answer.code == 0, answer.err
    asked = json.dumps(server.bodies[0])
    assert "Count the words." in asked
    assert "web_search" in asked
