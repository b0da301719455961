"""Results of direct calls that need not be made twice: a bounded memory cache, and the keys it is asked by.

Steps of a run are reused through the store (`resilience.cache`); here nothing outlives the process.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, MutableMapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.core.errors import UsageError

DEFAULT_SIZE = 100
_MAX_DEPTH = 200
_BY_TEXT = (Decimal, UUID, PurePath, datetime, date, time, timedelta)


class NoContentKeyError(UsageError, TypeError):
    """Signals a value whose content cannot be told from another's, such as a lock or an open file."""


def make_lru(
    maxsize: int = DEFAULT_SIZE, *, ttl: float | None = None, clock: Clock | None = None
) -> MutableMapping[str, Any]:
    """Return a mapping that forgets what was used longest ago.

    Not for use from several threads at once.

    Args:
        maxsize: Entries it holds, at least 1.
        ttl: Seconds after which an entry is gone, whether it was used or not; None is never.
        clock: Tells how old entries are.

    Raises:
        UsageError: A size or an age that cannot be meant.
    """
    from cachetools import LRUCache, TTLCache

    if maxsize < 1:
        raise UsageError(f"maxsize is {maxsize!r}", hint="Give a whole number of entries, at least 1.")
    if ttl is None:
        return LRUCache(maxsize)
    if not ttl > 0:
        raise UsageError(f"ttl is {ttl!r}", hint="Give seconds, more than 0; None keeps entries for good.")
    return TTLCache(maxsize, ttl, timer=(clock or SystemClock()).monotonic)


def content_key(*parts: Any) -> str:
    """Return 64 hex digits that are the same for equal contents and differ for others.

    Takes what dictionaries cannot hold as keys: lists, mappings with keys of mixed types, sets, dataclasses, models,
    plain objects (by class and attributes). The order of a mapping and of a set does not count; `1`, `1.0`, `True`
    and `"1"` are four values.

    Raises:
        NoContentKeyError: A part has no content to compare, or is nested deeper than 200 levels or within itself.
    """
    return _digest(parts, 0).hex()


def _digest(value: Any, depth: int) -> bytes:
    digest = hashlib.sha256()
    _feed(digest.update, value, depth)
    return digest.digest()


def _feed(update: Callable[[bytes], None], value: Any, depth: int) -> None:
    """Write `value` so that no two contents give the same bytes: each part with its type and its length."""
    if depth > _MAX_DEPTH:
        raise NoContentKeyError(
            "a value is nested deeper than 200 levels, or within itself", hint="Pass a flatter value."
        )
    kind = type(value)
    if value is None or kind in (bool, int, float):
        return update(f"{kind.__name__} {value!r};".encode())
    if kind is str:
        return _feed_bytes(update, "str", value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes | bytearray):
        return _feed_bytes(update, kind.__name__, bytes(value))
    if isinstance(value, Mapping):
        update(f"{_name(kind)} {len(value)};".encode())
        for key, item in sorted(((_digest(key, depth + 1), item) for key, item in value.items()), key=_first):
            update(key)
            _feed(update, item, depth + 1)
        return None
    if isinstance(value, list | tuple):
        update(f"{_name(kind)} {len(value)};".encode())
        for item in value:
            _feed(update, item, depth + 1)
        return None
    if isinstance(value, AbstractSet):
        digests = sorted(_digest(item, depth + 1) for item in value)
        return update(f"{_name(kind)} {len(digests)};".encode() + b"".join(digests))
    update(f"{_name(kind)} ".encode())
    return _feed(update, _content(value), depth + 1)


def _feed_bytes(update: Callable[[bytes], None], name: str, data: bytes) -> None:
    update(f"{name} {len(data)};".encode())
    update(data)


def _content(value: Any) -> Any:
    """Return what makes an object equal to another of its class."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, _BY_TEXT):
        return str(value)
    if isinstance(value, str | int | float):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if not isinstance(value, type) and not callable(value) and hasattr(value, "__dict__"):
        return vars(value)
    raise NoContentKeyError(
        f"a value of type {_name(type(value))} has no content to compare", hint="Pass plain data instead."
    )


def _first(pair: tuple[bytes, Any]) -> bytes:
    return pair[0]


def _name(kind: type) -> str:
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
