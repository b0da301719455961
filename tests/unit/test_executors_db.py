"""Database executors without a server: types and specs, statements, addresses, values, the hook of document 004."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import NotAvailableError, UsageError
from stepchain_tui.executors.db import (
    BaseDbExecutor,
    DbExecutorFactory,
    DbSteps,
    DynamoDBExecutor,
    IDbExecutor,
    SQLExecutor,
    ToolSpec,
)
from stepchain_tui.executors.db.address import DatabaseAddress
from stepchain_tui.executors.db.dynamodb_values import UnfitValueError, from_attribute, to_attribute
from stepchain_tui.executors.db.extras import require
from stepchain_tui.executors.db.statement import StatementError, read_statement
from stepchain_tui.executors.db.values import json_value
from stepchain_tui.executors.types import SkipStep
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from tests.support.databases import db_call


class MongoDBExecutor(BaseDbExecutor):
    """The example of document 004."""

    async def _execute_db_operation(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        data = [{"_id": 1, "name": args.get("find", "everything")}]
        return {"status": "success", "data": data}


@pytest.fixture
def mongodb() -> Iterator[None]:
    DbExecutorFactory.register("mongodb", MongoDBExecutor)
    yield
    DbExecutorFactory.unregister("mongodb")


# --- types and specs


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"driver": "sqlite"}, SQLExecutor),
        ({"driver": "postgresql"}, SQLExecutor),
        ({"driver": "postgres"}, SQLExecutor),
        ({"driver": "dynamodb"}, DynamoDBExecutor),
        ({"base_url": "sqlite:///x.db"}, SQLExecutor),
        ({"base_url": "postgresql+psycopg://u:p@h/x"}, SQLExecutor),
        ({"base_url": "dynamodb://eu-central-1"}, DynamoDBExecutor),
    ],
)
def test_a_spec_gives_the_executor_of_its_database(fields: dict[str, str], expected: type) -> None:
    made = DbExecutorFactory.get_executor(ToolSpec(tool_name="ask", **fields))
    assert type(made) is expected
    assert isinstance(made, IDbExecutor)


def test_an_unknown_driver_lists_those_that_are_known() -> None:
    with pytest.raises(UsageError, match=r"ask: no db executor of type 'mysql'.*sqlite, postgresql, dynamodb"):
        DbExecutorFactory.get_executor(ToolSpec(tool_name="ask", base_url="mysql://u:geheim@h/x"))
    with pytest.raises(UsageError, match="neither `url` nor `dynamodb`"):
        DbExecutorFactory.get_executor(ToolSpec(tool_name="ask"))


async def test_the_documents_own_executor_is_found_by_its_name_and_by_its_scheme(mongodb: None, tmp_path: Path) -> None:
    executor = DbExecutorFactory.get_executor(ToolSpec(tool_name="people", driver="mongodb"))
    assert await executor.execute({}, None) == {"status": "success", "data": [{"_id": 1, "name": "everything"}]}
    assert "mongodb" in DbExecutorFactory.list_executor_types()
    expected = {"rows": [{"_id": 1, "name": "Ada"}], "rowcount": 1, "columns": ["_id", "name"]}
    steps = DbSteps()
    by_scheme = db_call({"url": "mongodb://h/people", "find": "Ada"}, tmp_path)
    by_name = db_call({"find": "Ada"}, tmp_path, executor="mongodb")
    assert (await steps.execute(by_scheme)).output == expected
    assert (await steps.execute(by_name)).output == expected
    assert steps.provider(by_scheme) == "db mongodb h/people"


@pytest.mark.parametrize(
    ("returned", "rows", "columns"),
    [
        ([{"a": 1}, {"b": 2}], [{"a": 1}, {"b": 2}], ["a", "b"]),
        ({"status": "success", "data": {"a": 1}}, [{"a": 1}], ["a"]),
        ({"status": "success", "data": [1, 2]}, [{"value": 1}, {"value": 2}], ["value"]),
        ({"status": "success", "data": None}, [], []),
        ({"rows": [{"a": 1}], "columns": ["a", "b"]}, [{"a": 1}], ["a", "b"]),
        ({"a": 1}, [{"a": 1}], ["a"]),
        (7, [{"value": 7}], ["value"]),
    ],
)
async def test_whatever_an_executor_returns_a_step_gives_rows(
    returned: Any, rows: list[Any], columns: list[str], tmp_path: Path
) -> None:
    class Made(BaseDbExecutor):
        async def _execute_db_operation(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
            return returned

    DbExecutorFactory.register("made", Made)
    try:
        output = (await DbSteps().execute(db_call({}, tmp_path, executor="made"))).output
    finally:
        DbExecutorFactory.unregister("made")
    assert (output["rows"], output["columns"], output["rowcount"]) == (rows, columns, len(rows))


async def test_an_executor_that_says_it_failed_fails_the_step(tmp_path: Path) -> None:
    class Failing(BaseDbExecutor):
        async def _execute_db_operation(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
            return {"status": "error", "error": "no such collection"}

    DbExecutorFactory.register("failing", Failing)
    try:
        with pytest.raises(AttemptError, match=r"ask: .*no such collection") as caught:
            await DbSteps().execute(db_call({}, tmp_path, executor="failing"))
    finally:
        DbExecutorFactory.unregister("failing")
    assert caught.value.error_type is ErrorType.TOOL_ERROR


def test_no_driver_is_loaded_before_it_is_needed() -> None:
    code = (
        "import sys, stepchain_tui.executors.db\n"
        "names = ('sqlalchemy', 'psycopg', 'aiobotocore', 'botocore', 'boto3', 'greenlet')\n"
        "print([name for name in names if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("hidden", "request_", "hint"),
    [
        ("psycopg", {"url": "postgresql://h/x", "sql": "select 1"}, 'pip install "stepchain[postgres]"'),
        ("sqlalchemy", {"url": "postgresql://h/x", "sql": "select 1"}, 'pip install "stepchain[postgres]"'),
        ("aiobotocore", {"dynamodb": "list_tables"}, 'pip install "stepchain[dynamodb]"'),
    ],
)
def test_a_missing_extra_says_how_to_install_it(hidden: str, request_: dict[str, str], hint: str) -> None:
    code = f"""
