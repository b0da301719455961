"""Tokens and money as the command line tells them. What is not known is never told as 0."""

from __future__ import annotations

from stepchain_tui.run.spending import dollars, spent
from stepchain_tui.run.state import RunState
from stepchain_tui.run.step_state import Usage
from stepchain_tui.tui.text import count


def usage_words(usage: Usage | None) -> str:
    """Return what models took in a few words: `12.4k tokens, $0.03`; empty where none was asked."""
    if usage is None or not usage.turns:
        return ""
    return ", ".join(part for part in (tokens_words(usage), spent(usage, short=False)) if part)


def tokens_words(usage: Usage) -> str:
    """Return how many tokens models took: `12.4k tokens`, with what is not known of it."""
    tokens = usage.input_tokens + usage.output_tokens
    if usage.unknown_turns >= usage.turns and not tokens:
        return "tokens unknown"
    unknown = f" and {usage.unknown_turns} of unknown size" if usage.unknown_turns else ""
    return f"{count(tokens)} tokens{unknown}"


def amounts_words(tokens: float, usd: float) -> str:
    """Return tokens and dollars that are known in part: `$0.12 and 3.1k tokens`; empty for nothing."""
    parts = [dollars(usd)] if usd else []
    return " and ".join([*parts, *([f"{count(round(tokens))} tokens"] if tokens else [])])


def budget_words(state: RunState) -> str:
    """Return what the run's budget allows: `$0.50`, `20.0k tokens`; empty where there is none."""
    from stepchain_tui.run.budgets import run_limits

    limits = run_limits(state)
    parts = [] if limits.usd is None else [dollars(limits.usd)]
    return " and ".join([*parts, *([] if limits.tokens is None else [f"{count(limits.tokens)} tokens"])])
