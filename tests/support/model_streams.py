"""What a server of the Responses API sends: output items, and the streams of events that bring them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final


class Cut:
    """Hangs up in the middle of the stream, as a lost connection does."""


CUT: Final = Cut()
Chunk = Mapping[str, Any] | str | bytes | float | threading.Event | Cut
"""A part of an answer: an event, raw text or bytes, a pause in seconds, something to wait for, the line going dead."""
_numbers = count(1)
_WORDS = re.compile(r"\s*\S+\s*|\s+")


@dataclass(frozen=True)
class Answer:
    """What is answered to one request.

    Attributes:
        chunks: The body's parts, in order.
        status: The HTTP status.
        headers: Further headers.
        kind: The content type.
    """

    chunks: tuple[Chunk, ...]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"x-request-id": "req_test"})
    kind: str = "text/event-stream"


Answering = Answer | Callable[[dict[str, Any]], Answer]
"""An answer, or a function from the request's body to one."""


# --- answers


def answer(*chunks: Chunk, **headers: str) -> Answer:
    """Return an answer of exactly these parts."""
    return Answer(chunks, headers={"x-request-id": "req_test", **headers})


def text(said: str, **fields: Any) -> Answer:
    """Return a text as an answer, streamed word by word."""
    return Answer(tuple(events_of(message_item(said), **fields)))


def calls(*wanted: tuple[str, Any] | tuple[str, Any, str], said: str = "", **fields: Any) -> Answer:
    """Return the calls of one turn as an answer, each `(name, arguments)` or `(name, arguments, call_id)`."""
    items = [message_item(said)] if said else []
    return Answer(tuple(events_of(*items, *(call_item(*one) for one in wanted), **fields)))


def incomplete(*items: Mapping[str, Any], reason: str = "max_output_tokens", **fields: Any) -> Answer:
    """Return an answer that was cut."""
    return Answer(tuple(events_of(*items, status="incomplete", incomplete_details={"reason": reason}, **fields)))


def failed(code: str, message: str, **fields: Any) -> Answer:
    """Return a stream that ends with `response.failed`."""
    return Answer(tuple(events_of(status="failed", error={"code": code, "message": message}, **fields)))


def status(number: int, error: Any = None, **headers: str) -> Answer:
    """Return an HTTP error: its `error`, as text or as the API's mapping. `retry_after` is sent as Retry-After."""
    said = {"message": error} if isinstance(error, str) else error
    return json_answer({"error": said}, number, **headers)


def json_answer(body: Any, number: int = 200, **headers: str) -> Answer:
    """Return an answer that is JSON and no stream."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer((json.dumps(body),), number, {"x-request-id": "req_test", **named}, "application/json")


# --- items


def message_item(said: str, annotations: Sequence[Mapping[str, Any]] = (), *, refusal: str = "") -> dict[str, Any]:
    """Return a message of the model, with what it cites, or a refusal."""
    part = {"type": "output_text", "text": said, "annotations": [dict(one) for one in annotations], "logprobs": []}
    content = [{"type": "refusal", "refusal": refusal}] if refusal else [part]
    return {"type": "message", "id": _id("msg"), "role": "assistant", "status": "completed", "content": content}


def call_item(name: str, arguments: Any, call_id: str = "") -> dict[str, Any]:
    """Return the call of a function; arguments that are text are sent as they are."""
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {
        "type": "function_call", "id": _id("fc"), "call_id": call_id or _id("call"), "name": name,
        "arguments": written, "status": "completed",
    }  # fmt: skip


def reasoning_item(summary: str = "", encrypted: str = "gAAAA") -> dict[str, Any]:
    """Return the model's reasoning."""
    summaries = [{"type": "summary_text", "text": summary}] if summary else []
    return {"type": "reasoning", "id": _id("rs"), "summary": summaries, "encrypted_content": encrypted}


def hosted_item(kind: str, **fields: Any) -> dict[str, Any]:
    """Return the call of a hosted tool, such as `web_search_call`."""
    return {"type": kind, "id": _id(kind), "status": "completed", **fields}


# --- events


def delta(said: str) -> dict[str, Any]:
    """Return a piece of the answer's text."""
    place = {"item_id": "msg_0", "output_index": 0, "content_index": 0}
    return {"type": "response.output_text.delta", "delta": said, "logprobs": [], **place}


def error_event(code: str | None, message: str) -> dict[str, Any]:
    """Return the event by which a server reports an error in a stream."""
    return {"type": "error", "code": code, "message": message, "param": None}


def events_of(
    *items: Mapping[str, Any],
    status: str = "completed",
    usage: Mapping[str, Any] | None = None,
    response_id: str = "",
    **fields: Any,
) -> list[dict[str, Any]]:
    """Return the events that bring items.

    Args:
        items: The answer's output items.
        status: `completed`, `incomplete` or `failed`.
        usage: What it cost; 11 and 7 tokens without details where nothing is said.
        response_id: The answer's id; made where nothing is said.
        **fields: Further keys of the response.
    """
    response = {
        "id": response_id or _id("resp"), "object": "response", "created_at": 1, "model": "gpt-5-2025-08-07",
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    events = [{"type": "response.created", "response": {**response, "status": "in_progress", "output": []}}]
    for place, item in enumerate(items):
        started = {**item, "status": "in_progress", **({"content": []} if "content" in item else {})}
        events.append({"type": "response.output_item.added", "output_index": place, "item": started})
        events.extend(_parts(dict(item), place))
        events.append({"type": "response.output_item.done", "output_index": place, "item": dict(item)})
    counted = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18} if usage is None else dict(usage)
    last = {**response, "status": status, "output": [dict(item) for item in items], "usage": counted, **fields}
    events.append({"type": f"response.{status}", "response": last})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _parts(item: dict[str, Any], place: int) -> list[dict[str, Any]]:
    where = {"item_id": item["id"], "output_index": place}
    found: list[dict[str, Any]] = []
    if item["type"] == "function_call":
        found.append({"type": "response.function_call_arguments.delta", "delta": item["arguments"], **where})
        found.append({"type": "response.function_call_arguments.done", "arguments": item["arguments"], **where})
    for number, summary in enumerate(item.get("summary", ())):
        inside = {**where, "summary_index": number}
        found.append({"type": "response.reasoning_summary_text.delta", "delta": summary["text"], **inside})
        found.append({"type": "response.reasoning_summary_text.done", "text": summary["text"], **inside})
    for number, part in enumerate(item.get("content") or ()):
        inside = {**where, "content_index": number}
        is_text = part["type"] == "output_text"
        name = "output_text" if is_text else "refusal"
        for word in _WORDS.findall(part["text" if is_text else "refusal"]):
            found.append({"type": f"response.{name}.delta", "delta": word, "logprobs": [], **inside})
        for index, note in enumerate(part.get("annotations", ())):
            kind = "response.output_text.annotation.added"
            found.append({"type": kind, "annotation_index": index, "annotation": note, **inside})
    return found


def frame(event: Mapping[str, Any]) -> bytes:
    """Return an event as it is sent."""
    return f"event: {event.get('type', 'message')}\ndata: {json.dumps(event)}\n\n".encode()


def _id(prefix: str) -> str:
    return f"{prefix}_{next(_numbers)}"
