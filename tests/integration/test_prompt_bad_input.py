"""What can go wrong between a prompt and its model: a class, what to do, and a run that goes on as its plan says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from stepchain_tui.run.status import ErrorType
from tests.support.engines import Bench, Watched, plan_of
from tests.support.model_server import RawModelServer, answer, calls, events_of, incomplete, message_item, status, text
from tests.support.prompts import finished, told, turns, write_tools


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


def ask(**keys: Any) -> dict[str, Any]:
    return {"id": "ask", "prompt": "Work it out", "on_failure": "continue", **keys}


AFTER = {"id": "after", "shell": "echo {{ steps.ask.error | quote }}", "dependencies": ["ask"]}


async def failed(bench: Bench, step: dict[str, Any], **keys: Any) -> tuple[Watched, Any]:
    """Return a run whose prompt failed, and how; the run itself goes on, as `on_failure` says."""
    found = await bench.run(plan_of(step, AFTER, **keys))
    assert found.statuses == {"ask": "failed", "after": "succeeded"}
    assert found.state.status.value == "succeeded"
    error = found.state.steps["ask"].error
    assert error is not None
    assert error.hint
    assert error.message.split("\n")[0] in found.outputs["after"]["stdout"]
    await found.check()
    return found, error


async def test_without_a_key_the_error_names_the_step_and_the_variable(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    found, error = await failed(bench, ask(tools=["./tools.py:add"]))
    assert error.error_type is ErrorType.USER_ERROR
    assert error.message == "step 'ask' needs a model, and OPENAI_API_KEY is not set"
    assert "model: scripted" in error.hint
    assert found.state.steps["ask"].attempt == 1


async def test_a_wrong_key_is_not_tried_again_and_not_shown(bench: Bench, server: RawModelServer) -> None:
    server.answers(status(401, {"message": f"Incorrect API key provided: {server.key}", "code": "invalid_api_key"}))
    found, error = await failed(bench, ask())
    assert error.error_type is ErrorType.USER_ERROR
    assert "OPENAI_API_KEY" in error.hint
    assert server.key not in repr(await found.events())
    assert len(server.bodies) == 1


async def test_an_unknown_model_is_named(bench: Bench, server: RawModelServer) -> None:
    server.answers(status(404, {"message": "The model 'gpt-nine' does not exist", "code": "model_not_found"}))
    _, error = await failed(bench, ask(model="gpt-nine"))
    assert error.error_type is ErrorType.USER_ERROR
    assert "gpt-nine" in error.message
    assert "gpt-nine" in error.hint


async def test_an_answer_that_was_cut_keeps_what_there_is_and_what_it_cost(
    bench: Bench, server: RawModelServer
) -> None:
    server.answers(calls(("add", {"a": 1}, "c1")), incomplete(message_item("Half of"), max_output_tokens=16))
    found, error = await failed(bench, ask(tools=["./tools.py:add"], max_output_tokens=16))
    assert error.error_type is ErrorType.USER_ERROR
    assert "max_output_tokens" in error.message
    assert "max_output_tokens" in error.hint
    assert error.details["partial_text"] == "Half of"
    first, second = await turns(found)
    assert first.finish_reason == "tool_calls"
    assert (second.turn, second.finish_reason, second.output) == (2, "length", None)
    assert (second.input_tokens, second.output_tokens) == (11, 7)


async def test_a_server_that_is_overloaded_is_tried_as_often_as_the_plan_says(
    bench: Bench, server: RawModelServer
) -> None:
    server.answers(status(529, "overloaded"))
    found, error = await failed(bench, ask(retry={"max_attempts": 2}))
    assert error.error_type is ErrorType.SERVER_ERROR
    assert (len(server.bodies), found.state.steps["ask"].attempt) == (2, 2)


async def test_a_model_that_calls_the_same_again_and_again_fails_and_the_run_goes_on(
    bench: Bench, server: RawModelServer
) -> None:
    server.answers(calls(("look", {})))
    found, error = await failed(bench, ask(tools=["./tools.py:look"]))
    assert error.error_type is ErrorType.USER_ERROR
    assert "round in circles" in error.message
    assert len(server.bodies) == 6
    assert len({event.call_id for event in await finished(found)}) == 6


async def test_a_tool_that_only_raises_does_not_fail_the_step(bench: Bench, server: RawModelServer) -> None:
    server.answers(calls(("fails", {"name": "a"}, "c1")), calls(("fails", {"name": "b"}, "c2")), text("I gave up"))
    found = await bench.run(plan_of(ask(tools=["./tools.py:fails"])))
    assert found.outputs == {"ask": "I gave up"}
    assert "nobody answers at b" in told((await turns(found))[2])["c2"]["error"]


# --- the form of the answer

FORM = {
    "type": "object",
    "properties": {"price": {"type": "number"}},
    "required": ["price"],
    "additionalProperties": False,
}


async def test_an_answer_of_the_wrong_form_is_asked_for_once_more(bench: Bench, server: RawModelServer) -> None:
    server.answers(text('{"price": "n/a"}'), text('{"price": 4.5}'))
    found = await bench.run(plan_of(ask(expects=FORM)))
    assert found.outputs == {"ask": {"price": 4.5}}
    first, second = server.bodies
    assert first["text"]["format"]["strict"] is True
    assert second["text"] == first["text"]
    assert second["input"][-1]["role"] == "user"
    assert "$.price" in second["input"][-1]["content"]
    [attempt] = found.state.steps["ask"].attempts.values()
    assert "$.price" in attempt.warnings[0]
    assert any("$.price" in line.text for line in await found.log("ask") if line.stream == "engine")


async def test_an_answer_of_the_wrong_form_twice_fails_with_the_differences(
    bench: Bench, server: RawModelServer
) -> None:
    server.answers(text('{"price": "n/a"}'), text("no idea"))
    _, error = await failed(bench, ask(expects=FORM))
    assert error.error_type is ErrorType.USER_ERROR
    assert error.details["differences"]
    assert error.details["text"] == "no idea"
    assert len(server.bodies) == 2


@pytest.mark.parametrize("max_turns", [1, 2])
async def test_an_answer_of_the_wrong_form_that_no_turn_is_left_to_mend_says_what_is_wrong_with_it(
    bench: Bench, server: RawModelServer, max_turns: int
) -> None:
    server.answers(text('{"price": "n/a"}'), calls(("add", {"a": 1, "b": 2}, "c1")))
    step = ask(expects=FORM, tools=["./tools.py:add"], max_turns=max_turns)
    _, error = await failed(bench, step)
    assert "$.price: a number was expected" in error.message
    assert ("asked for again" in error.message) is (max_turns == 2)
    assert error.details["text"] == '{"price": "n/a"}'
    assert f"`max_turns`, which is {max_turns}" in error.hint
    assert len(server.bodies) == max_turns


async def test_a_form_and_tools_go_together(bench: Bench, server: RawModelServer) -> None:
    server.answers(calls(("add", {"a": 1, "b": 2}, "c1")), text('{"price": 3}'))
    found = await bench.run(plan_of(ask(expects=FORM, tools=["./tools.py:add"])))
    assert found.outputs == {"ask": {"price": 3}}


async def test_a_repair_is_not_asked_for_again_after_a_failure_behind_it(bench: Bench, server: RawModelServer) -> None:
    server.answers(text("nonsense"), status(500, "overloaded"), text("more nonsense"))
    _, error = await failed(bench, ask(expects=FORM, retry={"max_attempts": 2}))
    assert error.details["text"] == "more nonsense"
    assert [len(body["input"]) for body in server.bodies] == [1, 3, 3]


async def test_a_model_that_refuses_has_no_value(bench: Bench, server: RawModelServer) -> None:
    server.answers(answer(*events_of(message_item("", refusal="I will not"))))
    _, error = await failed(bench, ask(expects=FORM))
    assert error.error_type is ErrorType.USER_ERROR
    assert "I will not" in error.message


# --- what came before


async def test_earlier_results_go_before_the_question_and_their_size_is_kept(
    bench: Bench, server: RawModelServer
) -> None:
    server.answers(text("fine"))
    first = {"id": "facts", "shell": "echo the sky is green"}
    found = await bench.run(plan_of(first, ask(history="full", dependencies=["facts"])))
    [body] = server.bodies
    assert "the sky is green" in body["input"][0]["content"]
    assert body["input"][0]["content"].endswith("Work it out")
    [turn] = await turns(found)
    assert turn.history_tokens is not None
    assert turn.history_tokens > 0
    assert any("earlier results take" in line.text for line in await found.log("ask"))


async def test_a_summary_is_asked_for_once_although_the_question_after_it_fails(
    bench: Bench, server: RawModelServer
) -> None:
    server.answers(text("a short summary"), status(500, "overloaded"), text("fine"))
    steps = [{"id": f"facts{n}", "shell": f"printf '%0500d' {n}"} for n in range(3)]
    wanted = ask(history={"summarise": 50}, dependencies=[step["id"] for step in steps], retry={"max_attempts": 2})
    found = await bench.run(plan_of(*steps, wanted))
    assert found.outputs["ask"] == "fine"
    assert len(server.bodies) == 3
    assert "a short summary" in server.bodies[2]["input"][0]["content"]
    assert server.bodies[1]["input"] == server.bodies[2]["input"]
    assert [turn.turn for turn in await turns(found)] == [0, 1]


async def test_a_conversation_goes_on_in_a_later_step(bench: Bench, server: RawModelServer) -> None:
    server.answers(calls(("add", {"a": 1, "b": 2}, "c1")), text("three"), text("three, as I said"))
    first = {"id": "first", "prompt": "1 + 2?", "tools": ["./tools.py:add"]}
    found = await bench.run(plan_of(first, ask(history="continue", dependencies=["first"])))
    assert found.outputs["ask"] == "three, as I said"
    kinds = [item.get("type", item.get("role")) for item in server.bodies[2]["input"]]
    assert kinds == ["user", "function_call", "function_call_output", "message", "user"]
    assert server.bodies[2]["input"][-1]["content"] == "Work it out"
    last = (await turns(found))[-1]
    assert last.sent is not None
    assert [item["content"] for item in last.sent.value] == ["Work it out"]


async def test_where_there_is_no_conversation_to_continue_a_warning_says_so(
    bench: Bench, server: RawModelServer
) -> None:
    server.answers(text("fine"))
    first = {"id": "first", "prompt": "Say {{ item }}", "for_each": ["a", "b"], "model": "scripted", "replies": ["x"]}
    found = await bench.run(plan_of(first, ask(history="continue", dependencies=["first"])))
    [attempt] = found.state.steps["ask"].attempts.values()
    assert attempt.warnings == ("there is no conversation of an earlier prompt to continue: it begins anew",)
    assert len(server.bodies[0]["input"]) == 1


async def test_a_continued_conversation_has_the_secrets_that_its_step_tells_too_and_no_others(
    bench: Bench, server: RawModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSPHRASE", "open-sesame-4711")
    server.answers(text("one"), text("two"), text("three"))
    says = {"prompt": "Say {{ secrets.PASSPHRASE }}"}
    first = {"id": "first", **says}
    knows = {"id": "knows", **says, "history": "continue", "dependencies": ["first"]}
    plan = plan_of(first, knows, ask(history="continue", dependencies=["knows"]), secrets=["PASSPHRASE"])
    await bench.run(plan)
    told = [body["input"][0]["content"] for body in server.bodies]
    assert told == ["Say open-sesame-4711", "Say open-sesame-4711", "Say [secret PASSPHRASE]"]
