"""Prompt steps against a real server over loopback that speaks raw server-sent events."""

# ruff: noqa: A002 - a client's parameter is called `input` in document 000

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from stepchain_tui.executors.prompt import PromptExecutor, describe_model
from stepchain_tui.executors.types import SkipStep, StepCall
from stepchain_tui.plan import Step
from stepchain_tui.run import AttemptError, ErrorType, Failure

KEY = "sk-test-4711-do-not-show"


class Ports:
    def __init__(self) -> None:
        self.text: list[str] = []
        self.turns: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.first = asyncio.Event()

    def log(self, stream: str, text: str) -> None:
        assert stream == "text"
        self.text.append(text)
        self.first.set()

    def before_turn(self, *, model: str, **_: Any) -> str:
        return model

    def log_from_thread(self, stream: str, text: str) -> None:
        raise AssertionError("prompts log on the loop")

    async def spawned(self, pid: int, process_group: int, process_started_at: float) -> None:
        raise AssertionError("prompts start no process")

    def model_turn(self, **turn: Any) -> None:
        self.turns.append(turn)

    def begun(self) -> None: ...

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def call_for(
    value: str = "Say hello", *, attempt: int = 1, step: dict[str, Any] | None = None, **options: Any
) -> StepCall:
    return StepCall(
        run_id="r",
        step=Step(id="ask", prompt=value, **(step or {})),
        attempt=attempt,
        item=None,
        value=value,
        args={},
        options=options,
        mode="inline",
        timeout=30,
        environment={},
        cwd=Path.cwd(),
        plan_folder=Path.cwd(),
        ports=Ports(),
    )


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def one_server():
    with HTTPServer(host="127.0.0.1", threaded=True) as server:
        yield server


@pytest.fixture
def server(one_server):
    yield one_server
    one_server.clear()


@pytest.fixture
async def executor(server):
    executor = PromptExecutor({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url_for("/v1")})
    yield executor
    await executor.close()


def sse(*events: dict[str, Any] | str) -> Response:
    return Response(iter([frame(event) for event in events]), content_type="text/event-stream")


def frame(event: dict[str, Any] | str) -> bytes:
    if isinstance(event, str):
        return event.encode()
    return f"event: {event.get('type', 'message')}\ndata: {json.dumps(event)}\n\n".encode()


def delta(text: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "delta": text, "item_id": "m", "output_index": 0, "content_index": 0}


def response(status: str = "completed", text: str = "", **fields: Any) -> dict[str, Any]:
    message = {"type": "message", "id": "m", "role": "assistant", "status": status}
    content = [{"type": "output_text", "text": text, "annotations": []}]
    base = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5-2026", "status": status,
        "output": [{**message, "content": content}] if text else [], "parallel_tool_calls": True,
        "tool_choice": "auto", "tools": [],
        "usage": {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18},
    }  # fmt: skip
    return {"type": f"response.{status}", "response": {**base, **fields}}


def serve(server: HTTPServer, answer: Any) -> None:
    handler = server.expect_request("/v1/responses", method="POST")
    if callable(answer) and not isinstance(answer, Response):
        handler.respond_with_handler(answer)
    else:
        handler.respond_with_response(answer)


def sent(server: HTTPServer) -> dict[str, Any]:
    return server.log[-1][0].get_json()


async def failure_of(executor: PromptExecutor, call: StepCall | None = None) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        await executor.execute(call or call_for())
    record = Failure.of(caught.value, caught.value.error_type)
    assert KEY not in f"{record}"
    assert record.hint
    return caught.value


async def test_text_streams_into_the_log_and_is_the_output_with_its_usage(server, executor):
    events = [{"type": "response.created", "response": {}}, delta("Hel"), delta("lo"), response(text="Hello")]
    serve(server, sse(*events))
    call = call_for()
    outcome = await executor.execute(call)
    assert outcome.output == "Hello"
    assert call.ports.text == ["Hel", "lo", "\n"]
    [turn] = call.ports.turns
    assert turn["duration"] >= turn["first_text_after"] > 0
    assert (turn["model"], turn["response_id"]) == ("gpt-5-2026", "resp_1")
    assert (turn["input_tokens"], turn["output_tokens"]) == (11, 7)
    assert (turn["turn"], turn["agent"], turn["finish_reason"]) == (1, "", "stop")
    assert turn["provider"] == urlsplit(server.url_for("/v1")).netloc
    assert list(turn["sent"]) == [{"role": "user", "content": "Say hello"}]
    assert turn["output"][0]["content"][0]["text"] == "Hello"


