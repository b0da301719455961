"""Lines of which one is under a cursor, as in a table; only those in sight are ever made."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip

from stepchain_tui.tui.widgets.line_view import LineView

_HERE, _ELSEWHERE = Style(reverse=True), Style(bold=True)


class _RowMessage(Message):
    """A message about one row of a view."""

    def __init__(self, view: RowsView, row: int) -> None:
        super().__init__()
        self.view, self.row = view, row

    @property
    def control(self) -> RowsView:
        """The view it comes from."""
        return self.view


class RowsView(LineView):
    """Shows the lines that `pieces` gives, and lets a person choose one."""

    BINDINGS: ClassVar[list[BindingType]] = [("enter", "choose", "")]

    cursor: reactive[int] = reactive(0)
    """The row under the cursor."""

    class Moved(_RowMessage):
        """Signals that another row is under the cursor."""

    class Chosen(_RowMessage):
        """Signals that a row was chosen, by enter or a double click."""

    def set_lines(self, count: int, width: int) -> None:
        """Tell how many lines there are, and how wide the widest may be; the cursor stays where it can."""
        super().set_lines(count, width)
        self.cursor = self.validate_cursor(self.cursor)

    def validate_cursor(self, row: int) -> int:
        """Keep the cursor among the rows."""
        return max(0, min(row, self.count - 1))

    def watch_cursor(self, row: int) -> None:
        """Bring the row into sight, and tell."""
        height = self.lines_in_sight
        if row < self.scroll_y:
            self.scroll_to(y=row, animate=False, immediate=True, force=True)
        elif row >= self.scroll_y + height:
            self.scroll_to(y=row - height + 1, animate=False, immediate=True, force=True)
        self.refresh()
        if self.count:
            self.post_message(self.Moved(self, row))

    # --- going through it

    def action_scroll_up(self) -> None:
        """Go up a row."""
        self.cursor -= 1

    def action_scroll_down(self) -> None:
        """Go down a row."""
        self.cursor += 1

    def action_page_up(self) -> None:
        """Go up a page."""
        self.cursor -= self.lines_in_sight

    def action_page_down(self) -> None:
        """Go down a page."""
        self.cursor += self.lines_in_sight

    def action_scroll_home(self) -> None:
        """Go to the first row."""
        self.cursor = 0

    def action_scroll_end(self) -> None:
        """Go to the last row."""
        self.cursor = self.count - 1

    def action_choose(self) -> None:
        """Choose the row under the cursor."""
        if self.count:
            self.post_message(self.Chosen(self, self.cursor))

    def on_click(self, event: events.Click) -> None:
        """Go to the row that was clicked; a double click chooses it."""
        super().on_click(event)
        offset = event.get_content_offset(self)
        row = -1 if offset is None or offset.y < self.head else offset.y - self.head + self.scroll_offset.y
        if 0 <= row < self.count:
            self.cursor = row
            if event.chain == 2:
                self.action_choose()

    # --- how it is painted

    def render_line(self, y: int) -> Strip:
        """Paint one line in sight; that under the cursor is told apart without colour."""
        strip = super().render_line(y)
        if not self.count or y < self.head or self.scroll_offset.y + y - self.head != self.cursor:
            return strip
        return strip.apply_style(_HERE if self.has_focus else _ELSEWHERE)

    def on_focus(self) -> None:
        """Show where the cursor is."""
        self.refresh()

    def on_blur(self) -> None:
        """Show that keys go elsewhere."""
        self.refresh()
