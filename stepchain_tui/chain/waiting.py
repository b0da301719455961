"""The function of the steps that only wait: by a reference of its own, so that what it is never seems to change."""

from __future__ import annotations


def passed() -> None:
    """Do nothing: what was waited for has ended."""
