"""The clients that a script constructs (document 000), against a server over loopback."""

from __future__ import annotations

import inspect
import threading

import pytest

from stepchain_tui.core.errors import UsageError
from stepchain_tui.llm import (
    AsyncLLMClient,
    AsyncOpenAIClient,
    ClientModel,
    LLMClient,
    ModelRequest,
    OpenAIClient,
    ScriptedClient,
    user_message,
)
from stepchain_tui.run import AttemptError, ErrorType
from tests.support.model_server import RawModelServer, StatefulModel, calls, status, text


@pytest.fixture(scope="module")
def one_server():
    with RawModelServer() as server:
        yield server


@pytest.fixture
def server(one_server):
    one_server.reset()
    return one_server


@pytest.fixture
def client(server):
    client = OpenAIClient("gpt-5", environment=server.environment())
    yield client
    client.close()


@pytest.mark.parametrize("made", [OpenAIClient, AsyncOpenAIClient, ScriptedClient])
def test_each_has_the_one_method_of_the_document(made):
    assert issubclass(made, LLMClient)
    assert issubclass(made, AsyncLLMClient)
    parameters = inspect.signature(made.create_response).parameters
    assert list(parameters) == ["self", "input", "tools", "previous_response_id", "store", "kwargs"]
    assert parameters["previous_response_id"].default is None
    assert parameters["store"].default is True


def test_an_answer_has_its_id_text_and_cost_and_what_is_unknown_is_left_out(server, client):
    server.answers(text("Hello", usage={"input_tokens": 3}, response_id="resp_1"), text("Hello", usage={}))
    assert client.create_response("hi", []) == {"id": "resp_1", "content": "Hello", "usage": {"input_tokens": 3}}
    assert set(client.create_response("hi", [])) == {"id", "content"}


def test_what_is_asked_reaches_the_server_and_unknown_keys_too(server, client):
    server.answers(text("x"))
    client.create_response("hi", [], "resp_0", store=False, temperature=0.5, knob=1, model="m-1")
    assert server.bodies == [
        {
            "model": "m-1", "input": [{"role": "user", "content": "hi"}], "stream": True, "store": False,
            "previous_response_id": "resp_0", "temperature": 0.5, "knob": 1,
        }
    ]  # fmt: skip


def test_the_provider_keeps_answers_unless_told_otherwise_and_goes_on_from_them(server, client):
    model = StatefulModel("one", "two")
    server.answers(model)
    first = client.create_response("first", [])
    second = client.create_response("second", [], first["id"])
    assert [body["store"] for body in server.bodies] == [True, True]
    said = [item["content"] for item in model.conversations[second["id"]] if item.get("role") == "user"]
    assert said == ["first", "second"]


def test_an_answer_that_is_not_known_any_more_is_an_error_where_nobody_has_the_conversation(server, client):
    server.answers(StatefulModel("never"))
    with pytest.raises(AttemptError, match="not found"):
        client.create_response("second", [], "resp_gone")
    assert len(server.bodies) == 1


def test_tools_are_written_by_name_or_as_functions_and_their_calls_come_back(server, client):
    def add(a: int) -> int:
        """Add one."""
        return a + 1

    server.answers(calls(("add", {"a": 1}, "c1"), ("python_code", {"code": "1+1"}, "c2")))
    found = client.create_response("go", ["python_code", add, {"type": "function", "name": "own", "parameters": {}}])
    assert [tool["name"] for tool in server.bodies[0]["tools"]] == ["python_code", "add", "own"]
    assert found["tool_calls"] == [
        {"id": "c1", "name": "add", "arguments": '{"a": 1}'},
        {"id": "c2", "name": "python_code", "arguments": '{"code": "1+1"}'},
    ]


def test_a_tool_that_there_is_none_of_is_an_error_with_a_suggestion(server, client):
    with pytest.raises(AttemptError) as caught:
        client.create_response("go", ["web_serch"])
    assert "web_serch" in str(caught.value)
    assert "web_search" in caught.value.hint
    assert server.bodies == []


def test_a_hosted_tool_needs_a_server_that_has_it(server, client):
    with pytest.raises(AttemptError, match="'web_search'"):
        client.create_response("go", ["web_search"])
    able = OpenAIClient("gpt-5", environment=server.environment(), hosted_tools=True)
    server.answers(text("x"))
    able.create_response("go", ["web_search"])
    able.close()
    assert server.bodies[0]["tools"] == [{"type": "web_search"}]