async def test_options_reach_the_api_under_its_names(server, executor):
    serve(server, sse(delta("x"), response(text="x")))
    options = {"system": "be brief", "model": "m-1", "temperature": 0.2, "max_output_tokens": 50, "reasoning": "low"}
    await executor.execute(call_for("Why?", **options, top_p=0.5, knob_of_a_local_server=1))
    assert sent(server) == {
        "input": [{"role": "user", "content": "Why?"}], "store": False, "model": "m-1",
        "stream": True, "instructions": "be brief", "temperature": 0.2,
        "max_output_tokens": 50, "reasoning": {"effort": "low"}, "top_p": 0.5,
        "knob_of_a_local_server": 1,
    }  # fmt: skip
    assert server.log[-1][0].headers["Authorization"] == f"Bearer {KEY}"


async def test_unknown_usage_stays_unknown(server, executor):
    serve(server, sse(delta("x"), response(text="x", usage=None)))
    call = call_for()
    await executor.execute(call)
    assert (call.ports.turns[0]["input_tokens"], call.ports.turns[0]["output_tokens"]) == (None, None)


async def test_a_server_that_sends_no_deltas_still_gives_its_text(server, executor):
    serve(server, sse(response(text="whole")))
    call = call_for()
    assert (await executor.execute(call)).output == "whole"
    assert call.ports.text == ["whole", "\n"]


async def test_unknown_events_and_items_are_passed_over(server, executor):
    odd = {"type": "response.hologram.delta", "delta": {"x": 1}, "response": 5}
    last = response(text="fine")
    last["response"]["output"].insert(0, {"type": "hologram", "id": "h", "content": None})
    serve(server, sse(odd, delta("fine"), {"type": "response.output_text.delta", "delta": None}, last))
    assert (await executor.execute(call_for())).output == "fine"


