"""Where the steps of a plan stand in its text, and how the text is indented: for edits that keep all other lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import StringIO
from typing import Any

from stepchain_tui.plan.tree import Node, TreeBuilder, TreeError

_LOOKED_AT = 5
"""Steps that tell how the steps of a file are set apart."""


@dataclass(frozen=True)
class Layout:
    """Where the steps of a plan in YAML stand, for edits by whole lines.

    Attributes:
        lines: All lines, each with its end.
        nodes: The steps.
        starts: The first line of each step, counted from 0.
        ends: The line after each step, with the blank lines and comments behind it.
        text: The whole text.
    """

    lines: list[str]
    nodes: list[Node]
    starts: list[int]
    ends: list[int]
    text: str

    @classmethod
    def of(cls, text: str, root: Node) -> Layout | None:
        """Return the layout of a text, or None where its steps do not stand on lines of their own."""
        lines = text.splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        nodes = (root.pairs or {})["steps"][1].items or []
        starts = [node.line for node in nodes]
        following = sorted(key.line for key, _ in (root.pairs or {}).values())
        apart = all(lines[line].lstrip().startswith("- ") for line in starts) and len(set(starts)) == len(starts)
        if not nodes or not apart:
            return None
        last = next((line for line in following if line > starts[-1]), len(lines))
        return cls(lines, nodes, starts, [*starts[1:], last], text)

    @property
    def steps(self) -> list[Any]:
        """The steps as plain data."""
        return [node.data for node in self.nodes]

    @property
    def gap(self) -> list[str]:
        """What stands between steps: an empty line where the first ones have one."""
        ends = [self.content_end(place) for place in range(min(len(self.starts) - 1, _LOOKED_AT))]
        return ["\n"] if ends and all(not self.lines[end].strip() for end in ends) else []

    def block(self, step: Any) -> list[str]:
        """Return the lines of a new step."""
        return self._dumped({"steps": [step]})[1:]

    def key_lines(self, place: int, key: str, value: Any) -> list[str]:
        """Return the lines of a new key of a step."""
        margin = " " * self.nodes[place].column
        return [margin + line if line.strip() else line for line in self._dumped({key: value})]

    def key_range(self, place: int, key: str) -> tuple[int, int]:
        """Return the first line of a key of a step, and the line after its value and the comments behind it."""
        keys = [node.line for node, _ in (self.nodes[place].pairs or {}).values()]
        start = (self.nodes[place].pairs or {})[key][0].line
        return start, min((line for line in keys if line > start), default=self.ends[place])

    def content_end(self, place: int) -> int:
        """Return the line after a step, without the blank lines and comments behind it."""
        return self.without_comments(self.starts[place], self.ends[place], [self.nodes[place].data])

    def without_comments(self, start: int, end: int, data: Any) -> int:
        """Return the line after `data`, which begins at `start`, without the blank lines and comments before `end`."""
        first = end
        while first > start + 1 and self._is_empty(first - 1):
            first -= 1
        # A block of text may end in what looks like a comment.
        return next((line for line in range(first, end) if self._reads(start, line) == data), first)

    def _reads(self, start: int, end: int) -> Any:
        try:
            return TreeBuilder().build("".join(self.lines[start:end])).data
        except TreeError:
            return None

    def with_comment(self, place: int) -> int:
        """Return the first line of a step together with the comment that stands right above it."""
        start, above = self.starts[place], self.content_end(place - 1) if place else self.starts[0]
        while start > above and self.lines[start - 1].strip() and self._is_empty(start - 1):
            start -= 1
        return start

    def _dumped(self, data: Any) -> list[str]:
        out = StringIO()
        round_tripper(self.text).dump(data, out)
        return out.getvalue().splitlines(keepends=True)

    def _is_empty(self, line: int) -> bool:
        text = self.lines[line].strip()
        return not text or text.startswith("#")


def round_tripper(text: str) -> Any:
    """Return what reads YAML with its comments and writes it with the indentation of `text`."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 1_000_000
    mapping, sequence, offset = _indentation(text)
    yaml.indent(mapping=mapping, sequence=sequence, offset=offset)
    return yaml


def _indentation(text: str) -> tuple[int, int, int]:
    """Return how `text` indents mappings, the items of lists, and the dashes of lists."""
    dash = re.search(r"^steps:[^\n]*\n(?:[ \t]*(?:#[^\n]*)?\n)*( *)-( +)\S", text, re.MULTILINE)
    offset = len(dash.group(1)) if dash else 2
    gap = len(dash.group(2)) if dash else 1
    nested = re.search(r"^( +)[^\s#-][^\n]*:[ \t]*(?:#[^\n]*)?\n\1( +)[^\s#-]", text, re.MULTILINE)
    mapping = len(nested.group(2)) if nested else 2
    return mapping, offset + 1 + gap, offset
