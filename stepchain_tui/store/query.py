"""What a search looks for, and whether a text is a hit."""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+")


class Query:
    """Words, whatever their case; the last one, unless a space follows it, may be the beginning of a word.

    Attributes:
        plain: What was typed, without spaces around it.
        words: Its words; where there are none (`->`), the text itself is looked for.
        beginning: The last word where it may be a beginning, else empty.
    """

    def __init__(self, text: str) -> None:
        self.plain = text.strip()
        self.words = [word.lower() for word in _WORD.findall(text)]
        self.beginning = self.words[-1] if self.words and _WORD.search(text[-1]) else ""
        whole = self.words[:-1] if self.beginning else self.words
        self.whole = [f'"{word}"' for word in whole]
        patterns = [rf"(?<![^\W_]){re.escape(word)}(?![^\W_])" for word in whole]
        if self.beginning:
            patterns.append(rf"(?<![^\W_]){re.escape(self.beginning)}")
        self._patterns = [re.compile(pattern, re.IGNORECASE) for pattern in patterns]

    @property
    def likes(self) -> list[str]:
        """LIKE patterns that every hit fits; LIKE folds the case of ASCII only."""
        words = self.words or [self.plain]
        return [like(word) for word in words if word.isascii()]

    def fits(self, text: str) -> bool:
        """Return whether `text` is a hit."""
        if not self.words:
            return self.plain.lower() in text.lower()
        return all(pattern.search(text) for pattern in self._patterns)


@lru_cache(maxsize=16)
def _query(text: str) -> Query:
    return Query(text)


def text_fits(query: str, text: str) -> bool:
    """Return whether `text` is a hit for `query`; the SQL function of that name."""
    return _query(query).fits(text)


def like(text: str) -> str:
    """Return a LIKE pattern that finds `text` anywhere; the escape character is a backslash."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
