"""Long lines in the room there is."""

from __future__ import annotations

from textual.content import Content

from stepchain_tui.tui.text import visible

NARROWEST = 10
"""Cells that a line has at least, however little room there is."""


def broken_line(text: str, width: int) -> list[str]:
    """Return a line as lines of at most `width` cells, broken between words where that can be."""
    width, text = max(NARROWEST, width), visible(text)
    if text.isascii():
        return [text] if len(text) <= width else _broken_ascii(text, width)
    lines = Content(text).wrap(width)
    return [line.plain for line in lines] or [""]


def _broken_ascii(text: str, width: int) -> list[str]:
    """Break a line whose characters take a cell each: that is most of all text, and quickly done."""
    lines, start = [], 0
    while len(text) - start > width:
        cut = text.rfind(" ", start, start + width + 1)
        if cut <= start or text[start:cut].isspace():
            lines.append(text[start : start + width])
            start += width
        else:
            lines.append(text[start:cut].rstrip())
            start = cut + 1
    lines.append(text[start:])
    return lines
