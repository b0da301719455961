"""`stepchain repair`: a diff for a failed step; it is tried and applied only where that is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.model_server import RawModelServer, status, text
from tests.support.typed import Typed

PLAN = """goal: count
steps:
  - id: count
    function: ./words.py:count
    args: {txt: "one two"}  # the text
  - id: after
    shell: "echo {{ steps.count.output }}"
"""
WORDS = """def count(text):
    with open('calls.txt', 'a') as file:
        file.write('call\\n')
    return len(text.split())
"""
NOBODY = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}
EDITS = [{"action": "rename", "key": "args.txt", "value": "text"}]


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """A folder with a run that failed."""
    made = Typed(tmp_path, monkeypatch, capsys)
    made.write("plan.yaml", PLAN)
    made.write("words.py", WORDS)
    assert made("run", "plan.yaml", "--run-id", "r1").code == 1
    return made


def test_a_repair_is_proposed_tried_applied_and_the_run_goes_on(line):
    proposed = line("repair", "r1", "count", env=NOBODY)
    assert proposed.code == 0
    assert '-    args: {txt: "one two"}  # the text' in proposed.out
    assert '+    args: {text: "one two"} # the text' in proposed.out
    assert "proposed by a rule" in proposed.err
    assert "OPENAI_API_KEY is not set; the rules tell" in proposed.err
    assert not (line.folder / "calls.txt").exists()
    assert line.statuses("r1") == {"count": "failed", "after": "blocked"}

    done = line("repair", "r1", "count", "--rules", "--try", "--apply", "--resume")
    assert done.code == 0, done.err
    assert "it really runs, once" in done.err
    assert "the try succeeded" in done.err
    assert line.statuses("r1") == {"count": "succeeded", "after": "succeeded"}
    assert (line.folder / "calls.txt").read_text() == "call\ncall\n"
    assert (line.folder / "plan.yaml").read_text() == PLAN


def test_a_model_proposes_and_what_it_took_is_told(line):
    with RawModelServer() as server:
        server.answers(text(json.dumps({"explanation": "The name is text.", "edits": EDITS})))
        found = line("repair", "r1", "count", "--json", env=server.environment())
        asked = json.dumps(server.bodies[0])
    assert found.code == 0, found.err
    record = found.json
    assert (record["source"], record["explanation"], record["problems"]) == ("model", "The name is text.", [])
    assert record["usage"]["turns"] == 1
    assert "no parameter 'txt'" in asked
    assert "def count(text):" in asked
    assert line.show("r1")["status"] == "failed"


def test_a_try_that_fails_applies_nothing(line):
    with RawModelServer() as server:
        server.answers(
            text(json.dumps({"explanation": "Longer.", "edits": [{"action": "set", "key": "timeout", "value": 9}]}))
        )
        found = line("repair", "r1", "count", "--try", "--apply", env=server.environment())
    assert found.code == 1
    assert "the try failed: " in found.err
    assert "nothing was applied" in found.err


def test_a_model_that_fails_leaves_it_to_the_rules_unless_it_was_named(line):
    with RawModelServer() as server:
        server.answers(status(401, "Incorrect API key provided"))
        found = line("repair", "r1", "count", env=server.environment())
        named = line("repair", "r1", "count", "--model", "gpt-5", env=server.environment())
    assert found.code == 0
    assert "the rules tell" in found.err
    assert "proposed by a rule" in found.err
    assert named.code == 1
    assert "no repair was made: " in named.err


def test_what_did_not_fail_is_not_repaired(line):
    refused = line("repair", "r1", "after", "--json")
    assert refused.code == 2
    assert "only what failed or timed out is repaired" in refused.error["error"]


def test_no_model_is_asked_about_an_imported_run_and_nothing_of_it_is_tried(line):
    assert line("export", "r1", "away.zip").code == 0
    line.store = line.folder / "other.db"
    assert line("import", "away.zip").code == 0
    with RawModelServer() as server:
        found = line("repair", "r1", "count", env=server.environment())
        asked = server.bodies
    assert found.code == 0
    assert "proposed by a rule" in found.err
    assert asked == []
    refused = line("repair", "r1", "count", "--rules", "--try")
    assert refused.code == 2
    assert "was imported" in refused.err
    assert not (line.folder / "calls.txt").exists()
