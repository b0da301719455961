"""SQLite through `db:` steps: real files, real locks, statements that are really stopped."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tools_calls import LoopWatch, until

from stepchain_tui.executors.base import CallTimeoutError
from stepchain_tui.executors.db import DbExecutorFactory, DbSteps, ToolSpec
from stepchain_tui.executors.db import sqlite as sqlite_database
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from tests.support.databases import db_call

Ask = Callable[..., Awaitable[dict[str, Any]]]
URL = "sqlite:///data.db"
ENDLESS = "with recursive r(n) as (select 1 union all select n + 1 from r) select max(n) from r"


@pytest.fixture
async def steps() -> AsyncIterator[DbSteps]:
    made = DbSteps()
    yield made
    await made.close()


@pytest.fixture
def ask(steps: DbSteps, tmp_path: Path) -> Ask:
    async def asked(sql: Any, params: Any = None, url: str = URL, run_id: str = "r", **keys: Any) -> dict[str, Any]:
        request = {"url": url, "sql": sql, **({} if params is None else {"params": params}), **keys}
        output: dict[str, Any] = (await steps.execute(db_call(request, tmp_path, run_id=run_id))).output
        return output

    return asked


@pytest.fixture
async def table(ask: Ask) -> None:
    await ask("create table t (id integer primary key, name text not null)")
    await ask("insert into t values (:id, :name)", [{"id": n, "name": f"n{n}"} for n in range(1, 6)])


@pytest.mark.usefixtures("table")
async def test_rows_come_as_mappings_with_their_columns(ask: Ask, tmp_path: Path) -> None:
    assert await ask("select id, name from t where id > :least order by id", {"least": 3}) == {
        "rows": [{"id": 4, "name": "n4"}, {"id": 5, "name": "n5"}],
        "rowcount": 2,
        "columns": ["id", "name"],
    }
    assert (await ask("select * from t where false"))["columns"] == ["id", "name"]
    assert (tmp_path / "data.db").exists()


@pytest.mark.usefixtures("table")
async def test_what_changes_rows_says_how_many(ask: Ask) -> None:
    assert await ask("update t set name = :n where id < 3", {"n": "x"}) == {"rows": [], "rowcount": 2, "columns": []}
    assert (await ask("delete from t where id = 1 returning name"))["rows"] == [{"name": "x"}]
    assert (await ask("insert into t values (:id, :name)", []))["rowcount"] == 0


@pytest.mark.usefixtures("table")
async def test_what_changes_rows_says_how_many_whatever_it_begins_with(ask: Ask) -> None:
    three = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3)"
    assert (await ask(f"{three} insert into t select i + 100, 'x' from n"))["rowcount"] == 3
    assert (await ask(f"{three} update t set name = 'y' where id in (select i from n)"))["rowcount"] == 3
    assert (await ask(f"{three} delete from t where id > 1000"))["rowcount"] == 0
    assert (await ask("create table copy as select * from t"))["rowcount"] == 0
    assert (await ask(["update t set name = 'z'", f"{three} delete from t where id in (select i from n)"]))[
        "rowcounts"
    ] == [8, 3]


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.usefixtures("table")
async def test_many_values_say_how_many_rows_whatever_the_statement_is(ask: Ask, autocommit: bool) -> None:
    many = [{"id": n, "name": "x"} for n in (11, 12, 13)]
    for sql in (
        "insert into t values (:id, :name)",
        "insert into t values (:id, :name) returning id",
        "with v(i, n) as (select :id, :name) insert into t select i, n from v",
    ):
        output = await ask(sql, many, autocommit=autocommit)
        assert output == {"rows": [], "rowcount": 3, "columns": []}
        assert (await ask("delete from t where id > 10"))["rowcount"] == 3


async def test_values_that_were_written_before_a_lock_came_are_not_written_twice(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a transaction each stands for itself: after a wait it goes on with the value that was refused."""
    monkeypatch.setattr(sqlite_database, "_TURN_SECONDS", 0.0)
    await ask("create table t (id integer)")
    many = [{"id": n} for n in range(3_000)]
    task = asyncio.create_task(ask("insert into t values (:id)", many, url=f"{URL}?timeout=60", autocommit=True))
    other = sqlite3.connect(tmp_path / "data.db", isolation_level=None, timeout=0)
    await until(lambda: _count(other) > 0 and _does(other, "begin immediate"))
    assert 0 < _count(other) < 3_000
    await asyncio.wait({task}, timeout=0.05)
    await until(lambda: _does(other, "commit"))
    assert (await task)["rowcount"] == 3_000
    assert _count(other) == 3_000
    other.close()


