"""HTTP steps against a real server over loopback: what is sent, what comes back, and every way to go wrong."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import shlex
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stepchain_tui.core.clock import FakeClock
from stepchain_tui.core.errors import UsageError
from stepchain_tui.executors.base import CallTimeoutError
from stepchain_tui.executors.http import (
    BaseHttpExecutor,
    GraphQLExecutor,
    HttpExecutorFactory,
    HttpSteps,
    HttpToolExecutor,
    ToolSpec,
)
from stepchain_tui.executors.http import answers as http_answers
from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import Step
from stepchain_tui.run import AttemptError, ErrorType
from tests.support.command_line import ROOT
from tests.support.engines import Bench, plan_of
from tests.support.http_server import PATIENCE, Exchange, HttpServer, answer, endless, raw, redirect

TOKEN = "tok-4711-do-not-show"


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with HttpServer() as made:
        yield made


@pytest.fixture
async def other() -> AsyncIterator[HttpServer]:
    async with HttpServer() as made:
        yield made


@pytest.fixture
async def executor() -> AsyncIterator[HttpToolExecutor]:
    async with HttpToolExecutor(ToolSpec(tool_name="fetch", timeout=PATIENCE)) as made:
        yield made


@pytest.fixture
async def steps() -> AsyncIterator[HttpSteps]:
    made = HttpSteps()
    yield made
    await made.close()


class Ports:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def log(self, stream: str, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def call_for(request: dict[str, Any], folder: Path, **options: Any) -> StepCall:
    """Return an attempt at a step; `step` and other fields of the call may be given."""
    values: dict[str, Any] = {
        "run_id": "run-1",
        "step": Step(id="fetch", http=options.pop("written", request), **options.pop("step", {})),
        "attempt": 1,
        "item": None,
        "value": request,
        "args": {},
        "options": {},
        "mode": "",
        "timeout": PATIENCE,
        "environment": {},
        "cwd": folder,
        "plan_folder": folder,
        "ports": Ports(),
        "idempotency_key": "key-1",
    }
    return StepCall(**{**values, **options})


async def failure_of(work: Any) -> AttemptError:
    """Return how work failed; each failure has something to do."""
    with pytest.raises(AttemptError) as caught:
        await work
    assert caught.value.hint
    return caught.value


# --- what is sent


@pytest.mark.parametrize(
    ("fields", "kind", "body"),
    [
        ({"json": {"a": [1, "é"]}}, "application/json", b'{"a":[1,"\\u00e9"]}'),
        ({"json": "text"}, "application/json", b'"text"'),
        ({"form": {"a": "é & b", "n": 2, "on": True, "l": ["x", "y"], "no": None}},
         "application/x-www-form-urlencoded", b"a=%C3%A9+%26+b&n=2&on=true&l=x&l=y"),
        ({"body": "é\n"}, "text/plain; charset=utf-8", "é\n".encode()),
        ({"body": "<a/>", "headers": {"content-type": "text/xml"}}, "text/xml", b"<a/>"),
        ({"json": {"big": "x" * 2_000_000}}, "application/json", b'{"big":"' + b"x" * 2_000_000 + b'"}'),
    ],
    ids=["json", "json text", "form", "body", "body with its own type", "large json"],
)  # fmt: skip
async def test_a_body_arrives_as_it_was_written(
    server: HttpServer, executor: HttpToolExecutor, fields: dict[str, Any], kind: str, body: bytes
) -> None:
    server.answers["/"] = answer({"ok": True})

    output = await executor.execute({"url": server.url(), "method": "post", **fields})

    assert output["status"] == 200
    assert output["body"] == {"ok": True}
    assert output["headers"]["content-type"] == "application/json"
    (seen,) = server.seen
    assert (seen.method, seen.headers["content-type"], seen.body) == ("POST", kind, body)


async def test_files_and_fields_arrive_as_parts(server: HttpServer, steps: HttpSteps, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    content = bytes(range(256)) * 10_000
    (tmp_path / "data" / "t.bin").write_bytes(content)
    binary = {"base64": base64.b64encode(b"\x00\xff").decode(), "bytes": 2, "type": "image/png"}
    request = {
        "url": server.url(),
        "method": "POST",
        "form": {"title": "Möwe", "n": 3},
        "files": {
            "first": "./data/t.bin",
            "second": {"name": "n.csv", "content": "a,b\n", "type": "text/csv"},
            "third": {"name": "p.png", "content": binary},
        },
    }

    await steps.execute(call_for(request, tmp_path))

    parts = server.seen[0].parts()
    assert parts["first"] == ("t.bin", "application/octet-stream", content)
    assert parts["second"] == ("n.csv", "text/csv", b"a,b\n")
    assert parts["third"][2] == b"\x00\xff"
    assert parts["title"][2].decode() == "Möwe"
    assert parts["n"][2] == b"3"


async def test_parameters_and_headers_arrive(server: HttpServer, executor: HttpToolExecutor) -> None:
    await executor.execute(
        {
            "url": server.url("/find?a=1"),
            "params": {"q": "x y&z", "on": False, "many": [1, 2], "none": None},
            "headers": {"X-One": "é", "X-Number": 5, "X-None": None},
        }
    )

    (seen,) = server.seen
    assert seen.query == [("a", "1"), ("q", "x y&z"), ("on", "false"), ("many", "1"), ("many", "2")]
    assert seen.headers["x-one"].encode("latin-1").decode() == "é"
    assert seen.headers["x-number"] == "5"
    assert "x-none" not in seen.headers


@pytest.mark.parametrize(
    ("method", "key"), [("GET", None), ("HEAD", None), ("OPTIONS", None), ("POST", "key-1"), ("DELETE", "key-1")]
)
async def test_requests_with_effects_carry_the_steps_idempotency_key(
    server: HttpServer, steps: HttpSteps, tmp_path: Path, method: str, key: str | None
) -> None:
    await steps.execute(call_for({"url": server.url(), "method": method}, tmp_path))

    assert server.seen[0].headers.get("idempotency-key") == key


async def test_an_idempotency_key_of_the_plan_is_kept(server: HttpServer, steps: HttpSteps, tmp_path: Path) -> None:
    request = {"url": server.url(), "method": "POST", "headers": {"idempotency-key": "mine"}}

    await steps.execute(call_for(request, tmp_path))

    assert server.seen[0].headers["idempotency-key"] == "mine"


async def test_a_user_in_the_address_becomes_a_header(server: HttpServer, executor: HttpToolExecutor) -> None:
    await executor.execute({"url": server.url().replace("//", "//joe:p%40w@")})

    assert server.seen[0].headers["authorization"] == "Basic " + base64.b64encode(b"joe:p@w").decode()


async def test_an_address_without_a_scheme_is_under_the_base(server: HttpServer) -> None:
    spec = ToolSpec(tool_name="api", base_url=server.url("/v1/"))
    async with HttpToolExecutor(spec) as executor:
        await executor.execute({"url": "/things", "params": {"u": "http://x"}})
        await executor.execute({})

    assert [seen.path for seen in server.seen] == ["/v1/things", "/v1/"]


# --- what cannot be sent


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": "ftp://host/x"}, "url: 'ftp://host/x' cannot be asked, scheme 'ftp' is not known"),
        ({"url": "file:///etc/passwd"}, "scheme 'file' is not known"),
        ({"url": "host/x"}, "url: 'host/x' cannot be asked, it has no scheme"),
        ({"url": "http:///x"}, "url: "),
        ({"url": "http://[::1"}, "is no address"),
        ({"url": "http://host:99999/"}, "is no address"),
        ({"url": "http://host/\r\nX: 1"}, "line ends"),
        ({"url": ""}, "url: is missing"),
        ({"method": "GE T"}, "method: 'GE T' is no method"),
        ({"method": "CONNECT"}, "method: 'CONNECT' is no method"),
        ({"headers": {"X": "a\r\nEvil: 1"}}, "headers.X: has a line end"),
        ({"headers": {"X\r\nEvil": "a"}}, "headers: 'X Evil' cannot be a header's name"),
        ({"headers": {"X": ["a"]}}, "headers.X: must be text"),
        ({"headers": {"Content-Length": "5"}}, "headers.Content-Length: is made from the body"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "headers.Transfer-Encoding: is made from the body"),
        ({"headers": ["X: a"]}, "headers: must be a mapping"),
        ({"params": {"a": {"b": 1}}}, "params.a: must be text"),
        ({"form": "a=b"}, "form: must be a mapping"),
        ({"json": {}, "body": "x"}, "json and body: only one of them can be sent"),
        ({"json": {}, "files": {"f": "x"}}, "json and files: only one"),
        ({"json": float("nan")}, "json: cannot be written as JSON"),
        ({"body": {"a": 1}}, "body: must be text"),
        ({"files": {"f": "gone.txt"}}, "files.f: "),
        ({"files": {"f": {"content": "x", "name": "a\r\nb"}}}, "files.f: its name or type"),
        ({"files": {"f": {"path": "x", "content": "x"}}}, "files.f: needs either"),
        ({"files": {"f": {"content": "x"}}, "headers": {"Content-Type": "x/y"}}, "headers.Content-Type: is made for"),
        ({"expect_status": "200"}, "expect_status: must be statuses"),
        ({"expect_status": [200, 7]}, "expect_status: must be statuses"),
        ({"save_to": "/nowhere/at/all/x"}, "save_to: there is no folder /nowhere/at/all"),
        ({"save_to": "."}, "is a folder"),
        ({"jsn": {}}, "unknown field 'jsn'"),
    ],
)
async def test_what_cannot_be_sent_is_told_before_anything_is(
    server: HttpServer, executor: HttpToolExecutor, fields: dict[str, Any], words: str
) -> None:
    error = await failure_of(executor.execute({"url": server.url(), "method": "POST", **fields}))

    assert error.error_type is ErrorType.USER_ERROR
    assert str(error).startswith("fetch: ")
    assert words in str(error)
    assert "\n" not in str(error)
    assert not server.seen


async def test_a_path_that_an_output_made_stays_in_the_folder(
    server: HttpServer, steps: HttpSteps, tmp_path: Path
) -> None:
    (tmp_path / "plan").mkdir()
    (tmp_path / "secret.txt").write_text("private")
    computed = "{{ steps.a.output.name }}"
    up = call_for(
        {"url": server.url(), "method": "POST", "files": {"f": "../secret.txt"}},
        tmp_path / "plan",
        written={"url": "x", "method": "POST", "files": {"f": computed}},
    )
    out = call_for(
        {"url": server.url(), "save_to": "../secret.txt"},
        tmp_path / "plan",
        written={"url": "x", "save_to": computed},
    )
    inside = call_for(
        {"url": server.url(), "save_to": "new.txt"}, tmp_path / "plan", written={"url": "x", "save_to": computed}
    )
    by_hand = call_for({"url": server.url(), "save_to": "../by-hand.txt"}, tmp_path / "plan")

    for call, field in ((up, "files.f"), (out, "save_to")):
        error = await failure_of(steps.execute(call))
        assert f"{field}: " in str(error)
        assert "a step's output led there" in str(error)
    await steps.execute(inside)
    await steps.execute(by_hand)

    assert (tmp_path / "secret.txt").read_text() == "private"
    assert (tmp_path / "plan" / "new.txt").exists()
    assert (tmp_path / "by-hand.txt").exists()


# --- what comes back


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": 1}', "application/problem+json; charset=utf-8", {"a": 1}),
        (b"\xef\xbb\xbf[1]", "application/json", [1]),
        ('{"a":"é"}'.encode("latin-1"), "application/json; charset=latin-1", {"a": "é"}),
        ("grün".encode(), "text/plain; charset=utf-8", "grün"),
        ("grün".encode("latin-1"), "text/plain; charset=ISO-8859-1", "grün"),
        ("grün".encode("utf-16"), "text/html; charset=utf-16", "grün"),
        (b"<a/>", "application/atom+xml", "<a/>"),
        (b"plain", "", "plain"),
        (b"\x00\x01", "", {"base64": "AAE=", "bytes": 2, "type": ""}),
        (b"text", "application/octet-stream", {"base64": "dGV4dA==", "bytes": 4, "type": "application/octet-stream"}),
        (b"\x89PNG", "image/png", {"base64": "iVBORw==", "bytes": 4, "type": "image/png"}),
        (b"", "application/json", None),
        (b"", "", None),
    ],
)
async def test_a_body_is_told_by_its_type(
    server: HttpServer, executor: HttpToolExecutor, body: bytes, kind: str, value: Any
) -> None:
    server.answers["/"] = answer(body, kind=kind)

    assert (await executor.execute({"url": server.url()}))["body"] == value


@pytest.mark.parametrize(
    ("body", "kind", "value", "warning"),
    [
        (b"{nope", "application/json", "{nope", "is JSON and is not"),
        (b'{"a": NaN}', "application/json", '{"a": NaN}', "is JSON and is not"),
        (b"[" * 300 + b"]" * 300, "application/json", "[" * 300 + "]" * 300, "nested deeper than 200"),
        (b"[" * 90_000, "application/json", "[" * 90_000, "is JSON and is not"),
        (b"gr\xfcn", "text/plain; charset=utf-8", "gr�n", "some characters of the answer are not utf-8"),
        (b"x", "text/plain; charset=klingon", "x", "charset 'klingon' is not known"),
        (b"eA==", "text/plain; charset=base64", "eA==", "charset 'base64' is not known"),
    ],
)
async def test_a_body_that_is_not_what_it_says_is_kept_as_text_with_a_warning(
    server: HttpServer, steps: HttpSteps, tmp_path: Path, body: bytes, kind: str, value: str, warning: str
) -> None:
    server.answers["/"] = answer(body, kind=kind)
    call = call_for({"url": server.url()}, tmp_path)

    outcome = await steps.execute(call)

    assert outcome.output["body"] == value
    (told,) = call.ports.warnings  # type: ignore[attr-defined]
    assert warning in told


@pytest.mark.parametrize(("items", "on_the_loop"), [(10, True), (200_000, False)])
async def test_a_large_answer_is_decoded_beside_the_loop(
    server: HttpServer, executor: HttpToolExecutor, monkeypatch: pytest.MonkeyPatch, items: int, on_the_loop: bool
) -> None:
    threads = []
    decode = http_answers.decode_json

    def watched(data: bytes | str) -> Any:
        threads.append(threading.current_thread())
        return decode(data)

    monkeypatch.setattr(http_answers, "decode_json", watched)
    server.answers["/"] = answer(list(range(items)))

    assert len((await executor.execute({"url": server.url()}))["body"]) == items
    assert [thread is threading.current_thread() for thread in threads] == [on_the_loop]


async def test_a_head_and_an_answer_without_content_have_no_body(
    server: HttpServer, executor: HttpToolExecutor
) -> None:
    server.answers["/"] = answer({"a": 1})
    server.answers["/none"] = raw(b"HTTP/1.1 204 No Content\r\n\r\n")

    head = await executor.execute({"url": server.url(), "method": "HEAD"})
    none = await executor.execute({"url": server.url("/none"), "method": "DELETE"})

    assert (head["body"], head["headers"]["content-length"]) == (None, "8")
    assert (none["status"], none["body"]) == (204, None)


async def test_repeated_headers_are_joined_and_cookies_listed(server: HttpServer, executor: HttpToolExecutor) -> None:
    server.answers["/"] = raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: 1\r\nx-a: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"
    )

    headers = (await executor.execute({"url": server.url()}))["headers"]

    assert headers["x-a"] == "1, 2"
    assert headers["set-cookie"] == ["a=1", "b=2"]


async def test_the_log_of_a_step_says_what_was_asked(server: HttpServer, steps: HttpSteps, tmp_path: Path) -> None:
    call = call_for({"url": server.url("/x?token=abc"), "method": "GET"}, tmp_path)

    await steps.execute(call)

    (line,) = call.ports.lines  # type: ignore[attr-defined]
    assert line.startswith(f"GET {server.url('/x')}: 200 OK, ")
    assert "abc" not in line


# --- limits


async def test_an_answer_larger_than_an_output_is_refused_whether_it_says_so_or_not(server: HttpServer) -> None:
    server.answers["/told"] = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nx", hang_up=False)
    server.answers["/endless"] = endless()
    server.answers["/small"] = answer("x" * 2_000, kind="text/plain")
    async with HttpToolExecutor(ToolSpec(tool_name="fetch", timeout=PATIENCE)) as executor:
        for path in ("/told", "/endless"):
            error = await failure_of(executor.execute({"url": server.url(path)}))
            assert error.error_type is ErrorType.USER_ERROR
            assert "10,485,760 bytes that an output may have" in str(error)
            assert "save_to" in error.hint
            await asyncio.wait_for(server.exchanges[-1].hung_up.wait(), PATIENCE)
    async with HttpToolExecutor(ToolSpec(tool_name="fetch", max_bytes=1_000)) as executor:
        assert "1,000 bytes" in str(await failure_of(executor.execute({"url": server.url("/small")})))


async def test_a_small_answer_that_unpacks_to_a_large_one_is_refused(
    server: HttpServer, executor: HttpToolExecutor
) -> None:
    bomb = gzip.compress(gzip.compress(b"") + b"\0" * 200_000_000)
    server.answers["/"] = answer(bomb, kind="application/json", headers={"Content-Encoding": "gzip"})

    error = await failure_of(executor.execute({"url": server.url()}))

    assert len(bomb) < 300_000
    assert "larger than the 10,485,760 bytes" in str(error)


async def test_an_answer_that_unpacks_without_end_does_not_fill_the_disk(
    server: HttpServer, executor: HttpToolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_answers, "MOST_UNPACKED", 1_000_000)
    server.answers["/bomb"] = answer(gzip.compress(b"\0" * 50_000_000), headers={"Content-Encoding": "gzip"})
    server.answers["/plain"] = answer(b"\0" * 5_000_000)

    error = await failure_of(executor.execute({"url": server.url("/bomb"), "save_to": str(tmp_path / "a")}))
    await executor.execute({"url": server.url("/plain"), "save_to": str(tmp_path / "b")})

    assert "unpacks to more than 100 times what was sent" in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


async def test_a_packed_answer_is_unpacked(server: HttpServer, executor: HttpToolExecutor, tmp_path: Path) -> None:
    server.answers["/"] = answer(
        gzip.compress(b'{"a": 1}'), kind="application/json", headers={"Content-Encoding": "gzip"}
    )

    assert (await executor.execute({"url": server.url()}))["body"] == {"a": 1}
    await executor.execute({"url": server.url(), "save_to": str(tmp_path / "a.json")})
    assert (tmp_path / "a.json").read_bytes() == b'{"a": 1}'


async def test_a_large_binary_answer_must_be_saved(server: HttpServer, executor: HttpToolExecutor) -> None:
    server.answers["/"] = answer(b"\0" * 8_000_000, kind="image/png")

    assert "save_to" in (await failure_of(executor.execute({"url": server.url()}))).hint


# --- saving


async def test_an_answer_is_saved_whole_whatever_its_size(server: HttpServer, steps: HttpSteps, tmp_path: Path) -> None:
    content = bytes(range(256)) * 100_000
    server.answers["/"] = answer(content, kind="image/png")
    (tmp_path / "a.png").write_bytes(b"old")

    outcome = await steps.execute(call_for({"url": server.url(), "save_to": "a.png"}, tmp_path))

    assert outcome.output["body"] == {
        "path": str(tmp_path / "a.png"),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert (tmp_path / "a.png").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    "bad",
    [
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 3_000_000),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nContent-Encoding: gzip\r\n\r\n" + b"x" * 99),
        answer("no", status="500 Broken"),
    ],
    ids=["cut", "cut between chunks", "not gzip", "failed"],
)
async def test_what_is_not_whole_leaves_the_old_file(
    server: HttpServer, executor: HttpToolExecutor, tmp_path: Path, bad: Any
) -> None:
    server.answers["/"] = bad
    (tmp_path / "a.txt").write_text("old")

    error = await failure_of(executor.execute({"url": server.url(), "save_to": str(tmp_path / "a.txt")}))

    assert error.error_type is ErrorType.SERVER_ERROR
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


async def test_a_disk_that_is_full_is_told(
    server: HttpServer, executor: HttpToolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource
    import signal

    server.answers["/"] = answer(b"x" * 5_000_000)
    monkeypatch.setattr(signal, "SIGXFSZ", signal.SIGXFSZ)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
    try:
        error = await failure_of(executor.execute({"url": server.url(), "save_to": str(tmp_path / "a.bin")}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)

    assert "save_to: " in str(error)
    assert "cannot be written" in str(error)
    assert error.error_type is ErrorType.USER_ERROR
    assert not list(tmp_path.iterdir())


# --- statuses


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        ("400 Bad Request", ErrorType.USER_ERROR),
        ("401 Unauthorized", ErrorType.USER_ERROR),
        ("404 Not Found", ErrorType.USER_ERROR),
        ("408 Request Timeout", ErrorType.TIMEOUT),
        ("429 Too Many Requests", ErrorType.RATE_LIMIT),
        ("500 Internal Server Error", ErrorType.SERVER_ERROR),
        ("503 Service Unavailable", ErrorType.SERVER_ERROR),
        ("529 Overloaded", ErrorType.SERVER_ERROR),
    ],
)
async def test_a_failed_status_says_what_the_server_said(
    server: HttpServer, executor: HttpToolExecutor, status: str, error_type: ErrorType
) -> None:
    server.answers["/x"] = answer({"error": "look here"}, status=status)

    error = await failure_of(executor.execute({"url": server.url("/x"), "method": "PUT"}))

    assert str(error) == f'fetch: PUT {server.url("/x")}: {status}: {{"error": "look here"}}'
    assert error.error_type is error_type
    assert error.details["status"] == int(status[:3])
    assert error.retry_after is None


async def test_a_hostile_body_makes_a_short_flat_message(server: HttpServer, executor: HttpToolExecutor) -> None:
    server.answers["/"] = answer("\x1b[31mred\x07\r\n‮" + "long " * 5_000, status="500 \x1b[1mBad", kind="text/html")

    error = await failure_of(executor.execute({"url": server.url()}))

    assert str(error).isprintable()
    assert len(str(error)) < 500
    assert "red" in str(error)


async def test_a_failed_status_is_told_although_its_body_never_ends(
    server: HttpServer, executor: HttpToolExecutor
) -> None:
    server.answers["/"] = endless(head=b"HTTP/1.1 503 Busy\r\nContent-Type: text/plain\r\n\r\n")

    assert "503 Busy: xxx" in str(await failure_of(executor.execute({"url": server.url()})))
    await asyncio.wait_for(server.exchanges[0].hung_up.wait(), PATIENCE)


async def test_a_wait_that_the_server_asks_for_is_known(server: HttpServer) -> None:
    clock = FakeClock()
    date = format_datetime(clock.now() + timedelta(seconds=90), usegmt=True)
    slow = "429 Slow Down"
    server.answers["/seconds"] = answer(status=slow, headers={"Retry-After": "7"})
    server.answers["/date"] = answer(status="503 Busy", headers={"Retry-After": date})
    server.answers["/past"] = answer(status=slow, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
    server.answers["/junk"] = answer(status=slow, headers={"Retry-After": "soon"})
    server.answers["/for ever"] = answer(status=slow, headers={"Retry-After": "9" * 400})
    server.answers["/long"] = answer(status=slow, headers={"Retry-After": "999999999999"})

    async with HttpToolExecutor(ToolSpec(tool_name="fetch"), clock) as executor:
        waits = {
            path: (await failure_of(executor.execute({"url": server.url(path)}))).retry_after
            for path in ("/seconds", "/date", "/past", "/junk", "/long")
        }

    assert waits == {"/seconds": 7.0, "/date": 90.0, "/past": 0.0, "/junk": None, "/long": 365 * 86_400.0}


async def test_expect_status_says_which_answers_are_fine(server: HttpServer, executor: HttpToolExecutor) -> None:
    server.answers["/gone"] = answer("none", status="404 Not Found", kind="text/plain")
    server.answers["/moved"] = redirect("/elsewhere")

    gone = await executor.execute({"url": server.url("/gone"), "expect_status": [200, 404]})
    moved = await executor.execute({"url": server.url("/moved"), "expect_status": 302})
    error = await failure_of(executor.execute({"url": server.url(), "expect_status": [201, 202]}))

    assert (gone["status"], gone["body"]) == (404, "none")
    assert (moved["status"], moved["headers"]["location"]) == (302, "/elsewhere")
    assert "200 OK, expected 201 or 202" in str(error)
    assert error.error_type is ErrorType.TOOL_ERROR


# --- redirects


async def test_redirects_are_followed_as_their_status_says(server: HttpServer, executor: HttpToolExecutor) -> None:
    for status in ("301 M", "302 F", "303 S", "307 T", "308 P"):
        server.answers[f"/{status[:3]}"] = redirect("end?x=1", status)

    methods = {}
    for path in ("/301", "/302", "/303", "/307", "/308"):
        server.seen.clear()
        await executor.execute({"url": server.url(path), "method": "POST", "json": {"a": 1}, "headers": {"X-K": "v"}})
        end = server.seen[-1]
        methods[path] = (end.target, end.method, end.body, end.headers.get("content-type"), end.headers["x-k"])

    lost = ("/end?x=1", "GET", b"", None, "v")
    kept = ("/end?x=1", "POST", b'{"a":1}', "application/json", "v")
    assert methods == {"/301": lost, "/302": lost, "/303": lost, "/307": kept, "/308": kept}


async def test_a_redirect_loop_ends(server: HttpServer, executor: HttpToolExecutor) -> None:
    server.answers["/a"] = redirect("/b")
    server.answers["/b"] = redirect("/a")

    error = await failure_of(executor.execute({"url": server.url("/a")}))

    assert "redirects more than 5 times" in str(error)
    assert error.error_type is ErrorType.USER_ERROR
    assert len(server.seen) == 6


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://h/x", "http://[::1", "javascript:alert(1)"])
async def test_redirects_lead_to_http_only(server: HttpServer, executor: HttpToolExecutor, target: str) -> None:
    server.answers["/"] = redirect(target)

    error = await failure_of(executor.execute({"url": server.url()}))

    assert "redirects to" in str(error)
    assert error.error_type is ErrorType.USER_ERROR


async def test_another_host_is_told_no_secrets(
    server: HttpServer, other: HttpServer, steps: HttpSteps, tmp_path: Path
) -> None:
    server.answers["/"] = redirect(other.url("/there").replace("//", "//in:jected@"))
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Api-Key": TOKEN, "Cookie": "a=b", "X-Any": "1", "Accept": "a/b"}
    call = call_for({"url": server.url().replace("127.0.0.1", "localhost"), "headers": headers}, tmp_path)

    await steps.execute(call)

    assert TOKEN in server.seen[0].headers["authorization"]
    (there,) = other.seen
    assert TOKEN not in str(there)
    assert not {"authorization", "cookie", "x-any", "x-api-key"} & set(there.headers)
    assert there.headers["accept"] == "a/b"
    (warning,) = call.ports.warnings  # type: ignore[attr-defined]
    assert "asked without Authorization, X-Api-Key, Cookie, X-Any" in warning


async def test_a_body_is_not_sent_on_to_another_host(
    server: HttpServer, other: HttpServer, executor: HttpToolExecutor
) -> None:
    server.answers["/"] = redirect(other.url(), "307 Temporary")

    error = await failure_of(executor.execute({"url": server.url(), "method": "POST", "json": {"password": "x"}}))

    assert "to another host" in str(error)
    assert not other.seen


async def test_cookies_live_for_one_call(server: HttpServer, steps: HttpSteps, tmp_path: Path) -> None:
    server.answers["/login"] = redirect("/home", **{"Set-Cookie": "session=abc; Path=/"})

    await steps.execute(call_for({"url": server.url("/login")}, tmp_path))
    await steps.execute(call_for({"url": server.url("/home")}, tmp_path))
    await steps.execute(call_for({"url": server.url("/home")}, tmp_path, run_id="run-2"))

    assert [seen.headers.get("cookie") for seen in server.seen] == [None, "session=abc", None, None]


# --- no whole answer


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (raw(b""), "the server closed the connection without an answer"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Le"), "the server closed the connection without an answer"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"), "before the whole body had come"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), "before the whole body"),
        (raw(b"SSH-2.0-OpenSSH_9.0\r\n\r\n"), "the answer is not HTTP as it should be"),
        (raw(b"HTTP/1.1 abc OK\r\n\r\n"), "the answer is not HTTP as it should be"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), "the answer is not HTTP as it should be"),
        (raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20_000 + b"\r\n\r\n"), "the answer is not HTTP as it should be"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour and more"), "the answer is not HTTP as it should be"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!"), "the body is broken"),
    ],
    ids=["before", "in the head", "in the body", "between chunks", "ssh", "status", "length", "header", "more", "gzip"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_broken_answer_is_the_servers_error_and_the_request_is_sent_once(
    server: HttpServer, executor: HttpToolExecutor, bad: Any, words: str, method: str
) -> None:
    server.answers["/"] = bad

    error = await failure_of(executor.execute({"url": server.url(), "method": method}))

    assert error.error_type is ErrorType.SERVER_ERROR
    assert str(error).startswith(f"fetch: {method} {server.url()}: ")
    assert words in str(error)
    assert len(server.seen) == 1


async def test_a_server_that_cannot_be_reached_is_told(executor: HttpToolExecutor) -> None:
    async with HttpServer() as gone:
        url = gone.url()
    refused = await failure_of(executor.execute({"url": url}))
    unknown = await failure_of(executor.execute({"url": "http://no-such-host.invalid/"}))

    assert "connection refused" in str(refused)
    assert "there is no host 'no-such-host.invalid'" in str(unknown)
    assert refused.error_type is unknown.error_type is ErrorType.SERVER_ERROR


@pytest.mark.needs("openssl")
async def test_what_is_wrong_with_tls_is_told(executor: HttpToolExecutor, tmp_path: Path) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost"
    subprocess.run(
        shlex.split(command),
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    async with HttpServer(tls=context) as secure:
        untrusted = await failure_of(executor.execute({"url": secure.url()}))
        assert not secure.seen
    async with HttpServer(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as plain_server:
        plain = await failure_of(executor.execute({"url": plain_server.url().replace("http:", "https:")}))

    assert "the certificate of 127.0.0.1" in str(untrusted)
    assert "self-signed certificate" in str(untrusted)
    assert "does not speak TLS" in str(plain)


# --- time


async def drip(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not exchange.hung_up.is_set():
        await exchange.send(b".")
        await asyncio.wait([asyncio.ensure_future(exchange.hung_up.wait())], timeout=0.01)


async def silence(exchange: Exchange) -> None:
    await exchange.hung_up.wait()


@pytest.mark.parametrize("slow", [drip, silence, endless(b"x" * 1_000)], ids=["drips", "says nothing", "never ends"])
async def test_the_timeout_is_for_the_whole_call(server: HttpServer, slow: Any) -> None:
    server.answers["/"] = slow
    async with HttpToolExecutor(ToolSpec(tool_name="fetch", timeout=0.3, max_bytes=10**12)) as executor:
        with pytest.raises(CallTimeoutError, match=r"longer than its timeout of 0\.3 s") as caught:
            await executor.execute({"url": server.url()})

    assert caught.value.error_type is ErrorType.TIMEOUT
    await asyncio.wait_for(server.exchanges[0].hung_up.wait(), PATIENCE)


@pytest.mark.parametrize("slow", [drip, silence, endless()], ids=["drips", "says nothing", "never ends"])
async def test_cancelling_a_step_closes_its_connection_at_once(
    server: HttpServer, steps: HttpSteps, tmp_path: Path, slow: Any
) -> None:
    server.answers["/"] = slow
    call = call_for({"url": server.url(), "save_to": "a.bin"}, tmp_path)
    work = asyncio.create_task(steps.execute(call))
    exchange = await server.exchange()

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    await asyncio.wait_for(exchange.hung_up.wait(), PATIENCE)
    assert not list(tmp_path.iterdir())


async def test_cancelling_an_upload_that_nobody_takes_closes_its_connection(steps: HttpSteps, tmp_path: Path) -> None:
    lost = asyncio.Event()

    async def hold(exchange: Exchange) -> None:
        try:
            while True:
                await exchange.send(b"HTTP/1.1 102 Processing\r\n\r\n")
                await asyncio.wait([asyncio.ensure_future(lost.wait())], timeout=0.01)
        except ConnectionError:
            lost.set()

    async with HttpServer(reads_bodies=False) as server:
        server.answers["/"] = hold
        request = {"url": server.url(), "method": "POST", "body": "x" * 50_000_000}
        work = asyncio.create_task(steps.execute(call_for(request, tmp_path)))
        await server.exchange()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

        await asyncio.wait_for(lost.wait(), PATIENCE)


# --- connections


async def test_all_steps_share_connections_and_nothing_else(
    server: HttpServer, steps: HttpSteps, tmp_path: Path
) -> None:
    for run, step in (("run-1", "a"), ("run-1", "b"), ("run-2", "c")):
        call = call_for({"url": server.url()}, tmp_path, run_id=run, step={"description": step})
        for _ in range(5):
            await steps.execute(call)

    assert len(server.seen) == 15
    assert server.connections == 1


async def test_a_kept_connection_that_the_server_closed_is_made_anew(
    server: HttpServer, executor: HttpToolExecutor
) -> None:
    server.answers["/"] = [answer("1"), raw(b""), answer("2")]

    await executor.execute({"url": server.url()})
    again = await executor.execute({"url": server.url()})
    server.answers["/"] = [answer("1"), raw(b""), answer("2")]
    await executor.execute({"url": server.url()})
    once = await failure_of(executor.execute({"url": server.url(), "method": "POST"}))

    assert again["body"] == "2"
    assert "without an answer" in str(once)


async def test_the_session_stays_the_same_until_it_is_closed(server: HttpServer) -> None:
    async with HttpToolExecutor(ToolSpec(tool_name="fetch")) as executor:
        session = await executor._get_session()
        assert await executor._get_session() is session
        await executor.close()
        assert session.closed
        await executor.execute({"url": server.url()})
        assert await executor._get_session() is not session


def test_a_loop_that_ends_leaves_no_connection_open() -> None:
    code = (
        "import asyncio, gc\n"
        "from stepchain_tui.executors.http import HttpExecutorFactory, ToolSpec\n"
        "from tests.support.http_server import HttpServer\n"
        "executor = HttpExecutorFactory.create_executor(ToolSpec(tool_name='t'))\n"
        "async def main():\n"
        "    async with HttpServer() as server:\n"
        "        print((await executor.execute({'url': server.url()}))['status'])\n"
        "        dropped = HttpExecutorFactory.create_executor(ToolSpec(tool_name='t'))\n"
        "        print((await dropped.execute({'url': server.url()}))['status'])\n"
        "asyncio.run(main()); gc.collect(); asyncio.run(main()); gc.collect()\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert done.stdout.split() == ["200"] * 4, done.stderr
    assert "nclosed" not in done.stderr


# --- secrets


async def test_errors_show_no_secrets(
    server: HttpServer, steps: HttpSteps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "from-the-environment")
    said = f"bad {TOKEN} and from-the-environment and session-cookie-1 and hunter22-pw and q-secret-9"
    server.answers["/x"] = answer(said, status=f"401 No {TOKEN}", kind="text/plain")
    request = {
        "url": server.url("/x?api_key=q-secret-9").replace("//", "//joe:hunter22-pw@"),
        "headers": {"X-Custom": "1", "Cookie": "session-cookie-1"},
    }

    error = await failure_of(steps.execute(call_for(request, tmp_path, secrets={"API": TOKEN})))

    told = f"{error} {json.dumps(error.details)}"
    for secret in (TOKEN, "from-the-environment", "session-cookie-1", "hunter22-pw", "q-secret-9"):
        assert secret not in told
    assert "[secret API]" in told


# --- proxies


async def test_the_proxy_of_the_environment_is_asked(server: HttpServer, steps: HttpSteps, tmp_path: Path) -> None:
    environment = {"http_proxy": server.url().replace("//", "//me:pw@"), "NO_PROXY": "127.0.0.1,.inside"}
    server.answers["/"] = answer("through", kind="text/plain")

    far = call_for({"url": "http://far.example/"}, tmp_path, environment=environment)
    near = call_for({"url": server.url()}, tmp_path, environment=environment)
    outcome = await steps.execute(far)
    await steps.execute(near)

    assert outcome.output["body"] == "through"
    assert [seen.target for seen in server.seen] == ["http://far.example/", "/"]
    assert server.seen[0].headers["proxy-authorization"].startswith("Basic ")
    assert "proxy-authorization" not in server.seen[1].headers
    bad = call_for({"url": "http://far.example/"}, tmp_path, environment={"HTTP_PROXY": "socks5://u:secret@h:1"})
    error = await failure_of(steps.execute(bad))
    assert "HTTP_PROXY" in str(error)
    assert "secret" not in str(error)


# --- tries outside of plans


async def test_a_call_outside_of_plans_is_tried_as_its_spec_says(server: HttpServer) -> None:
    server.answers["/"] = [
        answer(status="503 Busy"),
        answer(status="429 Slow", headers={"Retry-After": "5"}),
        answer("fine"),
    ]
    clock = FakeClock()
    async with HttpToolExecutor(ToolSpec(tool_name="fetch", retry={"max_attempts": 3}), clock) as executor:
        work = asyncio.create_task(executor.execute({"url": server.url(), "method": "POST"}))
        for number, seconds in enumerate((1.0, 5.0)):
            await server.exchange(number)
            async with asyncio.timeout(PATIENCE):
                while clock.next_wake is None:
                    await asyncio.sleep(0)
            assert clock.next_wake - clock.now() == timedelta(seconds=seconds)
            clock.advance(seconds)
        assert (await work)["body"] == "fine"
        server.answers["/no"] = answer(status="404 No")
        await failure_of(executor.execute({"url": server.url("/no")}))

    assert len(server.seen) == 4


def test_a_wrong_retry_names_its_key() -> None:
    with pytest.raises(UsageError, match=r"fetch: retry.max_attempts: "):
        HttpToolExecutor(ToolSpec(tool_name="fetch", retry={"max_attempts": 0}))


# --- document 004


class SeedGraphQL(BaseHttpExecutor):
    async def _execute_http_request(self, args, ctx, timeout):  # type: ignore[no-untyped-def]
        query = args.get("query")
        variables = args.get("variables", {})

        session = await self._get_session()
        async with session.post(
            self.spec.base_url,
            json={"query": query, "variables": variables},
            timeout=aiohttp.ClientTimeout(total=timeout),
        ) as response:
            data = await response.json()
            return {"status": response.status, "data": data}


async def test_the_documents_executor_runs_and_replaces_ours(
    server: HttpServer, steps: HttpSteps, tmp_path: Path
) -> None:
    server.answers["/"] = answer({"data": {"me": 1}})
    HttpExecutorFactory.register("graphql", SeedGraphQL)
    try:
        executor = HttpExecutorFactory.create_executor(
            ToolSpec(tool_name="ask", base_url=server.url()), executor_type="graphql"
        )
        assert isinstance(executor, SeedGraphQL)
        async with executor:
            result = await executor.execute({"query": "{ me }"}, None)
        request = {"url": server.url(), "json": {"query": "{ me }", "variables": {"a": 1}}}
        outcome = await steps.execute(call_for(request, tmp_path, step={"executor": "graphql"}))
    finally:
        HttpExecutorFactory.unregister("graphql")

    assert result == outcome.output == {"status": 200, "data": {"data": {"me": 1}}}
    assert json.loads(server.seen[0].body) == {"query": "{ me }", "variables": {}}
    assert json.loads(server.seen[1].body) == {"query": "{ me }", "variables": {"a": 1}}
    assert HttpExecutorFactory.get_executor_class("graphql") is GraphQLExecutor


async def test_a_custom_executor_inherits_time_words_and_secrecy(
    server: HttpServer, steps: HttpSteps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "from-the-environment")

    class Leaky(SeedGraphQL):
        async def _execute_http_request(self, args, ctx, timeout):  # type: ignore[no-untyped-def]
            if "query" in args:
                return await super()._execute_http_request(args, ctx, timeout)
            raise KeyError("from-the-environment")

    server.answers["/"] = silence
    async with Leaky(ToolSpec(tool_name="ask", base_url=server.url(), timeout=0.2)) as executor:
        with pytest.raises(CallTimeoutError):
            await executor.execute({"query": "x"})
        leak = await failure_of_any(executor.execute({}))
    async with Leaky(ToolSpec(tool_name="ask", base_url="http://127.0.0.1:1/")) as executor:
        refused = await failure_of(executor.execute({"query": "x"}))

    assert "from-the-environment" not in str(leak)
    assert leak.__cause__ is None
    assert str(refused) == "ask: cannot connect to 127.0.0.1:1 (connection refused)"


async def failure_of_any(work: Any) -> Exception:
    with pytest.raises(Exception) as caught:
        await work
    return caught.value


async def test_graphql_in_a_plan(server: HttpServer, steps: HttpSteps, tmp_path: Path) -> None:
    server.answers["/graphql"] = [
        answer({"data": {"me": {"name": "Ada"}}}),
        answer({"errors": [{"message": "no such\nfield", "path": ["me", 0]}, {"message": "b"}], "data": None}),
        answer({"errors": [{"message": "wait", "extensions": {"code": "THROTTLED"}}]}),
        answer("<html>", kind="text/html"),
    ]
    request = {"url": server.url("/graphql"), "json": {"query": "query($id: ID) { me }", "variables": {"id": 5}}}

    def call() -> StepCall:
        return call_for(request, tmp_path, step={"executor": "graphql"})

    outcome = await steps.execute(call())
    failed = await failure_of(steps.execute(call()))
    limited = await failure_of(steps.execute(call()))
    no_json = await failure_of(steps.execute(call()))
    del request["json"]["query"]  # type: ignore[attr-defined]
    no_query = await failure_of(steps.execute(call()))

    assert outcome.output == {"status": 200, "data": {"data": {"me": {"name": "Ada"}}}}
    assert json.loads(server.seen[0].body) == {"query": "query($id: ID) { me }", "variables": {"id": 5}}
    assert server.seen[0].method == "POST"
    assert str(failed) == "fetch: GraphQL: no such field (at me.0), and 1 more"
    assert failed.error_type is ErrorType.TOOL_ERROR
    assert limited.error_type is ErrorType.RATE_LIMIT
    assert "no GraphQL answer" in str(no_json)
    assert str(no_query) == "fetch: query: is missing"


# --- in plans


async def test_a_plan_waits_as_the_server_asks_and_keeps_no_secret(
    server: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE", TOKEN)
    server.answers["/login"] = [
        answer(f"slow down, {TOKEN}", status="429 Too Many Requests", headers={"Retry-After": "30"}),
        answer({"user": "Ada", "token": TOKEN}, headers={"X-Echo": TOKEN}),
    ]
    steps = (
        {
            "id": "login",
            "http": {"url": server.url("/login"), "headers": {"Authorization": "Bearer {{ secrets.SERVICE }}"}},
        },
        {
            "id": "send",
            "http": {
                "url": server.url("/send"),
                "method": "POST",
                "json": {"user": "{{ steps.login.output.body.user }}", "n": "{{ 1 + 1 }}"},
                "params": {"status": "{{ steps.login.output.status }}"},
            },
        },
    )
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of(*steps, secrets=["SERVICE"]))

        assert run.statuses == {"login": "succeeded", "send": "succeeded"}
        assert bench.clock.jumps == [30.0]
        assert server.seen[0].headers["authorization"] == f"Bearer {TOKEN}"
        assert server.seen[2].query == [("status", "200")]
        assert json.loads(server.seen[2].body) == {"user": "Ada", "n": 2}
        assert server.seen[2].headers["idempotency-key"]
        assert run.outputs["login"]["body"] == {"user": "Ada", "token": "[secret SERVICE]"}
        assert TOKEN not in str(await run.events()) + str(await run.log())
        assert any("POST" in line.text for line in await run.log("send"))


@pytest.mark.parametrize("executor", ["standard", "graphql"])
async def test_a_step_of_any_type_that_takes_too_long_timed_out(
    server: HttpServer, tmp_path: Path, executor: str
) -> None:
    server.answers["/"] = silence
    step = {
        "id": "slow",
        "http": {"url": server.url(), "json": {"query": "{ me }"}},
        "executor": executor,
        "timeout": 0.2,
        "retry": {"max_attempts": 1},
    }
    HttpExecutorFactory.register("graphql", SeedGraphQL)
    try:
        async with Bench(folder=tmp_path) as bench:
            run = await bench.run(plan_of(step))
    finally:
        HttpExecutorFactory.unregister("graphql")

    assert run.statuses == {"slow": "timed_out"}
    await asyncio.wait_for(server.exchanges[0].hung_up.wait(), PATIENCE)
