"""Users' own clients (document 000) as models."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any

from stepchain_tui.llm.types import AsyncLLMClient, LLMClient, ModelAnswer, ModelRequest, TextCallback
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType


class ClientModel:
    """A `Model` that asks an `LLMClient` or an `AsyncLLMClient`.

    A client that is not async runs on a thread of its own. Cancelling stops waiting for it; what the client does
    cannot be stopped, its answer is dropped, and `lingering` is done when it has really ended.

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

    async def answer(
        self, request: ModelRequest, on_text: TextCallback, on_reasoning: TextCallback | None = None
    ) -> ModelAnswer:
        """Ask the client; its text comes in one piece. What the client raises is passed on.

        Raises:
            AttemptError: The client answers something that is no `LLMResponse`.
        """
        create: Callable[..., Any] = self.client.create_response
        options = request.parameters()
        if request.model:
            options["model"] = request.model
        arguments: dict[str, Any] = {"input": request.prompt, "tools": [], **options}
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

    def _answer(self, response: Any, request: ModelRequest) -> ModelAnswer:
        if not isinstance(response, Mapping) or not isinstance(response.get("content"), str):
            raise AttemptError(
                f"{type(self.client).__name__}.create_response gave {type(response).__name__}, not an LLMResponse",
                error_type=ErrorType.USER_ERROR,
                hint="Return a dict with the keys `id` and `content`.",
            )
        usage = response.get("usage")
        counts = usage if isinstance(usage, Mapping) else {}
        return ModelAnswer(
            text=response["content"],
            model=request.model or self.label,
            response_id=str(response.get("id") or ""),
            input_tokens=_count(counts, "input_tokens", "prompt_tokens"),
            output_tokens=_count(counts, "output_tokens", "completion_tokens"),
        )

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


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    return next((usage[name] for name in names if isinstance(usage.get(name), int)), None)
