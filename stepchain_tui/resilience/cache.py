"""What makes a result reusable, and why one was not: the key's three parts, its age, and words for a miss.

Nothing is read or written here; the store keeps the entries.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

KEY_LENGTH = 32
"""Hex digits of a key and of each of its parts."""


@dataclass(frozen=True, slots=True)
class CacheParts:
    """The three things that must be the same for a result to be the same, each as 32 hex digits.

    Attributes:
        action: What the step does, as its plan says it.
        input: What it works on: its input with all expressions resolved.
        code: The code behind it; the hash of nothing where there is none.
    """

    action: str
    input: str
    code: str

    @property
    def key(self) -> str:
        """One hash of all three, 32 hex digits."""
        return hashlib.sha256(f"{self.action}/{self.input}/{self.code}".encode()).hexdigest()[:KEY_LENGTH]

    def changed_from(self, other: CacheParts) -> tuple[str, ...]:
        """Return the names of the parts that are not those of `other`."""
        return tuple(name for name in ("action", "input", "code") if getattr(self, name) != getattr(other, name))


def expired_for(created_at: datetime, ttl: float | None, now: datetime) -> float | None:
    """Return for how many seconds an entry has been too old at `now`, None while it is fresh.

    Args:
        created_at: When the result was made.
        ttl: Seconds that it holds, None for ever.
        now: The moment of asking; both moments are aware.
    """
    if ttl is None:
        return None
    over = (now - created_at).total_seconds() - ttl
    return over if over >= 0 else None


def explain_miss(wanted: CacheParts, last: CacheParts | None, *, expired_for: float | None = None) -> str:
    """Return why there was nothing to reuse.

    Args:
        wanted: What was looked for.
        last: What the newest entry of the same step stands for, None where there is none.
        expired_for: Seconds since the entry that was found became too old, None where none was found.
    """
    if expired_for is not None:
        return f"expired {_span(expired_for)} ago"
    if last is None:
        return "first time"
    changed = [f"the {name}" for name in wanted.changed_from(last)]
    if not changed:
        return "its result is no longer kept"
    *before, final = changed
    return f"{', '.join(before)} and {final} changed" if before else f"{final} changed"


def _span(seconds: float) -> str:
    """Return a span in its largest fitting unit, rounded down: `20 s`, `3 min`, `2 h`, `5 d`."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
