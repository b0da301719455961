"""Columns: each item as near as possible to what it is wired to, in the given order, without overlap.

One layer at a time is solved exactly: the columns that keep order and gaps and deviate least from the wanted ones are
an isotonic regression with medians (a block of items that push each other stands where its median item wants to be).
Trunk points and nodes that have only each other count several times, so that such wires are straight and
others give way.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

from stepchain_tui.tui.graph.layers import Layered

PASSES = 4
TRUNK_WEIGHT = 4
PAIR_WEIGHT = 3


def assign_columns(layered: Layered, widths: Sequence[int], gap: int) -> list[int]:
    """Return the left column of each item, 0 being the leftmost of the drawing.

    Args:
        layered: Layers in their final order.
        widths: Cells per item; 1 for a trunk point.
        gap: Least number of free cells between two nodes.
    """
    anchors = [width // 2 for width in widths]
    left = [0] * len(widths)
    offsets = [_offsets(layered, layer, widths, gap) for layer in layered.layers]
    for layer, shifts in zip(layered.layers, offsets, strict=True):
        width = shifts[-1] + widths[layer[-1]]
        for item, shift in zip(layer, shifts, strict=True):
            left[item] = shift - width // 2
    last = len(layered.layers) - 1
    for number in range(PASSES):
        downwards = number % 2 == 0
        final = number >= PASSES - 2
        for index in range(last + 1) if downwards else range(last, -1, -1):
            layer = layered.layers[index]
            _place(layered, layer, offsets[index], left, anchors, downwards=downwards, both=final)
    return _without_empty_columns(left, widths, gap)


def _without_empty_columns(left: list[int], widths: Sequence[int], gap: int) -> list[int]:
    """Return the columns with every stretch removed in which no layer has anything, beginning at 0.

    Each layer alone stays where the median of its wires is, so two groups can hold each other apart for ever.
    """
    columns = list(left)
    free_from: int | None = None
    removed = 0
    for item in sorted(range(len(left)), key=left.__getitem__):
        start = left[item]
        if free_from is None:
            removed, free_from = start, start
        removed += max(0, start - free_from)
        free_from = max(free_from, start + widths[item] + gap)
        columns[item] = start - removed
    return columns


def _offsets(layered: Layered, layer: list[int], widths: Sequence[int], gap: int) -> list[int]:
    """Return the left column of each item of a layer packed as tightly as the gaps allow."""
    shifts, column, before = [], 0, -1
    for item in layer:
        if before >= 0:
            column += gap if layered.is_node(item) and layered.is_node(before) else 1
        shifts.append(column)
        column += widths[item]
        before = item
    return shifts


def _place(
    layered: Layered,
    layer: list[int],
    shifts: list[int],
    left: list[int],
    anchors: list[int],
    *,
    downwards: bool,
    both: bool,
) -> None:
    """Set `left` for the items of one layer, nearest to the median of their neighbours."""
    first, second = (layered.above, layered.below) if downwards else (layered.below, layered.above)
    wanted: list[int] = []
    weights: list[int] = []
    for item in layer:
        trunk = not layered.is_node(item)
        linked = first[item] or second[item]
        if both and not trunk and len(first[item]) == len(second[item]) == 1:
            # A node on a straight wire must not be pulled off it by the side that is looked at last.
            linked = first[item] + second[item]
        columns = sorted(left[other] + anchors[other] for other in linked)
        middle = len(columns) // 2
        if not columns:
            target = left[item] + anchors[item]
        elif len(columns) % 2:
            target = columns[middle]
        else:
            target = (columns[middle - 1] + columns[middle]) // 2
        wanted.append(target - anchors[item])
        paired = len(first[item]) == 1 == len(second[first[item][0]])
        weights.append(TRUNK_WEIGHT if trunk else PAIR_WEIGHT if paired else 1 if columns else 0)
    for item, column in zip(layer, keep_apart(wanted, shifts, weights), strict=True):
        left[item] = column


def keep_apart(wanted: Sequence[int], shifts: Sequence[int], weights: Sequence[int]) -> list[int]:
    """Return columns nearest to `wanted` such that neighbours are at least as far apart as in `shifts`.

    Args:
        wanted: Column wanted by each item, in order.
        shifts: Column of each item when packed as tightly as allowed.
        weights: How many votes an item has; one with 0 goes where the others leave room.
    """
    blocks: list[tuple[list[int], int]] = []
    for want, shift, weight in zip(wanted, shifts, weights, strict=True):
        votes, count = [want - shift] * max(1, weight), 1
        while blocks and blocks[-1][0][len(blocks[-1][0]) // 2] > votes[len(votes) // 2]:
            before, members = blocks.pop()
            small, votes = (votes, before) if len(votes) < len(before) else (before, votes)
            for vote in small:
                insort(votes, vote)
            count += members
        blocks.append((votes, count))
    columns: list[int] = []
    for votes, count in blocks:
        base, done = votes[len(votes) // 2], len(columns)
        columns.extend(base + shift for shift in shifts[done : done + count])
    return columns
