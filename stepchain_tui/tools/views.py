"""A plan's own Python files as modules that never mix with anybody else's.

Each folder of step files is a *view*: a hidden package whose modules are the files beside the step's file and in the
plan's folder. Code of a view has its own `__import__` in its `__builtins__`, so that `import helpers` means the file
next to it, at import time and at call time, in any thread, while `sys.path` stays as it is and two plans may each have
a `helpers.py`. Modules are compiled from source each time: a `.pyc` is matched by whole seconds and would miss a
quick edit. When a file of a view changes, the whole view is loaded anew.

Trade-off: `importlib.import_module("helpers")` inside such a file does not see its neighbours; `import helpers` does.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import importlib.util
import itertools
import os
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_PREFIX = "_stepchain_plan_"
_NEVER_LOCAL = frozenset({"stepchain_tui", "builtins", "__main__", *sys.builtin_module_names})
_RACY_NANOSECONDS = 50_000_000
"""A file read this soon after it was written may be written again without a new time stamp."""
_generation = itertools.count(1)


class FileStamp:
    """What a file was when it was loaded, and whether it still is that."""

    __slots__ = ("_digest", "_path", "_stat")

    def __init__(self, path: str) -> None:
        self._path = path
        self._stat = _stat_of(path)
        fresh = self._stat is not None and time.time_ns() - self._stat[0] < _RACY_NANOSECONDS
        self._digest = _digest_of(path) if fresh else b""

    def changed(self) -> bool:
        """Return whether the file is gone or is not what it was; costs one `stat`."""
        stat = _stat_of(self._path)
        if stat is None or stat != self._stat:
            return True
        if self._digest:
            if _digest_of(self._path) != self._digest:
                return True
            if time.time_ns() - stat[0] > _RACY_NANOSECONDS:
                self._digest = b""
        return False


class PlanView:
    """The modules of one folder of step files and its plan's folder, as they were when they were loaded.

    Args:
        folders: Where its modules are looked for, in order.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = tuple(dict.fromkeys(folders))
        self.root = f"{_PREFIX}{next(_generation)}"
        self.files: dict[str, FileStamp] = {}
        self._local: dict[str, bool] = {}
        self._builtins = {**builtins.__dict__, "__import__": self._import}
        package = ModuleType(self.root)
        package.__path__ = list(self.folders)
        sys.modules[self.root] = package
        _finder.views[self.root] = self
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)

    def changed(self) -> bool:
        """Return whether any file that was loaded is not what it was."""
        return any(stamp.changed() for stamp in tuple(self.files.values()))

    def forget(self) -> None:
        """Take the modules out of the interpreter; functions that still run keep theirs."""
        own = f"{self.root}."
        for name in [name for name in sys.modules if name.startswith(own)]:
            del sys.modules[name]

    def module(self, name: str) -> ModuleType:
        """Return the module of this view that its own code would get by `import name`."""
        return importlib.import_module(f"{self.root}.{name}")

    def module_of_file(self, path: Path) -> ModuleType:
        """Return the module of a file, whatever its name is."""
        name = f"{self.root}.{path.stem.replace('.', '_')}"
        known = sys.modules.get(name)
        if known is not None and getattr(known, "__file__", None) == str(path):
            return known
        spec = _finder.find_spec(name, self.folders)
        if spec is not None and spec.origin == str(path):
            return importlib.import_module(name)
        return self._module_by_path(f"{name}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}", path)

    def has(self, top: str) -> bool:
        """Return whether `import top` in this view's code means a file of its folders."""
        known = self._local.get(top)
        if known is not None:
            return known
        if top in _NEVER_LOCAL or top.startswith(_PREFIX):
            return False
        spec = _finder.find_spec(f"{self.root}.{top}", self.folders)
        local = spec is not None and (spec.loader is not None or not _found_elsewhere(top))
        if local or top in sys.modules:
            self._local[top] = local
        return local

    def prepare(self, module: ModuleType, path: str) -> None:
        """Give a module that is about to run this view's imports, and remember its file."""
        self.files[path] = FileStamp(path)
        module.__dict__["__builtins__"] = self._builtins

    def _module_by_path(self, name: str, path: Path) -> ModuleType:
        known = sys.modules.get(name)
        if known is not None:
            return known
        spec = ModuleSpec(name, _ViewLoader(name, str(path), self), origin=str(path))
        spec.has_location = True
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            _ViewLoader(name, str(path), self).exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002 - as above
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        top = name.partition(".")[0]
        if level or not self.has(top):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        found = builtins.__import__(f"{self.root}.{name}", globals, locals, fromlist or (), 0)
        return found if fromlist else sys.modules[f"{self.root}.{top}"]


class _ViewLoader(SourceFileLoader):
    """Compiles from source and runs the module with its view's imports."""

    def __init__(self, fullname: str, path: str, view: PlanView) -> None:
        super().__init__(fullname, path)
        self._view = view

    def get_code(self, fullname: str) -> CodeType:
        code = self.source_to_code(self.get_data(self.path), self.path)
        assert isinstance(code, CodeType)
        return code

    def exec_module(self, module: ModuleType) -> None:
        self._view.prepare(module, self.path)
        super().exec_module(module)


class _ViewFinder(MetaPathFinder):
    """Finds modules whose names begin with a view's root."""

    def __init__(self) -> None:
        self.views: dict[str, PlanView] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        view = self.views.get(fullname.partition(".")[0])
        if view is None:
            return None
        package: ModuleSpec | None = None

        def loader(name: str, file: str) -> Loader:
            return _ViewLoader(name, file, view)

        for folder in path or ():
            # A new FileFinder each time: a kept one trusts the folder's time stamp and misses files just written.
            finder = FileFinder(folder, (loader, [".py"]), (ExtensionFileLoader, EXTENSION_SUFFIXES))  # type: ignore[arg-type]
            spec = finder.find_spec(fullname)
            if spec is not None and spec.loader is not None:
                return spec
            package = package or spec
        return package


_finder = _ViewFinder()


def _found_elsewhere(top: str) -> bool:
    """Return whether a name is a module for the rest of the interpreter; folders without code yield to it."""
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _stat_of(path: str) -> tuple[int, int, int, int] | None:
    try:
        stat = os.stat(path)  # noqa: PTH116 - asked on every call of a step: Path costs three times as much
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino


def _digest_of(path: str) -> bytes:
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        return b"gone"
