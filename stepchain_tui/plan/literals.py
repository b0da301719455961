"""Values that a plan takes as they are: what would be read in their texts is written so that it stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stepchain_tui.plan.expressions import CHAIN_RESULT

_BRACE = re.compile(r"\{(?=[{%])")
_BROKEN_CHAIN_RESULT = "{{ '' }}".join((CHAIN_RESULT[:1], CHAIN_RESULT[1:]))


def literal(value: Any, *, keep_chain_result: bool = False) -> Any:
    """Return what stands for `value` in a plan: `{{`, `{%` and `CHAIN_RESULT` in its texts are data.

    Args:
        value: A JSON value.
        keep_chain_result: Let `CHAIN_RESULT` keep its meaning.
    """
    if isinstance(value, str):
        return _literal_text(value, keep_chain_result)
    if isinstance(value, Mapping):
        return {key: literal(item, keep_chain_result=keep_chain_result) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [literal(item, keep_chain_result=keep_chain_result) for item in value]
    return value


def _literal_text(text: str, keep_chain_result: bool) -> str:
    """Return a text whose value is `text`: each mark in it is broken by an expression.

    The empty one in front keeps white space around a single brace: alone in its text an expression stands for itself.
    """
    broken = _BRACE.sub("{{ '{' }}", text)
    if not keep_chain_result:
        broken = broken.replace(CHAIN_RESULT, _BROKEN_CHAIN_RESULT)
    return text if broken == text else "{{ '' }}" + broken
