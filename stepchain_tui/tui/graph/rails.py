"""Rails: one row per node, wires running down in lanes at the left, for terminals too narrow for layers.

Each row has one node. What runs sideways on it leads into that node, and nowhere else: so a lane that touches it
(`├ ┤ ┼ ╰`-like) comes from one of its parents, and a lane that is crossed (`│`) does not. A lane begins at its node and
ends at the node's last child.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepchain_tui.tui.graph.layers import assign_ranks, read_links
from stepchain_tui.tui.graph.raster import CROSSING, DOWN, LEFT, RIGHT, UP

LANE = 2
"""Cells from one lane to the next."""


@dataclass(frozen=True, slots=True)
class RailRow:
    """One node and the lanes beside it."""

    node: str
    lane: int
    """Lane of the node."""
    parents: tuple[int, ...]
    """Lanes that lead into the node."""
    passing: tuple[tuple[int, int], ...]
    """(lane, row of the node whose wire it is) of every lane that comes from above."""
    ends: frozenset[int]
    """Lanes that end at this row."""
    starts: bool
    """Whether a lane starts at the node."""

    @property
    def label_column(self) -> int:
        """Column at which the label can stand without hiding a lane."""
        lanes = [self.lane, *(lane for lane, _ in self.passing)]
        return (max(lanes) + 1) * LANE


@dataclass(frozen=True, slots=True)
class Rails:
    """A graph drawn as rails."""

    rows: list[RailRow]
    row_of: dict[str, int]
    """Node to its row."""
    layers: list[list[str]]
    """Nodes by layer, in the order of their rows."""

    def masks(self, row: int) -> bytes:
        """Return the masks of the lanes of `row`, one per cell up to its label."""
        here = self.rows[row]
        cells = bytearray(here.label_column)
        for lane, _ in here.passing:
            cells[lane * LANE] = UP if lane in here.ends else UP | DOWN
        if here.starts:
            cells[here.lane * LANE] |= DOWN
        for lane in here.parents:
            first, last = sorted((lane, here.lane))
            for column in range(first * LANE, last * LANE + 1):
                cells[column] |= (RIGHT if column < last * LANE else 0) | (LEFT if column > first * LANE else 0)
        touched = {here.lane, *here.parents}
        for lane, _ in here.passing:
            if lane not in touched and cells[lane * LANE] & (LEFT | RIGHT):
                cells[lane * LANE] |= CROSSING
        return bytes(cells)


def lay_rails(graph: Mapping[str, Sequence[str]]) -> Rails:
    """Draw `graph` (node to its parents) as rails.

    Raises:
        ValueError: A parent is unknown or the links form a cycle.
    """
    names, parents, children = read_links(graph)
    rank = assign_ranks(parents, children)
    order = _row_order(parents, children)
    row_of = {node: row for row, node in enumerate(order)}
    lanes: list[int | None] = []
    lane_of: dict[int, int] = {}
    left = [len(below) for below in children]
    rows = []
    for node in order:
        passing = tuple((lane, row_of[owner]) for lane, owner in enumerate(lanes) if owner is not None)
        coming = tuple(sorted(lane_of[parent] for parent in parents[node]))
        ends = []
        for parent in parents[node]:
            left[parent] -= 1
            if not left[parent]:
                ends.append(lane_of[parent])
                lanes[lane_of[parent]] = None
        lane = min(ends) if ends else _free_lane(lanes)
        if lane == len(lanes):
            lanes.append(None)
        lane_of[node] = lane
        if children[node]:
            lanes[lane] = node
        rows.append(RailRow(names[node], lane, coming, passing, frozenset(ends), bool(children[node])))
    layers: list[list[str]] = [[] for _ in range(max(rank, default=-1) + 1)]
    for node in order:
        layers[rank[node]].append(names[node])
    return Rails(rows, {names[node]: row for node, row in row_of.items()}, layers)


def _free_lane(lanes: list[int | None]) -> int:
    return next((lane for lane, owner in enumerate(lanes) if owner is None), len(lanes))


def _row_order(parents: Sequence[Sequence[int]], children: Sequence[Sequence[int]]) -> list[int]:
    """Return the nodes with parents first and each branch followed to its end, so that few lanes run side by side."""
    waiting = [len(above) for above in parents]
    stack = [node for node in reversed(range(len(parents))) if not waiting[node]]
    order = []
    while stack:
        node = stack.pop()
        order.append(node)
        for child in reversed(children[node]):
            waiting[child] -= 1
            if not waiting[child]:
                stack.append(child)
    return order
