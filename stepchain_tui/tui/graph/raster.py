"""From places to characters: masks of the directions in which a wire leaves a cell.

A band is rasterised when a row of it is first looked at, and a limited number of them is kept: so neither time nor
memory depends on the size of the whole drawing. Two wires in one cell are a *crossing* and are never merged: the cell
shows one wire on top of the other. Only ends of one net join.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from stepchain_tui.tui.graph.layout import Band, Drawing
from stepchain_tui.tui.graph.routing import Net

UP, DOWN, LEFT, RIGHT, CROSSING, NODE = 1, 2, 4, 8, 16, 32
"""Bits of a mask: four directions, two wires that do not join, the place of a node on its rail."""

_KEPT_BANDS = 96


def _characters(lines: str, node: str) -> dict[int, str]:
    table = dict(enumerate(lines))
    table.update({CROSSING | mask: lines[UP | DOWN] for mask in range(CROSSING)})
    table.update({NODE | mask: node for mask in range(NODE)})
    return table


LINES = _characters(" │││─┘┐┤─└┌├─┴┬┼", "●")
"""Mask to box-drawing character; a crossing shows the wire that goes down."""
ASCII_LINES = _characters(" |||-+++-+++-+++", "o")
"""Mask to ASCII character, for terminals without box drawing."""

_ACROSS = bytes((mask | LEFT | RIGHT) & 255 for mask in range(256))
_DOWNWARDS = bytes((mask | UP | DOWN | (CROSSING if mask & (LEFT | RIGHT) else 0)) & 255 for mask in range(256))


class Raster:
    """The wires of a drawing as rows of masks."""

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._bands: OrderedDict[int, bytes] = OrderedDict()

    def masks(self, row: int, first: int, end: int) -> bytes:
        """Return one mask per cell of `row` from column `first` up to, not including, `end`.

        Cells outside the drawing are empty.
        """
        index = self._drawing.band_at(row)
        width = self._drawing.width
        if index < 0 or first >= width or end <= 0:
            return bytes(max(0, end - first))
        band = self._drawing.bands[index]
        cells = self._band(index)
        start = (row - band.y) * width if band.nets else 0
        inside = cells[start + max(0, first) : start + min(end, width)]
        return bytes(max(0, -first)) + inside + bytes(max(0, end - width))

    def _band(self, index: int) -> bytes:
        cells = self._bands.get(index)
        if cells is None:
            band = self._drawing.bands[index]
            cells = bytes(
                draw_channel(band, self._drawing.width) if band.nets else draw_layer(band, self._drawing.width)
            )
            self._bands[index] = cells
            if len(self._bands) > _KEPT_BANDS:
                self._bands.popitem(last=False)
        else:
            self._bands.move_to_end(index)
        return cells


def draw_layer(band: Band, width: int) -> bytearray:
    """Return the masks of the wires that pass a layer: `width` cells, the same for each of its rows."""
    cells = bytearray(width)
    for pin in band.passing:
        cells[pin.column] = UP | DOWN
    return cells


def draw_channel(band: Band, width: int) -> bytearray:
    """Return the masks of a channel, row after row, `width` cells each."""
    cells = bytearray(width * band.height)
    for net in band.nets:
        for row, (first, last) in net.runs():
            start = row * width
            cells[start + first] |= RIGHT
            cells[start + last] |= LEFT
            _fill(cells, start + first + 1, start + last, 1, _ACROSS)
    for net in band.nets:
        for column, top, bottom in net.drops(band.height):
            _fill(cells, top * width + column, bottom * width + column, width, _DOWNWARDS)
    # Ends last: they belong to the wire they meet, so they must not be taken for crossings.
    for net in band.nets:
        if net.row >= 0:
            _join(cells, net, width)
    return cells


def _fill(cells: bytearray, start: int, end: int, step: int, table: bytes) -> None:
    if start < end:
        cells[start:end:step] = cells[start:end:step].translate(table)


def _join(cells: bytearray, net: Net, width: int) -> None:
    low = net.row if net.jog < 0 else net.low_row
    for pin in net.tops:
        cells[net.row * width + pin.column] |= UP
    for pin in net.bottoms:
        cells[low * width + pin.column] |= DOWN
    if net.jog >= 0:
        cells[net.row * width + net.jog] |= DOWN
        cells[low * width + net.jog] |= UP


def draw_text(masks: bytes | bytearray, characters: Mapping[int, str]) -> str:
    """Return the masks of one row as text."""
    return masks.decode("latin-1").translate(characters)
