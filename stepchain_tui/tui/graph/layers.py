"""From a graph to layers: ranks, and trunk points where a wire passes a layer on its way down.

A layered graph holds *items*. Items below `len(names)` are nodes; the others are trunk points. A node whose children
lie several layers below owns one trunk, with one point in each layer passed, however many children it leads to: so a
wire's number of points is at most the number of layers it passes, not the number of its links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TRUNK_BUDGET = 40_000
"""Most trunk points of one drawing. Beyond it links that other links imply are left out, the longest first."""


@dataclass(slots=True)
class Layered:
    """A graph whose every wire goes from one layer to the next."""

    names: list[str]
    """Node names by item."""
    parents: list[list[int]]
    """Per node its parents, as items."""
    children: list[list[int]]
    """Per node its children, as items."""
    rank: list[int]
    """Per item its layer, 0 at the top."""
    source: list[int]
    """Per item the node whose wire it carries: itself for a node."""
    layers: list[list[int]]
    """Items of each layer from left to right."""
    above: list[list[int]] = field(default_factory=list)
    """Per item the items of the layer above that it is wired to."""
    below: list[list[int]] = field(default_factory=list)
    """Per item the items of the layer below that it is wired to."""
    hidden: list[tuple[int, int]] = field(default_factory=list)
    """Links (parent, child) that are not drawn, because of `TRUNK_BUDGET`."""

    def is_node(self, item: int) -> bool:
        """Say whether `item` is a node and not a trunk point."""
        return item < len(self.names)


def topological_order(parents: Sequence[Sequence[int]], children: Sequence[Sequence[int]]) -> list[int]:
    """Return the nodes so that parents come first; among free nodes the given order holds.

    Raises:
        ValueError: The links form a cycle.
    """
    waiting = [len(above) for above in parents]
    order = [node for node, count in enumerate(waiting) if not count]
    for node in order:
        for child in children[node]:
            waiting[child] -= 1
            if not waiting[child]:
                order.append(child)
    if len(order) < len(parents):
        raise ValueError("the graph has a cycle")
    return order


def read_links(graph: Mapping[str, Sequence[str]]) -> tuple[list[str], list[list[int]], list[list[int]]]:
    """Return names, parents and children by number; a parent named twice counts once.

    Raises:
        ValueError: A parent is not a node of the graph.
    """
    names = list(graph)
    number = {name: index for index, name in enumerate(names)}
    parents: list[list[int]] = []
    children: list[list[int]] = [[] for _ in names]
    for index, name in enumerate(names):
        try:
            above = [number[parent] for parent in dict.fromkeys(graph[name])]
        except KeyError as error:
            raise ValueError(f"{name!r} has an unknown parent {error.args[0]!r}") from None
        parents.append(above)
        for parent in above:
            children[parent].append(index)
    return names, parents, children


def assign_ranks(parents: Sequence[Sequence[int]], children: Sequence[Sequence[int]]) -> list[int]:
    """Return the layer of each node: below all its parents, and roots just above their nearest child."""
    rank = [0] * len(parents)
    for node in topological_order(parents, children):
        rank[node] = max((rank[parent] + 1 for parent in parents[node]), default=0)
    for node, below in enumerate(children):
        if below and not parents[node]:
            rank[node] = min(rank[child] for child in below) - 1
    return rank


def build_layers(graph: Mapping[str, Sequence[str]]) -> Layered:
    """Return `graph` (node to its parents) in layers, in the given order within each.

    Raises:
        ValueError: A parent is unknown or the links form a cycle.
    """
    names, parents, children = read_links(graph)
    rank = assign_ranks(parents, children)
    layers: list[list[int]] = [[] for _ in range(max(rank, default=-1) + 1)]
    for node, layer in enumerate(rank):
        layers[layer].append(node)
    layered = Layered(names, parents, children, rank, list(range(len(names))), layers)
    drawn = _within_budget(layered)
    layered.above = [[] for _ in names]
    layered.below = [[] for _ in names]
    for node, below in enumerate(drawn):
        _add_trunk(layered, node, below)
    return layered


def _add_trunk(layered: Layered, node: int, below: list[int]) -> None:
    """Wire `node` to its children, by way of one trunk point in each layer passed."""
    rank, wires_above, wires_below = layered.rank, layered.above, layered.below
    by_layer: dict[int, list[int]] = {}
    for child in below:
        by_layer.setdefault(rank[child], []).append(child)
    last = max(by_layer, default=0)
    here = node
    for layer in range(rank[node] + 1, last + 1):
        targets = by_layer.get(layer, [])
        point = -1
        if layer < last:
            point = len(rank)
            rank.append(layer)
            layered.source.append(node)
            layered.layers[layer].append(point)
            wires_above.append([])
            wires_below.append([])
            targets = [*targets, point]
        wires_below[here].extend(targets)
        for target in targets:
            wires_above[target].append(here)
        here = point


def _within_budget(layered: Layered) -> list[list[int]]:
    """Return the children to draw per node, keeping the number of trunk points within `TRUNK_BUDGET` where it can.

    Only a link whose child is reached by way of another child too is left out: the reader loses no order by it.
    """
    rank = layered.rank
    drawn = [list(below) for below in layered.children]
    excess = sum(_points(rank, node, below) for node, below in enumerate(drawn)) - TRUNK_BUDGET
    if excess <= 0:
        return drawn
    reached = _reached(layered)
    for node in sorted(range(len(drawn)), key=lambda node: -_points(rank, node, drawn[node])):
        if excess <= 0:
            break
        below = drawn[node]
        beyond = 0
        for child in below:
            beyond |= reached[child]
        implied = [child for child in below if beyond >> child & 1]
        drawn[node] = [child for child in below if not beyond >> child & 1]
        excess -= _points(rank, node, below) - _points(rank, node, drawn[node])
        layered.hidden.extend((node, child) for child in implied)
    return drawn


def _points(rank: list[int], node: int, below: list[int]) -> int:
    """Return how many trunk points the wire from `node` to the children `below` takes."""
    return max(0, max((rank[child] for child in below), default=0) - rank[node] - 1)


def _reached(layered: Layered) -> list[int]:
    """Return per node what can be reached from it, as a number whose bit `n` stands for node `n`."""
    reached = [0] * len(layered.names)
    for node in reversed(topological_order(layered.parents, layered.children)):
        for child in layered.children[node]:
            reached[node] |= reached[child] | 1 << child
    return reached
