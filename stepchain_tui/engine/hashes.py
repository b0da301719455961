"""Content hashes of steps as the engine needs them: made for every attempt, so made cheaply.

What a step says does not change within a revision and is hashed once; the file behind a function is looked at each
time, by its time and size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from stepchain_tui.core.errors import UsageError
from stepchain_tui.plan import FileHashes, Step, content_hash, function_location, module_file, subplan_key
from stepchain_tui.plan.executor_types import FIXED_TYPES, drop_in_file
from stepchain_tui.plan.hashing import HASHED_KEYS
from stepchain_tui.plan.shared import called_entry, functions_behind

if TYPE_CHECKING:
    from stepchain_tui.engine.source import Definition, RunSource

Files = tuple[Path, ...]
"""The files behind a step: its function's, and that of an executor of its own beside the plan."""
HASH_LENGTH = 32
"""Hex digits that are kept of a hash: 128 bits tell contents apart."""


class _NoFiles(FileHashes):
    """Leaves the code behind a function out of a hash."""

    def of_function(self, function: str | Callable[..., Any], folder: Path) -> str:
        return ""

    def of_subplan(self, step: Step, folder: Path) -> str:
        return ""


_NO_FILES = _NoFiles()
_HASHED = frozenset(HASHED_KEYS)
_ONLY_A_FUNCTION = frozenset({"function"})


class StepHasher:
    """Hashes what steps do."""

    def __init__(self) -> None:
        self._said: WeakKeyDictionary[RunSource, dict[str, tuple[str, Files]]] = WeakKeyDictionary()
        self._functions: WeakKeyDictionary[RunSource, dict[Any, tuple[str, Files]]] = WeakKeyDictionary()
        self._files = FileHashes()

    def hash_of(self, definition: Definition, source: RunSource) -> str:
        """Return the hash of what a step does right now, 32 hex digits; the code behind it is looked at anew."""
        said, paths = self._what_is_said(definition, source)
        if not paths:
            return said
        return hashlib.sha256(f"{said}{self._code_of(paths)}".encode()).hexdigest()[:HASH_LENGTH]

    def parts_of(self, definition: Definition, source: RunSource) -> tuple[str, str]:
        """Return the hash of what a step says and that of the code behind it, which is the hash of nothing for none."""
        said, paths = self._what_is_said(definition, source)
        return said[:HASH_LENGTH], hashlib.sha256(self._code_of(paths).encode()).hexdigest()[:HASH_LENGTH]

    def files_behind(self, definition: Definition, source: RunSource) -> Files:
        """Return the files of the code behind a step, whether they are there or not."""
        return self._what_is_said(definition, source)[1]

    def hash_with_code(self, definition: Definition, source: RunSource, files: Files) -> str:
        """Return the hash of what a step says with the code in `files`, such as where its plan is now."""
        said, _ = self._what_is_said(definition, source)
        return hashlib.sha256(f"{said}{self._code_of(files)}".encode()).hexdigest()[:HASH_LENGTH]

    def _code_of(self, paths: Files) -> str:
        return "".join([self._files.of_file(path) for path in paths])

    def hashes_of(self, definitions: Iterable[Definition], source: RunSource) -> Iterator[tuple[str, str]]:
        """Yield the id and the hash of many steps; each file behind them is looked at once."""
        looked_at: dict[tuple[str, Files], str] = {}
        for definition in definitions:
            found = self._what_is_said(definition, source)
            if found not in looked_at:
                looked_at[found] = self.hash_of(definition, source)
            yield definition.step.id, looked_at[found]

    def _what_is_said(self, definition: Definition, source: RunSource) -> tuple[str, Files]:
        known = self._said.get(source)
        if known is None:
            known = self._said[source] = {}
        found = known.get(definition.step.id)
        if found is None:
            found = known[definition.step.id] = self._hash_what_is_said(definition, source)
        return found

    def _hash_what_is_said(self, definition: Definition, source: RunSource) -> tuple[str, Files]:
        step = definition.step
        if step.model_fields_set & _HASHED == _ONLY_A_FUNCTION and not definition.scope:
            functions = self._functions.setdefault(source, {})
            found = functions.get(step.function)
            if found is None:
                found = functions[step.function] = self._hash_all(definition)
            return found
        return self._hash_all(definition)

    def _hash_all(self, definition: Definition) -> tuple[str, Files]:
        step, folder, plan = definition.step, definition.folder, definition.plan
        entry = called_entry(step, plan)
        behind = _files_behind(step, entry, folder)
        files = _NO_FILES if behind else self._files
        said = content_hash(step, folder, defaults=plan.defaults, entry=entry, files=files)
        if step.executor not in FIXED_TYPES:
            behind = (*behind, drop_in_file(step.executor, folder))
        return said[:HASH_LENGTH], behind


def _files_behind(step: Step, entry: Any, folder: Path) -> Files:
    if step.plan is not None:
        return (Path(subplan_key(step, folder)),)
    references = (step.function,) if step.function is not None else functions_behind(entry)
    found: dict[Path, None] = {}
    for reference in references:
        if isinstance(reference, str) and (path := _file_of(reference, folder)) is not None:
            found[path] = None
    return tuple(found)


def _file_of(reference: str, folder: Path) -> Path | None:
    try:
        location = function_location(reference, folder)
    except UsageError:
        return None
    return Path(location.source) if location.kind == "file" else module_file(location.source)
