"""Wires between two layers: who shares one, where it enters a box, and on which row it runs sideways.

A *net* is a set of sources that lead to the same set of targets: they share one wire. A net leaves its sources at the
bottom, runs along one row of the channel between the layers, and goes down to its targets. What keeps it readable:

- each net that enters a box has a column of its own on the box's top edge;
- in one column the net that comes from above runs on a higher row than the one that goes down, so wires cross but
  never lie on each other;
- where two nets would each have to be above the other, one of them changes its row half-way, at a free column.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

CAREFUL_NETS = 48
"""Nets in one channel up to which each pair is compared for the order that crosses less."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One end of a net at the edge of its channel."""

    column: int
    """Cells from the left of the drawing."""
    node: int
    """The node whose wire it is (at the top), or the nearest node it leads to (at the bottom; -1 for a trunk point)."""
    reaches: tuple[int, ...] = ()
    """At the bottom: the nodes that are reached by this way."""


@dataclass(slots=True)
class Net:
    """One wire of a channel, with all its ends."""

    tops: list[Pin]
    bottoms: list[Pin] = field(default_factory=list)
    row: int = -1
    """Row of the channel on which it runs sideways, 0 at the top; -1 for a wire that goes straight down."""
    jog: int = -1
    """Column at which it changes to `low_row`; -1 for a wire with one row."""
    low_row: int = -1
    """Row from which its bottom ends leave, for a wire with a jog."""

    def upper_span(self) -> tuple[int, int]:
        """Return the first and last column of `row`."""
        columns = [pin.column for pin in self.tops]
        columns.extend([self.jog] if self.jog >= 0 else (pin.column for pin in self.bottoms))
        return min(columns), max(columns)

    def lower_span(self) -> tuple[int, int]:
        """Return the first and last column of `low_row`."""
        columns = [pin.column for pin in self.bottoms]
        columns.append(self.jog)
        return min(columns), max(columns)

    def runs(self) -> list[tuple[int, tuple[int, int]]]:
        """Return (row, (first column, last column)) of what runs sideways."""
        if self.row < 0:
            return []
        if self.jog < 0:
            return [(self.row, self.upper_span())]
        return [(self.row, self.upper_span()), (self.low_row, self.lower_span())]

    def drops(self, height: int) -> list[tuple[int, int, int]]:
        """Return (column, first row, end row) of what goes down, without the cells on its own rows.

        Args:
            height: Rows of the channel.
        """
        if self.row < 0:
            return [(self.tops[0].column, 0, height)]
        low = self.row if self.jog < 0 else self.low_row
        drops = [(pin.column, 0, self.row) for pin in self.tops]
        drops.extend((pin.column, low + 1, height) for pin in self.bottoms)
        if self.jog >= 0:
            drops.append((self.jog, self.row + 1, low))
        return drops


def choose_entries(first: int, last: int, wanted: Sequence[tuple[int, bool]], taken: set[int]) -> list[int]:
    """Return one column per incoming net on the top edge of a box, in the order given.

    Args:
        first: Leftmost column that may be used.
        last: Rightmost column that may be used.
        wanted: Per net the column it would like best and whether the column is above one of its own sources, which
            frees it from `taken`.
        taken: Columns where other nets leave their sources: to enter below one of them would force an order on the
            two wires.
    """
    columns: list[int] = []
    nets_left = len(wanted)
    floor = first
    for column, own in wanted:
        nets_left -= 1
        ceiling = last - nets_left
        best = -1
        for candidate in sorted(range(floor, ceiling + 1), key=lambda place: abs(place - column)):
            if candidate not in taken or (own and candidate == column):
                best = candidate
                break
        if best < 0:
            best = min(max(column, floor), ceiling)
        columns.append(best)
        room = last - best
        floor = best + (2 if room >= 2 * nets_left else 1)
    return columns


@dataclass(slots=True)
class _Piece:
    """The part of a net that runs on one row."""

    net: Net
    low: bool
    span: tuple[int, int]
    tops: list[int]
    bottoms: list[int]
    after: set[int] = field(default_factory=set)
    """Pieces that must run on a lower row."""
    waits: int = 0
    """Pieces not yet placed that must run on a higher row."""
    least: int = 0
    """Highest row allowed by the pieces placed so far."""


def assign_rows(nets: Iterable[Net]) -> int:
    """Give each net of a channel its rows and return how many rows the channel needs, at least 1."""
    pieces = [_whole(net) for net in nets if len({pin.column for pin in (*net.tops, *net.bottoms)}) > 1]
    pinned = {pin.column for net in nets for pin in (*net.tops, *net.bottoms)}
    leaves = {column: index for index, piece in enumerate(pieces) for column in piece.tops}
    for index, piece in enumerate(pieces):
        for column in piece.bottoms:
            above = leaves.get(column, index)
            if above != index and index not in pieces[above].after:
                pieces[above].after.add(index)
                piece.waits += 1
    lower = _less_crossed(pieces)
    score = [len(below) for below in lower]
    for below in lower:
        for other in below:
            score[other] -= 1
    return _place_pieces(pieces, lower, score, pinned)


