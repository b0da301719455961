"""The thin line between two panes: dragged by mouse, moved by keys of the screen."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.widget import Widget


class Splitter(Widget):
    """An upright line between panes side by side; stacked panes are dragged by their upper edge (`Pane.edge`)."""

    DEFAULT_CSS = """
    Splitter {
        width: 1; height: 1fr;
        background: transparent;
        pointer: ew-resize;
        &:hover, &.-dragged { background: $accent 60%; }
    }
    """

    class Moved(Message):
        """Signals where the line was dragged to, in cells of the screen."""

        def __init__(self, name: str, x: int, y: int) -> None:
            super().__init__()
            self.name = name
            self.x = x
            self.y = y

    def render(self) -> str:
        """A splitter has nothing but its colour."""
        return ""

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Begin to drag."""
        event.stop()
        self.capture_mouse()
        self.add_class("-dragged")

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """Let go."""
        event.stop()
        self.release_mouse()
        self.remove_class("-dragged")

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Go along."""
        if self.has_class("-dragged"):
            event.stop()
            self.post_message(self.Moved(self.id or "", int(event.screen_x), int(event.screen_y)))
