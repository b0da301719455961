"""The question that a step asks, in sight until somebody answers it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from textual.content import Content
from textual.widgets import Static

from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.text import countdown, one_line
from stepchain_tui.tui.views import StepView


class ApprovalBar(Static):
    """Shows what a waiting step asks and which key answers it."""

    DEFAULT_CSS = """
    ApprovalBar {
        height: auto; max-height: 6;
        border: round $warning;
        padding: 0 1;
        border-title-color: $warning;
        border-title-style: bold;
    }
    """

    def __init__(self) -> None:
        super().__init__("", markup=False)
        self.display = False
        self._shown: tuple[str, Content] | None = None

    def show(self, step: StepView | None, glyphs: Glyphs, now: datetime) -> None:
        """Show the question of a step, or nothing; call it again as time goes by, for a deadline counts down."""
        waiting = step.waiting if step is not None else None
        if step is None or waiting is None:
            self._shown = None
            self.display = False
            return
        glyph = glyphs.of("waiting")
        match waiting.reason:
            case "breakpoint":
                title = f"{glyphs.stop} {step.id} stands {waiting.place} its work"
                what = "input" if waiting.place == "before" else "output"
                keys = [("c", "goes on"), ("a", f"changes its {what}"), ("X", "cancels the run")]
                if waiting.place == "before":
                    keys.insert(2, ("S", "skips it"))
            case "interrupted":
                title = f"{glyph} {step.id} was cut off"
                keys = [("a", "answers: run again, take as done, or skip")]
            case _:
                title = f"{glyph} {step.id} asks"
                fields = ", ".join(waiting.fields)
                keys = [("a", f"answers{f' ({fields})' if fields else ''}")]
        end = ""
        if waiting.deadline is not None:
            outcome = "approved" if waiting.on_timeout == "approve" else "denied"
            end = f"{outcome} in {countdown((waiting.deadline - now).total_seconds())}"
        shown = (title, _content(waiting.question, keys, end, glyphs))
        if shown == self._shown:
            return
        self._shown = shown
        self.display = True
        self.border_title = Content(title).markup
        self.update(shown[1])


def _content(question: str, keys: Sequence[tuple[str, str]], end: str, glyphs: Glyphs) -> Content:
    parts: list[tuple[str, str]] = [(one_line(question, 600), ""), ("\n", "")]
    for place, (key, words) in enumerate(keys):
        parts += [("  " if place else "", ""), (key, "bold $accent"), (f" {words}", "dim")]
    if end:
        parts += [(f"  {glyphs.dot}  ", "dim"), (end, "bold $warning")]
    return Content.assemble(*parts)
