"""PostgreSQL through `db:` steps: a real server, real sessions, statements that are really stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tools_calls import LoopWatch, until

from stepchain_tui.executors.db import DbExecutorFactory, DbSteps, ToolSpec
from stepchain_tui.executors.db.postgresql import MOST_CONNECTIONS
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from tests.support.databases import (
    MAX_CONNECTIONS,
    PASSWORD,
    QUOTED,
    PostgresServer,
    db_call,
    free_port,
    postgres_server,
)

pytestmark = pytest.mark.needs("PostgreSQL")

Ask = Callable[..., Awaitable[dict[str, Any]]]
SLEEP = "select pg_sleep(60) -- sleeper"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as made:
        yield made


@pytest.fixture
async def steps() -> AsyncIterator[DbSteps]:
    made = DbSteps()
    yield made
    await made.close()


@pytest.fixture
def ask(steps: DbSteps, server: PostgresServer, tmp_path: Path) -> Ask:
    async def asked(sql: Any, params: Any = None, url: str = "", **keys: Any) -> dict[str, Any]:
        request = {"url": url or server.url(), "sql": sql, **({} if params is None else {"params": params}), **keys}
        output: dict[str, Any] = (await steps.execute(db_call(request, tmp_path))).output
        return output

    return asked


@pytest.fixture
def table(server: PostgresServer) -> None:
    server.ask("drop table if exists t")
    server.ask("create table t (id int primary key, name text not null)")
    server.ask("insert into t select n, 'n' || n from generate_series(1, 5) n")


@pytest.mark.usefixtures("table")
async def test_rows_come_as_mappings_with_their_columns(ask: Ask) -> None:
    assert await ask("select id, name from t where id > :least order by id", {"least": 3}) == {
        "rows": [{"id": 4, "name": "n4"}, {"id": 5, "name": "n5"}],
        "rowcount": 2,
        "columns": ["id", "name"],
    }
    assert (await ask("select * from t where false"))["columns"] == ["id", "name"]
    assert (await ask("select 1 as a, 2 as a"))["rows"] == [{"a": 1, "a_2": 2}]


@pytest.mark.usefixtures("table")
async def test_what_changes_rows_says_how_many(ask: Ask) -> None:
    assert await ask("update t set name = :n where id < 3", {"n": "x"}) == {"rows": [], "rowcount": 2, "columns": []}
    output = await ask("with gone as (delete from t where id = 1 returning *) select name from gone")
    assert output["rows"] == [{"name": "x"}]
    assert (await ask("insert into t values (:id, :name) returning id", {"id": 9, "name": "x"}))["rows"] == [{"id": 9}]
    assert (await ask("create table if not exists u (id int)"))["rowcount"] == 0
    assert (await ask("select id into u2 from t"))["rowcount"] == 5
    await ask(["drop table u", "drop table u2"])


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.usefixtures("table")
async def test_many_values_say_how_many_rows_whatever_the_statement_is(ask: Ask, autocommit: bool) -> None:
    many = [{"id": n, "name": "x"} for n in range(11, 200)]
    for sql in (
        "insert into t values (:id, :name)",
        "insert into t values (:id, :name) returning id",
        "with made as (insert into t values (:id, :name) returning id) select * from made",
    ):
        assert (await ask("select * from t"))["rowcount"] == 5
        output = await ask(sql, many, autocommit=autocommit)
        assert output == {"rows": [], "rowcount": 189, "columns": []}
        assert (await ask("delete from t where id > 10"))["rowcount"] == 189


@pytest.mark.parametrize(
    "value",
    [
        "(repeat('[', 900) || repeat(']', 900))::jsonb",
        "(repeat('[', 3000) || repeat(']', 3000))::json",
        "repeat('9', 5000)::json",
        "'\"\\ud83d\"'::json",
    ],
    ids=["deep", "deeper", "long", "half"],
)
async def test_json_that_no_value_holds_is_told_and_can_be_had_as_text(ask: Ask, value: str) -> None:
    with pytest.raises(AttemptError, match="a value in the rows cannot be read") as caught:
        await ask(f"select {value} as v")
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert "cast(column as text)" in caught.value.hint
    assert (await ask(f"select cast({value} as text) as v"))["rowcount"] == 1


@pytest.mark.parametrize("value", ["soon", "", "1.5", "-1", "99999999999999999999"])
async def test_a_connect_timeout_that_is_no_number_is_named(ask: Ask, server: PostgresServer, value: str) -> None:
    with pytest.raises(
        AttemptError, match=r"the `connect_timeout` in the `url`.* no whole number of seconds"
    ) as caught:
        await ask("select 1", url=f"{server.url()}?connect_timeout={value}")
    assert (caught.value.error_type, caught.value.hint) == (ErrorType.USER_ERROR, "Write ?connect_timeout=30.")
    assert PASSWORD not in str(caught.value)


async def test_a_host_that_can_have_no_name_is_the_authors_to_mend(ask: Ask) -> None:
    with pytest.raises(AttemptError, match="names no host that can be asked") as caught:
        await ask("select 1", url=f"postgresql://bob:{QUOTED}@{'a' * 64}.example/x")
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert PASSWORD not in str(caught.value)


async def test_values_come_back_as_documented(ask: Ask) -> None:
    output = await ask(
        "select 1.50::numeric n, 'NaN'::numeric nan, 'Infinity'::float8 inf, 9223372036854775807::int8 big,"
        " date '2026-01-31' d, date 'infinity' never, timestamptz '2026-01-31 12:00:00.5+00' at time zone 'utc' ts,"
        " timestamptz '2026-01-31 12:00+00' tz, interval '1 month 2 days 3 hours' i, '{1,2,null}'::int[] ints,"
        " array[1.5::numeric, 2] nums, '{\"a\": [1, null]}'::jsonb j, '\\x00ff'::bytea b, int4range(1, 5) r,"
        " 'b3b7b2a4-7a1c-4b1c-9c0c-0123456789ab'::uuid u, '10.0.0.1/8'::inet ip, true t, null nothing, row(1, 'a') rec,"
        " '4713-01-01 BC'::date bc, '{\"deep\": \"\\ud83d\\ude00\"}'::json emoji"
    )
    (row,) = output["rows"]
    assert row.pop("tz").startswith("2026-01-31 ")
    assert row == {
        "n": "1.50",
        "nan": "NaN",
        "inf": "Infinity",
        "big": 2**63 - 1,
        "d": "2026-01-31",
        "never": "infinity",
        "ts": "2026-01-31 12:00:00.5",
        "i": "P1M2DT3H",
        "ints": [1, 2, None],
        "nums": ["1.5", "2"],
        "j": {"a": [1, None]},
        "b": "AP8=",
        "r": "[1,5)",
        "u": "b3b7b2a4-7a1c-4b1c-9c0c-0123456789ab",
        "ip": "10.0.0.1/8",
        "t": True,
        "nothing": None,
        "rec": ["1", "a"],
        "bc": "4713-01-01 BC",
        "emoji": {"deep": "\U0001f600"},
    }


async def test_parameters_of_every_kind_are_bound(ask: Ask) -> None:
    params = {"ids": [1, 2], "doc": {"a": "x'"}, "docs": [{"b": 1}], "when": "2026-01-31", "none": None, "f": 0.1}
    output = await ask(
        "select 2 = any(:ids) hit, (:doc)::jsonb->>'a' a, (:docs)::jsonb->0->>'b' b, :when::date + 1 d,"
        " (:none)::text n, (:f)::float8 f, 7 % 4 rest, '100%' percent, '%s %(ids)s' odd",
        params,
    )
    assert output["rows"] == [
        {"hit": True, "a": "x'", "b": "1", "d": "2026-02-01", "n": None, "f": 0.1, "rest": 3, "percent": "100%"}
        | {"odd": "%s %(ids)s"}
    ]


HOSTILE = [
    "x'; drop table t; --",
    "' or 1=1 --",
    "\\'; delete from t; --",
    "%s %(name)s :id $1",
    "$$; drop table t; $$",
]


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("value", HOSTILE)
async def test_a_hostile_value_stays_a_value(ask: Ask, value: str) -> None:
    assert (await ask("select * from t where name = :name", {"name": value}))["rows"] == []
    await ask("insert into t values (:id, :name)", [{"id": 6, "name": value}, {"id": 7, "name": value}])
    assert (await ask("select name from t where id > 4 order by id"))["rows"] == [
        {"name": "n5"},
        {"name": value},
        {"name": value},
    ]


@pytest.mark.usefixtures("table")
async def test_a_list_of_statements_is_one_transaction(ask: Ask) -> None:
    output = await ask(
        ["update t set name = :name", "select count(*) c from t where name = :name", "delete from t where id = :id"],
        {"name": "x", "id": 5},
    )
    assert output == {"rows": [{"c": 5}], "rowcount": 1, "columns": ["c"], "rowcounts": [5, 1, 1]}
    with pytest.raises(AttemptError, match="duplicate key"):
        await ask(["delete from t where id = 1", "insert into t values (2, 'again')"])
    with pytest.raises(AttemptError, match="duplicate key"):
        await ask("insert into t values (:id, 'x')", [{"id": 10}, {"id": 1}])
    assert (await ask("select count(*) c from t"))["rows"] == [{"c": 4}]


@pytest.mark.parametrize(
    ("sql", "params", "state", "place", "problem", "hint"),
    [
        ("selct 1", None, "42601", (1, 1), "syntax error", ""),
        ("select :a::int,\n  nope from t", {"a": 1}, "42703", (2, 3), 'column "nope" does not exist', ""),
        ("select\n:longer_name::int, nope, :b::int", {"longer_name": 1, "b": 2}, "42703", (2, 20), "nope", ""),
        ("select * from nowhere", None, "42P01", (1, 15), 'relation "nowhere"', ""),
        ("insert into t (id) values (1)", None, "23502", None, "null value in column", "nothing was changed"),
        ("insert into t values (1, 'x')", None, "23505", None, r"Key \(id\)=\(1\) already exists", ""),
        ("select 1/:n", {"n": 0}, "22012", None, "division by zero", ""),
        ("select :d::date", {"d": "tomorrowish"}, "22007", None, "invalid input syntax for type date", ""),
        ("update t set id = :n", {"n": True}, "42804", None, "but expression is of type", "cast"),
        ("vacuum t", None, "25001", None, "cannot run inside a transaction", "autocommit: true"),
        ("create database other2", None, "25001", None, "cannot run inside a transaction", "autocommit: true"),
        ("do $$ begin raise exception 'no way'; end $$", None, "P0001", None, "no way", ""),
    ],
)
@pytest.mark.usefixtures("table")
async def test_what_the_server_refuses_is_told_with_its_code_and_place(
    ask: Ask, sql: str, params: Any, state: str, place: tuple[int, int] | None, problem: str, hint: str
) -> None:
    with pytest.raises(AttemptError, match=problem) as caught:
        await ask(sql, params)
    error = caught.value
    assert str(error).startswith("ask: postgresql 127.0.0.1:")
    assert (error.error_type, error.details["sqlstate"]) == (ErrorType.USER_ERROR, state)
    if place is not None:
        assert (error.details["line"], error.details["column"]) == place
    assert hint in error.hint
    assert error.hint
    assert (await ask("select count(*) c from t"))["rows"] == [{"c": 5}]


@pytest.mark.usefixtures("table")
async def test_read_only_isolation_and_autocommit_reach_the_server(ask: Ask) -> None:
    with pytest.raises(AttemptError, match="read-only transaction") as caught:
        await ask("delete from t", read_only=True)
    assert "read_only" in caught.value.hint
    asked = "select current_setting('transaction_isolation') level"
    assert (await ask(asked, isolation="serializable"))["rows"] == [{"level": "serializable"}]
    assert (await ask(asked))["rows"] == [{"level": "read committed"}]
    await ask("vacuum t", autocommit=True)


async def test_a_sessions_settings_do_not_reach_the_next_step(ask: Ask) -> None:
    await ask(["set search_path = pg_catalog", "create temp table mine (id int)", "select pg_advisory_lock(7)"])
    await ask("select set_config('datestyle', 'German', false)")
    output = await ask("select current_setting('search_path') path, to_regclass('mine') mine, date '2026-01-31' d")
    assert output["rows"] == [{"path": '"$user", public', "mine": None, "d": "2026-01-31"}]
    assert (await ask("select pg_try_advisory_lock(7) free"))["rows"] == [{"free": True}]


# --- limits


async def test_rows_over_the_limit_are_an_error_and_stop_the_server(ask: Ask, server: PostgresServer) -> None:
    with pytest.raises(AttemptError, match=r"the result is over 10 MB after [\d,]+ rows") as caught:
        await ask("select generate_series(1, 1000000000), repeat('x', 1000) -- flood")
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert "LIMIT" in caught.value.hint
    await until(lambda: not server.busy("flood"))


def test_a_million_rows_do_not_fill_the_memory(server: PostgresServer, tmp_path: Path) -> None:
    code = f"""
