"""How each tool did over all runs: what every store counts, and what it does not."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import StoreError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import ErrorType
from stepchain_tui.store import AbstractStore, Batch, JSONLStore, MemoryStore, SQLiteStore, ToolRecord
from stepchain_tui.store.archive import export_run
from stepchain_tui.store.importing import import_run, trust_run
from stepchain_tui.store.migrations import MIGRATIONS
from stepchain_tui.store.tool_records import CUT_OFF

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_store(kind: str, folder: Path) -> AbstractStore:
    if kind == "memory":
        return MemoryStore()
    if kind == "jsonl":
        return JSONLStore(folder / "runs")
    return SQLiteStore(folder / "runs.db", threaded=kind == "threaded")


@pytest.fixture(params=["sqlite", "threaded", "jsonl", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AbstractStore]:
    one = make_store(request.param, tmp_path)
    await one.open()
    yield one
    await one.close()


class Calls:
    """A run of one step that calls tools.

    Args:
        store: Where it is kept.
        run_id: The run.
    """

    def __init__(self, store: AbstractStore, run_id: str = "run-1") -> None:
        self.store, self.state, self.made = store, RunState(), []
        self.add(e.RunCreated, run_id=run_id, goal="g", plan={}, steps=(e.StepOutline(id="s", kind="tool"),), at=BEGIN)
        self.add(e.RunStarted, owner=e.OwnerRecord(pid=1, process_started_at=1.0))
        self.add(e.StepStarted, step_id="s", attempt=1)

    def add(self, kind: type[Any], **fields: Any) -> Calls:
        number = self.state.last_seq + 1
        event = kind(seq=number, **{"run_id": self.state.run_id, "at": BEGIN + timedelta(seconds=number), **fields})
        self.state.apply(event)
        self.made.append(event)
        return self

    def call(self, tool: str, seconds: float = 1.0, error: str | None = None, **more: Any) -> Calls:
        call_id = f"c{self.state.last_seq}"
        failure = None if error is None else Failure(error_type=ErrorType.TOOL_ERROR, message=error)
        given = {"step_id": "s", "attempt": 1, "call_id": call_id, "tool_name": tool}
        self.add(e.ToolStarted, **given)
        return self.add(e.ToolFinished, **given, execution_time=seconds, error=failure, **more)

    def batch(self) -> Batch:
        run_id, made = self.state.run_id, self.made
        self.made = []
        return Batch(events=made, states={run_id: self.state}, touched={run_id: None})

    async def commit(self) -> Calls:
        self.store.commit(self.batch())
        await self.store.flush()
        return self


async def of(store: AbstractStore, name: str) -> ToolRecord:
    (found,) = [record for record in await store.read_tools() if record.name == name]
    return found


async def test_a_store_without_calls_has_no_records(store: AbstractStore) -> None:
    await Calls(store).commit()
    assert await store.read_tools() == []


async def test_calls_are_added_up_by_tool_over_batches_and_runs(store: AbstractStore) -> None:
    one, two = Calls(store, "run-1"), Calls(store, "run-2")
    await one.call("time.now", 1.0).call("files.read", 4.0).call("time.now", 2.0, "no such zone").commit()
    await two.call("time.now", 3.0).commit()
    await one.call("time.now", 6.0).commit()
    assert [record.name for record in await store.read_tools()] == ["files.read", "time.now"]
    found = await of(store, "time.now")
    assert (found.calls, found.succeeded, found.failed) == (4, 3, 1)
    assert (found.success_rate, found.mean_seconds) == (0.75, 3.0)
    assert found.last_error == "no such zone"
    assert found.last_called_at == one.state.last_at
    assert (await of(store, "files.read")).success_rate == 1.0


async def test_the_share_that_a_tool_computes_is_of_the_calls_where_it_is_known(store: AbstractStore) -> None:
    await Calls(store).call("hash", 2.0, cpu_time=1.5).call("hash", 50.0).call("hash", 2.0, cpu_time=0.5).commit()
    assert (await of(store, "hash")).cpu_share == 0.5
    await Calls(store, "run-2").call("ask", 9.0).call("spin", 1.0, cpu_time=4.0).commit()
    assert (await of(store, "ask")).cpu_share is None
    assert (await of(store, "spin")).cpu_share == 1.0, "several threads compute more than time goes by"


async def test_a_call_that_was_cut_off_says_nothing_of_the_tool(store: AbstractStore) -> None:
    await Calls(store).call("slow", 300.0, CUT_OFF).commit()
    found = await of(store, "slow")
    assert (found.calls, found.success_rate, found.mean_seconds, found.last_error) == (1, None, None, "")
    await Calls(store, "run-2").call("slow", 2.0).call("slow", 300.0, CUT_OFF).commit()
    found = await of(store, "slow")
    assert (found.calls, found.success_rate, found.mean_seconds) == (3, 1.0, 2.0)


async def test_the_last_error_stays_until_another_call_fails(store: AbstractStore) -> None:
    run = await Calls(store).call("t", error="first").call("t", error="second " + "x" * 9_000).call("t").commit()
    found = await of(store, "t")
    assert found.last_error.startswith("second xxx")
    assert len(found.last_error) == 500
    await run.call("t", error="").commit()
    assert (await of(store, "t")).last_error == "it failed and did not say why"


async def test_a_batch_that_is_refused_counts_nothing(store: AbstractStore) -> None:
    run = await Calls(store).commit()
    run.state.last_seq += 1  # as another engine that has written the run meanwhile
    store.commit(run.call("t").batch())
    with pytest.raises(StoreError):
        await store.flush()
    assert await store.read_tools() == []


async def test_records_stay_when_runs_are_deleted_and_over_openings(store: AbstractStore) -> None:
    await Calls(store).call("t", 2.0).commit()
    await store.delete_run("run-1")
    await store.close()
    await store.open()
    await Calls(store, "run-2").call("t", 4.0).commit()
    found = await of(store, "t")
    assert (found.calls, found.mean_seconds) == (2, 3.0)
    await store.clear_cache()
    assert (await of(store, "t")).calls == 2


async def test_what_was_called_elsewhere_does_not_count(store: AbstractStore, tmp_path: Path) -> None:
    await Calls(store).call("t", 2.0).commit()
    await export_run(store, "run-1", tmp_path / "a.run", program="1", now=BEGIN)
    await import_run(store, tmp_path / "a.run", now=BEGIN, run_id="copy")
    assert (await of(store, "t")).calls == 1
    await trust_run(store, "copy")
    copy = Calls(store, "copy")
    copy.state, copy.made = await store.load_state("copy"), []
    copy.add(e.RunStarted, owner=e.OwnerRecord(pid=1, process_started_at=1.0))
    copy.add(e.StepStarted, step_id="s", attempt=2)
    copy.add(
        e.ToolFinished, step_id="s", attempt=2, call_id="c", tool_name="t", execution_time=1.0, at=copy.state.last_at
    )
    await copy.commit()
    assert (await of(store, "t")).calls == 2, "it goes on here, and that counts"


async def test_no_secret_is_in_a_record(store: AbstractStore) -> None:
    secret = "hunter2hunter2"
    store.set_redactor("run-1", Redactor({"A_KEY": secret}))
    padding = "x" * (500 - 8)
    await Calls(store).call("t", error=f"{padding}{secret}").call("u", error=f"no {secret}").commit()
    assert (await of(store, "u")).last_error == "no [secret A_KEY]"
    assert (await of(store, "t")).last_error == padding + "[secret ", "it is cut after the secret was taken out"


async def test_names_and_errors_that_utf8_cannot_hold_are_counted_all_the_same(store: AbstractStore) -> None:
    await Calls(store).call("t\ud800", error="bad \udfff").commit()
    assert [(record.name, record.last_error) for record in await store.read_tools()] == [("t?", "bad ?")]


# --- files that other stores wrote


@pytest.mark.parametrize("kind", ["sqlite", "jsonl"])
async def test_two_stores_add_to_the_same_records(kind: str, tmp_path: Path) -> None:
    one, two = make_store(kind, tmp_path), make_store(kind, tmp_path)
    await one.open()
    await two.open()
    first, second = Calls(one, "a"), Calls(two, "b")
    for number in range(5):
        await first.call("t", float(number)).commit()
        await second.call("t", 10.0, "broken").commit()
    for store in (one, two):
        found = await of(store, "t")
        assert (found.calls, found.succeeded, found.failed, found.mean_seconds) == (10, 5, 5, 6.0)
        await store.close()


async def test_the_records_of_a_folder_survive_its_compaction(tmp_path: Path) -> None:
    store = JSONLStore(tmp_path / "runs")
    await store.open()
    run = Calls(store)
    for number in range(500):
        run.call(f"tool-{number % 7}", 1.0, "broken " * 20)
        await run.commit()
    before, size = await store.read_tools(), (tmp_path / "runs" / ".shared.jsonl").stat().st_size
    await store.close()
    await store.open()
    assert await store.read_tools() == before
    assert (tmp_path / "runs" / ".shared.jsonl").stat().st_size < size / 5
    await store.close()


def to_version_3(path: Path) -> None:
    """Make a store's file as it was before there were records of tools."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("DROP TABLE tools")
        database.execute("DROP TABLE spending")
        database.execute("PRAGMA user_version = 3")


