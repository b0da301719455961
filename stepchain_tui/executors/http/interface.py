"""The contract of everything that sends HTTP requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class IHttpExecutor(Protocol):
    """Sends requests (document 004)."""

    async def execute(self, args: Mapping[str, Any], ctx: Any = None) -> Any:
        """Send one request and return what came back."""