async def test_columns_of_one_name_are_told_apart(ask: Ask) -> None:
    output = await ask("select 1 as a, 2 as a, 3 as a_2")
    assert output["rows"] == [{"a": 1, "a_2": 2, "a_2_2": 3}]


async def test_values_come_back_as_documented(ask: Ask) -> None:
    params = {"list": [1, {"a": None}], "flag": True, "none": None, "big": 2**63 - 1, "text": "§ 'x' :y"}
    output = await ask(
        "select :list list, :flag flag, :none none, :big big, :text text, x'00ff' blob, 9e999 inf,"
        " cast(x'ff41' as text) broken",
        params,
    )
    assert output["rows"] == [
        {
            "list": '[1,{"a":null}]',
            "flag": 1,
            "none": None,
            "big": 2**63 - 1,
            "text": "§ 'x' :y",
            "blob": "AP8=",
            "inf": "Infinity",
            "broken": "\ufffdA",
        }
    ]


HOSTILE = [
    "x'; drop table t; --",
    "' or 1=1 --",
    "\\'; delete from t; --",
    "%s :id ? $1",
    "/* */ ; --",
    "\u2019 or ''='",
]


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("value", HOSTILE)
async def test_a_hostile_value_stays_a_value(ask: Ask, value: str) -> None:
    assert (await ask("select * from t where name = :name", {"name": value}))["rows"] == []
    await ask("update t set name = :name where id = 1", {"name": value})
    assert (await ask("select name from t order by id"))["rows"] == [
        {"name": value}, *({"name": f"n{n}"} for n in range(2, 6))
    ]  # fmt: skip


@pytest.mark.usefixtures("table")
async def test_a_list_of_statements_is_one_transaction(ask: Ask) -> None:
    output = await ask(
        ["update t set name = :name", "select count(*) c from t where name = :name", "delete from t where id = :id"],
        {"name": "x", "id": 5},
    )
    assert output == {"rows": [{"c": 5}], "rowcount": 1, "columns": ["c"], "rowcounts": [5, 1, 1]}
    with pytest.raises(AttemptError, match="UNIQUE constraint failed") as caught:
        await ask(["delete from t where id = 1", "insert into t values (2, 'again')"])
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert (await ask("select count(*) c from t"))["rows"] == [{"c": 4}]


@pytest.mark.usefixtures("table")
async def test_many_values_go_in_as_one_transaction(ask: Ask) -> None:
    with pytest.raises(AttemptError, match="UNIQUE constraint"):
        await ask("insert into t values (:id, 'x')", [{"id": 10}, {"id": 11}, {"id": 1}])
    assert (await ask("select count(*) c from t"))["rows"] == [{"c": 5}]


async def test_a_trigger_with_semicolons_is_one_statement(ask: Ask) -> None:
    await ask("create table t (id integer)")
    await ask("create trigger g after insert on t begin delete from t where id = 1; delete from t where id = 2; end")
    await ask("insert into t values (:id)", [{"id": n} for n in (1, 2, 3)])
    assert (await ask("select id from t"))["rows"] == [{"id": 3}]


