"""Tokens and money in words and as JSON: what is not known is told as unknown, never as nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepchain_tui.run.step_state import Usage

UNKNOWN = "?"
"""What stands where a number is not known."""
_LEAST = 0.0001
"""Dollars below which an amount is only told to be less."""


def dollars(amount: float | None) -> str:
    """Return an amount of money: `$12.40`, `$0.03`, `$0.0021`, `<$0.0001`, `?` where it is not known."""
    if amount is None:
        return UNKNOWN
    if amount <= 0:
        return "$0"
    if amount < _LEAST:
        return f"<${_LEAST:.4f}"
    if amount < 0.0095:
        return f"${amount:.4f}"
    return f"${amount:,.2f}" if amount < 9_999.5 else f"${amount:,.0f}"


def spent(usage: Usage, *, short: bool = True) -> str:
    """Return what answers of models cost; empty where none was asked.

    Args:
        usage: The tokens and the money.
        short: In few characters, `$0.03+?`, instead of `$0.03 and 2 answers of unknown price`.
    """
    if not usage.turns:
        return ""
    if usage.unpriced_turns >= usage.turns:
        return UNKNOWN if short else "the price is not known"
    if not usage.unpriced_turns:
        return dollars(usage.cost)
    if short:
        return f"{dollars(usage.cost)}+{UNKNOWN}"
    answers = "1 answer" if usage.unpriced_turns == 1 else f"{usage.unpriced_turns:,} answers"
    return f"{dollars(usage.cost)} and {answers} of unknown price"


def usage_record(usage: Usage) -> dict[str, Any]:
    """Return what models took, as JSON; null is what is not known.

    Where only some answers are of unknown size or price, the sums are of the others, and `unknown_turns` and
    `unpriced_turns` say how many are not in them.
    """
    uncounted = 0 < usage.turns <= usage.unknown_turns and not usage.input_tokens + usage.output_tokens
    return {
        "turns": usage.turns,
        "input_tokens": None if uncounted else usage.input_tokens,
        "output_tokens": None if uncounted else usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost": None if 0 < usage.turns <= usage.unpriced_turns else round(usage.cost, 10),
        "unpriced_turns": usage.unpriced_turns,
        "unknown_turns": usage.unknown_turns,
    }


def share(part: float, whole: float) -> float:
    """Return how much of a limit is used, from 0 to 1; all of a limit of nothing is used."""
    return 1.0 if whole <= 0 else min(1.0, max(0.0, part / whole))
