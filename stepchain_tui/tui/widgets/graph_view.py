"""The live picture of a plan: its steps as boxes, pills or rails, with their status, and one of them selected.

The drawing holds places only (`stepchain_tui.tui.graph`); this widget paints its visible rows, keeps what changes
(status, selection, open groups) and turns keys and clicks into messages. It knows steps by their id and nothing else of
a plan. Text of ids is painted cell by cell and never read as markup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from rich.segment import Segment
from rich.style import Style
from textual import events, work
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size, Spacing
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.worker import Worker, WorkerState

from stepchain_tui.tui.graph import (
    DECISIONS,
    STATUSES,
    Box,
    Drawings,
    Face,
    Faces,
    GraphStyle,
    Kind,
    Painter,
    Picture,
    cell_len,
)
from stepchain_tui.tui.text import plural
from stepchain_tui.tui.widgets.pane import Pane

__all__ = ("Direction", "Face", "GraphStyle", "GraphView")

Direction = Literal["up", "down", "left", "right"]

_OPPOSITE: dict[Direction, Direction] = {"up": "down", "down": "up", "left": "right", "right": "left"}
_THREAD_NODES = 300
"""Nodes, or fours of links, from which on a drawing is made in a thread: fewer take less than a frame or two."""
_DRAWING = "draw the graph"


class GraphCanvas(ScrollView):
    """A plan's graph on the screen: drawn in the way that fits, painted with what is true now, one step shining."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "graph--node",
        "graph--wire",
        "graph--wire-lit",
        "graph--selected",
        *(f"graph--{name}" for name in (*STATUSES, *DECISIONS)),
    }
    DEFAULT_CSS = """
    GraphCanvas {
        & > .graph--node { color: $foreground; }
        & > .graph--wire { color: $foreground 40%; }
        & > .graph--wire-lit { color: $foreground; text-style: bold; }
        & > .graph--selected { text-style: bold reverse; }
        & > .graph--pending { color: $foreground 70%; }
        & > .graph--queued { color: $text-secondary; }
        & > .graph--running { color: $text-primary; text-style: bold; }
        & > .graph--retrying { color: $text-warning; }
        & > .graph--waiting { color: $text-warning; text-style: bold; }
        & > .graph--succeeded { color: $text-success; }
        & > .graph--failed { color: $text-error; text-style: bold; }
        & > .graph--timed_out { color: $text-error; text-style: bold; }
        & > .graph--skipped { color: $foreground 50%; }
        & > .graph--blocked { color: $text-error 80%; }
        & > .graph--cancelled { color: $foreground 60%; }
        & > .graph--run, & > .graph--new { color: $text-primary; text-style: bold; }
        & > .graph--stale { color: $text-warning; text-style: bold; }
        & > .graph--gone { color: $text-error; text-style: strike; }
        & > .graph--reuse { color: $text-success; }
        & > .graph--leave { color: $foreground 50%; }
    }
    """

    selected: reactive[str | None] = reactive(None)
    """Id of the selected step; None only while there is no step."""
    style: reactive[GraphStyle] = reactive[GraphStyle]("auto")
    """How steps are drawn; `auto` chooses by the size of the widget and of the graph."""
    ascii: reactive[bool] = reactive(False)
    """Draw with `+ - |` only, for terminals without box drawing. Glyphs are the caller's."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._faces = Faces()
        self._drawings = Drawings(self._faces)
        self._painter: Painter | None = None
        self._caption = ""
        self._redraw_asked = False
        self._in_work: tuple[int, Kind] | None = None
        self._rich_styles: dict[tuple[str, ...], Style] = {}

    # What the caller tells and asks.

    def set_graph(self, parents: Mapping[str, Sequence[str]]) -> None:
        """Show another graph; the previous drawing stays until the new one is made.

        The selected step and known statuses are kept where their ids still exist.

        Args:
            parents: Step id to the ids of its parents, in the plan's order.

        Raises:
            ValueError: A parent is unknown or the links form a cycle.
        """
        self._drawings.set_graph(parents)
        self._show_fitting()
        if self.selected not in parents:
            self.selected = next(iter(parents), None)

    def set_status(self, step_id: str, glyph: str, style_name: str, marks: str = "") -> None:
        """Change how one step looks; see `Face`."""
        self.set_statuses({step_id: Face(glyph, style_name, marks)})

    def set_statuses(self, statuses: Mapping[str, Face | tuple[str, str] | tuple[str, str, str]]) -> None:
        """Change how several steps look: step id to (glyph, style name, marks). Only what is visible is repainted."""
        changed = {self._faces.update(step, Face(*given)) for step, given in statuses.items()}
        if (painter := self._painter) is None:
            return
        for node in changed:
            if node is None or node not in painter.picture:
                continue
            box = painter.picture.box(node)
            self._refresh_box(box)
            if cell_len(self._faces.label(node)) > _room(painter.picture, box):
                self._ask_redraw()

    def scroll_to_selected(self) -> None:
        """Bring the selected step into view."""
        node = self.selected_node
        if self._painter is None or node is None or node not in self._painter.picture or not self.size:
            return
        box = self._painter.picture.box(node)
        region = Region(box.x, box.y, min(box.width, self.size.width), box.height)
        if Region(*self.scroll_offset, *self.size).contains_region(region):
            return
        self.scroll_to_region(region, spacing=Spacing(1, 2, 1, 2), animate=False, force=True)

    @property
    def selected_node(self) -> str | None:
        """The node that shines: the selected step, or the group it is folded into."""
        return None if self.selected is None else self._drawings.node_of.get(self.selected, self.selected)

    @property
    def picture(self) -> Picture | None:
        """The drawing on the screen; None before the first is made."""
        return None if self._painter is None else self._painter.picture

    def say(self, caption: str) -> None:
        """Say something about the graph in the frame around it, beside what the drawing leaves out."""
        self._caption = caption
        hidden = len(self.picture.hidden) if self.picture is not None else 0
        left_out = f"{plural(hidden, 'link')} not drawn: others imply them" if hidden else ""
        for pane in [node for node in self.ancestors if isinstance(node, Pane)]:
            pane.set_note("  ".join(filter(None, (caption, left_out))))

    # How a drawing is made.

    def _show_fitting(self) -> None:
        """Show the drawing that suits the size of the widget, making it first if need be."""
        space = self.container_size
        if not self.is_mounted or not space:
            return
        kind = self._drawings.kind_for(self.style, *space)
        if self._drawings.made(kind) or self._drawings.size < _THREAD_NODES:
            self._show(self._drawings.make(kind))
        elif self._in_work != (self._drawings.edition, kind):
            self._in_work = (self._drawings.edition, kind)
            self._draw_in_thread(kind)

    @work(name=_DRAWING, group=_DRAWING, description=_DRAWING, exclusive=True, exit_on_error=False)
    async def _draw_in_thread(self, kind: Kind) -> None:
        edition = self._drawings.edition
        picture = await asyncio.to_thread(Picture, *self._drawings.order(kind))
        self._in_work = None
        if self._drawings.keep(picture, edition):
            self._show(picture)

    def _ask_redraw(self) -> None:
        if not self._redraw_asked:
            self._redraw_asked = True
            self.call_after_refresh(self._draw_again)

    def _draw_again(self) -> None:
        self._redraw_asked = False
        self._drawings.forget()
        self._show_fitting()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Tell the user when a drawing could not be made; the previous one stays."""
        if event.worker.name == _DRAWING and event.state == WorkerState.ERROR:
            event.stop()
            self.notify(f"The graph could not be drawn: {event.worker.error!r}", severity="error", markup=False)

    def _show(self, picture: Picture) -> None:
        if picture is self.picture:
            return
        self._painter = Painter(picture, self._faces)
        self._painter.select(self.selected_node)
        self.virtual_size = Size(picture.width, picture.height)
        self.say(self._caption)
        self.refresh()
        self.call_after_refresh(self.scroll_to_selected)

    # What happens.

    def on_mount(self) -> None:
        """Draw what was set before there was a size."""
        self._show_fitting()

    def on_resize(self) -> None:
        """Choose the drawing again: another one may fit now."""
        self._show_fitting()

    def notify_style_update(self) -> None:
        """Forget styles of the old theme."""
        super().notify_style_update()
        self._rich_styles.clear()
        self.refresh()

    def validate_selected(self, step: str | None) -> str | None:
        """Refuse a step that is not in the graph."""
        return step if step in self._drawings.graph else None

    def watch_selected(self) -> None:
        """Let the step and its wires shine, in view."""
        if self._painter is not None:
            self._painter.select(self.selected_node)
            self.scroll_to_selected()
            self.refresh()

    def watch_style(self) -> None:
        """Draw in the new style."""
        self._show_fitting()

    def watch_ascii(self, ascii_only: bool) -> None:
        """Draw with other characters; names are shortened in another way too."""
        self._faces.use_ascii(ascii_only)
        self._draw_again()

    # How a row is painted.

    @property
    def _margin(self) -> int:
        """Free columns left of the drawing: a small one stands in the middle."""
        if self._painter is None or self._painter.picture.kind == "rails":
            return 0
        return max(0, (self.size.width - self._painter.picture.width) // 2)

    def _refresh_box(self, box: Box) -> None:
        left, top = self.scroll_offset
        region = Region(box.x - left + self._margin, box.y - top, box.width, box.height)
        if visible := region.intersection(Region(0, 0, *self.size)):
            self.refresh(visible)

    def render_line(self, y: int) -> Strip:
        """Paint one visible row; `y` counts from the top of the widget."""
        width = self.size.width
        base = self.rich_style
        if self._painter is None:
            return Strip.blank(width, base)
        left, top = self.scroll_offset
        first = left - self._margin
        start, runs = self._painter.row(y + top, first, first + width)
        strip = Strip(Segment(text, self._rich_style(names)) for text, names in runs if text)
        return strip.crop(first - start, first - start + width)

    def _rich_style(self, names: tuple[str, ...]) -> Style:
        style = self._rich_styles.get(names)
        if style is None:
            style = self.rich_style
            for name in names:
                if name in self.COMPONENT_CLASSES:
                    # The highlight lies over the colour of the status; the others stand on their own.
                    style += self.get_component_rich_style(name, partial=name == "graph--selected")
            self._rich_styles[names] = style
        return style


def _room(picture: Picture, box: Box) -> int:
    """Return the cells a box has for its label."""
    return box.width if picture.kind == "rails" else box.width - 2


class _GraphMessage(Message):
    """A message about one step of a view."""

    def __init__(self, graph_view: GraphView, step_id: str) -> None:
        super().__init__()
        self.graph_view = graph_view
        """The view it comes from."""
        self.step_id = step_id
        """The step it is about."""

    @property
    def control(self) -> GraphView:
        """The view it comes from."""
        return self.graph_view


class GraphView(GraphCanvas, can_focus=True):
    """A plan's graph that a person walks through.

    A step's label is `GLYPH id` with its marks appended; a part of a sub-plan is shown without the step around it.
    More than eight alike steps side by side are drawn as one group such as `fetch_1 … fetch_200 (200)`, the items of a
    map of plans as one node each; `selected` then still names one step, and its group shines.
    """

    ALLOW_MAXIMIZE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move('up')", "Parent", id="graph.up", show=False),
        Binding("down,j", "move('down')", "Child", id="graph.down", show=False),
        Binding("left,h", "move('left')", "Left in the layer", id="graph.left", show=False),
        Binding("right,l", "move('right')", "Right in the layer", id="graph.right", show=False),
        Binding("enter", "open", "Open step", id="graph.open", show=False),
        Binding("space", "fold", "Fold or unfold", id="graph.fold", show=False),
    ]

    class Selected(_GraphMessage):
        """Signals that the user moved the highlight to another step."""

    class Opened(_GraphMessage):
        """Signals that the user opened a step, by enter or a double click."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._last_move: tuple[Direction, str, str] | None = None
        self._clicked = False

    def search(self, text: str) -> list[str]:
        """Return the ids of the steps that contain `text`, in the plan's order, whatever its case."""
        wanted = text.casefold()
        return [step for step in self._drawings.graph if wanted in step.casefold()] if wanted else []

    def move(self, direction: Direction) -> bool:
        """Move the highlight to a parent, a child, or a neighbour in the layer; say whether there was one.

        Going back returns to the step one came from, not merely to the nearest.
        """
        here = self.selected_node
        if self._painter is None or here is None or here not in self._painter.picture:
            return False
        target = self._target(self._painter.picture, here, direction)
        if target is None:
            return False
        self._choose(target)
        self._last_move = (direction, here, target)
        return True

    def toggle_fold(self) -> bool:
        """Unfold the group of the selected step, or fold it again; say whether it belongs to one."""
        if self.selected is None or not self._drawings.toggle(self.selected):
            return False
        self._show_fitting()
        return True

    def on_click(self, event: events.Click) -> None:
        """Select what was clicked; open it at a double click."""
        if event.chain == 2 and self._clicked:
            # The first click may have scrolled: what was meant is what it selected, wherever it is by now.
            self.action_open()
            return
        offset = event.get_content_offset(self)
        if offset is None or self._painter is None:
            return
        column, row = offset + self.scroll_offset
        node = self._painter.picture.node_at(column - self._margin, row)
        self._clicked = node is not None
        if node is not None:
            self._choose(node)

    def action_move(self, direction: Direction) -> None:
        """Move the highlight."""
        self.move(direction)

    def action_open(self) -> None:
        """Open the selected step, or unfold its group."""
        if self.selected is None:
            return
        if self.selected in self._drawings.node_of:
            self.toggle_fold()
        else:
            self.post_message(self.Opened(self, self.selected))

    def action_fold(self) -> None:
        """Fold or unfold the group of the selected step."""
        if not self.toggle_fold():
            self.app.bell()

    def _choose(self, node: str) -> None:
        step = self._drawings.first_step(node)
        if self.selected_node != node:
            self.selected = step
            self._last_move = None
            self.post_message(self.Selected(self, step))

    def _target(self, picture: Picture, here: str, direction: Direction) -> str | None:
        if self._last_move is not None:
            before, origin, reached = self._last_move
            if reached == here and before == _OPPOSITE[direction] and origin in picture:
                return origin
        if direction == "left" or direction == "right":
            return picture.beside(here, -1 if direction == "left" else 1)
        linked = picture.parents(here) if direction == "up" else picture.children(here)
        return linked[0] if linked else None
