"""The Responses API of OpenAI, and of servers that speak it: one streamed request for one answer.

The traps of the openai package that this file is written around: a stream that ends early just stops; error events
are yielded, not raised; broken data leaks `JSONDecodeError`; unknown events come as objects of a wrong class, so only
`.type` is trusted; dumping such objects warns, so nothing is dumped; its timeout is one of each read, so none is set
and cancelling the task closes the socket.
"""

from __future__ import annotations

import asyncio
import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.llm.choice import ModelChoice
from stepchain_tui.llm.openai_errors import build, code_failure, status_failure
from stepchain_tui.llm.types import ModelAnswer, ModelRequest, TextCallback
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CONNECT_TIMEOUT = 30.0
"""Seconds for a connection to be made."""
TERMINAL = ("response.completed", "response.incomplete", "response.failed")


class OpenAIResponses:
    """A `Model` at an address that speaks the Responses API.

    Args:
        choice: The model, its address and its key.
        clock: Tells the time for a Retry-After that is a date.
    """

    def __init__(self, choice: ModelChoice, clock: Clock | None = None) -> None:
        self.choice = choice
        self._clock = clock or SystemClock()
        self._client: AsyncOpenAI | None = None

    async def answer(self, request: ModelRequest, on_text: TextCallback) -> ModelAnswer:
        """Ask once and stream the text; see `Model.answer`.

        Raises:
            AttemptError: rate_limit with what Retry-After says; server_error for 5xx, lost connections and streams
                that break; timeout where no connection is made in time; user_error for what the API refuses, and
                for an answer that was cut, with `partial_text` in its details.
        """
        client = await self._connect()
        import openai

        heard = _Heard(on_text)
        try:
            stream = await client.responses.create(
                model=request.model or self.choice.name,
                input=request.prompt,
                stream=True,
                # As a part of the body, keys that the openai package does not know reach the server too.
                extra_body={**self.choice.options, **request.parameters()},
            )
            async with stream:
                async for event in stream:
                    if heard.take(event):
                        break
        except openai.APIStatusError as error:
            raise status_failure(error, self.choice, self._clock.now()) from None
        except openai.APITimeoutError as error:
            raise self._failure("no answer in time", error, ErrorType.TIMEOUT, heard) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            message = f"the connection to {self.choice.base_url} failed: {str(cause) or type(cause).__name__}"
            raise self._failure(message, error, ErrorType.SERVER_ERROR, heard) from None
        except openai.APIError as error:
            raise code_failure(error.code, error.type, error.message, self.choice, error) from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._failure("the answer is not valid JSON", error, ErrorType.SERVER_ERROR, heard) from None
        except TypeError as error:
            raise self._failure(f"the request cannot be made: {error}", error, ErrorType.USER_ERROR, heard) from None
        return self._judge(heard, request)

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connect(self) -> AsyncOpenAI:
        if self._client is None:
            # Importing takes most of a second: on a thread, so that the loop goes on.
            openai = await asyncio.to_thread(_load)
            if self._client is None:
                self._client = openai.AsyncOpenAI(
                    api_key=self.choice.api_key,
                    base_url=self.choice.base_url,
                    max_retries=0,
                    timeout=openai.Timeout(None, connect=CONNECT_TIMEOUT),
                )
        return self._client

    def _judge(self, heard: _Heard, request: ModelRequest) -> ModelAnswer:
        """Return the answer that the stream's last event allows."""
        if heard.error is not None:
            error = heard.error
            raise code_failure(
                getattr(error, "code", None),
                getattr(error, "type", None),
                getattr(error, "message", None),
                self.choice,
                None,
            )
        final = heard.final
        if final is None:
            message = "the stream ended before the answer did"
            raise self._failure(message, None, ErrorType.SERVER_ERROR, heard)
        if heard.ended_as == "response.failed":
            error = getattr(final, "error", None)
            failure = code_failure(
                getattr(error, "code", None), None, getattr(error, "message", None), self.choice, None
            )
            failure.details.update(_turn_details(final))
            raise failure
        text = heard.text() or _final_text(final, "output_text", "text")
        refusal = "" if text else heard.refusal() or _final_text(final, "refusal", "refusal")
        if heard.ended_as == "response.incomplete":
            raise self._incomplete(final, text, request)
        if not heard.parts and (text or refusal):
            heard.on_text(text or refusal)
        return ModelAnswer(
            text=text or refusal,
            model=str(getattr(final, "model", None) or self.choice.name),
            response_id=str(getattr(final, "id", None) or ""),
            input_tokens=_count(final, "input_tokens"),
            output_tokens=_count(final, "output_tokens"),
            refused=bool(refusal),
        )

    def _incomplete(self, final: Any, text: str, request: ModelRequest) -> AttemptError:
        reason = str(getattr(getattr(final, "incomplete_details", None), "reason", None) or "unknown")
        if reason == "max_output_tokens":
            limit = getattr(final, "max_output_tokens", None) or request.max_output_tokens
            said = f"max_output_tokens ({limit})" if limit else "max_output_tokens"
            message, hint = f"the answer was cut at {said}", "Raise `max_output_tokens`, or ask for less."
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
            details={"reason": reason, "partial_text": text, **_turn_details(final)},
        )

    def _failure(self, message: str, error: Exception | None, error_type: ErrorType, heard: _Heard) -> AttemptError:
        partial = heard.text()
        hints = {
            ErrorType.USER_ERROR: "Mend the step's options.",
            ErrorType.TIMEOUT: f"Check that {self.choice.base_url} can be reached.",
        }
        return build(
            f"{self.choice.name}: {message}",
            error,
            self.choice,
            error_type=error_type,
            hint=hints.get(error_type, f"A later try may work; if not, check {self.choice.base_url}."),
            details={"model": self.choice.name, **({"partial_text": partial} if partial else {})},
        )


