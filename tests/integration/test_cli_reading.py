"""`runs`, `show`, `logs`, `validate`, `graph`, `schema`, `doctor`: what can be read, by people and by programs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stepchain_tui import __version__
from tests.support.command_line import PATIENCE, ROOT, CommandLine

PLAN = """
goal: Read me
steps:
  - id: talk
    shell: "echo one; echo two >&2"
  - id: each
    for_each: [1, 2]
    python: "print(item)\\nitem * 10"
    args: {item: "{{ item }}"}
    dependencies: [talk]
  - id: bad
    shell: exit 4
    on_failure: continue
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("plan.yaml", PLAN)
    yield line
    line.end()


def test_show_json_has_the_promised_shape(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")

    shown = cli.show("r1")

    assert {"run_id", "status", "goal", "steps", "usage"} <= shown.keys()
    talk, each, bad = shown["steps"]
    promised = {"id", "status", "marks", "attempts", "output", "error", "error_type", "started_at", "finished_at"}
    assert promised <= talk.keys()
    assert talk["output"] == {"stdout": "one\n", "stderr": "two\n", "exit_code": 0}
    assert each["output"] == [10, 20]
    assert [attempt["item"] for attempt in each["attempts"]] == [None, 0, 1]
    attempt = {"n", "item", "status", "error", "error_type", "started_at", "finished_at", "usage"}
    assert attempt == each["attempts"][1].keys()
    assert bad["status"] == "failed"
    assert bad["error_type"] == "tool_error"
    assert bad["error"]


def test_runs_are_listed_newest_first(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "older")
    cli("run", "plan.yaml", "--run-id", "newer")

    listed = cli("runs", "--json").json
    assert [run["run_id"] for run in listed] == ["newer", "older"]
    assert {"run_id", "status", "goal", "plan_path", "created_at", "finished_at"} <= listed[0].keys()
    assert [run["run_id"] for run in cli("runs", "--json", "--limit", "1").json] == ["newer"]
    text = cli("runs").out.splitlines()
    assert text[1].startswith("newer  succeeded  3/3")


def test_a_unique_prefix_names_a_run_and_a_shared_one_lists_them(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "abc1")
    cli("run", "plan.yaml", "--run-id", "abd2")

    assert cli.show("abc")["run_id"] == "abc1"
    several = cli("show", "ab", "--json")
    assert several.code == 2
    assert "abc1, abd2" in several.error["hint"]
    assert cli("show", "abx1", "--json").error["kind"] == "unknown_run"


def test_a_large_output_is_named_by_its_file_unless_it_is_wanted_whole(cli: CommandLine) -> None:
    cli.write("big.yaml", "steps:\n  - {id: big, shell: 'seq 1 20000'}\n")
    cli("run", "big.yaml", "--run-id", "r1")

    output = cli.show("r1")["steps"][0]["output"]
    assert {"file", "sha256", "bytes", "preview"} == output.keys()
    assert json.loads(Path(output["file"]).read_bytes())["stdout"].endswith("20000\n")
    whole = cli("show", "r1", "--json", "--full").json["steps"][0]["output"]
    assert whole["stdout"].count("\n") == 20000


def test_what_a_dead_engine_left_reads_as_interrupted(cli: CommandLine) -> None:
    cli.write("long.yaml", "steps:\n  - {id: long, shell: sleep 60}\n")
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "long")
    process.kill()
    process.wait(PATIENCE)

    shown = cli.show("r1")

    assert shown["status"] == "interrupted"
    assert shown["steps"][0]["status"] == "pending"
    assert shown["steps"][0]["attempts"][0]["status"] == "interrupted"
    assert cli("runs", "--json").json[0]["status"] == "interrupted"
    report = cli("doctor", "--json")
    assert report.code == 0
    assert any("interrupted" in note for note in report.json["notes"])


