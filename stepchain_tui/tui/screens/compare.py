"""Two runs side by side: inputs that differ, then step by step what became of it, and how long that took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len, set_cell_size
from textual import getters, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import Static

from stepchain_tui.tui.actions import Scope
from stepchain_tui.tui.comparing import Compared, read_comparison, step_difference
from stepchain_tui.tui.glyphs import Glyphs
from stepchain_tui.tui.screens.base import ActionScreen
from stepchain_tui.tui.text import duration, one_line, plural, shortened, visible
from stepchain_tui.tui.widgets.difference_view import DifferenceView
from stepchain_tui.tui.widgets.line_view import Piece
from stepchain_tui.tui.widgets.lines import ActionFooter, OneLine
from stepchain_tui.tui.widgets.pane import Pane
from stepchain_tui.tui.widgets.rows_view import RowsView

if TYPE_CHECKING:
    from stepchain_tui.run.comparison import StepComparison, StepSide

MOST_INPUTS = 6
"""Inputs that differ that are shown; how many more there are is told."""
_WIDEST_ID = 40
_COLUMNS = ("step", "status", "output", "work", "time", "ratio", "attempts")
_MARKS = {"~": "line--number", "+": "line--string", "-": "line--error", "=": "line--dim"}
"""What stands before a step -> how it is shown: it differs, is in one run only (the right, the left), is the same."""
_MATTERS = 0.1
"""Seconds below which it does not matter how many times as long something took."""


class ComparedSteps(RowsView):
    """The table of steps."""

    BINDINGS: ClassVar[list[BindingType]] = [("n", "next(1)", ""), ("N", "next(-1)", "")]

    def __init__(self) -> None:
        super().__init__(id="compared")
        self.empty_text = "reading"
        self._rows: list[tuple[str, str]] = []

    def show(self, rows: list[tuple[str, str]], width: int) -> None:
        """Show rows: (mark, the rest), at most `width` cells wide."""
        self._rows, self.empty_text = rows, "neither run has a step"
        self.set_lines(len(rows), width)

    def pieces(self, index: int) -> list[Piece]:
        """Return the row of one step."""
        mark, text = self._rows[index]
        return [(f"{mark} ", _MARKS[mark]), (text, "line--dim" if mark == "=" else "")]

    def action_next(self, way: int) -> None:
        """Go to the next step that differs."""
        rows = range(len(self._rows))
        order = [*rows[self.cursor + 1 :], *rows[: self.cursor + 1]]
        if way < 0:
            order = [*reversed(rows[: self.cursor]), *reversed(rows[self.cursor :])]
        self.cursor = next((row for row in order if self._rows[row][0] != "="), self.cursor)


class CompareScreen(ActionScreen):
    """Compares two runs.

    Args:
        left: The one run.
        right: The other run.
    """

    CSS_PATH = "compare.tcss"
    SCOPES: ClassVar[tuple[Scope, ...]] = (Scope.TEXT, Scope.APP)
    AUTO_FOCUS = "ComparedSteps"

    rows = getters.query_one(ComparedSteps)
    text = getters.query_one(DifferenceView)

    def __init__(self, left: str, right: str) -> None:
        super().__init__()
        self.left, self.right = left, right
        self._compared: Compared | None = None

    def compose(self) -> ComposeResult:
        """What differs as a whole, the steps, and one step's difference once that is asked for."""
        head = OneLine(classes="head")
        head.show_parts([("stepchain  ", ""), (f"{self.left} (left) and {self.right} (right)", "")])
        yield head
        yield Static("", id="runs", markup=False)
        with Vertical(id="body"):
            yield Pane(1, "Steps", Static("", id="columns", markup=False), ComparedSteps(), id="steps-pane")
            yield Pane(2, "Difference", DifferenceView(id="difference"), id="difference-pane")
        yield ActionFooter()

    def on_mount(self) -> None:
        """Read both runs."""
        self.query_one("#steps-pane", Pane).set_note("enter difference  n N next that differs")
        self.background("compare", self._read)

    async def _read(self) -> None:
        question = partial(read_comparison, left=self.left, right=self.right)
        compared = self._compared = await self.chain.library.ask(question)
        steps = compared.found.steps
        header, rows = await self.chain.library.work(partial(_table, steps, self.chain.glyphs))
        lines = await self.chain.library.work(partial(_lines, compared))
        self.rows.show(rows, len(header))
        self.query_one("#columns", Static).update(header)
        self.query_one("#runs", Static).update("\n".join(lines))
        different = sum(step.differs for step in steps)
        told = f"{different:,} of them differ" if different else "no difference"
        self.query_one("#steps-pane", Pane).set_title(f"{plural(len(steps), 'step')}, {told}")

    @on(RowsView.Moved)
    def _moved(self, event: RowsView.Moved) -> None:
        event.stop()
        if self.has_class("-asked"):
            self.show_step(event.row)

    @on(RowsView.Chosen)
    def _chosen(self, event: RowsView.Chosen) -> None:
        event.stop()
        self.show_step(event.row)

    def show_step(self, row: int) -> None:
        """Show what is different in the step of a row."""
        self.only_latest("difference", self._show_step, row)

    async def _show_step(self, row: int) -> None:
        if self._compared is None:
            return
        step_id = self._compared.found.steps[row].step_id
        question = partial(step_difference, compared=self._compared, step_id=step_id)
        lines = await self.chain.library.ask(question)
        self.add_class("-asked")
        self.query_one("#difference-pane", Pane).set_title(f"{step_id}, left to right")
        self.text.show_lines(lines, "no difference")

    def go_back(self) -> bool:
        """From the difference back to the steps; then close it."""
        if self.focused is not self.rows:
            self.rows.focus()
            return True
        if self.has_class("-asked"):
            self.remove_class("-asked")
            return True
        return False


