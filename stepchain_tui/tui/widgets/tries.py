"""The attempts at a step: a table, and what became of the selected one below it."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable

from stepchain_tui.run.spending import UNKNOWN, spent
from stepchain_tui.run.step_state import Usage
from stepchain_tui.store.base import AbstractStore
from stepchain_tui.tui.background import Background
from stepchain_tui.tui.glyphs import UNICODE, Glyphs
from stepchain_tui.tui.log_lines import GrowingLog
from stepchain_tui.tui.queries import Lines, failure_text, text_lines
from stepchain_tui.tui.text import count, duration, moment, one_line
from stepchain_tui.tui.views import StepDetail, TryRow
from stepchain_tui.tui.widgets.log_view import LogView, Place
from stepchain_tui.tui.widgets.text_view import TextView

ITEM_LINES = 5_000
"""Lines of one item's log that are shown: the newest."""
_TALK_COLUMNS = ((60, "tokens"), (60, "cost"), (90, "model"), (90, "ended"))
"""What is told of attempts that asked a model, and the cells of room that it needs."""


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
        self._columns: tuple[str, ...] = ()
        self._now: datetime | None = None

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
        self.run_id, self._detail, self._now = run_id, detail, now
        columns = self._columns_of(detail)
        same_step = same_step and columns == self._columns
        self._columns = columns
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

    def on_resize(self) -> None:
        """Show the columns that there is room for."""
        if self._detail is not None and self._now is not None and self._columns_of(self._detail) != self._columns:
            self.show(self.run_id, self._detail, self._now)

    def _columns_of(self, detail: StepDetail) -> tuple[str, ...]:
        item = ("item",) if any(row.item is not None for row in detail.rows) else ()
        room = self.size.width
        talk = tuple(name for wanted, name in _TALK_COLUMNS if detail.talks and room >= wanted)
        return ("n", *item, "status", "started", "took", *talk, "error")

    def _cells(self, row: TryRow, now: datetime) -> tuple[str, ...]:
        took = "..." if row.finished_at is None else duration((row.finished_at - row.started_at).total_seconds())
        error = f"{row.error.error_type.replace('_', ' ')}: {row.error.message}" if row.error else row.reason
        texts = {
            "n": str(row.n),
            "item": "" if row.item is None else str(row.item),
            "status": self.glyphs.label(row.status),
            "started": moment(row.started_at, now),
            "took": took,
            "tokens": _tokens(row.usage),
            "cost": spent(row.usage) if row.usage is not None else "",
            "model": one_line(row.model, 30),
            "ended": one_line(row.finish.replace("_", " "), 20),
            "error": one_line(error, 300),
        }
        return tuple(texts[column] for column in self._columns)

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
            log.load(place, talks=detail.talks)

    async def _show_item_log(self, place: Place, item: int) -> None:
        """Show the newest lines of one item; the log by page is that of all items."""
        run_id, step_id, attempt = place

        async def question(store: AbstractStore) -> Lines:
            lines = await store.read_log(
                run_id, step_id=step_id, attempt=attempt, item=item, limit=ITEM_LINES, newest=True
            )
            whole = GrowingLog()
            whole.take(lines)
            return text_lines("\n".join(line.text.replace("\n", " ") for line in whole.lines))

        self.query_one("#item-log", TextView).show(await self.chain.library.ask(question), "no lines")


def _tokens(usage: Usage | None) -> str:
    if usage is None:
        return ""
    known = usage.input_tokens + usage.output_tokens
    if usage.unknown_turns:
        return f"{count(known)}+{UNKNOWN}" if known else UNKNOWN
    return count(known)


def error_lines(row: TryRow) -> Lines:
    """Return an attempt's error: what, what to do, the details, the traceback."""
    return Lines() if row.error is None else text_lines(failure_text(row.error))
