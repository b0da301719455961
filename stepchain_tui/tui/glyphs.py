"""How statuses look: a glyph and a word each, and the same in ASCII for terminals that have no more.

Nothing is told by colour alone: wherever a status is shown, its glyph or its word is there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_GLYPHS: dict[str, str] = {
    "pending": "○",
    "queued": "◔",
    "running": "▶",
    "retrying": "↻",
    "waiting": "⏸",
    "succeeded": "✓",
    "failed": "✕",
    "timed_out": "⧖",
    "skipped": "―",
    "blocked": "⊘",
    "cancelled": "■",
    "paused": "⏸",
    "interrupted": "■",
    "allowed": "✓",
    "denied": "✕",
}
_ASCII: dict[str, str] = {
    "pending": "o",
    "queued": ".",
    "running": ">",
    "retrying": "@",
    "waiting": "?",
    "succeeded": "+",
    "failed": "x",
    "timed_out": "T",
    "skipped": "-",
    "blocked": "!",
    "cancelled": "#",
    "paused": "=",
    "interrupted": "#",
    "allowed": "+",
    "denied": "x",
}
MARKS = {"cached": "=", "stale": "~", "pinned": "*"}
"""What follows a step's id: mark -> its character."""
_POOR_TERMINALS = frozenset(("linux", "dumb", "vt100", "vt220"))


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that the app draws with.

    Attributes:
        ascii: Whether only ASCII is used.
        statuses: Status -> its glyph.
        bar: A full cell of the timeline.
        wait: A cell of the timeline in which a step waits for its next try.
        cut: What stands at the end of a line that goes on.
        dot: What parts facts on one line.
        line: A thin upright line.
        stop: What marks a step that has a breakpoint.
    """

    ascii: bool = False
    statuses: Mapping[str, str] = field(default_factory=lambda: _GLYPHS)
    bar: str = "▓"
    wait: str = "░"
    cut: str = "…"
    dot: str = "·"
    line: str = "│"
    stop: str = "●"

    def of(self, status: str) -> str:
        """Return the glyph of a step's, an attempt's or a run's status."""
        return self.statuses.get(status, "?")

    def word(self, status: str) -> str:
        """Return the word of a status as a person reads it."""
        return status.replace("_", " ")

    def label(self, status: str) -> str:
        """Return glyph and word."""
        return f"{self.of(status)} {self.word(status)}"


UNICODE = Glyphs()
ASCII = Glyphs(ascii=True, statuses=_ASCII, bar="#", wait=".", cut="~", dot="-", line="|", stop="^")


def choose_glyphs(*, wanted_ascii: bool, environment: Mapping[str, str]) -> Glyphs:
    """Return ASCII glyphs where they were asked for or the terminal is a poor one."""
    return ASCII if wanted_ascii or environment.get("TERM", "") in _POOR_TERMINALS else UNICODE
