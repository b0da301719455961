"""What has come of a streamed answer so far. Events that are not known are passed over."""

from __future__ import annotations

from typing import Any

from stepchain_tui.core.clock import Clock
from stepchain_tui.llm.openai_answer import BETWEEN_MESSAGES, field_of
from stepchain_tui.llm.types import TextCallback
from stepchain_tui.run.values import OUTPUT_LIMIT

TERMINAL = ("response.completed", "response.incomplete", "response.failed")
_ENDED_AS = {"incomplete": "response.incomplete", "failed": "response.failed"}
_SAID = ("response.output_text.delta", "response.refusal.delta")
_REASONED = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")
_WRITTEN = ("response.function_call_arguments.delta", "response.code_interpreter_call_code.delta")


class TooLongError(Exception):
    """Signals an answer that is larger than a result may be."""


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
        self._message: Any = None
        self._thought: Any = None

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
        """
        kind = field_of(event, "type")
        if kind in _SAID:
            self._hear(event, self.parts if kind == _SAID[0] else self.refusals)
        elif kind in _REASONED:
            self._hear_reasoning(event)
        elif kind in _WRITTEN:
            self._grow(_delta(event))
        elif kind == "response.output_item.done":
            self.items.append(field_of(event, "item"))
        elif kind in TERMINAL:
            self.final = field_of(event, "response")
            self.ended_as = _ENDED_AS.get(str(field_of(self.final, "status")), str(kind))
            return True
        elif kind == "error":
            # Some servers nest the error, as their other answers do.
            self.error = field_of(event, "error") or event
            return True
        return False

    def show(self, text: str) -> None:
        """Pass on text that came in one piece at the end."""
        if self.first_text_after is None:
            self.first_text_after = self._clock.monotonic() - self._started
        self._on_text(text)

    def _hear(self, event: Any, parts: list[str]) -> None:
        if not (piece := _delta(event)):
            return
        message = field_of(event, "output_index")
        if parts and message != self._message:
            piece = BETWEEN_MESSAGES + piece
        self._message = message
        self._grow(piece)
        parts.append(piece)
        self.show(piece)

    def _hear_reasoning(self, event: Any) -> None:
        if not (piece := _delta(event)):
            return
        self._grow(piece)
        thought = (field_of(event, "output_index"), field_of(event, "summary_index"))
        if self._thought is not None and thought != self._thought:
            piece = BETWEEN_MESSAGES + piece
        self._thought = thought
        if self._on_reasoning is not None:
            self._on_reasoning(piece)

    def _grow(self, piece: str) -> None:
        self._size += len(piece)
        if self._size > OUTPUT_LIMIT:
            raise TooLongError


def _delta(event: Any) -> str:
    piece = field_of(event, "delta")
    return piece if isinstance(piece, str) else ""