import asyncio, sys
sys.modules[{hidden!r}] = None
from stepchain_tui.executors.db import DbExecutorFactory, ToolSpec
async def main():
    try:
        await DbExecutorFactory.create_executor(ToolSpec(tool_name="ask")).execute({request_!r})
    except Exception as error:
        print(error, error.error_type, error.hint, sep="|")
asyncio.run(main())
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert told.startswith("ask: ")
    assert f"'{hidden}', which is not installed|user_error|{hint}" in told


@pytest.mark.parametrize(
    ("hidden", "request_"),
    [("psycopg", {"url": "postgresql://h/x", "sql": "select 1"}), ("botocore.exceptions", {"dynamodb": "list_tables"})],
)
async def test_an_optional_step_without_its_driver_is_skipped_with_the_reason(
    hidden: str, request_: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, hidden, None)
    with pytest.raises(SkipStep, match=r"ask: .* needs the package '.*', which is not installed"):
        await DbSteps().execute(db_call(request_, tmp_path, optional=True))


def test_requiring_names_what_is_missing() -> None:
    with pytest.raises(NotAvailableError, match="Oracle needs the package 'nosuchdriver', which"):
        require("nosuchdriver.aio", "oracle", "Oracle")


# --- statements


@pytest.mark.parametrize(
    ("driver", "text", "names"),
    [
        ("postgresql", "select :a, ':b', \":c\" -- :d\n, /* :e /* :f */ :g */ :h::int", ("a", "h")),
        ("postgresql", "select $$ :x $$, $t$ :y $$ $t$, :z", ("z",)),
        ("postgresql", r"select E'it\':x', 'a'':y', :z", ("z",)),
        ("postgresql", "select a[1:n], t.b[(1):m], '12:30', now()::time, x := :a", ("a",)),
        ("postgresql", "select data ? 'key' and data->>'a' = :v", ("v",)),
        ("sqlite", "select :a, ':b', \":c\", `:d`, [:e] -- :f", ("a",)),
        ("sqlite", "select :näme, :_b2", ("näme", "_b2")),
        ("sqlite", "select /* :x /* */ :a", ("a",)),
    ],
)
def test_only_names_outside_of_quotes_and_comments_are_parameters(
    driver: str, text: str, names: tuple[str, ...]
) -> None:
    assert read_statement(text, driver).names == names


@pytest.mark.parametrize(
    ("driver", "text"),
    [
        ("postgresql", "select 1; drop table t"),
        ("sqlite", "select 1; select 2"),
        ("sqlite", "create trigger g after insert on t begin select 1; select 2; end; drop table t"),
        ("postgresql", "select 1; +"),
        ("postgresql", "select 1;;/**/;-- x\n delete from t"),
    ],
)
def test_several_statements_in_one_text_are_refused(driver: str, text: str) -> None:
    with pytest.raises(StatementError, match="more than one statement") as caught:
        read_statement(text, driver)
    assert "list" in caught.value.hint


