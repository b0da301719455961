"""The client of the Responses API against servers and addresses that mean no good, or are simply wrong."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.llm import ModelAnswer, ModelRequest, OpenAIResponses, choose_model
from stepchain_tui.llm.openai_stream import EVENT_LIMIT
from stepchain_tui.plan import ModelSpec
from stepchain_tui.run import AttemptError, ErrorType
from tests.support.engines import Bench, plan_of
from tests.support.model_server import (
    RawModelServer,
    answer,
    call_item,
    delta,
    error_event,
    events_of,
    message_item,
    status,
    text,
)
from tests.support.model_streams import Answer

MEGABYTE = b"x" * 1_000_000
DEEP = b"[" * 100_000 + b"]" * 100_000
HIGH, LOW = "\ud83d", "\ude00"
FIRST, SECOND = "user", "hunter2-not-shown"


@pytest.fixture(scope="module")
def one_server() -> Iterator[RawModelServer]:
    with RawModelServer() as server:
        yield server


@pytest.fixture
def server(one_server: RawModelServer) -> RawModelServer:
    one_server.reset()
    return one_server


class Asked:
    """A model, and what its callbacks heard."""

    def __init__(self, environment: Mapping[str, str], models: Mapping[str, ModelSpec] | None = None) -> None:
        self.model = OpenAIResponses(choose_model("mine", None, None, environment, models))
        self.heard: list[str] = []
        self.reasoning: list[str] = []

    async def ask(self) -> ModelAnswer:
        return await self.model.answer(ModelRequest.of_text("hi"), self.heard.append, self.reasoning.append)

    async def failure(self, error_type: ErrorType) -> AttemptError:
        with pytest.raises(AttemptError) as caught:
            await self.ask()
        assert caught.value.hint
        assert caught.value.error_type is error_type
        return caught.value


Make = Callable[..., Asked]


@pytest.fixture
async def make(server: RawModelServer) -> AsyncIterator[Make]:
    made: list[Asked] = []

    def one(environment: Mapping[str, str] | None = None, **models: ModelSpec) -> Asked:
        made.append(Asked(server.environment() if environment is None else environment, models))
        return made[-1]

    yield one
    for asked in made:
        await asked.model.close()


# --- more than there is room for


def endless(server: RawModelServer, first: str, number: int = 200, kind: str = "text/event-stream") -> Answer:
    """Return an answer that goes on for 200 MB, and says how much of it was taken in `sent`."""

    class Chunks(tuple[Any, ...]):
        sent = 0

        def __iter__(self) -> Iterator[Any]:
            yield first
            while self.sent < 200:
                self.sent += 1
                yield MEGABYTE

    return Answer(Chunks(), number, {}, kind)


async def test_a_line_without_end_is_not_read_to_its_end(server: RawModelServer, make: Make) -> None:
    given = endless(server, 'data: {"type": "response.output_text.delta", "delta": "')
    server.answers(given)
    error = await make().failure(ErrorType.USER_ERROR)
    assert "10 MB" in str(error)
    assert given.chunks.sent < 60


@pytest.mark.parametrize(("number", "class_of_it"), [(500, ErrorType.SERVER_ERROR), (429, ErrorType.RATE_LIMIT)])
async def test_an_error_without_end_is_the_error_that_its_status_says(
    server: RawModelServer, make: Make, number: int, class_of_it: ErrorType
) -> None:
    given = endless(server, '{"error": {"message": "', number, "application/json")
    server.answers(given)
    error = await make().failure(class_of_it)
    assert len(str(error)) < 2_000
    assert given.chunks.sent < 60


async def test_items_without_end_are_ended(server: RawModelServer, make: Make) -> None:
    item = {"type": "reasoning", "encrypted_content": "y" * 1_000_000}
    server.answers(answer(*[{"type": "response.output_item.done", "item": item}] * 60))
    assert "10 MB" in str(await make().failure(ErrorType.USER_ERROR))


async def test_many_events_that_are_each_small_may_be_more_than_one_may_be(server: RawModelServer, make: Make) -> None:
    piece = {"type": "response.hologram.delta", "delta": "z" * 1_000_000}
    server.answers(answer(*[piece] * (EVENT_LIMIT // 1_000_000 + 2), *events_of(message_item("fine"))))
    assert (await make().ask()).text == "fine"


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
async def test_the_end_of_an_event_is_seen_where_it_comes_in_two_pieces(
    server: RawModelServer, make: Make, end: bytes
) -> None:
    large = b'data: {"type": "odd", "x": "' + b"x" * (EVENT_LIMIT - 100_000) + b'"}'
    parts = [part for event in [large, large] for part in (event, end[:1], end[1:])]
    server.answers(answer(*parts, *events_of(message_item("fine"))))
    assert (await make().ask()).text == "fine"


@pytest.mark.parametrize(("number", "class_of_it"), [(200, ErrorType.SERVER_ERROR), (400, ErrorType.USER_ERROR)])
async def test_what_is_compressed_unasked_is_not_unpacked(
    server: RawModelServer, make: Make, number: int, class_of_it: ErrorType
) -> None:
    packed = gzip.compress(b'data: {"x": "' + b" " * 50_000_000)
    server.answers(Answer((packed,), number, {"content-encoding": "gzip"}))
    assert "   " not in str(await make().failure(class_of_it))
    assert server.requests[0].headers["accept-encoding"] == "identity"


# --- what cannot be read


@pytest.mark.parametrize(
    "inside", [DEEP, b"9" * 5_000, b"[" * 700 + b"]" * 700], ids=["deeper than Python goes", "a number", "an item"]
)
@pytest.mark.parametrize("kind", ["response.completed", "response.output_item.done"])
async def test_an_answer_that_cannot_be_read_is_the_servers_mistake_and_said_in_plain_words(
    server: RawModelServer, make: Make, inside: bytes, kind: str
) -> None:
    item = b'{"type": "odd", "y": ' + inside + b"}"
    event = b'data: {"type": "%s", "item": %s, "response": {"output": [%s]}}\n\n' % (kind.encode(), item, item)
    server.answers(answer(event))
    error = await make().failure(ErrorType.SERVER_ERROR)
    assert "the answer cannot be read: " in str(error)
    assert "recursion" not in str(error)
    assert "set_int_max_str_digits" not in str(error)


async def test_an_error_that_is_no_text_is_told_as_it_came(server: RawModelServer, make: Make) -> None:
    deep: Any = json.loads("[" * 900 + "]" * 900)
    server.answers(
        answer({"type": "error", "message": {"why": [1]}, "code": 5}),
        answer({"type": "error", "message": deep, "code": deep}),
    )
    asked = make()
    assert '{"why":[1]}' in str(await asked.failure(ErrorType.SERVER_ERROR))
    assert "nested too deep" in str(await asked.failure(ErrorType.SERVER_ERROR))


# --- halves of characters


async def test_a_character_that_was_cut_in_two_is_whole_again(server: RawModelServer, make: Make) -> None:
    thought = "response.reasoning_text.delta"
    last = events_of()[-1]
    server.answers(
        answer(
            {"type": thought, "delta": f"so {HIGH}"}, {"type": thought, "delta": LOW},
            delta(f"hi {HIGH}"), delta(f"{LOW} there"), last,
        )
    )  # fmt: skip
    asked = make()
    answered = await asked.ask()
    assert answered.text == "hi 😀 there" == "".join(asked.heard)
    assert "".join(asked.reasoning) == "so 😀"
    assert answered.items[0]["content"][0]["text"] == "hi 😀 there"


async def test_a_half_without_the_other_is_replaced_wherever_it_stands(server: RawModelServer, make: Make) -> None:
    items = message_item(f"a{LOW}b{HIGH}"), call_item(f"ad{HIGH}d", f'{{"a": "{LOW}"}}', f"c{HIGH}")
    events = events_of(*items, response_id=f"r{HIGH}")
    events[-1]["response"]["model"] = f"m{LOW}"
    server.answers(answer(*events))
    asked = make()
    answered = await asked.ask()
    assert "".join(asked.heard) == answered.text == "a?b?"
    assert (answered.model, answered.response_id) == ("m?", "r?")
    [call] = answered.calls
    assert (call.call_id, call.name, call.arguments) == ("c?", "ad?d", '{"a": "?"}')
    json.dumps(answered.items, ensure_ascii=False).encode()


async def test_a_half_at_the_end_of_a_message_is_not_joined_to_the_next(server: RawModelServer, make: Make) -> None:
    first, second = message_item(f"one{HIGH}"), message_item(f"{LOW}two")
    server.answers(answer(*events_of(first, second)))
    asked = make()
    assert (await asked.ask()).text == "one?\n\n?two" == "".join(asked.heard)


@pytest.mark.parametrize("given", [status(400, f"bad {HIGH}"), answer(error_event("odd", f"bad {HIGH}"))])
async def test_halves_in_what_a_server_says_of_its_error_are_replaced(
    server: RawModelServer, make: Make, given: Answer
) -> None:
    server.answers(given)
    with pytest.raises(AttemptError) as caught:
        await make().ask()
    assert "bad ?" in str(caught.value)
    f"{caught.value}{caught.value.details}{caught.value.remote_traceback}".encode()


class HalfClient:
    """A client of the user that gives halves of characters."""

    def create_response(self, **asked: Any) -> Any:
        return {"id": f"r{HIGH}", "content": f"x{HIGH}y"}


async def test_halves_from_a_client_of_the_user_are_replaced(tmp_path: Path) -> None:
    async with Bench(folder=tmp_path, client=HalfClient()) as bench:
        found = await bench.run(plan_of({"id": "ask", "prompt": "hi"}))
        assert found.outputs == {"ask": "x?y"}
        await found.check()


# --- who is sent what


async def test_a_prompt_is_not_sent_on_to_where_a_server_points(server: RawModelServer, make: Make) -> None:
    with RawModelServer(text("captured")) as other:
        to = other.url.replace("//", f"//{FIRST}:{SECOND}@")
        server.answers(status(307, "elsewhere", Location=f"{to}/responses?key={SECOND}"))
        error = await make().failure(ErrorType.USER_ERROR)
        assert other.requests == []
    assert f"redirects to {other.url}/responses" in str(error)
    assert "OPENAI_BASE_URL" in error.hint
    assert SECOND not in told(error)


@pytest.mark.parametrize("location", [None, "http://[", "/elsewhere"])
async def test_a_redirect_to_nowhere_is_an_error_too(server: RawModelServer, make: Make, location: str | None) -> None:
    server.answers(status(302, "elsewhere", **({"Location": location} if location else {})))
    assert "redirects to" in str(await make().failure(ErrorType.USER_ERROR))


async def test_what_the_environment_says_for_openai_goes_to_no_address_of_a_plan(
    server: RawModelServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-private")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway-Auth: gw-private\nauthorization: Bearer private")
    server.answers(text("fine"))
    await make({"MINE": "my-own-key"}, mine=ModelSpec(base_url=server.url, api_key_env="MINE")).ask()
    assert "private" not in str(server.requests[0].headers)
    assert server.requests[0].headers["authorization"] == "Bearer my-own-key"
    await make(dict(os.environ) | server.environment()).ask()
    headers = server.requests[1].headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("org-private", "proj-private")
    assert headers["x-gateway-auth"] == "gw-private"


# --- addresses and keys


def told(error: AttemptError) -> str:
    return f"{error} {error.hint} {error.details} {error.remote_traceback}"


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("not a url", "does not begin with http"),
        ("ftp://x/y", "does not begin with http"),
        (f"http://{FIRST}:{SECOND}@[", "cannot be read"),
        ("http://", "names no host"),
        (f"http://{FIRST}:{SECOND}@127.0.0.1:99999/v1", "port"),
        ("http://127.0.0.1:0/v1", "port"),
        ("http://127.0.0.1:one/v1", "port"),
        ("http://a b/v1", "blank"),
        ("http://a\x00b/v1", "control"),
        ("http://☃/v1", "cannot be read"),
    ],
)
async def test_an_address_that_cannot_be_asked_is_named_by_where_it_is_written(
    make: Make, address: str, fault: str
) -> None:
    error = await make({"OPENAI_BASE_URL": address}).failure(ErrorType.USER_ERROR)
    assert fault in str(error)
    assert "OPENAI_BASE_URL" in str(error)
    assert SECOND not in told(error)
    error = await make({}, mine=ModelSpec(base_url=address)).failure(ErrorType.USER_ERROR)
    assert "models.mine.base_url" in str(error)
    assert "models.mine.base_url" in error.hint


@pytest.mark.parametrize("key", ["sk-schlüssel-ü", "sk-abcdefgh\nX-Evil: 1"])
async def test_a_key_that_cannot_be_sent_is_named_and_not_shown(server: RawModelServer, make: Make, key: str) -> None:
    error = await make({**server.environment(), "OPENAI_API_KEY": key}).failure(ErrorType.USER_ERROR)
    assert "OPENAI_API_KEY" in str(error)
    assert "sk-" not in told(error)
    assert server.requests == []


@pytest.mark.parametrize(
    "given",
    [
        status(404, f"no model at http://joe:{SECOND}@host, key={SECOND}"),
        status(500, "oops"),
        answer(delta("half")),
        answer("data: {\n\n"),
        answer(error_event("server_error", f"it broke for {SECOND}")),
    ],
)
async def test_the_password_and_the_query_of_an_address_are_sent_and_never_shown(
    server: RawModelServer, make: Make, given: Answer
) -> None:
    server.answers(given)
    address = server.url.replace("//", f"//joe:{SECOND}@") + f"?api-key={SECOND}-too"
    asked = make({"OPENAI_BASE_URL": address})
    with pytest.raises(AttemptError) as caught:
        await asked.ask()
    assert "hunter2" not in told(caught.value)
    assert "hunter2" not in repr(asked.model.choice)
    assert server.requests[0].path == f"/v1/responses?api-key={SECOND}-too"
    assert asked.model.choice.address == server.url


async def test_an_address_that_nobody_answers_at_is_shown_without_its_password(make: Make) -> None:
    error = await make({"OPENAI_BASE_URL": f"http://joe:{SECOND}@127.0.0.1:1/v1?api-key={SECOND}"}).failure(
        ErrorType.SERVER_ERROR
    )
    assert "http://127.0.0.1:1/v1 failed" in str(error)
    assert SECOND not in told(error)


async def test_a_tool_that_nobody_has_names_the_address_without_its_password(make: Make) -> None:
    asked = make({"OPENAI_BASE_URL": f"http://joe:{SECOND}@host/v1"})
    request = replace(ModelRequest.of_text("hi"), tools=({"type": "web_search"},))
    with pytest.raises(AttemptError, match="http://host/v1 is not known") as caught:
        await asked.model.answer(request, asked.heard.append)
    assert SECOND not in told(caught.value)
