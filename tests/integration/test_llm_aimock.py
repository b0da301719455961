"""The client of the Responses API against aimock: a model server that is not this project's."""

from __future__ import annotations

import json

import pytest

from stepchain_tui.llm import ModelAnswer, ModelRequest, OpenAIResponses, call_output, choose_model, user_message
from stepchain_tui.run import AttemptError, ErrorType
from tests.support.model_server import model_server

pytestmark = pytest.mark.needs("llmock")

TOOL = {
    "type": "function", "name": "get_weather", "description": "Tell the weather.", "strict": True,
    "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
        "additionalProperties": False,
    },
}  # fmt: skip


@pytest.fixture
def server():
    with model_server() as server:
        yield server


@pytest.fixture
async def ask(server):
    model = OpenAIResponses(choose_model("gpt-5", None, None, server.environment()))

    async def one(*items, heard=None, **fields) -> ModelAnswer:
        given = tuple(user_message(item) if isinstance(item, str) else item for item in items)
        return await model.answer(ModelRequest(items=given, **fields), (heard if heard is not None else []).append)

    yield one
    await model.close()


async def test_text_comes_in_pieces_as_it_is_written(server, ask):
    said = "The quick brown fox jumps over the lazy dog, again and again."
    await server.fixtures([{"match": {"userMessage": "fox"}, "response": {"content": said}}])
    heard: list[str] = []
    answer = await ask("fox", heard=heard, system="be quick")
    assert answer.text == said
    assert len(heard) > 1
    assert "".join(heard) == said
    [asked] = await server.journal()
    assert asked["body"]["messages"] == [
        {"role": "system", "content": "be quick"},
        {"role": "user", "content": "fox"},
    ]


async def test_two_calls_of_one_turn_get_their_results_by_our_own_history(server, ask):
    wanted = [
        {"id": "call_o", "name": "get_weather", "arguments": {"city": "Oslo"}},
        {"id": "call_r", "name": "get_weather", "arguments": {"city": "Rome"}},
    ]
    await server.fixtures(
        [
            {
                "match": {"userMessage": "weather", "hasToolResult": False},
                "response": {"toolCalls": wanted, "usage": {"input_tokens": 11, "output_tokens": 7}},
            },
            {"match": {"toolResultContains": "30C", "hasToolResult": True}, "response": {"content": "Rome is hot"}},
        ]
    )
    first = await ask("weather", tools=(TOOL,))
    assert [(call.call_id, json.loads(call.arguments)) for call in first.calls] == [
        ("call_o", {"city": "Oslo"}),
        ("call_r", {"city": "Rome"}),
    ]
    assert (first.input_tokens, first.output_tokens) == (11, 7)
    results = (call_output("call_o", "5C"), call_output("call_r", "30C"))
    second = await ask("weather", *first.items, *results, tools=(TOOL,), turn=2)
    assert second.text == "Rome is hot"
    said = (await server.journal())[-1]["body"]["messages"]
    assert [(message["role"], message["tool_call_id"]) for message in said[-2:]] == [
        ("tool", "call_o"),
        ("tool", "call_r"),
    ]


async def test_an_answer_in_a_form_is_the_text_that_fits_it(server, ask):
    await server.fixtures([{"match": {"userMessage": "where"}, "response": {"content": '{"city": "Oslo"}'}}])
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    answer = await ask("where", expects=schema)
    assert json.loads(answer.text) == {"city": "Oslo"}


@pytest.mark.parametrize(
    ("response", "error_type", "retry_after"),
    [
        ({"error": {"message": "slow", "type": "rate_limit_error"}, "status": 429, "retryAfter": 2},
         ErrorType.RATE_LIMIT, 2.0),
        ({"error": {"message": "broken", "type": "server_error"}, "status": 500}, ErrorType.SERVER_ERROR, None),
        ({"error": {"message": "full", "type": "overloaded_error"}, "status": 529}, ErrorType.SERVER_ERROR, None),
        ({"error": {"message": "no", "type": "invalid_request_error"}, "status": 400}, ErrorType.USER_ERROR, None),
    ],
)  # fmt: skip
async def test_errors_are_classified_and_asked_once(server, ask, response, error_type, retry_after):
    await server.fixtures([{"match": {"userMessage": "fail"}, "response": response}])
    with pytest.raises(AttemptError) as caught:
        await ask("fail")
    assert caught.value.error_type is error_type
    assert caught.value.retry_after == retry_after
    assert response["error"]["message"] in str(caught.value)
    assert len(await server.journal()) == 1


@pytest.mark.parametrize("cut", [{"truncateAfterChunks": 3}, {"disconnectAfterMs": 60, "latency": 20}])
async def test_a_cut_stream_is_a_server_error_with_what_came(server, ask, cut):
    said = "a long text that never comes to its end, however long one waits for it to do so, " * 5
    await server.fixtures([{"match": {"userMessage": "cut"}, "response": {"content": said}, **cut}])
    with pytest.raises(AttemptError) as caught:
        await ask("cut")
    assert caught.value.error_type is ErrorType.SERVER_ERROR
    assert said.startswith(caught.value.details.get("partial_text", ""))


async def test_an_answer_cut_at_its_limit_is_an_error_with_its_text(server, ask):
    await server.fixtures(
        [{"match": {"userMessage": "long"}, "response": {"content": "Half an", "finishReason": "length"}}]
    )
    with pytest.raises(AttemptError) as caught:
        await ask("long", max_output_tokens=16)
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert caught.value.details["partial_text"] == "Half an"


async def test_reasoning_and_a_hosted_search_are_items_of_the_answer(server, ask):
    reply = {"content": "It is cold.", "reasoning": "I look it up.", "webSearches": ["oslo"]}
    await server.fixtures([{"match": {"userMessage": "cold"}, "response": reply}])
    answer = await ask("cold")
    assert [item["type"] for item in answer.items] == ["reasoning", "web_search_call", "message"]
    assert answer.text == "It is cold."
