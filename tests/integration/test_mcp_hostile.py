"""A server that means harm: what it sends and what it makes us send holds up nobody and shows no secret."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from stepchain_tui.core.secrets import Redactor
from stepchain_tui.mcp import McpServer, McpServers
from stepchain_tui.mcp.gate import GatedTransport
from stepchain_tui.mcp.log import ServerLog
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from tests.support.mcp_servers import PATIENCE, no_orphans, servers_in, spec_of, until

SERVER = r"""
import json, os, sys, time

out = sys.stdout.buffer
mode = sys.argv[1]

def send(message):
    out.write((message if isinstance(message, bytes) else json.dumps(message).encode()) + b"\n")
    out.flush()

def text(number, words):
    send({"jsonrpc": "2.0", "id": number, "result": {"content": [{"type": "text", "text": words}]}})

for line in sys.stdin:
    message = json.loads(line)
    number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
    if method == "initialize":
        if mode == "slow":
            while not os.path.exists("go"):
                time.sleep(0.01)
        told = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {"listChanged": True}}}
        send({"jsonrpc": "2.0", "id": number, "result": {**told, "serverInfo": {"name": "bad", "version": "1"}}})
    elif method == "tools/list":
        names = ["echo", "half", "bytes", "broken", "shape", "flood", "blank"]
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
        send({"jsonrpc": "2.0", "id": number, "result": {"tools": tools}})
    elif method == "tools/call":
        name, given = params["name"], params.get("arguments") or {}
        if name == "echo":
            print("called with " + json.dumps(given), file=sys.stderr, flush=True)
            text(number, json.dumps(given))
        elif name == "half":
            text(number, "cut in the middle of \ud83d")
        elif name == "bytes":
            send(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"\xff!"}]}}' % number)
        elif name == "broken":
            send({"user": "no answer at all", "id": number})
            send(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"cut' % number)
        elif name == "shape":
            send(b'{"jsonrpc":"2.0","result":7,"id":%d}' % number)
        elif name == "flood":
            for count in range(given["count"]):
                send({"jsonrpc": "2.0", "method": given["method"], **({"id": count} if given["request"] else {})})
            text(number, "done")
        elif name == "blank":
            while True:
                out.write(b"\n" * 65536)
    elif number is not None and method:
        send({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "no"}})
