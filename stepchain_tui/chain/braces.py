"""Parameters of a chain in a plan: of all that plans read in texts, only `CHAIN_RESULT` means something in a chain."""

from __future__ import annotations

import re
from typing import Any

from stepchain_tui.plan import compile_template

_OPENING = re.compile(r"\{\{|\{%")


def literal_braces(value: Any) -> Any:
    """Return what a plan writes for a value, so that its braces are data: each opening pair is an expression for it.

    `CHAIN_RESULT` keeps its meaning.
    """
    if isinstance(value, str):
        return _OPENING.sub(lambda pair: f"{{{{ '{pair[0]}' }}}}", value)
    if isinstance(value, dict):
        return {key: literal_braces(item) for key, item in value.items()}
    return [literal_braces(item) for item in value] if isinstance(value, list | tuple) else value


def braces_as_meant(written: Any) -> Any:
    """Return the value that `literal_braces` was given; `CHAIN_RESULT` stays as it is."""
    return compile_template(written).resolve({})


def uses_chain_result(value: Any) -> bool:
    """Return whether `CHAIN_RESULT` stands anywhere in a value of a chain."""
    return compile_template(literal_braces(value)).uses_chain_result
