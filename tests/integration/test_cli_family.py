"""`fork`, `why`, `diff`, `runs --tree`, and runs whose events are damaged."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stepchain_tui.store import SQLiteStore
from stepchain_tui.store.migrations import SHIFT
from tests.support.command_line import PATIENCE, CommandLine

PLAN = """
goal: Family
steps:
  - {id: a, shell: "echo x >> a.txt; echo a"}
  - {id: b, shell: "echo x >> b.txt; test -e ok", dependencies: [a]}
  - {id: c, shell: "cat note", dependencies: [b]}
"""
NESTED = """
steps:
  - {id: one, plan: inner.yaml}
  - {id: many, plan: inner.yaml, for_each: [1, 2]}
"""


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("plan.yaml", PLAN)
    line.write("ok", "")
    line.write("note", "old\n")
    yield line
    line.end()


def _lines(cli: CommandLine, name: str) -> int:
    return len((cli.folder / name).read_text().splitlines())


def test_a_fork_takes_over_what_is_upstream_and_runs_the_rest(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")

    told = cli("fork", "r1", "b", "--run-id", "r2")

    assert told.code == 0
    assert told.out == ""
    assert "run r2 started, forked from r1 at b" in told.err
    assert "reuse 1 step, run 2" in told.err
    assert (_lines(cli, "a.txt"), _lines(cli, "b.txt")) == (1, 2)
    child = cli.show("r2")
    assert (child["parent_run_id"], child["parent_step_id"]) == ("r1", "b")
    assert [step["origin"] for step in child["steps"]] == ["r1/a", None, None]
    assert cli.show("r1")["children"] == ["r2"]
    assert "forks    r2 at b" in cli("show", "r1").out
    assert "fork of  r1 at b" in cli("show", "r2").out


def test_a_fork_has_an_id_of_its_own_and_tells_it(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")

    events = cli("fork", "r1", "c", "--json").events
    made = events[0]["run_id"]
    assert (events[0]["type"], events[-1]["type"]) == ("run.created", "run.finished")
    assert made != "r1"
    taken = cli("fork", "r1", "c", "--run-id", made, "--json")
    assert (taken.code, taken.error["kind"]) == (2, "refused")
    assert "did you mean" in cli("fork", "r1", "cc", "--json").error["hint"]
    assert len(cli("runs", "--json").json) == 2


def test_a_fork_may_go_on_by_itself(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")

    detached = cli("fork", "r1", "b", "--detach", "--run-id", "r2")

    assert detached.code == 0
    assert detached.out == "r2\n"
    deadline = time.monotonic() + PATIENCE
    while cli.show("r2")["status"] != "succeeded":
        assert time.monotonic() < deadline
    taken = cli("fork", "r1", "b", "--detach", "--run-id", "r2", "--json")
    assert taken.code == 2
    assert "already" in taken.error["error"]


def test_a_detached_run_that_waits_at_once_is_not_said_to_have_succeeded(cli: CommandLine) -> None:
    cli.write("asks.yaml", "steps:\n  - {id: ask, approve: ok?}\n")

    told = cli("run", "asks.yaml", "--detach", "--run-id", "r1")

    assert told.code == 0
    assert "succeeded" not in told.err


def test_the_family_stays_readable_when_the_parent_is_gone(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")
    cli("fork", "r1", "b", "--run-id", "r2")
    cli("fork", "r2", "c", "--run-id", "r3")
    tree = [line.partition("succeeded")[0].rstrip() for line in cli("runs", "--tree").out.splitlines()[1:]]
    assert tree == ["r1", "└─ r2 at b", "   └─ r3 at c"]
    (family,) = cli("runs", "--tree", "--json").json
    assert family["children"][0]["children"][0]["run_id"] == "r3"

    asyncio.run(_delete(cli.store, "r1"))

    assert "fork of  r1 (deleted) at b" in cli("show", "r2").out
    assert cli("runs", "--tree").out.splitlines()[1].startswith("r2 (of r1 at b)")
    assert cli("rerun", "r2", "c").code == 0
    assert _lines(cli, "a.txt") == 1


async def _delete(path: Path, run_id: str) -> None:
    store = SQLiteStore(path)
    await store.open()
    try:
        await store.delete_run(run_id)
    finally:
        await store.close()


def test_why_names_the_cause_of_a_step_and_of_a_run(cli: CommandLine) -> None:
    (cli.folder / "ok").unlink()
    cli("run", "plan.yaml", "--run-id", "r1")

    told = cli("why", "r1", "c")
    assert told.code == 0
    assert told.out.splitlines()[0].startswith("c cannot run because b failed")
    as_json = cli("why", "r1", "c", "--json").json
    assert (as_json["run_id"], as_json["step_id"], as_json["cause"]) == ("r1", "c", "b")
    assert as_json["details"]
    assert "b failed" in cli("why", "r1").out.splitlines()[0]
    assert cli("why", "r1", "--json").json["step_id"] == ""
    unknown = cli("why", "r1", "zzz").err
    assert "no step 'zzz'" in unknown
    assert "did you mean" not in unknown
    assert cli("why", "r1", "zzz", "--json").error["kind"] == "unknown_step"
    assert cli("why", "nope", "--json").error["kind"] == "unknown_run"


def test_why_of_a_run_whose_engine_was_killed_says_so(cli: CommandLine) -> None:
    cli.write("long.yaml", "steps:\n  - {id: long, shell: sleep 60}\n")
    process = cli.start("run", "long.yaml", "--run-id", "r1", "--json")
    cli.until(process, "step.spawned", "long")
    process.kill()
    process.wait(PATIENCE)

    assert f"(process {process.pid}) ended" in cli("why", "r1").out.splitlines()[0]
    assert "cut off" in cli("why", "r1", "long").out


def test_two_runs_are_compared_with_their_outputs(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")
    cli.write("note", "new\n")
    cli("fork", "r1", "c", "--run-id", "r2")

    told = cli("diff", "r1", "r2", "--outputs", "--text")

    assert told.code == 0
    assert "~ c: succeeded" in told.out
    assert "output of c:" in told.out
    assert '-  "stdout": "old\\n"' in told.out
    assert "the texts of the plans are the same" in told.out
    as_json = cli("diff", "r1", "r2", "--json", "--outputs").json
    assert [step["id"] for step in as_json["steps"] if step["differs"]] == ["c"]
    assert list(as_json["outputs"]) == ["c"]
    assert cli("diff", "r1").code == 2


def test_parts_of_a_plan_in_a_plan_stand_under_their_step(cli: CommandLine) -> None:
    cli.write("inner.yaml", "steps:\n  - {id: x, shell: 'true'}\n")
    cli.write("nested.yaml", NESTED)
    assert cli("run", "nested.yaml", "--run-id", "r1").code == 0

    rows = [line.split("  shell")[0].split("  plan")[0].rstrip() for line in cli("show", "r1").out.splitlines()[6:]]

    assert rows == ["✓ one", "  ✓ x", "✓ many", "  ✓ [0]/x", "  ✓ [1]/x"]
    assert [step["part_of"] for step in cli.show("r1")["steps"]] == [None, "one", None, "many", "many"]


@pytest.mark.breaks_its_store("an event is damaged on purpose")
def test_a_run_with_a_damaged_event_is_shown_and_not_carried_on(cli: CommandLine) -> None:
    (cli.folder / "ok").unlink()
    cli("run", "plan.yaml", "--run-id", "r1")
    cli("run", "plan.yaml", "--run-id", "r2")
    _damage(cli.store, "r1", 4)

    for words in (("show", "r1"), ("show", "r1", "--json"), ("why", "r1", "b"), ("diff", "r1", "r2")):
        told = cli(*words)
        assert told.code == 0, words
        assert "warning: event 4 of run r1 is damaged" in told.err, words
        assert told.out, words
    assert cli.statuses("r1")["b"] == "failed"
    assert cli("logs", "r1", "a").out == "a\n"
    assert len(cli("runs", "--json").json) == 2
    for words in (("resume", "r1"), ("rerun", "r1", "a"), ("fork", "r1", "a"), ("edit", "r1", "plan.yaml")):
        refused = cli(*words, "--json")
        assert (refused.code, refused.error["kind"]) == (2, "store"), words
        assert "event 4 of run 'r1'" in refused.error["error"], words
    assert cli("resume", "r2").code == 1


@pytest.mark.breaks_its_store("the first event is damaged on purpose")
def test_a_plan_whose_event_is_damaged_is_said_to_be_lost(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")
    _damage(cli.store, "r1", 1)

    assert cli.statuses("r1") == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}
    lost = cli("show", "r1", "--plan", "--json")
    assert lost.code == 2
    assert "is lost" in lost.error["error"]


def _damage(store: Path, run_id: str, seq: int) -> None:
    with closing(sqlite3.connect(store)) as connection, connection:
        (key,) = connection.execute("SELECT key FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        changed = connection.execute("UPDATE events SET data = ? WHERE id = ?", (b'{"type":"step.', key << SHIFT | seq))
        assert changed.rowcount == 1


def test_a_reader_of_json_finds_all_of_a_receipt_and_of_a_run(cli: CommandLine) -> None:
    cli("run", "plan.yaml", "--run-id", "r1")

    receipt = cli("fork", "r1", "b", "--dry-run", "--json")
    assert receipt.err == ""
    assert json.loads(receipt.out)["command"] == "fork"
    shown = cli.show("r1")
    assert [record["number"] for record in shown["revisions"]] == [1]
    assert shown["parent_run_id"] is None
