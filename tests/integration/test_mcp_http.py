"""An MCP server over streamable HTTP: death, refusals and restarts, in both eras of the protocol."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from stepchain_tui.mcp import McpServer, McpServers
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from tests.support.mcp_servers import PATIENCE, HttpProcess, servers_in, spec_of, until

ERAS = ((), ("--legacy",), ("--json",))


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[McpServers]:
    made = servers_in(tmp_path)
    yield made
    await asyncio.wait_for(made.close(), 4.0)


async def failure(work: Any) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        async with asyncio.timeout(PATIENCE):
            await work
    assert caught.value.hint
    return caught.value


async def say(server: McpServer, message: str) -> str:
    result = await server.call("echo", {"message": message}, timeout=PATIENCE)
    return str(result.content[0].text)  # type: ignore[union-attr]


@pytest.mark.parametrize("options", ERAS)
async def test_tools_are_listed_and_called(servers: McpServers, tmp_path: Path, options: tuple[str, ...]) -> None:
    async with HttpProcess(tmp_path, *options) as process:
        server = servers.get(spec_of(process.entry(), tmp_path))
        assert "echo" in [tool.name for tool in await server.tools()]
        assert await asyncio.gather(*(say(server, str(number)) for number in range(20))) == [
            str(number) for number in range(20)
        ]
        row = server.row()
        assert (row["transport"], row["where"], row["pid"], row["stderr_path"]) == ("http", process.url, None, "")
        assert row["protocol_version"] == ("2025-11-25" if "--legacy" in options else "2026-07-28")


@pytest.mark.parametrize("options", ERAS[:2])
async def test_progress_and_log_messages_reach_their_own_call(
    servers: McpServers, tmp_path: Path, options: tuple[str, ...]
) -> None:
    async with HttpProcess(tmp_path, *options) as process:
        server = servers.get(spec_of(process.entry(), tmp_path))
        logs: dict[str, list[str]] = {"a": [], "b": []}
        progress: list[Any] = []

        async def call(name: str) -> None:
            await server.call("log", {"count": 3, "text": name}, on_log=lambda _, text: logs[name].append(text))

        await asyncio.gather(call("a"), call("b"))
        assert logs == {name: [f"{name} {number}" for number in range(3)] for name in logs}
        await server.call("progress", {"steps": 2}, on_progress=lambda *told: progress.append(told))
        assert progress == [(1, 2, "part 1"), (2, 2, "part 2")]


async def test_a_server_that_says_its_tools_changed_is_asked_again(servers: McpServers, tmp_path: Path) -> None:
    async with HttpProcess(tmp_path, "--legacy", "--new-tool") as process:
        server = servers.get(spec_of(process.entry(), tmp_path))
        assert "newcomer" not in [tool.name for tool in await server.tools()]
        async with asyncio.timeout(PATIENCE):
            while server.known_tools is not None:  # what is told before our stream for it is open is lost
                await server.call("change", {}, timeout=PATIENCE)
                await asyncio.sleep(0.02)
        assert "newcomer" in [tool.name for tool in await server.tools()]


@pytest.mark.parametrize("part", [False, True])
@pytest.mark.parametrize("options", ERAS)
async def test_the_death_of_a_server_in_a_call_fails_that_call_once(
    servers: McpServers, tmp_path: Path, options: tuple[str, ...], part: bool
) -> None:
    calls = tmp_path / "calls"
    async with HttpProcess(tmp_path, *options) as process:
        server = servers.get(spec_of(process.entry(), tmp_path))
        await server.tools()
        told = await failure(server.call("die", {"file": str(calls), "part": part}, on_progress=lambda *_: None))
        assert told.error_type is ErrorType.SERVER_ERROR
        assert "MCP server 'odd'" in str(told)
        assert "(calling 'die')" in str(told)
        dead = await failure(say(server, "anybody?"))
        assert dead.error_type is ErrorType.SERVER_ERROR
        assert "cannot be reached" in str(dead)
        assert server.row()["state"] == "failed"
        await process.kill()
        await process.start()
        assert await say(server, "again") == "again"
        assert server.row()["state"] == "ready"
    assert calls.read_text() == "x", "a call that was sent is not sent again"


@pytest.mark.parametrize("options", ERAS[:2])
async def test_a_server_that_was_restarted_at_rest_is_found_again(
    servers: McpServers, tmp_path: Path, options: tuple[str, ...]
) -> None:
    async with HttpProcess(tmp_path, *options) as process:
        server = servers.get(spec_of(process.entry(), tmp_path))
        assert await say(server, "before") == "before"
        await process.kill()
        await process.start()
        [first] = await asyncio.gather(say(server, "after"), return_exceptions=True)
        if isinstance(first, AttemptError):
            # It forgot the session, and nobody had noticed: that call was sent, so the step's retries decide.
            assert "--legacy" in options
            assert first.error_type is ErrorType.SERVER_ERROR
        assert await say(server, "after") == "after"


async def test_a_call_that_waits_survives_the_refusal_of_another(servers: McpServers, tmp_path: Path) -> None:
    refuse = tmp_path / "refuse"
    async with HttpProcess(tmp_path, "--status", "500", "--status-file", str(refuse)) as process:
        server = servers.get(spec_of(process.entry(), tmp_path))
        hanging = asyncio.create_task(server.call("hang", {"file": str(tmp_path / "hang")}))
        await until((tmp_path / "hang").exists)
        refuse.touch()
        assert (await failure(say(server, "no"))).error_type is ErrorType.SERVER_ERROR
        refuse.unlink()
        assert await say(server, "yes") == "yes"
        assert not hanging.done()
        hanging.cancel()
        await until(lambda: (tmp_path / "hang").read_text() == "cancelled")


@pytest.mark.parametrize(
    ("status", "error_type", "words", "retry_after"),
    [
        (401, ErrorType.USER_ERROR, "refused us with HTTP 401", None),
        (403, ErrorType.USER_ERROR, "refused us with HTTP 403", None),
        (429, ErrorType.RATE_LIMIT, "answered with HTTP 429", 7.0),
        (503, ErrorType.SERVER_ERROR, "answered with HTTP 503", 7.0),
    ],
)
@pytest.mark.parametrize("late", [False, True])
async def test_a_refused_request_is_told_with_its_status(
    servers: McpServers,
    tmp_path: Path,
    status: int,
    error_type: ErrorType,
    words: str,
    retry_after: float | None,
    late: bool,
) -> None:
    refuse = tmp_path / "refuse"
    async with HttpProcess(tmp_path, "--status", str(status), "--status-file", str(refuse)) as process:
        server = servers.get(spec_of(process.entry(headers={"Authorization": "Bearer s3cret-4711"}), tmp_path))
        if late:
            assert await say(server, "fine") == "fine"
        refuse.touch()
        told = await failure(say(server, "no"))
        assert (told.error_type, told.retry_after) == (error_type, retry_after)
        assert words in str(told)
        assert "s3cret-4711" not in f"{told} {told.hint} {server.row()}"


async def test_headers_are_sent_and_a_closed_port_is_told(servers: McpServers, tmp_path: Path) -> None:
    async with HttpProcess(tmp_path) as process:
        server = servers.get(spec_of(process.entry(headers={"X-Own": "mine"}), tmp_path))
        result = await server.call("environment", {})
        assert result.structured_content["headers"]["x-own"] == "mine"
        url = process.url
    told = await failure(servers.get(spec_of({"url": url}, tmp_path)).tools())
    assert told.error_type is ErrorType.SERVER_ERROR
    assert str(told).startswith("MCP server 'odd' cannot be reached (connecting):")
    assert told.hint == f"Check that it runs at {url}."


@pytest.mark.parametrize("options", ERAS)
async def test_an_answer_that_is_too_large_fails_its_call(
    servers: McpServers, tmp_path: Path, options: tuple[str, ...]
) -> None:
    async with HttpProcess(tmp_path, *options) as process:
        server = servers.get(spec_of(process.entry(), tmp_path))
        assert len((await server.call("large", {"megabytes": 5})).content[0].text) == 5 * 1024 * 1024  # type: ignore[union-attr]
        told = await failure(server.call("large", {"megabytes": 30}))
        assert str(told) == "MCP server 'odd' answered with more than 16 MB (calling 'large')"
        assert told.error_type is ErrorType.USER_ERROR
        assert await say(server, "fine") == "fine"


async def test_what_is_no_mcp_server_is_told(servers: McpServers, tmp_path: Path) -> None:
    async with HttpProcess(tmp_path) as process:
        server = servers.get(spec_of({"url": process.url.replace("/mcp", "/elsewhere")}, tmp_path))
        told = await failure(server.tools())
        assert told.error_type is ErrorType.SERVER_ERROR
        assert "MCP server 'odd'" in str(told)


async def test_a_call_that_takes_too_long_is_a_timeout_and_the_server_is_told(
    servers: McpServers, tmp_path: Path
) -> None:
    async with HttpProcess(tmp_path) as process:
        server = servers.get(spec_of(process.entry(), tmp_path))
        await server.tools()
        told = await failure(server.call("hang", {"file": str(tmp_path / "hang")}, timeout=0.5))
        assert told.error_type is ErrorType.TIMEOUT
        await until(lambda: (tmp_path / "hang").read_text() == "cancelled")


async def test_an_answer_that_is_compressed_is_refused_unpacked(servers: McpServers, tmp_path: Path) -> None:
    small = gzip.compress(b"x" * 200 * 1024 * 1024, 1)
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
        writer.write(f"{head}Content-Length: {len(small)}\r\nConnection: close\r\n\r\n".encode() + small)
        with suppress(OSError):
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        entry = {"url": f"http://127.0.0.1:{port}/mcp", "headers": {"accept-encoding": "gzip"}}
        server = servers.get(spec_of(entry, tmp_path))
        before = psutil.Process().memory_info().rss
        told = await failure(server.tools())
        assert psutil.Process().memory_info().rss - before < 100 * 1024 * 1024
        assert told.error_type is ErrorType.SERVER_ERROR
        assert "its answer is compressed (gzip), which was not asked for" in str(told)
        assert b"accept-encoding: identity\r\n" in asked[0].lower()
        assert b"accept-encoding: gzip" not in asked[0].lower()
