"""What a command would do, what is said when a run goes on, and what was really run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import PATIENCE, CommandLine
from tests.support.typed import Typed

PLAN = """
steps:
  - {id: fetch, shell: "echo x >> fetched; echo hi"}
  - {id: parse, function: "./parse.py:parse", args: {text: "{{ steps.fetch.output.stdout }}"}}
  - {id: check, shell: "test -e ok", dependencies: [fetch]}
  - {id: report, shell: "echo {{ steps.parse.output | quote }}", dependencies: [check]}
"""
CODE = "def parse(text):\n    return text.upper()\n"
LONG = """
steps:
  - {id: first, shell: "echo x >> tries; while ! test -e go; do sleep 0.02; done", on_interrupt: ask}
  - {id: second, shell: "true", dependencies: [first]}
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    line = Typed(tmp_path, monkeypatch, capsys)
    line.write("plan.yaml", PLAN)
    line.write("parse.py", CODE)
    line.write("long.yaml", LONG)
    yield line
    line.end()


def _decisions(cli: CommandLine, *words: str) -> dict[str, str]:
    """Return step -> decision of a receipt."""
    return {step["step_id"]: step["decision"] for step in cli(*words, "--dry-run", "--json").json["steps"]}


def _failed(cli: CommandLine) -> None:
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 1


def _cut_off(cli: CommandLine) -> None:
    """Kill an engine whose first step has had its effect and not reported it."""
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "first")
    deadline = time.monotonic() + PATIENCE
    while not (cli.folder / "tries").exists():
        assert time.monotonic() < deadline
    process.kill()
    process.wait(PATIENCE)


def test_a_dry_run_of_a_plan_names_its_steps_and_makes_no_store(cli: CommandLine) -> None:
    told = cli("run", "plan.yaml", "--dry-run")

    assert told.code == 0
    assert [line.split()[:2] for line in told.out.splitlines()] == [
        ["run", "fetch"],
        ["run", "parse"],
        ["run", "check"],
        ["run", "report"],
    ]
    assert "would run 4 steps; nothing was changed" in told.err
    assert not cli.store.exists()
    assert not (cli.folder / "fetched").exists()


def test_a_dry_run_of_a_plan_with_mistakes_names_them(cli: CommandLine) -> None:
    cli.write("bad.yaml", "inputs: {n: {type: integer}}\nsteps:\n  - {id: a, shell: 'true', dependencies: [b]}\n")
    assert "bad.yaml:3:43" in cli("run", "bad.yaml", "--dry-run").err

    cli.write("asks.yaml", "inputs: {n: {type: integer}}\nsteps:\n  - {id: a, shell: 'true'}\n")
    assert "missing input: n" in cli("run", "asks.yaml", "--dry-run", "--json").error["error"]


def test_a_dry_run_says_what_resume_reuses_and_changes_nothing(cli: CommandLine) -> None:
    _failed(cli)
    before = cli.show("r1")

    told = cli("resume", "r1", "--dry-run")

    assert [line.split()[:2] for line in told.out.splitlines()] == [
        ["reuse", "fetch"],
        ["reuse", "parse"],
        ["run", "check"],
        ["run", "report"],
    ]
    assert "reuse 2 steps" in told.err
    record = cli("resume", "r1", "--dry-run", "--json").json
    assert {
        "run_id",
        "command",
        "reuse",
        "run",
        "stale",
        "leave",
        "seconds_saved",
        "warnings",
        "steps",
    } <= record.keys()
    assert (record["reuse"], record["run"]) == (2, 2)
    assert cli.show("r1") == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("rerun", "r1", "parse"), {"fetch": "reuse", "parse": "run", "check": "leave", "report": "leave"}),
        (("rerun", "r1", "fetch", "--downstream"), dict.fromkeys(("fetch", "parse", "check", "report"), "run")),
        (("fork", "r1", "parse"), {"fetch": "reuse", "parse": "run", "check": "run", "report": "run"}),
        (("skip", "r1", "check"), {"fetch": "reuse", "parse": "reuse", "check": "leave"}),
        (("mark", "r1", "check"), {"fetch": "reuse", "parse": "reuse", "check": "reuse", "report": "run"}),
        (("pin", "r1", "fetch"), {"fetch": "reuse", "parse": "reuse"}),
    ],
)
def test_every_command_has_a_receipt(cli: CommandLine, words: tuple[str, ...], expected: dict[str, str]) -> None:
    _failed(cli)
    before = cli.show("r1")

    found = _decisions(cli, *words)

    assert {step: found[step] for step in expected} == expected
    assert cli.show("r1") == before
    assert [run["run_id"] for run in cli("runs", "--json").json] == ["r1"]


