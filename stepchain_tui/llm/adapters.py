"""Users' own clients (document 000) as models."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stepchain_tui.llm.clients import OpenAIFace
from stepchain_tui.llm.openai_answer import calls_of, field_of, items_of, usage_of
from stepchain_tui.llm.openai_request import answer_format
from stepchain_tui.llm.types import AsyncLLMClient, Item, LLMClient, ModelAnswer, ModelRequest, TextCallback
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

CLIENT = "client"
"""Who is asked where that is a client of the user: nothing is known of its prices."""
_CALL_HINT = 'Write {"id": ..., "name": ..., "arguments": {...}} for each call.'


class ClientModel:
    """A `Model` that asks an `LLMClient` or an `AsyncLLMClient`.

    The protocol's `input` is a text: a conversation of several turns is told as one, with the calls of tools and their
    results as lines of their own. `previous_response_id` is passed beside it, for clients that can go on from an
    answer; only a client with a true attribute `stateful` is then told no more than what is new. It is left out after
    tool calls, which such a server wants answered in its own form.

    A client that is not async runs on a thread of its own. Cancelling stops waiting for it; what the client does
    cannot be stopped, its answer is dropped, and `lingering` is done when it has really ended. Our own `OpenAIClient`
    and `AsyncOpenAIClient` are asked as the models that they are.

    Args:
        client: Any object with `create_response`.

    Raises:
        TypeError: It has no such method.
    """

    def __init__(self, client: LLMClient | AsyncLLMClient) -> None:
        if not isinstance(client, LLMClient):
            raise TypeError(f"{type(client).__name__} has no method create_response(input, tools, ...)")
        self.client = client
        self.lingering: asyncio.Future[None] | None = None
        """Set while a client that is not async works: done when its thread ends. One call at a time."""

    @property
    def label(self) -> str:
        """What the screen shows: the client's `model` if it has one, else its class."""
        model = getattr(self.client, "model", None)
        return model if isinstance(model, str) and model else type(self.client).__name__

    @property
    def host(self) -> str:
        """Who is asked, as events and prices name it: `client`, or the host of one of our own clients."""
        return self.client.choice.host if isinstance(self.client, OpenAIFace) else CLIENT

    async def answer(
        self, request: ModelRequest, on_text: TextCallback, on_reasoning: TextCallback | None = None
    ) -> ModelAnswer:
        """Ask the client; its text comes in one piece. What the client raises is passed on.

        Raises:
            AttemptError: The client answers something that is no `LLMResponse`.
        """
        if isinstance(self.client, OpenAIFace):
            return await self.client.answer(request, on_text, on_reasoning)
        create: Callable[..., Any] = self.client.create_response
        arguments = self._arguments(request)
        if inspect.iscoroutinefunction(create):
            response = await create(**arguments)
        else:
            response = await self._on_thread(lambda: create(**arguments))
            if inspect.isawaitable(response):
                response = await response
        answer = self._answer(response, request)
        if answer.text:
            on_text(answer.text)
        return answer

    async def close(self) -> None:
        """Close the connections that one of our own clients made on the running loop; a user's client is its own."""
        if isinstance(self.client, OpenAIFace):
            await self.client.disconnect()

    def _arguments(self, request: ModelRequest) -> dict[str, Any]:
        """Return what the client is called with; what is not set is left to its own defaults."""
        items, new = request.items, request.items[request.new_from :]
        arguments: dict[str, Any] = {"tools": [dict(tool) for tool in request.tools], **request.parameters()}
        if request.previous_response_id and not any(item.get("type") == "function_call_output" for item in new):
            arguments["previous_response_id"] = request.previous_response_id
            items = new if getattr(self.client, "stateful", False) is True else items
        if request.expects is not None:
            written = arguments.get("text")
            arguments["text"] = {
                **(written if isinstance(written, Mapping) else {}),
                "format": answer_format(request.expects),
            }
        if request.store is not None:
            arguments.setdefault("store", request.store)
        if request.model:
            arguments["model"] = request.model
        return {**arguments, "input": told(items)}

    def _answer(self, response: Any, request: ModelRequest) -> ModelAnswer:
        content = response.get("content") if isinstance(response, Mapping) else None
        asked = response.get("tool_calls") if isinstance(response, Mapping) else None
        if not isinstance(content, str) and not (isinstance(response, Mapping) and content is None and asked):
            raise self._odd(
                f"gave {type(response).__name__}, not an LLMResponse", "Return a dict with the keys `id` and `content`."
            )
        text = content or ""
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
        items = items_of([*([message] if text else []), *self._calls(asked)])
        calls, usage = calls_of(items), usage_of(response)
        counts = response.get("usage")
        return ModelAnswer(
            text=text,
            model=request.model or self.label,
            response_id=str(response.get("id") or ""),
            input_tokens=_first(usage["input_tokens"], counts, "prompt_tokens"),
            output_tokens=_first(usage["output_tokens"], counts, "completion_tokens"),
            cached_tokens=usage["cached_tokens"],
            reasoning_tokens=usage["reasoning_tokens"],
            calls=calls,
            items=tuple(items),
            finish_reason="tool_calls" if calls else "stop",
        )

    def _calls(self, asked: Any) -> list[dict[str, Any]]:
        """Return tool calls as items: `{"id" or "call_id", "name", "arguments"}`, or the chat API's nested form."""
        if not isinstance(asked, list | tuple | None):
            raise self._odd(f"gave tool_calls as {type(asked).__name__}, not as a list", _CALL_HINT)
        found = []
        for place, call in enumerate(asked or ()):
            inner = field_of(call, "function")
            named = call if inner is None else inner
            name = field_of(named, "name")
            if not isinstance(name, str) or not name:
                raise self._odd(f"gave tool_calls[{place}] without a name", _CALL_HINT)
            call_id, arguments = field_of(call, "call_id") or field_of(call, "id"), field_of(named, "arguments")
            found.append({"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments})
        return found

    def _odd(self, what: str, hint: str) -> AttemptError:
        message = f"{type(self.client).__name__}.create_response {what}"
        return AttemptError(message, error_type=ErrorType.USER_ERROR, hint=hint)

    async def _on_thread(self, function: Callable[[], Any]) -> Any:
        """Return what `function` gives, called on a thread that the interpreter's end does not wait for."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Any] = loop.create_future()
        ended: asyncio.Future[None] = loop.create_future()
        self.lingering = ended

        def settle(value: Any, error: BaseException | None) -> None:
            if not ended.done():
                ended.set_result(None)
            if waiter.done():
                return
            if error is None:
                waiter.set_result(value)
            else:
                waiter.set_exception(error)

        def work() -> None:
            value, failure = None, None
            try:
                value = function()
            except BaseException as error:  # noqa: BLE001 - it is raised again where the call is awaited
                failure = error
            # A closed loop means that nobody waits any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, value, failure)

        threading.Thread(target=work, name="llm-client", daemon=True).start()
        return await waiter


def told(items: Sequence[Item]) -> str:
    """Return a conversation as one text: a single message as it is, more of them as lines that say who speaks."""
    if len(items) == 1 and isinstance(content := items[0].get("content"), str):
        return content
    return "\n\n".join(line for item in items if (line := _line(item)))


def _line(item: Item) -> str:
    kind = item.get("type", "message")
    if kind == "function_call":
        return f"Call {item.get('call_id')} of the tool {item.get('name')}: {item.get('arguments')}"
    if kind == "function_call_output":
        return f"Result of call {item.get('call_id')}: {item.get('output')}"
    if kind != "message":
        return ""
    content = item.get("content")
    if isinstance(content, list):
        content = "".join(str(field_of(part, "text") or field_of(part, "refusal") or "") for part in content)
    return f"{str(item.get('role', 'user')).capitalize()}: {content}" if content else ""


def _first(count: int | None, counts: Any, name: str) -> int | None:
    """Return a count, or what is written under the chat API's name for it."""
    value = field_of(counts, name)
    return value if count is None and isinstance(value, int) else count
