"""What the checks of a plan's shared entries (servers, tools, agents) and of its steps have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stepchain_tui.plan.expressions import ExpressionError
from stepchain_tui.plan.problems import Location, Mistake, unknown
from stepchain_tui.plan.templates import compile_key

ASKED = ("always", "never")
"""The words of a `require_approval` beside true, false and a list of tools."""


def mapping_in(value: Any) -> dict[str, Any]:
    """Return a part of plain data that should be a mapping; an empty one where it is something else."""
    return value if isinstance(value, dict) else {}


def list_in(value: Any) -> list[Any] | tuple[Any, ...]:
    """Return a part of plain data that should be a list; an empty one where it is something else."""
    return value if isinstance(value, list | tuple) else ()


def approval_word(where: Location, asked: Any) -> Iterator[Mistake]:
    """Yield the mistake of a word that does not say whether a person is asked: a slip would let a call pass."""
    if isinstance(asked, str) and asked not in ASKED:
        found = unknown(where, "word", asked, ASKED)
        yield Mistake(where, "write always, never, or a list of tools", found.suggestion)


def shared_expression(
    where: Location, text: str, known: Mapping[str, Iterable[str] | None], owner: str
) -> Iterator[Mistake]:
    """Yield what is wrong with an expression in an entry that all steps share.

    Args:
        where: The place of the text.
        text: The text.
        known: The names that have a value there, such as `inputs`, with the names in them; None for any.
        owner: What the entry is, such as `a server`.
    """
    try:
        template = compile_key("", text)
    except ExpressionError as error:
        yield Mistake(where, error.message, error.suggestion)
        return
    for use in template.uses:
        root, name = str(use[0]), str(use[1]) if len(use) > 1 else ""
        if root not in known:
            yield Mistake(where, f"'{root}' has no value here: {owner} is the same for all steps")
        elif name and (names := known[root]) is not None and name not in names:
            yield unknown(where, root[:-1], name, names)
