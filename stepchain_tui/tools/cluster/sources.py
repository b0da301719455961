"""The code that travels with a call: a function's own file and the files beside it that it imports.

What is imported is read from the compiled source, not by running it: each `import` that names a file of the function's
folder or of the plan's folder brings that file. Installed packages and data files stay where they are.
"""

from __future__ import annotations

import dis
import hashlib
import os
import site
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import CodeType
from typing import Any

from stepchain_tui.core.errors import did_you_mean
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.cluster.failures import cannot_travel
from stepchain_tui.tools.travel import _goes_by_name
from stepchain_tui.tools.views import FileStamp

SIZE_LIMIT = 8_000_000
"""Bytes of code that may travel with a call."""
CODE = "{code}"
"""Stands in a reference for the folder that the worker puts the code in."""


@dataclass(frozen=True, slots=True)
class Code:
    """A reference with the files that it needs.

    Attributes:
        reference: The reference as the worker resolves it; `CODE` stands for where the files are.
        folder: What it is relative to, itself relative to where the files are; absolute where none travel.
        digest: Tells these files from others; empty where none travel.
        files: `{relative path: bytes}`.
        root: The folder here that the paths are relative to.
    """

    reference: str
    folder: str
    digest: str = ""
    files: dict[str, bytes] | None = None
    root: str = ""


class CodeReader:
    """Finds the code behind references, and keeps it until a file of it changes or comes. Safe from any thread."""

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._kept: dict[tuple[str, str], tuple[Code, list[FileStamp], set[Path]]] = {}

    def current(self, reference: str, folder: str) -> Code | None:
        """Return the code if it was read before, and since then no file of it has changed and none was added to it."""
        known = self._kept.get((reference, folder))
        if known is None:
            return None
        code, stamps, absent = known
        return None if any(stamp.changed() for stamp in stamps) or any(map(os.path.exists, absent)) else code

    def read(self, reference: str, folder: str) -> Code:
        """Return the code behind a reference.

        Args:
            reference: `./file.py:name` or `package.module:name`.
            folder: What `./` is relative to, also searched for `package.module`.

        Raises:
            AttemptError: There is no such file, or the code is too large to travel, as a `user_error`.
        """
        with self._reading:  # many calls of one function begin at once: the first reads for all
            return self.current(reference, folder) or self._read(reference, folder)

    def _read(self, reference: str, folder: str) -> Code:
        place, _, name = reference.rpartition(":")
        home = Path(folder).resolve()
        absent: set[Path] = set()
        if place.endswith(".py") or "/" in place:
            path = Path(place).expanduser()
            is_relative = not path.is_absolute()
            path = (path if path.is_absolute() else home / path).resolve()
            _check_file(path)
            folders = tuple(dict.fromkeys((path.parent, home)))
            files = _reach([path], folders, absent)
        else:
            path, is_relative = None, True
            folders = (home,)
            files = _reach(_found(place, folders, absent), folders, absent)
        if not files:
            return Code(reference, folder)
        made = _code(reference, name, path if not is_relative else None, home, folders, files)
        self._kept[reference, folder] = (made, [FileStamp(str(file)) for file in files], absent)
        return made


def place_of(function: Callable[..., Any]) -> tuple[str, str] | None:
    """Return `(reference, folder)` of a function whose module is the user's own file, None for all others.

    Installed packages are expected on the workers; a module that is only found because of where a script was started is
    not, so it travels as a file of the folder that it was found in.
    """
    if not _goes_by_name(function):
        return None
    name = function.__module__
    home = _home_of(name, getattr(sys.modules[name], "__file__", None) or "")
    return (f"{name}:{function.__qualname__}", home) if home else None


@lru_cache(maxsize=256)
def _home_of(module: str, file: str) -> str:
    """Return the folder in which a user's module is found by its name; empty for modules that are installed."""
    if not file.endswith(".py") or any(file.startswith(f"{folder}{os.sep}") for folder in _installed_folders()):
        return ""
    top = Path(file).resolve()
    for _ in range(module.count(".") + (top.name == "__init__.py")):
        top = top.parent
    return str(top.parent)


