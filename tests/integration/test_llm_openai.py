"""The client of the Responses API against servers over loopback: what it sends, what it makes of what comes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import warnings
from dataclasses import replace
from typing import Any

import pytest

from stepchain_tui.llm import ModelAnswer, ModelRequest, OpenAIResponses, call_output, choose_model, user_message
from stepchain_tui.llm.profiles import PROFILES
from stepchain_tui.run import AttemptError, ErrorType
from tests.support.model_server import (
    CUT,
    RawModelServer,
    StatefulModel,
    answer,
    call_item,
    calls,
    delta,
    error_event,
    events_of,
    failed,
    hosted_item,
    incomplete,
    message_item,
    reasoning_item,
    status,
    text,
)

ADD = {
    "type": "function",
    "name": "add",
    "description": "Add two numbers.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    "strict": False,
}
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture(scope="module")
def one_server():
    with RawModelServer() as server:
        yield server


@pytest.fixture
def server(one_server):
    one_server.reset()
    return one_server


class Asked:
    """A model at a server, and what its callbacks heard."""

    def __init__(self, server: RawModelServer, profile: str = "custom", name: str = "gpt-5", **flags: Any) -> None:
        choice = choose_model(name, None, None, server.environment())
        self.model = OpenAIResponses(replace(choice, profile=replace(PROFILES[profile], **flags)))
        self.text: list[str] = []
        self.reasoning: list[str] = []

    async def ask(self, *items: Any, **fields: Any) -> ModelAnswer:
        given = tuple(user_message(item) if isinstance(item, str) else item for item in items or ("hi",))
        return await self.model.answer(ModelRequest(items=given, **fields), self.text.append, self.reasoning.append)

    async def failure(self, *items: Any, **fields: Any) -> AttemptError:
        with pytest.raises(AttemptError) as caught:
            await self.ask(*items, **fields)
        assert caught.value.hint
        return caught.value


@pytest.fixture
async def make(server):
    made: list[Asked] = []

    def one(*args: Any, **flags: Any) -> Asked:
        made.append(Asked(server, *args, **flags))
        return made[-1]

    yield one
    for asked in made:
        await asked.model.close()


# --- what is sent


async def test_a_conversation_is_sent_whole_and_nothing_is_kept_at_a_server_of_which_nothing_is_known(server, make):
    server.answers(text("fine"))
    items = [user_message("add"), call_item("add", {"a": 1}, "c1"), call_output("c1", "3")]
    await make().ask(*items, tools=(ADD,), previous_response_id="resp_1", new_from=2, system="be brief")
    assert server.bodies == [
        {
            "model": "gpt-5", "input": items, "stream": True, "store": False, "tools": [ADD],
            "instructions": "be brief",
        }
    ]  # fmt: skip


async def test_a_server_that_keeps_answers_is_sent_what_is_new_and_has_seen_all(server, make):
    model = StatefulModel([("add", {"a": 1})], "it is 3")
    server.answers(model)
    asked = make("openai")
    first = await asked.ask("add 1", tools=(ADD,))
    [call] = first.calls
    items = (user_message("add 1"), *first.items, call_output(call.call_id, "3"))
    second = await asked.ask(*items, tools=(ADD,), previous_response_id=first.response_id, new_from=2)
    assert second.text == "it is 3"
    assert server.bodies[1]["input"] == [call_output(call.call_id, "3")]
    assert server.bodies[1]["previous_response_id"] == first.response_id
    assert [body["store"] for body in server.bodies] == [True, True]
    seen = [item.get("type", "message") for item in model.conversations[second.response_id]]
    assert seen == ["message", "function_call", "function_call_output", "message"]
    assert server.bodies[1]["tools"] == [ADD], "tools are not inherited from the answer before"


async def test_a_server_that_forgot_the_answer_before_is_told_everything_once_more(server, make):
    model = StatefulModel("one", "two")
    server.answers(model)
    asked = make("openai")
    first = await asked.ask("first")
    model.forget()
    items = (user_message("first"), *first.items, user_message("second"))
    second = await asked.ask(*items, previous_response_id=first.response_id, new_from=2)
    assert second.text == "two"
    assert len(server.bodies) == 3
    assert len(server.bodies[2]["input"]) == 3
    assert "previous_response_id" not in server.bodies[2]
    assert asked.text == ["one", "two"]


@pytest.mark.parametrize(
    "refusal",
    [
        status(400, {"message": "Previous response with id 'r' not found.", "code": "previous_response_not_found"}),
        status(404, "Previous response with id 'r' not found"),
        status(400, "previous_response_id is not supported"),
        status(422, {"message": "Extra inputs are not permitted", "param": "previous_response_id"}),
        answer(error_event("previous_response_not_found", "Previous response with id 'r' not found.")),
    ],
)
async def test_every_way_to_say_that_the_answer_before_is_not_known_leads_to_the_whole_conversation(
    server, make, refusal
):
    server.answers(refusal, text("fine"))
    answered = await make("openai").ask("a", "b", previous_response_id="r", new_from=1)
    assert answered.text == "fine"
    assert [len(body["input"]) for body in server.bodies] == [1, 2]


async def test_it_is_told_everything_once_only(server, make):
    server.answers(status(404, "Previous response with id 'r' not found"))
    error = await make("openai").failure("a", "b", previous_response_id="r", new_from=1)
    assert error.error_type is ErrorType.USER_ERROR
    assert len(server.bodies) == 2


async def test_a_run_can_forbid_the_provider_to_keep_anything(server, make):
    server.answers(text("fine"))
    await make("openai").ask("a", "b", previous_response_id="r", new_from=1, options={"store": False})
    assert server.bodies[0]["store"] is False
    assert len(server.bodies[0]["input"]) == 2
    assert "previous_response_id" not in server.bodies[0]


async def test_who_asks_for_an_answer_to_be_kept_gets_it_kept(server, make):
    server.answers(text("fine"))
    await make().ask("a", "b", previous_response_id="r", new_from=1, store=True)
    assert server.bodies[0]["store"] is True
    assert server.bodies[0]["previous_response_id"] == "r"


async def test_reasoning_goes_back_as_it_came_and_is_asked_for_where_it_would_be_lost(server, make):
    thought = reasoning_item("I add.", "gAAAAB-secret-thoughts")
    server.answers(brings(thought, call_item("add", {"a": 1}, "c1")), text("3"))
    asked = make("openai", stateful=False)
    first = await asked.ask("add")
    assert asked.reasoning == ["I add."]
    assert asked.text == []
    await asked.ask("add", *first.items, call_output("c1", "3"))
    assert server.bodies[0]["include"] == ["reasoning.encrypted_content"]
    assert server.bodies[1]["input"][1] == thought


async def test_reasoning_that_is_only_a_name_is_left_out_where_nothing_is_kept(server, make):
    server.answers(text("3"))
    nameless = {"type": "reasoning", "id": "rs_1", "summary": []}
    await make("openai", stateful=False).ask("a", nameless, "b")
    assert [item["content"] for item in server.bodies[0]["input"]] == ["a", "b"]


@pytest.mark.parametrize(("name", "profile"), [("gpt-4o", "openai"), ("gpt-5-chat-latest", "openai"), ("o4", "ollama")])
async def test_encrypted_reasoning_is_asked_of_models_that_have_it_only(server, make, name, profile):
    server.answers(text("x"))
    await make(profile, name, stateful=False).ask()
    assert "include" not in server.bodies[0]


async def test_the_form_of_an_answer_is_sent_strictly_where_it_has_a_strict_form(server, make):
    server.answers(text('{"city": "Oslo"}'))
    await make().ask("where", expects=WEATHER, options={"text": {"verbosity": "low"}})
    form = server.bodies[0]["text"]
    assert form["verbosity"] == "low"
    strict = {**WEATHER, "additionalProperties": False}
    assert form["format"] == {"type": "json_schema", "name": "answer", "schema": strict, "strict": True}


@pytest.mark.parametrize(
    "schema", [{"type": "object", "additionalProperties": {"type": "string"}}, {**WEATHER, "required": []}]
)
async def test_a_form_without_a_strict_one_is_sent_as_it_is(server, make, schema):
    server.answers(text("{}"))
    await make().ask("where", expects=schema)
    assert server.bodies[0]["text"]["format"]["strict"] is False
    assert server.bodies[0]["text"]["format"]["schema"] == schema


async def test_a_format_that_is_ready_is_taken_as_it_is(server, make):
    server.answers(text("{}"))
    ready = {"type": "json_schema", "name": "place", "schema": WEATHER, "strict": False}
    await make().ask("where", expects=ready)
    assert server.bodies[0]["text"]["format"] == ready


async def test_the_key_that_is_sent_is_the_one_that_was_chosen(server, make, monkeypatch):
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin-of-the-company")
    server.answers(text("x"))
    await make().ask()
    assert server.requests[0].headers["authorization"] == f"Bearer {server.key}"
    assert "sk-admin" not in str(server.requests[0].headers)


# --- hosted tools


@pytest.mark.parametrize("profile", ["custom", "ollama", "vllm", "lm_studio", "llama_cpp", "litellm"])
async def test_a_hosted_tool_at_an_address_without_one_is_refused_before_anything_is_sent(server, make, profile):
    error = await make(profile).failure("news", tools=(ADD, {"type": "web_search"}))
    assert error.error_type is ErrorType.USER_ERROR
    assert "'web_search'" in str(error)
    assert server.url in str(error)
    assert "hosted_tools: true" in error.hint
    assert server.bodies == []


async def test_hosted_tools_are_sent_with_a_wish_for_their_results_and_their_citations_are_kept(server, make):
    said = "Oslo is cold [1]."
    cites = [
        {"type": "url_citation", "url": "https://yr.no/oslo", "title": "Oslo", "start_index": 0, "end_index": 4},
        {"type": "url_citation", "url": "javascript:alert(1)", "title": "Bad", "start_index": 5, "end_index": 7},
        {"type": "file_citation", "file_id": "f1", "filename": "a.pdf", "index": 3},
        {"type": "container_file_citation", "container_id": "c", "file_id": "f2", "filename": "plot.png",
         "start_index": 8, "end_index": 12},
        "not an annotation",
    ]  # fmt: skip
    items = [
        message_item("Let me look."),
        hosted_item("web_search_call", action={"type": "search", "query": "oslo", "sources": []}),
        hosted_item("file_search_call", queries=["oslo"], results=[{"file_id": "f1", "score": 0.9}]),
        hosted_item("code_interpreter_call", code="1+1", container_id="c", outputs=[{"type": "logs", "logs": "2"}]),
        hosted_item("mcp_list_tools", server_label="docs", tools=[]),
        hosted_item("mcp_call", server_label="docs", name="find", arguments="{}", output="found", error=None),
        message_item(said, [one for one in cites if isinstance(one, dict)]),
    ]
    tools = (
        {"type": "web_search"}, {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "file_search", "vector_store_ids": ["vs"]}, {"type": "mcp", "server_label": "docs", "server_url": "x"},
    )  # fmt: skip
    server.answers(brings(*items))
    asked = make("openai")
    answered = await asked.ask("weather", tools=tools)
    assert server.bodies[0]["tools"] == list(tools)
    assert set(server.bodies[0]["include"]) == {
        "file_search_call.results", "web_search_call.action.sources", "code_interpreter_call.outputs",
    }  # fmt: skip
    assert answered.text == f"Let me look.\n\n{said}"
    assert "".join(asked.text) == answered.text
    assert [item["type"] for item in answered.items] == [item["type"] for item in items]
    assert answered.items[3]["outputs"] == [{"type": "logs", "logs": "2"}]
    assert [(one.title, one.url, one.file) for one in answered.citations] == [
        ("Oslo", "https://yr.no/oslo", ""), ("Bad", "", ""), ("", "", "a.pdf"), ("", "", "plot.png"),
    ]  # fmt: skip
    cited = answered.citations[0]
    assert answered.text[cited.start : cited.end] == "Oslo", "places count in the whole text"


async def test_a_request_for_approval_of_a_hosted_call_is_an_item_that_waits_for_an_answer(server, make):
    wish = {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "docs", "name": "find", "arguments": "{}"}
    server.answers(brings(wish))
    answered = await make("openai").ask("find", tools=({"type": "mcp", "server_label": "docs", "server_url": "x"},))
    assert answered.items == (wish,)
    assert (answered.calls, answered.finish_reason) == ((), "tool_calls")


# --- what comes


async def test_several_calls_of_one_turn_come_in_order_with_their_text_and_cost(server, make):
    usage = {
        "input_tokens": 50, "output_tokens": 9, "total_tokens": 59,
        "input_tokens_details": {"cached_tokens": 40}, "output_tokens_details": {"reasoning_tokens": 4},
    }  # fmt: skip
    server.answers(calls(("add", {"a": 1}, "c1"), ("add", {"a": 2}, "c2"), said="Adding.", usage=usage))
    asked = make()
    answered = await asked.ask(tools=(ADD,))
    assert [(call.call_id, call.name, call.arguments) for call in answered.calls] == [
        ("c1", "add", '{"a": 1}'), ("c2", "add", '{"a": 2}'),
    ]  # fmt: skip
    assert (answered.text, answered.finish_reason, answered.model) == ("Adding.", "tool_calls", "gpt-5-2025-08-07")
    assert (answered.input_tokens, answered.output_tokens) == (50, 9)
    assert (answered.cached_tokens, answered.reasoning_tokens) == (40, 4)
    assert answered.request_id == "req_test"
    assert answered.first_text_after is not None
    assert answered.first_text_after >= 0


async def test_calls_without_ids_or_with_the_same_one_get_ids_of_their_own(server, make):
    nameless = {"type": "function_call", "name": "add", "arguments": {"a": 1}}
    server.answers(at_once(nameless, call_item("add", "{", "c"), call_item("add", "{}", "c")))
    answered = await make().ask(tools=(ADD,))
    ids = [call.call_id for call in answered.calls]
    assert len(set(ids)) == 3
    assert [item["call_id"] for item in answered.items] == ids, "the items that go back name them too"
    assert [call.arguments for call in answered.calls] == ['{"a": 1}', "{", "{}"]


async def test_details_of_the_cost_that_a_server_leaves_out_are_unknown(server, make):
    server.answers(text("x", usage={"input_tokens": 1, "output_tokens": True, "input_tokens_details": None}))
    answered = await make().ask()
    assert (answered.input_tokens, answered.output_tokens) == (1, None)
    assert (answered.cached_tokens, answered.reasoning_tokens) == (None, None)


async def test_unknown_events_and_items_come_through_without_a_word(server, make):
    odd = {"type": "hologram", "id": "h", "beam": {"color": "red"}, "content": None}
    events = events_of(odd, message_item("fine"))
    events.insert(1, {"type": "response.hologram.delta", "delta": {"x": 1}, "response": 5})
    server.answers(answer(*events))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        answered = await make().ask()
    assert answered.text == "fine"
    assert answered.items[0] == {"type": "hologram", "id": "h", "beam": {"color": "red"}}
    assert [str(one.message) for one in told] == []


async def test_items_that_only_came_one_by_one_are_the_answer(server, make):
    events = events_of(call_item("add", {"a": 1}, "c1"))
    events[-1]["response"]["output"] = []
    server.answers(answer(*events))
    answered = await make().ask()
    assert [call.call_id for call in answered.calls] == ["c1"]


async def test_text_without_any_item_is_kept_for_the_next_question(server, make):
    last = events_of()[-1]
    server.answers(answer(delta("Hel"), delta("lo"), last))
    answered = await make().ask()
    assert answered.text == "Hello"
    assert answered.items[0]["content"][0]["text"] == "Hello"


async def test_parts_of_the_reasoning_are_told_apart(server, make):
    thought = reasoning_item()
    thought["summary"] = [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}]
    server.answers(brings(thought, message_item("x")))
    asked = make()
    await asked.ask()
    assert "".join(asked.reasoning) == "One.\n\nTwo."
    assert "".join(asked.text) == "x"


async def test_a_refusal_is_an_answer_and_says_so(server, make):
    server.answers(brings(message_item("", refusal="I will not.")))
    answered = await make().ask()
    assert (answered.text, answered.refused, answered.finish_reason) == ("I will not.", True, "refusal")


async def generators_of(asked: Asked, **fields: Any) -> list[Any]:
    """Return the async generators that a question left open."""
    made: list[Any] = []
    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=made.append, finalizer=before.finalizer)
    try:
        with contextlib.suppress(AttemptError):
            await asked.ask(**fields)
    finally:
        sys.set_asyncgen_hooks(*before)
    assert made
    return [one for one in made if one.ag_frame is not None]


@pytest.mark.parametrize("after", [(), (delta("late"),), (threading.Event(),)])
async def test_nothing_of_a_stream_is_left_to_the_garbage_collector(server, make, after):
    server.answers(answer(*events_of(message_item("fine")), *after))
    assert await generators_of(make()) == []


async def test_a_server_that_does_not_end_its_stream_does_not_hold_the_answer_up(server, make):
    server.answers(answer(*events_of(message_item("fine")), threading.Event()))
    answered = await asyncio.wait_for(make().ask(), 10)
    assert answered.text == "fine"
    assert await asyncio.to_thread(server.hung_up.wait, 4)


async def test_one_connection_serves_one_question_after_the_other(server, make):
    server.answers(text("fine"))
    asked = make()
    for _ in range(3):
        await asked.ask()
    assert len({request.client for request in server.requests}) == 1


# --- what goes wrong


@pytest.mark.parametrize(
    ("given", "error_type", "words"),
    [
        (answer(delta("Half")), ErrorType.SERVER_ERROR, "ended before the answer did"),
        (answer(delta("Half"), CUT), ErrorType.SERVER_ERROR, "connection"),
        (answer(delta("Half"), 'data: {"type": "respo\n\n'), ErrorType.SERVER_ERROR, "not valid JSON"),
        (answer(delta("Half"), error_event("server_error", "it broke")), ErrorType.SERVER_ERROR, "it broke"),
        (answer(delta("Half"), error_event("rate_limit_exceeded", "slow")), ErrorType.RATE_LIMIT, "slow"),
        (failed("server_error", "it failed"), ErrorType.SERVER_ERROR, "it failed"),
        (answer({"type": "response.completed", "response": {"status": "failed", "error": {"message": "odd"}}}),
         ErrorType.SERVER_ERROR, "odd"),
        (status(429, "slow down", retry_after="2"), ErrorType.RATE_LIMIT, "slow down"),
        (status(500, "oops"), ErrorType.SERVER_ERROR, "oops"),
        (status(529, "overloaded"), ErrorType.SERVER_ERROR, "overloaded"),
        (status(401, {"message": "Incorrect API key", "code": "invalid_api_key"}), ErrorType.USER_ERROR, "Incorrect"),
    ],
)  # fmt: skip
async def test_each_way_to_fail_has_its_class_and_is_tried_once(server, make, given, error_type, words):
    server.answers(given)
    error = await make().failure()
    assert error.error_type is error_type
    assert words in str(error)
    assert len(server.bodies) == 1, "the engine retries, not the client"
    assert server.key not in f"{error}{error.details}{error.remote_traceback}"


async def test_a_failed_answer_says_what_it_cost_and_which_request_it_was(server, make):
    server.answers(failed("server_error", "it failed"))
    error = await make().failure()
    assert error.details["input_tokens"] == 11
    assert error.details["request_id"] == "req_test"
    assert error.details["response_id"].startswith("resp_")


async def test_an_answer_cut_in_the_middle_of_a_form_is_no_answer_and_keeps_what_came(server, make):
    server.answers(incomplete(message_item('{"city": "Os')))
    error = await make().failure("where", expects=WEATHER, max_output_tokens=16)
    assert error.error_type is ErrorType.USER_ERROR
    assert "max_output_tokens (16)" in str(error)
    assert error.details["partial_text"] == '{"city": "Os'
    assert (error.details["finish_reason"], error.details["output_tokens"]) == ("length", 7)


async def test_calls_of_an_answer_that_was_cut_are_not_made(server, make):
    server.answers(incomplete(call_item("add", {"a": 1})))
    error = await make().failure(tools=(ADD,))
    assert error.details["finish_reason"] == "length"


async def test_an_answer_without_end_is_ended_by_us(server, make):
    piece = delta("x" * 1_000_000)
    server.answers(answer(*[piece] * 20, threading.Event()))
    error = await make().failure()
    assert error.error_type is ErrorType.USER_ERROR
    assert "10 MB" in str(error)
    assert await asyncio.to_thread(server.hung_up.wait, 4)


async def test_a_drip_goes_on_until_it_is_cancelled_and_then_the_line_is_closed(server, make):
    server.answers(answer(delta("drip "), 0.05, delta("drip "), threading.Event()))
    asked, second = make(), asyncio.Event()
    request = ModelRequest.of_text("hi")

    def hear(piece: str) -> None:
        asked.text.append(piece)
        if len(asked.text) == 2:
            second.set()

    task = asyncio.create_task(asked.model.answer(request, hear))
    await asyncio.wait_for(second.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 4)
    assert await asyncio.to_thread(server.hung_up.wait, 4)


def brings(*items: Any) -> Any:
    return answer(*events_of(*items))


def at_once(*items: Any) -> Any:
    """Return an answer whose items come in the last event only."""
    last = events_of()[-1]
    last["response"]["output"] = list(items)
    return answer(last)
