"""The contract of everything that runs commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class IShellExecutor(Protocol):
    """Runs commands (document 004)."""

    async def execute(self, args: Mapping[str, Any], ctx: Any = None) -> Any:
        """Run one command and return what came of it."""
