"""Which wires lead to the selected node and which lead away from it, cell by cell, for the rows on the screen.

The base drawing never changes: a lit cell is told apart by the direction of the wire that is lit in it, so that at a
crossing only one of the two wires shines.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepchain_tui.tui.graph.layout import Band, Drawing
from stepchain_tui.tui.graph.rails import LANE, Rails
from stepchain_tui.tui.graph.routing import Net, Pin

LIT_DOWN, LIT_ACROSS = 1, 2
"""Bits of a lit cell: the wire that is lit goes down, or sideways. At a bend both are set."""


class Emphasis:
    """A selected node with all its ancestors and descendants, by number."""

    def __init__(self, parents: Sequence[Sequence[int]], children: Sequence[Sequence[int]], selected: int) -> None:
        self.towards = _reach(selected, parents)
        """The node and its ancestors: every wire into one of them is lit."""
        self.away = _reach(selected, children)
        """The node and its descendants: every wire out of one of them is lit."""
        self._bands: dict[int, tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]] = {}

    def cells(self, drawing: Drawing, row: int, first: int, end: int) -> bytearray:
        """Return what is lit of `row` of a layered drawing, from column `first` up to, not including, `end`."""
        lit = bytearray(end - first)
        index = drawing.band_at(row)
        if index < 0:
            return lit
        band = drawing.bands[index]
        for pin in band.passing:
            if first <= pin.column < end and self._lights(pin):
                lit[pin.column - first] = LIT_DOWN
        if index not in self._bands:
            self._bands[index] = self._lit_lines(band)
        runs, drops = self._bands[index]
        here = row - band.y
        for at, left, right in runs:
            if at == here:
                for column in range(max(left, first), min(right + 1, end)):
                    lit[column - first] |= LIT_ACROSS
        for column, top, bottom in drops:
            if top <= here < bottom and first <= column < end:
                lit[column - first] |= LIT_DOWN
        return lit

    def rail_cells(self, rails: Rails, row: int, first: int, end: int) -> bytearray:
        """Return what is lit of `row` of rails, from column `first` up to, not including, `end`."""
        here = rails.rows[row]
        lit = bytearray(max(end, here.label_column))
        lanes = rails.lanes_above(row)
        node = rails.number[row]
        for lane, owner in enumerate(lanes):
            if owner >= 0 and self._last_lit_row(rails, owner) >= row:
                lit[lane * LANE] |= LIT_DOWN
        for lane in here.parents:
            if node in self.towards or rails.number[lanes[lane]] in self.away:
                left, right = sorted((lane * LANE, here.lane * LANE))
                for column in range(left, right + 1):
                    lit[column] |= LIT_ACROSS
        if node in self.towards or node in self.away:
            lit[here.lane * LANE] |= LIT_DOWN
        return bytearray(max(0, -first)) + lit[max(0, first) : end]

    def _last_lit_row(self, rails: Rails, owner: int) -> int:
        node = rails.number[owner]
        return max(
            (at for child, at in rails.child_rows[node] if node in self.away or child in self.towards), default=-1
        )

    def _lights(self, pin: Pin) -> bool:
        """Say whether the wire of a trunk point is lit."""
        return pin.node in self.away or any(node in self.towards for node in pin.reaches)

    def _lit_lines(self, band: Band) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
        """Return lit runs (row, first column, last column) and lit drops (column, first row, end row)."""
        runs: list[tuple[int, int, int]] = []
        drops: list[tuple[int, int, int]] = []
        for net in band.nets:
            leading = [pin for pin in net.bottoms if any(node in self.towards for node in pin.reaches)]
            if leading:
                _light(net, net.tops, leading, band.height, runs, drops)
            leaving = [pin for pin in net.tops if pin.node in self.away]
            if leaving:
                _light(net, leaving, net.bottoms, band.height, runs, drops)
        return runs, drops


def _light(
    net: Net,
    tops: list[Pin],
    bottoms: list[Pin],
    height: int,
    runs: list[tuple[int, int, int]],
    drops: list[tuple[int, int, int]],
) -> None:
    """Note what lies between some upper and some lower ends of a net, all of which are linked to each other."""
    if net.row < 0:
        drops.append((tops[0].column, 0, height))
        return
    upper = [pin.column for pin in tops]
    lower = [pin.column for pin in bottoms]
    low = net.row
    if net.jog < 0:
        runs.append((net.row, min(upper + lower), max(upper + lower)))
    else:
        low = net.low_row
        runs.append((net.row, min([*upper, net.jog]), max([*upper, net.jog])))
        runs.append((low, min([*lower, net.jog]), max([*lower, net.jog])))
        drops.append((net.jog, net.row, low + 1))
    drops.extend((column, 0, net.row + 1) for column in upper)
    drops.extend((column, low, height) for column in lower)


def _reach(start: int, links: Sequence[Sequence[int]]) -> frozenset[int]:
    seen, stack = {start}, [start]
    while stack:
        for other in links[stack.pop()]:
            if other not in seen:
                seen.add(other)
                stack.append(other)
    return frozenset(seen)
