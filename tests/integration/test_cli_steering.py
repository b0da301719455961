"""Steering a run from a second terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.command_line import PATIENCE, CommandLine

LONG = """
max_concurrent: 1
steps:
  - id: first
    shell: "while ! test -e go; do sleep 0.02; done"
  - id: second
    shell: "echo x >> second.txt"
    dependencies: [first]
  - id: third
    shell: "true"
    dependencies: [second]
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("long.yaml", LONG)
    yield line
    line.end()


def test_a_pause_takes_effect_within_half_a_second(cli: CommandLine) -> None:
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "first")

    answer = cli("pause", "r1")
    assert answer.code == 0
    sent = _sent_at(cli)
    paused = cli.until(process, "run.paused")
    cli.write("go", "")

    assert (datetime.fromisoformat(paused["at"]) - sent).total_seconds() < 0.5
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert "stepchain resume r1" in err
    assert cli.statuses("r1") == {"first": "succeeded", "second": "pending", "third": "pending"}
    assert cli("resume", "r1").code == 0


def _sent_at(cli: CommandLine) -> datetime:
    """Return when the last command was sent, as the store has it."""
    import sqlite3
    from contextlib import closing

    from stepchain_tui.store.rows import moment

    with closing(sqlite3.connect(f"file:{cli.store}?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT sent_at FROM commands ORDER BY number DESC LIMIT 1").fetchone()
    found = moment(row[0])
    assert found is not None
    return found


def test_pause_now_sends_running_steps_back_at_no_cost_of_a_try(cli: CommandLine) -> None:
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "first")

    assert cli("pause", "r1", "--now").code == 0
    process.communicate(timeout=PATIENCE)

    assert process.returncode == 3
    assert cli.statuses("r1")["first"] == "pending"
    assert cli.show("r1")["status"] == "paused"


def test_resume_tells_an_owner_that_is_about_to_pause_to_go_on(cli: CommandLine) -> None:
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "first")
    cli("pause", "r1")

    answer = cli("resume", "r1")
    cli.write("go", "")

    assert answer.code == 0
    assert "resumed" in answer.err
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_cancel_stops_a_live_run_and_resume_gives_it_fresh_tries(cli: CommandLine) -> None:
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "first")

    assert cli("cancel", "r1").code == 0
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 3
    assert set(cli.statuses("r1").values()) == {"cancelled"}
    cli.write("go", "")
    assert cli("resume", "r1").code == 0
    assert set(cli.statuses("r1").values()) == {"succeeded"}


def test_one_step_of_a_live_run_can_be_cancelled(cli: CommandLine) -> None:
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "first")

    assert cli("cancel", "r1", "first").code == 0
    process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert cli.statuses("r1") == {"first": "cancelled", "second": "blocked", "third": "blocked"}


def test_skip_changes_a_run_that_nobody_carries_out(cli: CommandLine) -> None:
    cli.write("asks.yaml", "steps:\n  - {id: ask, approve: ok?}\n  - {id: b, shell: 'true', dependencies: [ask]}\n")
    assert cli("run", "asks.yaml", "--run-id", "r1").code == 3

    assert cli("skip", "r1", "b").code == 0
    assert cli.statuses("r1")["b"] == "skipped"


def test_a_second_engine_is_refused_with_the_owners_pid(cli: CommandLine) -> None:
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "first")

    for words in (("resume", "r1"), ("run", "long.yaml", "--run-id", "r1")):
        refused = cli(*words, "--json")
        assert refused.code == 2
        assert refused.error["kind"] == "run_locked"
        assert f"process {process.pid}" in refused.error["error"]
    shown = cli("show", "r1").out
    assert f"process {process.pid}" in shown


def test_a_rerun_of_a_live_run_is_done_by_its_owner(cli: CommandLine) -> None:
    cli.write("two.yaml", LONG.replace("max_concurrent: 1", "") + "  - {id: aside, shell: 'echo x >> aside.txt'}\n")
    process = cli.start("run", "two.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.succeeded", "aside")

    answer = cli("rerun", "r1", "aside")
    cli.until(process, "step.succeeded", "aside")
    cli.write("go", "")

    assert answer.code == 0
    assert f"process {process.pid}" in answer.err
    process.communicate(timeout=PATIENCE)
    assert (cli.folder / "aside.txt").read_text() == "x\nx\n"


@pytest.mark.parametrize(
    ("words", "kind", "hint"),
    [
        (("pause", "nope"), "unknown_run", "stepchain runs"),
        (("pause", "r1"), "refused", ""),
        (("cancel", "r1", "frist"), "unknown_step", "did you mean 'first'?"),
        (("skip", "r1", "frist"), "unknown_step", "did you mean 'first'?"),
        (("approve", "r1", "first"), "refused", ""),
        (("rerun", "r1", "frist"), "unknown_step", "did you mean 'first'?"),
    ],
)
def test_a_command_that_does_not_fit_changes_nothing(
    cli: CommandLine, words: tuple[str, ...], kind: str, hint: str
) -> None:
    cli.write("go", "")
    cli("run", "long.yaml", "--run-id", "r1")

    answer = cli(*words, "--json")

    assert answer.code == 2
    assert answer.error["kind"] == kind
    assert hint in answer.error["hint"]
    assert set(cli.statuses("r1").values()) == {"succeeded"}


def test_an_answer_can_be_read_by_a_program(cli: CommandLine) -> None:
    cli.write("asks.yaml", "steps:\n  - {id: ask, approve: ok?}\n")
    cli("run", "asks.yaml", "--run-id", "run-one")

    assert cli("approve", "run-o", "ask", "--json").json == {
        "run_id": "run-one",
        "command": "approve",
        "ok": True,
        "message": "ask approved",
    }