async def test_a_refusal_is_the_output_with_a_warning(server, executor):
    refusal = {"type": "response.refusal.delta", "delta": "I will not", "item_id": "m", "output_index": 0}
    serve(server, sse(refusal, response()))
    call = call_for()
    assert (await executor.execute(call)).output == "I will not"
    assert "refused" in call.ports.warnings[0]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "2"}, 2.0),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
    ],
)
async def test_429_is_a_rate_limit_with_the_seconds_that_are_asked_for(server, executor, headers, expected):
    body = json.dumps({"error": {"message": "slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}})
    serve(server, Response(body, 429, headers=headers, content_type="application/json"))
    error = await failure_of(executor)
    assert error.error_type is ErrorType.RATE_LIMIT
    assert error.retry_after == expected
    assert "slow down" in str(error)
    assert error.details["status"] == 429
    assert len(server.log) == 1, "the engine retries, not the client"


async def test_a_retry_after_that_is_a_date_is_seconds_from_now(server, executor):
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    serve(server, Response("{}", 429, headers={"Retry-After": moment}, content_type="application/json"))
    error = await failure_of(executor)
    assert error.retry_after is not None
    assert 30 < error.retry_after <= 60


@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_5xx_and_529_are_server_errors(server, executor, status):
    serve(server, Response('{"error": {"message": "overloaded"}}', status, content_type="application/json"))
    error = await failure_of(executor)
    assert error.error_type is ErrorType.SERVER_ERROR
    assert "overloaded" in str(error)


async def test_a_wrong_key_names_its_variable_and_is_never_shown(server, executor):
    body = {"error": {"message": f"Incorrect API key provided: {KEY}.", "code": "invalid_api_key"}}
    serve(server, Response(json.dumps(body), 401, content_type="application/json"))
    error = await failure_of(executor)
    assert error.error_type is ErrorType.USER_ERROR
    assert "OPENAI_API_KEY" in error.hint
    assert KEY not in "".join((str(error), error.remote_traceback, str(error.details), str(error.__cause__)))


async def test_an_unknown_model_is_named(server, executor):
    body = {"error": {"message": "The model 'gpt-nine' does not exist", "code": "model_not_found"}}
    serve(server, Response(json.dumps(body), 404, content_type="application/json"))
    error = await failure_of(executor, call_for(model="gpt-nine"))
    assert error.error_type is ErrorType.USER_ERROR
    assert "gpt-nine" in str(error)
    assert "gpt-nine" in error.hint


async def test_another_4xx_says_what_the_api_says(server, executor):
    body = {"error": {"message": "Unsupported parameter: 'temperature'", "param": "temperature"}}
    serve(server, Response(json.dumps(body), 400, content_type="application/json"))
    error = await failure_of(executor)
    assert error.error_type is ErrorType.USER_ERROR
    assert "Unsupported parameter: 'temperature'" in str(error)


async def test_a_stream_that_ends_early_but_cleanly_is_a_server_error_with_what_came(server, executor):
    serve(server, sse(delta("Half an"), delta(" answer")))
    error = await failure_of(executor)
    assert error.error_type is ErrorType.SERVER_ERROR
    assert "ended before the answer did" in str(error)
    assert error.details["partial_text"] == "Half an answer"


async def test_a_cut_connection_is_a_server_error(executor, server):
    def cut(request: Request) -> Response:
        def body():
            yield frame(delta("Half"))
            connection = request.environ["werkzeug.socket"]
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RDWR)
            yield frame(delta("never"))

        return Response(body(), content_type="text/event-stream", headers={"Content-Length": "100000"})

    serve(server, cut)
    error = await failure_of(executor)
    assert error.error_type is ErrorType.SERVER_ERROR
    assert error.details["partial_text"] == "Half"


async def test_nobody_listening_is_a_server_error_that_names_the_address():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        executor = PromptExecutor({"OPENAI_BASE_URL": address})
        error = await failure_of(executor)
        await executor.close()
    assert error.error_type is ErrorType.SERVER_ERROR
    assert address in str(error)


@pytest.mark.parametrize(
    "broken", ['data: {"type": "response.outp\n\n', "data: \udcff\n\n".encode("utf-8", "surrogateescape")]
)
async def test_broken_data_in_the_stream_is_a_server_error(server, executor, broken):
    raw = broken if isinstance(broken, bytes) else broken.encode()
    serve(server, Response(iter([frame(delta("a")), raw]), content_type="text/event-stream"))
    error = await failure_of(executor)
    assert error.error_type is ErrorType.SERVER_ERROR


async def test_a_page_in_place_of_a_stream_is_a_server_error_with_the_address(server, executor):
    serve(server, Response("<html>welcome</html>", content_type="text/html"))
    error = await failure_of(executor)
    assert error.error_type is ErrorType.SERVER_ERROR
    assert server.url_for("/v1") in error.hint


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("rate_limit_exceeded", ErrorType.RATE_LIMIT),
        ("server_error", ErrorType.SERVER_ERROR),
        (None, ErrorType.SERVER_ERROR),
        ("invalid_prompt", ErrorType.USER_ERROR),
        ("context_length_exceeded", ErrorType.USER_ERROR),
        ("invalid_api_key", ErrorType.USER_ERROR),
        ("429", ErrorType.RATE_LIMIT),
        ("529", ErrorType.SERVER_ERROR),
    ],
)
@pytest.mark.parametrize("shape", ["error", "nested", "failed", "raised"])
async def test_errors_inside_a_stream_are_classified(server, executor, code, expected, shape):
    said = {"code": code, "message": "it broke"}
    event = {
        "error": {"type": "error", **said, "param": None, "sequence_number": 2},
        "nested": {"type": "error", "error": said},
        "failed": response("failed", error=said),
        "raised": {"error": said},
    }[shape]
    serve(server, sse(delta("a"), event))
    call = call_for()
    error = await failure_of(executor, call)
    assert error.error_type is expected
    assert "it broke" in str(error)
    if shape == "failed":
        assert call.ports.turns[0]["input_tokens"] == 11, "what a failed answer cost is kept"


