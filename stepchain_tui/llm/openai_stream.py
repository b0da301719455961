"""What has come of a streamed answer so far. Events that are not known are passed over."""

from __future__ import annotations

from typing import Any

from stepchain_tui.core.clock import Clock
from stepchain_tui.core.errors import UsageError
from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.llm.openai_answer import BETWEEN_MESSAGES, field_of
from stepchain_tui.llm.types import TextCallback
from stepchain_tui.run.values import OUTPUT_LIMIT

EVENT_LIMIT = 2 * OUTPUT_LIMIT
"""Bytes that one event may have, the last one with the whole answer in it too: JSON may write text in more of them."""
_SMALLEST_ITEM = 100
TERMINAL = ("response.completed", "response.incomplete", "response.failed")
_ENDED_AS = {"incomplete": "response.incomplete", "failed": "response.failed"}
_SAID = ("response.output_text.delta", "response.refusal.delta")
_REASONED = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")
_WRITTEN = ("response.function_call_arguments.delta", "response.code_interpreter_call_code.delta")


class TooLongError(Exception):
    """Signals an answer that is larger than a result may be."""


class BrokenError(Exception):
    """Signals an answer that cannot be read."""


class Pieces:
    """Text that comes in pieces: characters that were cut in two become whole, halves without another become `?`."""

    def __init__(self) -> None:
        self._half = ""

    def take(self, piece: str) -> str:
        """Return the text that is whole with this piece."""
        if piece.isascii() and not self._half:
            return piece
        piece = self._half + piece
        self._half = piece[-1] if "\ud800" <= piece[-1] <= "\udbff" else ""
        pairs = piece.removesuffix(self._half).encode("utf-16-le", "surrogatepass")
        return str(to_json_value(pairs.decode("utf-16-le", "surrogatepass")))

    def rest(self) -> str:
        """Return what is left where no more will come."""
        half, self._half = self._half, ""
        return "?" if half else ""


class Heard:
    """What has come of a stream.

    Args:
        on_text: Gets the answer's text.
        on_reasoning: Gets what the model tells of its reasoning.
        clock: Tells when the first text came.

    Attributes:
        parts: The pieces of text.
        refusals: The pieces of a refusal.
        items: Items that are complete, in order of their completion.
        final: The response of the last event.
        ended_as: The type of the last event.
        error: The error that the stream brought.
        first_text_after: Seconds until the first piece of text.
    """

    def __init__(self, on_text: TextCallback, on_reasoning: TextCallback | None, clock: Clock) -> None:
        self.parts: list[str] = []
        self.refusals: list[str] = []
        self.items: list[Any] = []
        self.final: Any = None
        self.ended_as = ""
        self.error: Any = None
        self.first_text_after: float | None = None
        self._on_text = on_text
        self._on_reasoning = on_reasoning
        self._clock = clock
        self._started = clock.monotonic()
        self._size = 0
        self._items_size = 0
        self._message: Any = None
        self._thought: Any = None
        self._said = Pieces()
        self._reasoned = Pieces()

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.parts)

    @property
    def refusal(self) -> str:
        """The refusal so far."""
        return "".join(self.refusals)

    def take(self, event: Any) -> bool:
        """Take one event; True where it was the last.

        Raises:
            TooLongError: The answer is larger than a result may be.
            BrokenError: An item is nested too deep.
        """
        kind = field_of(event, "type")
        if kind in _SAID:
            self._hear(event, self.parts if kind == _SAID[0] else self.refusals)
        elif kind in _REASONED:
            self._hear_reasoning(event)
        elif kind in _WRITTEN:
            self._grow(_delta(event))
        elif kind == "response.output_item.done":
            self._keep(field_of(event, "item"))
        elif kind in TERMINAL:
            self.final = field_of(event, "response")
            self.ended_as = _ENDED_AS.get(str(field_of(self.final, "status")), str(kind))
            return True
        elif kind == "error":
            # Some servers nest the error, as their other answers do.
            self.error = field_of(event, "error") or event
            return True
        return False

    def end(self) -> None:
        """Take note that no more will come."""
        if rest := self._said.rest():
            self._say(self.refusals if self.refusals else self.parts, rest)
        if (rest := self._reasoned.rest()) and self._on_reasoning is not None:
            self._on_reasoning(rest)

    def show(self, text: str) -> None:
        """Pass on text that came in one piece at the end."""
        if self.first_text_after is None:
            self.first_text_after = self._clock.monotonic() - self._started
        self._on_text(text)

    def _keep(self, item: Any) -> None:
        try:
            item = to_json_value(item)
        except UsageError as error:
            raise BrokenError(error.message) from None
        self._items_size += max(len(encode_json(item)), _SMALLEST_ITEM)
        if self._items_size > EVENT_LIMIT:
            raise TooLongError
        self.items.append(item)

    def _hear(self, event: Any, parts: list[str]) -> None:
        if not (piece := _delta(event)):
            return
        self._grow(piece)
        message = field_of(event, "output_index")
        if parts and message != self._message:
            piece = self._said.rest() + BETWEEN_MESSAGES + self._said.take(piece)
        else:
            piece = self._said.take(piece)
        self._message = message
        self._say(parts, piece)

    def _say(self, parts: list[str], piece: str) -> None:
        if piece:
            parts.append(piece)
            self.show(piece)

    def _hear_reasoning(self, event: Any) -> None:
        if not (piece := _delta(event)):
            return
        self._grow(piece)
        thought = (field_of(event, "output_index"), field_of(event, "summary_index"))
        if self._thought is not None and thought != self._thought:
            piece = self._reasoned.rest() + BETWEEN_MESSAGES + self._reasoned.take(piece)
        else:
            piece = self._reasoned.take(piece)
        self._thought = thought
        if piece and self._on_reasoning is not None:
            self._on_reasoning(piece)

    def _grow(self, piece: str) -> None:
        self._size += len(piece)
        if self._size > OUTPUT_LIMIT:
            raise TooLongError


def _delta(event: Any) -> str:
    piece = field_of(event, "delta")
    return piece if isinstance(piece, str) else ""