import asyncio, resource, sys
from stepchain_tui.executors.db import DbExecutorFactory, ToolSpec
async def main():
    executor = DbExecutorFactory.get_executor(ToolSpec(tool_name="big", base_url={server.url()!r}))
    await executor.execute({{"sql": "select 1"}})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        await executor.execute({{"sql": "select generate_series(1, 1000000), repeat('x', 2000) x"}})
    except Exception as error:
        print(error)
    await executor.close()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
asyncio.run(main())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    told, grown = run.stdout.splitlines()
    assert "over 10 MB" in told, run.stderr
    assert int(grown) < 100_000  # KiB; the whole would be two million


async def test_max_rows_leaves_the_rest_at_the_server(ask: Ask, server: PostgresServer) -> None:
    output = await ask("select generate_series(1, 1000000000) n -- plenty", max_rows=70)
    assert (output["rowcount"], output["truncated"], output["rows"][-1]) == (70, True, {"n": 70})
    assert server.busy("plenty") == []
    output = await ask("select n from generate_series(1, 70) n", max_rows=70)
    assert "truncated" not in output


@pytest.mark.usefixtures("table")
async def test_max_rows_keeps_what_a_transaction_changed(ask: Ask) -> None:
    output = await ask(["delete from t where id = 1", "select * from t, generate_series(1, 1000)"], max_rows=10)
    assert (output["rowcount"], output["rowcounts"]) == (10, [1, 10])
    assert (await ask("select count(*) c from t"))["rows"] == [{"c": 4}]


