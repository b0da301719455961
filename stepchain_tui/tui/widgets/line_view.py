"""Text by lines, of which only those in sight are ever made: the base of logs, outputs and tracebacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollBarRender
from textual.strip import Strip

from stepchain_tui.tui.actions import Scope, bindings

if TYPE_CHECKING:
    from stepchain_tui.tui.app import StepChainApp

EMPTY_SECONDS = 0.1
"""How long there may be no lines before the bars beside them go."""
Piece = tuple[str, str]
"""Text that is safe to show, and the component class that styles it, or an empty string."""


class PlainBars(ScrollBarRender):
    """Scroll bars that are drawn with colours alone, for terminals that have no block characters."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "] * 8


class LineView(ScrollView, can_focus=True):
    """Shows the lines that `pieces` gives; nothing in them is read as markup."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(Scope.TEXT)
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "line--dim",
        "line--error",
        "line--key",
        "line--string",
        "line--number",
        "line--match",
        "line--current",
    }
    DEFAULT_CSS = """
    LineView {
        height: 1fr;
        background: transparent;
        scrollbar-size-horizontal: 1;
        scrollbar-size-vertical: 1;
        & > .line--dim { color: $foreground 55%; }
        & > .line--error { color: $text-error; }
        & > .line--key { color: $text-primary; }
        & > .line--string { color: $text-success; }
        & > .line--number { color: $text-warning; }
        & > .line--match { background: $warning 40%; text-style: bold; }
        & > .line--current { background: $warning; color: $background; text-style: bold; }
    }
    """

    empty_text = ""
    """What is shown where there are no lines."""
    head: ClassVar[int] = 0
    """Lines at the top that stay there; `head_pieces` gives them."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self.found = ""
        """What is being looked for; every place of it shines."""
        self.found_line: int | None = None
        """The line that was found last."""
        self._count = 0
        self._styles: dict[str, Style] = {}

    def on_mount(self) -> None:
        """Draw the bars with what the terminal has."""
        if cast("StepChainApp", self.app).glyphs.ascii:
            for bar in (self.vertical_scrollbar, self.horizontal_scrollbar):
                bar.renderer = PlainBars  # type: ignore[misc]  # Textual reads it from the bar first

    # --- what lines there are

    def pieces(self, index: int) -> list[Piece]:
        """Return one line; `index` is below the count."""
        raise NotImplementedError

    def head_pieces(self) -> list[Piece]:
        """Return the line that stays at the top; only asked where `head` says that there is one."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        """How many lines there are."""
        return self._count

    @property
    def lines_in_sight(self) -> int:
        """How many lines there is room for."""
        return max(1, self.scrollable_content_region.height - self.head)

    def set_lines(self, count: int, width: int) -> None:
        """Tell how many lines there are, and how wide the widest may be."""
        self._count = count
        size = Size(max(1, width), max(1, count + self.head if count else 0))
        if self.styles.auto_dimensions:
            self.virtual_size = size
        elif count or not self.container_size:
            self._take_size(size)
        else:  # other lines come at once, as a rule: bars need not go for a moment
            self.set_timer(EMPTY_SECONDS, self._take_emptiness)
        self.refresh()

    def _take_size(self, size: Size) -> None:
        if size != self.virtual_size:
            # Set as usual it would have the whole screen laid out and painted anew, for each line of a log. Only the
            # bars depend on it, and they ask for a layout themselves where one comes or goes.
            self.set_reactive(LineView.virtual_size, size)
            if self.container_size:
                self._scroll_update(size)

    def _take_emptiness(self) -> None:
        if not self._count:
            self._take_size(Size(1, 1))

    async def find(self, text: str, *, backwards: bool = False, again: bool = False) -> bool:
        """Go to the next line that contains `text`, whatever its case; say whether there is one.

        Args:
            text: What to find.
            backwards: Look upwards.
            again: Begin after the line that was found last.
        """
        raise NotImplementedError

    def find_start(self, *, backwards: bool, again: bool) -> int:
        """Return the line at which a search begins."""
        if self.found_line is None or not again:
            return int(self.scroll_y)
        return (self.found_line + (-1 if backwards else 1)) % max(1, self._count)

    def show_found(self, text: str, line: int | None) -> bool:
        """Let what was found shine, in sight."""
        self.found = text if line is not None else ""
        self.found_line = line
        self.refresh()
        if line is None:
            return False
        height = self.lines_in_sight
        if not self.scroll_y <= line < self.scroll_y + height:
            self.scroll_to(y=max(0, line - height // 2), animate=False)
        return True

    def forget_found(self) -> bool:
        """End the search; say whether there was one."""
        searching = bool(self.found)
        self.found, self.found_line = "", None
        self.refresh()
        return searching

    # --- going through it

    def moved_by_hand(self) -> None:
        """The user went somewhere."""

    def _go(self, y: float) -> None:
        self.scroll_to(y=min(self.max_scroll_y, max(0, y)), animate=False, immediate=True, force=True)
        self.moved_by_hand()

    def action_scroll_up(self) -> None:
        """Go up a line."""
        self._go(self.scroll_y - 1)

    def action_scroll_down(self) -> None:
        """Go down a line."""
        self._go(self.scroll_y + 1)

    def action_page_up(self) -> None:
        """Go up a page; nothing glides, as each line passed would have to be made."""
        self._go(self.scroll_y - self.size.height)

    def action_page_down(self) -> None:
        """Go down a page."""
        self._go(self.scroll_y + self.size.height)

    def action_scroll_home(self) -> None:
        """Go to the first line."""
        self._go(0)

    def action_scroll_end(self) -> None:
        """Go to the last line."""
        self._go(self.max_scroll_y)

    def on_mouse_scroll_up(self) -> None:
        """The wheel and the scroll bar move the view as well."""
        self.call_after_refresh(self.moved_by_hand)

    on_mouse_scroll_down = on_mouse_scroll_up
    on_scroll_to = on_mouse_scroll_up
    on_scroll_up = on_mouse_scroll_up
    on_scroll_down = on_mouse_scroll_up

    # --- how it is painted

    def notify_style_update(self) -> None:
        """Forget styles of the old theme."""
        super().notify_style_update()
        self._styles.clear()

    def render_line(self, y: int) -> Strip:
        """Paint one line in sight."""
        width = self.size.width
        left, top = self.scroll_offset
        pieces = self._pieces_at(top, y)
        strip = Strip([Segment(text, self._style(name)) for text, name in pieces if text])
        return strip.crop_extend(left, left + width, self._style(""))

    def _pieces_at(self, top: int, y: int) -> list[Piece]:
        if not self._count:
            return [(self.empty_text, "line--dim")] if y == 0 else []
        if y < self.head:
            return self.head_pieces()
        index = top + y - self.head
        if index >= self._count:
            return []
        pieces = self.pieces(index)
        return self._with_found(pieces, index) if self.found else pieces

    def _with_found(self, pieces: list[Piece], index: int) -> list[Piece]:
        name = "line--current" if index == self.found_line else "line--match"
        wanted = self.found.casefold()
        made: list[Piece] = []
        for text, style in pieces:
            lower, start = text.casefold(), 0
            if len(lower) != len(text):  # folding changed the length: places would be wrong
                made.append((text, style))
                continue
            while (place := lower.find(wanted, start)) >= 0:
                made += [(text[start:place], style), (text[place : place + len(wanted)], name)]
                start = place + len(wanted)
            made.append((text[start:], style))
        return made

    def _style(self, name: str) -> Style:
        style = self._styles.get(name)
        if style is None:
            style = self.rich_style if not name else self.get_component_rich_style(name)
            self._styles[name] = style
        return style

    def on_click(self, event: events.Click) -> None:
        """Take the focus; nothing else happens by a click."""
        self.focus()
