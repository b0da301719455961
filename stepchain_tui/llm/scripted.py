"""A model that says what the plan tells it to: for demos and tests, and labelled as such wherever it shows."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.core.errors import did_you_mean
from stepchain_tui.llm.choice import SCRIPTED
from stepchain_tui.llm.openai_answer import calls_of, citations_of, items_of, text_of, usage_of
from stepchain_tui.llm.types import ModelAnswer, ModelRequest, TextCallback
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

_WORDS = re.compile(r"\s*\S+\s*|\s+")
_KEYS = ("text", "calls", "refusal", "error", "citations", "reasoning", "usage", "delay")
_SAYS = ("text", "calls", "refusal", "error")
_CALL_KEYS = ("name", "arguments", "call_id")
_CITATION_KEYS = ("title", "url", "file")
_COUNTS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")


class ScriptedModel:
    """A `Model` that answers from a list.

    The first turn of a conversation gets reply 0, the second reply 1, and each try of the step that failed has used up
    one more: after an error the next try gets the next reply. The last reply repeats. A question before the first turn,
    such as for a summary of earlier results, gets reply 0 and uses up none.

    Args:
        replies: Each is a text, or a mapping with at least one of

            - `text`,
            - `calls`: tool calls, a list of `{name, arguments, call_id}`; `arguments` is a mapping, or text that is
              sent as it is; `call_id` is made where it is left out,
            - `refusal`: a text,
            - `error`: `{type, message, retry_after}` or a type alone; `text` comes before it,

            and, if wanted, `citations` (a list of `{title, url, file}`), `reasoning` (a text), `usage` (`input_tokens
            output_tokens cached_tokens reasoning_tokens`) and `delay` (seconds between words).
        clock: Tells the time until the first word.
    """

    def __init__(self, replies: Sequence[Any], clock: Clock | None = None) -> None:
        self.replies = list(replies)
        self._clock = clock or SystemClock()

    async def answer(
        self, request: ModelRequest, on_text: TextCallback, on_reasoning: TextCallback | None = None
    ) -> ModelAnswer:
        """Stream the reply of this turn word by word.

        Raises:
            AttemptError: The reply is an error, or is none that can be meant.
        """
        number = max(0, min(request.turn - 1 + request.attempt - 1, len(self.replies) - 1))
        reply = _reply(self.replies, number)
        started, first = self._clock.monotonic(), None
        if on_reasoning is not None and reply.get("reasoning"):
            on_reasoning(reply["reasoning"])
        refusal = str(reply.get("refusal") or "")
        for word in _WORDS.findall(str(reply.get("text") or "") or refusal):
            first = self._clock.monotonic() - started if first is None else first
            on_text(word)
            await asyncio.sleep(reply.get("delay") or 0.0)
        if "error" in reply:
            raise _failure(reply["error"], number)
        items = items_of(list(_items(reply, request.turn)))
        calls = calls_of(items)
        return ModelAnswer(
            text=text_of(items) or refusal,
            model=SCRIPTED,
            response_id=f"{SCRIPTED}-{number}",
            refused=bool(refusal),
            calls=calls,
            items=tuple(items),
            citations=citations_of(items),
            finish_reason="tool_calls" if calls else "refusal" if refusal else "stop",
            first_text_after=first,
            **usage_of(reply),
        )


def _items(reply: Mapping[str, Any], turn: int) -> Iterator[dict[str, Any]]:
    """Yield the reply as a model's server would have sent it."""
    if reply.get("reasoning"):
        yield {"type": "reasoning", "summary": [{"type": "summary_text", "text": reply["reasoning"]}]}
    message = {"type": "message", "role": "assistant", "status": "completed"}
    if reply.get("refusal"):
        yield {**message, "content": [{"type": "refusal", "refusal": reply["refusal"]}]}
    elif text := str(reply.get("text") or ""):
        notes = [_annotation(one) for one in reply.get("citations") or ()]
        yield {**message, "content": [{"type": "output_text", "text": text, "annotations": notes}]}
    for place, call in enumerate(reply.get("calls") or ()):
        arguments = call.get("arguments", {})
        yield {
            "type": "function_call",
            "call_id": call.get("call_id") or f"call_{turn}_{place + 1}",
            "name": call["name"],
            "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
        }


