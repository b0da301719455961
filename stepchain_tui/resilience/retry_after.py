"""What the other side asks for with `Retry-After` (RFC 9110, 10.2.3)."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime
from typing import Any

LONGEST = 365 * 86_400.0
"""Seconds that are waited at most, however long we are asked to."""


def retry_after(headers: Any, now: datetime) -> float | None:
    """Return the seconds that `retry-after-ms` or `retry-after` (seconds or an HTTP date) ask for, or None.

    Args:
        headers: The answer's headers; names are looked up as a mapping without regard to case does it.
        now: The current moment, for a date.

    Returns:
        Seconds, 0 at least and 365 days at most: what is asked for beyond that is no honest wish.
    """
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if not value:
            continue
        try:
            seconds = float(value) * factor
        except ValueError:
            parsed = _date(value)
            if parsed is None:
                continue
            seconds = (parsed - now).total_seconds()
        if seconds == seconds and seconds != float("inf"):
            return min(max(0.0, seconds), LONGEST)
    return None


def _date(value: str) -> datetime | None:
    try:
        parsed = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
