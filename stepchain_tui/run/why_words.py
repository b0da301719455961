"""The words that explanations are made of: lengths of time, lists of names, one-line texts."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 240
"""Characters of somebody else's text (an error, a question) that one sentence quotes."""


def spoken(seconds: float) -> str:
    """Return a length of time as it is said in a sentence: `0.4 s`, `12 s`, `3 min 7 s`, `2 h 5 min`, `3 d 4 h`."""
    seconds = max(0.0, seconds)
    if seconds < 0.0005:
        return "0 s"
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = round(seconds)
    for size, unit, smaller, small_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole} s"


def quoted(text: str, limit: int = LONGEST) -> str:
    """Return any text on one line of at most `limit` characters."""
    flat = " ".join(text[: limit * 4].split())
    return flat if len(flat) <= limit else flat[: limit - 3].rstrip() + "..."


def numbered(number: int, what: str) -> str:
    """Return a number of things: `1 step`, `2 steps`, `1 try`, `3 tries`."""
    if number == 1:
        return f"1 {what}"
    return f"{number:,} {what[:-1] + 'ies' if what.endswith('ry') else what + 's'}"


def listed(names: Sequence[str], limit: int = 5) -> str:
    """Return names as a list in a sentence: `a`, `a and b`, `a, b and 4 more`."""
    shown = list(names[:limit])
    if len(names) > limit:
        shown.append(f"{len(names) - limit:,} more")
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + f" and {shown[-1]}" if shown else "none"


def by(who: str) -> str:
    """Return ` by Ada`, or nothing where nobody is known."""
    return f" by {who}" if who else ""
