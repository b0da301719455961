"""How a function and its arguments get into another process: by name where they have one there, else by value."""

from __future__ import annotations

import contextlib
import pickle
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from stepchain_tui.tools.by_value import dilled, function_bytes
from stepchain_tui.tools.remote import NotPicklableError

_PLAIN = (str, int, float, bool, type(None))


def reference_of(function: Callable[..., Any]) -> tuple[str, str] | None:
    """Return `(reference, folder)` of a function that lives in a file another process cannot import by name.

    Such are modules that were loaded by path: pickled by name they do not arrive.
    """
    module = _module_with(function)
    file = getattr(module, "__file__", None)
    if module is None or file is None or not file.endswith(".py") or _can_be_imported(module.__name__):
        return None
    return f"{file}:{function.__qualname__}", str(Path(file).parent)


def _module_with(function: Callable[..., Any]) -> ModuleType | None:
    """Return the module in which a function is found by its name; None for closures, bound methods and `__main__`."""
    module_name = getattr(function, "__module__", None) or ""
    module = sys.modules.get(module_name)
    if module is None or module_name == "__main__":
        return None
    found: Any = module
    for part in getattr(function, "__qualname__", "<none>").split("."):
        found = getattr(found, part, None)
    return module if found == function else None


def _can_be_imported(module_name: str) -> bool:
    """Return whether another process with our search path finds a module by its name."""
    return _is_found(module_name.partition(".")[0], tuple(sys.path))


@lru_cache(maxsize=256)
def _is_found(top: str, _search_path: tuple[str, ...]) -> bool:
    return top in sys.builtin_module_names or PathFinder.find_spec(top, None) is not None


def pack(function: Callable[..., Any] | None, args: Mapping[str, Any], label: str) -> tuple[bytes, bool]:
    """Return `{"function", "args"}` as bytes, and whether dill made a part of them (see `unpack`).

    Raises:
        NotPicklableError: Names the object that cannot travel.
    """
    content: dict[str, Any] = {"function": function, "args": dict(args)}
    is_plain = _is_plain(content["args"])
    if is_plain and (function is None or _goes_by_name(function)):
        with contextlib.suppress(pickle.PicklingError):  # not the same object under its name
            return pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL), False
    try:
        # Values of classes that the function knows too must be made into bytes with it, or they are of other classes.
        made = function_bytes(function) if is_plain and function is not None else dilled(content)
    except Exception as error:
        # Picklers call the user's __reduce__, which may raise anything.
        reason = f"{type(error).__name__}: {error}".strip()
        raise NotPicklableError(_culprit(function, args, label), reason[:300]) from error
    known = {"args": content["args"]} if is_plain else {}
    return pickle.dumps({**known, "dill": made}, protocol=pickle.HIGHEST_PROTOCOL), True


def unpack(payload: bytes) -> dict[str, Any]:
    """Return the `{"function", "args"}` that `pack` was given; raises what picklers raise."""
    content: dict[str, Any] = pickle.loads(payload)
    made = content.pop("dill", None)
    if made is not None:
        import dill

        content.update(dill.loads(made))
    return content


def _goes_by_name(function: Callable[..., Any]) -> bool:
    """Return whether another process gets the function by importing its module."""
    module = _module_with(function)
    return module is not None and _can_be_imported(module.__name__)


def _is_plain(value: Any) -> bool:
    if type(value) in _PLAIN:
        return True
    if type(value) is dict:
        return all(type(key) is str and _is_plain(item) for key, item in value.items())
    return type(value) is list and all(map(_is_plain, value))


def _culprit(function: Callable[..., Any] | None, args: Mapping[str, Any], label: str) -> str:
    """Return the name of the object that cannot be pickled."""
    for name, value in args.items():
        if not _travels(value):
            return f"argument '{name}' of {label} ({type(value).__name__})"
    code, closure = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
    for name, cell in zip(getattr(code, "co_freevars", ()), closure, strict=False):
        if not _travels(cell.cell_contents):
            return f"closure variable '{name}' of {label} ({type(cell.cell_contents).__name__})"
    names = getattr(function, "__globals__", {})
    for name in getattr(code, "co_names", ()):
        if name in names and not _travels(names[name]):
            return f"global '{name}' of {label} ({type(names[name]).__name__})"
    owner = getattr(function, "__self__", None)
    if owner is not None and not _travels(owner):
        return f"the object of method {label} ({type(owner).__name__})"
    return label


def _travels(value: Any) -> bool:
    try:
        dilled({"value": value})
    except Exception:  # noqa: BLE001 - as in `pack`
        return False
    return True
