"""Values on their way: JSON out of what a database gives, and what a database takes out of parameters."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

_PLAIN = frozenset({str, bool, type(None)})
_LARGEST = 2**63 - 1


def json_value(value: Any) -> Any:
    """Return a database's value as a JSON value; docs/databases.md has the table.

    Whole numbers of more than 64 bits, decimals, NaN and infinities, dates, times and bytes (base64) become text.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if -_LARGEST <= value <= _LARGEST else str(value)
    if kind is float:
        return value if math.isfinite(value) else _not_finite(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((json_value(item) for item in value), key=str)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"PT{value.total_seconds():g}S"
    return str(value)


def parameter_problem(value: Any) -> str:
    """Return what keeps a value from being a parameter of any database, `is ...`, or an empty string."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str) and (problem := text_problem(found)):
            return problem
        if isinstance(found, int) and abs(found) > 2**1000:
            return f"{'is' if found is value else 'holds'} a number of more than 300 digits"
        if isinstance(found, Mapping):
            waiting.extend((*found.keys(), *found.values()))
        elif isinstance(found, list | tuple):
            waiting.extend(found)
    return ""


def text_problem(text: str) -> str:
    """Return what keeps a text from being sent to any database, `holds ...`, or an empty string."""
    if "\x00" in text:
        return "holds a NUL character, which no text of a database may"
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        return "holds half of a surrogate pair, which is no text"
    return ""


def for_sqlite(value: Any) -> Any:
    """Return a value as SQLite keeps it: lists and mappings as JSON text, dates and decimals as text.

    Raises:
        ValueError: It is a whole number of more than 64 bits, or holds what JSON cannot.
    """
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, list | tuple | Mapping):
        try:
            return msgspec.json.encode(value).decode()
        except (TypeError, OverflowError) as error:
            raise ValueError(f"cannot be written as JSON ({error})") from error
    if isinstance(value, int) and not -_LARGEST - 1 <= value <= _LARGEST:
        raise ValueError("is a whole number of more than 64 bits, which SQLite has not")
    return str(value) if isinstance(value, Decimal | UUID) else value


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
