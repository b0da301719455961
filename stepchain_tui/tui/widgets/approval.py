"""The question that a step asks, in sight until somebody answers it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from stepchain_tui.run.events import StepWaiting
from stepchain_tui.tui.calls import brief_arguments
from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.text import countdown, one_line
from stepchain_tui.tui.views import StepView, stands_after

MOST_QUESTION = 600
"""Characters of a question that are shown where there is room."""
LONGEST_BREAK = 6
"""Cells that a line leaves empty where it is broken, on the whole."""
_QUESTION_LINES, _FRAME = 3, 4


class ApprovalBar(Static):
    """Shows what a waiting step asks and which key answers it."""

    DEFAULT_CSS = """
    ApprovalBar {
        height: auto; max-height: 6;
        border: round $warning;
        padding: 0 1;
        border-title-color: $warning;
        border-title-style: bold;
        border-subtitle-color: $warning;
        border-subtitle-style: bold;
    }
    """

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self.display = False
        self._shown: tuple[str, str, str, bool] | None = None

    @property
    def _room(self) -> int:
        """Characters of a question that leave room for the keys, as lines break at words."""
        width = max(20, (self.parent.size.width if isinstance(self.parent, Widget) else 0) - _FRAME)
        return min(MOST_QUESTION, _QUESTION_LINES * (width - LONGEST_BREAK))

    def show(self, step: StepView | None, glyphs: Glyphs, now: datetime, *, selected: bool = True) -> None:
        """Show the question of a step, or nothing; call it again as time goes by, for a deadline counts down.

        Args:
            step: The step.
            glyphs: What to draw with.
            now: The time.
            selected: Whether it is the selected one: what is done to that is told too.
        """
        waiting = step.waiting if step is not None else None
        if step is None or waiting is None:
            self._shown = None
            self.display = False
            return
        asked, question = f"{glyphs.of('waiting')} {step.id}", waiting.question
        match waiting.reason:
            case "breakpoint":
                title, question = f"{glyphs.stop} {step.id} stands {waiting.place} its work", ""
                keys = [("c", "go on"), ("a", f"edit {'output' if stands_after(waiting) else 'input'}")]
                keys += [("S", "skip")] if selected and not stands_after(waiting) else []
                keys.append(("X", "cancel"))
            case "tool_approval":
                title, question = _call_asked_for(asked, waiting)
                keys = [("a", "allow, change or deny")]
            case "budget":
                title, keys = f"{asked} waits at a budget", [("a", "top up, lift it, or stop")]
            case "interrupted":
                title, keys = f"{asked} was cut off", [("a", "run again, take as done, or skip")]
            case _:
                fields = ", ".join(waiting.fields)
                title, keys = f"{asked} asks", [("a", f"answers{f' ({fields})' if fields else ''}")]
        end = ""
        if waiting.deadline is not None:
            outcome = "approved" if waiting.on_timeout == "approve" else "denied"
            end = f"{outcome} in {countdown((waiting.deadline - now).total_seconds())}"
        question = one_line(question, self._room)
        shown = (title, question, end, selected)
        if shown == self._shown:
            return
        self._shown = shown
        self.display = True
        self.border_title = Content(title).markup
        self.border_subtitle = Content(end).markup
        self.update(_content(question, keys))


def _call_asked_for(asked: str, waiting: StepWaiting) -> tuple[str, str]:
    """Return that a step wants to call a tool, and its arguments in one line."""
    item = "" if waiting.item is None else f"[{waiting.item}]"
    kept = waiting.input
    if kept is None or kept.blob is not None:
        arguments = f"{kept.blob.bytes:,} bytes of arguments" if kept is not None and kept.blob is not None else ""
        return f"{asked}{item} wants to call a tool", arguments
    call = kept.value
    return f"{asked}{item} wants to call {one_line(str(call['tool']), 80)}", brief_arguments(call["arguments"])


def _content(question: str, keys: Sequence[tuple[str, str]]) -> Content:
    parts: list[tuple[str, str]] = [(question, ""), ("\n", "")] if question else []
    for place, (key, words) in enumerate(keys):
        parts += [("  " if place else "", ""), (key, "bold $accent"), (f" {words}", "dim")]
    return Content.assemble(*parts)