def test_logs_print_what_steps_printed(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")

    assert sorted(cli("logs", "r1", "talk").out.splitlines()) == ["one", "two"]
    lines = [json.loads(line) for line in cli("logs", "r1", "--json").out.splitlines()]
    assert {"n", "at", "step_id", "attempt", "item", "stream", "text"} == lines[0].keys()
    assert {line["item"] for line in lines if line["step_id"] == "each"} == {0, 1}
    unknown = cli("logs", "r1", "tlak", "--json")
    assert unknown.code == 2
    assert "did you mean 'talk'?" in unknown.error["hint"]


def test_following_a_log_ends_when_the_run_ends(cli: CommandLine) -> None:
    cli.write(
        "slow.yaml", "steps:\n  - {id: s, shell: 'echo begun; while ! test -e go; do sleep 0.02; done; echo end'}\n"
    )
    run = cli.start("run", "slow.yaml", "--run-id", "r1", "--json")
    cli.until(run, "step.spawned", "s")
    follow = cli.start("logs", "r1", "s", "-f")
    assert follow.stdout is not None

    assert follow.stdout.readline() == "begun\n"
    cli.write("go", "")

    assert follow.stdout.read() == "end\n"
    assert follow.wait(PATIENCE) == 0
    run.communicate(timeout=PATIENCE)


def test_following_a_log_ends_when_the_engine_dies(cli: CommandLine) -> None:
    cli.write("slow.yaml", "steps:\n  - {id: s, shell: 'echo begun; sleep 60'}\n")
    run = cli.start("run", "slow.yaml", "--run-id", "r1", "--json")
    cli.until(run, "step.spawned", "s")
    follow = cli.start("logs", "r1", "s", "-f")
    assert follow.stdout is not None
    follow.stdout.readline()

    run.kill()
    run.communicate(timeout=PATIENCE)

    assert follow.wait(PATIENCE) == 0


def test_a_reader_that_goes_away_ends_a_command_quietly(cli: CommandLine) -> None:
    cli.write("many.yaml", "steps:\n  - {id: s, shell: 'seq 1 100000'}\n")
    cli("run", "many.yaml", "--run-id", "r1")
    process = cli.start("logs", "r1")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()

    assert process.wait(PATIENCE) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_validate_names_every_mistake_with_its_place(cli: CommandLine) -> None:
    cli.write(
        "bad.yaml", "goal: x\nsteps:\n  - id: a\n    shel: echo\n  - id: b\n    shell: x\n    dependencies: [c]\n"
    )

    answer = cli("validate", "bad.yaml")

    assert answer.code == 2
    lines = answer.out.splitlines()
    assert any(line.startswith("bad.yaml:4:5: steps[0].shel: ") and "did you mean 'shell'?" in line for line in lines)
    assert any(line.startswith("bad.yaml:7:20: steps[1].dependencies[0]: unknown step 'c'") for line in lines)
    found = cli("validate", "bad.yaml", "--json").json
    assert found["ok"] is False
    assert {problem["line"] for problem in found["problems"]} >= {4, 7}
    ran = cli("run", "bad.yaml")
    assert ran.code == 2
    assert all(line in ran.err for line in lines)
    good = cli("validate", "plan.yaml")
    assert (good.code, good.out) == (0, "")


def test_graph_draws_the_plan_or_lists_it(cli: CommandLine) -> None:
    drawn = cli("graph", "plan.yaml").out
    assert "○ talk" in drawn
    assert "○ each" in drawn
    steps = cli("graph", "plan.yaml", "--json").json["steps"]
    assert steps[1] == {"id": "each", "kind": "python", "parents": ["talk"]}


def test_schema_is_the_one_in_the_docs(cli: CommandLine) -> None:
    assert cli("schema").out == (ROOT / "docs" / "plan-schema.json").read_text(encoding="utf-8")


def test_doctor_finds_nothing_wrong_with_a_good_store(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")

    answer = cli("doctor", "--json")

    assert answer.code == 0
    assert answer.json["problems"] == []
    assert answer.json["runs"] == 1
    assert answer.json["model"].startswith("none")
    assert cli("doctor", "--json", env={"OPENAI_API_KEY": "sk-very-secret-key"}).json["model"].startswith("gpt")
    assert "sk-very" not in cli("doctor", env={"OPENAI_API_KEY": "sk-very-secret-key"}).out


@pytest.mark.breaks_its_store("an event is taken out")
def test_doctor_finds_damage_and_exits_2(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")
    with closing(sqlite3.connect(cli.store)) as connection:
        connection.execute("DELETE FROM events WHERE id IN (SELECT id FROM events LIMIT 1 OFFSET 2)")
        connection.commit()

    answer = cli("doctor", "--json")

    assert answer.code == 2
    assert any("r1" in problem for problem in answer.json["problems"])


@pytest.mark.breaks_its_store("a row is changed")
def test_doctor_finds_rows_that_differ_from_the_events(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")
    with closing(sqlite3.connect(cli.store)) as connection:
        connection.execute("UPDATE steps SET status = 'failed' WHERE step_id = 'talk'")
        connection.commit()

    answer = cli("doctor", "--json")

    assert answer.code == 2
    assert any("differ from its events" in problem for problem in answer.json["problems"])


def test_the_version_is_told(cli: CommandLine) -> None:
    assert cli("--version", store=False).out == f"stepchain {__version__}\n"


def test_what_is_not_there_yet_says_so(cli: CommandLine) -> None:
    answer = cli("--web", store=False)

    assert answer.code == 2
    assert "not available yet" in answer.err


def test_the_app_needs_a_terminal(cli: CommandLine) -> None:
    for words in ((), ("plan.yaml",), ("open", "r1")):
        answer = cli(*words) if words != ("open", "r1") else cli("open", "r1")
        assert answer.code == 2
        assert answer.out == ""


def test_store_may_stand_before_the_command_or_in_the_environment(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")

    assert len(cli("--store", str(cli.store), "runs", "--json", store=False).json) == 1
    assert len(cli("runs", "--json", store=False, env={"STEPCHAIN_STORE": str(cli.store)}).json) == 1
    assert cli("runs", "--json", store=False).json == []
