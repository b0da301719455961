"""Words for messages of executors: what others sent is cut, flat and free of control characters."""

from __future__ import annotations


def one_line(text: str, limit: int) -> str:
    """Return text as one line of at most `limit` characters that are all printable."""
    if len(text) <= limit and text.isprintable() and "  " not in text:
        return text.strip()
    flat = " ".join(text[: limit * 4].split())
    clean = "".join(character if character.isprintable() else "?" for character in flat)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
