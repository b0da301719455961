"""Long lines in the room there is."""

from __future__ import annotations

from textual.content import Content

from stepchain_tui.tui.text import visible


def broken_line(text: str, width: int) -> list[str]:
    """Return a line as lines of at most `width` cells, broken between words where that can be."""
    lines = Content(visible(text)).wrap(max(10, width))
    return [line.plain for line in lines] or [""]
