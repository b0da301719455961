"""Whether a statement of SQL, as a plan writes it, would take values into its own text."""

from __future__ import annotations

import re

from stepchain_tui.plan.expressions import CHAIN_RESULT

_LITERAL = re.compile(r"\{\{-?\s*(?:'[^']*'|\"[^\"]*\")\s*-?\}\}")
"""An expression that is only a piece of text, such as a literal pair of braces."""
_ALONE = re.compile(r"\s*\{\{(?:(?!\}\}).)*\}\}\s*", re.DOTALL)


def mixes_values(text: str) -> bool:
    """Return whether values would become part of a statement; an expression that is all of it was meant to be SQL."""
    if CHAIN_RESULT in text and text.strip() != CHAIN_RESULT:
        return True
    return "{{" in _LITERAL.sub("", text) and _ALONE.fullmatch(text) is None
