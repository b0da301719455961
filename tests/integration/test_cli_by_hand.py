"""`mark`, `pin`, `breakpoint`, `approve --with`, `limits`: what a person sets by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import PATIENCE, CommandLine
from tests.support.typed import Typed

STOPS = """
steps:
  - {id: a, shell: "echo x >> a.txt; echo a"}
  - {id: b, shell: "echo b > b.txt", dependencies: [a], breakpoint: before}
  - {id: c, shell: "echo c", dependencies: [b], breakpoint: after}
  - {id: d, shell: "printf %s {{ steps.c.output.stdout | quote }} > d.txt"}
"""
LONG = """
limits: {slow: 2}
steps:
  - {id: first, shell: "while ! test -e go; do sleep 0.02; done", limit: slow}
  - {id: second, shell: "true", dependencies: [first]}
"""
FAILS = """
steps:
  - {id: bad, shell: "false"}
  - {id: next, shell: "echo {{ steps.bad.output.n }} > next.txt"}
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    line = Typed(tmp_path, monkeypatch, capsys)
    line.write("stops.yaml", STOPS)
    line.write("long.yaml", LONG)
    line.write("fails.yaml", FAILS)
    yield line
    line.end()


def test_a_run_stops_at_breakpoints_and_goes_on_with_what_a_person_gives(cli: CommandLine) -> None:
    stopped = cli("run", "stops.yaml", "--run-id", "r1")
    assert stopped.code == 3
    assert "`stepchain approve r1 b" in stopped.err
    assert "on another input" in stopped.err
    shown = cli("show", "r1").out
    assert "stops before" in shown
    waiting = cli.show("r1")["steps"][1]["waiting"]
    assert (waiting["reason"], waiting["place"]) == ("breakpoint", "before")
    assert waiting["input"] == {"shell": "echo b > b.txt"}
    assert 'b would get: {"shell":"echo b > b.txt"}' in shown

    assert cli("approve", "r1", "b", "--with", '{"shell": "echo other > b.txt"}').code == 0
    stopped = cli("resume", "r1")
    assert stopped.code == 3
    assert "on another output" in stopped.err
    assert (cli.folder / "b.txt").read_text() == "other\n"

    cli.write("c.json", '{"stdout": "by hand"}')
    assert cli("approve", "r1", "c", "--with-file", "c.json").code == 0
    assert cli("resume", "r1").code == 0
    assert (cli.folder / "d.txt").read_text() == "by hand"
    assert (cli.folder / "a.txt").read_text() == "x\n"


def test_a_breakpoint_is_set_in_a_live_run_and_taken_away(cli: CommandLine) -> None:
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "first")

    assert cli("breakpoint", "r1", "first", "--after").code == 0
    assert cli("breakpoint", "r1", "second").code == 0
    assert cli.show("r1")["steps"][0]["breakpoint"] == "after"
    assert cli("breakpoint", "r1", "first", "--off").code == 0
    cli.write("go", "")
    process.communicate(timeout=PATIENCE)

    assert process.returncode == 3
    assert cli.statuses("r1") == {"first": "succeeded", "second": "waiting"}
    assert cli("breakpoint", "r1", "first", "--off", "--json").error["kind"] == "refused"


def test_a_failed_step_is_taken_as_done_with_an_output(cli: CommandLine) -> None:
    assert cli("run", "fails.yaml", "--run-id", "r1").code == 1

    told = cli("mark", "r1", "bad", "--output", '{"n": 7}')

    assert told.code == 0
    assert "stepchain resume r1" in told.err
    assert cli("resume", "r1").code == 0
    assert (cli.folder / "next.txt").read_text() == "7\n"


