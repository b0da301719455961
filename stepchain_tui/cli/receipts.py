"""Receipts as text: what would be done on standard output, what is done and what was done on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from stepchain_tui.cli.text import clean_line, painted, put, put_json, say, table, uses_colour
from stepchain_tui.cli.usage import amounts_words
from stepchain_tui.engine import Decision, Receipt, ReceiptLine
from stepchain_tui.engine.forecast import Forecast, Range
from stepchain_tui.run.spending import dollars
from stepchain_tui.run.status import RunStatus
from stepchain_tui.run.why_words import listed, numbered, spoken
from stepchain_tui.tui.text import count

_TOLD = 30
"""Lines of a receipt that are told beside something else; the rest is counted."""
_WORTH_TELLING = 0.05
"""Seconds below which nobody cares what was saved."""
_COLOURS = {
    Decision.REUSE: RunStatus.SUCCEEDED,
    Decision.RUN: RunStatus.RUNNING,
    Decision.STALE: RunStatus.INTERRUPTED,
    Decision.LEAVE: RunStatus.PENDING,
}


def put_receipt(receipt: Receipt, *, as_json: bool) -> int:
    """Print a receipt of something that was not done; return the exit code."""
    if as_json:
        put_json(receipt.to_json())
        return 0
    colour = uses_colour(sys.stdout)
    for line, step in zip(_rows(receipt.steps), receipt.steps, strict=True):
        put(painted(line, _COLOURS[step.decision], colour=colour))
    sys.stdout.flush()
    for warning in receipt.warnings:
        say(f"warning: {clean_line(warning)}")
    if receipt.forecast is not None:
        for text in forecast_words(receipt.forecast):
            say(clean_line(text))
    say(f"would {plan_words(receipt)}; nothing was changed")
    return 0


def forecast_words(found: Forecast) -> list[str]:
    """Return a forecast in lines; empty where no model is asked."""
    if not found.steps:
        return []
    if not found.runs:
        return ["forecast: unknown, because no earlier run of this plan asked a model"]
    runs = numbered(found.runs, "earlier run")
    parts = []
    if found.tokens is not None:
        parts.append(f"{count(round(found.tokens.mean))} tokens{_between(found.tokens, _tokens)}")
    if found.usd is not None:
        parts.append(f"{dollars(found.usd.mean)}{_between(found.usd, dollars)}")
    lines = [f"forecast: {', '.join(parts) or 'unknown'}, by {runs}"]
    if found.unknown_steps:
        lines.append(f"forecast: not all is known of {listed(list(found.unknown_steps))}")
    return lines


def _tokens(amount: float) -> str:
    return count(round(amount))


def _between(found: Range, told: Callable[[float], str]) -> str:
    low, high = told(found.low), told(found.high)
    return f" ({low} to {high})" if low != high else ""


def say_receipt(receipt: Receipt) -> None:
    """Tell a receipt on standard error: the sums, then every step that is not simply taken again."""
    say(f"  {plan_words(receipt)}")
    told = [line for line in receipt.steps if line.decision is not Decision.REUSE]
    for line in _rows(told[:_TOLD]):
        say(f"  {line}")
    if len(told) > _TOLD:
        say(f"  ... and {numbered(len(told) - _TOLD, 'more step')}")


def plan_words(receipt: Receipt) -> str:
    """Return what is to be done in a few words: `reuse 9 steps (saves 4 min 12 s), run 3`."""
    counts = {decision: receipt.count(decision) for decision in Decision}
    kept = counts[Decision.REUSE] + counts[Decision.STALE]
    parts = [_counted("reuse", kept, []) + _saved("saves", receipt)] if kept else []
    expected = amounts_words(receipt.tokens_run, receipt.usd_run)
    if counts[Decision.STALE]:
        parts.append(f"{counts[Decision.STALE]} of them stale")
    about = f" (about {expected})" if expected else ""
    parts.append(_counted("run", counts[Decision.RUN], parts) + about if counts[Decision.RUN] else "run nothing")
    if counts[Decision.LEAVE]:
        parts.append(_counted("leave", counts[Decision.LEAVE], parts) + " as they are")
    return ", ".join(parts)


def account_words(receipt: Receipt) -> str:
    """Return what was really run in a few words: `ran 3 steps, reused 9 (saved 4 min 12 s)`."""
    ran = receipt.count(Decision.RUN)
    stale = receipt.count(Decision.STALE)
    kept = receipt.count(Decision.REUSE) + stale
    took = amounts_words(receipt.tokens_run, receipt.usd_run)
    parts = [_counted("ran", ran, []) + (f" ({took})" if took else "") if ran else "ran nothing"]
    if kept:
        parts.append(_counted("reused", kept, parts if ran else []) + _saved("saved", receipt))
    if stale:
        parts.append(f"{stale} of them stale")
    if left := receipt.count(Decision.LEAVE):
        parts.append(f"{left} not run")
    return ", ".join(parts)


def _counted(verb: str, count: int, before: list[str]) -> str:
    """Return a number of steps; the word `steps` is said once."""
    return f"{verb} {count:,}" if before else f"{verb} {numbered(count, 'step')}"


def _saved(verb: str, receipt: Receipt) -> str:
    """Return what the kept results took to make, where that is worth a word: time, money, tokens."""
    time = spoken(receipt.seconds_saved) if receipt.seconds_saved >= _WORTH_TELLING else ""
    parts = [part for part in (time, amounts_words(receipt.tokens_saved, receipt.usd_saved)) if part]
    return f" ({verb} {', '.join(parts)})" if parts else ""


def _rows(lines: Iterable[ReceiptLine], *, done: bool = False) -> list[str]:
    return table([_row(line, done=done) for line in lines])


def _row(line: ReceiptLine, *, done: bool) -> tuple[str, ...]:
    took = spoken(line.seconds) if line.seconds is not None else ""
    amounts = amounts_words(line.tokens or 0, line.usd or 0.0)
    if amounts and line.decision is Decision.RUN and not done:
        amounts = f"about {amounts}"
    parts = [part for part in (took, amounts) if part]
    return (line.decision.value, clean_line(line.step_id), ", ".join(parts), clean_line(line.reason))
