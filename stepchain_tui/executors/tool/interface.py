"""The contract of everything that calls tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class IToolExecutor(Protocol):
    """Calls one tool."""

    async def execute(self, args: Mapping[str, Any], ctx: Any = None) -> Any:
        """Call the tool with these arguments and return what it returns."""
