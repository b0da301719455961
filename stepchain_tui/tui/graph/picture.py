"""What a view needs of a drawing, whichever way it is drawn: boxes, pills or rails.

A picture is made from a graph and how wide its labels are; it answers where nodes are, who is whose neighbour, and what
the wires of one row look like. Labels and colours change all the time and are not in it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from stepchain_tui.tui.graph.emphasis import LIT_DOWN, Emphasis
from stepchain_tui.tui.graph.layers import read_links
from stepchain_tui.tui.graph.layout import Box, lay_out
from stepchain_tui.tui.graph.rails import lay_rails
from stepchain_tui.tui.graph.raster import CROSSING, Raster, draw_text

Kind = Literal["boxes", "pills", "rails"]

_GAPS = {"boxes": 2, "pills": 3}
_BORDERS = 2


class _Layer(Protocol):
    """How one kind of drawing answers for its rows."""

    width: int
    height: int
    layers: list[list[str]]

    def box(self, node: str) -> Box: ...
    def boxes_at(self, row: int) -> Sequence[Box]: ...
    def masks(self, row: int, first: int, end: int) -> bytes: ...
    def lit(self, emphasis: Emphasis, row: int, first: int, end: int) -> bytearray: ...


class _Layered:
    def __init__(self, graph: Mapping[str, Sequence[str]], labels: Mapping[str, int], kind: Kind) -> None:
        widths = {node: cells + _BORDERS for node, cells in labels.items()}
        self._drawing = lay_out(graph, widths, box_height=3 if kind == "boxes" else 1, gap=_GAPS[kind])
        self._raster = Raster(self._drawing)
        self.width, self.height = self._drawing.width, self._drawing.height
        self.layers = self._drawing.layers
        self.hidden = self._drawing.hidden
        self.masks = self._raster.masks
        self.boxes_at = self._drawing.boxes_at
        self.box = self._drawing.boxes.__getitem__

    def lit(self, emphasis: Emphasis, row: int, first: int, end: int) -> bytearray:
        return emphasis.cells(self._drawing, row, first, end)


class _Railed:
    def __init__(self, graph: Mapping[str, Sequence[str]], labels: Mapping[str, int]) -> None:
        self._rails = lay_rails(graph)
        self._labels = labels
        self.width = max((row.label_column + labels[row.node] for row in self._rails.rows), default=0)
        self.height = len(self._rails.rows)
        self.layers = self._rails.layers

    def box(self, node: str) -> Box:
        row = self._rails.row_of[node]
        return Box(node, self._rails.rows[row].label_column, row, self._labels[node], 1)

    def boxes_at(self, row: int) -> list[Box]:
        return [self.box(self._rails.rows[row].node)] if 0 <= row < self.height else []

    def masks(self, row: int, first: int, end: int) -> bytes:
        if not 0 <= row < self.height:
            return bytes(max(0, end - first))
        cells = self._rails.masks(row)
        inside = cells[max(0, first) : max(0, end)]
        before = min(max(0, -first), end - first)
        return bytes(before) + inside + bytes(end - first - before - len(inside))

    def lit(self, emphasis: Emphasis, row: int, first: int, end: int) -> bytearray:
        return emphasis.rail_cells(self._rails, row, first, end)


class Picture:
    """One drawing of one graph."""

    def __init__(self, graph: Mapping[str, Sequence[str]], labels: Mapping[str, int], kind: Kind) -> None:
        """Draw `graph`; this is the slow part, and needs nothing but its arguments.

        Args:
            graph: Node to its parents.
            labels: Cells to keep for each node's label.
            kind: Frames of three rows, one-line pills, or rails.

        Raises:
            ValueError: A parent is unknown or the links form a cycle.
        """
        self.kind = kind
        self.hidden: list[tuple[str, str]] = []
        """Links left out because others imply them and the drawing would be too large."""
        names, parents, children = read_links(graph)
        self._names, self._parents, self._children = names, parents, children
        self._number = {name: number for number, name in enumerate(names)}
        self._drawn: _Layer
        if kind == "rails":
            self._drawn = _Railed(graph, labels)
        else:
            layered = _Layered(graph, labels, kind)
            self._drawn, self.hidden = layered, layered.hidden
        self._layer_of = {node: layer for layer in self._drawn.layers for node in layer}
        self.width, self.height = self._drawn.width, self._drawn.height
        self.box, self.boxes_at, self.masks = self._drawn.box, self._drawn.boxes_at, self._drawn.masks

    def __contains__(self, node: object) -> bool:
        return node in self._number

    @property
    def nodes(self) -> list[str]:
        """All nodes, in the graph's order."""
        return self._names

    def node_at(self, column: int, row: int) -> str | None:
        """Return the node drawn at a cell."""
        boxes = self.boxes_at(row)
        index = bisect_right(boxes, column, key=lambda box: box.x) - 1
        if index < 0:
            return None
        box = boxes[index]
        return box.node if column < box.x + box.width else None

    def boxes_between(self, row: int, first: int, end: int) -> Sequence[Box]:
        """Return the boxes of a row of which a cell is between column `first` and, not included, `end`."""
        boxes = self.boxes_at(row)
        start = bisect_right(boxes, first, key=lambda box: box.x + box.width)
        return boxes[start : bisect_left(boxes, end, key=lambda box: box.x)]

    def parents(self, node: str) -> list[str]:
        """Return the parents of `node`, the nearest to it in the drawing first."""
        return self._nearest(node, self._parents[self._number[node]])

    def children(self, node: str) -> list[str]:
        """Return the children of `node`, the nearest to it in the drawing first."""
        return self._nearest(node, self._children[self._number[node]])

    def _nearest(self, node: str, others: Sequence[int]) -> list[str]:
        here = self.box(node)

        def distance(name: str) -> tuple[int, int]:
            box = self.box(name)
            return abs(box.x + box.width // 2 - here.x - here.width // 2), abs(box.y - here.y)

        return sorted((self._names[other] for other in others), key=distance)

    def beside(self, node: str, step: int) -> str | None:
        """Return the node `step` places to the right of `node` in its layer (negative: to the left)."""
        layer = self._layer_of[node]
        place = layer.index(node) + step
        return layer[place] if 0 <= place < len(layer) else None

    def emphasis(self, node: str) -> Emphasis:
        """Return what is lit when `node` is selected."""
        return Emphasis(self._parents, self._children, self._number[node])

    def wires(
        self, row: int, first: int, end: int, emphasis: Emphasis | None, characters: Mapping[int, str]
    ) -> list[tuple[str, bool]]:
        """Return the wires of a stretch of a row as (text, lit), from column `first` up to, not including, `end`."""
        if end <= first:
            return []
        masks = self._drawn.masks(row, first, end)
        if emphasis is None or not 0 <= row < self.height:
            return [(draw_text(masks, characters), False)]
        lit = self._drawn.lit(emphasis, row, first, end)
        # A crossing shows the wire that goes down: it does not shine for the one below it.
        shines = [bool(bits & LIT_DOWN if mask & CROSSING else bits) for mask, bits in zip(masks, lit, strict=True)]
        runs: list[tuple[str, bool]] = []
        start = 0
        for index in range(1, len(masks) + 1):
            if index == len(masks) or shines[index] != shines[start]:
                runs.append((draw_text(masks[start:index], characters), shines[start]))
                start = index
        return runs
