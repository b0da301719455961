"""The operators of expressions, and the tests of `selectattr`: names to functions of plain values."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from stepchain_tui.plan.expression_values import INTEGER_BITS, ExpressionError


def _power(base: Any, exponent: Any) -> Any:
    if abs(exponent) > INTEGER_BITS or (type(base) is int and base.bit_length() * abs(exponent) > 2 * INTEGER_BITS):
        raise ExpressionError("the power is too large")
    return base**exponent


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
    "Mod": operator.mod,
    "Pow": _power,
}
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda value, container: value in container,
    "notin": lambda value, container: value not in container,
}
TESTS: dict[str, Callable[..., bool]] = {
    **dict.fromkeys(("eq", "equalto", "=="), operator.eq),
    **dict.fromkeys(("ne", "!="), operator.ne),
    **dict.fromkeys(("lt", "lessthan", "<"), operator.lt),
    **dict.fromkeys(("le", "<="), operator.le),
    **dict.fromkeys(("gt", "greaterthan", ">"), operator.gt),
    **dict.fromkeys(("ge", ">="), operator.ge),
    "in": lambda value, container: value in container,
    "none": lambda value: value is None,
    "true": lambda value: value is True,
    "false": lambda value: value is False,
}