@pytest.mark.parametrize(
    ("driver", "text", "kept"),
    [
        ("postgresql", "select ';';; -- end; of it\n /* ; */ ;", "select ';'"),
        ("sqlite", "create trigger g after insert on t begin select 1; select 2; end;", None),
        ("postgresql", "create function f() returns int begin atomic select 1; select 2; end", None),
        ("postgresql", "do $$ begin perform 1; perform 2; end $$", None),
    ],
)
def test_a_semicolon_that_belongs_to_a_statement_does_not_end_it(driver: str, text: str, kept: str | None) -> None:
    assert read_statement(text, driver).text == (kept or text.rstrip(";"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        (" ; -- nothing", "is empty"),
        ("begin", "BEGIN is not for steps"),
        ("Commit;", "COMMIT is not for steps"),
        ("rollback", "ROLLBACK is not for steps"),
        ("select $1", "`\\$1` is no place for a parameter"),
        ("copy t from stdin", "COPY from or to a client"),
    ],
)
def test_a_text_that_is_no_statement_of_a_step_says_why(text: str, problem: str) -> None:
    with pytest.raises(StatementError, match=problem) as caught:
        read_statement(text, "postgresql")
    assert caught.value.hint


@pytest.mark.parametrize("text", ["select * from t where a = ?", "select ?1", "select @a", "select $a"])
def test_other_styles_of_parameters_are_refused_in_sqlite(text: str) -> None:
    with pytest.raises(StatementError, match="is no place for a parameter"):
        read_statement(text, "sqlite")


# --- requests


@pytest.mark.parametrize(
    ("request_", "problem", "hint"),
    [
        ({"sql": "select :a"}, "`sql` names :a, which `params` does not have", "colon"),
        ({"sql": "select :nam", "params": {"name": 1}}, "`sql` names :nam", "did you mean 'name'"),
        ({"sql": "select 1", "params": {"b": 1}}, "`params` has 'b', which `sql` does not name", "Write :b"),
        ({"sql": "select :a", "params": 7}, "`params` is a number, not a mapping", "name: value"),
        ({"sql": "select :a", "params": [1, 2]}, r"`params\[0\]` is a number, not a mapping", ":name"),
        ({"sql": "select :a", "params": [{"a": 1}, {"b": 1}]}, r"names :a, which `params\[1\]`", ""),
        ({"sql": ["select :a", "select 1"], "params": [{"a": 1}]}, "a list in `params` is for one statement", ""),
        ({"sql": ["select 1", "commit"]}, "statement 2: COMMIT is not", "list"),
        ({"sql": []}, "`sql` is no statement", ""),
        ({}, "`sql` is no statement", ""),
        ({"sql": "select 1", "parms": {}}, "unknown key `parms`", "did you mean 'params'"),
        ({"sql": "select 1", "max_rows": 0}, "`max_rows` is no whole number above 0", ""),
        ({"sql": "select 1", "autocommit": "yes"}, "`autocommit` is text, neither true nor false", ""),
        ({"sql": "select 1", "isolation": "dirty"}, "`isolation` cannot be 'dirty'", "serializable"),
        ({"sql": "vacuum", "autocommit": True, "read_only": True}, "`read_only` is for transactions", ""),
        ({"sql": "select :a", "params": {"a": "x\0y"}}, "`params.a` holds a NUL character", ""),
        ({"sql": "select :a", "params": {"a": "\ud800"}}, "`params.a` holds half of a surrogate pair", ""),
        ({"sql": "select :a", "params": {"a": 2**70}}, "`params.a`", ""),
        ({"sql": "select 1", "url": "sqlite:///x.db?cache=shared"}, "unknown option 'cache'", "timeout"),
        ({"sql": "select :a", "params": {"a": {"b": ["x\0y"]}}}, "`params.a` holds a NUL character", ""),
        ({"sql": "select :a", "params": {"a": {"\ud800": 1}}}, "`params.a` holds half of a surrogate pair", ""),
        ({"sql": "select :a", "params": {"a": [2**1001]}}, "`params.a` holds a number of more than 300 digits", ""),
        ({"sql": "delete from t \0 where id = 1"}, "`sql` holds a NUL character", "params"),
        ({"sql": "select '\ud800'"}, "`sql` holds half of a surrogate pair", "params"),
        ({"sql": "select 1", "url": "sqlite:///a%00b.db"}, "the `url` of sqlite holds a NUL character", "%00"),
        ({"sql": "select 1", "url": "sqlite:///a\ud800.db"}, "the `url` of sqlite holds half of a surrogate", ""),
        ({"sql": "select 1", "url": "sqlite://data.db"}, "two slashes before the file's path", "sqlite:///file.db"),
        ({"sql": "select 1", "url": "sqlite:///a#b.db"}, "has `#`, which ends a path", "%23"),
        ({"sql": "select 1", "url": "x.db"}, "`url` is no address of a database", "sqlite:///"),
        ({"sql": "select 1", "url": "mysql://root:geheim@h/x"}, "no db executor of type 'mysql'", ""),
    ],
)
async def test_a_request_that_cannot_be_meant_names_the_step_the_key_and_what_to_do(
    request_: dict[str, Any], problem: str, hint: str, tmp_path: Path
) -> None:
    steps = DbSteps()
    with pytest.raises(AttemptError, match=problem) as caught:
        await steps.execute(db_call({"url": "sqlite://", **request_}, tmp_path))
    await steps.close()
    assert str(caught.value).startswith("ask: ")
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert hint in caught.value.hint
    assert caught.value.hint
    assert "geheim" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    "written", ["select '{{ inputs.name }}'", "select {{ item }}", "{{ a }} {{ b }}", "select CHAIN_RESULT"]
)
async def test_an_expression_between_the_words_of_sql_is_refused(written: str, tmp_path: Path) -> None:
    call = db_call({"url": "sqlite://", "sql": "select 1"}, tmp_path, written={"url": "sqlite://", "sql": written})
    with pytest.raises(AttemptError, match="a value could be read as SQL") as caught:
        await DbSteps().execute(call)
    assert "params" in caught.value.hint