class _Heard:
    """What has come of a stream so far."""

    def __init__(self, on_text: TextCallback) -> None:
        self.on_text = on_text
        self.parts: list[str] = []
        self.refusals: list[str] = []
        self.final: Any = None
        self.ended_as = ""
        self.error: Any = None

    def take(self, event: Any) -> bool:
        """Take one event; True where it was the last. Only its `.type` says what it is."""
        kind = getattr(event, "type", None)
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            delta = getattr(event, "delta", None)
            if isinstance(delta, str) and delta:
                (self.parts if kind == "response.output_text.delta" else self.refusals).append(delta)
                self.on_text(delta)
        elif kind in TERMINAL:
            self.final, self.ended_as = getattr(event, "response", None), str(kind)
            return True
        elif kind == "error":
            # Some servers nest the error, as their other answers do.
            self.error = getattr(event, "error", None) or event
            return True
        return False

    def text(self) -> str:
        """Return the text so far."""
        return "".join(self.parts)

    def refusal(self) -> str:
        """Return the refusal so far."""
        return "".join(self.refusals)


def _load() -> Any:
    openai = import_module("openai")
    import_module("openai.resources.responses")
    return openai


def _final_text(final: Any, kind: str, attribute: str) -> str:
    """Return the text of one kind in a response; careful, because odd items come as objects of a wrong class."""
    found = []
    for item in getattr(final, "output", None) or []:
        if getattr(item, "type", None) == "message":
            for part in getattr(item, "content", None) or []:
                text = getattr(part, attribute, None)
                if getattr(part, "type", None) == kind and isinstance(text, str):
                    found.append(text)
    return "".join(found)


def _count(final: Any, name: str) -> int | None:
    value = getattr(getattr(final, "usage", None), name, None)
    return value if isinstance(value, int) else None


def _turn_details(final: Any) -> dict[str, Any]:
    details = {
        "response_id": getattr(final, "id", None),
        "input_tokens": _count(final, "input_tokens"),
        "output_tokens": _count(final, "output_tokens"),
    }
    return {name: value for name, value in details.items() if value is not None}
