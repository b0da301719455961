"""How well tools did, and which of several equal ones is the better choice."""

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
