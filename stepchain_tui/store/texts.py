"""Texts as rows have them: such as UTF-8 can hold, and not too long."""

from __future__ import annotations

LINE_LIMIT = 64 * 1024
ERROR_PREVIEW = 500
"""Characters of an error that a summary row keeps; the event has it all."""


def clean_text(text: str) -> str:
    """Return `text` as UTF-8 can hold it, at most 64 KiB characters of it."""
    if len(text) > LINE_LIMIT:
        text = text[:LINE_LIMIT]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
