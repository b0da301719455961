"""The lines of one node: a frame of three rows, a pill of one, or a bare label on its rail."""

from __future__ import annotations

from dataclasses import dataclass

from stepchain_tui.tui.graph.labels import cell_len, fit
from stepchain_tui.tui.graph.layout import Box
from stepchain_tui.tui.graph.picture import Kind


@dataclass(frozen=True, slots=True)
class Frame:
    """The characters of a frame: corners, sides, and where wires come in and leave."""

    top_left: str
    top_right: str
    bottom_left: str
    bottom_right: str
    across: str
    side: str
    entry: str
    exit: str


PLAIN = Frame("╭", "╮", "╰", "╯", "─", "│", "┴", "┬")
HEAVY = Frame("┏", "┓", "┗", "┛", "━", "┃", "┷", "┯")
ASCII_PLAIN = Frame("+", "+", "+", "+", "-", "|", "+", "+")
ASCII_HEAVY = Frame("#", "#", "#", "#", "=", "#", "+", "+")


def node_line(box: Box, line: int, label: str, kind: Kind, frame: Frame) -> tuple[str, str, str]:
    """Return one line of a node as (left border, inside, right border), together `box.width` cells wide.

    Args:
        box: The place of the node.
        line: 0 to 2 in a frame, 0 otherwise.
        label: Its label; what does not fit is cut.
        kind: How it is drawn.
        frame: Which characters its frame is made of.
    """
    inside = box.width - 2
    if kind == "rails":
        return "", fit(label, box.width), ""
    if kind == "pills":
        # One cell is kept free beside the pill, so that the first mark moves nothing.
        room = max(inside - 1, min(inside, cell_len(label)))
        return "[", fit(label, room), "]" + " " * (inside - room)
    if line == 1:
        spare = max(0, inside - cell_len(label))
        # Left of the label one cell at most, so that it stays where it is when marks come and go.
        return frame.side, fit(" " * min(1, spare // 2) + label, inside), frame.side
    border = [frame.across] * inside
    for column in box.entries if line == 0 else (box.exit,):
        if box.x < column < box.x + box.width - 1:
            border[column - box.x - 1] = frame.entry if line == 0 else frame.exit
    if line == 0:
        return frame.top_left, "".join(border), frame.top_right
    return frame.bottom_left, "".join(border), frame.bottom_right
