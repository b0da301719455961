"""A plan file as a tree that knows its lines: YAML events in, plain data and places out.

Made from the parser's events and not from a loaded document, for three reasons: every doubled key is found and not
only the first, an alias is counted before it is expanded, and it costs half the time, which an editor feels. Scalars
follow the core schema of YAML 1.2, so `on` and `2026-01-02` are text; what JSON has no number for is text too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from typing import Any

from stepchain_tui.plan.problems import Location, Problem, path_text

ALIAS_LIMIT = 50_000
"""Nodes that aliases may stand for in all."""
DEPTH_LIMIT = 100

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TAGS = "tag:yaml.org,2002:"
_NUMBER_LENGTH = 400


class Node:
    """One value of the file.

    Attributes:
        data: The value as plain data; shared where an alias repeats it.
        line: Where it begins, counted from 0.
        column: Where it begins, counted from 0.
        size: Nodes in it, with what aliases stand for.
        items: The nodes of a list, or None.
        pairs: Key to (the key's node, the value's node) of a mapping, or None.
    """

    __slots__ = ("column", "data", "items", "line", "pairs", "size")

    def __init__(self, data: Any, line: int, column: int) -> None:
        self.data = data
        self.line = line
        self.column = column
        self.size = 1
        self.items: list[Node] | None = None
        self.pairs: dict[Hashable, tuple[Node, Node]] | None = None

    def find(self, location: Location, *, on_key: bool = False) -> tuple[int, int]:
        """Return line and column, counted from 1, of the value at `location`, or of its key, or of what is nearest."""
        node, key_node = self, self
        for place, part in enumerate(location):
            following: Node | None = None
            if node.pairs is not None and part in node.pairs:
                key_node, following = node.pairs[part]
            elif node.items is not None and isinstance(part, int) and part < len(node.items):
                key_node = following = node.items[part]
            if following is None:
                break
            node = following
            if on_key and place == len(location) - 1:
                node = key_node
        return node.line + 1, node.column + 1


class TreeError(Exception):
    """Signals a file that cannot be read as one tree; carries what was found until then."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class TreeBuilder:
    """Builds the tree of one document from its events; nothing recurses."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.root: Node | None = None
        self._open: list[Node] = []
        self._keys: list[Node | None] = []
        self._anchors: dict[str, Node] = {}
        self._aliased = 0

    def build(self, text: str) -> Node:
        """Return the tree of `text`; mistakes that leave a tree are in `problems`.

        Raises:
            TreeError: There is no tree: a syntax error, several documents, an alias bomb.
        """
        from ruamel.yaml import YAML
        from ruamel.yaml.error import MarkedYAMLError, YAMLError

        documents = 0
        try:
            for event in YAML(typ="safe", pure=True).parse(text):
                name = type(event).__name__
                if name == "DocumentStartEvent":
                    documents += 1
                    if documents > 1:
                        raise self._stop(event, "a plan file holds one document")
                handler = _HANDLERS.get(name)
                if handler is not None:
                    handler(self, event)
        except MarkedYAMLError as error:
            raise TreeError(_syntax_problem(error, text)) from None
        except (YAMLError, ValueError, IndexError, AttributeError, AssertionError) as error:
            raise TreeError(Problem(1, 1, "plan", f"this is not YAML: {_first_line(error)}")) from None
        except RecursionError:
            raise TreeError(Problem(1, 1, "plan", "nested too deeply")) from None
        if self.root is None:
            raise TreeError(Problem(1, 1, "plan", "the file is empty"))
        return self.root

    def location(self) -> Location:
        """Return where the node that comes next will stand."""
        parts: list[str | int] = []
        for node, key in zip(self._open, self._keys, strict=True):
            if node.items is not None:
                parts.append(len(node.items))
            elif key is not None:
                parts.append(str(key.data))
        return tuple(parts)

    def scalar(self, event: Any) -> None:
        """Take a scalar."""
        mark = event.start_mark
        is_key = bool(self._open) and self._open[-1].pairs is not None and self._keys[-1] is None
        self._add(Node(self._value(event, is_key), mark.line, mark.column), event)

    def open_list(self, event: Any) -> None:
        """Take the beginning of a list."""
        node = Node([], event.start_mark.line, event.start_mark.column)
        node.items = []
        self._push(node, event)

    def open_mapping(self, event: Any) -> None:
        """Take the beginning of a mapping."""
        node = Node({}, event.start_mark.line, event.start_mark.column)
        node.pairs = {}
        self._push(node, event)

    def close(self, event: Any) -> None:
        """Take the end of a list or mapping."""
        node = self._open.pop()
        self._keys.pop()
        if node.items is not None:
            node.size += sum(item.size for item in node.items)
        elif node.pairs is not None:
            node.size += sum(value.size for _, value in node.pairs.values())
            self._merge(node)
        if self._open:
            self._place(node)
        else:
            self.root = node

    def alias(self, event: Any) -> None:
        """Take a repetition of an earlier node."""
        target = self._anchors.get(event.anchor)
        if target is None:
            raise self._stop(event, f"there is no anchor '&{event.anchor}' above")
        if any(target is node for node in self._open):
            raise self._stop(event, f"'*{event.anchor}' stands inside what it repeats")
        self._aliased += target.size
        if self._aliased > ALIAS_LIMIT:
            raise self._stop(event, f"aliases stand for more than {ALIAS_LIMIT} values; write the values out")
        if self._open:
            self._place(target)

    def _push(self, node: Node, event: Any) -> None:
        if len(self._open) >= DEPTH_LIMIT:
            raise self._stop(event, f"nested deeper than {DEPTH_LIMIT} levels")
        if self._open and self._open[-1].pairs is not None and self._keys[-1] is None:
            raise self._stop(event, "a key is text; a value that begins with {{ needs quotes around it")
        if event.anchor:
            self._anchors[event.anchor] = node
        self._open.append(node)
        self._keys.append(None)

    def _add(self, node: Node, event: Any) -> None:
        if event.anchor:
            self._anchors[event.anchor] = node
        if self._open:
            self._place(node)
        else:
            self.root = node

    def _place(self, node: Node) -> None:
        """Put a finished node into the list or mapping that is open, as a key or as a value."""
        parent = self._open[-1]
        if parent.items is not None:
            parent.items.append(node)
            parent.data.append(node.data)
            return
        key = self._keys[-1]
        if key is None:
            if not isinstance(node.data, str):
                raise TreeError(Problem(node.line + 1, node.column + 1, path_text(self.location()), "a key is text"))
            self._keys[-1] = node
            return
        assert parent.pairs is not None
        if key.data in parent.pairs:
            where = path_text(self.location())
            self.problems.append(Problem(key.line + 1, key.column + 1, where, f"key '{key.data}' is there twice"))
        else:
            parent.pairs[key.data] = (key, node)
            parent.data[key.data] = node.data
        self._keys[-1] = None

    def _merge(self, node: Node) -> None:
        """Carry out `<<: *base`: take keys that are not written from the merged mappings."""
        if node.pairs is None or "<<" not in node.pairs:
            return
        key, merged = node.pairs.pop("<<")
        del node.data["<<"]
        for source in merged.items if merged.items is not None else [merged]:
            if source.pairs is None:
                problem = Problem(key.line + 1, key.column + 1, "<<", "'<<' takes a mapping or a list of mappings")
                self.problems.append(problem)
                continue
            for name, pair in source.pairs.items():
                if name not in node.pairs:
                    node.pairs[name] = pair
                    node.data[name] = pair[1].data

    def _value(self, event: Any, is_key: bool) -> Any:
        text = event.value
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            self.problems.append(self._stop(event, "the text has half a character (a lone surrogate)").problem)
            return text.encode("utf-8", "replace").decode()
        if is_key:
            return text
        tag = event.tag and str(event.tag).replace("!!", _TAGS)
        if tag and tag != "!":
            if not str(tag).startswith(_TAGS) or str(tag).removeprefix(_TAGS) not in (
                "str",
                "int",
                "float",
                "bool",
                "null",
            ):
                self.problems.append(self._stop(event, f"the tag '{event.tag}' is not for plan files").problem)
            return text if str(tag).endswith(":str") else plain_scalar(text)
        return plain_scalar(text) if event.implicit[0] else text

    def _stop(self, event: Any, message: str) -> TreeError:
        mark = event.start_mark
        return TreeError(Problem(mark.line + 1, mark.column + 1, path_text(self.location()), message))


_HANDLERS = {
    "ScalarEvent": TreeBuilder.scalar,
    "SequenceStartEvent": TreeBuilder.open_list,
    "SequenceEndEvent": TreeBuilder.close,
    "MappingStartEvent": TreeBuilder.open_mapping,
    "MappingEndEvent": TreeBuilder.close,
    "AliasEvent": TreeBuilder.alias,
}


def plain_scalar(text: str) -> Any:
    """Return the value of a scalar without quotes."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    first = text[0]
    if not (first.isdigit() or first in "-+.") or len(text) > _NUMBER_LENGTH:
        return text
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(value := float(text)):
        return value
    return text


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _syntax_problem(error: Any, text: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    message = str(error.problem or error.context or "this is not YAML")
    line, column = (mark.line, mark.column) if mark is not None else (0, 0)
    lines = text.splitlines()
    here = lines[line] if line < len(lines) else ""
    if "{{" in here and '"' not in here.partition("{{")[0] and "'" not in here.partition("{{")[0]:
        message += "; a value that begins with {{ needs quotes around it"
    if "\t" in here[: column + 1]:
        message += "; YAML is indented with spaces, not tabs"
    return Problem(line + 1, column + 1, "plan", message)
