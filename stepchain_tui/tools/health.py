"""How well tools did: which of several equal ones is the better choice, and which mode would suit a function better."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class ToolHealth(Protocol):
    """What is known of a tool over all its calls; `store.ToolRecord` is one."""

    @property
    def name(self) -> str:
        """The tool, `server.tool` for one of an MCP server."""

    @property
    def success_rate(self) -> float | None:
        """Which part of its calls succeeded, 0.0 to 1.0; None where no call came to an end."""

    @property
    def mean_seconds(self) -> float | None:
        """How long a call took, None where there was none."""


Known = TypeVar("Known", bound=ToolHealth)
Rank = tuple[int, float, float, str]
_WORKS, _UNTRIED, _NEVER_WORKED = range(3)
_COMPUTES = 0.5
"""The share of its time from which a function that computes holds up the others of its interpreter."""
_WAITS = 0.1
"""The share of its time below which a function that waits has no use for a process."""
_LONG_ENOUGH = 0.05
"""Seconds below which a call is too short for its mode to matter."""


def healthier_first(records: Iterable[Known]) -> list[Known]:
    """Return records of tools that do the same, the one to prefer first.

    The higher success rate goes first, then the shorter mean time, then the name. A tool that nobody tried comes after
    all that worked at least once, and before those that never did: a broken one would else be chosen for ever.
    """
    return sorted(records, key=lambda record: health_rank(record.name, record.success_rate, record.mean_seconds))


def health_rank(name: str, success_rate: float | None, mean_seconds: float | None) -> Rank:
    """Return what sorts a tool among equal ones as `healthier_first` does.

    Args:
        name: The tool.
        success_rate: 0.0 to 1.0, None where it is not known.
        mean_seconds: None where it is not known.
    """
    if success_rate is None:
        return (_UNTRIED, 0.0, 0.0, name)
    seconds = float("inf") if mean_seconds is None else mean_seconds
    return (_WORKS if success_rate > 0 else _NEVER_WORKED, -success_rate, seconds, name)


def better_mode(mode: str, cpu_share: float | None, mean_seconds: float | None) -> str:
    """Return the mode that would suit a function better than the one it has, or an empty string.

    Args:
        mode: inline, thread or process; anything else has no better one.
        cpu_share: Which part of its time it computed over all its calls, 0.0 to 1.0; None where it is not known.
        mean_seconds: How long a call took; None where it is not known.
    """
    if cpu_share is None or mean_seconds is None or mean_seconds <= _LONG_ENOUGH:
        return ""
    if mode in ("thread", "inline") and cpu_share > _COMPUTES:
        return "process"
    return "thread" if mode == "process" and cpu_share < _WAITS else ""
