"""When each step ran: a row for each, its attempts as bars over the time of the run."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from stepchain_tui.run.status import StepStatus
from stepchain_tui.tui.glyphs import UNICODE, Glyphs
from stepchain_tui.tui.graph.labels import printable, shorten
from stepchain_tui.tui.text import duration
from stepchain_tui.tui.views import StepView
from stepchain_tui.tui.widgets.line_view import LineView, Piece

LONGEST_NAME = 18
_TIME = 7
_STATUSES = tuple(str(status) for status in StepStatus)


@dataclass(frozen=True, slots=True)
class Bar:
    """Cells of a row: from `start` to `end`, of a status; `waits` for the time between two tries."""

    start: int
    end: int
    status: str
    waits: bool = False


def bars(step: StepView, begin: datetime, seconds: float, cells: int, now: datetime) -> list[Bar]:
    """Return a step's attempts as cells of `cells`, over `seconds` from `begin`; each has at least one cell."""
    if not step.spans or cells <= 0:
        return []
    scale = cells / max(seconds, 0.001)
    made: list[Bar] = []
    edge = 0
    for span in step.spans:
        start = min(cells - 1, max(edge, int((span.started_at - begin).total_seconds() * scale)))
        if made and start > edge:
            made.append(Bar(edge, start, "retrying", waits=True))
        end = int(((span.finished_at or now) - begin).total_seconds() * scale)
        end = min(cells, max(start + 1, end))
        made.append(Bar(start, end, span.status))
        edge = end
    if step.retry_at is not None and edge < cells:
        made.append(Bar(edge, min(cells, max(edge + 1, int((now - begin).total_seconds() * scale))), "retrying", True))
    return made


class Timeline(LineView):
    """Rows of steps in the order in which they began; the selected one shines."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {*(f"timeline--{status}" for status in _STATUSES), "timeline--selected"}
    DEFAULT_CSS = """
    Timeline {
        & > .timeline--selected { text-style: bold; background: $foreground 10%; }
    }
    """ + "\n".join(f"Timeline > .timeline--{status} {{ color: $status-{status}; }}" for status in _STATUSES)
    empty_text = "nothing has run yet"

    class Chosen(Message):
        """Signals that the user clicked a step's row."""

        def __init__(self, step_id: str) -> None:
            super().__init__()
            self.step_id = step_id

    def __init__(self, now: Callable[[], datetime], *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._now = now
        self._rows: list[StepView] = []
        self._places: dict[str, int] = {}
        self._begin: datetime | None = None
        self._end: datetime | None = None
        self._selected = ""
        self._name_width = 4
        self.glyphs: Glyphs = UNICODE

    def take(self, changed: Iterable[StepView], of: Container[str] | None) -> None:
        """Take over steps that changed.

        Args:
            changed: Those steps.
            of: All steps that there are, where that changed too.
        """
        if of is not None:
            self._rows = [step for step in self._rows if step.id in of]
        places = {step.id: place for place, step in enumerate(self._rows)} if of is not None else self._places
        for step in changed:
            if not step.spans:
                continue
            place = places.setdefault(step.id, len(self._rows))
            if place == len(self._rows):
                self._rows.append(step)
                self._name_width = min(LONGEST_NAME, max(self._name_width, cell_len(printable(step.id))))
            else:
                self._rows[place] = step
        if of is not None:
            # Steps arrive in the order in which they began, but for the first picture of a run, which is of no order.
            self._rows.sort(key=lambda step: step.spans[0].started_at)
            places = {step.id: place for place, step in enumerate(self._rows)}
        self._places = places
        self._begin = min((step.spans[0].started_at for step in self._rows[:50]), default=None)

    def show(self, end: datetime | None, selected: str) -> None:
        """Show the rows.

        Args:
            end: When the run ended, None while it goes on.
            selected: The selected step.
        """
        self._end, self._selected = end, selected
        self.set_lines(len(self._rows), 1)

    def select(self, step_id: str) -> None:
        """Let a step's row shine, in sight."""
        self._selected = step_id
        row = self._places.get(step_id)
        if row is not None and not self.scroll_y <= row < self.scroll_y + self.size.height:
            self.scroll_to(y=max(0, row - self.size.height // 2), animate=False)
        self.refresh()

    def pieces(self, index: int) -> list[Piece]:
        """Return one row: name, bars, how long the step took."""
        step = self._rows[index]
        name = set_cell_size(shorten(printable(step.id), self._name_width), self._name_width)
        cells = max(4, self.size.width - self._name_width - _TIME - 5)
        now = self._end or self._now()
        begin = self._begin or now
        made: list[Piece] = [(f"{self.glyphs.of(step.status)} ", _style(step.status)), (f"{name} ", "")]
        column = 0
        for bar in bars(step, begin, (now - begin).total_seconds(), cells, now):
            made.append((" " * (bar.start - column), ""))
            character = self.glyphs.wait if bar.waits else self.glyphs.bar
            made.append((character * (bar.end - bar.start), _style(bar.status)))
            column = bar.end
        made.append((" " * (cells - column) + " ", ""))
        made.append((_took(step, now).rjust(_TIME), "line--dim"))
        return made

    def render_line(self, y: int) -> Strip:
        """Paint one row; the selected one over its whole width."""
        strip = super().render_line(y)
        index = self.scroll_offset.y + y
        if index < len(self._rows) and self._rows[index].id == self._selected:
            over = Style(bold=True, bgcolor=self.get_component_rich_style("timeline--selected").bgcolor)
            return Strip([Segment(text, (style or Style.null()) + over) for text, style, _ in strip], strip.cell_length)
        return strip

    async def find(self, text: str, *, backwards: bool = False, again: bool = False) -> bool:
        """Go to the next step whose id contains `text`."""
        wanted, start, count = text.casefold(), self.find_start(backwards=backwards, again=again), len(self._rows)
        order = ((start + (-1 if backwards else 1) * place) % count for place in range(count))
        return self.show_found(text, next((row for row in order if wanted in self._rows[row].id.casefold()), None))

    def on_click(self, event: events.Click) -> None:
        """Choose the step whose row was clicked."""
        super().on_click(event)
        offset = event.get_content_offset(self)
        if offset is not None and (row := offset.y + self.scroll_offset.y) < len(self._rows):
            self.post_message(self.Chosen(self._rows[row].id))

    def on_resize(self) -> None:
        """Rows are as wide as the widget."""
        self.virtual_size = Size(1, max(1, self.count))


_OF_ATTEMPT = {"interrupted": "cancelled"}


def _style(status: str) -> str:
    status = _OF_ATTEMPT.get(status, status)
    return f"timeline--{status}"


def _took(step: StepView, now: datetime) -> str:
    first = step.spans[-1].started_at if len(step.spans) == 1 else step.spans[0].started_at
    last = step.spans[-1]
    return duration(((last.finished_at or now) - first).total_seconds())
