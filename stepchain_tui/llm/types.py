"""What a model is to us: asked once, it streams its text and gives one answer.

`LLMClient` and `LLMResponse` are the shapes of document 000, for users' own clients. Inside the house everything
that answers is a `Model`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NotRequired, Protocol, Self, TypedDict, runtime_checkable

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


Item = Mapping[str, Any]
"""A part of a conversation in the form of the Responses API, plain JSON: a message `{"role", "content"}`, `reasoning`,
`function_call`, `function_call_output`, a call of a hosted tool, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One question to a model: a turn of a conversation.

    Attributes:
        items: The conversation so far, what is new in it last. With `previous_response_id` a model at a stateful
            address is sent only what comes after that answer, see `new_from`.
        model: The model's name; empty where a client of the user has its own.
        system: Instructions that come before it.
        temperature: 0 to 2.
        max_output_tokens: What the answer may take.
        reasoning: An effort such as `low`, or the API's mapping.
        options: More keys for the API, passed as they are.
        tools: What the model may call, in the form of the Responses API: functions with their schemas, and tools that
            the provider carries out.
        expects: The JSON schema that the answer has to fit, None for text.
        previous_response_id: The provider's id of the last answer in `items`, where there is one.
        new_from: Index in `items` of the first item after that answer.
        store: Whether the provider may keep the answer; None for what suits the address.
        attempt: Which try of the step this is, from 1.
        turn: Which turn of the conversation this is, from 1.
    """

    items: tuple[Item, ...]
    model: str = ""
    system: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    reasoning: str | Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    expects: Mapping[str, Any] | None = None
    previous_response_id: str | None = None
    new_from: int = 0
    store: bool | None = None
    attempt: int = 1
    turn: int = 1

    @classmethod
    def of_text(cls, prompt: str, **fields: Any) -> Self:
        """Return the first question of a conversation: one message of the user."""
        return cls(items=(user_message(prompt),), **fields)

    @property
    def prompt(self) -> str:
        """The text of the user's last message."""
        found = (item["content"] for item in reversed(self.items) if item.get("role") == "user")
        return next((text for text in found if isinstance(text, str)), "")

    def parameters(self) -> dict[str, Any]:
        """Return what is set, beside the conversation, the model and the tools, as the Responses API names it."""
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
class CallRequest:
    """A tool call that a model asks for.

    Attributes:
        call_id: Names the call; the result is sent back under it.
        name: The tool.
        arguments: JSON text as the model wrote it; it may be no JSON at all.
    """

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A source that an answer names.

    Attributes:
        title: What it is called.
        url: Its address, or an empty string.
        file: The name of the file, or an empty string.
        start: Where the cited text begins in the answer, in characters; None where the provider does not say.
        end: Where it ends.
    """

    title: str = ""
    url: str = ""
    file: str = ""
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAnswer:
    """What a model answered.

    Attributes:
        text: The whole text.
        model: The model that answered, as it calls itself.
        response_id: The answer's id at the provider.
        input_tokens: What the question took, None where the provider does not say.
        output_tokens: What the answer took, None where the provider does not say.
        cached_tokens: How many input tokens the provider had at hand, None where it does not say.
        reasoning_tokens: How many output tokens went into reasoning, None where the provider does not say.
        refused: The text is the model's refusal.
        calls: The tool calls that the model asks for, in order.
        items: The answer as items that go back verbatim with the next question.
        citations: The sources that the text names.
        finish_reason: `stop`, `tool_calls`, `length`, `content_filter` or `refusal`.
        request_id: The provider's id of the request, or an empty string.
        first_text_after: Seconds until the first piece of text, None where there was none.
    """

    text: str
    model: str
    response_id: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    refused: bool = False
    calls: tuple[CallRequest, ...] = ()
    items: tuple[Item, ...] = ()
    citations: tuple[Citation, ...] = ()
    finish_reason: str = "stop"
    request_id: str = ""
    first_text_after: float | None = None


def user_message(text: str) -> dict[str, Any]:
    """Return a message of the user as an item."""
    return {"role": "user", "content": text}


def call_output(call_id: str, output: str) -> dict[str, Any]:
    """Return the result of a tool call as an item."""
    return {"type": "function_call_output", "call_id": call_id, "output": output}


class Model(Protocol):
    """Something that answers prompts."""

    async def answer(
        self, request: ModelRequest, on_text: TextCallback, on_reasoning: TextCallback | None = None
    ) -> ModelAnswer:
        """Ask once, pass the text on as it arrives, and return the whole answer.

        Cancelling the call ends the request. There are no retries and no deadline here: the engine owns both.

        Args:
            request: What is asked.
            on_text: Gets the answer's text, a refusal too, and nothing else.
            on_reasoning: Gets what the model tells of its reasoning, where it does.

        Raises:
            AttemptError: With the class that decides the retry policy.
        """
        ...
