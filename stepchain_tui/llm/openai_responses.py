"""The Responses API of OpenAI, and of servers that speak it: one streamed request for one answer.

The traps of the openai package that this file is written around: a stream that ends early just stops; error events
are yielded, not raised; broken data leaks `JSONDecodeError`; its timeout is one of each read, so none is set and
cancelling the task closes the socket; its own parsing of structured answers hides the answer, so that it is never used;
its classes for events turn what they do not know into something else, warn when that is dumped, and take ten times as
long as all the rest. So the request goes through the package's general `post`, which gives events as plain JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import to_json_value
from stepchain_tui.llm.choice import ModelChoice
from stepchain_tui.llm.openai_answer import calls_of, citations_of, field_of, items_of, text_of, usage_of
from stepchain_tui.llm.openai_errors import build, code_failure, forgot_the_answer, status_failure
from stepchain_tui.llm.openai_request import bad_address, body_of, check_place
from stepchain_tui.llm.openai_stream import BrokenError, Heard, TooLongError
from stepchain_tui.llm.types import ModelAnswer, ModelRequest, TextCallback
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream

END_TIMEOUT = 0.1
"""Seconds that a server has to end a stream after the answer's end."""
_END = object()


class OpenAIResponses:
    """A `Model` at an address that speaks the Responses API.

    Where the provider keeps answers it is sent only what is new, with `previous_response_id`; where it does not know
    that answer any more, the whole conversation is sent instead. See `profiles`.

    Args:
        choice: The model, its address and its key.
        clock: Tells the time for a Retry-After that is a date, and until the first text.
    """

    def __init__(self, choice: ModelChoice, clock: Clock | None = None) -> None:
        self.choice = choice
        self._clock = clock or SystemClock()
        self._client: AsyncOpenAI | None = None

    async def answer(
        self, request: ModelRequest, on_text: TextCallback, on_reasoning: TextCallback | None = None
    ) -> ModelAnswer:
        """Ask once and stream the text; see `Model.answer`.

        Raises:
            AttemptError: rate_limit with what Retry-After says; server_error for 5xx, lost connections and streams
                that break or cannot be read; timeout where no connection is made in time; user_error for what the API
                refuses, for an address that cannot be asked or that redirects, for a key that cannot be sent, for a
                hosted tool at an address that has none, and for an answer that was cut, with `partial_text` and what
                it cost in its details.
        """
        check_place(self.choice)
        body = body_of(request, self.choice)
        try:
            return await self._ask(body, request, on_text, on_reasoning)
        except AttemptError as error:
            if not request.previous_response_id or "previous_response_id" not in body or not forgot_the_answer(error):
                raise
        body = body_of(request, self.choice, whole=True)
        return await self._ask(body, request, on_text, on_reasoning)

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _ask(
        self, body: dict[str, Any], request: ModelRequest, on_text: TextCallback, on_reasoning: TextCallback | None
    ) -> ModelAnswer:
        client = await self._connect()
        import openai

        heard = Heard(on_text, on_reasoning, self._clock)
        request_id = ""
        try:
            stream = await self._send(client, body, heard)
            request_id = str(stream.response.headers.get("x-request-id") or "")
            async with stream:
                events = aiter(stream)
                try:
                    while (event := await self._next(events, heard)) is not _END:
                        if heard.take(event):
                            break
                finally:
                    await _finish(events)
            heard.end()
            return self._judge(heard, request, request_id)
        except AttemptError as error:
            if request_id:
                error.details.setdefault("request_id", request_id)
            raise
        except openai.APIStatusError as error:
            raise status_failure(error, self.choice, self._clock.now()) from None
        except openai.APITimeoutError as error:
            raise self._failure("no answer in time", error, ErrorType.TIMEOUT, heard) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            message = f"the connection to {self.choice.address} failed: {str(cause) or type(cause).__name__}"
            raise self._failure(message, error, ErrorType.SERVER_ERROR, heard) from None
        except openai.APIError as error:
            raise code_failure(error.code, error.type, error.message, self.choice, error) from None
        except TooLongError:
            message = "the answer is larger than a result may be (10 MB)"
            raise self._failure(message, None, ErrorType.USER_ERROR, heard, partial=False) from None
        except BrokenError as error:
            message = f"the answer cannot be read: {error}"
            raise self._failure(message, None, ErrorType.SERVER_ERROR, heard) from None

    async def _send(self, client: AsyncOpenAI, body: dict[str, Any], heard: Heard) -> AsyncStream[object]:
        import openai

        try:
            return await client.post(
                "/responses",
                cast_to=object,
                body=body,
                stream=True,
                stream_cls=openai.AsyncStream[object],
                # Without this, the package would send an administrator's key that it finds in the environment.
                options={"security": {"bearer_auth": True}},
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise self._failure(f"the request cannot be made: {error}", error, ErrorType.USER_ERROR, heard) from None

    async def _next(self, events: AsyncIterator[object], heard: Heard) -> object:
        """Return the next event, or `_END`."""
        try:
            return await anext(events, _END)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._failure("the answer is not valid JSON", error, ErrorType.SERVER_ERROR, heard) from None
        except (ValueError, RecursionError):
            # Python's own words for what it cannot read would only puzzle.
            raise BrokenError("it is nested too deep, or has a number that is too long") from None

    async def _connect(self) -> AsyncOpenAI:
        if self._client is None:
            # Importing takes most of a second: on a thread, so that the loop goes on.
            transport = await asyncio.to_thread(import_module, "stepchain_tui.llm.openai_transport")
            if self._client is None:
                try:
                    self._client = transport.client_of(self.choice)
                except transport.httpx2.InvalidURL:
                    raise bad_address(self.choice, "cannot be read as an address") from None
        return self._client

    def _judge(self, heard: Heard, request: ModelRequest, request_id: str) -> ModelAnswer:
        """Return the answer that the stream's last event allows."""
        if heard.error is not None:
            code, kind, message = (field_of(heard.error, name) for name in ("code", "type", "message"))
            raise code_failure(code, kind, message, self.choice, None)
        final = heard.final
        if final is None:
            message = "the stream ended before the answer did"
            raise self._failure(message, None, ErrorType.SERVER_ERROR, heard)
        if heard.ended_as == "response.failed":
            error = field_of(final, "error")
            failure = code_failure(field_of(error, "code"), None, field_of(error, "message"), self.choice, None)
            failure.details.update(_turn_details(final))
            raise failure
        # Some servers leave the items out of the last event, having sent them one by one.
        try:
            items = items_of(field_of(final, "output")) or items_of(heard.items)
        except UsageError as error:
            raise BrokenError(error.message) from None
        text = text_of(items) or heard.text
        refusal = "" if text else text_of(items, "refusal", "refusal") or heard.refusal
        if heard.ended_as == "response.incomplete":
            raise self._incomplete(final, text, request)
        if not heard.parts and not heard.refusals and (text or refusal):
            heard.show(text or refusal)
        if text and not text_of(items):
            part = {"type": "output_text", "text": text, "annotations": []}
            items.append({"type": "message", "role": "assistant", "status": "completed", "content": [part]})
        calls = calls_of(items)
        return ModelAnswer(
            text=text or refusal,
            model=_word(field_of(final, "model")) or self.choice.name,
            response_id=_word(field_of(final, "id")),
            refused=bool(refusal),
            calls=calls,
            items=tuple(items),
            citations=citations_of(items),
            finish_reason="tool_calls" if calls or _asks_approval(items) else "refusal" if refusal else "stop",
            request_id=request_id,
            first_text_after=heard.first_text_after,
            **usage_of(final),
        )

    def _incomplete(self, final: Any, text: str, request: ModelRequest) -> AttemptError:
        reason = _word(field_of(field_of(final, "incomplete_details"), "reason")) or "unknown"
        finish_reason = reason
        if reason == "max_output_tokens":
            said = field_of(final, "max_output_tokens")
            limit = said if isinstance(said, int) and said else request.max_output_tokens
            said = f"max_output_tokens ({limit})" if limit else "max_output_tokens"
            message, hint = f"the answer was cut at {said}", "Raise `max_output_tokens`, or ask for less."
            finish_reason = "length"
        elif reason == "content_filter":
            message, hint = "the answer was cut by the provider's content filter", "Mend the prompt."
        else:
            message, hint = f"the answer was cut: {reason}", "Ask for less, or look at the provider's documentation."
        return build(
            f"{self.choice.name}: {message}",
            None,
            self.choice,
            error_type=ErrorType.USER_ERROR,
            hint=hint,
            details={"reason": reason, "finish_reason": finish_reason, "partial_text": text, **_turn_details(final)},
        )

    def _failure(
        self,
        message: str,
        error: Exception | None,
        error_type: ErrorType,
        heard: Heard,
        *,
        partial: bool = True,
    ) -> AttemptError:
        text = heard.text if partial else ""
        hints = {
            ErrorType.USER_ERROR: "Mend the step's options." if partial else "Ask for less at once.",
            ErrorType.TIMEOUT: f"Check that {self.choice.address} can be reached.",
        }
        return build(
            f"{self.choice.name}: {message}",
            error,
            self.choice,
            error_type=error_type,
            hint=hints.get(error_type, f"A later try may work; if not, check {self.choice.address}."),
            details={"model": self.choice.name, **({"partial_text": text} if text else {})},
        )


async def _finish(events: AsyncIterator[object]) -> None:
    """Read a stream to its end, so that its connection can be used again, or end it where it has none.

    The package's generators stand inside one another. Left alone in the middle, each would be ended by the garbage
    collector, in any order and from any thread; a timeout ends them from the inside out.
    """
    import openai

    with contextlib.suppress(TimeoutError, openai.OpenAIError, ValueError, RecursionError, TooLongError):
        async with asyncio.timeout(END_TIMEOUT):
            async for _ in events:
                pass


def _asks_approval(items: list[dict[str, Any]]) -> bool:
    return any(item["type"] == "mcp_approval_request" for item in items)


def _turn_details(final: Any) -> dict[str, Any]:
    details = {"response_id": _word(field_of(final, "id")) or None, **usage_of(final)}
    return {name: value for name, value in details.items() if value is not None}


def _word(value: Any) -> str:
    """Return a name that a server gives, as text that can be kept."""
    return str(to_json_value(value)) if isinstance(value, str) else ""
