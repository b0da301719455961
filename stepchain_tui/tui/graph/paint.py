"""One row of a picture as text with the names of its styles: what a line-drawing view puts on the screen."""

from __future__ import annotations

from dataclasses import dataclass

from stepchain_tui.tui.graph.emphasis import Emphasis
from stepchain_tui.tui.graph.faces import Faces
from stepchain_tui.tui.graph.frames import ASCII_HEAVY, ASCII_PLAIN, HEAVY, PLAIN, node_line
from stepchain_tui.tui.graph.layout import Box
from stepchain_tui.tui.graph.picture import Picture
from stepchain_tui.tui.graph.raster import ASCII_LINES, LINES

Run = tuple[str, tuple[str, ...]]
"""Text, and the component classes that style it: the later ones lie over the earlier."""

WIRE: tuple[str, ...] = ("graph--wire",)
LIT_WIRE: tuple[str, ...] = ("graph--wire", "graph--wire-lit")


@dataclass(slots=True)
class Painter:
    """A picture together with all that changes on it."""

    picture: Picture
    faces: Faces
    selected: str | None = None
    """The node that shines."""
    emphasis: Emphasis | None = None
    """The wires that shine with it."""

    def select(self, node: str | None) -> None:
        """Let `node` and its wires shine; None, or a node that is not drawn: nothing."""
        self.selected = node if node in self.picture else None
        self.emphasis = None if self.selected is None else self.picture.emphasis(self.selected)

    def row(self, row: int, first: int, end: int) -> tuple[int, list[Run]]:
        """Return a row as (column of its first cell, runs).

        The runs cover at least column `first` up to, not including, `end`: a node that is cut by either is whole in
        them, so that wide characters are cut by whoever knows the cells.
        """
        boxes = self.picture.boxes_between(row, first, end)
        start = min(first, boxes[0].x) if boxes else first
        runs: list[Run] = []
        column = start
        for box in boxes:
            runs.extend(self._wires(row, column, box.x))
            runs.extend(self._node(box, row - box.y))
            column = box.x + box.width
        runs.extend(self._wires(row, column, end))
        return start, runs

    def _wires(self, row: int, first: int, end: int) -> list[Run]:
        lines = ASCII_LINES if self.faces.ascii else LINES
        runs = self.picture.wires(row, first, end, self.emphasis, lines)
        return [(text, LIT_WIRE if lit else WIRE) for text, lit in runs]

    def _node(self, box: Box, line: int) -> list[Run]:
        chosen = box.node == self.selected
        plain, heavy = (ASCII_PLAIN, ASCII_HEAVY) if self.faces.ascii else (PLAIN, HEAVY)
        frame = heavy if chosen else plain
        kind = self.picture.kind
        left, inside, right = node_line(box, line, self.faces.label(box.node), kind, frame)
        status = ("graph--node", f"graph--{self.faces.face(box.node).style_name}")
        shining = (*status, "graph--selected") if chosen else status
        if kind == "boxes":
            return [(left, status), (inside, shining if line == 1 else status), (right, status)]
        pill = right.rstrip(" ")
        return [(left + inside + pill, shining), (right[len(pill) :], WIRE)]
