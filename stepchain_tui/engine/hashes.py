"""Content hashes of steps as the engine needs them: made for every attempt, so made cheaply.

What a step says does not change within a revision and is hashed once; the file behind a function is looked at each
time, by its time and size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from stepchain_tui.core.errors import UsageError
from stepchain_tui.plan import FileHashes, Step, content_hash, function_location, module_file
from stepchain_tui.plan.hashing import HASHED_KEYS

if TYPE_CHECKING:
    from stepchain_tui.engine.source import RunSource

HASH_LENGTH = 32
"""Hex digits that are kept of a hash: 128 bits tell contents apart."""


class _NoFiles(FileHashes):
    """Leaves the code behind a function out of a hash."""

    def of_function(self, function: str | Callable[..., Any], folder: Path) -> str:
        return ""


_NO_FILES = _NoFiles()
_HASHED = frozenset(HASHED_KEYS)
_ONLY_A_FUNCTION = frozenset({"function"})


class StepHasher:
    """Hashes what steps do."""

    def __init__(self) -> None:
        self._said: WeakKeyDictionary[RunSource, dict[str, tuple[str, Path | None]]] = WeakKeyDictionary()
        self._functions: WeakKeyDictionary[RunSource, dict[Any, tuple[str, Path | None]]] = WeakKeyDictionary()
        self._files = FileHashes()

    def hash_of(self, step: Step, source: RunSource) -> str:
        """Return the hash of what a step does right now, 32 hex digits; the code behind it is looked at anew."""
        known = self._said.get(source)
        if known is None:
            known = self._said[source] = {}
        found = known.get(step.id)
        if found is None:
            found = known[step.id] = self._hash_what_is_said(step, source)
        said, path = found
        if path is None:
            return said
        return hashlib.sha256(f"{said}{self._files.of_file(path)}".encode()).hexdigest()[:HASH_LENGTH]

    def _hash_what_is_said(self, step: Step, source: RunSource) -> tuple[str, Path | None]:
        if step.model_fields_set & _HASHED == _ONLY_A_FUNCTION:
            functions = self._functions.setdefault(source, {})
            found = functions.get(step.function)
            if found is None:
                found = functions[step.function] = self._hash_all(step, source)
            return found
        return self._hash_all(step, source)

    def _hash_all(self, step: Step, source: RunSource) -> tuple[str, Path | None]:
        path = _file_behind(step, source.folder)
        files = self._files if path is None else _NO_FILES
        return content_hash(step, source.folder, defaults=source.plan.defaults, files=files)[:HASH_LENGTH], path


def _file_behind(step: Step, folder: Path) -> Path | None:
    if not isinstance(step.function, str):
        return None
    try:
        location = function_location(step.function, folder)
    except UsageError:
        return None
    return Path(location.source) if location.kind == "file" else module_file(location.source)