@pytest.mark.parametrize(
    ("sql", "problem", "hint"),
    [
        ("selct 1", 'near "selct": syntax error', "Mend the statement"),
        ("select * from nowhere", "no such table: nowhere", "Mend the statement"),
        ("insert into t (id) values (1)", "NOT NULL constraint failed: t.name", "nothing was changed"),
        ("vacuum", "cannot VACUUM from within a transaction", "autocommit: true"),
        ("attach database '/nowhere/x.db' as other", "unable to open database", ""),
    ],
)
@pytest.mark.usefixtures("table")
async def test_what_sqlite_refuses_is_the_authors_to_mend(ask: Ask, sql: str, problem: str, hint: str) -> None:
    with pytest.raises(AttemptError, match=problem) as caught:
        await ask(sql)
    assert str(caught.value).startswith("ask: sqlite data.db: ")
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert hint in caught.value.hint


async def test_a_number_that_does_not_fit_names_its_parameter(ask: Ask) -> None:
    with pytest.raises(AttemptError, match=r"ask: `params\.n` is a whole number of more than 64 bits"):
        await ask("select :n", {"n": 2**63})


async def test_a_file_that_is_none_of_sqlite_says_so(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "data.db").write_text("no database at all, but long enough to be read as one" * 30)
    with pytest.raises(AttemptError, match="not a database") as caught:
        await ask("select * from t")
    assert "names a SQLite file" in caught.value.hint
    with pytest.raises(AttemptError, match="unable to open") as caught:
        await ask("select 1 from t", url="sqlite:///no/such/folder.db")
    assert "folder must be there" in caught.value.hint


