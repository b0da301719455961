"""The filters of expressions: plain functions that pay before they work.

Each takes the scope, the value before the bar and its arguments. Names and arguments are Jinja's where Jinja has
them; `lines`, `split`, `fromjson`, `keys`, `values` and `quote` are ours. `default` is part of the language, not of
this table.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepchain_tui.core.values import decode_json, encode_json
from stepchain_tui.plan.expression_operators import TESTS
from stepchain_tui.plan.expression_values import (
    CONTAINERS,
    ITEM_COST,
    NAME_LENGTH,
    RESULT_LIMIT,
    ExpressionError,
    MissingValueError,
    Scope,
    check_number,
    depth_of,
    items_of,
    number,
    reach,
    render,
    suggest,
    type_name,
)

_NUMBER_TEXT = 400
_PRECISION = 20


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ExpressionError(f"expected text, got {type_name(value)}")
    return value


def _key(item: Any, attribute: Any) -> Any:
    """Return the part of `item` that a dotted `attribute` names."""
    if attribute is None:
        return item
    if isinstance(attribute, str) and len(attribute) > NAME_LENGTH:
        raise ExpressionError(f"the name of an attribute has at most {NAME_LENGTH} characters")
    for part in str(attribute).split(".") if isinstance(attribute, str) else [attribute]:
        position = int(part) if isinstance(part, str) and part.isascii() and part.isdigit() and len(part) < 10 else part
        item = reach(item, part if isinstance(item, Mapping) else position, "an item")
    return item


def _fold(value: Any, case_sensitive: bool) -> Any:
    return value if case_sensitive or not isinstance(value, str) else value.lower()


def length(scope: Scope, value: Any) -> int:
    """Return the number of characters, items or keys."""
    if not isinstance(value, (str, *CONTAINERS)):
        raise ExpressionError(f"{type_name(value)} has no length")
    return len(value)


def lines(scope: Scope, value: Any) -> list[str]:
    """Return the lines of a text, without their ends."""
    text = _text(value)
    scope.spend(2 * len(text))
    scope.spend_items(text.count("\n") + 1)
    found = text.replace("\r\n", "\n").split("\n")
    return found[:-1] if found[-1] == "" else found


def split(scope: Scope, value: Any, separator: str | None = None, maxsplit: int = -1) -> list[str]:
    """Return the parts of a text, at white space or at `separator`."""
    text = _text(value)
    scope.spend(len(text))
    scope.spend_items(text.count(separator) + 1 if separator else len(text) // 2 + 1)
    return text.split(separator, maxsplit)


def join(scope: Scope, value: Any, separator: str = "", attribute: Any = None) -> str:
    """Return the items as one text."""
    parts = [render(scope, _key(item, attribute)) for item in items_of(scope, value)]
    scope.spend(sum(map(len, parts)) + len(_text(separator)) * len(parts))
    return separator.join(parts)


def first(scope: Scope, value: Any) -> Any:
    """Return the first item."""
    return reach(items_of(scope, value) if isinstance(value, Mapping) else value, 0, "the list")


def last(scope: Scope, value: Any) -> Any:
    """Return the last item."""
    return reach(value, -1, "the list")


def sum_(scope: Scope, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    """Return the sum of numbers."""
    total = number(start)
    for item in items_of(scope, value):
        total = check_number(total + number(_key(item, attribute)))
    return total


def _extreme(choose: Callable[..., Any]) -> Callable[..., Any]:
    def extreme(scope: Scope, value: Any, case_sensitive: bool = False, attribute: Any = None) -> Any:
        items = items_of(scope, value)
        if not items:
            raise MissingValueError("the list is empty")
        scope.weigh(items)
        return choose(items, key=lambda item: _fold(_key(item, attribute), case_sensitive))

    return extreme


def sort(
    scope: Scope, value: Any, reverse: bool = False, case_sensitive: bool = False, attribute: Any = None
) -> list[Any]:
    """Return the items in order."""
    items = items_of(scope, value)
    scope.weigh(items)
    return sorted(items, key=lambda item: _fold(_key(item, attribute), case_sensitive), reverse=bool(reverse))


def unique(scope: Scope, value: Any, case_sensitive: bool = False, attribute: Any = None) -> list[Any]:
    """Return the items without those that came before."""
    items = items_of(scope, value)
    scope.weigh(items)
    seen: dict[bytes, Any] = {}
    for item in items:
        seen.setdefault(encode_json(_fold(_key(item, attribute), case_sensitive)), item)
    return list(seen.values())


def reverse(scope: Scope, value: Any) -> Any:
    """Return a list or a text backwards."""
    if isinstance(value, str):
        scope.spend(len(value))
        return value[::-1]
    return items_of(scope, value)[::-1]


def tojson(scope: Scope, value: Any, indent: int | None = None) -> str:
    """Return the value as JSON text, compact or indented by at most 8."""
    weight = scope.weigh(value)
    data = encode_json(value)
    if indent is None:
        return data.decode()
    width = min(max(int(indent), 0), 8)
    scope.spend(weight // ITEM_COST * width * depth_of(scope, value))
    return msgspec.json.format(data, indent=width).decode()


def fromjson(scope: Scope, value: Any) -> Any:
    """Return the value in a JSON text."""
    text = _text(value)
    scope.spend(4 * len(text))
    try:
        return decode_json(text)
    except msgspec.DecodeError as error:
        raise ExpressionError(f"the text is not JSON: {error}") from None


def quote(scope: Scope, value: Any) -> str:
    """Return the value as one word of a shell command."""
    text = render(scope, value)
    scope.spend(2 * len(text) + 4 * text.count("'"))
    return shlex.quote(text)


def int_(scope: Scope, value: Any, default: Any = 0, base: int = 10) -> Any:
    """Return a whole number, or `default` where the value is none."""
    try:
        if isinstance(value, str):
            if len(value) > _NUMBER_TEXT:
                return default
            return check_number(int(value, base)) if base != 10 or _is_whole(value) else int(float(value))
        return int(check_number(value))
    except (ValueError, OverflowError):
        return default


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"\s*[-+]?\d+\s*", text) is not None


def float_(scope: Scope, value: Any, default: Any = 0.0) -> Any:
    """Return a number, or `default` where the value is none."""
    try:
        if isinstance(value, str) and len(value) > _NUMBER_TEXT:
            return default
        return check_number(float(value))
    except (ValueError, OverflowError, TypeError):
        return default


def round_(scope: Scope, value: Any, precision: int = 0, method: str = "common") -> Any:
    """Return a number rounded to `precision` digits: common, ceil or floor."""
    amount = number(value)
    if type(precision) is not int or abs(precision) > _PRECISION:
        raise ExpressionError(f"round takes a precision from -{_PRECISION} to {_PRECISION}")
    if method == "common":
        return check_number(round(amount, precision))
    if method not in ("ceil", "floor"):
        raise ExpressionError("round has the methods common, ceil and floor")
    scale = 10.0**precision
    turn = math.ceil if method == "ceil" else math.floor
    return check_number(turn(amount * scale) / scale)


def upper(scope: Scope, value: Any) -> str:
    """Return a text in capitals."""
    scope.spend(3 * len(_text(value)))
    return str(value.upper())


def lower(scope: Scope, value: Any) -> str:
    """Return a text in small letters."""
    scope.spend(3 * len(_text(value)))
    return str(value.lower())


def trim(scope: Scope, value: Any, chars: str | None = None) -> str:
    """Return a text without white space, or `chars`, at its ends."""
    scope.spend(len(_text(value)))
    if chars is not None and len(_text(chars)) > NAME_LENGTH:
        raise ExpressionError(f"trim takes at most {NAME_LENGTH} characters")
    return str(value.strip(chars))


def replace(scope: Scope, value: Any, old: str, new: str, count: int | None = None) -> str:
    """Return a text with `old` replaced by `new`."""
    text = _text(value)
    scope.spend(len(text))
    times = text.count(_text(old)) if count is None else min(text.count(_text(old)), max(int(count), 0))
    scope.spend(max(len(text) + times * (len(_text(new)) - len(old)), 0))
    return text.replace(old, new, times)


def truncate(
    scope: Scope, value: Any, length: int = 255, killwords: bool = False, end: str = "...", leeway: int = 5
) -> str:
    """Return a text cut to `length` characters, `end` included."""
    text = _text(value)
    scope.spend(len(text) + len(_text(end)))
    if len(end) > RESULT_LIMIT or int(length) < len(end):
        raise ExpressionError("truncate needs a length that its end fits in")
    if len(text) <= length + max(int(leeway), 0):
        return text
    cut = text[: length - len(end)]
    return (cut if killwords else cut.rsplit(" ", 1)[0]) + end


def list_(scope: Scope, value: Any) -> list[Any]:
    """Return the items of a list, the keys of a mapping, the characters of a text."""
    return items_of(scope, value)


def keys(scope: Scope, value: Any) -> list[Any]:
    """Return the keys of a mapping."""
    if not isinstance(value, Mapping):
        raise ExpressionError(f"keys needs a mapping, got {type_name(value)}")
    return items_of(scope, value)


def values(scope: Scope, value: Any) -> list[Any]:
    """Return the values of a mapping."""
    keys(scope, value)
    return list(value.values())


_ABSENT = object()
_MISSING = object()


def map_(scope: Scope, value: Any, *arguments: Any, attribute: Any = None, default: Any = _ABSENT) -> list[Any]:
    """Return each item's `attribute`, or each item sent through a filter: `map('upper')`."""
    items = items_of(scope, value)
    if attribute is not None:
        if arguments:
            raise ExpressionError("map takes an attribute or a filter, not both")
        return [_attribute_or(item, attribute, default) for item in items]
    if not arguments:
        raise ExpressionError("map needs attribute=... or the name of a filter")
    name, *rest = arguments
    function = FILTERS.get(name) if isinstance(name, str) else None
    if function is None:
        raise ExpressionError(f"map knows no filter {name!r}", suggestion=suggest(str(name)[:80], FILTERS))
    results = []
    for item in items:
        scope.spend_items(1)
        results.append(function(scope, item, *rest))
    return results


