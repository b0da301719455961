"""DynamoDB through `db:` steps, against moto's server: a real HTTP service, real requests, items as plain JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from stepchain_tui.executors.db import DbExecutorFactory, DbSteps, DynamoDBExecutor, ToolSpec
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from tests.support.databases import db_call, dynamodb_server, free_port

Ask = Callable[..., Awaitable[dict[str, Any]]]
SECRET = "geheim-aws-secret-key"
TABLE = {
    "TableName": "people",
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "n", "KeyType": "RANGE"}],
    "AttributeDefinitions": [
        {"AttributeName": "id", "AttributeType": "S"},
        {"AttributeName": "n", "AttributeType": "N"},
    ],
    "BillingMode": "PAY_PER_REQUEST",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with dynamodb_server() as url:
        yield url


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def steps() -> AsyncIterator[DbSteps]:
    made = DbSteps()
    yield made
    await made.close()


@pytest.fixture
def ask(steps: DbSteps, server: str, tmp_path: Path) -> Ask:
    async def asked(operation: str, **keys: Any) -> dict[str, Any]:
        request = {"dynamodb": operation, "region": "eu-central-1", "endpoint_url": server, **keys}
        output: dict[str, Any] = (await steps.execute(db_call(request, tmp_path))).output
        return output

    return asked


@pytest.fixture
async def people(ask: Ask) -> AsyncIterator[None]:
    await ask("create_table", **TABLE)
    requests = [{"PutRequest": {"Item": {"id": "a", "n": n, "name": f"n{n}"}}} for n in range(1, 6)]
    assert (await ask("batch_write_item", RequestItems={"people": requests}))["rowcount"] == 5
    yield
    await ask("delete_table", TableName="people")


@pytest.mark.usefixtures("people")
async def test_an_item_goes_in_and_comes_back_as_plain_json(ask: Ask) -> None:
    item = {"id": "x", "n": 1, "price": 0.1, "tags": {"$set": ["b", "a"]}, "raw": {"$binary": "AP8="}, "none": None}
    item |= {"deep": {"list": [1, True, {"a": ""}]}}
    assert (await ask("put_item", TableName="people", Item=item))["rowcount"] == 1
    output = await ask("get_item", TableName="people", Key={"id": "x", "n": 1})
    assert output["rows"] == [{**item, "tags": ["a", "b"], "raw": "AP8="}]
    assert output["rowcount"] == 1
    assert set(output["columns"]) == set(item)
    missing = await ask("GetItem", TableName="people", Key={"id": "x", "n": 2})
    assert (missing["rows"], missing["rowcount"]) == ([], 0)


@pytest.mark.usefixtures("people")
async def test_queries_and_scans_give_rows_page_by_page(ask: Ask) -> None:
    query = {
        "TableName": "people",
        "KeyConditionExpression": "id = :id and n > :n",
        "ExpressionAttributeValues": {":id": "a", ":n": 1},
        "Limit": 2,
    }
    one = await ask("query", **query)
    assert [row["n"] for row in one["rows"]] == [2, 3]
    assert one["LastEvaluatedKey"] == {"id": "a", "n": 3}
    following = await ask("query", **query, ExclusiveStartKey=one["LastEvaluatedKey"])
    assert [row["n"] for row in following["rows"]] == [4, 5]
    whole = await ask("query", **query, paginate=True)
    assert [row["n"] for row in whole["rows"]] == [2, 3, 4, 5]
    assert (await ask("scan", TableName="people", Limit=2, paginate=True, max_rows=3))["rowcount"] == 3


@pytest.mark.usefixtures("people")
async def test_a_condition_that_does_not_hold_is_the_callers(ask: Ask) -> None:
    output = await ask(
        "update_item",
        TableName="people",
        Key={"id": "a", "n": 1},
        UpdateExpression="set #n = :name",
        ExpressionAttributeNames={"#n": "name"},
        ExpressionAttributeValues={":name": "'; drop"},
        ReturnValues="ALL_NEW",
    )
    assert output["rows"] == [{"id": "a", "n": 1, "name": "'; drop"}]
    with pytest.raises(AttemptError, match="ConditionalCheckFailedException") as caught:
        await ask(
            "put_item", TableName="people", Item={"id": "a", "n": 1}, ConditionExpression="attribute_not_exists(id)"
        )
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert "nothing was changed" in caught.value.hint
    await ask("delete_item", TableName="people", Key={"id": "a", "n": 1})
    assert (await ask("scan", TableName="people"))["rowcount"] == 4


@pytest.mark.usefixtures("people")
async def test_batches_and_transactions(ask: Ask) -> None:
    keys = [{"id": "a", "n": n} for n in (1, 2, 9)]
    output = await ask("batch_get_item", RequestItems={"people": {"Keys": keys}})
    assert sorted(row["n"] for row in output["rows"]) == [1, 2]
    gets = [{"Get": {"TableName": "people", "Key": key}} for key in keys[:2]]
    assert [row["name"] for row in (await ask("transact_get_items", TransactItems=gets))["rows"]] == ["n1", "n2"]
    put = {"Put": {"TableName": "people", "Item": {"id": "b", "n": 1}}}
    check = {
        "ConditionCheck": {
            "TableName": "people",
            "Key": {"id": "zzz", "n": 1},
            "ConditionExpression": "attribute_exists(id)",
        }
    }
    with pytest.raises(AttemptError, match="TransactionCanceledException") as caught:
        await ask("transact_write_items", TransactItems=[put, check])
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert caught.value.details["reasons"] == ["None", "ConditionalCheckFailed"]
    assert (await ask("get_item", TableName="people", Key={"id": "b", "n": 1}))["rows"] == []
    assert (await ask("transact_write_items", TransactItems=[put]))["rowcount"] == 1


@pytest.mark.usefixtures("people")
async def test_a_scan_over_the_limit_is_an_error(ask: Ask) -> None:
    for n in range(100, 131):
        await ask("put_item", TableName="people", Item={"id": "big", "n": n, "text": "x" * 350_000})
    with pytest.raises(AttemptError, match=r"over 10 MB after \d+ rows") as caught:
        await ask("scan", TableName="people", paginate=True)
    assert "max_rows" in caught.value.hint


@pytest.mark.parametrize(
    ("operation", "keys", "problem", "hint"),
    [
        ("get_itme", {}, "no operation 'get_itme'", "did you mean 'get_item'"),
        (7, {}, "`dynamodb` is no operation", "get_item"),
        ("get_item", {"TableNaem": "t"}, "unknown key `TableNaem`", "did you mean 'TableName'"),
        ("get_item", {"TableName": "t"}, "Missing required parameter.*Key", "the service's own API"),
        ("put_item", {"TableName": "ttt", "Item": {"a": {"$set": []}}}, "`Item.a` is no set", ""),
        ("put_item", {"TableName": "ttt", "Item": {"a": [1.5, float("inf")]}}, r"`Item.a\[1\]` is inf", ""),
        ("scan", {"TableName": "nowhere"}, "ResourceNotFoundException", "table's name"),
        ("scan", {"TableName": "nowhere", "max_rows": "x"}, "`max_rows` is no whole number", ""),
        ("scan", {"TableName": "ttt", "region": None}, "region", "region: eu-central-1"),
        ("scan", {"TableName": "ttt", "region": ["x"]}, "`region` is no text", ""),
        ("scan", {"TableName": "ttt", "endpoint_url": "no url"}, "no url", ""),
        ("scan", {"TableName": "ttt", "profile": "nobody"}, "nobody", "profile"),
    ],
)
async def test_a_request_that_cannot_be_meant_says_what_to_do(
    ask: Ask, operation: Any, keys: dict[str, Any], problem: str, hint: str
) -> None:
    with pytest.raises(AttemptError, match=problem) as caught:
        await ask(operation, **keys)
    assert str(caught.value).startswith("ask: ")
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert hint in caught.value.hint
    assert caught.value.hint


async def test_a_server_that_is_not_there_is_a_server_error(ask: Ask) -> None:
    with pytest.raises(AttemptError, match="Could not connect") as caught:
        await ask("list_tables", endpoint_url=f"http://127.0.0.1:{free_port()}")
    assert caught.value.error_type is ErrorType.SERVER_ERROR
    assert SECRET not in f"{caught.value} {caught.value.details}"


async def test_without_credentials_it_says_which_to_set(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AttemptError, match="credentials") as caught:
        await ask("list_tables")
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


class _Answers(BaseHTTPRequestHandler):
    """Answers as it is told, and keeps what it was sent."""

    status, body = 400, b"{}"
    held: Event | None = None
    authorizations: list[str] = []  # noqa: RUF012 - one server at a time
    requests: list[Any] = []  # noqa: RUF012 - one server at a time

    def do_POST(self) -> None:
        self.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.authorizations.append(self.headers["Authorization"])
        if self.held is not None:
            self.held.wait(60)
        with contextlib.suppress(ConnectionError):  # who asked may be gone
            self.send_response(self.status)
            self.send_header("Content-Length", str(len(self.body)))
            self.end_headers()
            self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def scripted() -> Iterator[tuple[str, type[_Answers]]]:
    class Handler(_Answers):
        authorizations: list[str] = []  # noqa: RUF012 - of this test
        requests: list[Any] = []  # noqa: RUF012 - of this test

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=made.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}", Handler
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.mark.parametrize(
    ("status", "code", "error_type"),
    [
        (400, "ProvisionedThroughputExceededException", ErrorType.RATE_LIMIT),
        (400, "ThrottlingException", ErrorType.RATE_LIMIT),
        (500, "InternalServerError", ErrorType.SERVER_ERROR),
        (503, "ServiceUnavailable", ErrorType.SERVER_ERROR),
        (400, "TransactionConflictException", ErrorType.SERVER_ERROR),
        (400, "ExpiredTokenException", ErrorType.USER_ERROR),
        (400, "UnrecognizedClientException", ErrorType.USER_ERROR),
        (400, "ValidationException", ErrorType.USER_ERROR),
    ],
)
async def test_what_the_service_refuses_decides_the_class_and_is_asked_once(
    ask: Ask, scripted: tuple[str, type[_Answers]], status: int, code: str, error_type: ErrorType
) -> None:
    url, handler = scripted
    handler.status = status
    handler.body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "not now"}).encode()
    with pytest.raises(AttemptError, match=f"ask: dynamodb list_tables: {code}: not now") as caught:
        await ask("list_tables", endpoint_url=url)
    assert (caught.value.error_type, caught.value.details["code"]) == (error_type, code)
    assert caught.value.hint
    assert len(handler.authorizations) == 1


async def test_a_batch_that_is_not_taken_whole_goes_on_and_then_is_a_rate_limit(
    ask: Ask, scripted: tuple[str, type[_Answers]]
) -> None:
    url, handler = scripted
    handler.status = 200
    left = {"people": [{"PutRequest": {"Item": {"id": {"S": "b"}}}}]}
    handler.body = json.dumps({"UnprocessedItems": left}).encode()
    requests = [{"PutRequest": {"Item": {"id": letter}}} for letter in "ab"]
    with pytest.raises(AttemptError, match="1 of the batch were not carried out") as caught:
        await ask("batch_write_item", RequestItems={"people": requests}, endpoint_url=url)
    assert caught.value.error_type is ErrorType.RATE_LIMIT
    assert len(handler.authorizations) == 2


async def test_what_is_left_of_a_batch_goes_back_as_it_came(ask: Ask, scripted: tuple[str, type[_Answers]]) -> None:
    """Plain values would not do: a set would go back as a list, a long number as text."""
    url, handler = scripted
    handler.status = 200
    item = {"id": {"S": "b"}, "tags": {"SS": ["x", "y"]}, "n": {"N": "12345678901234567890123"}, "raw": {"B": "AP8="}}
    left = {"people": [{"PutRequest": {"Item": item}}]}
    handler.body = json.dumps({"UnprocessedItems": left}).encode()
    requests = [{"PutRequest": {"Item": {"id": letter}}} for letter in "ab"]
    with pytest.raises(AttemptError, match="1 of the batch"):
        await ask("batch_write_item", RequestItems={"people": requests}, endpoint_url=url)
    assert [request["RequestItems"] for request in handler.requests[1:]] == [left]


async def test_pages_go_on_where_the_last_one_ended_whatever_its_key_is(
    ask: Ask, scripted: tuple[str, type[_Answers]]
) -> None:
    url, handler = scripted
    handler.status = 200
    key = {"id": {"B": "AP8="}, "n": {"N": "12345678901234567890123"}}
    handler.body = json.dumps({"Items": [key], "LastEvaluatedKey": key}).encode()
    output = await ask("scan", TableName="people", paginate=True, max_rows=2, endpoint_url=url)
    assert output["rows"] == [{"id": "AP8=", "n": "12345678901234567890123"}] * 2
    assert [request.get("ExclusiveStartKey") for request in handler.requests] == [None, key]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("1E+400", "1E+400"),
        ("1E9999999", "1E9999999"),
        ("1E999999999999999999", "1E999999999999999999"),
        ("9" * 400, "9" * 400),
        ("sNaN", "sNaN"),
        ("12", 12),
        ("1.5E3", 1500),
    ],
)
async def test_a_number_that_is_over_all_comes_back_as_text(
    ask: Ask, scripted: tuple[str, type[_Answers]], number: str, expected: Any
) -> None:
    url, handler = scripted
    handler.status, handler.body = 200, json.dumps({"Item": {"n": {"N": number}, "s": {"NS": [number]}}}).encode()
    output = await ask("get_item", TableName="people", Key={"id": "a"}, endpoint_url=url)
    assert output["rows"] == [{"n": expected, "s": [expected]}]


@pytest.mark.parametrize("number", [10**400, -(10**126), 1e-300, {"$set": [10**400]}, {"deep": [10**127]}])
async def test_a_number_that_dynamodb_has_no_room_for_names_its_place(ask: Ask, number: Any) -> None:
    with pytest.raises(AttemptError, match=r"`Item\.n.*is not between 1E-130 and 1E\+126") as caught:
        await ask("put_item", TableName="people", Item={"id": "a", "n": number})
    assert caught.value.error_type is ErrorType.USER_ERROR


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "5",
        "null",
        '{"Item": 5}',
        '{"Item": {"a": 5}}',
        '{"Item": {"a": {}}}',
        '{"Item": {"a": {"L": 5}}}',
        '{"Item": {"a": {"N": [1]}}}',
        '{"Item": {"a": {"B": 5}}}',
        '{"Item": {"a": {"S": "\\ud800"}}}',
        '{"Item": {"a": ' + '{"L": [' * 3000 + "]}" * 3000 + "}}",
    ],
    ids=range(11),
)
async def test_an_answer_that_is_none_of_dynamodb_is_the_servers_fault(
    ask: Ask, scripted: tuple[str, type[_Answers]], body: str
) -> None:
    url, handler = scripted
    handler.status, handler.body = 200, body.encode()
    with pytest.raises(AttemptError, match="the answer is not one of DynamoDB") as caught:
        await ask("get_item", TableName="people", Key={"id": "a"}, endpoint_url=url)
    assert caught.value.error_type is ErrorType.SERVER_ERROR
    assert "endpoint_url" in caught.value.hint


async def test_a_call_can_be_cancelled(ask: Ask, scripted: tuple[str, type[_Answers]]) -> None:
    url, handler = scripted
    handler.held = Event()
    task = asyncio.create_task(ask("list_tables", endpoint_url=url))
    deadline = time.monotonic() + 20
    while not handler.authorizations:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), 20)
    handler.held.set()


async def test_credentials_are_the_plans_secrets_where_it_names_them(
    steps: DbSteps, scripted: tuple[str, type[_Answers]], tmp_path: Path
) -> None:
    url, handler = scripted
    handler.status, handler.body = 200, b'{"TableNames": []}'
    request = {"dynamodb": "list_tables", "region": "eu-central-1", "endpoint_url": url}
    secrets = {"AWS_ACCESS_KEY_ID": "OFTHEPLAN", "AWS_SECRET_ACCESS_KEY": "geheim-of-the-plan"}
    output = (await steps.execute(db_call(request, tmp_path, secrets=secrets))).output
    assert output == {"rows": [], "rowcount": 0, "columns": [], "TableNames": []}
    await steps.execute(db_call(request, tmp_path))
    assert ["OFTHEPLAN" in each for each in handler.authorizations] == [True, False]
    assert steps.provider(db_call(request, tmp_path)) == f"db dynamodb {url.removeprefix('http://')}"


async def test_a_spec_of_document_004_gives_its_executor(server: str) -> None:
    executor = DbExecutorFactory.get_executor(ToolSpec(tool_name="tables", driver="dynamodb"))
    assert isinstance(executor, DynamoDBExecutor)
    args = {"dynamodb": "list_tables", "region": "eu-central-1", "endpoint_url": server}
    assert (await executor.execute(args, None))["rows"] == []
    assert executor.metrics.succeeded == 1
    await executor.close()
    await executor.close()
