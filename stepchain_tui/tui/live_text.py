"""The text that a model is just writing: what its step has streamed into the log since the last turn ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepchain_tui.run.events import ModelTurn
from stepchain_tui.tui.log_lines import PIECE, TEXT, joined_text

if TYPE_CHECKING:
    from stepchain_tui.run.step_state import StepState
    from stepchain_tui.store.base import AbstractStore, LogLine

TALKS = frozenset(("prompt", "agent"))
"""The kinds of steps that hold a conversation with a model."""
_FIRST_LINES = 5_000
"""Log lines that are looked at when a step comes into sight."""
MOST_TEXT = 4_000_000
"""Characters of a text that are shown while it is written: the newest. No answer of a model is as long, so that what
somebody reads who went up stays where it is."""
LiveTexts = tuple[tuple[int | None, str], ...]
"""What is being written, by item of a map: None for the step itself."""


class LiveText:
    """Reads the text in flight of one step, in the reader's thread.

    Args:
        store: Where the log is.
        run_id: The run.
        step_id: The step.
    """

    def __init__(self, store: AbstractStore, run_id: str, step_id: str) -> None:
        self.step_id = step_id
        self._store = store
        self._run_id = run_id
        self._last = 0
        self._begun = False
        self._lines: dict[int, list[LogLine]] = {}

    async def read_on(self) -> None:
        """Read what was written since."""
        while True:
            first, self._begun = not self._begun, True
            limit = _FIRST_LINES if first else 1_000
            lines = await self._store.read_log(
                self._run_id, step_id=self.step_id, after=self._last, limit=limit, newest=first
            )
            for line in lines:
                self._last = max(self._last, line.n)
                if line.stream in (TEXT, PIECE):
                    self._lines.setdefault(line.item, []).append(line)
            if len(lines) < limit or first:
                break

    def texts(self, step: StepState) -> LiveTexts:
        """Return what is being written, and forget what belongs to turns that have ended."""
        found: dict[int | None, str] = {}
        for item, lines in list(self._lines.items()):
            at = None if item < 0 else item
            attempt = _attempt_of(step, at)
            if not attempt:
                del self._lines[item]
                continue
            ended = max((turn.at for turn in step.exchanges.get(at, ()) if isinstance(turn, ModelTurn)), default=None)
            left = [line for line in lines if line.attempt == attempt and (ended is None or line.at > ended)]
            self._lines[item] = left
            text = joined_text(left)
            if text:
                found[at] = text[-MOST_TEXT:]
        return tuple(found.items())


def _attempt_of(step: StepState, item: int | None) -> int:
    """Return the attempt that is under way at a step or an item of it, or 0."""
    if item is None:
        last = step.last
        return last.n if last is not None and last.finished_at is None else 0
    items = step.items or ()
    running = items[item].attempt if item < len(items) else 0
    attempt = step.attempts.get((item, running))
    return running if attempt is not None and attempt.finished_at is None else 0


def joined(texts: LiveTexts) -> str:
    """Return texts as one: those of items have their number before them."""
    return "\n\n".join(text if item is None else f"item {item}\n{text}" for item, text in texts)
