"""Lines of a log as they were written: a model's text comes in pieces, which are rows of their own in the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from stepchain_tui.store.base import LogLine
from stepchain_tui.store.texts import LINE_LIMIT
from stepchain_tui.tui.text import visible, visible_return

TEXT = "text"
PIECE = "text+"
"""The stream of a piece of text whose line goes on."""
SAID = frozenset((TEXT, PIECE, "reasoning", "sources"))
"""Streams of what a model says, whose carriage returns hide nothing: no progress is drawn with them."""
_Source = tuple[str, int]
"""Step and item: the lines of one are never written at the same time."""


def shown(line: LogLine) -> str:
    """Return a line's text as it is safe to show."""
    return safe(line.stream, line.text)


def safe(stream: str, text: str) -> str:
    """Return one line of a stream as it is safe to show."""
    return visible_return(text) if stream in SAID else visible(text)


def joined_text(lines: Iterable[LogLine]) -> str:
    """Return what a model wrote, of all that its lines tell."""
    ends = {TEXT: "\n", PIECE: ""}
    return "".join(line.text + ends[line.stream] for line in lines if line.stream in ends).strip("\n")


def goes_on(before: LogLine, line: LogLine) -> bool:
    """Return whether a row of the same step is more of the line that the one before it is a piece of."""
    same = before.stream == PIECE and line.stream in (PIECE, TEXT)
    return same and (before.attempt, before.item) == (line.attempt, line.item)


class WholeLines:
    """Joins rows to lines, each of which is given when it is whole: number and time are those of its last piece."""

    def __init__(self) -> None:
        self._open: dict[_Source, LogLine] = {}

    def take(self, row: LogLine) -> Iterator[LogLine]:
        """Yield the lines that are whole with this row."""
        source = (row.step_id, row.item)
        before = self._open.get(source)
        if before is not None and _fits(before, row):
            row = replace(row, text=before.text + row.text)
            del self._open[source]
        elif before is not None and (row.stream in (PIECE, TEXT) or row.attempt != before.attempt):
            yield _ended(self._open.pop(source))
        if row.stream == PIECE:
            self._open[source] = row
        else:
            yield row

    def rest(self) -> Iterator[LogLine]:
        """Yield the lines that nothing ended."""
        yield from map(_ended, sorted(self._open.values(), key=lambda line: line.n))
        self._open.clear()


class GrowingLog:
    """Joins rows to lines that stand where they began and grow there.

    Attributes:
        lines: All lines so far.
        last: The number of the last row.
    """

    def __init__(self) -> None:
        self.lines: list[LogLine] = []
        self.last = 0
        self._open: dict[_Source, int] = {}

    def take(self, rows: Iterable[LogLine]) -> None:
        """Take in more rows."""
        for row in rows:
            self.last = row.n
            source = (row.step_id, row.item)
            place = self._open.get(source)
            if place is not None and _fits(self.lines[place], row):
                known = self.lines[place]
                self.lines[place] = replace(known, text=known.text + row.text, stream=row.stream)
            elif row.stream in (PIECE, TEXT) or place is None:
                place = len(self.lines)
                self.lines.append(row)
            else:
                self.lines.append(row)
                continue
            if row.stream == PIECE:
                self._open[source] = place
            else:
                self._open.pop(source, None)


def _fits(line: LogLine, row: LogLine) -> bool:
    return goes_on(line, row) and len(line.text) + len(row.text) <= LINE_LIMIT


def _ended(line: LogLine) -> LogLine:
    return replace(line, stream=TEXT)
