"""What is held of every run of every test notices a store, or an engine, that says something else than the events."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stepchain_tui.run import RunState, StepStatus
from stepchain_tui.store import AbstractStore, MemoryStore, SQLiteStore
from tests.support.command_line import CommandLine
from tests.support.engines import Bench, plan_of, shell
from tests.support.stored_runs import Watch, check_store, watch
from tests.support.world import World

pytestmark = pytest.mark.breaks_its_store("that is what is tested")


@pytest.fixture
def watched() -> Iterator[Watch]:
    with pytest.MonkeyPatch.context() as patch, watch(patch) as kept:
        yield kept


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AbstractStore:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "runs.db")


async def test_an_honest_run_passes(watched: Watch, store: AbstractStore) -> None:
    world = World()
    world.will("a", RuntimeError("broke"), "ok")
    async with Bench(store) as bench:
        await bench.run(plan_of(world.step("a", retry={"max_attempts": 2}), world.step("b", "a")), "r")
        await bench.rerun("r", "b")
    async with Bench(store) as bench:
        await bench.resume("r")
    watched.check()
    assert not watched.journals, "the runs of closed engines were looked at"


def change_status(state: RunState) -> None:
    state.steps["a"].status = StepStatus.FAILED


def change_attempt(state: RunState) -> None:
    state.steps["a"].attempts[None, 1].reason = "something else"


def see_more(state: RunState) -> None:
    state.last_seq += 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (change_status, "a: status: .*failed"),
        (change_attempt, "something else"),
        (see_more, "saw events up to"),
    ],
)
async def test_an_engine_that_saw_something_else_is_found(
    watched: Watch, store: AbstractStore, change: Callable[[RunState], None], told: str
) -> None:
    async with Bench(store) as bench:
        run = await bench.run(plan_of(World().step("a")), "r")
        change(run.state)
    with pytest.raises(AssertionError, match=told):
        watched.check()


@pytest.fixture
def cli(tmp_path: Path, watched: Watch) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    line.write("plan.yaml", "steps:\n  - {id: a, shell: echo a}\n  - {id: b, shell: echo b}\n")
    assert line("run", "plan.yaml", "--run-id", "r1").code == 0
    yield line
    line.end()


def execute(cli: CommandLine, statement: str) -> None:
    with closing(sqlite3.connect(cli.store)) as connection:
        connection.execute(statement)
        connection.commit()


def test_the_runs_of_the_command_line_pass(cli: CommandLine, watched: Watch) -> None:
    watched.check()
    assert check_store(cli.store)["r1"].status == "succeeded"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE runs SET status = 'failed'", "status"),
        ("UPDATE runs SET steps_done = 1", "steps_done: 1, not 2"),
        ("UPDATE runs SET finished_at = finished_at + 1", "finished_at"),
        ("UPDATE runs SET last_seq = last_seq - 1", "its row is of event"),
        ("UPDATE steps SET attempts = 7 WHERE step_id = 'b'", "step b of run r1.*attempts: 7, not 1"),
        ("DELETE FROM steps WHERE step_id = 'b'", "other steps"),
        ("DELETE FROM events WHERE id = (SELECT max(id) FROM events)", "its row is of event"),
    ],
)
def test_a_row_that_differs_from_the_events_is_found(
    cli: CommandLine, watched: Watch, statement: str, told: str
) -> None:
    execute(cli, statement)
    with pytest.raises(AssertionError, match=told):
        watched.check()


async def test_rows_may_be_behind_only_while_somebody_owns_the_run(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    async with Bench(SQLiteStore(line.store), tmp_path) as bench:
        run = await bench.start(plan_of(shell("a", "touch ready; sleep 300")), "r")
        await run.until(lambda state: state.steps["a"].status is StepStatus.RUNNING)
        await bench.engine.core.recorder.settle()
        check_store(line.store)
        execute(line, "UPDATE runs SET last_seq = 1, status = 'pending', started_at = NULL")
        execute(line, "UPDATE steps SET status = 'pending', attempts = 0, started_at = NULL")
        assert check_store(line.store)["r"].last_seq > 1
        execute(line, "UPDATE steps SET status = 'failed'")
        with pytest.raises(AssertionError, match="status"):
            check_store(line.store)
