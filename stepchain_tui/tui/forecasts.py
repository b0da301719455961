"""What a run will probably take, in a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stepchain_tui.run.spending import dollars
from stepchain_tui.tui.text import count, plural


def forecast_line(found: Mapping[str, Any], dot: str) -> str:
    """Return a forecast in a line, its warnings behind it; empty where nothing is known and nothing is wrong.

    Args:
        found: What `EngineHost.forecast` gave.
        dot: What parts the facts.
    """
    parts = []
    if tokens := _between(found.get("tokens"), lambda amount: count(round(amount))):
        parts.append(f"{tokens} tokens")
    if money := _between(found.get("usd"), dollars):
        parts.append(money)
    if parts:
        parts = [f"a run takes about {', '.join(parts)}, by {plural(int(found.get('runs') or 0), 'earlier run')}"]
        if unknown := found.get("unknown_steps"):
            parts.append(f"{plural(len(unknown), 'step')} not counted")
    return f" {dot} ".join([*parts, *map(str, found.get("warnings") or ())])


def _between(amount: Any, words: Callable[[float], str]) -> str:
    if not isinstance(amount, Mapping):
        return ""
    low, mean, high = (words(float(amount[name])) for name in ("low", "mean", "high"))
    return mean if low == high else f"{mean} ({low} to {high})"
