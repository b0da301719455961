"""A conversation as earlier attempts left it: nothing of it is asked or done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stepchain_tui.core.secrets import Redactor
from stepchain_tui.executors.types import Exchange, StepCall

FIRST_TURN = 1
"""The number of a conversation's first answer."""
BEFORE_FIRST = 0
"""The number of an answer that is no part of it: a summary of what came before."""


def earlier_turns(call: StepCall | None, names: Mapping[str, object]) -> tuple[Exchange, ...]:
    """Return the turns to go on from, without gaps from the first one on; nothing where there are none such.

    Args:
        call: The attempt.
        names: The voices that there are: a turn of another one is of another conversation.
    """
    turns = [one for one in (call.exchanges if call is not None else ()) if one.turn >= FIRST_TURN]
    whole = all(
        one.turn == number and one.agent in names and one.output for number, one in enumerate(turns, FIRST_TURN)
    )
    return tuple(turns) if whole else ()


def summary_before(call: StepCall | None) -> Exchange | None:
    """Return the answer that was asked for before the first turn, where an attempt ended between the two."""
    found = [one for one in (call.exchanges if call is not None else ()) if one.turn < FIRST_TURN and one.output]
    return found[-1] if found else None


def with_secrets(items: Sequence[Mapping[str, Any]], said: Any, redactor: Redactor) -> list[Mapping[str, Any]]:
    """Return stored items with the secrets back in them that the model was told by the plan itself.

    Others stay masked: a tool that writes the mark of a secret into its result gets nothing for it.

    Args:
        items: The items.
        said: All that the plan tells the model: the prompt, the instructions.
        redactor: What masked them.
    """
    return [redactor.restored(dict(item), said) for item in items]
