"""A conversation's items, in the form of the Responses API: what a model wants done, and what it is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stepchain_tui.core.secrets import Redactor
from stepchain_tui.core.values import decode_json, encode_json, to_json_value
from stepchain_tui.llm.openai_answer import calls_of, citations_of, text_of
from stepchain_tui.llm.types import Citation, Item, ModelAnswer, call_output
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.status import ErrorType

LARGEST_RESULT = 100_000
"""Characters of a tool's result that a model is told."""
LONGEST_ID = 200
"""Characters of a call's id that events take from a model."""
LONGEST_NAME = 64
"""Characters of a tool's name, as providers have it."""
APPROVAL_REQUEST = "mcp_approval_request"
"""The item by which a provider asks whether it may call a tool of a server that it reaches itself."""
_FOR_THE_MODEL = frozenset(("ToolArgumentError", "UnknownToolError"))
"""Errors whose hint is for whoever makes the call; others tell the plan's author what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A call that a model asks for.

    Attributes:
        call_id: Tells the calls of the conversation apart, in events too: the model's id, with its turn behind it where
            the model has used that before.
        sent_id: The model's id, which the result goes back under.
        name: The tool, as the model calls it.
        arguments: JSON text as the model wrote it.
        server: Of a call that the provider itself would make: the server's label.
    """

    call_id: str
    sent_id: str
    name: str
    arguments: str
    server: str = ""

    @property
    def by_provider(self) -> bool:
        """Whether the provider itself makes the call, and asks whether it may."""
        return bool(self.server)

    def output(self, text: str) -> Item:
        """Return the item that tells the model what came of it."""
        return call_output(self.sent_id, text)


def wanted_in(items: Sequence[Item], turn: int, seen: set[str]) -> tuple[Wanted, ...]:
    """Return the calls that an answer asks for, in order.

    Args:
        items: The answer.
        turn: Its number.
        seen: The ids of all calls before; those of this answer are added.
    """
    found = []
    for place, item in enumerate(items):
        kind = item.get("type")
        if kind == "function_call":
            sent_id, server = str(item.get("call_id") or item.get("id") or ""), ""
        elif kind == APPROVAL_REQUEST:
            sent_id, server = str(item.get("id") or ""), bounded_name(item.get("server_label") or "?")
        else:
            continue
        call_id = sent_id if 0 < len(sent_id) <= LONGEST_ID else f"call_{turn}_{place}"
        if call_id in seen:
            call_id = f"{call_id}~{turn}.{place}"
        seen.add(call_id)
        arguments = item.get("arguments")
        found.append(
            Wanted(
                call_id=call_id,
                sent_id=sent_id,
                name=bounded_name(item.get("name") or ""),
                arguments=arguments if isinstance(arguments, str) else encode_json(arguments or {}).decode(),
                server=server,
            )
        )
    return tuple(found)


def bounded_name(name: Any, longest: int = LONGEST_NAME) -> str:
    """Return a name that a model or a server made up; of one that is too long only its length.

    It is not cut: the beginning of a secret is not recognised as one.
    """
    text = str(name)
    return text if len(text) <= longest else f"name_of_{len(text)}_characters"


def items_of(answer: ModelAnswer) -> tuple[Item, ...]:
    """Return an answer as items; of a client of the user that gives none they are made of its text and its calls."""
    if answer.items:
        return answer.items
    made: list[Item] = []
    if answer.text or not answer.calls:
        kind, key = ("refusal", "refusal") if answer.refused else ("output_text", "text")
        part: dict[str, Any] = {"type": kind, key: answer.text}
        made.append({"type": "message", "role": "assistant", "content": [part]})
    for call in answer.calls:
        written = {"call_id": call.call_id, "name": call.name, "arguments": call.arguments}
        made.append({"type": "function_call", **written})
    return tuple(made)


def answer_of(items: Sequence[Item], *, model: str, response_id: str) -> ModelAnswer:
    """Return the answer that these items are: one of an earlier attempt."""
    text = text_of(items)
    refusal = "" if text else text_of(items, "refusal", "refusal")
    return ModelAnswer(
        text=text or refusal,
        model=model,
        response_id=response_id,
        refused=bool(refusal),
        calls=calls_of(items),
        items=tuple(items),
        citations=citations_of(items),
    )


def source_lines(citations: Sequence[Citation]) -> list[str]:
    """Return the sources of an answer as lines of the log, `[1] title url`, each once, as a transcript numbers them."""
    found = dict.fromkeys((one.title, one.url, one.file) for one in citations)
    named = (" ".join(f"{title or file} {url}".split()) for title, url, file in found)
    return [f"[{number}] {line}\n" for number, line in enumerate(filter(None, named), 1)]


def arguments_in(written: str, tool: str) -> dict[str, Any]:
    """Return the arguments that a model wrote.

    Raises:
        AttemptError: They are no JSON object, as a `user_error`.
    """
    try:
        found = decode_json(written.encode("utf-8", "replace")) if written.strip() else {}
    except (ValueError, RecursionError) as error:
        raise _wrong_arguments(tool, f"the arguments are no JSON: {error}") from error
    if not isinstance(found, dict):
        raise _wrong_arguments(tool, f"the arguments are {type(found).__name__}, not a JSON object")
    return found


def _wrong_arguments(tool: str, what: str) -> AttemptError:
    return AttemptError(
        f"tool '{tool}': {what}",
        error_type=ErrorType.USER_ERROR,
        hint='Write a JSON object with the arguments by name, such as {"name": "value"}.',
        exception="ToolArgumentError",
    )


def text_of_result(value: Any, redactor: Redactor) -> str:
    """Return what a model is told that a tool gave: text as it is, all else as JSON, without secrets."""
    plain = redactor.value(to_json_value(value))
    text = plain if isinstance(plain, str) else encode_json(plain).decode()
    if len(text) <= LARGEST_RESULT:
        return text
    note = f"[cut off: the result has {len(text):,} characters, these are the first {LARGEST_RESULT:,}]"
    return f"{text[:LARGEST_RESULT]}\n{note}"


def text_of_error(error: Failure, step_id: str, redactor: Redactor) -> str:
    """Return what a model is told of a call that failed: what is wrong, and never where in our code."""
    told = {"error": error.beside(step_id)}
    if error.hint and error.exception in _FOR_THE_MODEL:
        told["hint"] = error.hint
    return text_of_result(told, redactor)
