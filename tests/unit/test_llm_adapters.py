"""Users' own clients: duck-typed, sync or async."""

# ruff: noqa: A002 - the parameter is called `input` in document 000

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

from stepchain_tui.llm import AsyncLLMClient, ClientModel, LLMClient, LLMResponse, ModelRequest
from stepchain_tui.run import AttemptError


class SyncClient:
    def __init__(self) -> None:
        self.seen: list[dict] = []

    def create_response(self, input, tools, previous_response_id=None, store=True, **kwargs) -> LLMResponse:
        self.seen.append({"input": input, "tools": tools, "thread": threading.current_thread(), **kwargs})
        return {"id": "r1", "content": "hello", "usage": {"input_tokens": 2, "output_tokens": 3}}


class AsyncClient:
    async def create_response(self, input, tools, previous_response_id=None, store=True, **kwargs) -> LLMResponse:
        return {"id": "r2", "content": input.upper()}


async def ask(client, **fields):
    pieces: list[str] = []
    return await ClientModel(client).answer(ModelRequest.of_text("hi", **fields), pieces.append), pieces


def test_any_object_with_the_method_is_a_client():
    assert isinstance(SyncClient(), LLMClient)
    assert isinstance(AsyncClient(), AsyncLLMClient)
    assert not isinstance(object(), LLMClient)


def test_the_protocol_has_the_parameters_of_the_document():
    parameters = inspect.signature(LLMClient.create_response).parameters
    assert list(parameters) == ["self", "input", "tools", "previous_response_id", "store", "kwargs"]
    assert parameters["previous_response_id"].default is None
    assert parameters["store"].default is True


def test_an_object_without_the_method_is_refused():
    with pytest.raises(TypeError, match="create_response"):
        ClientModel(object())  # type: ignore[arg-type]


async def test_a_sync_client_runs_beside_the_loop_and_gets_the_options():
    client = SyncClient()
    answer, pieces = await ask(client, model="m", temperature=0.5, system="be brief", options={"top_p": 0.1})
    assert (answer.text, answer.response_id, answer.input_tokens, answer.output_tokens) == ("hello", "r1", 2, 3)
    assert pieces == ["hello"]
    seen = client.seen[0]
    assert seen.pop("thread") is not threading.main_thread()
    assert seen == {
        "input": "hi", "tools": [], "model": "m", "temperature": 0.5, "instructions": "be brief", "top_p": 0.1,
    }  # fmt: skip


async def test_an_async_client_is_awaited_and_unknown_usage_stays_unknown():
    answer, _ = await ask(AsyncClient())
    assert (answer.text, answer.input_tokens, answer.output_tokens) == ("HI", None, None)


async def test_what_a_client_raises_is_passed_on():
    class Broken:
        def create_response(self, input, tools, previous_response_id=None, store=True, **kwargs):
            raise ConnectionError("no line")

    with pytest.raises(ConnectionError, match="no line"):
        await ask(Broken())


async def test_an_answer_of_another_shape_is_named():
    class Odd:
        async def create_response(self, input, tools, previous_response_id=None, store=True, **kwargs):
            return "text"

    with pytest.raises(AttemptError, match=r"Odd\.create_response gave str"):
        await ask(Odd())


async def test_a_cancelled_sync_client_is_left_behind_and_tells_when_it_ends():
    began, go_on = threading.Event(), threading.Event()

    class Slow:
        def create_response(self, input, tools, previous_response_id=None, store=True, **kwargs):
            began.set()
            go_on.wait(30)
            return {"id": "", "content": "late"}

    model = ClientModel(Slow())
    task = asyncio.create_task(model.answer(ModelRequest.of_text("hi"), lambda text: None))
    await asyncio.to_thread(began.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.lingering is not None
    assert not model.lingering.done()
    go_on.set()
    await asyncio.wait_for(model.lingering, 10)