def test_a_dry_run_of_a_known_run_takes_the_plans_file_as_it_is_now(cli: CommandLine) -> None:
    _failed(cli)
    cli.write("plan.yaml", PLAN.replace("echo hi", "echo hello"))

    assert _decisions(cli, "run", "plan.yaml", "--run-id", "r1")["fetch"] == "stale"
    assert set(_decisions(cli, "run", "plan.yaml", "--run-id", "r1", "--fresh").values()) == {"run"}
    assert cli.show("r1")["revision"] == 1


def test_a_dry_run_that_would_be_refused_says_why(cli: CommandLine) -> None:
    _failed(cli)

    assert "did you mean 'parse'?" in cli("rerun", "r1", "pars", "--dry-run", "--json").error["hint"]
    assert cli("skip", "r1", "fetch", "--dry-run").code == 2
    assert cli("resume", "nope", "--dry-run", "--json").error["kind"] == "unknown_run"


def test_resume_says_what_it_reuses_and_afterwards_what_it_ran(cli: CommandLine) -> None:
    _failed(cli)
    cli.write("ok", "")

    told = cli("resume", "r1")

    assert told.code == 0
    assert told.out == ""
    assert "reuse 2 steps" in told.err.splitlines()[1]
    assert "run 2" in told.err.splitlines()[1]
    assert told.err.splitlines()[-2].startswith("ran 2 steps, reused 2")
    assert (cli.folder / "fetched").read_text() == "x\n"


def test_resume_says_which_code_changed_since_its_result(cli: CommandLine) -> None:
    _failed(cli)
    cli.write("ok", "")
    cli.write("parse.py", CODE.replace("upper", "lower"))

    told = cli("resume", "r1").err

    assert "the code behind parse changed since its result" in told
    assert f"stepchain rerun r1 parse --downstream --store {cli.store}" in told
    assert cli.show("r1")["steps"][1]["marks"] == ["stale"]
    again = cli("resume", "r1").err
    assert "nothing was run" in again
    assert "stepchain rerun r1 parse --downstream" in again
    assert cli("rerun", "r1", "parse", "--downstream").code == 0
    assert cli.show("r1")["steps"][1]["marks"] == []


def test_a_program_hears_events_only(cli: CommandLine) -> None:
    _failed(cli)
    cli.write("ok", "")

    told = cli("resume", "r1", "--json")

    assert told.err == ""
    assert told.events[-1]["type"] == "run.finished"


def test_what_was_cut_off_is_told_and_asked_about_and_may_be_taken_as_done(cli: CommandLine) -> None:
    _cut_off(cli)

    warned = cli("resume", "r1", "--dry-run").err
    assert "never reported: its effect may have happened" in warned
    told = cli("resume", "r1")

    assert told.code == 3
    assert "1 attempt never reported: its effect may have happened" in told.err
    assert "first: attempt 1 began at" in told.err
    assert "you are asked before it is run again" in told.err
    for answer in ("approve r1 first", "mark r1 first", "skip r1 first"):
        assert f"`stepchain {answer}" in told.err
    assert cli("mark", "r1", "first").code == 0
    assert cli("resume", "r1").code == 0
    assert (cli.folder / "tries").read_text() == "x\n"


def test_each_item_that_was_cut_off_is_named(cli: CommandLine) -> None:
    shell = "echo x >> tries{{ item }}; while ! test -e go{{ item }}; do sleep 0.02; done"
    cli.write("items.yaml", json.dumps({"steps": [{"id": "each", "for_each": [0, 1, 2], "shell": shell}]}))
    cli.write("go1", "")
    process = cli.start("run", "items.yaml", "--run-id", "r1", "--json")
    cli.until(process, "item.succeeded", "each")
    deadline = time.monotonic() + PATIENCE
    while not all((cli.folder / f"tries{item}").exists() for item in (0, 2)):
        assert time.monotonic() < deadline
    process.kill()
    process.wait(PATIENCE)

    warned = cli("resume", "r1", "--dry-run").err
    assert [f"each[{item}]: attempt 1 began at" in warned for item in range(3)] == [True, False, True]
    for item in (0, 2):
        cli.write(f"go{item}", "")
    assert cli("resume", "r1").code == 0


def test_what_was_cut_off_is_run_again_if_a_person_says_so(cli: CommandLine) -> None:
    _cut_off(cli)
    assert cli("resume", "r1", "--json").code == 3

    cli.write("go", "")
    assert cli("approve", "r1", "first").code == 0
    assert cli("resume", "r1").code == 0
    assert cli.statuses("r1") == {"first": "succeeded", "second": "succeeded"}


def test_a_resume_of_a_live_run_is_refused_with_its_owner_also_as_a_dry_run(cli: CommandLine) -> None:
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "first")

    refused = cli("resume", "r1", "--dry-run", "--json")

    assert refused.code == 2
    assert f"process {process.pid}" in refused.error["error"]
    cli.write("go", "")
    process.communicate(timeout=PATIENCE)