async def test_an_older_file_gets_the_records_of_its_own_runs(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")
    await store.open()
    await Calls(store).call("t", 1.0).call("u", 2.0, cpu_time=1.0).call("t", 3.0, "broken").commit()
    await Calls(store, "run-2").call("t", 300.0, CUT_OFF).call("t", 5.0).commit()
    before = await store.read_tools()
    await export_run(store, "run-1", tmp_path / "a.run", program="1", now=BEGIN)
    await import_run(store, tmp_path / "a.run", now=BEGIN, run_id="copy")
    await Calls(store, "damaged").call("t").commit()
    await store.write(
        lambda db: db.execute("UPDATE events SET data = ? WHERE id >> 32 = 4 AND CAST(data AS TEXT) LIKE ?", _DAMAGE)
    )
    await store.close()
    to_version_3(store.path)
    content = store.path.read_bytes()
    await store.open(read_only=True)
    assert await store.read_tools() == []
    await store.close()
    assert store.path.read_bytes() == content
    await store.open()
    assert await store.read_tools() == before
    await Calls(store, "run-3").call("t", 3.0).commit()
    found = await of(store, "t")
    assert (found.calls, found.succeeded, found.failed, found.seconds) == (5, 3, 1, 12.0)
    await store.close()
    with closing(sqlite3.connect(store.path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


_DAMAGE = (b'{"type":"tool.finished","seq":', '%"tool.finished"%')
