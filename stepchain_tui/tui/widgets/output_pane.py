"""What a step gave: text as it is, JSON with colours, or a table where it is rows."""

from __future__ import annotations

from functools import partial

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message

from stepchain_tui.tui.background import Background
from stepchain_tui.tui.glyphs import UNICODE, Glyphs
from stepchain_tui.tui.queries import Lines, ShownValue, lines_of, text_lines
from stepchain_tui.tui.tables import RecordTable
from stepchain_tui.tui.widgets.following import LiveView
from stepchain_tui.tui.widgets.line_view import LineView
from stepchain_tui.tui.widgets.lines import OneLine
from stepchain_tui.tui.widgets.rows_view import RowsView
from stepchain_tui.tui.widgets.table_view import TableView
from stepchain_tui.tui.widgets.text_view import TextView


class OutputPane(Background, Vertical):
    """Shows an output. Rows are a table, the row under its cursor is shown whole below it, and both may be JSON."""

    DEFAULT_CSS = """
    OutputPane {
        & > #output-row { height: auto; max-height: 45%; border-top: solid $foreground 20%; }
        & > #output-note { color: $foreground 60%; }
    }
    """

    class Changed(Message):
        """Signals that what can be done with the output may be something else by now."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.glyphs: Glyphs = UNICODE
        self.as_table = True
        """Whether rows are shown as a table."""
        self._shown: ShownValue | None = None
        self._row_open = False
        self._is_live = False

    def compose(self) -> ComposeResult:
        """The text, also while it is written, or the table with one row whole and a line about all of them."""
        yield TextView(id="output-text")
        for widget in (
            LiveView(id="output-live"),
            TableView(id="output-table"),
            TextView(id="output-row"),
            OneLine(id="output-note"),
        ):
            widget.display = False
            yield widget

    @property
    def text(self) -> TextView:
        """The output as text."""
        return self.query_one("#output-text", TextView)

    @property
    def live(self) -> LiveView:
        """The text that a model is just writing."""
        return self.query_one("#output-live", LiveView)

    @property
    def table(self) -> TableView:
        """The output as a table."""
        return self.query_one("#output-table", TableView)

    @property
    def row(self) -> TextView:
        """The row under the cursor."""
        return self.query_one("#output-row", TextView)

    @property
    def view(self) -> LineView:
        """What is in sight: what has the focus, else the table or the text."""
        if not self.in_table:
            return self.live if self._is_live else self.text
        return self.row if self._row_open and self.row.has_focus else self.table

    @property
    def has_table(self) -> bool:
        """Whether what is shown can be seen as a table."""
        return self._shown is not None and self._shown.table is not None

    @property
    def in_table(self) -> bool:
        """Whether a table is in sight."""
        return self.as_table and self.has_table and not self._is_live

    # --- showing

    def clear(self) -> None:
        """Show nothing for a moment: the output of another step is on its way."""
        was_table, self._shown = self.in_table, None
        self.end_live()
        if was_table:
            self.table.show(None)
            self.row.show(Lines())
        else:
            self.text.show(Lines())

    def show_text(self, lines: Lines, empty_text: str = "") -> None:
        """Show a text that is no output: an error, or why there is none."""
        self._shown = None
        if lines.lines:
            self.end_live()
        self.text.show(lines, empty_text)
        self._arrange()

    def show_live(self, text: str) -> None:
        """Show what a model is just writing, until there is an output or an error."""
        if not text:
            return
        if not self._is_live:
            self._is_live = True
            self.live.follow = True
            self._arrange()
        self.live.show(text)

    def end_live(self) -> None:
        """Show what was there before a model wrote."""
        if self._is_live:
            self._is_live = False
            self.live.show("")
            self._arrange()

    async def show_value(self, shown: ShownValue) -> None:
        """Show an output."""
        self._shown, self._row_open = shown, False
        self.end_live()
        self.table.glyphs = self.glyphs
        await self._show()

    async def _show(self) -> None:
        shown = self._shown
        if shown is None:
            return
        if not self.in_table:
            lines = shown.lines
            if lines is None:
                lines = shown.lines = await self.chain.library.work(partial(lines_of, shown.value))
            if shown is not self._shown:
                return
            self.text.show(lines)
        elif self.table.table is not shown.table:
            self.table.show(shown.table)
        self._arrange()

    def _arrange(self) -> None:
        """Let that be seen which fits; the focus goes along."""
        in_table, had_focus = self.in_table, self.has_focus_within
        self.view.display = True
        if had_focus:
            self.view.focus()
        self.text.display = not in_table and not self._is_live
        self.live.display = not in_table and self._is_live
        self.table.display = in_table
        self.row.display = in_table and self._row_open
        note = self.query_one("#output-note", OneLine)
        note.display = in_table
        if in_table and self._shown is not None and self._shown.table is not None:
            keys = ["enter: " + ("row away" if self._row_open else "whole row"), "T: JSON"]
            note.show_parts([(f" {self.glyphs.dot} ".join([*self._shown.table.facts, *keys]), "")])

        self.post_message(self.Changed())

    async def turn_table(self) -> None:
        """Show rows as JSON, or as a table again."""
        self.as_table = not self.as_table
        await self._show()

    # --- one row

    @on(RowsView.Chosen, "#output-table")
    def _row_chosen(self, event: RowsView.Chosen) -> None:
        event.stop()
        self._row_open = not self._row_open
        self._arrange()
        self._show_row()
        # The table has less room by now: what is under its cursor is to stay in sight.
        self.call_after_refresh(self.table.watch_cursor, self.table.cursor)

    @on(RowsView.Moved, "#output-table")
    def _row_moved(self, event: RowsView.Moved) -> None:
        event.stop()
        self._show_row()

    def _show_row(self) -> None:
        if self._row_open and self._shown is not None and self._shown.table is not None:
            self.only_latest("one row", self._load_row, self._shown.table, self.table.cursor)

    async def _load_row(self, table: RecordTable, row: int) -> None:
        lines = await self.chain.library.work(lambda: text_lines(table.record_text(row)))
        if self._shown is not None and table is self._shown.table:
            self.row.show(lines)

    def put_row_away(self) -> bool:
        """Give the room of the row back to the table; say whether there was one."""
        if not (self.in_table and self._row_open):
            return False
        self._row_open = False
        self._arrange()
        return True

    # --- taking it elsewhere

    async def whole_text(self) -> str:
        """Return what is in sight as it is copied and paged: a table as texts parted by tabs."""
        if self._is_live:
            return self.live.text
        if not self.in_table or self._shown is None or self._shown.table is None:
            return self.text.content.raw
        if self.view is self.row:
            return self.row.content.raw
        return await self.chain.library.work(self._shown.table.tab_separated)