@pytest.mark.parametrize("written", ["{{ steps.write.output }}", " {{ steps.write.output }} ", "select '{{ '{{' }}1}'"])
async def test_sql_that_is_an_expression_as_a_whole_was_meant(written: str, tmp_path: Path) -> None:
    steps = DbSteps()
    call = db_call({"url": "sqlite://", "sql": "select 1 a"}, tmp_path, written={"url": "sqlite://", "sql": written})
    assert (await steps.execute(call)).output["rows"] == [{"a": 1}]
    await steps.close()


# --- addresses and values


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("sqlite://", "sqlite :memory:"),
        ("sqlite:///data/a.db?mode=ro", "sqlite data/a.db"),
        ("sqlite:////srv/a.db", "sqlite /srv/a.db"),
        ("postgres://bob:geheim@db.example.org/sales", "postgresql db.example.org:5432/sales"),
        ("postgresql+psycopg://bob:geheim@[::1]:6000/sales", "postgresql [::1]:6000/sales"),
        ("postgresql://h1:1,h2:2/sales?password=geheim", "postgresql h1:1,h2:2/sales"),
        ("postgresql:///sales?host=/run/postgresql&user=bob", "postgresql /run/postgresql/sales"),
        ("mongodb://bob:geheim@h:1/x", "mongodb h:1/x"),
    ],
)
def test_an_address_is_told_without_user_and_password(url: str, label: str) -> None:
    address = DatabaseAddress.of(url)
    assert address.label == label
    assert "geheim" not in repr(address)
    assert "geheim" not in address.redacted(f'invalid port in "{url}"')
    assert "geheim" not in url or "geheim" not in address.redacted("the password geheim is wrong")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**63, "9223372036854775808"),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (Decimal("1.50"), "1.50"),
        (b"\x00\xff", "AP8="),
        ([b"\x01", (None, {"a": float("inf")})], ["AQ==", [None, {"a": "Infinity"}]]),
    ],
)
def test_values_that_json_does_not_have_become_text(value: Any, expected: Any) -> None:
    assert json_value(value) == expected


@pytest.mark.parametrize(
    ("plain", "attribute", "back"),
    [
        (None, {"NULL": True}, None),
        (True, {"BOOL": True}, True),
        (1, {"N": "1"}, 1),
        (0.1, {"N": "0.1"}, 0.1),
        (Decimal("0.12345678901234567890123"), {"N": "0.12345678901234567890123"}, "0.12345678901234567890123"),
        (10**30 + 1, {"N": str(10**30 + 1)}, str(10**30 + 1)),
        ("x", {"S": "x"}, "x"),
        (b"\x01", {"B": b"\x01"}, "AQ=="),
        ({"$binary": "AQ=="}, {"B": b"\x01"}, "AQ=="),
        ({"$set": [2, 10]}, {"NS": ["2", "10"]}, [2, 10]),
        ({"$set": ["b", "a"]}, {"SS": ["b", "a"]}, ["a", "b"]),
        ({"a": [1, {"b": ""}]}, {"M": {"a": {"L": [{"N": "1"}, {"M": {"b": {"S": ""}}}]}}}, {"a": [1, {"b": ""}]}),
    ],
)
def test_plain_values_are_those_of_dynamodb_and_back(plain: Any, attribute: Any, back: Any) -> None:
    made = to_attribute(plain, "Item.x")
    assert made == attribute
    assert from_attribute(made, "") == back


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": [float("nan")]}, r"`Item.a\[0\]` is nan"),
        ({"$set": []}, "`Item` is no set"),
        ({"$set": ["a", 1]}, "`Item` is no set"),
        ({"$binary": "§"}, "`Item` is no base64"),
        (10**40 + 1, "more than 38 digits"),
        (object(), "of type object"),
    ],
)
def test_a_value_that_dynamodb_has_not_is_named_by_its_place(value: Any, problem: str) -> None:
    with pytest.raises(UnfitValueError, match=problem):
        to_attribute(value, "Item")