"""


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with no_orphans():
        yield


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[McpServers]:
    made = servers_in(tmp_path)
    yield made
    await made.close()


def bad(servers: McpServers, folder: Path, mode: str = "", **keys: Any) -> McpServer:
    (folder / "bad.py").write_text(SERVER)
    return servers.get(spec_of({"command": sys.executable, "args": ["bad.py", mode]}, folder, **keys))


class _Flood:
    """A transport that brings so many messages that the tools are others, and then an answer."""

    def __init__(self, count: int) -> None:
        changed = SimpleNamespace(message=SimpleNamespace(method="notifications/tools/list_changed"))
        self._items: list[Any] = ["the answer", *[changed] * count]

    async def __aenter__(self) -> Any:
        return self, None

    async def __aexit__(self, *_: object) -> None:
        pass

    async def receive(self) -> Any:
        return self._items.pop()


async def say(server: McpServer, name: str, **arguments: Any) -> str:
    result = await server.call(name, arguments, timeout=PATIENCE)
    return str(result.content[0].text)  # type: ignore[union-attr]


async def failure(work: Any) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        async with asyncio.timeout(PATIENCE):
            await work
    assert caught.value.hint
    return caught.value


# --- what we send


async def test_half_a_character_in_an_argument_is_replaced(servers: McpServers, tmp_path: Path) -> None:
    server = bad(servers, tmp_path)
    assert await say(server, "echo", a="\udcff!") == '{"a": "?!"}'
    assert (server.row()["state"], server.row()["restarts"]) == ("ready", 0)


async def test_a_call_that_cannot_be_written_fails_alone(servers: McpServers, tmp_path: Path) -> None:
    server = bad(servers, tmp_path)
    await server.tools()
    told = await failure(server.call("echo", {}, meta={"stepchain/idempotency_key": "\udcff"}))
    assert told.error_type is ErrorType.USER_ERROR
    assert "it cannot be written as JSON, and was not sent" in str(told)
    assert await say(server, "echo", a=1) == '{"a": 1}'
    assert server.row()["restarts"] == 0


# --- what it sends


async def test_answers_of_half_characters_and_wrong_bytes_are_mended(servers: McpServers, tmp_path: Path) -> None:
    server = bad(servers, tmp_path)
    assert await say(server, "half") == "cut in the middle of ?"
    assert await say(server, "bytes") == "\ufffd!"


@pytest.mark.parametrize("name", ["broken", "shape"])
async def test_an_answer_that_is_none_fails_its_call_at_once(servers: McpServers, tmp_path: Path, name: str) -> None:
    server = bad(servers, tmp_path)
    told = await failure(server.call(name, {}))
    assert told.error_type is ErrorType.SERVER_ERROR
    assert "its answer is no message of the protocol" in str(told)
    assert await say(server, "echo", a=1) == '{"a": 1}'
    assert server.row()["restarts"] == 0


@pytest.mark.parametrize(("method", "request_too"), [("ping", True), ("notifications/whatever", False)])
async def test_a_flood_of_what_is_no_answer_is_dropped(
    servers: McpServers, tmp_path: Path, method: str, request_too: bool
) -> None:
    server = bad(servers, tmp_path)
    logs: list[str] = []
    arguments = {"count": 20_000, "method": method, "request": request_too}
    await server.call("flood", arguments, timeout=PATIENCE, on_log=lambda level, text: logs.append(text))
    dropped = [int(text.split()[0]) for text in logs if "messages of the server were dropped" in text]
    assert 1_000 < sum(dropped) <= 18_000
    assert await say(server, "echo", a=1) == '{"a": 1}'


async def test_a_flood_of_changes_of_the_tools_is_taken_as_few(servers: McpServers, tmp_path: Path) -> None:
    changes: list[float] = []
    gate = GatedTransport(_Flood(5_000), lambda count: None, lambda: changes.append(time.monotonic()))
    async with gate as (read, _):
        assert str(await read.receive()) == "the answer"
        assert len(changes) == 1 or changes[-1] - changes[0] > 0.9 * (len(changes) - 1)
        first = len(changes)
        await until(lambda: len(changes) > first)  # the last of them is not forgotten
    server = bad(servers, tmp_path)
    await server.tools()
    arguments = {"count": 1, "method": "notifications/tools/list_changed", "request": False}
    await server.call("flood", arguments, timeout=PATIENCE)
    assert server.known_tools is None


async def test_a_flood_of_blank_lines_is_given_up(servers: McpServers, tmp_path: Path) -> None:
    told = await failure(bad(servers, tmp_path).call("blank", {}))
    assert told.error_type is ErrorType.SERVER_ERROR
    assert "writes what is no message to its standard output (calling 'blank')" in str(told)


# --- what its log shows

KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nASCBKcwggSjAgEAAoIBAQC7\n-----END KEY-----"


async def test_secrets_of_everybody_who_shares_a_server_are_taken_out_of_its_log(
    servers: McpServers, tmp_path: Path
) -> None:
    first, second = "first-secret-aaaa", "second-secret-bbbb"
    server = bad(servers, tmp_path, secrets={"TOKEN": first})
    await say(server, "echo", x=first)
    assert bad(servers, tmp_path, secrets={"TOKEN": second}) is server
    await say(server, "echo", x=second)
    await say(server, "echo", x=first)
    await servers.close()
    log = Path(server.row()["stderr_path"]).read_text()
    assert log.count('called with {"x": "[secret TOKEN]"}') == 2
    assert log.count('called with {"x": "[secret TOKEN 2]"}') == 1
    assert first not in log
    assert second not in log


@pytest.mark.parametrize("piece", [7, 1_000_000])
def test_a_secret_of_several_lines_and_one_where_a_line_is_cut_are_taken_out(tmp_path: Path, piece: int) -> None:
    token = "tok-1234567890abcdef"
    log = ServerLog(tmp_path / "a.log", Redactor({"KEY": KEY, "TOKEN": token}))
    data = f"dump: {KEY}\n".encode() + json.dumps({"key": KEY}).encode() + b"\n"
    for before in (16_370, 16_384 - len(token), 16_384 + 100, 15_000):
        data += (token * 20).encode() + b"x" * before + token.encode() + b" tail\n"
        data += b"x" * before + token.encode() * 200 + b"\n"
    for start in range(0, len(data), piece):
        log.take(data[start : start + piece])
    log.close()
    shown = (tmp_path / "a.log").read_text()
    assert "MIIEv" not in shown
    assert "ASCBK" not in shown
    assert "tok-" not in shown
    assert '{"key": "[secret KEY]"}' in shown
    assert all(len(line) <= 16_384 for line in shown.splitlines())


# --- its end


@pytest.mark.parametrize("for_good", [False, True])
async def test_nobody_who_waited_for_a_closed_server_starts_it_again(
    servers: McpServers, tmp_path: Path, for_good: bool
) -> None:
    server = bad(servers, tmp_path, "slow")
    work = [server.tools(), server.tools(), server.tool("echo"), server.tool("echo"), server.call("echo", {})]
    waiting = [asyncio.create_task(failure(one)) for one in work]
    await until(lambda: server.row()["state"] == "connecting")
    await (servers.close() if for_good else server.close())
    for told in await asyncio.gather(*waiting):
        assert told.error_type is ErrorType.SERVER_ERROR
        assert "was closed" in str(told)
    assert (server.row()["state"], server.row()["pid"]) == ("closed", None)
    (tmp_path / "go").touch()
    if not for_good:
        assert await say(server, "echo", a=1) == '{"a": 1}'
        return
    for later in (server.tools(), server.call("echo", {}), server.restart()):
        assert "was closed" in str(await failure(later))
    assert (server.row()["state"], servers.rows()) == ("closed", [])


async def test_a_server_that_is_called_while_it_goes_to_rest_is_ready(servers: McpServers, tmp_path: Path) -> None:
    server = bad(servers, tmp_path)
    await server.tools()
    rest = asyncio.create_task(server.rest())
    await asyncio.sleep(0)
    assert await say(server, "echo", a=1) == '{"a": 1}'
    await rest
    assert server.row()["state"] == "ready"