async def test_a_large_result_does_not_hold_the_loop(ask: Ask) -> None:
    async with LoopWatch() as watch:
        assert (await ask("select n from generate_series(1, 200000) n"))["rowcount"] == 200_000
    assert watch.longest < 0.3


# --- stopping


async def test_a_cancelled_statement_ends_on_the_server(ask: Ask, server: PostgresServer) -> None:
    task = asyncio.create_task(ask(SLEEP))
    await until(lambda: server.busy("sleeper"))
    begin = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begin < 4
    assert server.busy("sleeper") == []
    assert (await ask("select 1 a"))["rows"] == [{"a": 1}]


@pytest.mark.usefixtures("table")
async def test_a_cancelled_transaction_is_rolled_back_and_holds_no_lock(ask: Ask, server: PostgresServer) -> None:
    task = asyncio.create_task(ask(["delete from t", SLEEP]))
    await until(lambda: server.busy("sleeper"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.ask("select count(*) from t") == [(5,)]
    server.ask("set lock_timeout = '2s'")
    await asyncio.wait_for(ask("delete from t"), 10)


async def test_the_timeout_of_a_spec_stops_the_server_too(server: PostgresServer) -> None:
    executor = DbExecutorFactory.get_executor(ToolSpec(tool_name="nap", base_url=server.url(), timeout=0.5))
    with pytest.raises(AttemptError, match=r"nap ran longer than its timeout of 0\.5 s") as caught:
        await executor.execute({"sql": SLEEP})
    assert caught.value.error_type is ErrorType.TIMEOUT
    assert server.busy("sleeper") == []
    await executor.close()  # type: ignore[attr-defined]


async def test_a_timeout_of_the_server_is_a_timeout(ask: Ask) -> None:
    with pytest.raises(AttemptError, match="statement timeout") as caught:
        await ask(["set local statement_timeout = '50ms'", "select pg_sleep(30)"])
    assert caught.value.error_type is ErrorType.TIMEOUT


async def test_a_server_that_answers_nothing_any_more_is_left_in_time(
    ask: Ask, server: PostgresServer, steps: DbSteps
) -> None:
    task = asyncio.create_task(ask(SLEEP))
    ((pid, _),) = await until(lambda: server.busy("sleeper"))
    os.kill(pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begin < 4
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (await ask("select 1 a"))["rows"] == [{"a": 1}]
    await until(lambda: not server.busy("sleeper"))


def test_a_statement_ends_on_the_server_when_its_engine_is_killed(server: PostgresServer) -> None:
    code = f"""
import asyncio
from stepchain_tui.executors.db import DbExecutorFactory, ToolSpec
executor = DbExecutorFactory.get_executor(ToolSpec(tool_name="nap", base_url={server.url()!r}))
asyncio.run(executor.execute({{"sql": "select pg_sleep(600) -- orphan"}}))
"""
    owner = subprocess.Popen([sys.executable, "-c", code])
    try:
        _wait_for(lambda: server.busy("orphan"))
    finally:
        owner.kill()
        owner.wait()
    _wait_for(lambda: not server.busy("orphan"))


# --- servers that fail


async def test_a_connection_that_is_cut_is_a_server_error(ask: Ask, server: PostgresServer) -> None:
    task = asyncio.create_task(ask(SLEEP))
    ((pid, _),) = await until(lambda: server.busy("sleeper"))
    server.ask("select pg_terminate_backend(%s)", pid)
    with pytest.raises(AttemptError, match="terminating connection") as caught:
        await task
    assert caught.value.error_type is ErrorType.SERVER_ERROR
    assert (await ask("select 1 a"))["rows"] == [{"a": 1}]


async def test_a_backend_that_dies_without_a_word_is_a_server_error(ask: Ask, server: PostgresServer) -> None:
    task = asyncio.create_task(ask(SLEEP))
    ((pid, _),) = await until(lambda: server.busy("sleeper"))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(AttemptError) as caught:
        await task
    assert caught.value.error_type is ErrorType.SERVER_ERROR
    await until(lambda: _is_up(server), 30)
    assert (await ask("select 1 a"))["rows"] == [{"a": 1}]


async def test_a_connection_that_was_ended_at_rest_is_not_used_again(ask: Ask, server: PostgresServer) -> None:
    await asyncio.gather(*(ask("select pg_sleep(0.05)") for _ in range(3)))
    server.ask("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'stepchain'")
    await until(
        lambda: server.ask("select count(*) from pg_stat_activity where application_name = 'stepchain'") == [(0,)]
    )
    for _ in range(4):
        assert (await ask("select 1 a"))["rows"] == [{"a": 1}]


async def test_a_deadlock_is_a_server_error_for_one_of_the_two(ask: Ask, server: PostgresServer) -> None:
    await ask("create table if not exists d (id int primary key, n int)")
    await ask("insert into d values (1, 0), (2, 0) on conflict do nothing")
    first = ["update d set n = 1 where id = 1", "select pg_sleep(0.3)", "update d set n = 1 where id = 2"]
    other = ["update d set n = 2 where id = 2", "select pg_sleep(0.3)", "update d set n = 2 where id = 1"]
    ended = await asyncio.gather(ask(first), ask(other), return_exceptions=True)
    (error,) = [each for each in ended if isinstance(each, BaseException)]
    assert isinstance(error, AttemptError)
    assert (error.error_type, error.details["sqlstate"]) == (ErrorType.SERVER_ERROR, "40P01")
    assert "try again" in error.hint


async def test_a_lock_that_is_not_given_is_a_server_error(ask: Ask, server: PostgresServer) -> None:
    import psycopg

    server.ask("create table if not exists held (id int)")
    with psycopg.connect(server.url(), application_name="witness") as other:
        other.execute("lock table held")
        with pytest.raises(AttemptError, match="lock timeout") as caught:
            await ask(["set local lock_timeout = '50ms'", "select * from held"])
        other.rollback()
    assert (caught.value.error_type, caught.value.details["sqlstate"]) == (ErrorType.SERVER_ERROR, "55P03")


async def test_steps_share_connections_and_wait_where_all_are_in_use(
    ask: Ask, steps: DbSteps, server: PostgresServer, tmp_path: Path
) -> None:
    calls = [
        db_call({"url": server.url(), "sql": "select pg_sleep(0.2), pg_backend_pid() pid"}, tmp_path) for _ in range(25)
    ]
    outcomes = await asyncio.gather(*(steps.execute(call) for call in calls))
    assert len({outcome.output["rows"][0]["pid"] for outcome in outcomes}) <= MOST_CONNECTIONS
    waiting = [call for call in calls if call.ports.logged]  # type: ignore[attr-defined]
    assert waiting
    assert "waiting: all 10 connections to postgresql 127.0.0.1:" in waiting[0].ports.logged[0]  # type: ignore[attr-defined]


async def test_a_server_without_a_free_place_is_a_server_error(ask: Ask, server: PostgresServer) -> None:
    import psycopg

    taken = []
    try:
        with contextlib.suppress(psycopg.OperationalError):
            while len(taken) <= MAX_CONNECTIONS:
                taken.append(psycopg.connect(server.url()))
        with pytest.raises(AttemptError, match=r"too many clients|remaining connection slots") as caught:
            await ask("select 1")
    finally:
        for connection in taken:
            connection.close()
    assert caught.value.error_type is ErrorType.SERVER_ERROR


@pytest.mark.parametrize(
    ("fields", "problem", "error_type"),
    [
        ({"password": "wrong-geheim"}, "password authentication failed", ErrorType.USER_ERROR),
        ({"user": "nobody_known"}, "authentication failed", ErrorType.USER_ERROR),
        ({"database": "nowhere"}, 'database "nowhere" does not exist', ErrorType.USER_ERROR),
    ],
)
async def test_a_refused_login_names_no_password(
    ask: Ask, server: PostgresServer, fields: dict[str, str], problem: str, error_type: ErrorType
) -> None:
    with pytest.raises(AttemptError, match=problem) as caught:
        await ask("select 1", url=server.url(**fields))
    assert caught.value.error_type is error_type
    _names_no_secret(caught.value)


@pytest.mark.parametrize(
    ("url", "problem", "error_type"),
    [
        (f"postgresql://u:{QUOTED}@127.0.0.1:{{port}}/x", "refused", ErrorType.SERVER_ERROR),
        (f"postgresql://u:{QUOTED}@host.invalid/x", "host.invalid", ErrorType.SERVER_ERROR),
        (f"postgresql://u:{QUOTED}@127.0.0.1:port/x", "port", ErrorType.USER_ERROR),
        (f"postgresql://u:{QUOTED}@127.0.0.1/x?nonsense={QUOTED}", "nonsense", ErrorType.USER_ERROR),
    ],
)
async def test_a_server_that_is_not_there_is_told_without_the_password(
    ask: Ask, url: str, problem: str, error_type: ErrorType
) -> None:
    with pytest.raises(AttemptError, match=problem) as caught:
        await ask("select 1", url=url.format(port=free_port()))
    assert caught.value.error_type is error_type
    _names_no_secret(caught.value)


async def test_a_server_that_never_answers_can_be_cancelled_and_is_given_up(ask: Ask) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    task = asyncio.create_task(ask("select 1", url=f"postgresql://u:{QUOTED}@127.0.0.1:{port}/x"))
    await asyncio.wait({task}, timeout=0.3)
    begin = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begin < 4
    with pytest.raises(AttemptError, match="timeout") as caught:
        await ask("select 1", url=f"postgresql://u:{QUOTED}@127.0.0.1:{port}/x?connect_timeout=2")
    assert caught.value.error_type is ErrorType.SERVER_ERROR
    listening.close()


def test_the_breakers_name_has_neither_user_nor_password(server: PostgresServer, tmp_path: Path) -> None:
    steps = DbSteps()
    name = steps.provider(db_call({"url": server.url(), "sql": "select 1"}, tmp_path))
    assert name == f"db postgresql 127.0.0.1:{server.port}/tests"
    assert steps.provider(db_call({"url": "sqlite:///x.db", "sql": "select 1"}, tmp_path)) == ""
    assert steps.provider(db_call({"url": "no url"}, tmp_path)) == ""


async def test_closing_ends_every_session(ask: Ask, steps: DbSteps, server: PostgresServer) -> None:
    await asyncio.gather(*(ask("select pg_sleep(0.05)") for _ in range(5)))
    await steps.close()
    await steps.close()
    await until(
        lambda: server.ask("select count(*) from pg_stat_activity where application_name = 'stepchain'") == [(0,)]
    )


def _names_no_secret(error: AttemptError) -> None:
    told = f"{error} {error.hint} {error.details} {error.__cause__!r}"
    for secret in (PASSWORD, QUOTED, "geheim"):
        assert secret not in told


def _wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _is_up(server: PostgresServer) -> bool:
    import psycopg

    try:
        return bool(server.ask("select 1"))
    except psycopg.OperationalError:
        return False
