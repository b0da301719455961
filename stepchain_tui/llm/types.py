"""What a model is to us: asked once, it streams its text and gives one answer.

`LLMClient` and `LLMResponse` are the shapes of document 000, for users' own clients. Inside the house everything
that answers is a `Model`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NotRequired, Protocol, TypedDict, runtime_checkable

TextCallback = Callable[[str], None]
"""Gets each piece of the text as it arrives, on the event loop's thread."""


class LLMResponse(TypedDict):  # annotations are not postponed in this file: the keys are known at run time
    """What a client answers (document 000).

    `usage` may hold `input_tokens` and `output_tokens`; what is unknown is left out.
    """

    id: str
    content: str
    tool_calls: NotRequired[list[dict[str, Any]]]
    usage: NotRequired[dict[str, Any]]


@runtime_checkable
class LLMClient(Protocol):
    """Any object that can ask a model; no base class is needed."""

    def create_response(
        self,
        input: str,  # noqa: A002 - the name is document 000's
        tools: list[dict[str, Any]],
        previous_response_id: str | None = None,
        store: bool = True,
        **kwargs: Any,
    ) -> LLMResponse:
        """Create a response from the model; may block, and is called on a thread of its own."""
        ...


@runtime_checkable
class AsyncLLMClient(Protocol):
    """The awaitable twin of `LLMClient`."""

    def create_response(
        self,
        input: str,  # noqa: A002 - the name is document 000's
        tools: list[dict[str, Any]],
        previous_response_id: str | None = None,
        store: bool = True,
        **kwargs: Any,
    ) -> Awaitable[LLMResponse]:
        """Create a response from the model, on the event loop."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One question to a model.

    Attributes:
        prompt: The text.
        model: The model's name; empty where a client of the user has its own.
        system: Instructions that come before it.
        temperature: 0 to 2.
        max_output_tokens: What the answer may take.
        reasoning: An effort such as `low`, or the API's mapping.
        options: More keys for the API, passed as they are.
        attempt: Which try of the step this is, from 1.
    """

    prompt: str
    model: str = ""
    system: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning: str | Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 1

    def parameters(self) -> dict[str, Any]:
        """Return what is set, beside the prompt and the model, under the names of the Responses API."""
        reasoning = {"effort": self.reasoning} if isinstance(self.reasoning, str) else self.reasoning
        given = {
            "instructions": self.system,
            "temperature": self.temperature,
            "max_output_tokens": self.max_output_tokens,
            "reasoning": None if reasoning is None else dict(reasoning),
            **self.options,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """What a model answered.

    Attributes:
        text: The whole text.
        model: The model that answered, as it calls itself.
        response_id: The answer's id at the provider.
        input_tokens: What the question took, None where the provider does not say.
        output_tokens: What the answer took, None where the provider does not say.
        refused: The text is the model's refusal.
        tool_calls: What the model wants called; only clients of users give any.
    """

    text: str
    model: str
    response_id: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    refused: bool = False
    tool_calls: tuple[Mapping[str, Any], ...] = ()


class Model(Protocol):
    """Something that answers prompts."""

    async def answer(self, request: ModelRequest, on_text: TextCallback) -> ModelAnswer:
        """Ask once, pass the text on as it arrives, and return the whole answer.

        Cancelling the call ends the request. There are no retries and no deadline here: the engine owns both.

        Raises:
            AttemptError: With the class that decides the retry policy.
        """
        ...
