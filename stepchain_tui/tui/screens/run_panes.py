"""What a person does with the panes of a run screen: go to one, turn tabs, search, copy, resize."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.widget import Widget

from stepchain_tui.tui.background import Background
from stepchain_tui.tui.session import Session
from stepchain_tui.tui.widgets.following import FollowingView
from stepchain_tui.tui.widgets.graph_view import GraphView
from stepchain_tui.tui.widgets.line_view import LineView
from stepchain_tui.tui.widgets.receipt_bar import ReceiptBar
from stepchain_tui.tui.widgets.splitter import Splitter
from stepchain_tui.tui.widgets.timeline import Timeline

if TYPE_CHECKING:
    from stepchain_tui.tui.screens.run import RunScreen

_PANES = ("graph-pane", "step-pane", "timeline-pane")
_NARROWEST, _WIDEST = 15, 85
_COPY_LIMIT = 1_000_000


class RunPaneActions(Background):
    """The actions of a run screen that change only what is seen."""

    session: Session
    find_text = ""
    find_note = ""

    @property
    def _screen(self) -> RunScreen:
        return cast("RunScreen", self)

    # --- panes

    def do_pane_graph(self) -> None:
        """Go to the graph."""
        self._go_to("graph-pane", self._screen.graph)

    def do_pane_step(self) -> None:
        """Go to the step's pane."""
        self._show_pane("step-pane")
        self._screen.step_pane.focus_tab()

    def do_pane_timeline(self) -> None:
        """Go to the timeline."""
        self._go_to("timeline-pane", self._screen.timeline)

    def _go_to(self, pane: str, widget: Widget) -> None:
        self._show_pane(pane)
        widget.focus()

    def _show_pane(self, pane: str) -> None:
        """Let a pane be seen: where there is room for one only, and where another has all the room."""
        screen = self._screen
        for name in _PANES:
            screen.set_class(name == pane, f"-in-{name}")
        if screen.has_class("-max") and not screen.has_class(f"-max-{pane}"):
            self.minimise()

    def do_pane_maximise(self) -> None:
        """Give the pane in focus all the room, or take it back."""
        if self.minimise():
            return
        focused = self._screen.focused
        around = [node.id for node in focused.ancestors_with_self] if focused is not None else []
        pane = next((name for name in _PANES if name in around), "graph-pane")
        self._screen.add_class("-max", f"-max-{pane}")

    def minimise(self) -> bool:
        """Take the room back from a pane that had all of it; say whether one had."""
        screen = self._screen
        if not screen.has_class("-max"):
            return False
        screen.remove_class("-max", *(f"-max-{name}" for name in _PANES))
        return True

    def go_back(self) -> bool:
        """Leave a search, then a maximised pane, then another pane than the graph."""
        view = self._text_in_focus()
        if self._screen.query_one(ReceiptBar).put_away():
            return True
        if self.find_note:
            self.find_text = self.find_note = ""
            if isinstance(view, LineView):
                view.forget_found()
            self._screen.show_all()
            return True
        if self._screen.step_pane.output.put_row_away():
            return True
        if self.minimise():
            return True
        if self._screen.focused is not self._screen.graph:
            self.do_pane_graph()
            return True
        return False

    # --- tabs

    def do_tab_next(self) -> None:
        """Show the tab to the right."""
        self._turn(1)

    def do_tab_previous(self) -> None:
        """Show the tab to the left."""
        self._turn(-1)

    def _turn(self, step: int) -> None:
        pane = self._screen.step_pane
        pane.turn(step)
        self.chain.keep_state(tab=pane.tab)

    def do_step_why(self) -> None:
        """Say why the selected step is as it is; the focus stays, so that one can go from step to step."""
        screen = self._screen
        screen.step_pane.tab = "why"
        self.chain.keep_state(tab="why")
        if screen.has_class("-narrow") or screen.has_class("-max"):
            self.do_pane_step()

    def do_pane_table(self) -> None:
        """Show rows as a table, or as JSON."""
        self.background("table", self._turn_table)

    async def _turn_table(self) -> None:
        output = self._screen.step_pane.output
        await output.turn_table()
        self.chain.keep_state(table=output.as_table)
        self._screen.show_all()

    # --- following

    def do_run_follow(self) -> None:
        """Follow the work and the end of the log, or stay where we are."""
        screen, pane = self._screen, self._screen.step_pane
        view = pane.view
        in_view = isinstance(view, FollowingView) and screen.focused is view
        follow = not view.follow if in_view and isinstance(view, FollowingView) else not self.session.follow
        if isinstance(view, FollowingView):
            view.follow = follow
        self.session.follow = follow
        if follow:
            self.session.selected = self.session.where_the_work_is()
            screen.graph.selected = self.session.selected
        self.notify("following" if follow else "no longer following", timeout=2, markup=False)
        screen.show_all()

    # --- finding

    def _text_in_focus(self) -> LineView | GraphView | None:
        focused = self._screen.focused
        if isinstance(focused, GraphView | Timeline):
            return focused
        return self._screen.step_pane.view

    def do_find_open(self) -> None:
        """Ask what to find in the pane in focus."""
        self.background("find", self._ask_find, self._text_in_focus())

    async def _ask_find(self, view: LineView | GraphView | None) -> None:
        text = await self.chain.ask_line("Find", self.find_text)
        if text:
            self.find_text = text
            await self._find(view, again=False, backwards=False)

    def do_find_next(self) -> None:
        """Go to the next place."""
        self._find_again(backwards=False)

    def do_find_previous(self) -> None:
        """Go to the previous place."""
        self._find_again(backwards=True)

    def _find_again(self, *, backwards: bool) -> None:
        if not self.find_text:
            self.do_find_open()
            return
        self.background("find", self._find, self._text_in_focus(), again=True, backwards=backwards)

    async def _find(self, view: LineView | GraphView | None, *, again: bool, backwards: bool) -> None:
        found = False
        if isinstance(view, GraphView):
            found = self._find_step(view, again=again, backwards=backwards)
        elif view is not None and view.count:
            found = await view.find(self.find_text, again=again, backwards=backwards)
        self.find_note = f"find: {self.find_text}" + ("" if found else " (nothing found)")
        self._screen.show_all()
        if not found:
            self.notify(f"'{self.find_text}' is not here", severity="warning", timeout=3, markup=False)

    def _find_step(self, view: GraphView, *, again: bool, backwards: bool) -> bool:
        hits = view.search(self.find_text)
        if not hits:
            return False
        place = hits.index(self.session.selected) if self.session.selected in hits else -1
        step = (-1 if backwards else 1) if again or place < 0 else 0
        self._screen.select_step(hits[(place + step) % len(hits)] if place >= 0 else hits[-1 if backwards else 0])
        return True

    # --- copying and paging

    def do_pane_copy(self) -> None:
        """Copy the text of the pane in sight."""
        self.background("copy", self._copy)

    async def _copy(self) -> None:
        if isinstance(self._screen.focused, GraphView | Timeline):
            text: str = self.session.selected
        else:
            text = await self._screen.step_pane.whole_text()
        if not text:
            self.notify("there is nothing to copy", severity="warning", timeout=2, markup=False)
            return
        self.chain.copy_to_clipboard(text[:_COPY_LIMIT])
        self.notify(f"copied {min(len(text), _COPY_LIMIT):,} characters", timeout=2, markup=False)

    def do_pane_pager(self) -> None:
        """Show the text of the pane in sight in $PAGER."""
        self.background("pager", self._page)

    async def _page(self) -> None:
        text = await self._screen.step_pane.whole_text()
        if text:
            self.chain.show_in_pager(text)
        else:
            self.notify("there is nothing to show", severity="warning", timeout=2, markup=False)

    # --- sizes

    def do_split_left(self) -> None:
        """Make the graph narrower."""
        self._resize(x=-4)

    def do_split_right(self) -> None:
        """Make the graph wider."""
        self._resize(x=4)

    def do_split_up(self) -> None:
        """Make the step pane shorter."""
        self._resize(y=-6)

    def do_split_down(self) -> None:
        """Make the step pane taller."""
        self._resize(y=6)

    def _resize(self, *, x: int = 0, y: int = 0) -> None:
        state = self.chain.state
        self._set_splits(state.split_x + x, state.split_y + y)

    def _set_splits(self, x: int, y: int) -> None:
        self.chain.keep_state(split_x=min(_WIDEST, max(_NARROWEST, x)), split_y=min(_WIDEST, max(_NARROWEST, y)))
        self.place_splits()

    def place_splits(self) -> None:
        """Give the panes the sizes they were left with."""
        state, screen = self.chain.state, self._screen
        screen.query_one("#graph-pane").styles.width = f"{state.split_x}fr"
        screen.query_one("#right").styles.width = f"{100 - state.split_x}fr"
        screen.step_pane.styles.height = f"{state.split_y}fr"
        screen.query_one("#timeline-pane").styles.height = f"{100 - state.split_y}fr"

    def on_splitter_moved(self, event: Splitter.Moved) -> None:
        """Go along with a line that is dragged."""
        state = self.chain.state
        if event.name == "split-x":
            self._set_splits(round(100 * event.x / max(1, self._screen.size.width)), state.split_y)
        else:
            pane = self._screen.step_pane.region
            height = pane.height + self._screen.query_one("#timeline-pane").region.height
            self._set_splits(state.split_x, round(100 * (event.y - pane.y) / max(1, height)))
