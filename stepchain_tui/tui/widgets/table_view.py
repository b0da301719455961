"""A table of which only the cells in sight are ever made: a hundred thousand rows scroll like a hundred."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import ClassVar

from textual import events

from stepchain_tui.tui.background import Background
from stepchain_tui.tui.glyphs import UNICODE, Glyphs
from stepchain_tui.tui.tables import GAP, Table, column_widths, padded
from stepchain_tui.tui.widgets.line_view import Piece
from stepchain_tui.tui.widgets.rows_view import RowsView


class TableView(Background, RowsView):
    """Shows a `Table` below the names of its columns, which stay in sight."""

    DEFAULT_CSS = """
    TableView {
        & > .table--head { color: $foreground 60%; text-style: underline; }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--head"}
    head = 1

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.glyphs: Glyphs = UNICODE
        self.table: Table | None = None
        self._widths: list[int] = []
        self._starts: list[int] = [0]
        """The first cell of each column, then the end of the last."""

    def show(self, table: Table | None, *, same: bool = False, grown: int = 0) -> None:
        """Show another table.

        Args:
            table: The table, None for none.
            same: It is what was shown before, as it is now: the cursor and what was found stay.
            grown: Rows that came on top since: whoever is not at the first row stays at theirs.
        """
        cursor = self.cursor + grown if same and self.cursor else 0
        self.table = table
        if not same:
            self.forget_found()
            self.scroll_to(0, 0, animate=False)
        self._lay_out()
        self.cursor = cursor

    def on_resize(self, event: events.Resize) -> None:
        """Give the columns what room there is now."""
        self._lay_out()

    def _lay_out(self) -> None:
        room = self.scrollable_content_region.width
        self._widths = column_widths(self.table, room) if self.table is not None else []
        self._starts = list(accumulate((width + GAP for width in self._widths), initial=0))
        self.set_lines(self.table.count if self.table is not None else 0, max(0, self._starts[-1] - GAP))

    # --- lines

    def pieces(self, index: int) -> list[Piece]:
        """Return the cells of one row that are in sight."""
        table = self.table
        if table is None:
            return []
        first, last = self._columns_in_sight()
        inverted = index == self.cursor and self.has_focus  # colours of cells would become boxes
        made: list[Piece] = [(" " * self._starts[first], "")]
        for place in range(first, last):
            text, style = table.cell(index, place)
            made += [(self._in_column(text, place), "" if inverted else style), (" " * GAP, "")]
        return made

    def head_pieces(self) -> list[Piece]:
        """Return the names of the columns in sight."""
        columns = self.table.columns if self.table is not None else ()
        first, last = self._columns_in_sight()
        made: list[Piece] = [(" " * self._starts[first], "")]
        for place in range(first, last):
            made += [(self._in_column(columns[place].name, place), "table--head"), (" " * GAP, "")]
        return made

    def _columns_in_sight(self) -> tuple[int, int]:
        left, count = self.scroll_offset.x, len(self._widths)
        first = max(0, bisect_right(self._starts, left, hi=count) - 1)
        return first, min(count, bisect_right(self._starts, left + self.size.width, hi=count))

    def _in_column(self, text: str, place: int) -> str:
        right = self.table is not None and self.table.columns[place].right
        return padded(text, self._widths[place], self.glyphs.cut, right=right)

    # --- going through it

    def action_scroll_left(self) -> None:
        """Go to the column at the left."""
        before = [start for start in self._starts[:-1] if start < self.scroll_offset.x]
        self.scroll_to(x=before[-1] if before else 0, animate=False, immediate=True, force=True)

    def action_scroll_right(self) -> None:
        """Go to the column at the right."""
        behind: Sequence[int] = [start for start in self._starts[:-1] if start > self.scroll_offset.x]
        x = min(self.max_scroll_x, behind[0]) if behind else self.max_scroll_x
        self.scroll_to(x=x, animate=False, immediate=True, force=True)

    async def find(self, text: str, *, backwards: bool = False, again: bool = False) -> bool:
        """Go to the next row that contains `text`, also where a cell is cut; see `LineView.find`."""
        table = self.table
        if table is None:
            return False
        start = self.cursor if self.found_line is None or not again else self.found_line + (-1 if backwards else 1)
        row = await self.chain.library.work(partial(table.find, text, start % max(1, table.count), backwards=backwards))
        if table is not self.table:
            return False
        if row is not None:
            self.cursor = row
        return self.show_found(text, row)
