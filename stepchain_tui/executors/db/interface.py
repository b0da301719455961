"""The contract of everything that asks databases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class IDbExecutor(Protocol):
    """Asks databases (document 004)."""

    async def execute(self, args: Mapping[str, Any], ctx: Any = None) -> Any:
        """Carry out one operation and return what came of it."""
