"""How much of what came before goes into a question: the words of `history:` of prompts and `memory:` of agents."""

from __future__ import annotations

from typing import Any, NamedTuple

from stepchain_tui.core.errors import UsageError

FULL = "full"
"""Every earlier output, word for word."""
LAST = "last"
"""The latest earlier outputs that fit a budget of tokens."""
SUMMARISE = "summarise"
"""Earlier outputs, those that do not fit a budget of tokens as a summary that the model itself writes."""
CONTINUE = "continue"
"""The conversation of the last prompt that this one depends on goes on."""
NONE = "none"
WORDS = (FULL, LAST, SUMMARISE, CONTINUE, NONE)
WITH_TOKENS = (LAST, SUMMARISE)
DEFAULT_TOKENS = 4_000
"""The budget where none is written."""


class HistoryChoice(NamedTuple):
    """What is written: one of `WORDS`, and the budget in tokens of those that have one."""

    word: str
    tokens: int = 0


def history_choice(written: Any) -> HistoryChoice:
    """Return what a `history:` or a `memory:` says.

    Args:
        written: None or false for nothing, true for everything, a word, or a word with its budget: `{last: 2000}`.

    Raises:
        UsageError: It is none of these.
    """
    if written is None or written is False:
        return HistoryChoice(NONE)
    if written is True:
        return HistoryChoice(FULL)
    if isinstance(written, str) and written in WORDS:
        return HistoryChoice(written, DEFAULT_TOKENS if written in WITH_TOKENS else 0)
    if isinstance(written, dict) and len(written) == 1:
        word, tokens = next(iter(written.items()))
        if word in WITH_TOKENS and isinstance(tokens, int) and not isinstance(tokens, bool) and tokens > 0:
            return HistoryChoice(word, tokens)
    words = ", ".join(WORDS)
    raise UsageError(
        f"'{written}' says not how much of what came before goes into the question",
        hint=f"Write one of: {words}; or a budget in tokens: {{last: 2000}}, {{summarise: 2000}}.",
    )
