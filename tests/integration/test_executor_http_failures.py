"""HTTP steps against servers that refuse, send on, lie, drip and hang up."""

from __future__ import annotations

import asyncio
import json
import shlex
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.clock import FakeClock
from stepchain_tui.executors.base import CallTimeoutError
from stepchain_tui.executors.http import (
    HttpSteps,
    HttpToolExecutor,
    ToolSpec,
)
from stepchain_tui.run import ErrorType
from tests.support.command_line import ROOT
from tests.support.http_calls import TOKEN, call_for, failure_of, silence
from tests.support.http_server import PATIENCE, Exchange, HttpServer, answer, endless, raw, redirect


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


@pytest.mark.parametrize("status", ["101 Switching Protocols", "099 Odd"])
async def test_a_status_under_200_is_no_success(server: HttpServer, executor: HttpToolExecutor, status: str) -> None:
    server.answers["/"] = raw(f"HTTP/1.1 {status}\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n".encode())

    error = await failure_of(executor.execute({"url": server.url()}))

    assert error.error_type is ErrorType.TOOL_ERROR
    assert error.details["status"] == int(status[:3])


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


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://h/x", "http://[::1", "http://xn--a/", "javascript:alert(1)"]
)
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


@pytest.mark.parametrize("slow", [drip, silence, endless(b"x" * 1_000)], ids=["drips", "says nothing", "never ends"])
async def test_the_timeout_is_for_the_whole_call(server: HttpServer, executor: HttpToolExecutor, slow: Any) -> None:
    await executor.execute({"url": server.url("/first")})  # loads what requests need, which may take longer than a call
    server.answers["/"] = slow
    async with HttpToolExecutor(ToolSpec(tool_name="fetch", timeout=1.0, max_bytes=10**12)) as hasty:
        with pytest.raises(CallTimeoutError, match=r"longer than its timeout of 1 s") as caught:
            await hasty.execute({"url": server.url()})

    assert caught.value.error_type is ErrorType.TIMEOUT
    await asyncio.wait_for(server.exchanges[1].hung_up.wait(), PATIENCE)


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
