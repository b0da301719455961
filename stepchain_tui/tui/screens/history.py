"""All runs there ever were: filtered as one types, by status, read by page, opened as they were; as families too."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import getters, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widgets import DataTable, Input, Static

from stepchain_tui.run.spending import UNKNOWN, spent
from stepchain_tui.run.status import RunStatus
from stepchain_tui.run.step_state import Usage
from stepchain_tui.store.base import AbstractStore, RunSummary
from stepchain_tui.tui.actions import ACTIONS, Action, Scope, bindings
from stepchain_tui.tui.families import Member, on_their_own, with_families
from stepchain_tui.tui.screens.base import ActionScreen
from stepchain_tui.tui.text import count, duration, moment, one_line
from stepchain_tui.tui.widgets.lines import ActionFooter, OneLine
from stepchain_tui.tui.widgets.pane import Pane

PAGE = 100
"""Runs that are read at once."""
AHEAD = 20
"""Rows before the end at which the next page is read."""
_PLAN_WIDTH = 22
_COLUMNS = (
    (" ", 1),
    ("status", 13),
    ("plan", _PLAN_WIDTH),
    ("steps", 7),
    ("started", 15),
    ("took", 8),
    ("run", 22),
    ("tokens", 7),
    ("cost", 8),
    ("goal", 60),
)
_FAMILY_WIDTH = 46
"""Cells of the column of runs where forks stand below their parents."""


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
        self._members: list[Member] = []
        self._read = 0
        self._seen: set[str] = set()
        self._marked: RunSummary | None = None
        self._tree = False
        self._status: RunStatus | None = None
        self._complete = False
        self._edition = 0

    def shown_actions(self) -> list[Action]:
        """Return the actions for the footer: what there is to do with two runs follows what there is with one."""
        more = ["history.tree", "history.mark", *(["history.compare"] if self._marked is not None else [])]
        own = [action for action in super().shown_actions() if action.scope is Scope.HISTORY]
        rest = [action for action in super().shown_actions() if action.scope is not Scope.HISTORY]
        return [*own, *(ACTIONS[name] for name in more), *rest]

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
        self._make_columns()
        self.read_anew()

    def _make_columns(self) -> None:
        self.table.clear(columns=True)
        for name, width in _COLUMNS:
            self.table.add_column(name, width=_FAMILY_WIDTH if self._tree and name == "run" else width, key=name)

    def on_screen_resume(self) -> None:
        """What is shown may be old."""
        super().on_screen_resume()
        self.read_anew()

    # --- reading

    def read_anew(self) -> None:
        """Read the first page with the filters as they are."""
        self._edition += 1
        self.only_latest("history", self._read_page, self._edition, 0)

    async def _read_page(self, edition: int, offset: int) -> None:
        found, complete = await self.chain.library.ask(
            partial(
                _page,
                offset=offset,
                text=self.field.value.strip(),
                statuses=[self._status] if self._status is not None else [],
                seen=frozenset() if offset == 0 else frozenset(self._seen),
                families=self._tree,
            )
        )
        if edition != self._edition:
            return
        table = self.table
        if offset == 0:
            row = table.cursor_row
            here = self._members[row].run_id if row < len(self._members) else ""
            self._make_columns()
            self._members, self._seen = [], set()
        self._members += found
        self._seen.update(member.run_id for member in found)
        self._read, self._complete = offset + PAGE, complete
        for member in found:
            table.add_row(*self._cells(member), key=member.run_id)
        if offset == 0 and found:
            same = next((place for place, member in enumerate(found) if member.run_id == here), row)
            table.move_cursor(row=min(same, len(found) - 1))
        self._show_note()

    def _show_note(self) -> None:
        runs = f"{len(self._members)}{'' if self._complete else '+'} runs"
        marked = f"{self._marked.run_id} is marked: c compares  " if self._marked is not None else ""
        self.query_one("#history-pane", Pane).set_note(f"{marked}{runs}")

    def _cells(self, member: Member) -> list[Text]:
        run, line = member.run, self._family_line(member)
        if run is None:
            return [
                Text(""),
                Text("deleted", style="dim"),
                *(Text("") for _ in range(4)),
                Text(line),
                Text(""),
                Text(""),
                Text(""),
            ]
        now, status = self.chain.now(), run.shown_status
        took = ""
        if run.started_at is not None and run.finished_at is not None:
            took = duration((run.finished_at - run.started_at).total_seconds())
        tokens = run.input_tokens + run.output_tokens
        colour = self.chain.theme_variables.get(f"status-{status}", "")
        return [
            Text(_MARK if self._marked is not None and self._marked.run_id == run.run_id else ""),
            Text(self.chain.glyphs.label(status), style=colour.split()[0] if colour.startswith("#") else ""),
            Text(_plan(run)),
            Text(f"{run.steps_done}/{run.steps_total}"),
            Text(moment(run.started_at or run.created_at, now)),
            Text(took),
            Text(line),
            Text(count(tokens) if tokens else ""),
            Text(_cost(run)),
            Text(one_line(f"replay of {of}: {run.goal}" if (of := run.replay_of) else run.goal, 120)),
        ]

    def _family_line(self, member: Member) -> str:
        """Return a run's id, below its parent with the step that it was forked at; a replay has none."""
        if not member.depth:
            return member.run_id
        corner = "`-" if self.chain.glyphs.ascii else "└"
        at = f"  at {member.forked_at}" if member.forked_at else "  replayed"
        return f"{'  ' * (member.depth - 1)}{corner} {member.run_id}{at}"

    @on(DataTable.RowHighlighted)
    def _moved(self, event: DataTable.RowHighlighted) -> None:
        if not self._complete and event.cursor_row >= len(self._members) - AHEAD:
            self._complete = True  # until the page that is being read says otherwise
            self.background("history page", self._read_page, self._edition, self._read)

    @on(Input.Changed, "#filter")
    def _typed(self) -> None:
        self.read_anew()

    @on(Input.Submitted, "#filter")
    def _submitted(self) -> None:
        self.table.focus()

    # --- what can be done

    @on(DataTable.RowSelected)
    def _selected(self) -> None:
        self.do_history_open()

    def action_open(self) -> None:
        """Open the run under the cursor."""
        self.do_history_open()

    def _run(self) -> RunSummary | None:
        row = self.table.cursor_row
        return self._members[row].run if 0 <= row < len(self._members) else None

    def do_history_open(self) -> None:
        """Open the run under the cursor."""
        if (run := self._run()) is not None:
            self.chain.open_run(run.run_id)
        elif self._members:
            self.notify("this run was deleted: only its forks are left", severity="warning", timeout=3, markup=False)

    def do_history_mark(self) -> None:
        """Mark the run under the cursor, to compare another with it."""
        if (run := self._run()) is None:
            return
        before, self._marked = self._marked, None if run == self._marked else run
        for one in (before, self._marked):
            if one is not None and one.run_id in self._seen:
                self.table.update_cell(one.run_id, " ", Text(_MARK if one is self._marked else ""))
        self._show_note()
        self.refresh_footer()

    def do_history_compare(self) -> None:
        """Compare the marked run with the one under the cursor."""
        run = self._run()
        if self._marked is None or run is None or run.run_id == self._marked.run_id:
            why = "space marks a run to compare with" if self._marked is None else "go to another run"
            self.notify(why, severity="warning", timeout=3, markup=False)
            return
        # The older one is on the left, whichever was marked: what is told is what changed since.
        left, right = sorted((self._marked, run), key=lambda one: one.created_at)
        self.chain.open_comparison(left.run_id, right.run_id)

    def do_history_replay(self) -> None:
        """Run the run under the cursor once more from its recording, and open what comes of it."""
        if (run := self._run()) is not None:
            self.background("replay", self._replay, run.run_id)

    async def _replay(self, run_id: str) -> None:
        self.chain.open_run(await self.chain.host.replay(run_id))

    def do_history_tree(self) -> None:
        """Show forks below the runs that they were made from, or each run by itself."""
        self._tree = not self._tree
        self.read_anew()

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


_MARK = ">"


async def _page(
    store: AbstractStore,
    *,
    offset: int,
    text: str,
    statuses: Sequence[RunStatus],
    seen: frozenset[str],
    families: bool,
) -> tuple[list[Member], bool]:
    """Return a page of the history, and whether it was the last one."""
    runs = await store.list_runs(limit=PAGE, offset=offset, text=text, statuses=statuses)
    members = await with_families(store, runs, seen) if families else on_their_own(runs, seen)
    return members, len(runs) < PAGE


def _plan(run: RunSummary) -> str:
    """Return the name of a run's plan, and whether the run is a replay, in the cells that there are."""
    name, mark = Path(run.plan_path).stem if run.plan_path else "", " (replay)" if run.replay_of else ""
    return one_line(name, _PLAN_WIDTH - len(mark)) + mark


def _cost(run: RunSummary) -> str:
    """Return what a run has cost; of one of before prices were kept that is not known."""
    asked = Usage(turns=run.turns, cost=run.cost, unpriced_turns=run.unpriced_turns)
    return spent(asked) if run.cost_is_known else UNKNOWN