def _reach(first: list[Path], folders: tuple[Path, ...], absent: set[Path]) -> dict[Path, bytes]:
    """Return the files that can be reached by imports, with what is in them; `absent` gets those that may come."""
    found: dict[Path, bytes] = {}
    ahead = list(first)
    while ahead:
        path = ahead.pop()
        if path in found or not path.is_file():
            continue
        try:
            found[path] = path.read_bytes()
        except OSError as error:
            raise _user_error(f"{path} cannot be read: {error.strerror}", "Check who may read it.") from error
        if sum(map(len, found.values())) > SIZE_LIMIT:
            raise _user_error(
                f"the code of the step has more than {SIZE_LIMIT / 1e6:.0f} MB with all that it imports",
                "Install it as a package on the workers, and name the function package.module:name.",
            )
        for module, places in _imports(path, found[path], folders):
            ahead += _found(module, places, absent)
    return found


def _imports(path: Path, source: bytes, folders: tuple[Path, ...]) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """Yield what each import in a file names and where it is looked for, those inside functions too.

    Read from the compiled code: parsing to a tree in a thread is not safe before Python 3.12 when another thread does.
    """
    try:
        code = compile(source, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):  # the worker's import says it, with the line
        return
    for name, level, names in _imported(code):
        places = folders if not level else (path.parents[min(level, len(path.parents)) - 1],)
        if name:
            yield name, places
        for each in names:
            yield f"{name}.{each}" if name else each, places


def _imported(code: CodeType) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """Yield the module, the number of dots and the names of each import."""
    before: list[Any] = [None, None]
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            level, names = before
            yield str(instruction.argval), int(level or 0), tuple(names or ())
        if instruction.opname != "EXTENDED_ARG":  # stands before what has more than 255 names or constants
            before = [before[1], instruction.argval]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imported(constant)


def _found(module: str, folders: tuple[Path, ...], absent: set[Path]) -> list[Path]:
    """Return the files that importing a module runs: those of its packages and its own.

    `absent` gets the paths that would be among them if they were there, but for names of the standard library.
    """
    top = module.partition(".")[0]
    if top == "stepchain_tui":  # workers have it
        return []
    found: list[Path] = []
    missing: list[Path] = []
    for folder in folders:
        path = folder
        for part in module.split("."):
            path = path / part
            is_folder = path.is_dir()
            for file in (path.with_name(f"{part}.py"), *((path / "__init__.py",) if is_folder else ())):
                (found if file.is_file() else missing).append(file)
            if not is_folder:
                missing.append(path)
                break
    if top not in sys.stdlib_module_names:
        absent.update(path for path in missing if not path.exists())
    return found


def _code(
    reference: str, name: str, absolute: Path | None, home: Path, folders: tuple[Path, ...], files: dict[Path, bytes]
) -> Code:
    root = os.path.commonpath([home, *folders, *(path.parent for path in files)])
    named = {_in_utf8(os.path.relpath(path, root)): content for path, content in sorted(files.items())}
    digest = hashlib.sha256()
    for relative, content in named.items():
        digest.update(f"{len(relative)} {relative} {len(content)} ".encode() + content)
    if absolute is not None:
        reference = f"{CODE}/{os.path.relpath(absolute, root)}:{name}"
    return Code(reference, os.path.relpath(home, root), digest.hexdigest()[:32], named, root)


def _in_utf8(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        shown = path.encode("utf-8", "backslashreplace").decode()
        raise cannot_travel(f"the file {shown}", "its name is not UTF-8") from error
    return path


def _check_file(path: Path) -> None:
    if not path.is_file():
        beside = [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, beside) or "Check the path; ./ is the folder of the plan."
        raise _user_error(f"there is no file {path}", hint)


@cache
def _installed_folders() -> tuple[str, ...]:
    """Return where installed code is, and our own, which workers have."""
    ours = str(Path(__file__).resolve().parents[2])
    found = {ours, *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))}
    found.update(site.getsitepackages(), [site.getusersitepackages()])
    return tuple(sorted(folder for folder in found if folder and folder != sys.prefix))


def _user_error(message: str, hint: str) -> AttemptError:
    return AttemptError(message, error_type=ErrorType.USER_ERROR, hint=hint)