@pytest.mark.usefixtures("table")
async def test_read_only_changes_nothing_and_makes_no_file(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(AttemptError, match="readonly database") as caught:
        await ask("delete from t", read_only=True)
    assert "read_only" in caught.value.hint
    assert (await ask("select count(*) c from t", read_only=True))["rows"] == [{"c": 5}]
    with pytest.raises(AttemptError, match="unable to open"):
        await ask("select 1", url="sqlite:///other.db", read_only=True)
    assert not (tmp_path / "other.db").exists()
    await ask("delete from t")


async def test_autocommit_makes_room_for_what_no_transaction_may_hold(ask: Ask) -> None:
    await ask("vacuum", autocommit=True)
    assert (await ask("pragma journal_mode = wal", autocommit=True))["rows"] == [{"journal_mode": "wal"}]


async def test_a_connections_settings_do_not_reach_the_next_step(ask: Ask) -> None:
    await ask("pragma case_sensitive_like = on", autocommit=True)
    await ask("create temp table mine (id)")
    assert (await ask("select 'A' like 'a' same"))["rows"] == [{"same": 1}]
    with pytest.raises(AttemptError, match="no such table: mine"):
        await ask("select * from mine")


async def test_a_database_in_memory_belongs_to_its_run(ask: Ask) -> None:
    await ask("create table t (id integer)", url="sqlite://")
    await ask("insert into t values (1)", url="sqlite://")
    assert (await ask("select * from t", url="sqlite://"))["rowcount"] == 1
    with pytest.raises(AttemptError, match="no such table"):
        await ask("select * from t", url="sqlite://", run_id="another")
    with pytest.raises(AttemptError, match="readonly"):
        await ask("delete from t", url="sqlite://", read_only=True)
    await ask("delete from t", url="sqlite://")


async def test_rows_over_the_limit_are_an_error_and_memory_stays_small(ask: Ask) -> None:
    rows = "with recursive r(n) as (select 1 union all select n + 1 from r where n < 1000000)"
    begin = time.monotonic()
    with pytest.raises(AttemptError, match=r"the result is over 10 MB after [\d,]+ rows") as caught:
        await ask(f"{rows} select n, 'some text that makes the row longer' from r")
    assert "LIMIT" in caught.value.hint
    assert time.monotonic() - begin < 30
    output = await ask(f"{rows} select n from r", max_rows=1000)
    assert (output["rowcount"], output["truncated"], output["rows"][-1]) == (1000, True, {"n": 1000})


async def test_a_large_result_does_not_hold_the_loop(ask: Ask) -> None:
    rows = "with recursive r(n) as (select 1 union all select n + 1 from r where n < 200000)"
    async with LoopWatch() as watch:
        assert (await ask(f"{rows} select n from r"))["rowcount"] == 200_000
    assert watch.longest < 0.3


# --- stopping


async def test_a_cancelled_statement_ends_in_sqlite(ask: Ask, steps: DbSteps) -> None:
    task = asyncio.create_task(ask(ENDLESS))
    await until(lambda: _is_running(steps))
    begin = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begin < 4
    assert (await ask("select 1 a"))["rows"] == [{"a": 1}]


@pytest.mark.usefixtures("table")
async def test_a_cancelled_transaction_is_rolled_back(ask: Ask, steps: DbSteps, tmp_path: Path) -> None:
    task = asyncio.create_task(ask(["delete from t", ENDLESS]))
    await until(lambda: _is_running(steps))
    await until(lambda: _is_locked(tmp_path / "data.db"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _is_locked(tmp_path / "data.db")
    assert (await ask("select count(*) c from t"))["rows"] == [{"c": 5}]


async def test_a_call_outside_of_plans_has_the_timeout_of_its_spec(tmp_path: Path) -> None:
    executor = DbExecutorFactory.get_executor(
        ToolSpec(tool_name="count", base_url=f"sqlite:///{tmp_path}/x.db", timeout=1.0)
    )
    with pytest.raises(CallTimeoutError, match=r"count ran longer than its timeout of 1 s"):
        await executor.execute({"sql": ENDLESS})
    assert (await executor.execute({"sql": "select :a a", "params": {"a": 1}}, None))["rows"] == [{"a": 1}]


async def test_a_lock_of_somebody_else_is_waited_for(ask: Ask, tmp_path: Path) -> None:
    await ask("create table t (id integer)")
    with sqlite3.connect(tmp_path / "data.db", isolation_level=None) as other:
        other.execute("begin immediate")
        other.execute("insert into t values (1)")
        task = asyncio.create_task(ask("insert into t values (2)"))
        done, _ = await asyncio.wait({task}, timeout=0.1)
        assert not done
        other.execute("commit")
        await task
    other.close()
    assert (await ask("select count(*) c from t"))["rows"] == [{"c": 2}]


async def test_a_lock_that_stays_is_a_server_error_and_can_be_cancelled(ask: Ask, tmp_path: Path) -> None:
    await ask("create table t (id integer)")
    other = sqlite3.connect(tmp_path / "data.db", isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(AttemptError, match="database is locked") as caught:
        await ask("insert into t values (2)", url=f"{URL}?timeout=0.1")
    assert caught.value.error_type is ErrorType.SERVER_ERROR
    task = asyncio.create_task(ask("insert into t values (2)", url=f"{URL}?timeout=60"))
    await asyncio.wait({task}, timeout=0.1)
    begin = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begin < 4
    other.close()


async def test_steps_at_once_write_to_one_file(ask: Ask) -> None:
    await ask("create table t (id integer primary key, n integer)")
    await ask("insert into t values (1, 0)")
    await asyncio.gather(*(ask("update t set n = n + 1 where id = 1") for _ in range(30)))
    assert (await ask("select n from t"))["rows"] == [{"n": 30}]


async def test_closing_lets_go_of_every_file(steps: DbSteps, ask: Ask, tmp_path: Path) -> None:
    await asyncio.gather(*(ask("select 1") for _ in range(5)))
    await steps.close()
    await steps.close()
    open_files = [Path(f"/proc/self/fd/{name}").resolve() for name in _descriptors()]
    assert tmp_path / "data.db" not in open_files


def _descriptors() -> list[str]:
    folder = Path("/proc/self/fd")
    return [entry.name for entry in folder.iterdir()] if folder.exists() else []


def _is_running(steps: DbSteps) -> bool:
    return any(executor.metrics.calls > executor.metrics.succeeded for executor in steps._made.values())  # type: ignore[attr-defined]


def _count(connection: sqlite3.Connection) -> int:
    try:
        return int(connection.execute("select count(*) from t").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def _does(connection: sqlite3.Connection, sql: str) -> bool:
    try:
        connection.execute(sql)
    except sqlite3.OperationalError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        other.execute("begin immediate")
    except sqlite3.OperationalError:
        return True
    else:
        return False
    finally:
        other.close()