async def test_an_answer_cut_at_its_limit_names_the_limit_and_keeps_the_text(server, executor):
    cut = response(
        "incomplete", text="Half an", incomplete_details={"reason": "max_output_tokens"}, max_output_tokens=16
    )
    serve(server, sse(delta("Half an"), cut))
    call = call_for(max_output_tokens=16)
    error = await failure_of(executor, call)
    assert error.error_type is ErrorType.USER_ERROR
    assert "max_output_tokens (16)" in str(error)
    assert error.details["partial_text"] == "Half an"
    assert call.ports.turns[0]["output_tokens"] == 7


async def test_cancelling_a_drip_closes_the_connection_that_the_server_sees(server, executor):
    seen = threading.Event()

    def drip(request: Request) -> Response:
        def body():
            try:
                while True:
                    yield frame(delta("drip "))
                    if seen.wait(0.01):
                        return
            finally:
                seen.set()

        return Response(body(), content_type="text/event-stream")

    serve(server, drip)
    call = call_for()
    task = asyncio.create_task(executor.execute(call))
    await asyncio.wait_for(call.ports.first.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(seen.wait, 4), "the server was not told within 4 s"


async def test_without_a_model_the_error_names_the_step_and_what_to_set():
    error = await failure_of(PromptExecutor({}))
    assert error.error_type is ErrorType.USER_ERROR
    assert "'ask'" in str(error)
    assert "OPENAI_API_KEY" in str(error)


async def test_without_a_model_an_optional_step_is_skipped_with_the_reason():
    with pytest.raises(SkipStep) as caught:
        await PromptExecutor({}).execute(call_for(step={"optional": True}))
    assert caught.value.reason == "no model: OPENAI_API_KEY is not set"


async def test_a_key_among_the_plans_secrets_is_used(server):
    serve(server, sse(response(text="x")))
    executor = PromptExecutor({"OPENAI_BASE_URL": server.url_for("/v1")})
    call = call_for()
    call.secrets = {"OPENAI_API_KEY": "sk-of-the-plan"}
    await executor.execute(call)
    await executor.close()
    assert server.log[-1][0].headers["Authorization"] == "Bearer sk-of-the-plan"


async def test_a_scripted_model_answers_by_try_without_any_server():
    executor = PromptExecutor({})
    options = {"model": "scripted", "replies": [{"error": {"type": "rate_limit", "retry_after": 1}}, "Hello there"]}
    error = await failure_of(executor, call_for(**options))
    assert (error.error_type, error.retry_after) == (ErrorType.RATE_LIMIT, 1.0)
    call = call_for(attempt=7, **options)
    call.tries = 2
    assert (await executor.execute(call)).output == "Hello there"
    assert call.ports.text == ["Hello ", "there", "\n"]
    assert call.ports.turns[0]["model"] == "scripted"


async def test_a_users_client_serves_prompts_without_a_key():
    class Client:
        def create_response(self, input, tools, previous_response_id=None, store=True, **kwargs):
            return {"id": "c1", "content": f"{input}: {kwargs}", "usage": {"input_tokens": 1}}

    executor = PromptExecutor({}, client=Client())
    call = call_for("hi", temperature=0.5)
    assert (await executor.execute(call)).output == "hi: {'temperature': 0.5}"
    assert call.ports.turns[0]["response_id"] == "c1"
    assert call.ports.turns[0]["output_tokens"] is None
    assert executor.label({}) == "Client"


async def test_one_executor_serves_many_prompts_at_once_over_kept_connections(server, executor):
    def echo(request: Request) -> Response:
        text = request.get_json()["input"][0]["content"]
        return sse(delta(text), response(text=text))

    serve(server, echo)
    outcomes = await asyncio.gather(*(executor.execute(call_for(f"n{number}")) for number in range(20)))
    assert [outcome.output for outcome in outcomes] == [f"n{number}" for number in range(20)]


def test_the_header_shows_the_model_or_that_there_is_none():
    assert describe_model(None, None, None, {"OPENAI_API_KEY": "k"}) == "gpt-5"
    assert describe_model(None, "scripted", None, {}) == "scripted"
    assert describe_model(None, None, None, {}) == "no model"
    assert PromptExecutor({}).label({"model": "scripted"}) == "scripted"
