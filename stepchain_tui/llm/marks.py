"""Marks around what others wrote, which it cannot write itself: they hold a hash of all that stands between them."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from stepchain_tui.core.values import encode_json

_LENGTH = 16
_NO_WORD = re.compile(r"[^\w.\[\]-]")


def mark_of(pieces: Any) -> str:
    """Return the mark for pieces of text: the same for the same pieces, and not to be found by whoever wrote one.

    Args:
        pieces: A JSON value with all that will stand between the marks.
    """
    return hashlib.sha256(encode_json(pieces)).hexdigest()[:_LENGTH]


def as_word(text: str) -> str:
    """Return a name as it can stand in a mark: without blanks, brackets and whatever else could end it."""
    return _NO_WORD.sub("_", text)
