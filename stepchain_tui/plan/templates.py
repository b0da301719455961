"""Which keys of a step hold expressions, for those who check, graph and carry out steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stepchain_tui.plan.expressions import Template, compile_condition, compile_template, walk_text
from stepchain_tui.plan.models import Step

CONDITION_KEYS = ("when", "for_each")
"""Keys whose text is one expression and nothing else."""
TEMPLATE_KEYS = ("prompt", "system", "model", "shell", "http", "db", "approve", "request", "args", "env", "cwd")
"""Keys in whose values expressions may stand anywhere. Python code and function names are taken as they are."""
EXPRESSION_KEYS = (*CONDITION_KEYS, *TEMPLATE_KEYS)
ONCE_KEYS = frozenset(CONDITION_KEYS)
"""Keys that are read once for a step, not once for an item: `item` and `index` have no value there."""


def compile_key(key: str, value: Any) -> Template:
    """Return the compiled value of one of `EXPRESSION_KEYS`.

    Raises:
        ExpressionError: An expression in it cannot be read.
    """
    return compile_condition(value) if key in CONDITION_KEYS else compile_template(value)


def step_templates(step: Step) -> dict[str, Template]:
    """Return every key of `step` that may hold expressions and is written, compiled, in the order of `EXPRESSION_KEYS`.

    Constant values are there too: their template gives them back as they are.

    Raises:
        ExpressionError: An expression cannot be read; `require_valid` says all of them with their places.
    """
    return {key: compile_key(key, value) for key, value in expression_values(step.__dict__)}


def expression_values(step: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a step that may hold expressions, with their values as plain data."""
    for key in EXPRESSION_KEYS:
        value = step.get(key)
        if value is not None:
            dump = getattr(value, "model_dump", None)
            yield key, (dump(by_alias=True, exclude_unset=True) if dump is not None else value)


def texts_with_expressions(step: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield every text of a step that may hold an expression or `CHAIN_RESULT`, with where it stands in the step."""
    for key, value in expression_values(step):
        yield from walk_text(value, (key,))
