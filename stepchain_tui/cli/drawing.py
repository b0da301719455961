"""`graph`: a plan's graph as text, by the same drawing as the app's."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence

from stepchain_tui.cli.text import draws_unicode
from stepchain_tui.tui.graph import Faces, Kind, Painter, Picture, cell_len

_WIDEST = 120
"""Columns of a drawing that does not go to a terminal."""


def draw(graph: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the lines of a drawing of `graph` (step -> its parents), as roomy as the width allows."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDEST
    faces = Faces()
    faces.use_ascii(not draws_unicode(sys.stdout))
    labels = {node: cell_len(faces.label(node)) for node in graph}
    kinds: tuple[Kind, ...] = ("boxes", "pills", "rails")
    for kind in kinds:
        picture = Picture(graph, labels, kind)
        if picture.width <= columns:
            break
    painter = Painter(picture, faces)
    lines = []
    for row in range(picture.height):
        start, runs = painter.row(row, 0, picture.width)
        lines.append((" " * start + "".join(text for text, _ in runs)).rstrip())
    return lines