def _lines(compared: Compared) -> list[str]:
    """Return what is told of the runs as a whole; blocking."""
    found = compared.found
    # The first two lines are those of the runs, then there is one for each input.
    lines = [shortened(visible(line), 300) for line in found.lines()[: 2 + min(len(found.inputs), MOST_INPUTS)]]
    more = len(found.inputs) - MOST_INPUTS
    hidden = [f"and {plural(more, 'input')} more"] if more > 0 else []
    return [*lines, *hidden, *compared.damage]


def _table(steps: Sequence[StepComparison], glyphs: Glyphs) -> tuple[str, list[tuple[str, str]]]:
    """Return the header and the rows of the table, its columns as wide as they need to be; blocking."""
    cells = [_cells(step, glyphs) for step in steps]
    columns = zip(_COLUMNS, *cells, strict=True)
    widths = [max(map(cell_len, column)) + 2 for column in columns]
    lines = ["".join(map(set_cell_size, row, widths)) for row in (_COLUMNS, *cells)]
    return f"  {lines[0]}", [(_mark(step), line) for step, line in zip(steps, lines[1:], strict=True)]


def _mark(step: StepComparison) -> str:
    return "-" if step.right is None else "+" if step.left is None else "~" if step.differs else "="


def _cells(step: StepComparison, glyphs: Glyphs) -> tuple[str, ...]:
    arrow = ">" if glyphs.ascii else "→"
    longest = max((side.seconds or 0.0 for side in (step.left, step.right) if side is not None), default=0.0)

    def beside(of: Callable[[StepSide], str]) -> str:
        left, right = (of(side) if side is not None else "none" for side in (step.left, step.right))
        return left if left == right else f"{left} {arrow} {right}"

    return (
        one_line(step.step_id, _WIDEST_ID),
        beside(lambda side: glyphs.label(side.status)),
        _same(step.same_output),
        _same(step.same_work),
        beside(lambda side: duration(side.seconds) if side.seconds is not None else "-"),
        f"x{step.ratio:.2g}" if step.ratio is not None and longest >= _MATTERS else "",
        beside(lambda side: str(side.attempts)),
    )


def _same(same: bool | None) -> str:
    return "" if same is None else "same" if same else "different"
