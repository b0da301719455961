"""JSON values: what a step may take and give.

An output is a JSON value. What is not (a set, an object, bytes) is kept as text together with the name of its
type, so that it can always be stored, shown and passed on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from stepchain_tui.core.errors import UsageError

MAX_DEPTH = 200
_PLAIN = (str, bool, int, float, type(None))
_encoder = msgspec.json.Encoder(enc_hook=str)


def encode_json(value: Any) -> bytes:
    """Return `value` as compact UTF-8 JSON."""
    return _encoder.encode(value)


def decode_json(data: bytes | str) -> Any:
    """Return the JSON value in `data`."""
    return msgspec.json.decode(data)


def to_json_value(value: Any, _depth: int = 0) -> Any:
    """Return `value` as a JSON value: dicts with text keys, lists, text, numbers, booleans, None.

    Tuples become lists, paths, dates and decimals their text; any other object becomes
    `{"text": str(value), "type": "package.Class"}`. Numbers that JSON cannot hold (nan, inf) become text.

    Raises:
        UsageError: The value is nested deeper than 200 levels, or within itself.
    """
    kind = type(value)
    if kind in (str, bool, int, type(None)):
        return _fit_text(value) if kind is str else _fit_integer(value) if kind is int else value
    if kind is float:
        return value if math.isfinite(value) else str(value)
    if _depth > MAX_DEPTH:
        raise UsageError("a value is nested deeper than 200 levels", hint="Return a flatter value, or write a file.")
    if kind is dict:
        return {
            (key if type(key) is str and key.isascii() else _fit_key(str(key))): to_json_value(item, _depth + 1)
            for key, item in value.items()
        }
    if kind is list:
        return [to_json_value(item, _depth + 1) for item in value]
    if isinstance(value, Mapping):
        return {_fit_key(str(key)): to_json_value(item, _depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(item, _depth + 1) for item in value]
    if isinstance(value, Enum):
        return to_json_value(value.value, _depth + 1)
    if isinstance(value, str):
        return _fit_text(str(value))
    if isinstance(value, PurePath | datetime | date | time | Decimal | UUID):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_json_value(getattr(value, field.name), _depth + 1) for field in dataclasses.fields(value)
        }
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return to_json_value(dump(mode="json", warnings=False), _depth + 1)
    if isinstance(value, bytes | bytearray):
        return {"text": bytes(value).decode("utf-8", "replace"), "type": kind.__name__}
    return {"text": _fit_text(str(value)), "type": f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")}


def _fit_text(text: str) -> str:
    """Return `text` with lone surrogates, which UTF-8 cannot hold, replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _fit_key(text: str) -> str:
    """Return a key with lone surrogates written out as escapes, so that two keys do not become one."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _fit_integer(value: int) -> int | str:
    """Return `value`, or its text where JSON readers would lose digits of it."""
    return value if -(2**63) <= value < 2**64 else str(value)
