"""What a docstring says of a function and of its parameters: Google's style, and Sphinx's `:param name:`."""

from __future__ import annotations

import inspect
import re

_SECTION = re.compile(
    r"^(Args|Arguments|Parameters|Params|Returns?|Yields?|Raises|Examples?|Notes?|Source|Attributes|Warnings?|See Also)"
    r":?\s*$"
)
_ARGUMENTS = frozenset(("Args", "Arguments", "Parameters", "Params"))
_GOOGLE = re.compile(r"^(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_SPHINX = re.compile(r"^:param\s+(?:[^:]*\s)?(\w+)\s*:\s*(.*)$")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return what a docstring says before its sections, and what it says of each parameter."""
    lines = inspect.cleandoc(text).splitlines()
    ends = [place for place, line in enumerate(lines) if _SECTION.match(line) or line.startswith(":")]
    description = "\n".join(lines[: ends[0]] if ends else lines).strip()
    documented = _google(lines)
    documented.update(_sphinx(lines))
    return description, documented


def _google(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    inside, indent, current = False, 0, ""
    for line in lines:
        section = _SECTION.match(line)
        if section is not None:
            inside, indent, current = section[1] in _ARGUMENTS, 0, ""
            continue
        if not inside or not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        if not depth:
            inside = False
            continue
        indent = indent or depth
        entry = _GOOGLE.match(line.strip()) if depth == indent else None
        if entry is not None:
            current = entry[1]
            found[current] = [entry[2]]
        elif current:
            found[current].append(line.strip())
    return {name: " ".join(parts).strip() for name, parts in found.items()}


def _sphinx(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    current = ""
    for line in lines:
        entry = _SPHINX.match(line.strip())
        if entry is not None:
            current = entry[1]
            found[current] = [entry[2]]
        elif line.strip().startswith(":") or not line.strip():
            current = ""
        elif current:
            found[current].append(line.strip())
    return {name: " ".join(parts).strip() for name, parts in found.items()}
