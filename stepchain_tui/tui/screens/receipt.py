"""The receipt of a command before it is given: step by step what runs, what is stale, what is taken again, and why."""

from __future__ import annotations

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Static

from stepchain_tui.engine.receipt import Receipt
from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.screens.dialogs import Dialog
from stepchain_tui.tui.widgets.receipt_view import ReceiptView, sums, warnings_of

MOST_WARNINGS = 6
"""Warnings that are shown whole; how many more there are is told."""


class ReceiptScreen(Dialog[str]):
    """Shows a receipt and asks whether to go on; gives `accept`, `rerun` (only asked for an edit) or None.

    Args:
        title: What is asked.
        receipt: What would be done.
        glyphs: What to draw with.
        accept: The label of the button that goes on.
    """

    AUTO_FOCUS = "ReceiptView"

    def __init__(self, title: str, receipt: Receipt, glyphs: Glyphs, *, accept: str) -> None:
        super().__init__()
        self._question, self._receipt, self._glyphs = title, receipt, glyphs
        self._choices = [("accept", "y", accept)]
        if receipt.command == "edit":
            self._choices.append(("rerun", "r", f"{accept} and rerun what changed"))
        self._choices.append(("back", "n", "back"))

    def compose(self) -> ComposeResult:
        """The sums, the warnings, a line for each step, and what can be answered."""
        with Vertical(classes="box receipt") as box:
            box.border_title = Content(self._question).markup
            yield Static(Content(sums(self._receipt, self._glyphs.dot)), classes="sums")
            if found := self._warnings():
                yield Static("\n".join(found), markup=False, classes="warnings")
            view = ReceiptView(self._receipt, ascii_only=self._glyphs.ascii)
            yield Static(Content(view.header), classes="header")
            yield view
            with Horizontal(classes="buttons"):
                for name, key, label in self._choices:
                    yield Button(
                        Content(f"{label} [{key}]"),
                        id=name,
                        variant="primary" if name == "accept" else "default",
                        compact=True,
                    )

    def _warnings(self) -> list[str]:
        found = warnings_of(self._receipt)
        shown = [f"! {warning}" for warning in found[:MOST_WARNINGS]]
        return [*shown, *([f"! and {len(found) - len(shown):,} more"] if len(found) > len(shown) else [])]

    def on_mount(self) -> None:
        """Take the room that there is, and no more than the steps need."""
        self._fit()

    def on_resize(self) -> None:
        """Take the room that there is."""
        self._fit()

    def _fit(self) -> None:
        around = sum(widget.outer_size.height for widget in self.query(".sums, .warnings, .header, .buttons"))
        room = self.size.height * 9 // 10 - max(around, len(self._warnings()) + 5) - 4
        self.query_one(ReceiptView).styles.height = max(3, min(len(self._receipt.steps) + 1, room))

    def on_key(self, event: events.Key) -> None:
        """Enter goes on unless a button has the focus, which it then presses; nothing reaches the screen below."""
        chosen = next((name for name, key, _ in self._choices if event.key == key), None)
        if event.key == "enter" and not isinstance(self.focused, Button):
            chosen = "accept"
        if chosen is not None:
            event.stop()
            event.prevent_default()
            self._choose(chosen)

    def _choose(self, name: str) -> None:
        """Answer."""
        self.dismiss(None if name == "back" else name)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self._choose(event.button.id or "back")
