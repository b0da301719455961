"""Prompts whose model calls tools: functions, the sandbox, MCP servers, tools of the provider."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from stepchain_tui.run.status import ErrorType
from tests.support.engines import Bench, Watched, plan_of
from tests.support.model_server import RawModelServer, answer, calls, events_of, hosted_item, message_item, text
from tests.support.prompts import call, finished, notes, started, told, turns, write_tools

MCP_SERVER = str(Path(__file__).parents[1] / "support" / "mcp_server.py")


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with Bench(folder=write_tools(tmp_path)) as made:
        yield made


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


def scripted(*replies: Any, tools: Any = ("./tools.py:add",), **keys: Any) -> dict[str, Any]:
    return {"id": "ask", "prompt": "Work it out", "model": "scripted", "replies": [*replies], "tools": [*tools], **keys}


async def run(bench: Bench, *steps: dict[str, Any], **keys: Any) -> Watched:
    found = await bench.run(plan_of(*steps, **keys))
    await found.check()
    return found


def failure(found: Watched, step_id: str = "ask") -> Any:
    error = found.state.steps[step_id].error
    assert error is not None
    assert error.hint
    return error


# --- functions


async def test_a_model_calls_a_function_and_answers_with_what_it_gave(bench: Bench) -> None:
    found = await run(bench, scripted({"calls": [call("add", "c1", a=2, b=3)]}, "it is 5"))

    assert found.outputs == {"ask": "it is 5"}
    [begun] = await started(found)
    [ended] = await finished(found)
    assert (begun.call_id, begun.tool_name, begun.arguments) == ("c1", "add", {"a": 2, "b": 3})
    assert (ended.call_id, ended.error, ended.hosted) == ("c1", None, False)
    assert ended.result is not None
    assert ended.result.value == 5
    assert ended.execution_time > 0
    first, last = await turns(found)
    assert (first.turn, first.finish_reason, last.turn, last.finish_reason) == (1, "tool_calls", 2, "stop")
    assert told(last) == {"c1": 5}


async def test_what_a_model_thought_is_logged_before_what_it_said_and_did(bench: Bench) -> None:
    thinks = {"reasoning": "I add first.", "text": "Let me see.", "calls": [call("add", "c1", a=2, b=3)]}
    found = await run(bench, scripted(thinks, {"reasoning": "That was easy.", "text": "5"}))
    log = "".join(line.text if line.stream != "engine" else "(called)" for line in await found.log("ask"))
    assert log == "I add first.Let me see.(called)That was easy.5"


async def test_what_is_sent_is_strict_and_the_results_come_back_behind_the_calls(
    bench: Bench, server: RawModelServer
) -> None:
    server.answers(calls(("add", {"a": 2, "b": None}, "c1"), said="Let me see. "), text("3 it is"))
    found = await run(bench, {"id": "ask", "prompt": "2 + 1?", "tools": ["./tools.py:add"]})

    assert found.outputs == {"ask": "3 it is"}
    first, second = server.bodies
    [tool] = first["tools"]
    assert (tool["name"], tool["strict"], tool["description"]) == ("add", True, "Add two numbers.")
    assert tool["parameters"]["required"] == ["a", "b"]
    assert first["input"] == [{"role": "user", "content": "2 + 1?"}]
    kinds = [item.get("type", item.get("role")) for item in second["input"]]
    assert kinds == ["user", "message", "function_call", "function_call_output"]
    assert second["input"][-1] == {"type": "function_call_output", "call_id": "c1", "output": "3"}
    assert second["tools"] == first["tools"]
    log = [line.text for line in await found.log("ask") if line.stream.startswith("text")]
    assert "".join(log) == "Let me see. 3 it is"
    assert len(log) >= 2, "answers are told apart"


async def test_calls_of_one_turn_run_at_the_same_time(bench: Bench) -> None:
    reply = {"calls": [call("meets", "c1", name="Ada"), call("meets", "c2", name="Bob")]}
    found = await run(bench, scripted(reply, "done", tools=["./tools.py:meets"], timeout=20))

    assert found.outputs == {"ask": "done"}
    assert told((await turns(found))[1]) == {"c1": "Ada met", "c2": "Bob met"}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('{"a": 1', "no JSON"),
        ("[1, 2]", "list, not a JSON object"),
        ('{"a": "many"}', "argument 'a'"),
        ("{}", "needs 'a'"),
        ('{"a": 1, "c": 2}', "has no parameter 'c'"),
        ("[" * 100_000, "no JSON"),
    ],
    ids=["broken", "list", "type", "missing", "unknown", "deep"],
)
async def test_a_wrong_argument_goes_back_to_the_model(bench: Bench, written: str, said: str) -> None:
    wrong = {"name": "add", "arguments": written, "call_id": "c1"}
    found = await run(bench, scripted({"calls": [wrong]}, "sorry"))

    assert found.outputs == {"ask": "sorry"}
    [ended] = await finished(found)
    assert ended.error is not None
    assert (ended.error.error_type, ended.error.exception) == (ErrorType.USER_ERROR, "ToolArgumentError")
    told_of = told((await turns(found))[1])["c1"]
    assert said in told_of["error"]
    assert told_of["hint"]


async def test_an_unknown_tool_goes_back_to_the_model_with_those_that_there_are(bench: Bench) -> None:
    found = await run(bench, scripted({"calls": [call("ad", "c1", a=1)]}, "sorry"))

    assert told((await turns(found))[1])["c1"] == {"error": "there is no tool 'ad'", "hint": "did you mean 'add'?"}
    [ended] = await finished(found)
    assert ended.error is not None
    assert ended.error.error_type is ErrorType.USER_ERROR


async def test_a_tool_that_raises_is_told_to_the_model_and_the_step_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_TOKEN", "tok-4711-do-not-show")
    reply = {"calls": [call("fails", "c1", name="example.com"), call("add", "c2", a=1)]}
    found = await run(bench, scripted(reply, "half of it", tools=["./tools.py:fails", "./tools.py:add"]))

    assert found.outputs == {"ask": "half of it"}
    said = told((await turns(found))[1])
    assert said["c1"] == {"error": "nobody answers at example.com with [secret CRM_TOKEN]"}
    assert said["c2"] == 2
    errors = {event.call_id: event.error for event in await finished(found)}
    assert errors["c2"] is None
    assert errors["c1"] is not None
    assert errors["c1"].error_type is ErrorType.SERVER_ERROR
    assert "Traceback" in errors["c1"].traceback
    assert "tok-4711" not in repr(await found.events())


async def test_a_tool_that_hangs_is_stopped_by_its_own_timeout_and_the_model_is_told(bench: Bench) -> None:
    tools = {"hangs": {"function": "./tools.py:hangs", "timeout": 0.05}}
    found = await run(bench, scripted({"calls": [call("hangs", "c1")]}, "too slow", tools=["hangs"]), tools=tools)

    assert found.outputs == {"ask": "too slow"}
    assert "timeout of 0.05 s" in told((await turns(found))[1])["c1"]["error"]
    [ended] = await finished(found)
    assert ended.error is not None
    assert ended.error.error_type is ErrorType.TIMEOUT


async def test_a_large_result_is_cut_for_the_model_and_whole_in_the_event(bench: Bench) -> None:
    found = await run(bench, scripted({"calls": [call("large", "c1")]}, "much", tools=["./tools.py:large"]))

    _, last = await turns(found)
    sent = await bench.store.load_value(last.sent)
    assert sent[-1]["output"].startswith("x" * 100_000 + "\n[cut off: the result has 300,000 characters")
    assert len(sent[-1]["output"]) < 101_000
    [ended] = await finished(found)
    assert await bench.store.load_value(ended.result) == "x" * 300_000


async def test_the_sandbox_computes_for_a_model(bench: Bench) -> None:
    found = await run(bench, scripted({"calls": [call("python_code", "c1", code="1+1")]}, "2", tools=["python_code"]))

    [ended] = await finished(found)
    assert (ended.tool_name, ended.error) == ("python_code", None)
    assert ended.result is not None
    assert ended.result.value == {"result": 2, "stdout": ""}


async def test_a_tool_in_a_process_gets_one_with_its_own_name_and_description(bench: Bench) -> None:
    tools = {"sum_up": {"function": "./tools.py:add", "mode": "process", "description": "Sums up."}}
    found = await run(bench, scripted({"calls": [call("sum_up", "c1", a=4)]}, "5", tools=["sum_up"]), tools=tools)

    assert told((await turns(found))[1]) == {"c1": 5}
    assert [event.tool_name for event in await finished(found)] == ["sum_up"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import no_such_module_here\ndef tool(): ...\n", "no_such_module_here"),
        ("def tool(*numbers): ...\n", "it takes *numbers"),
    ],
    ids=["import", "arguments"],
)
async def test_a_function_that_cannot_be_had_fails_the_step_before_anybody_is_asked(
    bench: Bench, code: str, said: str
) -> None:
    (bench.folder / "broken.py").write_text(code)
    ask = scripted("never", tools=["./broken.py:tool"])
    found = await bench.run(plan_of(ask, {"id": "after", "shell": "echo", "dependencies": ["ask"]}))

    error = failure(found)
    assert error.error_type is ErrorType.USER_ERROR
    assert error.message.startswith("step 'ask': ")
    assert "tool" in error.message
    assert said in error.message
    assert found.statuses["after"] == "blocked"
    assert await turns(found) == []


# --- MCP servers


def odd_server(**keys: Any) -> dict[str, Any]:
    return {"odd": {"command": sys.executable, "args": [MCP_SERVER, "stdio"], **keys}}


async def test_a_model_calls_tools_of_a_server_under_names_that_providers_take(
    bench: Bench, server: RawModelServer
) -> None:
    server.answers(calls(("time__get_current_time", {"timezone": "UTC"}, "c1")), text("noon"))
    found = await run(
        bench,
        {"id": "ask", "prompt": "What time is it?", "tools": ["time"]},
        mcp_servers={"time": {"command": sys.executable, "args": ["-m", "mcp_server_time"]}},
    )

    assert found.outputs == {"ask": "noon"}
    assert [tool["name"] for tool in server.bodies[0]["tools"]] == ["time__get_current_time", "time__convert_time"]
    [ended] = await finished(found)
    assert (ended.tool_name, ended.error) == ("time.get_current_time", None)
    assert "datetime" in server.bodies[1]["input"][-1]["output"]


async def test_only_the_tools_that_are_allowed_or_named_are_offered(bench: Bench, server: RawModelServer) -> None:
    server.answers(text("x"))
    time = {"command": sys.executable, "args": ["-m", "mcp_server_time"]}
    await run(
        bench,
        {"id": "some", "prompt": "?", "tools": ["time"]},
        mcp_servers={"time": {**time, "allowed_tools": ["convert_time"]}},
    )
    await run(
        bench,
        {"id": "one", "prompt": "?", "tools": ["now"]},
        tools={"now": "time.get_current_time"},
        mcp_servers={"time": time},
    )
    some, one = server.bodies
    assert [tool["name"] for tool in some["tools"]] == ["time__convert_time"]
    assert [tool["name"] for tool in one["tools"]] == ["now"]


async def test_a_server_that_cannot_be_started_fails_the_step_by_its_class(bench: Bench) -> None:
    servers = {"gone": {"command": "no-such-program-here"}}
    found = await bench.run(plan_of(scripted("never", tools=["gone"], retry={"max_attempts": 1}), mcp_servers=servers))

    error = failure(found)
    assert error.message.startswith("step 'ask': MCP server 'gone'")
    assert await turns(found) == []


async def test_two_tools_of_one_name_are_refused_before_anything_is_sent(bench: Bench, server: RawModelServer) -> None:
    (bench.folder / "more.py").write_text("def time__convert_time() -> str:\n    return ''\n")
    plan = plan_of(
        {"id": "ask", "prompt": "?", "tools": ["time.convert_time", "./more.py:time__convert_time"]},
        mcp_servers={"time": {"command": sys.executable, "args": ["-m", "mcp_server_time"]}},
    )
    error = failure(await bench.run(plan))

    assert error.error_type is ErrorType.USER_ERROR
    assert "'time.convert_time' and 'time__convert_time' are both 'time__convert_time'" in error.message
    assert server.bodies == []


# --- the provider's own tools


async def test_calls_that_the_provider_made_are_told_with_their_results_and_sources(
    bench: Bench, server: RawModelServer
) -> None:
    note = {"type": "url_citation", "url": "https://example.com/a", "title": "A page", "start_index": 0, "end_index": 4}
    search = hosted_item("web_search_call", action={"type": "search", "query": "news", "sources": []})
    code = hosted_item("code_interpreter_call", code="1+1", outputs=[{"type": "logs", "logs": "2"}])
    broken = {**hosted_item("mcp_call", server_label="wiki", name="find", arguments='{"q": 1}'), "error": "gone"}
    server.answers(answer(*events_of(search, code, broken, message_item("News", [note, note]))))
    found = await run(
        bench,
        {"id": "ask", "prompt": "News?", "tools": ["web_search", "code_interpreter"], "model": "m"},
        models={"m": {"hosted_tools": True}},
    )

    assert found.outputs == {"ask": "News"}
    assert [tool["type"] for tool in server.bodies[0]["tools"]] == ["web_search", "code_interpreter"]
    ended = {event.tool_name: event for event in await finished(found)}
    assert list(ended) == ["web_search", "code_interpreter", "wiki.find"]
    assert all(event.hosted for event in ended.values())
    assert ended["web_search"].arguments["action"]["query"] == "news"
    assert ended["code_interpreter"].result is not None
    assert ended["code_interpreter"].result.value == [{"type": "logs", "logs": "2"}]
    assert ended["wiki.find"].arguments == {"q": 1}
    assert ended["wiki.find"].error is not None
    assert "gone" in ended["wiki.find"].error.message
    sources = [line.text for line in await found.log("ask") if line.stream == "sources"]
    assert sources == ["[1] A page https://example.com/a"]


async def test_a_hosted_tool_at_an_address_that_has_none_is_a_mistake_of_the_plan(
    bench: Bench, server: RawModelServer
) -> None:
    error = failure(await bench.run(plan_of({"id": "ask", "prompt": "News?", "tools": ["web_search"]})))
    assert error.error_type is ErrorType.USER_ERROR
    assert "web_search" in error.message
    assert server.bodies == []


# --- both kinds of history


async def test_where_the_address_keeps_answers_only_what_is_new_is_sent(bench: Bench, server: RawModelServer) -> None:
    server.answers(calls(("add", {"a": 1, "b": 2}, "c1"), response_id="r1"), text("3", response_id="r2"))
    found = await run(
        bench,
        {"id": "ask", "prompt": "1 + 2?", "tools": ["./tools.py:add"], "model": "m"},
        models={"m": {"stateful": True}},
    )

    assert found.outputs == {"ask": "3"}
    first, second = server.bodies
    assert "previous_response_id" not in first
    assert second["previous_response_id"] == "r1"
    assert second["input"] == [{"type": "function_call_output", "call_id": "c1", "output": "3"}]


# --- limits


async def test_a_conversation_that_does_not_end_says_what_to_raise(bench: Bench) -> None:
    replies = [{"calls": [call("add", a=number)]} for number in range(5)]
    error = failure(await bench.run(plan_of(scripted(*replies, max_turns=3))))
    assert error.error_type is ErrorType.USER_ERROR
    assert "the model was asked 3 times" in error.message
    assert "max_turns" in error.hint


async def test_more_calls_than_a_conversation_may_have_are_not_made(bench: Bench) -> None:
    reply = {"calls": [call("note", text=str(number)) for number in range(101)]}
    error = failure(await bench.run(plan_of(scripted(reply, "x", tools=["./tools.py:note"]))))
    assert error.error_type is ErrorType.USER_ERROR
    assert "101 tool calls, and 100 is the most" in error.message
    assert notes(bench.folder) == []


async def test_a_model_that_goes_round_in_circles_is_told_once_and_then_fails(bench: Bench) -> None:
    found = await bench.run(plan_of(scripted({"calls": [call("look")]}, tools=["./tools.py:look"])))

    error = failure(found)
    assert error.error_type is ErrorType.USER_ERROR
    assert "round in circles" in error.message
    assert "look" in error.message
    said = await turns(found)
    assert len(said) == 6
    warned = [turn.turn for turn in said if turn.sent and "5 times in a row" in str(turn.sent.value)]
    assert warned == [6]


async def test_a_model_that_is_told_and_then_answers_is_fine(bench: Bench) -> None:
    replies = [*[{"calls": [call("look")]}] * 5, "not yet, then"]
    found = await run(bench, scripted(*replies, tools=["./tools.py:look"]))
    assert found.outputs == {"ask": "not yet, then"}
