"""Labels in cells: how wide a text is on a terminal, and how to shorten it without losing its two ends."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size

__all__ = ("LONGEST", "cell_len", "fit", "printable", "shorten")

LONGEST = 28
"""Most cells of a node's name."""


def shorten(text: str, cells: int = LONGEST, mark: str = "…") -> str:
    """Return `text` cut in its middle to at most `cells` cells; wide characters are never halved."""
    if cell_len(text) <= cells:
        return text
    room = cells - cell_len(mark)
    head, tail = "", ""
    for character in text:
        if cell_len(head + character) > (room + 1) // 2:
            break
        head += character
    for character in reversed(text):
        if cell_len(tail + character) > room - cell_len(head):
            break
        tail = character + tail
    return head + mark + tail


def fit(text: str, cells: int) -> str:
    """Return `text` padded or cut at its end to exactly `cells` cells."""
    return set_cell_size(text, cells)


def printable(text: str) -> str:
    """Return `text` with everything that would move the cursor or take no cell replaced by `?`."""
    return "".join(character if character.isprintable() else "?" for character in text)
