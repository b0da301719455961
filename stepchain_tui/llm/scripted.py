"""A model that says what the plan tells it to: for demos and tests, and labelled as such wherever it shows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

from stepchain_tui.llm.choice import SCRIPTED
from stepchain_tui.llm.types import ModelAnswer, ModelRequest, TextCallback
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType

_WORDS = re.compile(r"\s*\S+\s*|\s+")
_KEYS = {"text", "usage", "delay", "error"}


class ScriptedModel:
    """A `Model` that answers from a list: the first try gets reply 0, the second reply 1, the last one repeats.

    Args:
        replies: Each is text, or a mapping with `text` and, if wanted, `usage` (`input_tokens`, `output_tokens`) and
            `delay` (seconds between words), or a mapping with `error` (`type`, `message`, `retry_after`) and, if
            wanted, `text` that comes before the error.
    """

    def __init__(self, replies: Sequence[Any]) -> None:
        self.replies = list(replies)

    async def answer(
        self, request: ModelRequest, on_text: TextCallback, on_reasoning: TextCallback | None = None
    ) -> ModelAnswer:
        """Stream the reply of this try word by word.

        Raises:
            AttemptError: The reply is an error, or is none that can be meant.
        """
        number = min(max(request.attempt, 1), len(self.replies)) - 1
        reply = _reply(self.replies, number)
        delay = reply.get("delay") or 0.0
        text = str(reply.get("text") or "")
        for word in _WORDS.findall(text):
            on_text(word)
            await asyncio.sleep(delay)
        if "error" in reply:
            raise _failure(reply["error"], number)
        usage = reply.get("usage") or {}
        return ModelAnswer(
            text=text,
            model=SCRIPTED,
            response_id=f"{SCRIPTED}-{number}",
            input_tokens=usage.get("input_tokens"),
            output_tokens=usage.get("output_tokens"),
        )


def _reply(replies: list[Any], number: int) -> Mapping[str, Any]:
    """Return the reply as a mapping with known keys of the right types."""
    if not replies:
        raise _mistake("`model: scripted` needs `replies`", "Write `replies: [text of the answer]` on the step.")
    reply = replies[number]
    if isinstance(reply, Mapping):
        unknown = sorted(str(key) for key in reply if key not in _KEYS)
        if unknown:
            raise _mistake(f"replies[{number}]: unknown key '{unknown[0]}'", f"Known are: {', '.join(sorted(_KEYS))}.")
        if "text" not in reply and "error" not in reply:
            raise _mistake(f"replies[{number}]: needs `text` or `error`", "Write the text of the answer.")
        delay, usage = reply.get("delay"), reply.get("usage")
        if delay is not None and (not isinstance(delay, int | float) or isinstance(delay, bool) or delay < 0):
            raise _mistake(f"replies[{number}].delay: not a number of seconds", "Write for example `delay: 0.05`.")
        if usage is not None and not isinstance(usage, Mapping):
            raise _mistake(f"replies[{number}].usage: not a mapping", "Write `usage: {input_tokens: 10}`.")
        return reply
    if isinstance(reply, str | int | float):
        return {"text": str(reply)}
    raise _mistake(f"replies[{number}]: neither text nor a mapping", "Write the text of the answer.")


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
