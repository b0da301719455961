"""The names that `executor:` may have, by kind of step: a plan is checked without importing any executor.

Four sources add to what is shipped: `Factory.register` in Python, files in the folder `executors` beside the plan (the
file's name is the type's), entry points, and the settings file.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from stepchain_tui.plan.kinds import ActionKind

FIXED_TYPES = ("standard", "default")
"""The types that every kind has and that cannot be replaced."""
CACHED = "cached"
"""Functions whose results are kept: in a plan this is the engine's own cache."""
BATCHING = "batching"
"""Functions whose calls are gathered into groups: the type makes them itself, `batch` is their size."""
SHIPPED_TYPES: dict[str, tuple[str, ...]] = {
    ActionKind.FUNCTION: (*FIXED_TYPES, CACHED, "streaming", BATCHING),
    ActionKind.HTTP: (*FIXED_TYPES, "graphql"),
    ActionKind.DB: (*FIXED_TYPES, "sqlite", "postgresql", "dynamodb"),
}
"""What is built in; kinds that are not listed have the fixed types only."""
DROP_IN_FOLDER = "executors"
"""The folder beside a plan whose files add types."""
ENTRY_POINT_GROUP = "stepchain.executors"
"""Entry points of group `stepchain.executors.KIND` add types."""

_learned: dict[str, set[str]] = {}


def learn_type(kind: str, name: str) -> None:
    """Take note that a type was registered."""
    _learned.setdefault(kind, set()).add(name)


def forget_type(kind: str, name: str) -> None:
    """Take note that a registered type is no more."""
    _learned.get(kind, set()).discard(name)


def drop_in_file(name: str, folder: Path) -> Path:
    """Return the file beside a plan that would add a type of this name."""
    return folder / DROP_IN_FOLDER / f"{name}.py"


def entry_point_types(kind: str) -> tuple[str, ...]:
    """Return the names of the types of a kind that installed packages add."""
    return tuple(sorted({found.name for found in entry_points(group=f"{ENTRY_POINT_GROUP}.{kind}")}))


def known_executor_types(kind: str, folder: Path | None = None) -> list[str]:
    """Return every name that `executor:` may have for a kind of step, built-in ones first.

    Args:
        kind: The kind of step.
        folder: The plan's, where it has one.
    """
    known = list(SHIPPED_TYPES.get(kind, FIXED_TYPES))
    known.extend(sorted(_learned.get(kind, ())))
    if folder is not None and (folder / DROP_IN_FOLDER).is_dir():
        known.extend(sorted(found.stem for found in (folder / DROP_IN_FOLDER).glob("[!_]*.py")))
    known.extend(entry_point_types(kind))
    return list(dict.fromkeys(known))
