"""The tool calls of a step: a table, and all of the selected call below it."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from stepchain_tui.core.errors import UnknownStepError
from stepchain_tui.tui.background import Background
from stepchain_tui.tui.calls import CallRow
from stepchain_tui.tui.feed import RunFeed
from stepchain_tui.tui.glyphs import UNICODE, Glyphs
from stepchain_tui.tui.queries import Lines, call_lines
from stepchain_tui.tui.tables import Table
from stepchain_tui.tui.text import duration, plural
from stepchain_tui.tui.widgets.line_view import LineView
from stepchain_tui.tui.widgets.lines import OneLine
from stepchain_tui.tui.widgets.rows_view import RowsView
from stepchain_tui.tui.widgets.table_view import TableView
from stepchain_tui.tui.widgets.text_view import TextView

NO_CALLS = "no tool was called"
NARROWED_CALLS = 10
"""Cells that arguments and results keep: the selected call is shown whole anyway."""
_RUNNING = ("running", "waiting")


class ToolsPane(Background, Vertical):
    """Shows the tool calls of one step, the newest on top."""

    DEFAULT_CSS = """
    ToolsPane {
        & > #calls { height: auto; max-height: 45%; }
        & > #calls-note { color: $foreground 60%; }
        & > #call { height: 1fr; border-top: solid $foreground 20%; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.glyphs: Glyphs = UNICODE
        self._feed: RunFeed | None = None
        self._step_id = ""
        self._rows: tuple[CallRow, ...] = ()
        self._call: CallRow | None = None
        """The call that is shown whole, as it was when it was read."""

    def compose(self) -> ComposeResult:
        """The table, how many older calls are left out, and the selected call."""
        yield TableView(id="calls")
        for widget in (OneLine(id="calls-note"), TextView(id="call")):
            widget.display = False
            yield widget

    @property
    def table(self) -> TableView:
        """The table of calls."""
        return self.query_one("#calls", TableView)

    @property
    def call(self) -> TextView:
        """The selected call."""
        return self.query_one("#call", TextView)

    @property
    def view(self) -> LineView:
        """What is searched: the call where it has the focus, else the table."""
        return self.call if self.call.has_focus else self.table

    # --- showing

    def show(self, feed: RunFeed | None, step_id: str) -> None:
        """Show the calls of a step as they are now."""
        if feed is None:
            self._take((), 0, Table((), ()), feed, step_id, "nothing has run yet: s starts")
        else:
            self.only_latest("tool calls", self._load, feed, step_id)

    def tick(self) -> None:
        """Let the times of calls that run go on."""
        if self.display and self._feed is not None and any(row.status in _RUNNING for row in self._rows):
            self.show(self._feed, self._step_id)

    async def _load(self, feed: RunFeed, step_id: str) -> None:
        now, glyphs = self.chain.now(), self.glyphs

        async def question() -> tuple[tuple[CallRow, ...], int, Table]:
            rows, dropped = await feed.calls(step_id)
            return rows, dropped, call_table(rows, glyphs, now)

        try:
            rows, dropped, table = await self.chain.library.work_in_loop(question)
        except UnknownStepError:
            return  # a revision took the step away; the next frame says so
        self._take(rows, dropped, table, feed, step_id, NO_CALLS)

    def _take(
        self, rows: tuple[CallRow, ...], dropped: int, table: Table, feed: RunFeed | None, step_id: str, empty: str
    ) -> None:
        same = feed is self._feed and step_id == self._step_id
        known = self._rows[0].key if same and self._rows else None
        grown = next((place for place, row in enumerate(rows) if row.key == known), 0)
        self._feed, self._step_id, self._rows = feed, step_id, rows
        self.table.glyphs = self.glyphs
        self.table.empty_text = empty
        self.table.show(table, same=same, grown=grown)
        self.call.display = bool(rows)
        note = self.query_one("#calls-note", OneLine)
        note.display = dropped > 0
        note.show_parts([(f"{plural(dropped, 'older call')} not shown: `stepchain logs` has what they printed", "")])
        self._show_selected()

    @on(RowsView.Moved, "#calls")
    def _row_moved(self, event: RowsView.Moved) -> None:
        event.stop()
        self._show_selected()

    @on(RowsView.Chosen, "#calls")
    def _row_chosen(self, event: RowsView.Chosen) -> None:
        event.stop()
        self.call.focus()

    @property
    def _selected(self) -> CallRow | None:
        return self._rows[self.table.cursor] if self.table.cursor < len(self._rows) else None

    def _show_selected(self) -> None:
        row = self._selected
        if row is None:
            self._call = None
            self.call.show(Lines())
        elif row != self._call and self._feed is not None:
            self.only_latest("one call", self._load_call, self._feed, row)

    async def _load_call(self, feed: RunFeed, row: CallRow) -> None:
        lines = await self.chain.library.ask(partial(call_lines, run_id=feed.run_id, call=row, whole=False))
        if row == self._selected:
            self._call = row
            self.call.show(lines)

    async def whole_text(self) -> str:
        """Return the selected call with all that it was given and gave."""
        row, feed = self._selected, self._feed
        if row is None or feed is None:
            return ""
        return (await self.chain.library.ask(partial(call_lines, run_id=feed.run_id, call=row, whole=True))).raw


def call_table(rows: tuple[CallRow, ...], glyphs: Glyphs, now: datetime) -> Table:
    """Return calls as a table; which attempt called is told where there is more than one."""
    columns = [("status", False), ("tool", False), ("took", True), ("arguments", False), ("result", False)]
    tell_by = len({row.by for row in rows}) > 1
    texts = []
    for row in rows:
        texts.append(
            (
                *((row.by,) if tell_by else ()),
                glyphs.label(row.status),
                row.tool_name,
                _took(row, now),
                row.arguments,
                row.result,
            )
        )
    return Table([("try", False), *columns] if tell_by else columns, texts, narrowed=NARROWED_CALLS)


def _took(row: CallRow, now: datetime) -> str:
    if row.execution_time is not None or row.started_at is None or row.status not in _RUNNING:
        return row.took
    return duration((now - row.started_at).total_seconds())
