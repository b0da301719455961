"""The ports of a call that stands for several: what it tells goes to each of them that still waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from stepchain_tui.executors.types import CallPorts


class GroupPorts:
    """Hands on to the ports of several calls (`executors.types.CallPorts`).

    Args:
        members: The ports of each call with its result, which is done when the call no longer listens.
    """

    def __init__(self, members: Sequence[tuple[CallPorts, asyncio.Future[Any]]]) -> None:
        self._members = members

    def log(self, stream: str, text: str) -> None:
        """Keep a piece of output with each call."""
        for ports in self._listening():
            ports.log(stream, text)

    def log_from_thread(self, stream: str, text: str) -> None:
        """The same, from any thread."""
        for ports in self._listening():
            ports.log_from_thread(stream, text)

    async def spawned(self, pid: int, process_group: int, process_started_at: float) -> None:
        """Return once it is durable with each call."""
        for ports in list(self._listening()):
            await ports.spawned(pid, process_group, process_started_at)

    def model_turn(self, **facts: Any) -> None:
        """Keep it once, with the first call that listens."""
        for ports in self._first():
            ports.model_turn(**facts)

    def tool_started(self, **facts: Any) -> None:
        """Keep it once, with the first call that listens."""
        for ports in self._first():
            ports.tool_started(**facts)

    def tool_finished(self, **facts: Any) -> None:
        """Keep it once, with the first call that listens."""
        for ports in self._first():
            ports.tool_finished(**facts)

    def begun(self) -> None:
        """Let the time of each call count from here."""
        for ports in self._listening():
            ports.begun()

    def warn(self, text: str) -> None:
        """Keep a warning with each call."""
        for ports in self._listening():
            ports.warn(text)

    def _listening(self) -> Iterator[CallPorts]:
        return (ports for ports, result in self._members if not result.done())

    def _first(self) -> Iterator[CallPorts]:
        yield from list(self._listening())[:1]
