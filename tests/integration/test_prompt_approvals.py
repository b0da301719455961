"""Tool calls of models that a person has to allow."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from stepchain_tui.executors.prompt import PromptToolExecutor, ToolSpec
from stepchain_tui.run.events import ToolApprovalAsked
from stepchain_tui.run.status import ErrorType
from tests.support.command_line import ROOT, CommandLine
from tests.support.engines import Bench, Watched, plan_of
from tests.support.model_server import RawModelServer, answer, calls, events_of, hosted_item, text
from tests.support.prompts import call, finished, notes, told, turns, write_tools


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Bench(folder=write_tools(tmp_path)) as made:
        yield made


def step(*replies: Any, tools: Any = ("./tools.py:note", "./tools.py:add"), **keys: Any) -> dict[str, Any]:
    wanted = {"require_approval": "always", **keys}
    return {"id": "ask", "prompt": "Do it", "model": "scripted", "replies": [*replies], "tools": [*tools], **wanted}


async def asked(found: Watched) -> list[ToolApprovalAsked]:
    return [event for event in await found.events("tool.approval_asked") if isinstance(event, ToolApprovalAsked)]


async def waiting(bench: Bench, *steps: dict[str, Any], **keys: Any) -> Watched:
    found = await bench.start(plan_of(*steps, **keys))
    await found.until_status("ask", "waiting")
    return found


NOTE = {"calls": [call("note", "c1", text="rm -rf")]}


async def test_nothing_is_called_before_a_person_allows_it_and_the_model_is_asked_once(bench: Bench) -> None:
    found = await waiting(bench, step(NOTE, "done"))
    assert notes(bench.folder) == []
    [question] = await asked(found)
    assert (question.tool_name, question.arguments) == ("note", {"text": "rm -rf"})
    assert question.call_id.startswith("c1#")

    await found.tell("approve", step="ask")
    await found.end()
    assert found.outputs == {"ask": "done"}
    assert notes(bench.folder) == ["rm -rf"]
    assert [turn.turn for turn in await turns(found)] == [1, 2], "the first answer is not asked for again"
    assert found.state.steps["ask"].tries <= 1
    await found.check()


async def test_a_denied_call_is_told_to_the_model_which_goes_on(bench: Bench) -> None:
    found = await waiting(bench, step(NOTE, "then not"))
    await found.tell("approve", step="ask", approved=False)
    await found.end()

    assert found.outputs == {"ask": "then not"}
    assert notes(bench.folder) == []
    assert told((await turns(found))[1])["c1"] == {"error": "the call of 'note' was denied by Ada"}
    [ended] = await finished(found)
    assert ended.error is not None
    assert (ended.error.error_type, ended.error.exception) == (ErrorType.USER_ERROR, "DeniedError")


async def test_changed_arguments_are_used_and_the_model_is_told(bench: Bench) -> None:
    found = await waiting(bench, step(NOTE, "fine"))
    await found.tell("approve", step="ask", arguments={"text": "ls"})
    await found.end()

    assert notes(bench.folder) == ["ls"]
    said = told((await turns(found))[1])["c1"]
    assert said == 'A person changed the arguments of this call to {"text":"ls"}\n{"written":"ls"}'


async def test_changed_arguments_that_are_wrong_are_told_to_the_model(bench: Bench) -> None:
    found = await waiting(bench, step({"calls": [call("add", "c1", a=1)]}, "fine"))
    await found.tell("approve", step="ask", arguments={"b": 1})
    await found.end()
    assert "needs 'a'" in told((await turns(found))[1])["c1"]
    assert found.outputs == {"ask": "fine"}


async def test_nobody_is_asked_about_a_call_that_cannot_be_made(bench: Bench) -> None:
    found = await bench.run(plan_of(step({"calls": [call("note", "c1", txt="x")]}, "sorry")))
    assert await asked(found) == []
    assert "has no parameter 'txt'" in told((await turns(found))[1])["c1"]["error"]


async def test_calls_that_need_no_word_are_made_first_and_only_once(bench: Bench) -> None:
    reply = {"calls": [call("note", "c1", text="asked"), call("note", "c2", text="also asked"), call("add", "c3", a=1)]}
    found = await waiting(bench, step(reply, "done", require_approval=["note"]))
    assert [event.call_id for event in await finished(found)] == ["c3"]

    await found.tell("approve", step="ask")
    await found.until(lambda state: state.steps["ask"].attempt == 2 and state.steps["ask"].waiting is not None)
    assert notes(bench.folder) == ["asked"]
    await found.tell("approve", step="ask")
    await found.end()
    assert notes(bench.folder) == ["asked", "also asked"]
    assert [event.call_id for event in await finished(found)] == ["c3", "c1", "c2"]
    assert list(told((await turns(found))[1])) == ["c1", "c2", "c3"]
    assert len(await turns(found)) == 2


async def test_a_tool_that_is_remembered_is_not_asked_about_again_in_the_run(bench: Bench) -> None:
    replies = [NOTE, {"calls": [call("note", "c2", text="more")]}, "done"]
    later = {**step({"calls": [call("note", "c3", text="later")]}, "also done"), "id": "later", "dependencies": ["ask"]}
    found = await waiting(bench, step(*replies), later)
    await found.tell("approve", step="ask", remember=True)
    await found.end()
    assert found.outputs == {"ask": "done", "later": "also done"}
    assert notes(bench.folder) == ["rm -rf", "more", "later"]
    assert len(await asked(found)) == 1


async def test_a_word_is_for_one_call_although_a_model_uses_its_id_again(bench: Bench) -> None:
    replies = [NOTE, {"calls": [call("note", "c1", text="rm -rf")]}, "done"]
    found = await waiting(bench, step(*replies))
    await found.tell("approve", step="ask")
    await found.until(lambda state: state.steps["ask"].attempt == 2 and state.steps["ask"].waiting is not None)
    assert notes(bench.folder) == ["rm -rf"]
    first, second = await asked(found)
    assert first.call_id != second.call_id
    await found.tell("cancel")
    await found.end()


async def test_a_servers_own_wish_to_be_asked_about_holds_whatever_the_step_says(bench: Bench) -> None:
    server = {"command": sys.executable, "args": ["-m", "mcp_server_time"], "require_approval": ["convert_time"]}
    now = call("time__get_current_time", "c1", timezone="UTC")
    convert = call("time__convert_time", "c2", source_timezone="UTC", time="12:00", target_timezone="Asia/Tokyo")
    ask = step({"calls": [now, convert]}, "done", tools=["time"], require_approval="never")
    found = await waiting(bench, ask, mcp_servers={"time": server})
    [question] = await asked(found)
    assert question.tool_name == "time.convert_time"
    assert [event.tool_name for event in await finished(found)] == ["time.get_current_time"]
    await found.tell("approve", step="ask")
    await found.end()
    assert [event.tool_name for event in await finished(found)] == ["time.get_current_time", "time.convert_time"]
    assert found.outputs == {"ask": "done"}


async def test_items_of_a_map_are_asked_about_one_by_one(bench: Bench) -> None:
    ask = step(NOTE, "done", for_each=[1, 2])
    found = await bench.start(plan_of(ask))
    for answered in range(2):
        await found.until(lambda state: state.steps["ask"].waiting is not None)
        assert len(notes(bench.folder)) <= answered
        await found.tell("approve", step="ask")
    await found.end()
    assert found.outputs == {"ask": ["done", "done"]}
    assert len(await asked(found)) == len(notes(bench.folder)) == 2


# --- the provider's own question


@pytest.fixture(scope="module")
def one_server() -> Iterator[RawModelServer]:
    with RawModelServer() as server:
        yield server


@pytest.fixture
def server(one_server: RawModelServer, monkeypatch: pytest.MonkeyPatch) -> RawModelServer:
    one_server.reset()
    for name, value in one_server.environment().items():
        monkeypatch.setenv(name, value)
    return one_server


HOSTED = {"type": "mcp", "server_label": "db", "server_url": "https://mcp.example.com"}


async def test_without_a_run_nobody_can_be_asked_and_the_call_is_not_made(
    tmp_path: Path, server: RawModelServer
) -> None:
    server.answers(calls(("note", {"text": "unasked"}, "c1")), text("then not"))
    executor = PromptToolExecutor(ToolSpec(tool_name="p"))
    tool = f"{write_tools(tmp_path)}/tools.py:note"
    assert await executor.execute({"prompt": "x", "require_approval": "always", "tools": [tool]}) == "then not"
    await executor.close()
    assert notes(tmp_path) == []
    assert "there is nobody to be asked" in server.bodies[1]["input"][-1]["output"]


async def test_a_call_of_the_provider_that_we_refuse_for_a_person_or_for_itself_is_a_call_with_its_end(
    bench: Bench, server: RawModelServer
) -> None:
    request = {**hosted_item("mcp_approval_request"), "name": "drop", "server_label": "db"}
    server.answers(
        answer(*events_of({**request, "id": "wrong", "arguments": "[1]"})),
        answer(*events_of({**request, "id": "wish", "arguments": '{"table": "users"}'})),
        text("fine"),
    )
    ask = {"id": "ask", "prompt": "Tidy up", "tools": [HOSTED], "model": "m"}
    found = await waiting(bench, ask, models={"m": {"hosted_tools": True}})
    await found.tell("approve", step="ask", approved=True, arguments={"table": "logs"})
    await found.end()
    first, second = [body["input"][-1] for body in server.bodies[1:]]
    assert (first["approve"], second["approve"]) == (False, False)
    assert "not a JSON object" in first["reason"]
    assert '{"table":"logs"}' in second["reason"]
    ends = [(event.call_id, event.error.message) for event in await finished(found) if event.error is not None]
    assert ends == [("wrong", first["reason"]), ("wish", second["reason"])]


@pytest.mark.parametrize("approved", [True, False])
async def test_a_provider_that_asks_before_it_calls_a_server_gets_a_persons_word(
    bench: Bench, one_server: RawModelServer, monkeypatch: pytest.MonkeyPatch, approved: bool
) -> None:
    one_server.reset()
    for name, value in one_server.environment().items():
        monkeypatch.setenv(name, value)
    request = {**hosted_item("mcp_approval_request"), "name": "drop", "arguments": '{"table": "users"}'}
    one_server.answers(answer(*events_of({**request, "server_label": "db"})), text("fine"))
    hosted = {"type": "mcp", "server_label": "db", "server_url": "https://mcp.example.com"}
    ask = {"id": "ask", "prompt": "Tidy up", "tools": [hosted], "model": "m"}
    found = await waiting(bench, ask, models={"m": {"hosted_tools": True}})
    [question] = await asked(found)
    assert (question.tool_name, question.arguments) == ("db.drop", {"table": "users"})

    await found.tell("approve", step="ask", approved=approved)
    await found.end()
    assert found.outputs == {"ask": "fine"}
    response = one_server.bodies[1]["input"][-1]
    assert response["type"] == "mcp_approval_response"
    assert (response["approval_request_id"], response["approve"]) == (request["id"], approved)
    assert len(one_server.bodies) == 2


async def test_of_tools_that_a_provider_calls_without_a_word_it_is_told_that_nobody_is_asked(bench: Bench) -> None:
    found = await bench.run(plan_of(step("done", tools=["web_search", "./tools.py:add"])))
    [attempt] = found.state.steps["ask"].attempts.values()
    assert attempt.warnings == ("nobody is asked before 'web_search': the model's provider carries it out itself",)


# --- headless


def test_headless_the_sample_asks_before_it_writes_and_the_next_step_knows_what_was_said(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    for name in ("assistant.yaml", "assistant.py"):
        shutil.copy(ROOT / "sample_plans" / name, tmp_path)
    try:
        asked = cli("run", "assistant.yaml", "--run-id", "r1")
        assert asked.code == 3
        assert 'plan wants to call save with {"title":"A day in Oslo"' in asked.err
        assert "stepchain approve r1 plan" in asked.err
        assert not (tmp_path / "day-out.md").exists()
        assert cli("approve", "r1", "plan", "--field", "title=Our day").code == 0
        assert not (tmp_path / "day-out.md").exists()
        assert cli("resume", "r1").code == 0
        assert (tmp_path / "day-out.md").read_text().startswith("# Our day\n\nRain until noon: the Fram Museum")
        plan, summary = cli.show("r1")["steps"]
        assert plan["output"] == "The plan is written down. Take an umbrella until noon."
        assert summary["output"] == {"place": "Fram Museum", "price": 43.5, "umbrella": True}
    finally:
        cli.end()