def test_a_pinned_output_is_kept_over_reruns(cli: CommandLine) -> None:
    cli.write("two.yaml", "steps:\n  - {id: a, shell: 'echo x >> a.txt'}\n  - {id: b, shell: 'true'}\n")
    cli("run", "two.yaml", "--run-id", "r1")

    assert cli("pin", "r1", "a").code == 0
    assert cli.show("r1")["steps"][0]["marks"] == ["pinned"]
    assert "a*" in cli("show", "r1").out
    assert "pinned" in cli("rerun", "r1", "a", "--json").error["error"]
    assert cli("pin", "r1", "a", "--off").code == 0
    assert cli("rerun", "r1", "a").code == 0
    assert (cli.folder / "a.txt").read_text() == "x\nx\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mark", "r1", "bad", "--output", "{no"), "--output is no JSON"),
        (("mark", "r1", "bad", "--output", "1", "--output-file", "x"), "give one of them"),
        (("mark", "r1", "bad", "--output-file", "gone.json"), "cannot read gone.json"),
        (("mark", "r1", "bad", "--output-file", "fails.yaml"), "fails.yaml is no JSON"),
        (("pin", "r1", "bad"), "no output to pin"),
        (("pin", "r1", "bad", "--off"), "not pinned"),
        (("pin", "r1", "bad", "--off", "--output", "1"), "--off takes no output"),
        (("breakpoint", "r1", "bad", "--before", "--after"), "exclude each other"),
        (("breakpoint", "r1", "bda"), "no step 'bda'"),
        (("approve", "r1", "bad", "--with", "1"), "no breakpoint"),
        (("approve", "r1", "bda", "--with", "1"), "no step 'bda'"),
        (("limits", "r1", "slow=2"), "no limit 'slow'"),
        (("limits", "r1", "slow"), "is not K=V"),
        (("limits", "r1", "slow=x"), "is a whole number"),
        (("limits", "r1", "--priority", "bda=1"), "no step 'bda'"),
        (("limits", "r1", "--max-concurrent", "0"), "0 is not in the range"),
        (("limits", "r1", "--max-running", "2"), "nobody carries this run out"),
        (("rerun", "r1", "bad", "--failed"), "has no items"),
        (("mark", "nope", "bad"), "no run 'nope'"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_message_and_changes_nothing(
    cli: CommandLine, words: tuple[str, ...], said: str
) -> None:
    cli("run", "fails.yaml", "--run-id", "r1")
    before = cli.show("r1")

    answer = cli(*words)

    assert answer.code == 2
    assert answer.out == ""
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert cli.show("r1") == before


@pytest.mark.parametrize("words", [("rerun", "r1", "first"), ("mark", "r1", "first"), ("pin", "r1", "first")])
def test_a_step_that_runs_is_left_alone(cli: CommandLine, words: tuple[str, ...]) -> None:
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "first")

    refused = cli(*words, "--json")
    cli.write("go", "")
    process.communicate(timeout=PATIENCE)

    assert (refused.code, refused.error["kind"]) == (2, "refused")
    assert "is running" in refused.error["error"]
    assert process.returncode == 0


def test_commands_that_contradict_each_other_are_refused(cli: CommandLine) -> None:
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "first")
    assert cli("cancel", "r1").code == 0
    process.communicate(timeout=PATIENCE)

    for words in (("cancel", "r1"), ("pause", "r1"), ("cancel", "r1", "first"), ("approve", "r1", "first")):
        refused = cli(*words, "--json")
        assert (refused.code, refused.error["kind"]) == (2, "refused"), words
    assert cli.show("r1")["status"] == "cancelled"


def test_who_holds_a_slot_is_shown_and_limits_change_live(cli: CommandLine) -> None:
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "first")

    slots = cli("limits", "r1", "--json").json
    assert [(held["step"], held["limit"]) for held in slots["held"]] == [("first", "slow")]
    assert slots["limits"] == {"slow": {"taken": 1, "size": 2}}
    assert "first" in cli("limits", "r1").out
    assert (
        cli("limits", "r1", "slow=1", "--max-concurrent", "3", "--priority", "second=2", "--max-running", "9").code == 0
    )
    slots = cli("limits", "r1", "--json").json
    assert (slots["limits"]["slow"]["size"], slots["run"]["size"], slots["engine"]["size"]) == (1, 3, 9)
    cli.write("go", "")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_only_the_failed_items_of_a_map_are_run_again(cli: CommandLine) -> None:
    cli.write(
        "map.yaml",
        "steps:\n  - id: each\n    for_each: [1, 2]\n"
        "    shell: 'echo {{ item }} >> items; test {{ item }} = 1 -o -e ok'\n",
    )
    assert cli("run", "map.yaml", "--run-id", "r1").code == 1
    cli.write("ok", "")

    assert cli("rerun", "r1", "each", "--failed").code == 0
    assert sorted((cli.folder / "items").read_text().split()) == ["1", "2", "2"]
