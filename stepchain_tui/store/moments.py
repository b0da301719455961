"""Moments as the store keeps them: whole microseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def micros(at: datetime | None) -> int | None:
    """Return a moment as whole microseconds since the epoch."""
    return None if at is None else round(at.timestamp() * 1_000_000)


def moment(at: int) -> datetime:
    """Return microseconds since the epoch as an aware moment."""
    return datetime.fromtimestamp(at / 1_000_000, UTC)


def moment_or_none(at: int | None) -> datetime | None:
    """Return microseconds since the epoch as an aware moment, None as it is."""
    return None if at is None else datetime.fromtimestamp(at / 1_000_000, UTC)
