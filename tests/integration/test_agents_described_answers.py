"""What an agent of a plan remembers, and answers that have a form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.run import ErrorType
from tests.support.described_agents import AGENTS, QUICK, called, carried_out, turn, write_shop
from tests.support.engines import Bench, plan_of
from tests.support.model_server import model_server
from tests.support.model_streams import calls, incomplete, message_item, status, text
from tests.support.raw_model_server import RawModelServer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_shop(tmp_path)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawModelServer]:
    with RawModelServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


# --- what it remembers


def two_turns(**second: Any) -> list[dict[str, Any]]:
    after = turn("second", "solo", request="And now?", dependencies=["turn"], **second)
    return [turn("turn", "solo", request="My name is Ada."), after]


def of_memory(memory: Any) -> dict[str, Any]:
    return {"solo": {"instructions": "Answer.", **({} if memory is None else {"memory": memory})}}


@pytest.mark.parametrize(("memory", "remembers"), [(None, True), (True, True), ({"last": 500}, True), (False, False)])
async def test_an_agent_remembers_its_turns_in_earlier_steps_unless_it_is_told_not_to(
    folder: Path, server: RawModelServer, memory: Any, remembers: bool
) -> None:
    server.answers(text("Hello Ada."), text("Ada."))
    run = await carried_out(folder, *two_turns(), agents=of_memory(memory))
    asked = server.bodies[1]["input"][-1]["content"]
    assert asked.endswith("And now?")
    assert ("My name is Ada." in asked, "Hello Ada." in asked) == (remembers, remembers)
    (told,) = run.turns("second")
    assert (told.history_tokens is not None) is remembers
    assert any("earlier results take" in line for line in run.lines("second")) is remembers


async def test_what_an_agent_remembers_is_read_anew_when_an_earlier_step_was_made_anew(
    folder: Path, server: RawModelServer
) -> None:
    look_up = calls(("invoices_of", {"customer": "Ada"}, "c1"))
    server.answers(text("Hello Ada."), look_up, status(503, "later"), text("Hello Bo."), text("Bo."))
    agents = {"solo": {"instructions": "Answer.", "tools": ["./shop.py:invoices_of"]}}
    async with Bench(folder=folder) as bench:
        run = await bench.run(plan_of(*two_turns(retry={"max_attempts": 1}), agents=agents))
        assert run.statuses == {"turn": "succeeded", "second": "failed"}
        await bench.rerun(run.run_id, "turn")
        assert (await bench.resume(run.run_id)).statuses["second"] == "succeeded"
    (asked,) = server.bodies[4]["input"]
    assert "Hello Bo." in asked["content"]
    assert "Hello Ada." not in asked["content"]


async def test_a_step_may_let_its_agent_forget(folder: Path, server: RawModelServer) -> None:
    server.answers(text("Hello Ada."), text("Who?"))
    await carried_out(folder, *two_turns(args={"memory": False}), agents=of_memory(True))
    assert server.bodies[1]["input"] == [{"role": "user", "content": "And now?"}]


async def test_what_does_not_fit_is_summarised_by_the_agents_own_model(folder: Path, server: RawModelServer) -> None:
    server.answers(text("word " * 400), text("They spoke of words."), text("Done."))
    run = await carried_out(folder, *two_turns(), agents=of_memory({"summarise": 60}))
    assert run.outputs["second"]["response"] == "Done."
    summary, asked = server.bodies[1], server.bodies[2]["input"][-1]["content"]
    assert "Summarise" in summary["input"][-1]["content"]
    assert "They spoke of words." in asked
    assert "word word word" not in asked
    told = run.turns("second")[-1]
    assert told.history_tokens is not None
    assert told.history_tokens_before is not None
    assert told.history_tokens < told.history_tokens_before


async def test_an_agent_remembers_what_was_handed_over_to_it_and_what_it_answered(
    folder: Path, server: RawModelServer
) -> None:
    server.answers(calls(("transfer_to_billing", {}, "c1")), text("Invoice 312."), text("Yes."), text("Hello."))
    later = turn("later", "billing", request="Is it paid?", dependencies=["turn"])
    other = {"id": "other", "agent": "third", "request": "And you?", "dependencies": ["later"]}
    agents = {**AGENTS, "third": {"instructions": "You are new."}}
    await carried_out(folder, turn(), later, other, agents=agents)
    remembered, new = (server.bodies[place]["input"][-1]["content"] for place in (2, 3))
    assert "Was I charged twice?" in remembered
    assert "Invoice 312." in remembered
    assert new == "And you?"


async def test_messages_of_the_step_come_before_the_request(folder: Path, server: RawModelServer) -> None:
    server.answers(text("Yes."))
    memory = [{"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Hello."}]
    args = {"memory": memory, "from_agent": "door", "tool_results": [{"tool_name": "clock", "result": "noon"}]}
    await carried_out(folder, turn("turn", "billing", args=args))
    assert server.bodies[0]["input"] == [
        {"role": "developer", "content": "Be brief."},
        {"role": "assistant", "content": "Hello."},
        {"role": "developer", "content": "Request from door: Was I charged twice?"},
        {"role": "user", "content": "tool clock: noon"},
        {"role": "user", "content": "Was I charged twice?"},
    ]


# --- answers with a form


async def test_the_response_is_the_value_that_was_expected(folder: Path, server: RawModelServer) -> None:
    server.answers(text('{"invoice": 312, "amount": 42.5, "currency": null}'))
    run = await carried_out(folder, turn(expects="./shop.py:Refund"))
    assert run.outputs["turn"]["response"] == {"invoice": 312, "amount": 42.5, "currency": "EUR"}
    form = server.bodies[0]["text"]["format"]
    assert (form["type"], form["name"], form["strict"]) == ("json_schema", "Refund", True)
    assert form["schema"]["required"] == ["invoice", "amount", "currency"]


async def test_an_answer_without_its_form_is_asked_for_once_more_and_that_is_seen(
    folder: Path, server: RawModelServer
) -> None:
    server.answers(text('{"invoice": "n/a", "amount": 1}'), text('{"invoice": 3, "amount": 1}'))
    run = await carried_out(folder, turn(expects="./shop.py:Refund"))
    assert run.outputs["turn"]["response"] == {"invoice": 3, "amount": 1.0, "currency": "EUR"}
    difference = "$.invoice: a whole number was expected, got text 'n/a'"
    assert difference in server.bodies[1]["input"][-1]["content"]
    assert difference in run.lines()
    attempt = run.step().last
    assert attempt is not None
    assert any(difference in warning and "asked for again" in warning for warning in attempt.warnings)


async def test_an_answer_without_its_form_twice_fails_with_the_differences_and_the_text(folder: Path) -> None:
    step = turn("turn", "front", '{"invoice": 3}', expects="./shop.py:Refund", retry=QUICK)
    run = await carried_out(folder, step)
    failure = run.failure()
    assert (failure.error_type, run.step().attempt) == (ErrorType.USER_ERROR, 1)
    assert "$.amount is missing" in failure.message
    assert failure.hint
    assert failure.details["differences"][0]["path"] == "$.amount"
    assert failure.details["text"] == '{"invoice": 3}'
    assert len(run.turns()) == 2


async def test_an_answer_that_was_cut_at_the_token_limit_is_no_mismatch(folder: Path, server: RawModelServer) -> None:
    server.answers(incomplete(message_item('{"invoice": 3, "am')))
    failure = (await carried_out(folder, turn(expects="./shop.py:Refund"))).failure()
    assert failure.error_type is ErrorType.USER_ERROR
    assert "does not fit" not in failure.message
    assert "max_output_tokens" in failure.hint
    assert len(server.bodies) == 1


@pytest.mark.needs("llmock")
async def test_another_model_server_hands_over_looks_up_and_mends_its_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with model_server() as mock:
        for name, value in mock.environment().items():
            monkeypatch.setenv(name, value)
        await mock.fixtures(
            [
                {
                    "match": {"userMessage": "does not have the form"},
                    "response": {"content": '{"invoice": 312, "amount": 42.5, "currency": "CHF"}'},
                },
                {
                    "match": {"userMessage": "twice", "toolResultContains": "311"},
                    "response": {"content": '{"invoice": "312"'},
                },
                {
                    "match": {"userMessage": "twice", "toolResultContains": "billing"},
                    "response": {"toolCalls": [{"id": "c2", "name": "invoices_of", "arguments": {"customer": "Ada"}}]},
                },
                {
                    "match": {"userMessage": "twice", "hasToolResult": False},
                    "response": {"toolCalls": [{"id": "c1", "name": "transfer_to_billing", "arguments": {}}]},
                },
            ]
        )
        run = await carried_out(folder, turn(expects="./shop.py:Refund"))
        assert run.outputs["turn"] == {
            "response": {"invoice": 312, "amount": 42.5, "currency": "CHF"},
            "agent": "billing",
        }
        assert called(folder) == ["Ada"]
        assert len(await mock.journal()) == 4
