"""The drawing of a plan's graph on character cells: layers, wires, rails, collapsed siblings.

Owns places and line characters; imports nothing from the house and no screen library.
"""

from stepchain_tui.tui.graph.layout import Band, Box, Drawing, lay_out
from stepchain_tui.tui.graph.raster import ASCII_LINES, CROSSING, DOWN, LEFT, LINES, RIGHT, UP, Raster, draw_text

__all__ = (
    "ASCII_LINES", "CROSSING", "DOWN", "LEFT", "LINES", "RIGHT", "UP",
    "Band", "Box", "Drawing", "Raster", "draw_text", "lay_out",
)
