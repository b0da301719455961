"""What only the SQLite store owes: its files, its schema, its gate, its upkeep."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import StoreError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.core.values import encode_json
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import ErrorType, RunStatus
from stepchain_tui.run.values import Kept
from stepchain_tui.store import Batch, CacheEntry, LogLine, RunSummary, SQLiteStore
from stepchain_tui.store.migrations import APPLICATION_ID, MIGRATIONS, migrate
from stepchain_tui.store.search import index_some
from stepchain_tui.store.writer import ThreadWriter

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
OWNER = e.OwnerRecord(pid=1, process_started_at=1.0)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    one = SQLiteStore(tmp_path / "runs.db")
    await one.open()
    yield one
    await one.close()


def make_run(
    run_id: str = "run-1", steps: int = 2, output: Kept | None = None, **created: Any
) -> tuple[RunState, Batch]:
    """A run whose first step succeeded."""
    state = RunState()
    outlines = tuple(e.StepOutline(id=f"s{n}", kind="shell") for n in range(steps))
    created = {"goal": "g", "plan": {}, **created}
    events: list[e.Event] = [
        e.RunCreated(seq=1, run_id=run_id, at=BEGIN, steps=outlines, **created),
        e.RunStarted(seq=2, run_id=run_id, at=BEGIN, owner=OWNER),
        e.StepStarted(seq=3, run_id=run_id, at=BEGIN, step_id="s0", attempt=1),
        e.StepSucceeded(seq=4, run_id=run_id, at=BEGIN, step_id="s0", attempt=1, output=output or Kept({"ok": True})),
    ]
    for event in events:
        state.apply(event)
    return state, Batch(events=events, states={run_id: state}, touched={run_id: None})


def cached(key: str, output: Kept) -> CacheEntry:
    """An entry of the cache as the engine makes one."""
    made_by = {"run_id": "run-1", "step_id": "s0", "attempt": 1, "created_at": BEGIN}
    return CacheEntry(key=key, scope="s", action="a", input="i", code="c", output=output, **made_by)


def copy_to_version_1(path: Path, old: Path) -> None:
    """Write a file as the first release did: the first migration only, with the runs of the store at `path`."""
    with closing(sqlite3.connect(old, isolation_level=None)) as database:
        MIGRATIONS[0](database)
        database.execute("ATTACH ? AS new", (str(path),))
        for table in ("runs", "owners", "events", "steps", "log_steps", "log_sources", "logs", "commands", "blobs"):
            columns = ", ".join(row[1] for row in database.execute(f"PRAGMA main.table_info({table})"))
            database.execute(f"INSERT INTO main.{table} SELECT {columns} FROM new.{table}")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("UPDATE runs SET indexed_lines = 0, indexed_seq = 0")
        database.execute("PRAGMA user_version = 1")


def everything(path: Path) -> bytes:
    """All that is on the disk of a store."""
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    return b"\n".join(file.read_bytes() for file in files)


# --- files


async def test_files_are_for_the_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SQLiteStore(tmp_path / "a" / "b" / "runs.db")
        await store.open()
        _, batch = make_run(output=store.keep("x" * 70_000))
        store.acquire_run("run-1").release()
        store.commit(batch)
        await store.list_runs()
        for path in (tmp_path / "a").rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        names = {path.name for path in (tmp_path / "a" / "b").iterdir()}
        assert names >= {"runs.db", "runs.db-wal", "runs.db-shm", "runs.db.files", "runs.db.locks"}
        await store.close()
        assert not (tmp_path / "a" / "b" / "runs.db-wal").exists()
    finally:
        os.umask(before)


async def test_the_default_place_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPCHAIN_STORE", str(tmp_path / "mine.db"))
    store = SQLiteStore()
    assert store.path == tmp_path / "mine.db"
    assert store.location == str(tmp_path / "mine.db")
    assert store.folder == tmp_path / "mine.db.files"


async def test_the_write_ahead_log_stays_small(store: SQLiteStore) -> None:
    state, batch = make_run()
    store.commit(batch)
    for n in range(60):
        lines = [("run-1", LogLine(at=BEGIN, step_id="s0", text=f"{n} " + "x" * 200)) for _ in range(1_000)]
        store.commit(Batch(logs=lines))
    assert store.path.with_name("runs.db-wal").stat().st_size < 10_000_000
    assert state.last_seq == 4


def test_importing_the_store_does_not_import_its_reader() -> None:
    code = "import stepchain_tui.store, sys; print([name for name in ('aiosqlite', 'psutil') if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


# --- schema


async def test_a_fresh_store_equals_one_that_was_migrated_step_by_step(store: SQLiteStore, tmp_path: Path) -> None:
    stepwise = sqlite3.connect(tmp_path / "stepwise.db", isolation_level=None)
    for migration in MIGRATIONS:
        stepwise.execute("BEGIN")
        migration(stepwise)
        stepwise.execute("COMMIT")
    fresh = sqlite3.connect(store.path)
    schema = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    assert fresh.execute(schema).fetchall() == stepwise.execute(schema).fetchall()
    assert fresh.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert fresh.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    fresh.close()
    stepwise.close()


def test_a_migration_that_fails_leaves_nothing_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def the_broken_one(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (a)")
        connection.execute("CREATE TABLE half (a)")

    database = sqlite3.connect(":memory:", isolation_level=None)
    assert migrate(database, "x") == [migration.__name__ for migration in MIGRATIONS]
    monkeypatch.setattr("stepchain_tui.store.migrations.MIGRATIONS", [*MIGRATIONS, the_broken_one])
    with pytest.raises(sqlite3.OperationalError):
        migrate(database, "x")
    assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)
    database.close()


@pytest.fixture
async def version_1(tmp_path: Path) -> Path:
    """A file of the first release with a run, its fork and a large value."""
    store = SQLiteStore(tmp_path / "new.db")
    await store.open()
    (tmp_path / "new.db.files").mkdir()
    (tmp_path / "old.db.files").symlink_to(tmp_path / "new.db.files")
    state, batch = make_run(output=store.keep("large " * 20_000))
    batch.logs = [("run-1", LogLine(at=BEGIN, step_id="s0", text="a line"))]
    store.commit(batch)
    store.commit(make_run("fork", parent_run_id="run-1", parent_step_id="s0")[1])
    await store.write(lambda db: db.execute("UPDATE runs SET parent_step_id = NULL"))
    await store.close()
    copy_to_version_1(tmp_path / "new.db", tmp_path / "old.db")
    assert state.last_seq == 4
    return tmp_path / "old.db"


async def test_a_file_of_the_first_release_is_opened_with_all_its_runs(version_1: Path) -> None:
    store = SQLiteStore(version_1)
    await store.open()
    assert [run.run_id for run in await store.list_runs()] == ["fork", "run-1"]
    assert [(run.run_id, run.parent_step_id) for run in await store.children_of("run-1")] == [("fork", "s0")]
    output = (await store.load_state("run-1")).steps["s0"].output
    assert output is not None
    assert await store.load_value(output) == "large " * 20_000
    assert [line.text for line in await store.read_log("run-1")] == ["a line"]
    store.commit(Batch(cache=[cached("k", output)], breakers={"b": {"state": "open"}}))
    assert await store.find_cached("k") == cached("k", output)
    assert await store.integrity_check(full=True) == []
    await store.close()
    with closing(sqlite3.connect(version_1)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


async def test_a_file_of_the_first_release_can_be_read_without_being_changed(version_1: Path) -> None:
    before = version_1.read_bytes()
    store = SQLiteStore(version_1)
    await store.open(read_only=True)
    assert [(run.run_id, run.parent_run_id) for run in await store.list_runs()] == [("fork", "run-1"), ("run-1", None)]
    assert [run.run_id for run in await store.children_of("run-1")] == ["fork"]
    assert (await store.get_run("run")).run_id == "run-1"
    assert await store.find_cached("k") is None
    assert await store.last_cached("s") is None
    assert await store.read_breakers() == {}
    assert [hit["run_id"] for hit in await store.search("line")] == ["run-1"]
    assert await store.integrity_check(full=True) == []
    await store.close()
    assert version_1.read_bytes() == before


async def test_events_can_be_read_with_plain_sql(store: SQLiteStore) -> None:
    store.commit(make_run()[1])
    database = sqlite3.connect(store.path)
    rows = database.execute("SELECT run_id, seq, type, step_id FROM event_lines WHERE seq > 2").fetchall()
    assert rows == [("run-1", 3, "step.started", "s0"), ("run-1", 4, "step.succeeded", "s0")]
    database.close()


# --- events that cannot be read


async def test_an_event_that_cannot_be_read_is_named_and_hides_no_other(store: SQLiteStore) -> None:
    store.commit(make_run()[1])
    await store.write(lambda db: db.execute("UPDATE events SET data = ? WHERE id & 0xffff = 3", (b'{"type":"x',)))
    with pytest.raises(StoreError, match="event 3 of run 'run-1'"):
        await store.read_events("run-1")
    assert [(seq, kind) async for seq, kind, _, _ in store.read_raw_events("run-1")] == [
        (1, "run.created"),
        (2, "run.started"),
        (3, ""),
        (4, "step.succeeded"),
    ]
    assert len(await store.read_events("run-1", after=3)) == 1
    assert "event 3" in (await store.integrity_check(full=True))[0]


# --- large values


async def test_a_large_value_that_is_gone_or_damaged_says_so(store: SQLiteStore) -> None:
    kept = store.keep("z" * 70_000)
    assert kept.blob is not None
    assert store.folder is not None
    path = store.folder / kept.blob.sha256[:2] / kept.blob.sha256
    store.commit(make_run(output=kept)[1])
    assert await store.integrity_check(full=True) == []
    path.write_bytes(b"z" * 70_002)
    with pytest.raises(StoreError, match="damaged"):
        await store.load_value(kept)
    assert "damaged" in (await store.integrity_check(full=True))[0]
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        await store.load_value(kept)
    assert "missing" in (await store.integrity_check())[0]


async def test_values_are_shared_and_counted(store: SQLiteStore) -> None:
    one, two = store.keep("same " * 20_000), store.keep("same " * 20_000)
    assert one == two
    store.commit(make_run("a", output=one)[1])
    store.commit(make_run("b", output=two)[1])
    assert await store._reading().fetch("SELECT uses FROM blobs") == [(2,)]
    await store.delete_run("a")
    assert await store.load_value(two) == "same " * 20_000
    await store.delete_run("b")
    assert await store._reading().fetch("SELECT uses FROM blobs") == []
    with pytest.raises(StoreError):
        await store.load_value(two)


async def test_cached_values_are_counted_as_those_of_runs_are(store: SQLiteStore) -> None:
    one, two = store.keep("one " * 20_000), store.keep("two " * 20_000)
    assert one.blob is not None
    assert two.blob is not None
    _, batch = make_run(output=one)
    batch.cache = [cached("k", one), cached("l", one)]
    store.commit(batch)

    async def uses() -> dict[str, int]:
        assert await store.integrity_check(full=True) == []
        return dict(await store._reading().fetch("SELECT sha256, uses FROM blobs"))

    assert await uses() == {one.blob.sha256: 3}
    store.commit(Batch(cache=[cached("k", one)]))
    assert await uses() == {one.blob.sha256: 3}
    store.commit(Batch(cache=[cached("k", two), cached("l", Kept("small")), cached("l", two)]))
    assert await uses() == {one.blob.sha256: 1, two.blob.sha256: 2}
    await store.delete_run("run-1")
    assert await uses() == {two.blob.sha256: 2}
    assert await store.load_value(two) == "two " * 20_000
    await store.clear_cache()
    assert await uses() == {}


async def test_the_files_of_cached_values_that_were_replaced_go_when_the_store_is_closed(store: SQLiteStore) -> None:
    old, fresh = store.keep("old " * 20_000), store.keep("fresh " * 20_000)
    store.commit(Batch(cache=[cached("k", old), cached("l", fresh)]))
    assert store.folder is not None
    assert old.blob is not None
    path = store.folder / old.blob.sha256[:2] / old.blob.sha256
    os.utime(path, (1, 1))
    store.commit(Batch(cache=[cached("k", Kept(1)), cached("l", Kept(1))]))
    assert path.exists()
    await store.close()
    assert not path.exists()
    await store.open()
    assert await store.load_value(fresh) == "fresh " * 20_000


async def test_a_cached_value_that_is_looked_at_is_not_swept_just_then(store: SQLiteStore) -> None:
    """Between finding an entry and committing the event that refers to its value somebody may clear the cache."""
    kept = store.keep("large " * 20_000)
    store.commit(Batch(cache=[cached("k", kept)]))
    assert store.folder is not None
    for file in store.folder.rglob("*"):
        os.utime(file, (1, 1))
    assert await store.find_cached("k") is not None
    await store.clear_cache()
    store.commit(make_run(output=kept)[1])
    assert await store.load_value(kept) == "large " * 20_000


async def test_a_cached_value_whose_file_is_gone_is_no_hit(store: SQLiteStore) -> None:
    kept = store.keep("large " * 20_000)
    store.commit(Batch(cache=[cached("k", kept)]))
    assert store.folder is not None
    assert kept.blob is not None
    (store.folder / kept.blob.sha256[:2] / kept.blob.sha256).unlink()
    assert await store.find_cached("k") is None
    assert await store.last_cached("s") == cached("k", kept)
    assert "missing" in (await store.integrity_check())[0]


async def test_values_that_are_counted_wrongly_are_told(store: SQLiteStore) -> None:
    kept = store.keep("large " * 20_000)
    _, batch = make_run(output=kept)
    batch.cache = [cached("k", kept)]
    store.commit(batch)
    assert await store.integrity_check(full=True) == []
    for wrong in (1, 3):
        await store.write(lambda db, wrong=wrong: db.execute("UPDATE blobs SET uses = ?", (wrong,)))
        (problem,) = await store.integrity_check(full=True)
        assert problem.endswith(f"... is referred to 2 times, but {wrong} are counted")
    await store.write(lambda db: db.execute("UPDATE events SET data = 'x' WHERE id & 0xffff = 4"))
    problems = await store.integrity_check(full=True)
    assert len(problems) == 1
    assert "event 4" in problems[0]


async def test_what_runs_share_is_there_after_opening_again(store: SQLiteStore) -> None:
    store.commit(Batch(cache=[cached("k", Kept([1]))], breakers={"b": {"failures": 2}}))
    await store.close()
    await store.open()
    assert await store.find_cached("k") == cached("k", Kept([1]))
    assert await store.read_breakers() == {"b": {"failures": 2}}


async def test_values_that_nothing_refers_to_are_swept_after_a_while(store: SQLiteStore) -> None:
    used, orphan = store.keep("used " * 20_000), store.keep("orphan " * 20_000)
    store.commit(make_run(output=used)[1])
    assert await store.sweep_files() == 0
    assert orphan.blob is not None
    assert store.folder is not None
    path = store.folder / orphan.blob.sha256[:2] / orphan.blob.sha256
    for file in store.folder.rglob("*"):
        os.utime(file, (1, 1))
    assert await store.sweep_files() == 1
    assert not path.exists()
    assert await store.load_value(used) == "used " * 20_000


# --- the gate

SECRETS = {
    "QUOTED_KEY": 'say "open sesame" now',
    "BACKSLASH_KEY": "C:\\secret\\path\\of\\mine",
    "UNICODE_KEY": "пароль-ключ-☃-𝄞",
    "LINES_KEY": "-----first line of it\nsecond line of it\n",
    "CONTROL_KEY": "bell\x07tab\tdelete\x7f-end",
    "PLAIN_KEY": "hunter2hunter2",
}


@pytest.mark.parametrize("name", SECRETS)
async def test_a_secret_never_reaches_the_disk(tmp_path: Path, name: str) -> None:
    secret = SECRETS[name]
    store = SQLiteStore(tmp_path / "runs.db")
    await store.open()
    store.set_redactor("run-1", Redactor(SECRETS))
    text = f"before {secret} after"
    state, batch = make_run(output=store.keep({"big": text, "fill": "x" * 70_000}), goal=text, plan={"shell": text})
    events: list[e.Event] = [
        e.StepStarted(seq=5, run_id="run-1", at=BEGIN, step_id="s1", attempt=1, input=Kept({"a": [text]})),
        e.ToolFinished(
            seq=6,
            run_id="run-1",
            at=BEGIN,
            step_id="s1",
            attempt=1,
            call_id="c",
            tool_name="t",
            execution_time=1.0,
            arguments={"nested": encode_json({"deep": text}).decode()},
            result=Kept(text),
        ),
        e.StepFailed(
            seq=7,
            run_id="run-1",
            at=BEGIN,
            step_id="s1",
            attempt=1,
            error=Failure(error_type=ErrorType.UNKNOWN, message=text, traceback=text, details={"d": text}),
        ),
        e.RunPaused(seq=8, run_id="run-1", at=BEGIN, reason=text),
    ]
    for event in events:
        state.apply(event)
    batch.events += events
    batch.logs = [("run-1", LogLine(at=BEGIN, step_id="s0", text=line)) for line in text.splitlines()]
    batch.answers = {"none": {"message": text}}
    store.commit(batch)
    await store.flush()
    while await store.write(index_some):
        pass
    read = await store.load_state("run-1")
    assert read.goal == f"before [secret {name}] after"
    assert read.plan == {"shell": f"before [secret {name}] after"}
    assert read.reason == f"before [secret {name}] after"
    await store.close()
    stored = everything(tmp_path / "runs.db")
    once = encode_json(secret)[1:-1]
    for form in (secret.encode(), once, encode_json(once.decode())[1:-1], *secret.encode().splitlines()):
        assert form not in stored


async def test_names_that_hold_a_run_together_are_left_alone(store: SQLiteStore) -> None:
    store.set_redactor(
        "postgres", Redactor({"DB_PASSWORD": "postgres", "ODD_KEY": "succeeded", "S_KEY": "step.started"})
    )
    state = RunState()
    steps = (
        e.StepOutline(id="postgres_load", kind="shell"),
        e.StepOutline(id="b", kind="db", parents=("postgres_load",)),
    )
    plan = {"goal": "ask postgres", "steps": [{"id": "postgres_load", "shell": "psql postgres"}]}
    made: list[e.Event] = [
        e.RunCreated(
            seq=1, run_id="postgres", at=BEGIN, goal="load postgres", plan=plan, steps=steps, plan_path="/postgres"
        ),
        e.StepStarted(seq=2, run_id="postgres", at=BEGIN, step_id="postgres_load", attempt=1),
        e.StepSucceeded(
            seq=3, run_id="postgres", at=BEGIN, step_id="postgres_load", attempt=1, output=Kept("postgres")
        ),
        e.StepBlocked(seq=4, run_id="postgres", at=BEGIN, step_id="b", cause="postgres_load", reason="postgres"),
    ]
    for event in made:
        state.apply(event)
    store.commit(Batch(events=made, states={"postgres": state}, touched={"postgres": None}))
    read = await store.load_state("postgres")
    assert list(read.steps) == ["postgres_load", "b"]
    assert read.steps["b"].outline.parents == ("postgres_load",)
    assert read.steps["b"].cause == "postgres_load"
    assert read.steps["b"].reason == "[secret DB_PASSWORD]"
    assert read.plan["steps"] == [{"id": "postgres_load", "shell": "psql [secret DB_PASSWORD]"}]
    assert read.plan_path == "/postgres"


async def test_values_kept_without_a_redactor_pass_the_gates_of_all_runs(store: SQLiteStore) -> None:
    store.set_redactor("a", Redactor({"A_KEY": "aaaa-aaaa"}))
    store.set_redactor("b", Redactor({"B_KEY": "bbbb-bbbb"}))
    assert store.keep(["aaaa-aaaa", "bbbb-bbbb"]).value == ["[secret A_KEY]", "[secret B_KEY]"]
    assert store.keep("aaaa-aaaa bbbb-bbbb", Redactor({"B_KEY": "bbbb-bbbb"})).value == "aaaa-aaaa [secret B_KEY]"


# --- upkeep


async def test_summaries_can_be_made_anew_from_the_events(store: SQLiteStore) -> None:
    store.commit(make_run(steps=3)[1])
    assert await store.rebuild_summaries("run-1") == []
    before = await store.get_run("run-1"), await store.list_steps("run-1")
    await store.write(lambda db: db.execute("UPDATE runs SET steps_done = 77, status = 'failed'"))
    await store.write(lambda db: db.execute("DELETE FROM steps WHERE step_id = 's1'"))
    await store.write(lambda db: db.execute("UPDATE steps SET step_id = 'odd' WHERE step_id = 's2'"))
    different = await store.rebuild_summaries("run-1")
    assert "steps_done: 77 is 1" in different
    assert {"step 's1'", "step 's2'", "step 'odd' is not of this run"} <= set(different)
    assert (await store.get_run("run-1"), await store.list_steps("run-1")) == before


async def test_idle_time_indexes_what_was_logged(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepchain_tui.store.upkeep._QUIET_SECONDS", 0.0)
    monkeypatch.setattr("stepchain_tui.store.upkeep._PAUSE_SECONDS", 0.0)
    _, batch = make_run()
    batch.logs = [("run-1", LogLine(at=BEGIN, step_id="s0", text=f"line {n}")) for n in range(2_000)]
    store.commit(batch)
    behind = "SELECT 1 FROM runs WHERE indexed_lines < log_lines OR indexed_seq < last_seq"
    async with asyncio.timeout(20):
        while await store._reading().fetch(behind):
            await asyncio.sleep(0)
    assert [hit["n"] for hit in await store.search("line 1999")] == [2_000]


async def test_a_search_finds_the_newest_lines_however_common_the_word(store: SQLiteStore) -> None:
    _, batch = make_run()
    texts = [f"item {n} of many, wholly" if n % 2 else f"the subitem {n} holy" for n in range(3_000)]
    batch.logs = [("run-1", LogLine(at=BEGIN, step_id="s0", text=text)) for text in texts]
    store.commit(batch)
    for _ in range(2):
        for query, expected in (
            ("item", [3000, 2998, 2996]),
            ("item 1", [2000, 1998, 1996]),
            ("1", [2000, 1999, 1998]),
            ("ITEM 77 ", [78]),
            ("hol", [2999, 2997, 2995]),
            (", who", [3000, 2998, 2996]),
            ("many item 2999", [3000]),
        ):
            assert [hit["n"] for hit in await store.search(query, limit=3)] == expected, query
        assert [hit["n"] for hit in await store.search(",", limit=2)] == [3000, 2998]
        while await store.write(index_some):
            pass


async def test_a_million_positions_are_found_without_walking(store: SQLiteStore) -> None:
    """The query for a page touches as many rows as it returns, wherever the page is."""
    _, batch = make_run()
    batch.logs = [("run-1", LogLine(at=BEGIN, step_id=f"s{n % 2}", text=f"{n}")) for n in range(20_000)]
    store.commit(batch)
    page = await store.read_log_page("run-1", step_id="s1", offset=9_990, limit=200)
    assert [line.text for line in page] == [f"{n}" for n in range(19_981, 20_000, 2)]
    rows = await store._reading().fetch("EXPLAIN QUERY PLAN SELECT * FROM logs WHERE place >= 1 AND place < 2")
    assert "logs_by_place" in rows[0][3]


async def test_deleting_a_long_log_leaves_room_for_other_writers(store: SQLiteStore) -> None:
    _, batch = make_run()
    batch.logs = [("run-1", LogLine(at=BEGIN, step_id="s0", text=f"line {n}")) for n in range(11_000)]
    store.commit(batch)
    store.commit(make_run("other")[1])
    for _ in range(14):
        await store.write(index_some)
    await store.delete_run("run-1")
    for table in ("logs", "log_steps", "log_sources"):
        assert await store._reading().fetch(f"SELECT count(*) FROM {table}") == [(0,)]
    assert await store._reading().fetch("SELECT count(*) FROM log_terms") == [(0,)]
    assert await store.integrity_check(full=True) == []
    assert [run.run_id for run in await store.list_runs()] == ["other"]


async def test_batches_that_queue_up_share_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SQLiteStore(tmp_path / "runs.db", durability="power")
    await store.open()
    sizes: list[int] = []
    transact = ThreadWriter._transact
    monkeypatch.setattr(
        ThreadWriter, "_transact", lambda self, group: (sizes.append(len(group)), transact(self, group))
    )
    go_on = threading.Event()
    held = asyncio.ensure_future(store.write(lambda _: go_on.wait(30)))
    await asyncio.wait({held}, timeout=0)
    for n in range(10):
        store.commit(make_run(f"run-{n}")[1])
    go_on.set()
    await store.flush()
    assert await held
    assert sizes == [10]
    assert len(await store.list_runs()) == 10
    await store.close()


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_bug_in_who_is_told_keeps_no_other_from_being_told(tmp_path: Path, threaded: bool) -> None:
    store = SQLiteStore(tmp_path / "runs.db", threaded=threaded)
    await store.open()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))
    told: list[str] = []

    def broken(error: BaseException | None) -> None:
        raise AssertionError("a bug")

    for n, done in enumerate([broken, lambda _: told.append("good")]):
        try:
            store.commit(make_run(f"run-{n}")[1], done)
        except AssertionError as error:
            told.append(str(error))
    await store.flush()
    assert sorted(told) == ["a bug", "good"]
    await store.close()


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_bug_in_a_job_reaches_its_caller_and_the_writer_goes_on(tmp_path: Path, threaded: bool) -> None:
    store = SQLiteStore(tmp_path / "runs.db", threaded=threaded)
    await store.open()

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (a)")
        raise AssertionError("a bug")

    with pytest.raises(AssertionError, match="a bug"):
        await store.write(broken)
    store.commit(make_run()[1])
    await store.flush()
    assert await store._reading().fetch("SELECT count(*) FROM sqlite_master WHERE name = 'half'") == [(0,)]
    await store.close()


async def test_many_runs_share_one_batch(store: SQLiteStore) -> None:
    batch = Batch()
    for n in range(20):
        state, one = make_run(f"run-{n:02}")
        batch.events += one.events
        batch.states[state.run_id], batch.touched[state.run_id] = state, None
    store.commit(batch)
    assert len(await store.list_runs()) == 20
    assert [len(await store.list_steps(f"run-{n:02}")) for n in range(20)] == [2] * 20


# --- large values that somebody is about to use


async def test_a_deletion_leaves_a_value_that_a_run_beside_it_has_just_found(tmp_path: Path) -> None:
    owner, other = SQLiteStore(tmp_path / "runs.db"), SQLiteStore(tmp_path / "runs.db")
    await owner.open()
    await other.open()
    value = "large " * 20_000
    owner.commit(make_run("old", output=owner.keep(value))[1])
    lock = owner.acquire_run("new")
    found = owner.keep(value)
    await other.delete_run("old")
    owner.commit(make_run("new", output=found)[1])
    assert await owner.load_value(found) == value
    assert await owner.integrity_check(full=True) == []
    lock.release()
    await other.close()
    await owner.delete_run("new")
    assert not [path for path in owner._blobs.folder.rglob("*") if path.is_file()]
    await owner.close()


async def test_a_value_that_is_found_while_it_is_removed_stays(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store.keep("large " * 20_000)
    assert kept.blob is not None
    path = store._blobs.path(kept.blob.sha256)
    os.utime(path, (0, 0))
    rename = Path.rename

    def found_just_then(source: Path, target: Path) -> Path:
        store.keep("large " * 20_000)
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", found_just_then)
    assert store._blobs.remove([kept.blob.sha256]) == 0
    assert await store.load_value(kept) == "large " * 20_000
    monkeypatch.undo()
    os.utime(path, (0, 0))
    assert store._blobs.remove([kept.blob.sha256]) == 1


@pytest.mark.parametrize(
    ("turns", "unpriced", "tokens", "known"),
    [(0, 0, 0, True), (0, 0, 9, False), (2, 0, 9, True), (2, 1, 9, True), (2, 2, 9, False)],
)
def test_what_a_run_has_cost_is_known_or_not(turns: int, unpriced: int, tokens: int, known: bool) -> None:
    row = RunSummary(
        run_id="r",
        goal="",
        status=RunStatus.SUCCEEDED,
        plan_path="",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        input_tokens=tokens,
        turns=turns,
        unpriced_turns=unpriced,
    )
    assert row.cost_is_known is known
