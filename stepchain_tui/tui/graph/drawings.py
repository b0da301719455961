"""The drawings of one graph: what is folded into groups, which kind of drawing fits, and those made so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from stepchain_tui.run.ids import is_inside, parent_path
from stepchain_tui.tui.graph.collapse import Collapsed, collapse, group_name
from stepchain_tui.tui.graph.faces import Faces
from stepchain_tui.tui.graph.labels import cell_len
from stepchain_tui.tui.graph.layers import read_links, topological_order
from stepchain_tui.tui.graph.parts import Folded, Parts, fold_parts
from stepchain_tui.tui.graph.picture import Kind, Picture

GraphStyle = Literal["auto", "boxes", "pills", "rails"]

BOX_NODES = 60
"""Most nodes for which boxes are tried when the style is chosen by size."""
NARROW = 40
"""Columns below which rails are chosen."""
BOX_MARKS = 3
"""Cells kept free in a box, so that marks move the drawing only where a step has more of them."""
PILL_MARKS = 1
"""Cells kept free in a pill: a second mark makes it wider, and the graph is drawn again."""


class Drawings:
    """A graph, its folded groups and its pictures."""

    def __init__(self, faces: Faces) -> None:
        self.graph: dict[str, tuple[str, ...]] = {}
        """Step to its parents, nothing folded."""
        self.node_of: dict[str, str] = {}
        """Step to the group that it is drawn as; steps on their own are not in it."""
        self.edition = 0
        """Counts what makes earlier pictures worthless."""
        self._faces = faces
        self._parts = Parts()
        self._toggled: set[str] = set()
        self._unfolded: set[str] = set()
        self._folded = Folded({})
        self._collapsed: Collapsed = collapse({})
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
        self.graph, self._parts = graph, Parts.of(graph)
        self._fold()

    def first_step(self, node: str) -> str:
        """Return the step that a node of the drawing stands for: the first one of a group."""
        while node not in self.graph:
            node = (self._collapsed.groups.get(node) or self._folded.groups[node])[0]
        return node

    def toggle(self, step: str) -> bool:
        """Unfold the group that `step` is drawn in, or fold what it belongs to; say whether there is either."""
        node = self._folded.node_of.get(step, step)
        alike = self._collapsed.foldable.get(node)
        scopes = self._parts.scopes.get(step, ())
        if node in self._collapsed.node_of:
            self._toggle_alike(node)
        elif node != step or step in self._parts.members:
            self._toggle_scope(node)
        elif alike is not None:
            self._toggle_alike(node)
        elif scopes:
            self._toggle_scope(scopes[-1])
        else:
            return False
        self._fold()
        return True

    def _toggle_alike(self, node: str) -> None:
        foldable = self._collapsed.foldable
        alike = {other for other, key in foldable.items() if key == foldable[node]}
        # All of them are noted: whichever is opened further and then no longer alike, the others stay as they are.
        self._unfolded = self._unfolded - alike if self._unfolded & alike else self._unfolded | alike

    def _toggle_scope(self, scope: str) -> None:
        self._toggled ^= {scope}
        # What is alike within it is folded again too: its items can be reached by no other key.
        self._unfolded -= {key for key in self._unfolded if is_inside(key, scope)}

    def _fold(self) -> None:
        folded = self._folded = fold_parts(self.graph, self._parts, self._toggled)
        collapsed = self._collapsed = collapse(folded.graph, opened=self._unfolded, kin=parent_path)
        around = collapsed.node_of
        self.node_of = {step: around.get(node, node) for step, node in folded.node_of.items()}
        self.node_of.update((node, group) for node, group in around.items() if node in self.graph)
        names = {**folded.names, **{group: self._name(members) for group, members in collapsed.groups.items()}}
        self._faces.regroup(
            {**folded.groups, **collapsed.groups}, {**folded.node_of, **around}, names if self._parts.members else None
        )
        self.forget()

    def _name(self, members: Sequence[str]) -> str:
        first, last = (self._folded.names.get(node, node) for node in (members[0], members[-1]))
        return group_name(first, last, len(members))

    def forget(self) -> None:
        """Drop the pictures made so far: labels need more room, or other characters."""
        self._pictures = {}
        self.edition += 1

    @property
    def size(self) -> int:
        """How much there is to draw: nodes, or a quarter of the links where they are more."""
        graph = self._collapsed.graph
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
        for node in self._collapsed.graph:
            cells, marks = cell_len(self._faces.label(node)), len(self._faces.face(node).marks)
            kept = {"boxes": max(BOX_MARKS, marks), "pills": max(PILL_MARKS, marks), "rails": marks}[kind]
            widths[node] = cells - marks + kept
        return self._collapsed.graph, widths, kind
