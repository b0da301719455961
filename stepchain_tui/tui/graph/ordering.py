"""The order within layers: fewest crossings that a few sweeps can find.

A depth-first start keeps what belongs together side by side; barycenter sweeps pull each item towards its neighbours;
swaps of neighbours then take what the averages cannot see. The best order met is kept, so a sweep never makes it worse.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from stepchain_tui.tui.graph.layers import Layered

SWEEPS = 8
STALE_SWEEPS = 3
SWAP_ITEMS = 3_000
"""Largest drawing, in items, whose neighbours are swapped one by one: beyond it the pass costs more than the rest."""
DENSE_LINKS = 20_000
"""Links between two layers beyond which their crossings are not counted: there is no order a reader could follow."""


def order_layers(layered: Layered) -> None:
    """Reorder `layered.layers` in place so that few wires cross."""
    if not layered.layers:
        return
    layered.layers = _depth_first(layered)
    position = _positions(layered)
    best, fewest, stale = [list(layer) for layer in layered.layers], _crossings(layered, position), 0
    for sweep in range(SWEEPS):
        if not fewest or stale >= STALE_SWEEPS:
            break
        _sweep(layered, position, downwards=sweep % 2 == 0)
        count = _crossings(layered, position)
        if count < fewest:
            best, fewest, stale = [list(layer) for layer in layered.layers], count, 0
        else:
            stale += 1
    layered.layers = best
    if fewest and len(layered.rank) <= SWAP_ITEMS:
        _swap_neighbours(layered, _positions(layered))


def count_crossings(layered: Layered) -> int:
    """Return how many pairs of wires between neighbouring layers cross in the present order."""
    return _crossings(layered, _positions(layered))


def _positions(layered: Layered) -> list[int]:
    position = [0] * len(layered.rank)
    for layer in layered.layers:
        for index, item in enumerate(layer):
            position[item] = index
    return position


def _depth_first(layered: Layered) -> list[list[int]]:
    layers: list[list[int]] = [[] for _ in layered.layers]
    seen = bytearray(len(layered.rank))
    for layer in layered.layers:
        for start in layer:
            stack = [start]
            while stack:
                item = stack.pop()
                if seen[item] or (item != start and not all(seen[above] for above in layered.above[item])):
                    continue
                seen[item] = 1
                layers[layered.rank[item]].append(item)
                stack.extend(reversed(layered.below[item]))
    return layers


def _sweep(layered: Layered, position: list[int], *, downwards: bool) -> None:
    wires = layered.above if downwards else layered.below
    for layer in layered.layers if downwards else reversed(layered.layers):
        keys = {}
        for item in layer:
            linked = wires[item]
            keys[item] = sum(position[other] for other in linked) / len(linked) if linked else float(position[item])
        layer.sort(key=keys.__getitem__)
        for index, item in enumerate(layer):
            position[item] = index


def _crossings(layered: Layered, position: list[int]) -> int:
    total = 0
    for layer in layered.layers[:-1]:
        ends: list[int] = []
        for item in layer:
            ends.extend(sorted(position[other] for other in layered.below[item]))
        if len(ends) > DENSE_LINKS:
            continue
        met: list[int] = []
        for end in ends:
            place = bisect_right(met, end)
            total += len(met) - place
            met.insert(place, end)
    return total


def _swap_gain(left: list[int], right: list[int]) -> int:
    """Return how many crossings fewer two neighbours have when swapped, from the sorted positions of their ends."""
    return sum(bisect_left(right, end) - (len(right) - bisect_right(right, end)) for end in left)


def _swap_neighbours(layered: Layered, position: list[int]) -> None:
    for _ in range(4):
        gained = 0
        for layer in layered.layers:
            ends = {
                item: (
                    sorted(position[other] for other in layered.above[item]),
                    sorted(position[other] for other in layered.below[item]),
                )
                for item in layer
            }
            for index in range(len(layer) - 1):
                left, right = layer[index], layer[index + 1]
                gain = sum(_swap_gain(ends[left][side], ends[right][side]) for side in (0, 1))
                if gain > 0:
                    layer[index], layer[index + 1] = right, left
                    gained += gain
            for index, item in enumerate(layer):
                position[item] = index
        if not gained:
            return
