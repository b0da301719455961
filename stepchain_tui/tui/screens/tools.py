"""What can be called and how it fares: tools, MCP servers, circuit breakers and pools of the engine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, getters, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from stepchain_tui.tui.actions import Action, Scope, bindings
from stepchain_tui.tui.host import HostError
from stepchain_tui.tui.queries import Lines
from stepchain_tui.tui.screens.base import ActionScreen
from stepchain_tui.tui.screens.tools_actions import ToolsActions
from stepchain_tui.tui.text import one_line, with_hint
from stepchain_tui.tui.tool_lists import BREAKERS, LISTINGS, POOLS, SERVERS, TOOLS
from stepchain_tui.tui.toolbox import LAST_BYTES, LAST_WORDS, Listing, Row, Toolbox, key_of, name_of, stderr_of
from stepchain_tui.tui.widgets.lines import ActionFooter, OneLine, TabStrip
from stepchain_tui.tui.widgets.pane import Pane
from stepchain_tui.tui.widgets.rows_view import RowsView
from stepchain_tui.tui.widgets.table_view import TableView
from stepchain_tui.tui.widgets.text_view import TextView

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOK_SECONDS = 1.0
"""How often it is looked again while this screen is in sight; nothing is connected to for that."""
_BAR = 1
"""Cells that the scroll bar of the details takes."""
_NAMES = tuple(listing.name for listing in LISTINGS)
_BY_NAME: Mapping[str, Listing] = {listing.name: listing for listing in LISTINGS}


class ToolsScreen(ToolsActions, ActionScreen):
    """Lists of what can be called, and beside them all that is known of the selected row.

    Where there is little room one list is in sight, else all are.
    """

    CSS_PATH = "tools.tcss"
    SCOPES: ClassVar[tuple[Scope, ...]] = (Scope.TOOLS, Scope.TEXT, Scope.APP)
    BINDINGS: ClassVar[list[BindingType]] = bindings(Scope.TOOLS)
    AUTO_FOCUS = "#tools"

    field = getters.query_one("#filter", Input)
    details = getters.query_one("#details", TextView)

    def __init__(self) -> None:
        super().__init__()
        self._plan: Path | None = None
        self._came_from = ""
        self._toolbox: Toolbox | None = None
        """What the engine told last, None before it did."""
        self._shown = Toolbox()
        """What of it is in the lists."""
        self._selected: dict[str, tuple[str, ...]] = {}
        """List -> the key of the row under its cursor."""
        self._edition = 0
        self._connecting = False
        self._looking = False
        self._trouble = ""
        self._unreached: tuple[str, ...] = ()
        """What could not be reached when it was last connected: asking without connecting does not tell it again."""
        self._stderr: tuple[str, tuple[str, ...]] = ("", ())
        """A server's file, and its last lines."""

    def shown_actions(self) -> list[Action]:
        """Return the actions for the footer; nobody need be told how to come here."""
        return [action for action in super().shown_actions() if action.id != "app.tools"]

    # --- opening

    def come_from(self, mode: str, plan: Path | None) -> None:
        """Take note of where esc leads back to, and of the plan at hand; its servers are connected to.

        Args:
            mode: The mode of the app that was in sight before.
            plan: The plan's file, None for no plan.
        """
        self._came_from = mode
        if plan != self._plan or self._toolbox is None:
            self._plan, self._toolbox, self._unreached = plan, None, ()
        if self.is_mounted:
            self.ask_anew()

    def compose(self) -> ComposeResult:
        """A field to filter by, the lists, and what is told of the selected row."""
        yield OneLine(id="head", classes="head")
        with Horizontal(id="filters"):
            yield Input(placeholder="filter tools, servers, breakers", id="filter", compact=True)
        yield Static("", id="problems", markup=False)
        yield TabStrip(_NAMES)
        with Container(id="body"):
            with Vertical(id="lists"):
                for number, listing in enumerate(LISTINGS, 1):
                    title = "MCP servers" if listing is SERVERS else listing.name.capitalize()
                    yield Pane(number, title, TableView(id=listing.name), id=f"{listing.name}-pane")
            yield Pane(len(LISTINGS) + 1, "Details", TextView(id="details"), id="details-pane")
        yield ActionFooter()

    def on_mount(self) -> None:
        """Connect, and look again from time to time."""
        for listing in LISTINGS:
            self._table(listing).glyphs = self.chain.glyphs
        self._bring_into_sight(TOOLS)
        self.set_interval(LOOK_SECONDS, self.look_again)
        self.ask_anew()

    def on_screen_resume(self) -> None:
        """What is shown may be old."""
        super().on_screen_resume()
        self.look_again()

    # --- asking

    def ask_anew(self) -> None:
        """Connect to all servers and ask for their tools; what is known already is shown meanwhile."""
        self._edition += 1
        self._connecting = True
        self._show_all()
        self.only_latest("connect", self._ask, self._edition, connect=True)
        self.look_again()

    def servers(self) -> tuple[Row, ...]:
        """Return all servers, also those that the filter leaves out."""
        return self._toolbox.servers if self._toolbox is not None else ()

    def look_again(self) -> None:
        """Ask again without connecting, unless that is under way."""
        if self.is_current and not self._looking and not self.chain.is_ending:
            self._looking = True
            self.background("tools", self._look, self._edition)

    async def _look(self, edition: int) -> None:
        try:
            await self._ask(edition, connect=False)
        finally:
            self._looking = False

    async def _ask(self, edition: int, *, connect: bool) -> None:
        answer, trouble = None, ""
        try:
            answer = await self.chain.host.tools(str(self._plan) if self._plan else None, connect=connect)
        except HostError as error:
            trouble = with_hint(error)
        if edition != self._edition or not self.is_mounted:
            return
        if connect:
            self._connecting = False
        if answer is not None:
            found = Toolbox.of(answer)
            if connect:
                self._unreached = found.problems
            self._toolbox = found
        self._trouble = trouble
        self._show_all()
        self._look_at_stderr()

    # --- showing

    def _table(self, listing: Listing) -> TableView:
        return self.query_one(f"#{listing.name}", TableView)

    def row_of(self, listing: Listing) -> Row | None:
        """Return the row under the cursor of a list."""
        rows, place = listing.rows(self._shown), self._table(listing).cursor
        return rows[place] if 0 <= place < len(rows) else None

    def _show_all(self) -> None:
        """Show what the engine told last, as far as it fits the filter."""
        self._shown = (self._toolbox or Toolbox()).matching(self.field.value)
        for listing in LISTINGS:
            self._show_listing(listing)
        self._show_head()
        self._show_problems()
        self._show_details()

    def _show_listing(self, listing: Listing) -> None:
        table, rows = self._table(listing), listing.rows(self._shown)
        known = len(listing.rows(self._toolbox or Toolbox()))
        if self._toolbox is None:
            table.empty_text = "connecting ..." if self._connecting else ""
        else:
            table.empty_text = f"none of {known:,} fits the filter" if known else listing.empty
        chosen = self._selected.get(listing.name, ())
        table.show(listing.table(self._shown, self.chain.glyphs, self.chain.now()), same=table.table is not None)
        gone = 0 if self.field.value else table.cursor
        table.cursor = next((place for place, row in enumerate(rows) if key_of(row) == chosen), gone)
        self._note_selected(listing)
        note = "" if len(rows) == known else f"{len(rows):,} of {known:,}"
        self.query_one(f"#{listing.name}-pane", Pane).set_note(note)

    def _note_selected(self, listing: Listing) -> None:
        row = self.row_of(listing)
        if row is not None:
            self._selected[listing.name] = key_of(row)

    def _show_head(self) -> None:
        dot = self.chain.glyphs.dot
        parts = ["stepchain  tools"]
        parts += [one_line(self._plan.stem, 40)] if self._plan is not None else []
        parts += [self._toolbox.summary(dot)] if self._toolbox is not None else []
        under_way = [("connecting ...", "")] if self._connecting else []
        self.query_one("#head", OneLine).show_parts([(f" {dot} ".join(parts), "")], under_way)

    def _show_problems(self) -> None:
        told = self._toolbox.problems if self._toolbox is not None else ()
        problems = list(dict.fromkeys((*([self._trouble] if self._trouble else ()), *self._unreached, *told)))
        shown = self.query_one("#problems", Static)
        shown.display = bool(problems)
        more = f" (and {len(problems) - 2} more)" if len(problems) > 2 else ""
        shown.update(Content("\n".join(problems[:2]) + more))

    def _show_details(self) -> None:
        listing = self.in_sight
        row, pane = self.row_of(listing), self.query_one("#details-pane", Pane)
        pane.set_title(one_line(name_of(row), 60) if row is not None else "Details")
        if row is None:
            self.details.show(Lines())
            return
        told = listing.details(row, self.chain.glyphs, self.chain.now())
        path, words = self._stderr
        if path and path == self._stderr_path:
            told.heading("last lines of its stderr: o shows all")
            told.lines_of(words or ("nothing",))
        self.details.show(told.lines(self.details.outer_size.width - _BAR))

    def on_resize(self, event: events.Resize) -> None:
        """Break the details anew."""
        self.call_after_refresh(self._show_details)

    # --- what is in sight

    def _bring_into_sight(self, listing: Listing) -> None:
        """Let a list be seen where there is room for one only; the details are those of its row."""
        self.in_sight = listing
        for name in _NAMES:
            self.set_class(name == listing.name, f"-in-{name}")
        self.query_one(TabStrip).choose(listing.name)
        self._show_details()
        self._look_at_stderr()

    def _go_to(self, listing: Listing) -> None:
        self._bring_into_sight(listing)
        self._table(listing).focus()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """The list in focus is the one whose row is told of."""
        listing = _BY_NAME.get(event.widget.id or "") if isinstance(event.widget, TableView) else None
        if listing is not None and listing is not self.in_sight:
            self._bring_into_sight(listing)

    @on(TabStrip.Chosen)
    def _tab_chosen(self, event: TabStrip.Chosen) -> None:
        event.stop()
        self._go_to(_BY_NAME[event.name])

    @on(RowsView.Moved)
    def _row_moved(self, event: RowsView.Moved) -> None:
        event.stop()
        listing = _BY_NAME[event.view.id or ""]
        self._note_selected(listing)
        if listing is self.in_sight:
            self._show_details()
            self._look_at_stderr()

    @on(RowsView.Chosen)
    def _row_chosen(self, event: RowsView.Chosen) -> None:
        event.stop()
        self.details.focus()

    @on(Input.Changed, "#filter")
    def _typed(self) -> None:
        self._show_all()

    @on(Input.Submitted, "#filter")
    def _filtered(self) -> None:
        self._table(self.in_sight).focus()

    # --- what a server wrote to stderr

    @property
    def _stderr_path(self) -> str:
        """The file of the selected server in sight, or empty."""
        row = self.row_of(SERVERS) if self.in_sight is SERVERS else None
        return str(row.get("stderr_path") or "") if row is not None else ""

    def _look_at_stderr(self) -> None:
        if path := self._stderr_path:
            self.only_latest("stderr", self._read_stderr, path)

    async def _read_stderr(self, path: str) -> None:
        lines = await self.chain.library.work(partial(_last_words, path))
        if (path, lines) != self._stderr:
            self._stderr = (path, lines)
            self._show_details()

    # --- where one goes

    def do_tools_find(self) -> None:
        """Go to the filter."""
        self.field.focus()

    def do_tools_pane_tools(self) -> None:
        """Go to the tools."""
        self._go_to(TOOLS)

    def do_tools_pane_servers(self) -> None:
        """Go to the MCP servers."""
        self._go_to(SERVERS)

    def do_tools_pane_breakers(self) -> None:
        """Go to the circuit breakers."""
        self._go_to(BREAKERS)

    def do_tools_pane_pools(self) -> None:
        """Go to the pools."""
        self._go_to(POOLS)

    def do_tools_pane_details(self) -> None:
        """Go to what is told of the selected row."""
        self.details.focus()

    def go_back(self) -> bool:
        """Leave the filter and the details, then empty the filter, then go back to where we came from."""
        table = self._table(self.in_sight)
        if self.focused is not table:
            table.focus()
            return True
        if self.field.value:
            self.field.value = ""
            return True
        return self.chain.return_to(self._came_from)


def _last_words(path: str) -> tuple[str, ...]:
    """Return the last lines of a server's standard error, or why there are none; blocking."""
    try:
        return tuple(stderr_of(path, LAST_BYTES)[-LAST_WORDS:])
    except OSError as error:
        return (f"it cannot be read: {error.strerror or error}",)
