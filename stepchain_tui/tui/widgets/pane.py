"""A framed part of a screen, its number and title in the frame."""

from __future__ import annotations

from textual import events
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget

from stepchain_tui.tui.widgets.splitter import Splitter


class Pane(Vertical):
    """A frame around widgets; the number in its title is the key that leads there.

    Args:
        number: Its key.
        title: What is in it.
        children: Its widgets.
    """

    DEFAULT_CSS = """
    Pane {
        border: round $foreground 30%;
        border-title-color: $foreground 85%;
        border-title-style: none;
        border-subtitle-color: $foreground 60%;
        padding: 0;
        &.-dragged { border: round $accent; }
        &:focus-within { border: round $accent; border-title-color: $foreground; border-title-style: bold; }
    }
    """

    edge = ""
    """The name under which the upper edge can be dragged, empty where it cannot."""

    def __init__(self, number: int, title: str, *children: Widget, id: str | None = None) -> None:  # noqa: A002
        super().__init__(*children, id=id)
        self._number = number
        self._title = ""
        self.set_title(title)

    def set_title(self, title: str) -> None:
        """Show another title; nothing in it is read as markup."""
        if title != self._title:
            self._title = title
            self.border_title = Content(f"{self._number} {title}").markup

    def set_note(self, note: str) -> None:
        """Show a note in the lower edge."""
        self.border_subtitle = Content(note).markup

    @property
    def title(self) -> str:
        """The title without its number."""
        return self._title

    def first_focus(self) -> Widget | None:
        """Return the widget that takes the focus when the pane's number is pressed."""
        return next((widget for widget in self.query("*") if widget.focusable and widget.display), None)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Begin to drag the upper edge."""
        if self.edge and int(event.screen_y) == self.region.y:
            event.stop()
            self.capture_mouse()
            self.add_class("-dragged")

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Let the edge go."""
        if self.has_class("-dragged"):
            event.stop()
            self.release_mouse()
            self.remove_class("-dragged")

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Let the edge go along."""
        if self.has_class("-dragged"):
            event.stop()
            self.post_message(Splitter.Moved(self.edge, int(event.screen_x), int(event.screen_y)))
