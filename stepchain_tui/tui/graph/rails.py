"""Rails: one row per node, wires running down in lanes at the left, for terminals too narrow for layers.

Each row has one node. What runs sideways on it leads into that node, and nowhere else: so a lane that touches it
(`├ ┤ ┼ ╰`-like) comes from one of its parents, and a lane that is crossed (`│`) does not. A lane begins at its node and
ends at the node's last child.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepchain_tui.tui.graph.layers import assign_ranks, read_links
from stepchain_tui.tui.graph.raster import CROSSING, DOWN, LEFT, NODE, RIGHT, UP

LANE = 2
"""Cells from one lane to the next."""


_SNAPSHOT_ROWS = 32


@dataclass(frozen=True, slots=True)
class RailRow:
    """One node and where its wires run."""

    node: str
    lane: int
    """Lane of the node."""
    parents: tuple[int, ...]
    """Lanes that lead into the node."""
    ends: frozenset[int]
    """Lanes that end at this row."""
    starts: bool
    """Whether a lane starts at the node."""
    label_column: int
    """Column at which the label can stand without hiding a lane."""


@dataclass(frozen=True, slots=True)
class Rails:
    """A graph drawn as rails."""

    rows: list[RailRow]
    row_of: dict[str, int]
    """Node to its row."""
    layers: list[list[str]]
    """Nodes by layer, in the order of their rows."""
    number: list[int]
    """Per row the number of its node in the graph's order."""
    child_rows: list[list[tuple[int, int]]]
    """Per node, by number, its children: (number, row)."""
    _snapshots: list[list[int]]
    """Per `_SNAPSHOT_ROWS` rows the owner of each lane before the first of them. To keep them for every row would take
    rows times lanes."""

    def lanes_above(self, row: int) -> list[int]:
        """Return for each lane that comes into `row` from above the row of the node it belongs to, or -1 if free."""
        start = row // _SNAPSHOT_ROWS
        lanes = list(self._snapshots[start])
        for number in range(start * _SNAPSHOT_ROWS, row):
            _advance(lanes, self.rows[number], number)
        return lanes

    def masks(self, row: int) -> bytes:
        """Return the masks of the lanes of `row`, one per cell up to its label."""
        here = self.rows[row]
        cells = bytearray(here.label_column)
        lanes = self.lanes_above(row)
        for lane, owner in enumerate(lanes):
            if owner >= 0:
                cells[lane * LANE] = UP if lane in here.ends else UP | DOWN
        if here.starts:
            cells[here.lane * LANE] |= DOWN
        for lane in here.parents:
            first, last = sorted((lane * LANE, here.lane * LANE))
            for column in range(first, last + 1):
                cells[column] |= (RIGHT if column < last else 0) | (LEFT if column > first else 0)
        touched = {here.lane, *here.parents}
        for lane, owner in enumerate(lanes):
            if owner >= 0 and lane not in touched and cells[lane * LANE] & (LEFT | RIGHT):
                cells[lane * LANE] |= CROSSING
        cells[here.lane * LANE] |= NODE
        return bytes(cells)


def _advance(lanes: list[int], row: RailRow, number: int) -> None:
    """Turn the lanes that come into a row into those that leave it."""
    for lane in row.ends:
        lanes[lane] = -1
    if row.starts:
        lanes.extend([-1] * (row.lane + 1 - len(lanes)))
        lanes[row.lane] = number
    while lanes and lanes[-1] < 0:
        lanes.pop()


def lay_rails(graph: Mapping[str, Sequence[str]]) -> Rails:
    """Draw `graph` (node to its parents) as rails.

    Raises:
        ValueError: A parent is unknown or the links form a cycle.
    """
    names, parents, children = read_links(graph)
    rank = assign_ranks(parents, children)
    lanes: list[int] = []
    lane_of: dict[int, int] = {}
    left = [len(below) for below in children]
    rows: list[RailRow] = []
    snapshots: list[list[int]] = []
    row_of: dict[str, int] = {}
    layers: list[list[str]] = [[] for _ in range(max(rank, default=-1) + 1)]
    order = _row_order(parents, children)
    for number, node in enumerate(order):
        if number % _SNAPSHOT_ROWS == 0:
            snapshots.append(list(lanes))
        coming = tuple(sorted(lane_of[parent] for parent in parents[node]))
        for parent in parents[node]:
            left[parent] -= 1
        ends = frozenset(lane_of[parent] for parent in parents[node] if not left[parent])
        lane_of[node] = lane = min(ends) if ends else _free_lane(lanes)
        label_column = (max(len(lanes), lane + 1)) * LANE
        rows.append(RailRow(names[node], lane, coming, ends, bool(children[node]), label_column))
        row_of[names[node]] = number
        layers[rank[node]].append(names[node])
        _advance(lanes, rows[-1], number)
    child_rows = [[(child, row_of[names[child]]) for child in below] for below in children]
    return Rails(rows, row_of, layers, order, child_rows, snapshots)


def _free_lane(lanes: list[int]) -> int:
    return next((lane for lane, owner in enumerate(lanes) if owner < 0), len(lanes))


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
