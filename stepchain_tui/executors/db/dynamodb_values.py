"""Plain JSON instead of DynamoDB's `{"S": "text"}`: the service's own description says where such values stand."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from stepchain_tui.executors.db.values import json_value

ATTRIBUTE = "AttributeValue"
SET_KEY, BINARY_KEY = "$set", "$binary"
"""How values that JSON does not have are written: `{"$set": [1, 2]}`, `{"$binary": "base64"}`."""
_DIGITS = 38
_HIGHEST, _LOWEST = Decimal("1E126"), Decimal("1E-130")
"""A number of DynamoDB is below the one and not below the other, its sign aside; or it is 0."""
_LARGEST = 2**63 - 1


class UnfitValueError(ValueError):
    """Signals a value that DynamoDB has no type for; the message begins with where it stands."""


def convert(value: Any, shape: Any, change: Callable[[Any, str], Any], place: str = "") -> Any:
    """Return a request or an answer with every attribute value in it changed.

    Args:
        value: The value as the API has it.
        shape: botocore's shape of it.
        change: Gets an attribute value and where it stands.
        place: Where this value stands.

    Raises:
        UnfitValueError: A value cannot be changed.
    """
    if shape.name == ATTRIBUTE:
        return change(value, place)
    if shape.type_name == "structure" and isinstance(value, Mapping):
        return {
            key: convert(item, shape.members[key], change, _inside(place, key)) if key in shape.members else item
            for key, item in value.items()
        }
    if shape.type_name == "list" and isinstance(value, list | tuple):
        return [convert(item, shape.member, change, f"{place}[{number}]") for number, item in enumerate(value)]
    if shape.type_name == "map" and isinstance(value, Mapping):
        return {key: convert(item, shape.value, change, _inside(place, key)) for key, item in value.items()}
    return value


def to_attribute(value: Any, place: str) -> dict[str, Any]:
    """Return a plain value as DynamoDB takes it.

    Raises:
        UnfitValueError: There is no type for it.
    """
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int() | float() | Decimal():
            return {"N": _number(value, place)}
        case bytes() | bytearray():
            return {"B": bytes(value)}
        case set() | frozenset():
            return _set(sorted(value, key=str), place)
        case {"$set": list() | tuple() as items} if len(value) == 1:
            return _set(list(items), place)
        case {"$binary": str() as text} if len(value) == 1:
            return {"B": _bytes(text, place)}
        case Mapping():
            return {"M": {str(key): to_attribute(item, _inside(place, key)) for key, item in value.items()}}
        case list() | tuple():
            return {"L": [to_attribute(item, f"{place}[{number}]") for number, item in enumerate(value)]}
    raise UnfitValueError(f"`{place}` is of type {type(value).__name__}, which DynamoDB has not")


def from_attribute(value: Any, place: str) -> Any:
    """Return a value as JSON has it: sets as lists, bytes as base64, numbers that no float holds as text."""
    ((kind, found),) = value.items()
    match kind:
        case "N":
            return _from_number(found)
        case "NS":
            return sorted((_from_number(each) for each in found), key=lambda each: (isinstance(each, str), each))
        case "SS":
            return sorted(found)
        case "BS":
            return sorted(json_value(bytes(each)) for each in found)
        case "B":
            return json_value(bytes(found))
        case "NULL":
            return None
        case "L":
            return [from_attribute(each, place) for each in found]
        case "M":
            return {key: from_attribute(each, place) for key, each in found.items()}
    return found


def _set(items: list[Any], place: str) -> dict[str, Any]:
    made = [to_attribute(item, f"{place}[{number}]") for number, item in enumerate(items)]
    kinds = {kind for each in made for kind in each}
    if len(kinds) != 1 or not kinds <= {"S", "N", "B"}:
        raise UnfitValueError(f"`{place}` is no set: it needs members, all texts, all numbers or all binary")
    kind = kinds.pop()
    return {f"{kind}S": [each[kind] for each in made]}


def _number(value: float | Decimal, place: str) -> str:
    # A float's shortest text is the number that was meant: 0.1, not its 55 binary digits.
    found = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not found.is_finite():
        raise UnfitValueError(f"`{place}` is {value}, which is no number of DynamoDB")
    if found and not _LOWEST <= found.copy_abs() < _HIGHEST:
        raise UnfitValueError(f"`{place}` is not between {_LOWEST} and {_HIGHEST}, as numbers of DynamoDB are")
    if len("".join(map(str, found.as_tuple().digits)).strip("0")) > _DIGITS:
        raise UnfitValueError(f"`{place}` has more than {_DIGITS} digits, which no number of DynamoDB may")
    return str(found)


def _from_number(text: str) -> int | float | str:
    try:
        exact = Decimal(text)
        if exact == exact.to_integral_value() and abs(exact) <= _LARGEST:
            return int(exact)
        near = float(exact)
    except ArithmeticError:  # no number, or one over all that can be counted with
        return text
    return near if math.isfinite(near) and Decimal(repr(near)) == exact else text


def _bytes(text: str, place: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise UnfitValueError(f"`{place}` is no base64") from error


def _inside(place: str, key: Any) -> str:
    return f"{place}.{key}" if place else str(key)
