"""HTTP steps against a real server over loopback: what is sent, what comes back, and how much."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.executors.http import (
    HttpSteps,
    HttpToolExecutor,
    ToolSpec,
)
from stepchain_tui.executors.http import answers as http_answers
from stepchain_tui.run import ErrorType
from tests.support.http_calls import call_for, failure_of
from tests.support.http_server import PATIENCE, HttpServer, answer, endless, raw


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
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


@pytest.mark.parametrize("kind", ["files", "body"])
async def test_a_server_may_answer_before_it_has_the_whole_body(steps: HttpSteps, tmp_path: Path, kind: str) -> None:
    size = 8_000_000
    (tmp_path / "large.bin").write_bytes(b"x" * size)
    fields = {"files": {"f": "large.bin"}} if kind == "files" else {"body": "x" * size}
    arrived = 0

    async def answer_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while arrived < size and (data := await reader.read(65_536)):
            arrived += len(data)
        writer.write(b"4\r\ndone\r\n0\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(answer_at_once, "127.0.0.1", 0)
    async with listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
        call = call_for({"url": url, "method": "POST", **fields}, tmp_path)
        outcome = await asyncio.wait_for(steps.execute(call), PATIENCE)

    assert outcome.output["body"] == "done"
    assert arrived >= size


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
        ({"save_to": "a" * 256}, "cannot be a file (File name too long)"),
        ({"save_to": "a/" * 3000 + "b"}, "cannot be a file (File name too long)"),
        ({"save_to": "a\ud800"}, "save_to: "),
        ({"save_to": "a\udc80"}, "cannot be a file (it holds half of a character)"),
        ({"save_to": "/nowhere\x1b[2J\n/x"}, "save_to: there is no folder /nowhere?[2J"),
        ({"files": {"f": "a" * 256}}, "cannot be read (File name too long)"),
        ({"url": "http://xn--a/"}, "is no address"),
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


async def test_a_path_of_an_output_that_cannot_be_one_is_told(
    server: HttpServer, steps: HttpSteps, tmp_path: Path
) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for made in ("a" * 256, "a\ud800", "circle/x"):
        call = call_for({"url": server.url(), "save_to": made}, tmp_path, written={"url": "x", "save_to": "{{ item }}"})
        assert "fetch: save_to: " in str(await failure_of(steps.execute(call)))
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


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, "😀" * 63, ".part"])
async def test_a_file_may_have_as_long_a_name_as_a_file_can(
    server: HttpServer, executor: HttpToolExecutor, tmp_path: Path, name: str
) -> None:
    server.answers["/"] = answer("text")

    await executor.execute({"url": server.url(), "save_to": str(tmp_path / name)})

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "text")]


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
