"""Our own clients in document 000's shape, for scripts: the Responses API, sync and async, and scripted answers.

They are faces of the same models that plans ask. Given to an executor as its `client`, they are asked as such: their
text streams, and tools, reasoning and citations go both ways.
"""

# ruff: noqa: A002 - a parameter is called `input` in document 000

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from stepchain_tui.core.clock import Clock
from stepchain_tui.core.errors import UsageError
from stepchain_tui.llm.choice import ADDRESS_VARIABLE, KEY_VARIABLE, SCRIPTED, ModelChoice, choose_model
from stepchain_tui.llm.openai_responses import OpenAIResponses
from stepchain_tui.llm.profiles import profile_of
from stepchain_tui.llm.scripted import ScriptedModel
from stepchain_tui.llm.tool_formats import ToolEntry, tools_for_model
from stepchain_tui.llm.types import Item, LLMResponse, ModelAnswer, ModelRequest, TextCallback, user_message

if TYPE_CHECKING:
    from stepchain_tui.tools.loop_thread import LoopThread

T = TypeVar("T")


class OpenAIFace:
    """What the clients of the Responses API share: whom they ask, and a connection for each event loop.

    Args:
        model: The model's name; `gpt-5` where nothing is said.
        base_url: The API's address; `OPENAI_BASE_URL`, else OpenAI's. The key in the environment is not sent to an
            address that is given here.
        api_key: The key; `OPENAI_API_KEY` where nothing is said. A local server needs none.
        profile: What the server can do, by the name of a profile; see `profiles`.
        stateful: Whether the server keeps answers; what the profile says if None.
        hosted_tools: Whether the server carries out tools such as `web_search`; what the profile says if None.
        options: Keys for the API with every request.
        on_text: Gets the text of all answers as it arrives.
        environment: Where the variables are looked up; this process's environment if None.
        clock: Tells the time.

    Raises:
        UsageError: There is no key and no address of a local server; names the variable.
    """

    def __init__(
        self,
        model: str = "",
        *,
        base_url: str = "",
        api_key: str = "",
        profile: str | None = None,
        stateful: bool | None = None,
        hosted_tools: bool | None = None,
        options: Mapping[str, Any] | None = None,
        on_text: TextCallback | None = None,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.choice = _choice(model, base_url, api_key, os.environ if environment is None else environment)
        able = profile_of(self.choice.base_url, profile, stateful=stateful, hosted_tools=hosted_tools)
        self.choice = replace(self.choice, profile=able, options=dict(options or {}))
        self._on_text = on_text
        self._clock = clock
        self._connections: WeakKeyDictionary[asyncio.AbstractEventLoop, OpenAIResponses] = WeakKeyDictionary()

    @property
    def model(self) -> str:
        """The model that is asked where a request names none."""
        return self.choice.name

    @property
    def stateful(self) -> bool:
        """Whether the server keeps answers: a conversation can go on from the last one."""
        return self.choice.profile.stateful

    async def answer(
        self, request: ModelRequest, on_text: TextCallback, on_reasoning: TextCallback | None = None
    ) -> ModelAnswer:
        """Answer as a `Model` does."""
        return await self._connection().answer(request, on_text, on_reasoning)

    async def disconnect(self) -> None:
        """Close the connections that were made on the running loop."""
        connection = self._connections.pop(asyncio.get_running_loop(), None)
        if connection is not None:
            await connection.close()

    def _connection(self) -> OpenAIResponses:
        loop = asyncio.get_running_loop()
        if loop not in self._connections:
            self._connections[loop] = OpenAIResponses(self.choice, self._clock)
        return self._connections[loop]

    async def _create(
        self,
        input: str | Sequence[Item],
        tools: Sequence[ToolEntry],
        previous_response_id: str | None,
        store: bool,
        options: dict[str, Any],
    ) -> LLMResponse:
        if previous_response_id is not None:
            options["previous_response_id"] = previous_response_id
        request = ModelRequest(
            items=(user_message(input),) if isinstance(input, str) else tuple(input),
            model=str(options.pop("model", "") or ""),
            tools=tuple(tools_for_model(tools)),
            store=store,
            options=options,
        )
        return response_of(await self.answer(request, self._on_text or _unheard))


class AsyncOpenAIClient(OpenAIFace):
    """An `AsyncLLMClient` of OpenAI, or of a server that speaks its Responses API. See `OpenAIFace`."""

    async def create_response(
        self,
        input: str | Sequence[Item],
        tools: Sequence[ToolEntry] = (),
        previous_response_id: str | None = None,
        store: bool = True,
        **kwargs: Any,
    ) -> LLMResponse:
        """Ask once.

        Args:
            input: A prompt, or items in the form of the API, such as the results of tool calls.
            tools: Names, functions, or the API's mappings; see `tools_for_model`.
            previous_response_id: The answer that this one goes on from; the provider must have kept it.
            store: Whether the provider keeps the answer.
            **kwargs: Further keys of the request's body, passed as they are: `model`, `temperature`, `reasoning`, ...

        Raises:
            AttemptError: As `OpenAIResponses.answer` does, classified for a retry.
        """
        return await self._create(input, tools, previous_response_id, store, kwargs)

    async def close(self) -> None:
        """Close the connections that were made on the running loop."""
        await self.disconnect()


class OpenAIClient(OpenAIFace):
    """An `LLMClient` of OpenAI, or of a server that speaks its Responses API. See `OpenAIFace`.

    It blocks until the whole answer is there, and may be called from any thread, one that runs a loop too.
    """

    def create_response(
        self,
        input: str | Sequence[Item],
        tools: Sequence[ToolEntry] = (),
        previous_response_id: str | None = None,
        store: bool = True,
        **kwargs: Any,
    ) -> LLMResponse:
        """Ask once; see `AsyncOpenAIClient.create_response`."""
        return _wait_for(self._create(input, tools, previous_response_id, store, kwargs))

    def close(self) -> None:
        """Close the connections of this client's own calls."""
        _wait_for(self.disconnect())


class ScriptedClient:
    """An `LLMClient` that answers from a list, for tests and demos.

    Args:
        replies: As in `ScriptedModel`; each call gets the next one, the last one repeats.

    Attributes:
        requests: What it was asked: `input`, `tools`, `previous_response_id`, `store` and further keys.
    """

    model = SCRIPTED

    def __init__(self, replies: Sequence[Any]) -> None:
        self.requests: list[dict[str, Any]] = []
        self._model = ScriptedModel(replies)
        self._lock = threading.Lock()

    def create_response(
        self,
        input: str,
        tools: Sequence[ToolEntry] = (),
        previous_response_id: str | None = None,
        store: bool = True,
        **kwargs: Any,
    ) -> LLMResponse:
        """Return the next reply.

        Raises:
            AttemptError: The reply is an error, or is none that can be meant.
        """
        asked = {"input": input, "tools": list(tools), "previous_response_id": previous_response_id, "store": store}
        with self._lock:
            self.requests.append({**asked, **kwargs})
            turn = len(self.requests)
        return response_of(_wait_for(self._model.answer(ModelRequest.of_text(str(input), turn=turn), _unheard)))


def response_of(answer: ModelAnswer) -> LLMResponse:
    """Return an answer in document 000's shape; what is unknown is left out."""
    found: LLMResponse = {"id": answer.response_id, "content": answer.text}
    if answer.calls:
        found["tool_calls"] = [
            {"id": call.call_id, "name": call.name, "arguments": call.arguments} for call in answer.calls
        ]
    counts = {
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "cached_tokens": answer.cached_tokens,
        "reasoning_tokens": answer.reasoning_tokens,
    }
    if known := {name: count for name, count in counts.items() if count is not None}:
        found["usage"] = known
    return found


def _choice(model: str, base_url: str, api_key: str, environment: Mapping[str, str]) -> ModelChoice:
    if base_url:
        given = {ADDRESS_VARIABLE: base_url, KEY_VARIABLE: api_key}
    else:
        given = {**environment, **({KEY_VARIABLE: api_key} if api_key else {})}
    choice = choose_model(model or None, None, None, given)
    if choice.provider == "scripted":
        raise UsageError("'scripted' is no model of a server", hint="Use ScriptedClient([...]).")
    if not choice.available:
        raise UsageError(
            f"a model needs a key, and {choice.key_variable} is not set",
            hint=f"Set {choice.key_variable}, pass api_key=, or pass base_url= for a local server.",
        )
    return replace(choice, address_from="base_url=") if base_url else choice


def _unheard(_: str) -> None:
    """Take a piece of text that nobody waits for."""


_loops: list[LoopThread] = []
_loops_lock = threading.Lock()


def _wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine gives, run on one loop that all sync clients of this process share."""
    from stepchain_tui.tools.loop_thread import LoopThread

    with _loops_lock:
        if not _loops or not _loops[-1].usable:
            _loops[:] = [LoopThread()]
        loop = _loops[-1]
    return loop.submit(work).result()
