"""The contract of everything that calls functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class IFunctionExecutor(Protocol):
    """Calls one function (document 004)."""

    async def execute(self, args: Mapping[str, Any], ctx: Any = None) -> Any:
        """Call the function with `(args, ctx)` and return what it returns."""