def _attribute_or(item: Any, attribute: Any, default: Any) -> Any:
    try:
        return _key(item, attribute)
    except MissingValueError:
        if default is _ABSENT:
            raise
        return default


_PRESENCE = {"defined": True, "undefined": False}


def _selector(keep: bool) -> Callable[..., Any]:
    def select(scope: Scope, value: Any, attribute: Any, test: Any = None, *operands: Any) -> list[Any]:
        items = items_of(scope, value)
        return [item for item in items if _passes(scope, item, attribute, test, operands) is keep]

    return select


def _passes(scope: Scope, item: Any, attribute: Any, test: Any, operands: tuple[Any, ...]) -> bool:
    if test in _PRESENCE:
        return (_attribute_or(item, attribute, _MISSING) is not _MISSING) is _PRESENCE[test]
    found = _key(item, attribute)
    if test is None:
        return bool(found)
    check = TESTS.get(test) if isinstance(test, str) else None
    if check is None:
        raise ExpressionError(f"there is no test {test!r}", suggestion=suggest(str(test)[:80], [*TESTS, *_PRESENCE]))
    for operand in (found, *operands):
        scope.weigh([operand])
    return bool(check(found, *operands))


FILTERS: dict[str, Callable[..., Any]] = {
    "length": length,
    "lines": lines,
    "split": split,
    "join": join,
    "first": first,
    "last": last,
    "sum": sum_,
    "min": _extreme(min),
    "max": _extreme(max),
    "sort": sort,
    "unique": unique,
    "reverse": reverse,
    "tojson": tojson,
    "fromjson": fromjson,
    "quote": quote,
    "int": int_,
    "float": float_,
    "round": round_,
    "upper": upper,
    "lower": lower,
    "trim": trim,
    "replace": replace,
    "map": map_,
    "selectattr": _selector(True),
    "rejectattr": _selector(False),
    "list": list_,
    "keys": keys,
    "values": values,
    "truncate": truncate,
}
"""Every filter by name, except `default`."""
FILTER_NAMES = frozenset(FILTERS) | {"default"}
