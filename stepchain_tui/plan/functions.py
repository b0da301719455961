"""Where the function of a step lives, found without importing anything of the user's."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path
from typing import Literal, NamedTuple

from stepchain_tui.core.errors import UsageError
from stepchain_tui.plan.expression_values import suggest
from stepchain_tui.plan.problems import Location, Mistake


class FunctionLocation(NamedTuple):
    """Where a function lives.

    Attributes:
        kind: `file` or `module`.
        source: The file's path, resolved against the plan's folder; or the module's dotted name.
        qualname: The name inside it, dotted for a method.
    """

    kind: Literal["file", "module"]
    source: str
    qualname: str


def function_location(reference: str, folder: Path) -> FunctionLocation:
    """Return where `./file.py:name` or `package.module:name` points; nothing is opened.

    Raises:
        UsageError: The text is neither.
    """
    source, colon, qualname = reference.rpartition(":")
    names = qualname.split(".")
    if not colon or not source or "\0" in source or not all(name.isidentifier() for name in names):
        raise _not_a_reference(reference)
    if source.startswith((".", "/", "~")) or source.endswith(".py") or "/" in source:
        try:
            path = folder / Path(source).expanduser()
        except RuntimeError:
            raise _not_a_reference(reference) from None
        return FunctionLocation("file", str(path), qualname)
    if not all(part.isidentifier() for part in source.split(".")):
        raise _not_a_reference(reference)
    return FunctionLocation("module", source, qualname)


def _not_a_reference(reference: str) -> UsageError:
    return UsageError(
        f"'{reference[:80]}' is not a function",
        hint="Write './file.py:name' or 'package.module:name'.",
    )


def module_file(name: str) -> Path | None:
    """Return the file of a module, None where it has none or is not found; no parent package is imported."""
    search: list[str] | None = None
    spec: ModuleSpec | None = None
    parts = name.split(".")
    for place in range(len(parts)):
        dotted = ".".join(parts[: place + 1])
        loaded = sys.modules.get(dotted)
        spec = getattr(loaded, "__spec__", None)
        if spec is None and place == 0 and (BuiltinImporter.find_spec(dotted) or FrozenImporter.find_spec(dotted)):
            return None
        spec = spec or PathFinder.find_spec(dotted, search)
        if spec is None:
            return None
        search = list(spec.submodule_search_locations or ())
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def function_mistake(location: Location, reference: str, folder: Path) -> Mistake | None:
    """Return what is wrong with a function written in a plan, as far as its file can tell without being run."""
    try:
        kind, source, qualname = function_location(reference, folder)
    except UsageError as error:
        return Mistake(location, f"{error}: write './file.py:name' or 'package.module:name'")
    if kind == "module":
        return None
    path = Path(source)
    try:
        status = path.stat()
        if not path.is_file():
            return Mistake(location, f"'{path.name}' is not a file")
        names = _names_in(path, status.st_mtime_ns, status.st_size)
    except FileNotFoundError:
        nearby = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        return Mistake(location, f"there is no file '{reference.rpartition(':')[0]}'", suggest(path.name, nearby))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        return Mistake(location, f"cannot read '{path.name}': {error}")
    except SyntaxError as error:
        return Mistake(location, f"'{path.name}' line {error.lineno}: {error.msg}")
    if names is None or qualname in names:
        return None
    return Mistake(location, f"there is no function '{qualname}' in '{path.name}'", suggest(qualname, names))


@lru_cache(maxsize=256)
def _names_in(path: Path, modified: int, size: int) -> frozenset[str] | None:
    """Return the names that a file binds, methods as `Class.name`; None where only running it would tell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(path.read_bytes(), str(path))
    names = set(_bound(tree.body, ""))
    return None if "*" in names or "__getattr__" in names else frozenset(names)


def _bound(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield prefix + node.name
            case ast.ClassDef():
                yield prefix + node.name
                yield from _bound(node.body, f"{prefix}{node.name}.")
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    yield prefix + (alias.asname or alias.name.partition(".")[0])
            case _:
                yield from _assigned(node, prefix)


def _assigned(node: ast.stmt, prefix: str) -> Iterator[str]:
    """Yield the names that any other statement binds, and those of the blocks in it."""
    for field in ("body", "orelse", "finalbody"):
        yield from _bound(getattr(node, field, []), prefix)
    for handler in getattr(node, "handlers", []):
        yield from _bound(handler.body, prefix)
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield prefix + part.id
