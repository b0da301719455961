"""`edit`, `show --revisions`, `show --plan`, `diff RUN@N RUN@N`: another plan in the middle of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import PATIENCE, CommandLine

PLAN = """\
steps:
  - {id: first, shell: "echo one >> first.txt"}
  - {id: wait, shell: "while ! test -e go; do sleep 0.02; done", dependencies: [first]}
  - {id: last, shell: "echo old > last.txt", dependencies: [wait]}
"""
REVISED = PLAN.replace("echo old", "echo new")


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("plan.yaml", PLAN)
    line.write("new.yaml", REVISED)
    yield line
    line.end()


@pytest.fixture
def finished(cli: CommandLine) -> CommandLine:
    cli.write("go", "")
    assert cli("run", "plan.yaml", "--run-id", "r1").code == 0
    return cli


def test_a_live_run_gets_another_plan_from_a_second_terminal(cli: CommandLine) -> None:
    process = cli.start("run", "plan.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "wait")

    told = cli("edit", "r1", "new.yaml", "--reason", "new words")
    cli.write("go", "")
    process.communicate(timeout=PATIENCE)

    assert told.code == 0
    assert told.out == ""
    assert "run r1: revision 2" in told.err
    assert "reuse 1 step" in told.err
    assert "resume" not in told.err
    assert process.returncode == 0
    assert (cli.folder / "last.txt").read_text() == "new\n"
    assert (cli.folder / "first.txt").read_text() == "one\n"
    _, second = cli("show", "r1", "--revisions", "--json").json
    assert (second["number"], second["reason"]) == (2, "new words")
    assert second["by"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (PLAN.replace("sleep 0.02", "sleep 0.03"), "changes wait"),
        ("steps:\n  - {id: first, shell: 'echo one >> first.txt'}\n", "takes wait away"),
        (PLAN, "the same as before"),
    ],
)
def test_what_runs_stays_as_it_is(cli: CommandLine, changed: str, said: str) -> None:
    cli.write("changed.yaml", changed)
    process = cli.start("run", "plan.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "wait")

    refused = cli("edit", "r1", "changed.yaml", "--json")
    cli.write("go", "")
    process.communicate(timeout=PATIENCE)

    assert refused.code == 2
    assert refused.error["kind"] == "refused"
    assert said in refused.error["error"]
    assert process.returncode == 0
    assert cli.show("r1")["revision"] == 1


def test_a_revision_that_is_no_plan_is_refused_with_every_mistake(finished: CommandLine) -> None:
    finished.write(
        "bad.yaml",
        "steps:\n  - {id: a, shell: 'true', nonsense: 1}\n  - {id: b, shell: 'true', dependencies: [frist]}\n",
    )

    refused = finished("edit", "r1", "bad.yaml")

    assert refused.code == 2
    assert refused.err.splitlines()[0].startswith("bad.yaml:2:28: steps[0].nonsense: unknown key")
    assert refused.err.splitlines()[1].startswith("bad.yaml:3:43: steps[1].dependencies[0]: unknown step 'frist'")
    assert "no such file" in finished("edit", "r1", "missing.yaml").err
    assert finished.show("r1")["revision"] == 1


def test_a_revision_that_takes_away_a_step_others_need_is_refused(finished: CommandLine) -> None:
    finished.write("gap.yaml", "".join(line for line in PLAN.splitlines(keepends=True) if "id: wait" not in line))

    refused = finished("edit", "r1", "gap.yaml")

    assert refused.code == 2
    assert "gap.yaml:3:" in refused.err
    assert "unknown step 'wait'" in refused.err
    assert finished.show("r1")["revision"] == 1


def test_an_edit_of_a_run_that_is_over_marks_stale_or_runs_again(finished: CommandLine) -> None:
    dry = finished("edit", "r1", "new.yaml", "--dry-run", "--json").json
    assert [step["decision"] for step in dry["steps"]] == ["reuse", "reuse", "stale"]
    assert finished.show("r1")["revision"] == 1

    assert finished("edit", "r1", "new.yaml").code == 0
    assert finished.show("r1")["steps"][2]["marks"] == ["stale"]
    assert (finished.folder / "last.txt").read_text() == "old\n"

    finished.write("newer.yaml", PLAN.replace("echo old", "echo newer"))
    answer = finished("edit", "r1", "newer.yaml", "--rerun", "--json").json
    assert answer["ok"]
    assert (answer["receipt"]["reuse"], answer["receipt"]["run"]) == (2, 1)
    assert finished("resume", "r1").code == 0
    assert (finished.folder / "last.txt").read_text() == "newer\n"
    assert (finished.folder / "first.txt").read_text() == "one\n"


def test_the_plan_that_really_ran_can_be_printed_and_run_again(finished: CommandLine) -> None:
    finished("edit", "r1", "new.yaml")

    assert finished("show", "r1", "--plan").out == REVISED
    assert finished("show", "r1", "--plan", "--revision", "1").out == PLAN
    as_json = finished("show", "r1", "--plan", "--revision", "1", "--json").json
    assert (as_json["revision"], as_json["text"]) == (1, PLAN)
    assert "It has: 1, 2." in finished("show", "r1", "--plan", "--revision", "3").err
    assert finished("show", "r1", "--plan", "--revisions").code == 2
    assert finished("show", "r1", "--revision", "1").code == 2


def test_revisions_are_compared(finished: CommandLine) -> None:
    finished("edit", "r1", "new.yaml")

    told = finished("diff", "r1@1", "r1@2", "--text")

    assert told.code == 0
    assert '~ last: shell: "echo old > last.txt" -> "echo new > last.txt"' in told.out
    assert '+  - {id: last, shell: "echo new > last.txt", dependencies: [wait]}' in told.out
    as_json = finished("diff", "r1@1", "r1", "--json").json
    assert (as_json["left"], as_json["right"]) == ("r1@1", "r1@2")
    assert list(as_json["changed"]) == ["last"]
    assert "the plans are the same" in finished("diff", "r1@2", "r1").out
    for words in (("r1@9", "r1"), ("r1@x", "r1"), ("r1@1", "r1", "--outputs"), ("r1@1", "nope")):
        assert finished("diff", *words).code == 2


def test_a_changed_plan_file_is_a_revision_that_is_told(finished: CommandLine) -> None:
    finished.write("plan.yaml", REVISED)

    told = finished("run", "plan.yaml", "--run-id", "r1")

    assert told.code == 0
    assert "revision 2: the plan file changed" in told.err
    assert "stepchain diff r1@1 r1@2" in told.err
    assert "1 step stale (last)" in told.err


def test_an_input_that_is_new_is_asked_for_and_a_secret_one_is_not_kept(finished: CommandLine) -> None:
    finished.write("asks.yaml", f"inputs: {{n: {{type: integer}}}}\n{PLAN}")
    assert "missing input: n" in finished("edit", "r1", "asks.yaml").err
    assert finished("edit", "r1", "asks.yaml", "--input", "n=3").code == 0
    assert finished.show("r1")["inputs"] == {"n": 3}

    finished.write("secret.yaml", f"inputs: {{n: {{type: integer}}, token: {{type: secret}}}}\n{PLAN}")
    assert finished("edit", "r1", "secret.yaml", "--input", "token=abracadabra").code == 0
    assert finished.show("r1")["inputs"] == {"n": 3}
    assert b"abracadabra" not in finished.store.read_bytes()
