"""What the types of executors are for, kind by kind; nothing of a plan is run to find it out."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.tui.queries import Lines
from stepchain_tui.tui.text import visible

NAMES_WIDTH = 18
LONGEST_FILE = 256 * 1024
"""Bytes of a file beside a plan that are looked at for its docstring."""


@dataclass(frozen=True, slots=True)
class TypeHelp:
    """One type, or names of one: what it is for, in a sentence or two."""

    names: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """The types of one kind of step, or those that the folder of a plan adds to whichever kind they are of."""

    title: str
    types: tuple[TypeHelp, ...]


def executor_help(folder: Path) -> tuple[Section, ...]:
    """Return every kind of step that executors carry out, with its types; blocking.

    Args:
        folder: The plan's, whose files may add types: they are read, not run.
    """
    from stepchain_tui.executors.kinds import kinds_with_executors
    from stepchain_tui.plan.executor_types import DROP_IN_FOLDER, known_executor_types

    made = []
    for kind in kinds_with_executors():
        found: dict[str, list[str]] = {}
        for name in known_executor_types(kind):
            found.setdefault(_help_text(kind, name), []).append(name)
        made.append(Section(f"{kind} steps", tuple(TypeHelp(tuple(names), text) for text, names in found.items())))
    files = sorted((folder / DROP_IN_FOLDER).glob("[!_]*.py"))
    if files:
        own = tuple(TypeHelp((file.stem,), _docstring(file) or f"{file.name} says nothing of it.") for file in files)
        made.insert(0, Section(f"in {DROP_IN_FOLDER}/ beside the plan", own))
    return tuple(made)


def _help_text(kind: str, name: str) -> str:
    from stepchain_tui.executors.kinds import executor_factory
    from stepchain_tui.executors.sources import is_in_settings

    try:
        factory = executor_factory(kind)
        if factory.registry.is_at_hand(name):
            return factory.describe(name) or "Its class says nothing of it."
    except (StepChainError, ImportError) as error:
        return f"It cannot be loaded: {error}"
    return "From the settings file." if is_in_settings(kind, name) else "From an installed package."


def _docstring(file: Path) -> str:
    """Return the first paragraph of what a file says of itself, or of the first class in it that says anything."""
    try:
        with file.open("rb") as opened:
            tree = ast.parse(opened.read(LONGEST_FILE))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return "It cannot be read."
    texts = [ast.get_docstring(node) for node in tree.body if isinstance(node, ast.ClassDef)]
    said = next((text for text in (*texts, ast.get_docstring(tree)) if text), "")
    return " ".join(said.partition("\n\n")[0].split())


def help_lines(sections: Sequence[Section], width: int) -> Lines:
    """Return the help as lines of at most `width` characters."""
    lines: list[tuple[str, str]] = []
    for section in sections:
        lines += [("", ""), (section.title, "title")]
        for one in section.types:
            names = visible(", ".join(one.names))
            words = textwrap.wrap(visible(one.text), max(10, width - NAMES_WIDTH - 4)) or [""]
            if len(names) > NAMES_WIDTH:
                lines.append((f"  {names}", ""))
                names = ""
            lines.append((f"  {names:<{NAMES_WIDTH}}  {words[0]}", ""))
            lines += [(f"{'':<{NAMES_WIDTH + 4}}{text}", "") for text in words[1:]]
    texts, styles = zip(*lines[1:], strict=True) if lines else ((), ())
    return Lines(texts, width=max(map(len, texts), default=0), raw="\n".join(texts), kinds=styles)
