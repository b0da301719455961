"""A proposed repair of a failed step: why, the difference that it makes, how a try went, and what to do with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Static

from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.queries import text_lines
from stepchain_tui.tui.screens.dialogs import Dialog
from stepchain_tui.tui.text import count, one_line, visible_text
from stepchain_tui.tui.widgets.difference_view import DifferenceView

MOST_LINES = 24
"""Lines of a difference that are in sight at once."""
_LONGEST_OUTPUT = 240


class RepairScreen(Dialog[str]):
    """Shows a proposal; gives `apply`, `try`, `model`, `rules` or None.

    Args:
        proposal: The proposal, as `Proposal.to_json` gives it.
        glyphs: What to draw with.
        tried: How a try of it went, as `outcome_of_try` gives it; None before there was one.
        model: The model that could be asked, or empty.
        remark: Something to say above it, such as why no model was asked.
    """

    AUTO_FOCUS = "DifferenceView"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "Close", show=False, priority=True)]

    def __init__(
        self,
        proposal: Mapping[str, Any],
        glyphs: Glyphs,
        *,
        tried: Mapping[str, Any] | None = None,
        model: str = "",
        remark: str = "",
    ) -> None:
        super().__init__()
        self._proposal, self._glyphs, self._tried = proposal, glyphs, tried
        self._model, self._remark = model, remark
        self._choices = list(self._offered()) or [("back", "n", "leave")]

    @property
    def _can_be_applied(self) -> bool:
        return bool(self._proposal["diff"]) and not self._proposal["problems"]

    def _offered(self) -> Iterator[tuple[str, str, str]]:
        """Yield what can be chosen as (name, key, label); the first is what enter does."""
        by_model = self._proposal["source"] == "model"
        if self._can_be_applied:
            yield "apply", "y", "apply"
            yield "try", "t", "try again" if self._tried is not None else "try: runs it once"
        if by_model:
            yield "rules", "r", "rules"
        if self._model:
            yield "model", "m", "ask again" if by_model else f"ask {one_line(self._model, 20)}"

    def compose(self) -> ComposeResult:
        """The explanation, the difference, and what can be done."""
        found = self._proposal
        with Vertical(classes="box repair") as box:
            box.border_title = Content(f"Repair {found['step']}?").markup
            box.border_subtitle = Content("esc: leave").markup
            if self._remark:
                yield Static(visible_text(self._remark), markup=False, classes="remark")
            yield Static(Content(self._source()), classes="sums")
            yield Static(visible_text(str(found["explanation"])), markup=False, classes="text")
            if found["problems"]:
                lines = ["It cannot be applied:", *found["problems"]]
                yield Static(visible_text("\n".join(lines)), markup=False, classes="field-problem")
            if found["diff"]:
                yield DifferenceView(id="patch")
            if self._tried is not None:
                status = str(self._tried["status"])
                yield Static(visible_text(self._outcome()), markup=False, classes=f"tried -{status}")
            with Horizontal(classes="buttons"):
                for place, (name, key, label) in enumerate(self._choices):
                    yield Button(
                        Content(f"{label} [{key}]"),
                        id=name,
                        variant="primary" if place == 0 else "default",
                        compact=True,
                    )

    def _source(self) -> str:
        if self._proposal["source"] != "model":
            return "Proposed by a rule, without a model"
        model = visible_text(str(self._proposal["model"]))
        return f"Proposed by {model} {self._glyphs.dot} {took(self._proposal['usage'])}"

    def _outcome(self) -> str:
        assert self._tried is not None
        status = str(self._tried["status"])
        words = f"{self._glyphs.label(status)} when tried (run {self._tried['run_id']})"
        if self._tried["error"]:
            return f"{words}: {one_line(str(self._tried['error']), _LONGEST_OUTPUT)}"
        return f"{words}: {one_line(str(self._tried['output']), _LONGEST_OUTPUT)}"

    def on_mount(self) -> None:
        """Show the difference."""
        lines = [line for line in self._proposal["diff"] if not line.startswith(("---", "+++"))]
        for view in self.query(DifferenceView):
            view.show_lines(text_lines("\n".join(lines)), "")
        self._fit(len(lines))

    def on_resize(self) -> None:
        """Take the room that there is."""
        self._fit(len(self._proposal["diff"]) - 2)

    def _fit(self, lines: int) -> None:
        around = sum(widget.outer_size.height for widget in self.query(".remark, .sums, .text, .field-problem, .tried"))
        room = self.size.height * 9 // 10 - around - 7
        for view in self.query(DifferenceView):
            view.styles.height = max(4, min(lines + 1, MOST_LINES, room))

    def on_key(self, event: events.Key) -> None:
        """Choose by key; nothing of it reaches the screen below."""
        chosen = next((name for name, key, _ in self._choices if event.key == key), None)
        if event.key == "enter" and not isinstance(self.focused, Button):
            chosen = self._choices[0][0]
        if chosen is not None:
            event.stop()
            event.prevent_default()
            self._choose(chosen)

    def _choose(self, name: str) -> None:
        self.dismiss(None if name in ("", "back") else name)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self._choose(event.button.id or "")


def took(usage: Mapping[str, Any]) -> str:
    """Return what asking a model took, in a few words.

    Args:
        usage: The fields of a `run.state.Usage`.
    """
    from stepchain_tui.run.spending import UNKNOWN, spent
    from stepchain_tui.run.step_state import Usage

    found = Usage(**usage)
    unknown = found.unknown_turns >= found.turns
    tokens = "tokens unknown" if unknown else f"{count(found.input_tokens + found.output_tokens)} tokens"
    price = spent(found)
    return f"{tokens}, {price}" if price not in ("", UNKNOWN) else tokens
