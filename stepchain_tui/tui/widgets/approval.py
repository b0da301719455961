"""The question that a step asks, in sight until somebody answers it."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.text import one_line
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
        self._step: StepView | None = None

    def show(self, step: StepView | None, glyphs: Glyphs) -> None:
        """Show the question of a step, or nothing."""
        if step is self._step:
            return
        self._step = step
        self.display = step is not None
        if step is None or step.waiting is None:
            return
        self.border_title = Content(f"{glyphs.of('waiting')} {step.id} asks").markup
        fields = ", ".join(step.waiting.fields)
        self.update(
            Content.assemble(
                one_line(step.waiting.question, 600),
                ("\n", ""),
                ("a", "bold $accent"),
                (f" answers{f' ({fields})' if fields else ''}", "dim"),
            )
        )
