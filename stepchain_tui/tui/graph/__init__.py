"""The drawing of a plan's graph on character cells: layers, wires, rails, collapsed siblings.

Owns places and line characters, and knows nothing of what a node means but which step is a part of which. Imports
`run.ids` only, and no textual.
"""

from stepchain_tui.tui.graph.collapse import WIDEST, Collapsed, collapse
from stepchain_tui.tui.graph.drawings import Drawings, GraphStyle
from stepchain_tui.tui.graph.emphasis import Emphasis
from stepchain_tui.tui.graph.faces import DECISIONS, STATUSES, Face, Faces
from stepchain_tui.tui.graph.labels import LONGEST, cell_len, shorten
from stepchain_tui.tui.graph.layers import read_links, topological_order
from stepchain_tui.tui.graph.layout import Band, Box, Drawing, lay_out
from stepchain_tui.tui.graph.paint import Painter, Run
from stepchain_tui.tui.graph.parts import Folded, Parts, fold_parts
from stepchain_tui.tui.graph.picture import Kind, Picture
from stepchain_tui.tui.graph.rails import LANE, RailRow, Rails, lay_rails
from stepchain_tui.tui.graph.raster import CROSSING, DOWN, LEFT, LINES, NODE, RIGHT, UP, Raster, draw_channel, draw_text
from stepchain_tui.tui.graph.routing import Net, Pin, assign_rows

__all__ = (
    "CROSSING",
    "DECISIONS",
    "DOWN",
    "LANE",
    "LEFT",
    "LINES",
    "LONGEST",
    "NODE",
    "RIGHT",
    "STATUSES",
    "UP",
    "WIDEST",
    "Band",
    "Box",
    "Collapsed",
    "Drawing",
    "Drawings",
    "Emphasis",
    "Face",
    "Faces",
    "Folded",
    "GraphStyle",
    "Kind",
    "Net",
    "Painter",
    "Parts",
    "Picture",
    "Pin",
    "RailRow",
    "Rails",
    "Raster",
    "Run",
    "assign_rows",
    "cell_len",
    "collapse",
    "draw_channel",
    "draw_text",
    "fold_parts",
    "lay_out",
    "lay_rails",
    "read_links",
    "shorten",
    "topological_order",
)
