"""`export`, `import`, `delete`, `prune` as they are typed."""

from __future__ import annotations

import gzip
import os
import pty
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.command_line import PATIENCE, CommandLine, environment

PLAN = """\
goal: two steps
steps:
  - {id: list, shell: "seq 3; head -c 100000 /dev/zero | tr '\\\\0' x"}
  - {id: last, shell: "echo ran >> made; exit $(cat code)", dependencies: [list]}
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("plan.yaml", PLAN)
    line.write("code", "0")
    yield line
    line.end()


def run(cli: CommandLine, run_id: str, code: int = 0) -> None:
    cli.write("code", str(code))
    assert cli("run", "plan.yaml", "--run-id", run_id).code == (1 if code else 0)


def runs(cli: CommandLine) -> list[str]:
    return [found["run_id"] for found in cli("runs", "--json").json]


def large_files(cli: CommandLine) -> list[Path]:
    return [path for path in Path(f"{cli.store}.files").rglob("*") if path.is_file()]


def grow_old(cli: CommandLine, run_id: str, days: int) -> None:
    """Make a run one that ended long ago."""
    at = int((datetime.now(UTC) - timedelta(days=days)).timestamp() * 1_000_000)
    with closing(sqlite3.connect(cli.store)) as database, database:
        database.execute("UPDATE runs SET created_at = ?1, finished_at = ?1 WHERE run_id = ?2", (at, run_id))


# --- export and import


def test_a_run_is_carried_to_another_store_and_goes_on_there_once_it_is_trusted(cli: CommandLine) -> None:
    run(cli, "r1", code=3)
    answer = cli("export", "r1", "r1.run", "--json")
    assert answer.code == 0
    assert (answer.json["run_id"], answer.json["values"], answer.json["lines"]) == ("r1", 1, 5)
    shown, logs = cli("show", "r1", "--json").out, cli("logs", "r1").out
    first, cli.store = cli.store, cli.folder / "other.db"

    answer = cli("import", "r1.run")
    assert answer.code == 0, answer.err
    assert "resume --trust" in answer.err
    assert cli("show", "r1", "--json").out == shown.replace("runs.db.files", "other.db.files")
    assert cli("logs", "r1").out == logs
    assert cli("show", "r1", "--full", "--json").json["steps"][0]["output"]["stdout"].startswith("1\n2\n3\nxxx")

    cli.write("code", "0")
    made = (cli.folder / "made").read_text()
    for words in (
        ("resume", "r1"),
        ("rerun", "r1", "last"),
        ("fork", "r1", "last"),
        ("run", "plan.yaml", "--run-id", "r1"),
        ("fork", "r1", "last", "--detach"),
    ):
        answer = cli(*words, "--json")
        assert answer.code == 2, words
        assert answer.error["kind"] == "untrusted_run"
        assert "stepchain resume r1 --trust" in answer.error["hint"]
    assert (cli.folder / "made").read_text() == made

    answer = cli("resume", "r1", "--trust")
    assert answer.code == 0, answer.err
    assert (cli.folder / "made").read_text() == made + "ran\n"
    assert cli("rerun", "r1", "last").code == 0
    assert cli("doctor").code == 0
    cli.store = first
    assert cli.statuses("r1") == {"list": "succeeded", "last": "failed"}


def test_what_was_live_when_it_was_exported_is_interrupted_after_the_import(cli: CommandLine) -> None:
    cli.write("slow.yaml", "steps:\n  - {id: a, shell: echo a}\n  - {id: b, shell: sleep 600, dependencies: [a]}\n")
    live = cli.start("run", "slow.yaml", "--run-id", "live", "--json")
    cli.until(live, "step.spawned", "b")
    assert cli("export", "live", "live.run").code == 0
    assert cli("import", "live.run", "--as", "copy").code == 0
    assert [found["status"] for found in cli("runs", "--json").json if found["run_id"] == "copy"] == ["interrupted"]
    assert cli.statuses("copy") == {"a": "succeeded", "b": "pending"}
    assert live.poll() is None, "the process that the file names belongs to somebody else"
    assert cli("delete", "copy", "--yes").code == 0
    live.send_signal(signal.SIGINT)
    assert live.wait(PATIENCE) == 130


def test_no_secret_is_in_an_exported_file(cli: CommandLine) -> None:
    cli.write("secret.yaml", "secrets: [DB_PASSWORD]\nsteps:\n  - {id: a, shell: 'echo $DB_PASSWORD'}\n")
    secret = {"DB_PASSWORD": "correct-horse-battery"}
    assert cli("run", "secret.yaml", "--run-id", "r", env=secret).code == 0
    assert cli("export", "r", "r.run", env=secret).code == 0
    text = gzip.decompress((cli.folder / "r.run").read_bytes())
    assert b"[secret DB_PASSWORD]" in text
    assert b"correct-horse" not in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("export", "none", "x.run"), "no run 'none'"),
        (("export", "r1", "plan.yaml"), "plan.yaml is there already"),
        (("export", "r1", "no/folder/x.run"), "cannot be written"),
        (("import", "none.run"), "none.run: it cannot be read: No such file"),
        (("import", "plan.yaml"), "plan.yaml: this is no exported run"),
        (("import", "."), "cannot be read"),
        (("import", "r1.run"), "there is a run 'r1' already"),
        (("import", "r1.run", "--as", "../up"), "cannot be a run id"),
        (("import", "half.run", "--as", "half"), "it ends in the middle"),
        (("delete", "none"), "no run 'none'"),
        (("delete", "r1"), "nobody can be asked"),
        (("delete", "r1", "none", "--yes"), "no run 'none'"),
        (("prune",), "say which runs go"),
        (("prune", "--older-than", "soon"), "'soon' is no age"),
        (("prune", "--max-size", "big"), "'big' is no size"),
        (("prune", "--keep", "-1"), "-1"),
        (("prune", "--status", "gone"), "'gone' is none of pending"),
        (("prune", "--keep", "0"), "nobody can be asked"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    cli: CommandLine, words: tuple[str, ...], told: str
) -> None:
    run(cli, "r1")
    assert cli("export", "r1", "r1.run").code == 0
    (cli.folder / "half.run").write_bytes((cli.folder / "r1.run").read_bytes()[:-40])
    answer = cli(*words)
    assert answer.code == 2
    assert told in answer.err
    assert "Traceback" not in answer.err
    assert runs(cli) == ["r1"]
    assert "error" in cli(*words, "--json").error


# --- delete


def test_a_deleted_run_is_gone_and_its_fork_goes_on(cli: CommandLine) -> None:
    run(cli, "parent", code=3)
    cli.write("code", "3")
    assert cli("fork", "parent", "last", "--run-id", "child").code == 1
    (file,) = large_files(cli)
    answer = cli("delete", "parent", "--dry-run", "--json")
    assert [found["run_id"] for found in answer.json["runs"]] == ["parent"]
    assert answer.json["bytes"] < 150_000, "its large output is the child's as well"
    assert runs(cli) == ["child", "parent"]

    assert cli("delete", "parent", "--yes").code == 0
    assert runs(cli) == ["child"]
    assert cli("show", "parent").code == 2
    assert large_files(cli) == [file]
    cli.write("code", "0")
    assert cli("resume", "child").code == 0
    assert cli("show", "child", "--full", "--json").json["steps"][0]["output"]["stdout"].endswith("xxx")
    assert cli("doctor").code == 0

    answer = cli("delete", "child", "--yes", "--json")
    assert answer.json["bytes"] > 100_000
    assert large_files(cli) == []
    assert runs(cli) == []
    assert cli("doctor").code == 0


def test_a_live_run_is_not_deleted_and_its_owner_is_named(cli: CommandLine) -> None:
    run(cli, "old")
    cli.write("slow.yaml", "steps:\n  - {id: a, shell: sleep 600}\n")
    live = cli.start("run", "slow.yaml", "--run-id", "live", "--json")
    cli.until(live, "step.spawned", "a")
    for words in (("delete", "old", "live", "--yes"), ("delete", "live", "--dry-run")):
        answer = cli(*words)
        assert answer.code == 2
        assert f"process {live.pid}" in answer.err
    answer = cli("prune", "--keep", "0", "--status", "running", "--status", "succeeded", "--yes", "--json")
    assert [found["run_id"] for found in answer.json["runs"]] == ["old"]
    assert runs(cli) == ["live"]
    live.send_signal(signal.SIGINT)
    assert live.wait(PATIENCE) == 130
    assert cli("delete", "live", "--yes").code == 0


@pytest.mark.parametrize(("typed", "left"), [(b"n\n", ["r1"]), (b"\n", ["r1"]), (b"y\n", [])])
def test_on_a_terminal_it_is_asked_first(cli: CommandLine, typed: bytes, left: list[str]) -> None:
    run(cli, "r1")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        cli.words("delete", "r1"), cwd=cli.folder, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen:
        seen += os.read(ours, 10_000)
    assert b"Delete 1 run" in seen
    assert b"two steps" in seen
    os.write(ours, typed)
    assert process.wait(PATIENCE) == 0
    os.close(ours)
    assert runs(cli) == left


def test_a_file_that_became_mostly_empty_becomes_smaller(cli: CommandLine) -> None:
    cli.write("long.yaml", "steps:\n  - {id: a, shell: seq 100000}\n")
    run(cli, "keep")
    assert cli("run", "long.yaml", "--run-id", "long").code == 0
    before = cli.store.stat().st_size
    answer = cli("delete", "long", "--yes")
    assert answer.code == 0
    assert cli.store.stat().st_size < before / 4
    assert cli("logs", "keep").code == 0
    assert cli("doctor").code == 0


# --- prune


@pytest.mark.breaks_its_store("its runs are made older than their events")
def test_each_option_narrows_what_goes(cli: CommandLine) -> None:
    for number, (days, code) in enumerate([(50, 0), (40, 3), (20, 0), (1, 3)]):
        run(cli, f"r{number}", code)
        grow_old(cli, f"r{number}", days)

    def would_go(*words: str) -> list[str]:
        answer = cli("prune", *words, "--dry-run", "--json")
        assert answer.code == 0, answer.err
        return [found["run_id"] for found in answer.json["runs"]]

    assert would_go("--older-than", "30d") == ["r0", "r1"]
    assert would_go("--older-than", "6w") == ["r0"]
    assert would_go("--older-than", "30d", "--status", "failed") == ["r1"]
    assert would_go("--keep", "1") == ["r0", "r1", "r2"]
    assert would_go("--keep", "3", "--older-than", "30d") == ["r0"]
    assert would_go("--keep", "9") == []
    assert would_go("--max-size", "1GB") == []
    assert would_go("--max-size", "0") == ["r0", "r1", "r2", "r3"]
    assert runs(cli) == ["r3", "r2", "r1", "r0"]
    answer = cli("prune", "--older-than", "30d", "--yes")
    assert answer.code == 0
    assert [line.split()[0] for line in answer.out.splitlines()] == ["r0", "r1"]
    assert "2 runs deleted" in answer.err
    assert runs(cli) == ["r3", "r2"]
    assert cli("prune", "--older-than", "30d", "--yes").err == "nothing to delete\n"


def test_what_is_still_to_go_on_stays_unless_it_is_named(cli: CommandLine) -> None:
    cli.write("asks.yaml", "steps:\n  - {id: a, approve: 'ok?'}\n")
    assert cli("run", "asks.yaml", "--run-id", "waits").code == 3
    assert cli("prune", "--keep", "0", "--yes").err == "nothing to delete\n"
    assert cli("prune", "--status", "waiting", "--yes").code == 0
    assert runs(cli) == []


def test_where_there_is_no_store_there_is_nothing_to_prune(cli: CommandLine) -> None:
    answer = cli("prune", "--keep", "0", "--yes")
    assert (answer.code, answer.err) == (0, "there is no store yet\n")
    assert not cli.store.exists()


def test_the_oldest_go_until_the_store_is_small_enough(cli: CommandLine) -> None:
    cli.write("long.yaml", "steps:\n  - {id: a, shell: seq 30000}\n")
    for number in range(3):
        assert cli("run", "long.yaml", "--run-id", f"r{number}").code == 0
    whole = cli("prune", "--max-size", "0", "--dry-run", "--json").json["bytes"]
    answer = cli("prune", "--max-size", str(whole * 2 // 3), "--yes", "--json")
    gone = [found["run_id"] for found in answer.json["runs"]]
    assert gone in (["r0"], ["r0", "r1"])
    assert runs(cli)[0] == "r2"


@pytest.mark.parametrize("words", [("--older-than", "-30d"), ("--max-size", "-5")])
def test_nothing_goes_for_a_number_below_nothing(cli: CommandLine, words: tuple[str, str]) -> None:
    run(cli, "r1")
    assert cli("prune", *words, "--yes").code == 2
    assert runs(cli) == ["r1"]


def test_a_pipe_is_not_waited_for(cli: CommandLine) -> None:
    os.mkfifo(cli.folder / "pipe")
    answer = cli("import", "pipe")
    assert answer.code == 2
    assert "no file" in answer.err


def test_a_file_name_that_is_too_long_is_told_in_one_line(cli: CommandLine) -> None:
    run(cli, "r1")
    answer = cli("export", "r1", "x" * 300)
    assert (answer.code, "Traceback" in answer.err, "cannot be written" in answer.err) == (2, False, True)
