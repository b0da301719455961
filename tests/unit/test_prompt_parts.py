"""The parts of a conversation: items, names, threads, what was said before."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from stepchain_tui.core.secrets import Redactor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt.conversation import LoopWatch
from stepchain_tui.executors.prompt.earlier_turns import earlier_turns, with_secrets
from stepchain_tui.executors.prompt.items import answer_of, items_of, source_lines, text_of_result, wanted_in
from stepchain_tui.executors.prompt.models import PromptModels
from stepchain_tui.executors.prompt.questions import Thread
from stepchain_tui.executors.prompt.toolset import ModelTool, ToolSet, name_for_model
from stepchain_tui.executors.prompt.turn_calls import Ended, TurnCalls, handoff_schema
from stepchain_tui.executors.prompt.voices import Voice
from stepchain_tui.executors.types import ApprovalNeeded, Exchange, ToolAnswer
from stepchain_tui.llm.types import CallRequest, Citation, ModelAnswer, user_message
from stepchain_tui.plan import Plan

NO_SECRETS = Redactor({})


def called(call_id: Any, name: str = "add", arguments: Any = "{}") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def test_an_id_that_a_model_uses_again_is_told_apart_and_the_same_each_time() -> None:
    def ids() -> list[str]:
        seen: set[str] = set()
        found = [*wanted_in([called("c"), called("c"), called("")], 1, seen), *wanted_in([called("c")], 2, seen)]
        assert [one.sent_id for one in found] == ["c", "c", "", "c"]
        return [one.call_id for one in found]

    assert ids() == ids() == ["c", "c~1.1", "call_1_2", "c~2.0"]


def test_ids_and_names_of_any_length_stay_out_of_events() -> None:
    [one] = wanted_in([called("x" * 1_000_000, "n" * 1_000_000)], 3, set())
    assert one.call_id == "call_3_0"
    assert one.name == "name_of_1000000_characters"
    assert one.output("5")["call_id"] == one.sent_id


@pytest.mark.parametrize(
    ("name", "expected"),
    [("files.read", "files__read"), ("a b/c", "a_b_c"), ("x" * 100, "x" * 64), ("été.né", "_t___n_")],
)
def test_names_are_such_that_providers_take_them(name: str, expected: str) -> None:
    assert name_for_model(name) == expected


def test_an_answer_comes_back_from_its_items_as_it_was() -> None:
    answer = ModelAnswer(
        text="It is 5", model="m", response_id="r", calls=(CallRequest(call_id="c", name="f", arguments="{}"),)
    )
    again = answer_of(items_of(answer), model="m", response_id="r")
    assert (again.text, again.calls, again.response_id, again.refused) == (answer.text, answer.calls, "r", False)
    refused = answer_of(items_of(ModelAnswer(text="no", model="m", refused=True)), model="m", response_id="")
    assert (refused.text, refused.refused) == ("no", True)
    assert items_of(ModelAnswer(text="", model="m")), "an empty answer is one, too"


def test_sources_are_lines_and_each_is_told_once() -> None:
    found = source_lines(
        [
            Citation(title="A\npage", url="https://a.example", start=1),
            Citation(title="A\npage", url="https://a.example", start=9),
            Citation(),  # what is left of an address that is none of the web
            Citation(file="notes.txt"),
        ]
    )
    assert found == ["[1] A page https://a.example\n", "[2] notes.txt\n"]


def test_what_a_tool_gave_is_text_or_json_and_has_no_secrets() -> None:
    redactor = Redactor({"TOKEN": "abcdefgh"})
    assert text_of_result("plain abcdefgh", redactor) == "plain [secret TOKEN]"
    assert text_of_result({"a": [1, None, "abcdefgh"]}, redactor) == '{"a":[1,null,"[secret TOKEN]"]}'
    assert text_of_result(None, redactor) == "null"
    assert text_of_result({"when": b"bytes"}, NO_SECRETS) == '{"when":{"text":"bytes","type":"bytes"}}'


def test_only_secrets_that_the_plan_itself_told_are_put_back() -> None:
    redactor = Redactor({"TOLD": "told-secret-1", "OTHER": "other-secret-2"})
    items = [user_message("[secret TOLD] [secret OTHER]")]
    assert with_secrets(items, ["say told-secret-1"], redactor) == [user_message("told-secret-1 [secret OTHER]")]


def turn(number: int, agent: str = "", output: Any = ({"type": "message"},)) -> Exchange:
    return Exchange(turn=number, sent=(), output=output, agent=agent)


@pytest.mark.parametrize(
    ("turns", "kept"),
    [
        ([turn(1), turn(2)], 2),
        ([turn(0), turn(1)], 1),
        ([turn(2)], 0),
        ([turn(1), turn(3)], 0),
        ([turn(1, "gone")], 0),
        ([turn(1, output=())], 0),
        ([], 0),
    ],
)
def test_only_a_whole_conversation_is_gone_on_from(turns: list[Exchange], kept: int) -> None:
    call = type("Call", (), {"exchanges": tuple(turns)})()
    assert len(earlier_turns(call, {"": None})) == kept


def test_a_thread_names_the_last_answer_only_to_who_gave_it() -> None:
    thread = Thread()
    thread.add([user_message("a")])
    assert thread.sent_to("here") == {"items": (user_message("a"),)}
    thread.answered([{"type": "message"}], "r1", "here")
    thread.add([user_message("b")])
    assert list(thread.new) == [user_message("b")]
    assert thread.sent_to("there") == {"items": thread.items}
    assert thread.sent_to("here") == {"items": thread.items, "previous_response_id": "r1", "new_from": 2}


def test_a_loop_is_the_same_calls_with_the_same_results_in_a_row() -> None:
    def done(text: str) -> list[Ended]:
        [one] = wanted_in([called("c")], 1, set())
        return [Ended(wanted=one, item={}, text=text)]

    watch = LoopWatch()
    assert [watch.look(done(text)) for text in ("a", "a", "b", "b", "b", "a")] == [1, 2, 1, 2, 3, 1]


def test_a_hand_over_tells_what_the_other_agent_is_for() -> None:
    schema = handoff_schema(Voice(name="billing desk", description="knows invoices"))
    assert schema["name"] == "transfer_to_billing_desk"
    assert schema["description"].endswith("billing desk: knows invoices")


def test_another_model_is_asked_at_the_same_place_unless_the_plan_names_one() -> None:
    plan = Plan(
        steps=(),
        models={
            "near": {"base_url": "http://near.example/v1", "options": {"model": "big", "top_k": 3}},
            "far": {"base_url": "http://far.example/v1"},
        },
    )
    models = PromptModels({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://other.example/v1"})

    async def chosen(instead: str) -> tuple[str, str, Any]:
        found = models.choose({"model": "near", "models": plan.models}, {}, asked_by="it", instead=instead)
        return found.name, found.provider, dict(found.model.choice.options)  # type: ignore[attr-defined]

    assert asyncio.run(chosen("")) == ("big", "near.example", {"top_k": 3})
    assert asyncio.run(chosen("small")) == ("small", "near.example", {"top_k": 3})
    assert asyncio.run(chosen("far")) == ("far", "far.example", {})


async def test_all_that_goes_on_in_threads_holds_the_slot() -> None:
    call = type("Call", (), {"lingering": None})()
    ctx = CallContext.alone()
    ctx.call = call
    loop = asyncio.get_running_loop()
    one, two = loop.create_future(), loop.create_future()
    for future in (one, None, two):
        ctx.linger(future)
    one.set_result(None)
    await asyncio.sleep(0)
    assert not call.lingering.done()
    two.set_result(None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert call.lingering.done()


class Harmless(ModelTool):
    async def check(self, args: Mapping[str, Any], ctx: CallContext) -> None: ...

    async def call(self, args: Mapping[str, Any], call_id: str, ctx: CallContext) -> Any:
        return "called"


async def test_a_word_for_a_call_is_not_good_for_other_arguments_under_the_same_id() -> None:
    tool = Harmless(name="rm", shown="rm", schema={}, key="k", named=frozenset(("rm",)))
    voice = Voice(tools=ToolSet([tool]))
    ctx = CallContext.alone()
    ctx.call = SimpleNamespace(answers={}, allowed_tools=frozenset())  # type: ignore[assignment]
    asks = TurnCalls(ctx, "always", NO_SECRETS)

    async def carry_out(path: str, call_id: str = "call_1") -> str:
        wanted = wanted_in([called(call_id, "rm", f'{{"path": "{path}"}}')], 1, set())
        [ended] = await asks.carry_out(wanted, voice, {})
        return ended.text

    with pytest.raises(ApprovalNeeded) as harmless:
        await carry_out("a.tmp")
    ctx.call.answers = {harmless.value.call_id: ToolAnswer(True, None, "Ada")}  # type: ignore[union-attr]
    assert await carry_out("a.tmp") == "called"
    with pytest.raises(ApprovalNeeded) as harmful:
        await carry_out("/")
    assert harmful.value.call_id != harmless.value.call_id
    ctx.call.allowed_tools = frozenset(("k",))  # type: ignore[union-attr]
    assert await carry_out("/") == "called"
