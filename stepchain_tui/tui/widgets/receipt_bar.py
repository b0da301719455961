"""What was asked of a run and what came of it, in one line beside the work; it takes no focus."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static


class ReceiptBar(Static):
    """Shows the receipt of what was just begun, and in the end what was really run."""

    DEFAULT_CSS = """
    ReceiptBar {
        height: auto; max-height: 5;
        border: round $accent 60%;
        padding: 0 1;
        border-title-color: $accent;
        border-subtitle-color: $foreground 60%;
        &.-ascii { border: ascii $accent 60%; }
    }
    """

    def __init__(self, *, ascii_only: bool) -> None:
        super().__init__("", markup=False, classes="-ascii" if ascii_only else "")
        self.display = False

    def show(self, title: str, text: str) -> None:
        """Show a receipt in a line; nothing in it is read as markup."""
        self.border_title = Content(title).markup
        self.border_subtitle = Content("esc: away").markup
        self.update(Content(text))
        self.display = True

    def put_away(self) -> bool:
        """Hide it; say whether it was in sight."""
        shown, self.display = bool(self.display), False
        return shown
