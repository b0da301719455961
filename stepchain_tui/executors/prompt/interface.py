"""The contract of everything that asks a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class IPromptExecutor(Protocol):
    """Asks a model (document 004)."""

    async def execute(self, args: Mapping[str, Any], ctx: Any = None) -> Any:
        """Ask with `args["prompt"]` and return the answer."""