def test_an_error_is_classified_and_shows_no_key(server, client):
    server.answers(status(429, "slow down", retry_after="2"))
    with pytest.raises(AttemptError) as caught:
        client.create_response("hi", [])
    assert (caught.value.error_type, caught.value.retry_after) == (ErrorType.RATE_LIMIT, 2.0)
    assert server.key not in f"{caught.value}{caught.value.details}"


def test_without_a_key_the_variable_is_named():
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not set") as caught:
        OpenAIClient(environment={})
    assert "OPENAI_API_KEY" in caught.value.hint


def test_the_key_of_the_environment_is_not_sent_to_an_address_that_is_given(server):
    server.answers(text("x"))
    client = OpenAIClient("m", base_url=server.url, environment={"OPENAI_API_KEY": server.key})
    client.create_response("hi", [])
    client.close()
    assert server.key not in str(server.requests[0].headers)


async def test_the_async_client_is_awaited_and_streams(server):
    server.answers(text("Hello you"))
    heard: list[str] = []
    client = AsyncOpenAIClient("gpt-5", environment=server.environment(), on_text=heard.append)
    found = await client.create_response("hi", [])
    await client.close()
    assert found["content"] == "Hello you"
    assert heard == ["Hello ", "you"]


async def test_the_sync_client_can_be_called_where_a_loop_runs(server, client):
    server.answers(text("Hello"))
    assert client.create_response("hi", [])["content"] == "Hello"


def test_the_sync_client_can_be_called_from_many_threads(server, client):
    server.answers(lambda body: text(body["input"][0]["content"]))
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        found[number] = client.create_response(f"n{number}", [])["content"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {number: f"n{number}" for number in range(8)}


@pytest.mark.parametrize("made", [OpenAIClient, AsyncOpenAIClient])
async def test_given_to_an_executor_it_streams_and_keeps_items_and_calls(server, made):
    server.answers(calls(("add", {"a": 1}, "c1"), said="Let me add."))
    client = made("gpt-5", environment=server.environment())
    model, heard = ClientModel(client), []
    answer = await model.answer(ModelRequest.of_text("hi"), heard.append)
    assert heard == ["Let ", "me ", "add."]
    assert [item["type"] for item in answer.items] == ["message", "function_call"]
    assert model.host == server.url.split("/")[2]
    await model.close()


@pytest.mark.parametrize("stateful", [False, True])
async def test_a_subclass_that_looks_at_each_question_is_asked_by_its_own_method(server, stateful):
    seen = []

    class Guarding(OpenAIClient):
        def create_response(self, input, tools=(), previous_response_id=None, store=True, **kwargs):  # noqa: A002
            seen.append(input)
            return super().create_response(f"guarded {input}", tools, previous_response_id, store, **kwargs)

    server.answers(text("Hello"))
    client = Guarding(base_url=server.url, stateful=stateful)
    model = ClientModel(client)
    items = (user_message("first"), {"role": "assistant", "content": "yes"}, user_message("hi"))
    asked = ModelRequest(items=items, previous_response_id="resp_0", new_from=2, temperature=0.5)
    answer = await model.answer(asked, lambda _: None)
    assert (answer.text, model.host) == ("Hello", server.url.split("/")[2])
    [body] = server.bodies
    assert (body["input"], body["temperature"]) == ([{"role": "user", "content": f"guarded {seen[0]}"}], 0.5)
    assert (body["store"], body.get("previous_response_id")) == (stateful, "resp_0" if stateful else None)
    assert (seen[0] == "hi") is stateful, "a server that keeps nothing is told the whole conversation"
    client.close()


def test_a_scripted_client_answers_in_order_and_keeps_what_it_was_asked():
    client = ScriptedClient(["one", {"calls": [{"name": "add", "arguments": {"a": 1}}]}, {"error": "rate_limit"}])
    assert client.create_response("a", [])["content"] == "one"
    [call] = client.create_response("b", ["add"], "scripted-0", temperature=1)["tool_calls"]
    assert (call["name"], call["arguments"]) == ("add", '{"a": 1}')
    with pytest.raises(AttemptError):
        client.create_response("c", [])
    assert client.requests[1] == {
        "input": "b", "tools": ["add"], "previous_response_id": "scripted-0", "store": True, "temperature": 1,
    }  # fmt: skip
