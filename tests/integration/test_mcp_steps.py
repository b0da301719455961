"""Steps that call tools of MCP servers, carried out by a real engine: values, retries, approvals, logs, files."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from stepchain_tui.core.paths import settings_path
from stepchain_tui.core.settings import load_settings
from stepchain_tui.executors.tool import McpToolExecutor, ToolSpec
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType, StepStatus
from stepchain_tui.store import SQLiteStore
from stepchain_tui.tools.registry import shared_tools
from tests.support.engines import Bench, plan_of
from tests.support.mcp_servers import HttpProcess, no_orphans, servers_in, spec_of, stdio_entry, until

TIME = {"command": sys.executable, "args": ["-m", "mcp_server_time"]}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    with no_orphans():
        yield


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Bench(folder=tmp_path) as bench:
        yield bench


def call(step_id: str, tool: str, *after: str, **keys: Any) -> dict[str, Any]:
    return {"id": step_id, "tool": tool, "dependencies": list(after), **keys}


def odd_plan(*steps: dict[str, Any], **keys: Any) -> Any:
    return plan_of(*steps, mcp_servers={"odd": stdio_entry(**keys)})


async def test_a_server_of_the_plan_answers_and_its_answer_is_used(bench: Bench) -> None:
    plan = plan_of(
        call(
            "noon",
            "time.convert_time",
            args={"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"},
        ),
        call("say", "odd.echo", "noon", args={"message": "{{ steps.noon.output.target.datetime }}"}),
        mcp_servers={"time": TIME, "odd": stdio_entry()},
    )
    run = await bench.run(plan)
    assert run.outputs["noon"]["time_difference"] == "+9.0h"
    assert "T21:00:00+09:00" in run.outputs["say"]
    started, finished = (await run.events("tool.started", "tool.finished"))[:2]
    assert (started.tool_name, started.call_id) == ("time.convert_time", "call_1")
    assert finished.result.value == run.outputs["noon"]
    assert finished.execution_time > 0


async def test_a_server_over_http_with_its_secret_header(bench: Bench, tmp_path: Path) -> None:
    async with HttpProcess(tmp_path) as process:
        entry = process.entry(headers={"Authorization": "Bearer {{ inputs.token }}"})
        inputs = {"token": {"type": "secret"}}
        plan = plan_of(call("see", "odd.environment"), mcp_servers={"odd": entry}, inputs=inputs)
        run = await bench.run(plan, inputs={"token": "s3cret-4711-value"})
        [row] = bench.engine.core.executors.servers.rows()
    assert run.outputs["see"]["headers"]["authorization"] == "Bearer [secret token]"
    assert "s3cret-4711-value" not in str(row)


async def test_wrong_arguments_name_step_tool_and_field_and_nothing_is_sent(bench: Bench) -> None:
    plan = odd_plan(
        call("slip", "odd.echo", args={"mesage": "a"}, on_failure="continue"),
        call("kind", "odd.echo", args={"message": 3}, on_failure="continue"),
        call("less", "odd.add", args={"a": 1}, on_failure="continue"),
        call("tool", "odd.ecco", args={"message": "a"}, on_failure="continue"),
    )
    run = await bench.run(plan)
    errors = {step: run.state.steps[step].error for step in ("slip", "kind", "less", "tool")}
    assert all(error.error_type is ErrorType.USER_ERROR for error in errors.values())
    assert "step 'slip': tool 'odd.echo': 'mesage' is no argument of it" in errors["slip"].message
    assert errors["slip"].hint == "did you mean 'message'?"
    assert "tool 'odd.echo': argument 'message': 3 is not of type 'string'" in errors["kind"].message
    assert "tool 'odd.add': argument 'b' is missing" in errors["less"].message
    assert errors["less"].hint == "It takes: a, b."
    assert errors["tool"].hint == "did you mean 'echo'?"
    assert all(len(run.state.steps[step].attempts) == 1 for step in errors)


async def test_a_tool_that_is_not_allowed_is_not_called(tmp_path: Path) -> None:
    servers = servers_in(tmp_path)
    server = servers.get(spec_of(stdio_entry(allowed_tools=["adds"]), tmp_path))
    with pytest.raises(AttemptError) as caught:
        await McpToolExecutor(ToolSpec(tool_name="add"), server).execute({"a": 1, "b": 2})
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert str(caught.value) == "tool 'odd.add' is not among the allowed_tools of its server"
    assert caught.value.hint == "did you mean 'adds'?"
    assert server.row()["state"] == "idle"


async def test_a_tool_that_says_it_failed_is_tried_again_at_once(bench: Bench) -> None:
    run = await bench.run(odd_plan(call("bad", "odd.fail", args={"message": "no such file"})))
    step = run.state.steps["bad"]
    assert (step.status, step.error.error_type) == (StepStatus.FAILED, ErrorType.TOOL_ERROR)
    assert step.error.message == "tool 'odd.fail': no such file"
    assert len(step.attempts) == 3


async def test_a_server_that_dies_in_a_call_is_started_anew_by_the_retries(bench: Bench, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    plan = odd_plan(
        call("die", "odd.die", args={"file": str(calls)}, retry={"max_attempts": 2}, on_failure="continue"),
        call("live", "odd.echo", "die", args={"message": "alive"}),
    )
    run = await bench.run(plan)
    assert run.state.steps["die"].error.error_type is ErrorType.SERVER_ERROR
    assert "ended with exit code 3" in run.state.steps["die"].error.message
    assert calls.read_text() == "xx"
    assert run.outputs["live"] == "alive"


async def test_the_servers_timeout_holds_for_steps_that_have_none(bench: Bench) -> None:
    bench.clock.may_jump = False
    plan = odd_plan(call("slow", "odd.hang", retry={"max_attempts": 1}), timeout=0.01)
    run = await bench.start(plan)
    await asyncio.sleep(0)
    bench.clock.may_jump = True
    await run.end()
    assert run.state.steps["slow"].error.error_type is ErrorType.TIMEOUT


async def test_progress_and_log_messages_are_in_the_steps_log(bench: Bench) -> None:
    plan = odd_plan(call("far", "odd.progress", args={"steps": 2}), call("talk", "odd.log", "far", args={"count": 2}))
    run = await bench.run(plan)
    assert [line.text for line in await run.log("far")] == [
        "progress 1/2 (50 %): part 1",
        "progress 2/2 (100 %): part 2",
    ]
    talk = await run.log("talk")
    assert [(line.stream, line.text) for line in talk] == [("server", "warning: line 0"), ("server", "warning: line 1")]


async def test_images_are_kept_as_files_of_the_result(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")
    async with Bench(store, folder=tmp_path) as bench:
        run = await bench.run(odd_plan(call("see", "odd.files")))
        image = run.outputs["see"][1]
        assert Path(image["file"]).read_bytes().startswith(b"\x89PNG")
        assert image["bytes"] == Path(image["file"]).stat().st_size


async def test_the_idempotency_key_stays_the_same_over_retries(bench: Bench) -> None:
    run = await bench.run(odd_plan(call("key", "odd.meta")))
    assert run.outputs["key"]["stepchain/idempotency_key"]


# --- who is asked


async def test_a_call_that_needs_a_persons_word_waits_and_is_made_with_the_arguments_that_were_left(
    bench: Bench,
) -> None:
    plan = odd_plan(call("ask", "odd.echo", args={"message": "mine"}), require_approval=["echo"])
    run = await bench.start(plan)
    await run.until_status("ask", "waiting")
    step = run.state.steps["ask"]
    assert step.waiting.reason == "tool_approval"
    assert step.waiting.input.value == {"tool": "odd.echo", "arguments": {"message": "mine"}}
    assert "tool.started" not in await run.names()
    await run.tell("approve", step="ask", approved=True, arguments={"message": "yours"})
    await run.end()
    assert run.outputs["ask"] == "yours"
    [started] = await run.events("tool.started")
    assert started.arguments == {"message": "yours"}


async def test_a_step_may_ask_for_itself_and_a_denied_call_is_not_made(bench: Bench) -> None:
    plan = odd_plan(call("ask", "odd.echo", args={"message": "a"}, require_approval=True))
    run = await bench.start(plan)
    await run.until_status("ask", "waiting")
    await run.tell("approve", step="ask", approved=False)
    await run.end()
    assert run.state.steps["ask"].status is StepStatus.FAILED
    assert "tool.started" not in await run.names()


async def test_a_function_tool_asks_too(bench: Bench) -> None:
    called: list[int] = []

    def remember(number: int) -> None:
        called.append(number)

    shared_tools().register(remember)
    try:
        plan = plan_of(call("ask", "remember", args={"number": 1}, require_approval=True, mode="inline"))
        run = await bench.start(plan)
        await run.until_status("ask", "waiting")
        assert run.state.steps["ask"].waiting.reason == "tool_approval"
        assert called == []
        await run.tell("approve", step="ask", approved=True)
        await run.end()
        assert called == [1]
    finally:
        shared_tools().unregister("remember")


# --- where servers come from, and who carries them out


async def test_a_server_of_the_settings_serves_all_plans(tmp_path: Path) -> None:
    command = stdio_entry()
    settings_path().write_text(
        f"[mcp_servers.odd]\ncommand = {json.dumps(command['command'])}\nargs = {command['args']}\n"
    )
    settings = load_settings(settings_path())
    async with Bench(folder=tmp_path, settings=settings) as bench:
        run = await bench.run(plan_of(call("say", "odd.echo", args={"message": "hello"})))
        assert run.outputs["say"] == "hello"
        [row] = bench.engine.core.executors.servers.rows()
        assert row["from"] == "settings"


async def test_runs_share_one_process(bench: Bench) -> None:
    plan = odd_plan(call("see", "odd.environment"))
    first, second = await asyncio.gather(bench.run(plan), bench.run(plan))
    assert first.outputs["see"]["pid"] == second.outputs["see"]["pid"]


async def test_an_executor_outside_of_plans_counts_its_time_and_asks_nobody(tmp_path: Path) -> None:
    servers = servers_in(tmp_path)
    try:
        server = servers.get(spec_of(stdio_entry(require_approval="always"), tmp_path))
        executor = McpToolExecutor(ToolSpec(tool_name="add"), server)
        assert await executor.execute({"a": 1, "b": 2}) == {"sum": 3}
        assert (executor.metrics.calls, executor.metrics.succeeded) == (1, 1)
        slow = McpToolExecutor(ToolSpec(tool_name="hang", timeout=0.3), server)
        with pytest.raises(AttemptError) as caught:
            await slow.execute({})
        assert caught.value.error_type is ErrorType.TIMEOUT
        assert slow.metrics.failed == 1
    finally:
        await servers.close()


async def test_a_tool_that_was_changed_meanwhile_is_called_as_it_is_now(tmp_path: Path) -> None:
    servers = servers_in(tmp_path)
    try:
        server = servers.get(spec_of(stdio_entry("--new-tool"), tmp_path))
        await server.tools()
        assert (await server.tool("newcomer")).required == []
        executor = McpToolExecutor(ToolSpec(tool_name="newcomer"), server)
        assert await executor.execute({"name": "Ada"}) == "welcome Ada"
    finally:
        await servers.close()


async def test_cancelling_a_step_cancels_the_call(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "hang"
    run = await bench.start(odd_plan(call("slow", "odd.hang", args={"file": str(file)})))
    await until(file.exists)
    await run.tell("cancel", step="slow")
    await run.end()
    assert run.state.steps["slow"].status is StepStatus.CANCELLED
    await until(lambda: file.read_text() == "cancelled")


# --- servers of others


@pytest.mark.needs("mcp-server-everything")
async def test_the_everything_server_speaks_the_older_protocol(bench: Bench) -> None:
    entry = {"command": str(shutil.which("mcp-server-everything")), "args": ["stdio"]}
    plan = plan_of(
        call("sum", "all.get-sum", args={"a": 2, "b": 3}),
        call("weather", "all.get-structured-content", args={"location": "New York"}),
        call("image", "all.get-tiny-image"),
        call("long", "all.trigger-long-running-operation", args={"duration": 0.2, "steps": 2}),
        mcp_servers={"all": entry},
    )
    run = await bench.run(plan)
    assert "5" in run.outputs["sum"]
    assert set(run.outputs["weather"]) == {"temperature", "conditions", "humidity"}
    assert any(part["media_type"] == "image/png" for part in run.outputs["image"] if isinstance(part, dict))
    assert any(line.text.startswith("progress 2/2") for line in await run.log("long"))


@pytest.mark.needs("mcp-server-filesystem")
async def test_the_filesystem_server_reads_inside_its_folder_only(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("inside")
    entry = {"command": str(shutil.which("mcp-server-filesystem")), "args": [str(tmp_path)]}
    plan = plan_of(
        call("read", "files.read_text_file", args={"path": str(tmp_path / "a.txt")}),
        call("escape", "files.read_text_file", args={"path": "/etc/passwd"}, retry={"max_attempts": 1}),
        mcp_servers={"files": entry},
    )
    run = await bench.run(plan)
    assert run.outputs["read"] == {"content": "inside"}
    assert run.state.steps["escape"].error.error_type is ErrorType.TOOL_ERROR
    assert "outside allowed directories" in run.state.steps["escape"].error.message
