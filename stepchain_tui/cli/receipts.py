"""Receipts as text: what would be done on standard output, what is done and what was done on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from stepchain_tui.cli.text import clean_line, painted, put, put_json, say, table, uses_colour
from stepchain_tui.engine import Decision, Receipt, ReceiptLine
from stepchain_tui.run.status import RunStatus
from stepchain_tui.run.why_words import numbered, spoken

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
    say(f"would {plan_words(receipt)}; nothing was changed")
    return 0


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
    if counts[Decision.STALE]:
        parts.append(f"{counts[Decision.STALE]} of them stale")
    parts.append(_counted("run", counts[Decision.RUN], parts) if counts[Decision.RUN] else "run nothing")
    if counts[Decision.LEAVE]:
        parts.append(_counted("leave", counts[Decision.LEAVE], parts) + " as they are")
    return ", ".join(parts)


def account_words(receipt: Receipt) -> str:
    """Return what was really run in a few words: `ran 3 steps, reused 9 (saved 4 min 12 s)`."""
    ran = receipt.count(Decision.RUN)
    stale = receipt.count(Decision.STALE)
    kept = receipt.count(Decision.REUSE) + stale
    parts = [_counted("ran", ran, []) if ran else "ran nothing"]
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
    """Return how long the kept results took to make, where that is worth a word."""
    return f" ({verb} {spoken(receipt.seconds_saved)})" if receipt.seconds_saved >= _WORTH_TELLING else ""


def _rows(lines: Iterable[ReceiptLine]) -> list[str]:
    return table([_row(line) for line in lines])


def _row(line: ReceiptLine) -> tuple[str, ...]:
    took = spoken(line.seconds) if line.seconds is not None else ""
    return (line.decision.value, clean_line(line.step_id), took, clean_line(line.reason))
