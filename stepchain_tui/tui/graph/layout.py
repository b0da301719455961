"""A layered drawing of a graph on a grid of character cells, top to bottom.

The drawing is a stack of *bands*: layers of boxes and, between two layers, channels in which the wires run. It holds
places only: no character, no colour and nothing that changes while a plan runs. Rows and columns are cells, 0 being
the top left of the drawing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from stepchain_tui.tui.graph.coordinates import assign_columns
from stepchain_tui.tui.graph.layers import Layered, build_layers
from stepchain_tui.tui.graph.ordering import order_layers
from stepchain_tui.tui.graph.routing import Net, Pin, assign_rows, choose_entries

ROOMY_ENTRIES = 12
"""Incoming nets up to which a box is made wide enough to leave a free cell between their columns."""


@dataclass(frozen=True, slots=True)
class Box:
    """The place of one node."""

    node: str
    x: int
    """Left column."""
    y: int
    """Top row."""
    width: int
    height: int
    entries: tuple[int, ...] = ()
    """Columns at which wires come in from above."""
    exit: int = -1
    """Column at which its wire leaves below; -1 if it has none."""


@dataclass(slots=True)
class Band:
    """A layer of boxes, or the channel below one."""

    y: int
    height: int
    boxes: list[Box] = field(default_factory=list)
    """Boxes from left to right; none in a channel."""
    passing: list[Pin] = field(default_factory=list)
    """Wires that pass a layer, from left to right; none in a channel."""
    nets: list[Net] = field(default_factory=list)
    """Wires of a channel; none in a layer."""


@dataclass(slots=True)
class Drawing:
    """Everything that is needed to draw a graph, except what its nodes look like."""

    width: int
    height: int
    names: list[str]
    """Node names by number, as `Pin` uses them."""
    boxes: dict[str, Box]
    """The place of each node by name."""
    layers: list[list[str]]
    """Nodes of each layer from left to right."""
    bands: list[Band]
    """All bands from top to bottom, without gaps."""
    hidden: list[tuple[str, str]]
    """Links (parent, child) left out because other links imply them and the drawing would be too large."""
    _starts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._starts = [band.y for band in self.bands]

    def band_at(self, row: int) -> int:
        """Return the number of the band that holds `row`, or -1 if the drawing does not reach that far."""
        return bisect_right(self._starts, row) - 1 if 0 <= row < self.height else -1

    def boxes_at(self, row: int) -> list[Box]:
        """Return the boxes that cross `row`, from left to right."""
        index = self.band_at(row)
        return self.bands[index].boxes if index >= 0 else []


def lay_out(
    graph: Mapping[str, Sequence[str]], widths: Mapping[str, int], *, box_height: int = 3, gap: int = 2
) -> Drawing:
    """Draw `graph` in layers.

    Args:
        graph: Node to its parents, in the order that ties are broken by.
        widths: Cells that each node's box needs, borders included. A box is made wider if more wires enter it.
        box_height: Rows per box: 3 for a frame around the label, 1 for the label alone.
        gap: Least number of free columns between two boxes.

    Raises:
        ValueError: A parent is unknown or the links form a cycle.
    """
    layered = build_layers(graph)
    order_layers(layered)
    incoming = [_nets(layered, layer) for layer in layered.layers]
    cells = _cells(layered, widths, incoming)
    left = assign_columns(layered, cells, gap)
    return _assemble(layered, cells, left, incoming, box_height)


def _nets(layered: Layered, layer: Iterable[int]) -> list[tuple[list[int], list[int]]]:
    """Return the nets that leave a layer: sources and targets, sources with the same targets being in one net."""
    nets: dict[tuple[int, ...], list[int]] = {}
    for item in layer:
        if layered.below[item]:
            nets.setdefault(tuple(sorted(layered.below[item])), []).append(item)
    return [(sources, list(targets)) for targets, sources in nets.items()]


def _cells(layered: Layered, widths: Mapping[str, int], nets: list[list[tuple[list[int], list[int]]]]) -> list[int]:
    """Return the width of each item in cells."""
    entering = [0] * len(layered.rank)
    for channel in nets:
        for _, targets in channel:
            for target in targets:
                entering[target] += 1
    cells = []
    for item, count in enumerate(entering):
        if layered.is_node(item):
            room = 2 * count + 1 if count <= ROOMY_ENTRIES else count + 2
            cells.append(max(3, widths[layered.names[item]], room))
        else:
            cells.append(1)
    return cells


def _assemble(
    layered: Layered,
    cells: list[int],
    left: list[int],
    nets: list[list[tuple[list[int], list[int]]]],
    box_height: int,
) -> Drawing:
    """Route the channels and stack the bands."""
    names = layered.names
    bands: list[Band] = []
    boxes: dict[str, Box] = {}
    exits = [left[item] + cells[item] // 2 for item in range(len(cells))]
    entries: dict[int, list[int]] = {}
    y = 0
    right = max((left[item] + cells[item] for item in range(len(cells))), default=0)
    for number, layer in enumerate(layered.layers):
        band = Band(y, box_height)
        for item in layer:
            if layered.is_node(item):
                leaves = exits[item] if layered.below[item] else -1
                box = Box(names[item], left[item], y, cells[item], box_height, tuple(entries.get(item, ())), leaves)
                band.boxes.append(box)
                boxes[box.node] = box
            else:
                band.passing.append(_pin_below(layered, item, left[item]))
        bands.append(band)
        y += box_height
        if number + 1 < len(layered.layers):
            channel = _route(layered, nets[number], cells, left, exits, entries)
            height = assign_rows(channel)
            bands.append(Band(y, height, nets=channel))
            right = max([right, *(net.jog + 1 for net in channel)])
            y += height
    layers = [[names[item] for item in layer if layered.is_node(item)] for layer in layered.layers]
    hidden = [(names[parent], names[child]) for parent, child in layered.hidden]
    return Drawing(right, y, names, boxes, layers, bands, hidden)


def _pin_below(layered: Layered, item: int, column: int) -> Pin:
    """Return the end of a net at `item`: a node, or a trunk point with all that lies beyond it."""
    if layered.is_node(item):
        return Pin(column, item, (item,))
    source, rank = layered.source[item], layered.rank[item]
    return Pin(column, source, tuple(child for child in layered.children[source] if layered.rank[child] > rank))


def _route(
    layered: Layered,
    groups: list[tuple[list[int], list[int]]],
    cells: list[int],
    left: list[int],
    exits: list[int],
    entries: dict[int, list[int]],
) -> list[Net]:
    """Return the nets of one channel with all their ends, and note in `entries` where they enter the boxes below."""
    nets = [Net([Pin(exits[item], layered.source[item]) for item in sources]) for sources, _ in groups]
    leaving = {pin.column: index for index, net in enumerate(nets) for pin in net.tops}
    coming: dict[int, list[int]] = {}
    for index, (_, targets) in enumerate(groups):
        for target in targets:
            coming.setdefault(target, []).append(index)
    for target, indexes in coming.items():
        if not layered.is_node(target):
            nets[indexes[0]].bottoms.append(_pin_below(layered, target, left[target]))
            continue
        chosen = _entries_of(target, indexes, nets, cells, left, leaving)
        entries[target] = sorted(column for _, column in chosen)
        for index, column in chosen:
            nets[index].bottoms.append(Pin(column, target, (target,)))
    return nets


def _entries_of(
    target: int, indexes: list[int], nets: list[Net], cells: list[int], left: list[int], leaving: dict[int, int]
) -> list[tuple[int, int]]:
    """Return (net, column) for each net that enters the box of `target`, from left to right."""
    first, last = left[target] + 1, left[target] + cells[target] - 2
    centre = left[target] + cells[target] // 2
    middles = {}
    for index in indexes:
        columns = sorted(pin.column for pin in nets[index].tops)
        middles[index] = columns[len(columns) // 2]
    in_order = sorted(indexes, key=lambda index: (middles[index], index))
    wanted: list[tuple[int, bool]] = []
    for place, index in enumerate(in_order):
        above = [pin.column for pin in nets[index].tops if first <= pin.column <= last]
        if above:
            wanted.append((min(above, key=lambda column: abs(column - centre)), True))
        elif len(in_order) == 1:
            wanted.append((centre, False))
        else:
            wanted.append((first + (2 * place + 1) * (last - first) // (2 * len(in_order)), False))
    taken = {column for column in range(first, last + 1) if column in leaving}
    return list(zip(in_order, choose_entries(first, last, wanted, taken), strict=True))
