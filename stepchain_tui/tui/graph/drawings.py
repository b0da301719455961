"""The drawings of one graph: which groups are folded, which kind of drawing fits, and those made so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from stepchain_tui.tui.graph.collapse import Collapsed, collapse
from stepchain_tui.tui.graph.faces import Faces
from stepchain_tui.tui.graph.labels import cell_len
from stepchain_tui.tui.graph.layers import read_links, topological_order
from stepchain_tui.tui.graph.picture import Kind, Picture

GraphStyle = Literal["auto", "boxes", "pills", "rails"]

BOX_NODES = 60
"""Most nodes for which boxes are tried when the style is chosen by size."""
NARROW = 40
"""Columns below which rails are chosen."""
BOX_MARKS = 3
"""Cells kept free in a box, one per mark there can be, so that marks never move the drawing."""
PILL_MARKS = 1
"""Cells kept free in a pill: a second mark makes it wider, and the graph is drawn again."""


class Drawings:
    """A graph, its folded groups and its pictures."""

    def __init__(self, faces: Faces) -> None:
        self.graph: dict[str, tuple[str, ...]] = {}
        """Step to its parents, nothing folded."""
        self.collapsed: Collapsed = collapse({})
        """The graph as it is drawn."""
        self.edition = 0
        """Counts what makes earlier pictures worthless."""
        self._faces = faces
        self._unfolded: set[str] = set()
        self._pictures: dict[Kind, Picture] = {}

    def set_graph(self, parents: Mapping[str, Sequence[str]]) -> None:
        """Take over another graph.

        Raises:
            ValueError: A parent is unknown or the links form a cycle.
        """
        graph = {step: tuple(ids) for step, ids in parents.items()}
        if graph == self.graph:
            return
        _, above, below = read_links(graph)
        topological_order(above, below)
        self.graph = graph
        self._fold()

    def toggle(self, step: str) -> bool:
        """Unfold the group of `step`, or fold it again; say whether it belongs to one."""
        key = self.collapsed.foldable.get(step)
        if key is None:
            return False
        self._unfolded ^= {key}
        self._fold()
        return True

    def _fold(self) -> None:
        self.collapsed = collapse(self.graph, opened=self._unfolded)
        self._faces.regroup(self.collapsed.groups, self.collapsed.node_of)
        self.forget()

    def forget(self) -> None:
        """Drop the pictures made so far: labels need more room, or other characters."""
        self._pictures = {}
        self.edition += 1

    @property
    def size(self) -> int:
        """How much there is to draw: nodes, or a quarter of the links where they are more."""
        graph = self.collapsed.graph
        return max(len(graph), sum(map(len, graph.values())) // 4)

    def kind_for(self, style: GraphStyle, columns: int, rows: int) -> Kind:
        """Return how to draw in a space of `columns` by `rows` cells."""
        if style != "auto":
            return style
        if columns < NARROW:
            return "rails"
        if self.size > BOX_NODES:
            return "pills"
        boxes = self.make("boxes")
        return "boxes" if boxes.width <= columns and boxes.height <= rows else "pills"

    def made(self, kind: Kind) -> Picture | None:
        """Return a picture made before."""
        return self._pictures.get(kind)

    def make(self, kind: Kind) -> Picture:
        """Return a picture, made here and now if need be."""
        if kind not in self._pictures:
            self._pictures[kind] = Picture(*self.order(kind))
        return self._pictures[kind]

    def keep(self, picture: Picture, edition: int) -> bool:
        """Keep a picture that was made elsewhere; say whether it is still worth something."""
        if edition != self.edition:
            return False
        self._pictures[picture.kind] = picture
        return True

    def order(self, kind: Kind) -> tuple[Mapping[str, Sequence[str]], dict[str, int], Kind]:
        """Return the arguments of `Picture`: plain data that a thread may use."""
        widths = {}
        for node in self.collapsed.graph:
            cells, marks = cell_len(self._faces.label(node)), len(self._faces.face(node).marks)
            kept = {"boxes": BOX_MARKS, "pills": max(PILL_MARKS, marks), "rails": marks}[kind]
            widths[node] = cells - marks + kept
        return self.collapsed.graph, widths, kind
