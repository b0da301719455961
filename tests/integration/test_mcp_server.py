"""One MCP server over stdio: its tools, calls of them, everything it can do wrong, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from stepchain_tui.mcp import McpServer, McpServers, check_arguments, value_of
from stepchain_tui.mcp.log import LARGEST
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from tests.support.mcp_servers import (
    PATIENCE,
    is_gone,
    no_orphans,
    servers_in,
    spec_of,
    stdio_entry,
    until,
)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with no_orphans():
        yield


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[McpServers]:
    made = servers_in(tmp_path)
    yield made
    await made.close()


@pytest.fixture
def odd(servers: McpServers, tmp_path: Path) -> McpServer:
    return servers.get(spec_of(stdio_entry(), tmp_path))


def of(servers: McpServers, folder: Path, *options: str, **keys: Any) -> McpServer:
    return servers.get(spec_of(stdio_entry(*options, **keys), folder))


async def failure(work: Any) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        async with asyncio.timeout(PATIENCE):
            await work
    assert caught.value.hint
    return caught.value


async def value(server: McpServer, name: str, warnings: list[str] | None = None, **arguments: Any) -> Any:
    """Call a tool as a step does."""
    tool = await server.tool(name)
    result = await server.call(name, arguments, timeout=PATIENCE)
    told = [] if warnings is None else warnings
    return value_of(result, tool, lambda data, *, suffix="": {"bytes": data, "suffix": suffix}, told.append)


# --- what works


async def test_a_server_is_started_by_the_first_need_and_lists_its_tools(odd: McpServer) -> None:
    assert odd.row()["state"] == "idle"
    assert odd.row()["pid"] is None
    tools = {tool.name: tool for tool in await odd.tools()}
    assert tools["echo"].description == "Say it again."
    assert tools["echo"].input_schema["properties"]["message"] == {"type": "string"}
    row = odd.row()
    assert (row["state"], row["tools"], row["transport"], row["restarts"]) == ("ready", len(tools), "stdio", 0)
    assert row["protocol_version"] == "2026-07-28"
    assert not is_gone(row["pid"])


async def test_all_pages_of_a_list_are_read_and_an_endless_one_ends(servers: McpServers, tmp_path: Path) -> None:
    whole = {tool.name for tool in await of(servers, tmp_path).tools()}
    assert {tool.name for tool in await of(servers, tmp_path, "--page", "4").tools()} == whole
    endless = await asyncio.wait_for(of(servers, tmp_path, "--page", "4", "--endless-pages").tools(), PATIENCE)
    assert {tool.name for tool in endless} == whole


async def test_a_tool_that_is_not_known_may_be_new(servers: McpServers, tmp_path: Path) -> None:
    server = of(servers, tmp_path, "--new-tool")
    assert "newcomer" not in [tool.name for tool in await server.tools()]
    assert await value(server, "newcomer") == "welcome"


async def test_values_are_what_the_tool_returned(odd: McpServer) -> None:
    assert await value(odd, "echo", message="{}") == "{}"
    assert await value(odd, "echo", message="a", times=2) == ["a", "a"]
    assert await value(odd, "add", a=1, b=2.5) == {"sum": 3.5}
    assert await value(odd, "answer") == 42


async def test_images_sounds_and_blobs_become_files(odd: McpServer) -> None:
    words, image, sound, blob, letter, link = await value(odd, "files")
    assert words == "five things"
    assert (image["type"], image["media_type"], image["suffix"]) == ("image", "image/png", ".png")
    assert image["bytes"].startswith(b"\x89PNG")
    assert (sound["type"], sound["bytes"]) == ("audio", b"sound")
    assert (blob["uri"], blob["media_type"], blob["bytes"]) == ("file:///a.bin", "application/zip", b"PK zip")
    assert letter == {"type": "resource", "uri": "file:///a.txt", "media_type": "text/plain", "text": "a letter"}
    assert (link["type"], link["uri"]) == ("resource_link", "https://example.org/a")
    both = await value(odd, "picture")
    assert both["structured_content"] == {"width": 1}
    assert both["content"][0]["suffix"] == ".png"


async def test_progress_and_log_messages_reach_the_call(odd: McpServer) -> None:
    progress: list[Any] = []
    logs: list[Any] = []
    await odd.call("progress", {"steps": 3}, on_progress=lambda *told: progress.append(told))
    assert progress == [(1, 3, "part 1"), (2, 3, "part 2"), (3, 3, "part 3")]
    await odd.call("log", {"count": 2}, on_log=lambda level, text: logs.append((level, text)))
    assert logs == [("warning", "line 0"), ("warning", "line 1")]


async def test_many_calls_at_once_each_get_their_own_answer(odd: McpServer) -> None:
    answers = await asyncio.gather(*(value(odd, "echo", message=str(number)) for number in range(50)))
    assert answers == [str(number) for number in range(50)]
    assert odd.row()["restarts"] == 0


async def test_a_child_gets_its_own_variables_and_none_of_our_secrets(
    servers: McpServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-servers")
    monkeypatch.setenv("JUST_A_VARIABLE", "not for servers either")
    (tmp_path / "work").mkdir()
    told = await value(of(servers, tmp_path, env={"OWN": "1"}, cwd="work"), "environment")
    assert told["environment"]["OWN"] == "1"
    assert "PATH" in told["environment"]
    assert "not-for-servers" not in str(told)
    assert "JUST_A_VARIABLE" not in told["environment"]
    assert told["cwd"] == str(tmp_path / "work")


# --- what tools do wrong


async def test_what_a_tool_says_of_itself_is_a_tool_error(odd: McpServer) -> None:
    told = await failure(odd.call("fail", {"message": "no such file"}))
    assert told.error_type is ErrorType.TOOL_ERROR
    assert str(told) == "tool 'odd.fail': no such file"


async def test_a_call_that_takes_too_long_is_a_timeout_and_the_server_is_told(odd: McpServer, tmp_path: Path) -> None:
    file = tmp_path / "hang"
    await odd.tools()
    told = await failure(odd.call("hang", {"file": str(file)}, timeout=0.5))
    assert told.error_type is ErrorType.TIMEOUT
    assert str(told) == "MCP server 'odd' did not answer the call of 'hang' within 0.5 s"
    await until(lambda: file.read_text() == "cancelled")
    assert await value(odd, "echo", message="still there") == "still there"


async def test_a_call_that_is_cancelled_is_cancelled_at_the_server(odd: McpServer, tmp_path: Path) -> None:
    file = tmp_path / "hang"
    task = asyncio.create_task(odd.call("hang", {"file": str(file)}))
    await until(file.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: file.read_text() == "cancelled")


async def test_content_that_does_not_fit_its_schema_is_a_tool_error(odd: McpServer) -> None:
    told = await failure(value(odd, "lie"))
    assert told.error_type is ErrorType.TOOL_ERROR
    assert str(told).startswith("tool 'odd.lie': sent structured content that does not fit what it declares: sum:")


async def test_a_schema_that_is_none_is_a_warning(odd: McpServer) -> None:
    warnings: list[str] = []
    assert await value(odd, "nonsense", warnings, a=1) == {"a": 1}
    assert "wrong output schema" in warnings[0]
    assert "wrong schema for 'odd.nonsense'" in check_arguments(await odd.tool("nonsense"), {"a": 1})


async def test_a_pattern_that_never_ends_holds_nobody_up(odd: McpServer) -> None:
    tool = await odd.tool("trap")
    check_arguments(tool, {"a": "a" * 60 + "!"})
    assert await asyncio.wait_for(value(odd, "trap"), PATIENCE) == {"a": "a" * 60 + "!"}


async def test_a_file_that_is_no_base64_is_a_tool_error(odd: McpServer) -> None:
    told = await failure(value(odd, "broken-image"))
    assert told.error_type is ErrorType.TOOL_ERROR
    assert "is no base64" in str(told)


async def test_a_tool_that_there_is_not_is_told_with_the_nearest(odd: McpServer) -> None:
    told = await failure(value(odd, "ecco"))
    assert (told.error_type, told.hint) == (ErrorType.USER_ERROR, "did you mean 'echo'?")
    assert str(told) == "MCP server 'odd' has no tool 'ecco'"


async def test_a_refusal_by_the_protocol_is_a_user_error(odd: McpServer) -> None:
    told = await failure(value(odd, "protocol-error"))
    assert told.error_type is ErrorType.USER_ERROR
    assert "nobody may call this" in str(told)


# --- what servers do wrong


async def test_the_death_of_a_server_in_a_call_fails_that_call_once_and_the_next_one_works(
    odd: McpServer, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    waiting = asyncio.create_task(odd.call("hang", {"file": str(tmp_path / "hang")}))
    await until((tmp_path / "hang").exists)
    told = await failure(odd.call("die", {"file": str(calls)}))
    assert told.error_type is ErrorType.SERVER_ERROR
    assert str(told) == "MCP server 'odd' ended with exit code 3 (calling 'die'); its last words: dying now"
    assert (await failure(waiting)).error_type is ErrorType.SERVER_ERROR
    assert odd.row()["state"] == "failed"
    assert await value(odd, "echo", message="anew") == "anew"
    assert (odd.row()["state"], odd.row()["restarts"]) == ("ready", 1)
    assert calls.read_text() == "x", "a call that was sent is not sent again"


async def test_a_server_that_died_at_rest_is_started_anew_before_the_call(odd: McpServer) -> None:
    await odd.tools()
    pid = odd.row()["pid"]
    os.kill(pid, 9)
    await until(lambda: odd.row()["state"] == "failed")
    assert "was killed by SIGKILL" in odd.row()["error"]
    assert await value(odd, "echo", message="anew") == "anew"


async def test_restart_makes_a_new_process_and_fails_what_is_in_flight(odd: McpServer, tmp_path: Path) -> None:
    task = asyncio.create_task(odd.call("hang", {"file": str(tmp_path / "hang")}))
    await until((tmp_path / "hang").exists)
    before = odd.row()["pid"]
    await odd.restart()
    assert (await failure(task)).error_type is ErrorType.SERVER_ERROR
    assert is_gone(before)
    assert odd.row()["pid"] not in (before, None)
    assert odd.row()["restarts"] == 1


@pytest.mark.parametrize(
    ("command", "error_type", "words"),
    [
        (["no-such-command-here"], ErrorType.USER_ERROR, "there is no command 'no-such-command-here'"),
        (["./not-there"], ErrorType.USER_ERROR, "there is no command './not-there'"),
        (["sh", "-c", "echo 'no module x' >&2; exit 7"], ErrorType.SERVER_ERROR, "ended with exit code 7 (connecting)"),
        (["echo", "hello"], ErrorType.SERVER_ERROR, "ended with exit code 0 (connecting)"),
    ],
)
async def test_a_program_that_is_no_server_is_told(
    servers: McpServers, tmp_path: Path, command: list[str], error_type: ErrorType, words: str
) -> None:
    server = servers.get(spec_of({"command": command[0], "args": command[1:]}, tmp_path))
    told = await failure(server.tools())
    assert told.error_type is error_type
    assert words in str(told)
    assert "MCP server 'odd'" in str(told)
    if "no module" in command[-1]:
        assert "no module x" in str(told)
    assert server.row()["state"] == "failed"
    assert server.row()["error"] == str(told)


async def test_a_folder_that_is_not_there_is_told(servers: McpServers, tmp_path: Path) -> None:
    told = await failure(of(servers, tmp_path, cwd="nowhere").tools())
    assert told.error_type is ErrorType.USER_ERROR
    assert "there is no folder" in str(told)


async def test_a_program_that_floods_its_output_is_given_up_at_once(servers: McpServers, tmp_path: Path) -> None:
    server = servers.get(spec_of({"command": "yes", "args": ["garbage"]}, tmp_path))
    told = await failure(server.tools())
    assert told.error_type is ErrorType.SERVER_ERROR
    assert "writes what is no message to its standard output (connecting)" in str(told)
    assert Path(server.row()["stderr_path"]).stat().st_size < 100_000


async def test_a_server_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    servers = servers_in(tmp_path, connect_timeout=0.7)
    try:
        server = servers.get(spec_of({"command": "sleep", "args": ["600"]}, tmp_path))
        told = await failure(server.tools())
        assert told.error_type is ErrorType.TIMEOUT
        assert str(told) == "MCP server 'odd' did not connect within 0.7 s"
    finally:
        await servers.close()


@pytest.mark.parametrize(("place", "words"), [("connect", "did not connect"), ("list", "did not list its tools")])
async def test_a_server_that_hangs_is_a_timeout(tmp_path: Path, place: str, words: str) -> None:
    servers = servers_in(tmp_path, connect_timeout=3.0)
    try:
        told = await failure(of(servers, tmp_path, "--hang-at", place).tools())
        assert told.error_type is ErrorType.TIMEOUT
        assert words in str(told)
    finally:
        await servers.close()


async def test_answers_that_come_twice_and_garbage_disturb_nobody(odd: McpServer) -> None:
    assert await value(odd, "twice") in ("first", "second")
    assert await value(odd, "garbage") == "after the garbage"
    assert await value(odd, "echo", message="fine") == "fine"
    log = Path(odd.row()["stderr_path"]).read_text()
    assert "stdout: this is no message" in log
    assert odd.row()["restarts"] == 0


async def test_an_answer_that_is_too_large_fails_its_call_and_no_other(odd: McpServer) -> None:
    await odd.tools()
    waiting = [asyncio.create_task(value(odd, "echo", message=str(number))) for number in range(3)]
    told = await failure(odd.call("large", {"megabytes": 50}))
    assert told.error_type is ErrorType.USER_ERROR
    assert str(told) == "MCP server 'odd' answered with more than 16 MB (calling 'large')"
    assert await asyncio.gather(*waiting) == ["0", "1", "2"]
    assert odd.row()["restarts"] == 0


async def test_a_flood_of_log_messages_is_bounded_and_holds_nobody_up(odd: McpServer) -> None:
    await odd.tools()
    logs: list[str] = []
    flood = asyncio.create_task(odd.call("log", {"count": 100_000}, on_log=lambda level, text: logs.append(text)))
    longest = 0.0
    for _ in range(20):
        before = time.monotonic()
        await asyncio.sleep(0.02)
        longest = max(longest, time.monotonic() - before)
    assert longest < 5.0
    before = time.monotonic()
    flood.cancel()
    await asyncio.wait([flood])
    assert time.monotonic() - before < 4.0
    assert len(logs) < 10_000


# --- its log, its end


async def test_stderr_goes_to_a_file_that_only_the_user_reads_and_that_stays_small(
    servers: McpServers, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = of(servers, tmp_path, "--noise", "12")
    await server.tools()
    path = Path(server.row()["stderr_path"])
    assert path.stat().st_size <= LARGEST + 100_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await servers.close()
    assert capfd.readouterr() == ("", "")


async def test_secrets_reach_neither_the_log_nor_an_error_nor_a_row(servers: McpServers, tmp_path: Path) -> None:
    secret = "s3cret-value-4711"
    server = of(servers, tmp_path, env={"THE_SECRET": secret})
    told = await failure(server.call("print-secret", {}))
    path = Path(server.row()["stderr_path"])
    await until(lambda: "the secret is" in path.read_text())
    for text in (str(told), path.read_text(), str(server.row()), path.name):
        assert secret not in text
    assert "[secret THE_SECRET]" in str(told)


async def test_nothing_of_a_server_is_left_that_ignores_every_wish_to_end(servers: McpServers, tmp_path: Path) -> None:
    server = of(servers, tmp_path, "--ignore-end")
    child = (await value(server, "leave-child"))["pid"]
    pid = server.row()["pid"]
    before = time.monotonic()
    await servers.close()
    assert time.monotonic() - before < 4.0
    assert is_gone(pid)
    assert is_gone(child)


async def test_a_dead_server_whose_child_holds_its_pipes_is_seen_as_dead(odd: McpServer) -> None:
    child = (await value(odd, "leave-child"))["pid"]
    told = await failure(odd.call("die", {}))
    assert told.error_type is ErrorType.SERVER_ERROR
    assert await value(odd, "echo", message="anew") == "anew"
    await odd.close()
    assert is_gone(child)


async def test_a_frozen_server_can_be_left_at_once(odd: McpServer) -> None:
    await odd.tools()
    told = await failure(odd.call("freeze", {}, timeout=0.3))
    assert told.error_type is ErrorType.TIMEOUT
    before = time.monotonic()
    await odd.close()
    assert time.monotonic() - before < 4.0


async def test_a_caller_that_gives_up_while_connecting_does_not_hurt_the_others(odd: McpServer) -> None:
    first, second = (asyncio.create_task(odd.tools()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert odd.row()["restarts"] == 0


async def test_closing_while_connecting_leaves_nothing(tmp_path: Path) -> None:
    servers = servers_in(tmp_path)
    server = of(servers, tmp_path)
    task = asyncio.create_task(server.tools())
    await until(lambda: server.row()["state"] == "connecting")
    await servers.close()
    told = await failure(task)
    assert told.error_type is ErrorType.SERVER_ERROR
    assert str(told) == "MCP server 'odd' was closed while it connected"


async def test_a_server_that_nobody_calls_rests_and_wakes(tmp_path: Path) -> None:
    servers = servers_in(tmp_path, rest_after=0.1)
    try:
        server = of(servers, tmp_path)
        await server.tools()
        pid = server.row()["pid"]
        await until(lambda: server.row()["state"] == "idle" and is_gone(pid))
        assert await value(server, "echo", message="awake") == "awake"
    finally:
        await servers.close()


async def test_specs_that_are_reached_the_same_way_share_one_server(servers: McpServers, tmp_path: Path) -> None:
    one = servers.get(spec_of(stdio_entry(allowed_tools=["echo"]), tmp_path))
    assert servers.get(spec_of(stdio_entry(timeout=3), tmp_path)) is one
    other = servers.get(spec_of(stdio_entry("--page", "3"), tmp_path))
    assert other is not one
    assert servers.find("odd") is other
    assert servers.find("even") is None
    assert len(servers.rows()) == 2
