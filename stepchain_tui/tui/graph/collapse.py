"""Many alike become one: siblings, or chains of steps side by side, contracted into group nodes.

Alike means: the same parents, the same children and, for chains, the same length. Two hundred downloads that each feed
one parser become two group nodes, one below the other. Steps are data here; which groups are open is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

WIDEST = 8
"""Most alike nodes that are drawn one by one."""


@dataclass(frozen=True, slots=True)
class Collapsed:
    """A graph in which groups of alike nodes have been contracted."""

    graph: dict[str, tuple[str, ...]]
    """Node to its parents, where a node may be a group."""
    groups: dict[str, tuple[str, ...]]
    """Group node, such as `fetch_1 … fetch_200 (200)`, to its members."""
    node_of: dict[str, str]
    """Member to the group node that stands for it; nodes on their own are not in it."""
    foldable: dict[str, str]
    """Every node that belongs to a group, open or not, to the key of the set of groups that opens and closes as one:
    the first member of the set."""


def collapse(
    graph: Mapping[str, Sequence[str]],
    *,
    widest: int = WIDEST,
    opened: Collection[str] = (),
    kin: Callable[[str], str] = lambda _: "",
) -> Collapsed:
    """Contract what is alike and more than `widest` wide.

    Args:
        graph: Node to its parents. Unknown parents are left as they are.
        widest: Most alike nodes that stay apart.
        opened: Keys, as in `Collapsed.foldable`, of groups to leave open; the first step of any chain of one will do.
        kin: What only nodes that are alike have in common, besides their places in the graph.
    """
    groups: dict[str, tuple[str, ...]] = {}
    foldable: dict[str, str] = {}
    for chains in _alike_chains(graph, kin):
        if len(chains) <= widest:
            continue
        key = chains[0][0]
        foldable.update((member, key) for chain in chains for member in chain)
        if any(chain[0] in opened for chain in chains):
            continue
        for members in zip(*chains, strict=True):
            groups[_name(members, graph)] = members
    node_of = {member: group for group, members in groups.items() for member in members}
    contracted: dict[str, tuple[str, ...]] = {}
    for node, parents in graph.items():
        here = node_of.get(node, node)
        if here not in contracted:
            contracted[here] = tuple(dict.fromkeys(node_of.get(parent, parent) for parent in parents))
    return Collapsed(contracted, groups, node_of, foldable)


def group_name(first: str, last: str, count: int) -> str:
    """Return how a group is called."""
    return f"{first} … {last} ({count})"


def _name(members: tuple[str, ...], graph: Mapping[str, Sequence[str]]) -> str:
    name = group_name(members[0], members[-1], len(members))
    while name in graph:
        name += " "
    return name


def _alike_chains(graph: Mapping[str, Sequence[str]], kin: Callable[[str], str]) -> list[list[list[str]]]:
    """Return the sets of chains with the same parents, children and length, in the order of the graph."""
    children: dict[str, list[str]] = {node: [] for node in graph}
    for node, parents in graph.items():
        for parent in dict.fromkeys(parents):
            children.setdefault(parent, []).append(node)
    sets: dict[tuple[str, frozenset[str], frozenset[str], int], list[list[str]]] = {}
    for head, parents in graph.items():
        if len(parents) == 1 and len(children[parents[0]]) == 1:
            continue
        chain = [head]
        while len(children[chain[-1]]) == 1 and len(graph[children[chain[-1]][0]]) == 1:
            chain.append(children[chain[-1]][0])
        key = (kin(head), frozenset(parents), frozenset(children[chain[-1]]), len(chain))
        sets.setdefault(key, []).append(chain)
    return list(sets.values())
