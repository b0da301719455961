"""What expressions work on: JSON values, reached by key, measured before they are made.

Every operation pays into one `Scope` before it does its work, so that the cost of an expression is bounded by a count
and not by a clock: whatever the expression, one evaluation handles at most `WORK_LIMIT` characters and items.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from stepchain_tui.core.errors import StepChainError, did_you_mean
from stepchain_tui.core.values import encode_json

RESULT_LIMIT = 10 * 1024 * 1024
"""Bytes of text, or of the JSON of any other value, that an expression may give."""
WORK_LIMIT = 16 * RESULT_LIMIT
"""Units of work that one evaluation may do: a character is one unit, an item of a list eight."""
ITEM_COST = 8
NAME_LENGTH = 200
"""Characters of a key that an expression computes, where it is used on many items."""
INTEGER_BITS = 1024
"""Whole numbers beyond this size are refused."""
CONTAINERS = (list, tuple, Mapping)


class ExpressionError(StepChainError, ValueError):
    """Signals an expression that cannot be read, or that has no value here.

    Args:
        message: What went wrong.
        expression: The expression's text, without braces; empty where it is not known yet.
        suggestion: The name that was probably meant.
    """

    kind = "expression"

    def __init__(self, message: str, *, expression: str = "", suggestion: str = "") -> None:
        where = f"{{{{ {expression} }}}}: " if expression else ""
        super().__init__(where + message, hint=f"did you mean '{suggestion}'?" if suggestion else "")
        self.reason = message
        self.expression = expression
        self.suggestion = suggestion

    def within(self, expression: str) -> ExpressionError:
        """Return the same error, naming the expression it happened in."""
        if self.expression:
            return self
        shown = expression if len(expression) <= 120 else expression[:117] + "..."
        return type(self)(self.reason, expression=shown, suggestion=self.suggestion)


class MissingValueError(ExpressionError):
    """Signals a name, key or item that is not there; `| default(...)` answers it.

    The closest name is looked for only when the error leaves its expression: `map` may raise and answer thousands.
    """

    _near: tuple[Any, Any] = ("", ())

    @classmethod
    def near(cls, message: str, name: Any, known: Any) -> MissingValueError:
        """Return the error for `name`, which is not among `known`."""
        error = cls(message)
        error._near = (name, known)
        return error

    def within(self, expression: str) -> ExpressionError:
        """Return the same error, naming the expression it happened in and the closest name."""
        name, known = self._near
        if isinstance(name, str) and len(name) <= NAME_LENGTH and len(known) <= 500:
            self.suggestion = suggest(name, known)
        return super().within(expression)


class Scope:
    """One evaluation: the names it may use and the work it may still do."""

    __slots__ = ("chain_result", "context", "left")

    def __init__(self, context: Mapping[str, Any], chain_result: Any = None) -> None:
        self.context = context
        self.chain_result = chain_result
        self.left = WORK_LIMIT

    def spend(self, units: int) -> None:
        """Pay for work that is about to be done.

        Raises:
            ExpressionError: There is not that much left.
        """
        self.left -= units
        if self.left < 0:
            raise ExpressionError("too much work for an expression; do it in a function or python step")

    def spend_items(self, items: int) -> None:
        """Pay for handling this many items of a list."""
        self.spend(items * ITEM_COST)

    def weigh(self, value: Any) -> int:
        """Return about how many characters the JSON of `value` has, having paid for finding out."""
        if isinstance(value, str):
            return len(value)
        if not isinstance(value, CONTAINERS):
            return ITEM_COST
        before = self.left
        waiting: list[Iterable[Any]] = [(value,)]
        while waiting:
            for part in waiting.pop():
                if isinstance(part, str):
                    self.spend(len(part) + ITEM_COST)
                    continue
                self.spend(ITEM_COST)
                if isinstance(part, Mapping):
                    waiting.extend((part.keys(), part.values()))
                elif isinstance(part, list | tuple):
                    waiting.append(part)
        return before - self.left


def suggest(name: str, known: Iterable[Any]) -> str:
    """Return the known name that is closest to `name`, or an empty string."""
    hint = did_you_mean(name, (key for key in known if isinstance(key, str)))
    return hint.removeprefix("did you mean '").removesuffix("'?")


def type_name(value: Any) -> str:
    """Return what a person calls the type of `value`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


