"""Sub-plans in a graph: the parts of a `plan` step hang below it, or are folded into it.

The ids say what is a part of what (`outer/inner`, `each[2]/inner`). A *scope* is what can be folded: a `plan` step with
its parts, or one item of a map of plans. Drawn, parts that wait for nothing come below their `plan` step, and what
waits for that step comes below its last parts, as it goes on only when these are done.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stepchain_tui.run.ids import parent_path, split_id

Graph = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Parts:
    """Which steps of a graph are parts of which.

    Attributes:
        scopes: Part to the scopes around it, the outermost first: `each[1]/mid/x` to `each`, `each[1]`, `each[1]/mid`.
        members: Step that has parts to those right within it, in the order of the graph.
    """

    scopes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph) -> Parts:
        """Return the parts of a graph."""
        found = cls()
        for step in graph:
            if (path := parent_path(step)) and (owner := _owner(path)) in graph:
                around = found.scopes.get(owner, ())
                found.scopes[step] = (*around, owner) if path == owner else (*around, owner, path)
                found.members.setdefault(owner, []).append(step)
        return found

    def is_item(self, scope: str) -> bool:
        """Say whether a scope is one item of a map, and not a step."""
        return scope not in self.members

    def name(self, node: str) -> str:
        """Return how a part, or an item of a map, is called beside its siblings: with its item, but nothing else."""
        path, _, inner = node.rpartition("/")
        if _owner(path) not in self.members:
            return node
        item = split_id(path)[1]
        return inner if item is None else f"[{item}] {inner}"


def _owner(path: str) -> str:
    try:
        return split_id(path)[0]
    except ValueError:  # no id of a run: it only looks like one
        return ""


@dataclass(frozen=True, slots=True)
class Folded:
    """A graph in which folded scopes are one node each.

    Attributes:
        graph: Node to its parents; a node is a step, or an item of a map such as `each[2]`.
        groups: Node that stands for a folded scope to its steps. Of a `plan` step the first is that step itself.
        node_of: Step to the node of the folded scope that it is in; a `plan` step stands for itself.
        names: Node to its label, where that is not the node's id.
    """

    graph: dict[str, tuple[str, ...]]
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)
    node_of: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


def fold_parts(graph: Graph, parts: Parts, toggled: Collection[str] = ()) -> Folded:
    """Fold sub-plans into one node each, and wire those that are open to what is around them.

    Args:
        graph: Step to its parents.
        parts: The graph's parts.
        toggled: Scopes that are not as they are at first: items of maps are folded then, `plan` steps are open.
    """
    if not parts.members:
        return Folded({step: tuple(parents) for step, parents in graph.items()})
    wiring = _Wiring(graph, parts, toggled)
    drawn: dict[str, dict[str, None]] = {}
    groups: dict[str, list[str]] = {}
    for step in graph:
        node = wiring.node_of.get(step, step)
        links = drawn.setdefault(node, {})
        links.update((parent, None) for parent in wiring.links(step) if parent != node)
        if node != step or wiring.is_folded(node):
            groups.setdefault(node, []).append(step)
    names = {}
    for node in drawn:
        name = parts.name(node) if "/" in node else node
        if node in parts.members and node in groups:
            name = f"{name} ({len(groups[node]) - 1})"
        if name != node:
            names[node] = name
    return Folded(
        {node: tuple(links) for node, links in drawn.items()},
        {node: tuple(steps) for node, steps in groups.items()},
        wiring.node_of,
        names,
    )


class _Wiring:
    """Which node a step is drawn as, and which nodes it hangs below."""

    def __init__(self, graph: Graph, parts: Parts, toggled: Collection[str]) -> None:
        self._graph, self._parts, self._toggled = graph, parts, toggled
        self._needed = {parent for parents in graph.values() for parent in parents}
        self._ends: dict[str, tuple[str, ...]] = {}
        self.node_of: dict[str, str] = {}
        for step, scopes in parts.scopes.items():
            if (scope := next(filter(self.is_folded, scopes), None)) is not None:
                self.node_of[step] = scope

    def is_folded(self, scope: str) -> bool:
        """Say whether a scope is one node; what is no scope is not."""
        if scope in self._graph and scope not in self._parts.members:
            return False
        return self._parts.is_item(scope) is not (scope in self._toggled)

    def links(self, step: str) -> Iterator[str]:
        """Yield the nodes that a step hangs below."""
        parents = self._graph[step]
        if not parents and (scopes := self._parts.scopes.get(step)):
            owner = next(scope for scope in reversed(scopes) if scope in self._graph)
            yield self.node_of.get(owner, owner)
        for parent in parents:
            yield from self._ends_of(parent)

    def _ends_of(self, step: str) -> tuple[str, ...]:
        """Return the nodes that tell the end of a step: its last parts where it is open."""
        found = self._ends.get(step)
        if found is None:
            node = self.node_of.get(step, step)
            if node != step or step not in self._parts.members or self.is_folded(step):
                found = (node,)
            else:
                last = (part for part in self._parts.members[step] if part not in self._needed)
                found = tuple(dict.fromkeys(end for part in last for end in self._ends_of(part)))
            self._ends[step] = found
        return found
