"""All runs there ever were: filtered as one types, by status, read by page, opened as they were."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import getters, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widgets import DataTable, Input, Static

from stepchain_tui.run.status import RunStatus
from stepchain_tui.store.base import AbstractStore, RunSummary
from stepchain_tui.tui.actions import Scope, bindings
from stepchain_tui.tui.screens.base import ActionScreen
from stepchain_tui.tui.text import count, duration, moment, one_line
from stepchain_tui.tui.widgets.lines import ActionFooter, OneLine
from stepchain_tui.tui.widgets.pane import Pane

PAGE = 100
"""Runs that are read at once."""
AHEAD = 20
"""Rows before the end at which the next page is read."""
_COLUMNS = (
    ("status", 13),
    ("plan", 22),
    ("steps", 7),
    ("started", 15),
    ("took", 8),
    ("run", 22),
    ("tokens", 7),
    ("goal", 60),
)


class RunTable(DataTable[Text]):
    """The list of runs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("j", "cursor_down", ""),
        ("k", "cursor_up", ""),
        ("g,home", "scroll_top", ""),
        ("G,end", "scroll_bottom", ""),
    ]


class HistoryScreen(ActionScreen):
    """Lists runs, newest first."""

    CSS_PATH = "history.tcss"
    SCOPES: ClassVar[tuple[Scope, ...]] = (Scope.HISTORY, Scope.APP)
    BINDINGS: ClassVar[list[BindingType]] = [
        one for one in bindings(Scope.HISTORY) if getattr(one, "key", "") != "enter"
    ]
    AUTO_FOCUS = "RunTable"

    table = getters.query_one(RunTable)
    field = getters.query_one("#filter", Input)

    def __init__(self) -> None:
        super().__init__()
        self._runs: list[RunSummary] = []
        self._status: RunStatus | None = None
        self._complete = False
        self._edition = 0

    def compose(self) -> ComposeResult:
        """A field to filter by, and the table."""
        head = OneLine(classes="head")
        head.show_parts([("stepchain  history", "")])
        yield head
        with Horizontal(id="filters"):
            yield Input(placeholder="filter by id, goal, plan", id="filter", compact=True)
            yield Static("all statuses", id="status", markup=False)
        yield Pane(1, "Runs", RunTable(cursor_type="row", id="history"), id="history-pane")
        yield ActionFooter()

    def on_mount(self) -> None:
        """Make the columns and read the first page."""
        for name, width in _COLUMNS:
            self.table.add_column(name, width=width, key=name)
        self.read_anew()

    def on_screen_resume(self) -> None:
        """What is shown may be old."""
        super().on_screen_resume()
        self.read_anew()

    # --- reading

    def read_anew(self) -> None:
        """Read the first page with the filters as they are."""
        self._edition += 1
        self.only_latest("history", self._read, self._edition, 0)

    async def _read(self, edition: int, offset: int) -> None:
        statuses = [self._status] if self._status is not None else []

        async def question(store: AbstractStore, text: str) -> list[RunSummary]:
            return await store.list_runs(limit=PAGE, offset=offset, text=text, statuses=statuses)

        found = await self.chain.library.ask(partial(question, text=self.field.value.strip()))
        if edition != self._edition:
            return
        table = self.table
        if offset == 0:
            at = table.cursor_row
            table.clear()
            self._runs = []
        self._runs += found
        self._complete = len(found) < PAGE
        for run in found:
            table.add_row(*self._cells(run), key=run.run_id)
        if offset == 0 and found:
            table.move_cursor(row=min(at, len(found) - 1))
        self.query_one("#history-pane", Pane).set_note(f"{len(self._runs)}{'' if self._complete else '+'} runs")

    def _cells(self, run: RunSummary) -> list[Text]:
        now, status = self.chain.now(), run.shown_status
        took = ""
        if run.started_at is not None and run.finished_at is not None:
            took = duration((run.finished_at - run.started_at).total_seconds())
        tokens = run.input_tokens + run.output_tokens
        colour = self.chain.theme_variables.get(f"status-{status}", "")
        return [
            Text(self.chain.glyphs.label(status), style=colour.split()[0] if colour.startswith("#") else ""),
            Text(Path(run.plan_path).stem if run.plan_path else ""),
            Text(f"{run.steps_done}/{run.steps_total}"),
            Text(moment(run.started_at or run.created_at, now)),
            Text(took),
            Text(run.run_id),
            Text(count(tokens) if tokens else ""),
            Text(one_line(run.goal, 120)),
        ]

    @on(DataTable.RowHighlighted)
    def _moved(self, event: DataTable.RowHighlighted) -> None:
        if not self._complete and event.cursor_row >= len(self._runs) - AHEAD:
            self._complete = True  # until the page that is being read says otherwise
            self.background("history page", self._read, self._edition, len(self._runs))

    @on(Input.Changed, "#filter")
    def _typed(self) -> None:
        self.read_anew()

    @on(Input.Submitted, "#filter")
    def _submitted(self) -> None:
        self.table.focus()

    # --- what can be done

    @on(DataTable.RowSelected)
    def _selected(self, event: DataTable.RowSelected) -> None:
        self.chain.open_run(str(event.row_key.value))

    def action_open(self) -> None:
        """Open the run under the cursor."""
        self.do_history_open()

    def _run(self) -> RunSummary | None:
        row = self.table.cursor_row
        return self._runs[row] if 0 <= row < len(self._runs) else None

    def do_history_open(self) -> None:
        """Open the run under the cursor."""
        if (run := self._run()) is not None:
            self.chain.open_run(run.run_id)

    def do_history_find(self) -> None:
        """Go to the filter."""
        self.field.focus()

    def do_history_status(self) -> None:
        """Show runs of one status, then of the next, then all."""
        order: list[RunStatus | None] = [None, *RunStatus]
        self._status = order[(order.index(self._status) + 1) % len(order)]
        self.query_one("#status", Static).update(
            self.chain.glyphs.label(self._status) if self._status is not None else "all statuses"
        )
        self.read_anew()

    def do_history_copy(self) -> None:
        """Copy the run's id."""
        if (run := self._run()) is not None:
            self.chain.copy_to_clipboard(run.run_id)
            self.notify(f"copied {run.run_id}", timeout=2, markup=False)

    def go_back(self) -> bool:
        """Leave the filter, then empty it."""
        if self.focused is self.field:
            self.table.focus()
            return True
        if self.field.value or self._status is not None:
            self._status = None
            self.query_one("#status", Static).update("all statuses")
            self.field.value = ""
            self.read_anew()
            return True
        return False
