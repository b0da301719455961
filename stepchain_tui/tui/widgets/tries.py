"""The attempts at a step: a table, and what became of the selected one below it."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable

from stepchain_tui.store.base import AbstractStore
from stepchain_tui.tui.background import Background
from stepchain_tui.tui.glyphs import UNICODE, Glyphs
from stepchain_tui.tui.queries import Lines, failure_text, text_lines
from stepchain_tui.tui.text import duration, moment, one_line
from stepchain_tui.tui.views import StepDetail, TryRow
from stepchain_tui.tui.widgets.log_view import LogView, Place
from stepchain_tui.tui.widgets.text_view import TextView

ITEM_LINES = 5_000
"""Lines of one item's log that are shown: the newest."""
_COLUMNS = ("n", "status", "started", "took", "error")
_WITH_ITEM = ("n", "item", "status", "started", "took", "error")


class TriesPane(Background, Vertical):
    """Shows the attempts at one step."""

    DEFAULT_CSS = """
    TriesPane {
        & > DataTable { height: auto; max-height: 45%; overflow-x: hidden; }
        & > #try-error { height: 1fr; border-top: solid $foreground 20%; }
        & > #try-log, & > #item-log { height: 1fr; border-top: solid $foreground 20%; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.glyphs: Glyphs = UNICODE
        self.run_id = ""
        self._detail: StepDetail | None = None
        self._shown: list[tuple[str, ...]] = []
        self._columns: tuple[str, ...] = _COLUMNS

    def compose(self) -> ComposeResult:
        """The table, the error and the log of the selected attempt."""
        table: DataTable[Text] = DataTable(cursor_type="row", zebra_stripes=False, id="tries")
        yield table
        error = TextView(id="try-error")
        error.display = False
        yield error
        yield LogView(id="try-log")
        item_log = TextView(id="item-log")
        item_log.display = False
        yield item_log

    @property
    def table(self) -> DataTable[Text]:
        """The table of attempts."""
        return self.query_one("#tries", DataTable)

    def show(self, run_id: str, detail: StepDetail, now: datetime) -> None:
        """Show the attempts of a step; the cursor stays where it is while the step is the same."""
        same_step = self._detail is not None and self._detail.step_id == detail.step_id and self.run_id == run_id
        self.run_id, self._detail = run_id, detail
        self._columns = _WITH_ITEM if any(row.item is not None for row in detail.rows) else _COLUMNS
        cells = [self._cells(row, now) for row in detail.rows]
        if cells == self._shown and same_step:
            return
        table = self.table
        row = table.cursor_row if same_step else 0
        grown = len(cells) - len(self._shown) if same_step else 0
        self._shown = cells
        table.clear(columns=True)
        for column in self._columns:
            table.add_column(column, key=column)
        for texts in cells:
            table.add_row(*(Text(text) for text in texts))
        if detail.rows:
            # The newest attempt is on top: whoever looks at it goes on with the newest, others stay at theirs.
            table.move_cursor(row=min(len(cells) - 1, row + grown if row else 0))
        self._show_selected()

    def _cells(self, row: TryRow, now: datetime) -> tuple[str, ...]:
        took = "..." if row.finished_at is None else duration((row.finished_at - row.started_at).total_seconds())
        error = f"{row.error.error_type.replace('_', ' ')}: {row.error.message}" if row.error else row.reason
        item = () if self._columns is _COLUMNS else ("" if row.item is None else str(row.item),)
        return (
            str(row.n),
            *item,
            self.glyphs.label(row.status),
            moment(row.started_at, now),
            took,
            one_line(error, 300),
        )

    @on(DataTable.RowHighlighted, "#tries")
    def _row_changed(self, event: DataTable.RowHighlighted) -> None:
        event.stop()
        self._show_selected()

    def _show_selected(self) -> None:
        detail = self._detail
        error_view, log = self.query_one("#try-error", TextView), self.query_one("#try-log", LogView)
        row = self.table.cursor_row
        if detail is None or not 0 <= row < len(detail.rows):
            error_view.display = False
            log.show(None, 0)
            self.query_one("#item-log", TextView).display = False
            return
        chosen = detail.rows[row]
        error_view.display = chosen.error is not None
        if chosen.error is not None:
            error_view.show(error_lines(chosen))
        item_log = self.query_one("#item-log", TextView)
        log.display, item_log.display = chosen.item is None, chosen.item is not None
        place = (self.run_id, detail.step_id, chosen.n)
        if chosen.item is not None:
            self.only_latest("log of an item", self._show_item_log, place, chosen.item)
        elif log.place != place:
            log.load(place)

    async def _show_item_log(self, place: Place, item: int) -> None:
        """Show the newest lines of one item; the log by page is that of all items."""
        run_id, step_id, attempt = place

        async def question(store: AbstractStore) -> Lines:
            lines = await store.read_log(
                run_id, step_id=step_id, attempt=attempt, item=item, limit=ITEM_LINES, newest=True
            )
            return text_lines("\n".join(line.text.replace("\n", " ") for line in lines))

        self.query_one("#item-log", TextView).show(await self.chain.library.ask(question), "no lines")


def error_lines(row: TryRow) -> Lines:
    """Return an attempt's error: what, what to do, the details, the traceback."""
    return Lines() if row.error is None else text_lines(failure_text(row.error))