def reach(value: Any, key: Any, where: str) -> Any:
    """Return the item of `value` under `key`: mappings by key only, lists and text by position.

    Raises:
        MissingValueError: There is no such item.
    """
    if isinstance(value, Mapping):
        try:
            return value[key]
        except (KeyError, TypeError):
            raise MissingValueError.near(f"{where} has no key {_short(key)}", key, value) from None
    if isinstance(value, list | tuple | str) and type(key) is int:
        if -len(value) <= key < len(value):
            return value[key]
        raise MissingValueError(f"{where} has {len(value)} items, none at {key}")
    extra = "; `| fromjson` reads JSON text" if isinstance(value, str) else ""
    raise MissingValueError(f"{where} is {type_name(value)} and has no {_short(key)}{extra}")


def _short(key: Any) -> str:
    return repr(key[:80] if isinstance(key, str) else key) if isinstance(key, str | int | float) else type_name(key)


def items_of(scope: Scope, value: Any) -> list[Any]:
    """Return the items of a list, the keys of a mapping or the characters of a text."""
    if not isinstance(value, list | tuple | str | Mapping):
        raise ExpressionError(f"expected a list, got {type_name(value)}")
    scope.spend_items(len(value))
    return list(value)


def depth_of(scope: Scope, value: Any) -> int:
    """Return how many levels of lists and mappings `value` has, having paid for finding out."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, CONTAINERS)]:
        depth += 1
        following: list[Any] = []
        for part in level:
            scope.spend_items(len(part))
            following.extend(part.values() if isinstance(part, Mapping) else part)
        level = following
    return depth


def render(scope: Scope, value: Any) -> str:
    """Return `value` as it stands in text: text as it is, everything else as JSON."""
    if isinstance(value, str):
        scope.spend(len(value))
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(check_number(value))
    scope.weigh(value)
    return encode_json(value).decode()


def check_text(text: str) -> str:
    """Return `text`.

    Raises:
        ExpressionError: It is larger than 10 MB.
    """
    if len(text) > RESULT_LIMIT or (not text.isascii() and len(text.encode("utf-8", "replace")) > RESULT_LIMIT):
        raise ExpressionError("the result is larger than 10 MB; write a file and pass its path")
    return text


def check_number(value: Any) -> Any:
    """Return `value`, a number that JSON can hold and that stays small.

    Raises:
        ExpressionError: It is not finite, not real or beyond 1024 bits.
    """
    if type(value) is int:
        if value.bit_length() > INTEGER_BITS:
            raise ExpressionError("a number is too large")
    elif not isinstance(value, int | float):
        raise ExpressionError(f"the result is not a number but {type_name(value)}")
    elif not math.isfinite(value):
        raise ExpressionError("the result is not a finite number")
    return value


def number(value: Any) -> int | float:
    """Return `value` where it is a number.

    Raises:
        ExpressionError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ExpressionError(f"arithmetic needs numbers, got {type_name(value)}; `~` joins text")
    checked: int | float = check_number(value)
    return checked


def check_result(scope: Scope, value: Any) -> Any:
    """Return a value that an expression made, measured.

    Raises:
        ExpressionError: It is larger than 10 MB.
    """
    if isinstance(value, str):
        return check_text(value)
    if isinstance(value, CONTAINERS) and scope.weigh(value) > RESULT_LIMIT:
        raise ExpressionError("the result is larger than 10 MB; write a file and pass its path")
    return value
