"""The revisions of a run's plan: when, by whom, why, and what each of them changed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from rich.cells import set_cell_size
from textual import getters, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal

from stepchain_tui.tui.actions import Scope
from stepchain_tui.tui.kept_plans import difference_lines, read_revisions, revision_lines
from stepchain_tui.tui.screens.base import ActionScreen
from stepchain_tui.tui.text import moment, one_line, plural
from stepchain_tui.tui.widgets.difference_view import DifferenceView
from stepchain_tui.tui.widgets.line_view import Piece
from stepchain_tui.tui.widgets.lines import ActionFooter, OneLine
from stepchain_tui.tui.widgets.pane import Pane
from stepchain_tui.tui.widgets.rows_view import RowsView

if TYPE_CHECKING:
    from stepchain_tui.tui.kept_plans import KeptRevision
    from stepchain_tui.tui.queries import Lines


class RevisionRows(RowsView):
    """The list of revisions, the newest first."""

    BINDINGS: ClassVar[list[BindingType]] = [("space", "mark", "")]

    def __init__(self) -> None:
        super().__init__(id="revisions")
        self.empty_text = "reading"
        self.marked: int | None = None
        """The number of the revision that others are compared with; None: each with the one before."""
        self._lines: list[tuple[KeptRevision, str]] = []

    def show(self, lines: list[tuple[KeptRevision, str]]) -> None:
        """Show revisions, each with its line."""
        self._lines, self.empty_text = lines, "no revision can be read"
        self.set_lines(len(lines), max((len(line) for _, line in lines), default=0) + 2)

    def pieces(self, index: int) -> list[Piece]:
        """Return the line of one revision."""
        revision, line = self._lines[index]
        return [("> " if revision.number == self.marked else "  ", "line--key"), (line, "")]

    def action_mark(self) -> None:
        """Compare others with the revision under the cursor, or each with the one before again."""
        if self.count:
            number = self._lines[self.cursor][0].number
            self.marked = None if self.marked == number else number
            self.refresh()
            self.post_message(self.Moved(self, self.cursor))


class RevisionsScreen(ActionScreen):
    """Lists the revisions of a run's plan, and shows what one changed, or the whole of it.

    Args:
        run_id: The run.
    """

    CSS_PATH = "revisions.tcss"
    SCOPES: ClassVar[tuple[Scope, ...]] = (Scope.TEXT, Scope.APP)
    AUTO_FOCUS = "RevisionRows"

    rows = getters.query_one(RevisionRows)
    text = getters.query_one(DifferenceView)

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self.run_id = run_id
        self._found: list[KeptRevision] = []
        self._whole = False

    def compose(self) -> ComposeResult:
        """The list, and the difference beside or below it."""
        head = OneLine(classes="head")
        head.show_parts([("stepchain  ", ""), (f"revisions of run {self.run_id}", "")])
        yield head
        with Horizontal(id="body"):
            yield Pane(1, "Revisions", RevisionRows(), id="revisions-pane")
            yield Pane(2, "Difference", DifferenceView(id="difference"), id="difference-pane")
        yield ActionFooter()

    def on_mount(self) -> None:
        """Read the revisions."""
        self.query_one("#revisions-pane", Pane).set_note("enter whole text  space compare with this one")
        self.background("read revisions", self._read)

    async def _read(self) -> None:
        found = await self.chain.library.ask(partial(read_revisions, run_id=self.run_id))
        self._found = found[::-1]
        now = self.chain.now()
        self.rows.show([(revision, _line(revision, moment(revision.at, now))) for revision in self._found])
        self.show_difference()

    @on(RowsView.Moved)
    def _moved(self, event: RowsView.Moved) -> None:
        event.stop()
        self._whole = False
        self.show_difference()

    @on(RowsView.Chosen)
    def _chosen(self, event: RowsView.Chosen) -> None:
        event.stop()
        self._whole = not self._whole
        self.show_difference()

    def show_difference(self) -> None:
        """Show what the revision under the cursor changed, or the whole of it."""
        self.only_latest("difference", self._show_difference)

    async def _show_difference(self) -> None:
        if not self._found:
            return
        after = self._found[self.rows.cursor]
        wanted = self.rows.marked if self.rows.marked not in (None, after.number) else after.number - 1
        before = next((one for one in self._found if one.number == wanted), None)
        if before is None or self._whole:
            title = f"Revision {after.number}{', whole' if self._whole else ''}"
            self._show(title, await self.chain.library.work(partial(revision_lines, after)), "it is empty", plain=True)
            return
        if before.number > after.number:
            before, after = after, before
        lines = await self.chain.library.work(partial(difference_lines, before, after))
        self._show(f"Revision {before.number} to {after.number}", lines, "they say the same")

    def _show(self, title: str, lines: Lines, empty: str, *, plain: bool = False) -> None:
        self.query_one("#difference-pane", Pane).set_title(title)
        self.text.show_lines(lines, empty, plain=plain)

    def go_back(self) -> bool:
        """From a whole text, or the difference, back to the list."""
        if self.focused is not self.rows:
            self.rows.focus()
            return True
        if self._whole:
            self._whole = False
            self.show_difference()
            return True
        return False


def _line(revision: KeptRevision, when: str) -> str:
    changed = plural(revision.changed, "step") + " changed" if revision.number > 1 else ""
    by = f"by {revision.by}" if revision.by else ""
    facts = (
        set_cell_size(str(revision.number), 4),
        set_cell_size(when, 15),
        changed,
        one_line(revision.reason, 80),
        by,
    )
    return "  ".join(filter(None, facts))