def _annotation(citation: Mapping[str, Any]) -> dict[str, Any]:
    if citation.get("file"):
        return {"type": "file_citation", "filename": citation["file"], "title": citation.get("title", "")}
    return {"type": "url_citation", "url": citation.get("url", ""), "title": citation.get("title", "")}


# --- what a reply may be


def _reply(replies: list[Any], number: int) -> Mapping[str, Any]:
    """Return the reply as a mapping with known keys of the right types."""
    if not replies:
        raise _mistake("`model: scripted` needs `replies`", "Write `replies: [text of the answer]` on the step.")
    reply, where = replies[number], f"replies[{number}]"
    if isinstance(reply, str | int | float):
        return {"text": str(reply)}
    if not isinstance(reply, Mapping):
        raise _mistake(f"{where}: neither text nor a mapping", "Write the text of the answer.")
    _check_keys(reply, _KEYS, where)
    if not any(key in reply for key in _SAYS):
        raise _mistake(f"{where}: needs `text`, `calls`, `refusal` or `error`", "Write the text of the answer.")
    delay, usage = reply.get("delay"), reply.get("usage")
    if delay is not None and (not isinstance(delay, int | float) or isinstance(delay, bool) or not 0 <= delay <= 3600):
        raise _mistake(f"{where}.delay: not a number of seconds", "Write for example `delay: 0.05`.")
    if usage is not None:
        _check_usage(usage, f"{where}.usage")
    for key in ("refusal", "reasoning"):
        if not isinstance(reply.get(key) or "", str):
            raise _mistake(f"{where}.{key}: not a text", f"Write `{key}: some words`.")
    for place, call in enumerate(_list_of(reply, "calls", where, "name: add, arguments: {a: 1}")):
        _check_call(call, f"{where}.calls[{place}]")
    for place, citation in enumerate(_list_of(reply, "citations", where, "title: A page, url: https://...")):
        _check_keys(citation, _CITATION_KEYS, f"{where}.citations[{place}]")
    return reply


def _list_of(reply: Mapping[str, Any], key: str, where: str, example: str) -> list[Mapping[str, Any]]:
    found = reply.get(key)
    if found is None:
        return []
    if not isinstance(found, list | tuple) or not all(isinstance(one, Mapping) for one in found):
        raise _mistake(f"{where}.{key}: not a list of mappings", f"Write `{key}: [{{{example}}}]`.")
    return list(found)


def _check_call(call: Mapping[str, Any], where: str) -> None:
    _check_keys(call, _CALL_KEYS, where)
    if not isinstance(call.get("name"), str) or not call["name"]:
        raise _mistake(f"{where}: needs the `name` of a tool", "Write `{name: add, arguments: {a: 1}}`.")
    if not isinstance(call.get("arguments", {}), str | Mapping):
        raise _mistake(f"{where}.arguments: neither a mapping nor text", "Write `arguments: {a: 1}`.")
    if not isinstance(call.get("call_id", ""), str):
        raise _mistake(f"{where}.call_id: not a text", "Leave it out, or write `call_id: call_1`.")


def _check_usage(usage: Any, where: str) -> None:
    if not isinstance(usage, Mapping):
        raise _mistake(f"{where}: not a mapping", "Write `usage: {input_tokens: 10}`.")
    _check_keys(usage, _COUNTS, where)
    for name, count in usage.items():
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
            raise _mistake(f"{where}.{name}: not a number of tokens", f"Write for example `{name}: 10`.")


def _check_keys(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in given:
        if key not in known:
            listed = f"Known are: {', '.join(known)}."
            raise _mistake(f"{where}: unknown key '{key}'", did_you_mean(str(key), known) or listed)


def _failure(error: Any, number: int) -> AttemptError:
    given = error if isinstance(error, Mapping) else {"type": error}
    word = str(given.get("type") or ErrorType.SERVER_ERROR)
    if word not in set(ErrorType):
        known = ", ".join(ErrorType)
        return _mistake(f"replies[{number}].error.type: unknown type '{word}'", f"Known are: {known}.")
    after = given.get("retry_after")
    return AttemptError(
        str(given.get("message") or f"a scripted {word}"),
        error_type=ErrorType(word),
        hint="The plan's `replies` ask for this error.",
        retry_after=float(after) if isinstance(after, int | float) else None,
        exception="ScriptedError",
        details={"model": SCRIPTED},
    )


def _mistake(message: str, hint: str) -> AttemptError:
    return AttemptError(message, error_type=ErrorType.USER_ERROR, hint=hint, exception="ScriptedError")
