"""The contract of everything that runs Python code in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class IPythonExecutor(Protocol):
    """Runs code in a sandbox (document 004)."""

    async def execute(self, args: Mapping[str, Any], ctx: Any = None) -> Any:
        """Run one piece of code and return its value."""