def _whole(net: Net) -> _Piece:
    return _Piece(net, False, net.upper_span(), [pin.column for pin in net.tops], [pin.column for pin in net.bottoms])


def _less_crossed(pieces: list[_Piece]) -> list[set[int]]:
    """Return per piece the overlapping ones that had better run below it, for fewer crossings."""
    lower: list[set[int]] = [set() for _ in pieces]
    if len(pieces) > CAREFUL_NETS:
        return lower
    for one, first in enumerate(pieces):
        for two in range(one + 1, len(pieces)):
            second = pieces[two]
            if first.span[1] < second.span[0] or second.span[1] < first.span[0]:
                continue
            above = _inside(first.bottoms, second.span) + _inside(second.tops, first.span)
            below = _inside(second.bottoms, first.span) + _inside(first.tops, second.span)
            if above < below:
                lower[one].add(two)
            elif below < above:
                lower[two].add(one)
    return lower


def _inside(columns: Iterable[int], span: tuple[int, int]) -> int:
    return sum(span[0] < column < span[1] for column in columns)


def _place_pieces(pieces: list[_Piece], lower: list[set[int]], score: list[int], pinned: set[int]) -> int:
    """Place every piece on the highest row that is free and allowed; break circles of constraints by a jog."""
    rows: list[list[tuple[int, int]]] = []
    ready = [(-score[index], piece.span, index) for index, piece in enumerate(pieces) if not piece.waits]
    heapify(ready)
    left = len(pieces)
    done: set[int] = set()
    while left:
        if not ready:
            index = _split(pieces, _in_circle(pieces, done), pinned)
            lower.append(set())
            score.append(0)
            left += 1
            heappush(ready, (-score[index], pieces[index].span, index))
        index = heappop(ready)[2]
        piece = pieces[index]
        row = _first_free(rows, piece)
        if piece.low:
            piece.net.low_row = row
        else:
            piece.net.row = row
        done.add(index)
        left -= 1
        for other in lower[index] - done:
            pieces[other].least = max(pieces[other].least, row + 1)
        for other in piece.after:
            below = pieces[other]
            below.least = max(below.least, row + 1)
            below.waits -= 1
            if not below.waits:
                heappush(ready, (-score[other], below.span, other))
    return max(1, len(rows))


def _first_free(rows: list[list[tuple[int, int]]], piece: _Piece) -> int:
    first, last = piece.span
    for row in range(piece.least, len(rows)):
        place = bisect_left(rows[row], (first, last))
        # One free cell between wires of a row, so that corners do not touch.
        if (place == 0 or rows[row][place - 1][1] < first - 1) and (
            place == len(rows[row]) or rows[row][place][0] > last + 1
        ):
            insort(rows[row], piece.span)
            return row
    rows.append([piece.span])
    return len(rows) - 1


def _in_circle(pieces: list[_Piece], done: set[int]) -> int:
    """Return the narrowest piece of a circle of pieces that wait for each other."""
    before = {other: index for index, piece in enumerate(pieces) if index not in done for other in piece.after}
    here = next(index for index, piece in enumerate(pieces) if index not in done and piece.waits)
    path: list[int] = []
    while here not in path:
        path.append(here)
        here = before[here]
    circle = path[path.index(here) :]
    return min(circle, key=lambda index: pieces[index].span[1] - pieces[index].span[0])


def _split(pieces: list[_Piece], index: int, pinned: set[int]) -> int:
    """Part a piece in two, one with the ends above and one with those below; return the upper, which waits for none."""
    whole = pieces[index]
    jog = _free_column((whole.span[0] + whole.span[1]) // 2, pinned)
    pinned.add(jog)
    whole.net.jog = jog
    upper = _Piece(whole.net, False, whole.net.upper_span(), whole.tops, [jog], whole.after | {index})
    whole.low, whole.span, whole.tops, whole.after = True, whole.net.lower_span(), [jog], set()
    whole.waits += 1
    pieces.append(upper)
    return len(pieces) - 1


def _free_column(near: int, pinned: set[int]) -> int:
    """Return the column closest to `near`, 0 or more, in which no wire of the channel goes up or down."""
    distance = 0
    while True:
        for column in (near - distance, near + distance):
            if column >= 0 and column not in pinned:
                return column
        distance += 1
