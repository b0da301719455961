"""The contract of everything that lets agents take turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class IAgentExecutor(Protocol):
    """Lets one agent take turns."""

    async def execute(self, args: Mapping[str, Any], ctx: Any = None) -> Any:
        """Let the agent take one turn and return its answer as a mapping."""
