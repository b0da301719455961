"""Functions as bytes: made by dill, and kept as long as nothing that went into them has changed.

dill takes a tenth of a millisecond and more for the smallest function, several times what the rest of a call costs.
Its bytes may be used again while the function is the same: its code, its defaults, what its closure holds and the
globals that its code names, all by identity. That can only be told where all of these are values that never change, or
functions of which the same holds; a function that refers to a list, an object or a class of `__main__` is made
into bytes for every call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

_UNCHANGING = (int, float, complex, str, bytes, bool, type(None), type(...))
_MOST_PARTS = 200
_MOST_KEPT = 256
_ABSENT = object()
_kept: dict[int, tuple[list[Any], bytes]] = {}


class _MayChangeError(Exception):
    """Signals a function that refers to something whose changes cannot be seen."""


def dilled(content: dict[str, Any]) -> bytes:
    """Return values as bytes, by value wherever another process could not import them; raises what dill raises."""
    import dill

    return dill.dumps(content, recurse=True)  # type: ignore[no-any-return]


def function_bytes(function: Callable[..., Any]) -> bytes:
    """Return `dilled({"function": function})`, made anew only where something in it may have changed."""
    try:
        parts = list(_parts(function, set()))
    except _MayChangeError:
        return dilled({"function": function})
    known = _kept.get(id(function))
    if known is not None and len(known[0]) == len(parts) and all(map(_is, known[0], parts)):
        return known[1]
    made = dilled({"function": function})
    if len(_kept) >= _MOST_KEPT:
        _kept.clear()
    _kept[id(function)] = (parts, made)
    return made


def _is(first: Any, second: Any) -> bool:
    return first is second


def _parts(value: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the objects that, being the same, make the function the same."""
    if not isinstance(value, FunctionType) or value.__dict__ or len(seen) > _MOST_PARTS:
        raise _MayChangeError
    seen.add(id(value))
    yield value
    yield value.__code__
    for held in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()):
        yield from _held(held, seen)
    for cell in value.__closure__ or ():
        try:
            yield from _held(cell.cell_contents, seen)
        except ValueError:  # nothing in it yet
            raise _MayChangeError from None
    for name in _names(value.__code__):
        found = value.__globals__.get(name, _ABSENT)
        yield name
        yield from (found,) if found is _ABSENT else _held(found, seen)


def _held(value: Any, seen: set[int]) -> Iterator[Any]:
    kind = type(value)
    if kind in (tuple, frozenset):
        yield value
        for item in value:
            yield from _held(item, seen)
    elif (
        kind in _UNCHANGING
        or kind is ModuleType
        or (kind is BuiltinFunctionType and isinstance(value.__self__, ModuleType | None))
        or (isinstance(value, type) and value.__module__ != "__main__" and "<" not in value.__qualname__)
        or id(value) in seen
    ):
        yield value
    elif kind is FunctionType:
        yield from _parts(value, seen)
    else:
        raise _MayChangeError


@lru_cache(maxsize=1_000)
def _names(code: CodeType) -> tuple[str, ...]:
    """Return the names that code may look up among its globals, that of functions inside it too."""
    inside = [name for part in code.co_consts if isinstance(part, CodeType) for name in _names(part)]
    return tuple(dict.fromkeys((*code.co_names, *inside)))
