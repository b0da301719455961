"""Bad input through the command line: one clear message, one exit code, and nothing lost."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine

GOOD = "steps:\n  - {id: a, shell: echo hi}\n"


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("good.yaml", GOOD)
    yield line
    line.end()


def test_files_that_are_no_plan(cli: CommandLine) -> None:
    (cli.folder / "folder").mkdir()
    (cli.folder / "binary.yaml").write_bytes(b"\x00\x01\xff")
    (cli.folder / "latin.yaml").write_bytes("goal: é".encode("latin-1"))
    cli.write("text.yaml", "just words")
    cli.write("tabs.yaml", "steps:\n\t- id: a\n")
    cli.write("huge.yaml", "# " + "x" * (6 * 1024 * 1024))

    for name, words in {
        "missing.yaml": "no such file",
        "folder": "folder, not a plan",
        "binary.yaml": "binary",
        "latin.yaml": "UTF-8",
        "text.yaml": "text.yaml:1:1",
        "tabs.yaml": "tabs.yaml:2:1",
        "huge.yaml": "5 MB",
    }.items():
        for command in ("run", "validate", "graph"):
            answer = cli(command, name)
            assert answer.code == 2, name
            assert words in answer.out + answer.err
            assert "Traceback" not in answer.err
    assert not cli.store.exists() or cli("runs", "--json").json == []


def test_bad_usage(cli: CommandLine) -> None:
    cli.write("asks.yaml", "inputs:\n  number: {type: integer}\n" + GOOD)
    for words, said in {
        ("frobnicate",): "no command",
        ("rnus",): "did you mean 'runs'?",
        ("run",): "Missing argument",
        ("run", "good.yaml", "--input", "x"): "is not K=V",
        ("run", "good.yaml", "--input", "x=1"): "unknown input 'x'",
        ("run", "asks.yaml"): "missing input: number",
        ("run", "asks.yaml", "--input", "number=many"): "input 'number'",
        ("run", "asks.yaml", "--input", "nmber=1"): "did you mean 'number'?",
        ("run", "good.yaml", "--run-id", "a/b"): "cannot be a run id",
        ("run", "good.yaml", "--max-concurrent", "0"): "0",
        ("run", "good.yaml", "--nonsense"): "--nonsense",
    }.items():
        answer = cli(*words)
        assert answer.code == 2, words
        assert said in answer.err, words
        record = cli(*words, "--json").error
        assert record.keys() == {"error", "kind", "hint"}


@pytest.mark.breaks_its_store("the file is no database")
def test_a_store_that_is_no_store(cli: CommandLine) -> None:
    cli.store.write_text("not a database, but a long enough text")
    for words in (("run", "good.yaml"), ("runs",), ("show", "r1"), ("pause", "r1")):
        answer = cli(*words, "--json")
        assert answer.code == 2
        assert "is not a database" in answer.error["error"]
    assert cli.store.read_text() == "not a database, but a long enough text"
    assert cli("doctor").code == 2


def test_a_store_that_is_newer(cli: CommandLine) -> None:
    cli("run", "good.yaml", "--run-id", "r1")
    with closing(sqlite3.connect(cli.store)) as connection:
        connection.execute("PRAGMA user_version = 99")
    for words in (("run", "good.yaml"), ("runs",), ("show", "r1"), ("doctor",)):
        answer = cli(*words)
        assert answer.code == 2
        assert "newer" in answer.out + answer.err


def test_a_store_that_is_a_folder(cli: CommandLine) -> None:
    cli.store.mkdir()
    assert "is a directory" in cli("run", "good.yaml").err


def test_a_store_in_a_folder_that_is_missing_is_made_by_the_first_run_only(cli: CommandLine) -> None:
    cli.store = cli.folder / "not" / "there" / "runs.db"

    assert cli("runs", "--json").json == []
    assert "there is no store" in cli("runs").err
    assert cli("show", "r1").code == 2
    assert cli("cancel", "r1").code == 2
    assert not cli.store.parent.exists()
    assert cli("run", "good.yaml").code == 0
    assert len(cli("runs", "--json").json) == 1


def test_a_store_that_is_locked_by_another_program(cli: CommandLine) -> None:
    cli("run", "good.yaml", "--run-id", "r1")
    with closing(sqlite3.connect(cli.store, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        answer = cli("run", "good.yaml", "--run-id", "r2", "--json")
    assert answer.code == 2
    assert "locked" in answer.error["error"]
    assert [run["run_id"] for run in cli("runs", "--json").json] == ["r1"]


@pytest.mark.needs(*(["setpriv"] if os.geteuid() == 0 else []))
def test_a_store_that_may_only_be_read(cli: CommandLine) -> None:
    cli("run", "good.yaml", "--run-id", "r1")
    before = cli.store.read_bytes()
    with _read_only(cli):
        refused = cli("run", "good.yaml", "--run-id", "r2", "--json")
        assert refused.code == 2
        assert str(cli.store) in refused.error["error"]
        assert cli.show("r1")["status"] == "succeeded"
    assert cli.store.read_bytes() == before


@contextmanager
def _read_only(cli: CommandLine) -> Iterator[None]:
    """Take away the right to write the store and its folder; root gives up being above rights for it."""
    places = [cli.folder, *cli.folder.rglob("*")]
    modes = [path.stat().st_mode for path in places]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:
        cli.wrapper = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    try:
        yield
    finally:
        cli.wrapper = ()
        for path, mode in zip(places, modes, strict=True):
            path.chmod(mode)


@pytest.mark.needs("root", "mount")
def test_a_full_disk_is_told_and_what_was_reported_is_kept(cli: CommandLine) -> None:
    disk = cli.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        cli.store = disk / "runs.db"
        items = list(range(40))
        cli.write("wide.yaml", f"steps:\n  - id: fill\n    for_each: {items}\n    shell: seq 1 9000\n")
        answer = cli("run", "wide.yaml", "--run-id", "r1", "--json")
        assert answer.code == 2
        assert "disk is full" in answer.error["error"]
        events = answer.events
        done = {event["item"] for event in events if event["type"] == "item.succeeded"}
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        resumed = cli("resume", "r1", "--json")
        assert resumed.code == 0, resumed.err
        again = {event["item"] for event in resumed.events if event["type"] == "item.started"}
        assert not done & again
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_step_that_prints_100_mb_is_kept_whole_in_the_log_and_cut_in_the_output(cli: CommandLine) -> None:
    line = "y" * 999
    cli.write("loud.yaml", f"steps:\n  - id: loud\n    shell: yes {line} | head -c 100000000\n")

    answer = cli("run", "loud.yaml", "--run-id", "r1")

    assert answer.code == 0, answer.err
    output = cli("show", "r1", "--json", "--full").json["steps"][0]["output"]
    assert output["truncated"] is True
    assert len(output["stdout"]) <= 1_100_000
    process = cli.start("logs", "r1", "loud")
    assert process.stdout is not None
    assert sum(1 for _ in process.stdout) == 100_000


def test_binary_output_and_escape_codes_are_harmless(cli: CommandLine) -> None:
    cli.write(
        "binary.yaml",
        "steps:\n  - id: b\n    shell: |\n      head -c 5000 /dev/urandom; printf '\\033[2J\\033]0;x\\007\\200\\000'\n",
    )

    assert cli("run", "binary.yaml", "--run-id", "r1").code == 0
    for words in (("logs", "r1"), ("logs", "r1", "b"), ("show", "r1"), ("show", "r1", "--full")):
        out = cli(*words).out
        assert not {"\x1b", "\x07", "\x00", "\x9b"} & set(out)
    for record in cli("logs", "r1", "--json").out.rstrip("\n").split("\n"):
        json.loads(record)


def test_functions_that_cannot_be_sent_or_that_kill_their_process(cli: CommandLine) -> None:
    cli.write(
        "code.py",
        "import os, threading\n"
        "lock = threading.Lock()\n"
        "def make():\n    def inner(x):\n        with lock:\n            return x\n    return inner\n"
        "unsendable = make()\n"
        "def dies():\n    os._exit(9)\n"
        "def odd():\n    return {1, 2} and object()\n",
    )
    cli.write(
        "code.yaml",
        "steps:\n"
        "  - {id: unsendable, function: './code.py:unsendable', args: {x: 5}, mode: process}\n"
        "  - {id: dies, function: './code.py:dies', mode: process}\n"
        "  - {id: odd, function: './code.py:odd', mode: process}\n"
        "  - {id: missing, function: './code.py:odd', mode: thread, args: {y: 1}}\n",
    )

    answer = cli("run", "code.yaml", "--run-id", "r1")

    assert answer.code == 1
    steps = {step["id"]: step for step in cli.show("r1")["steps"]}
    assert steps["unsendable"]["output"] == 5
    assert steps["dies"]["status"] == "failed"
    assert steps["dies"]["error_type"] == "tool_error"
    assert steps["odd"]["output"]["type"] == "object"
    assert steps["missing"]["error_type"] == "user_error"


def test_a_settings_file_with_a_mistake_names_file_and_key(cli: CommandLine) -> None:
    settings = cli.write("settings.toml", 'durabilty = "power"\n')
    answer = cli("run", "good.yaml", env={"STEPCHAIN_SETTINGS": str(settings)})
    assert answer.code == 2
    assert "settings.toml" in answer.err
    assert "durabilty" in answer.err
