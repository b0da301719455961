"""What all prompt executors share."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Any, ClassVar

from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt.binding import ToolBinder
from stepchain_tui.executors.prompt.models import PromptModels
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.mcp import McpServers
from stepchain_tui.tools.pools import Pools


class BasePromptExecutor(BaseExecutor):
    """Asks models; an implementation overrides `_execute_prompt`."""

    kind: ClassVar[str] = "prompt"

    def __init__(self, spec: ToolSpec) -> None:
        super().__init__(spec)
        self._models: PromptModels | None = None
        self._owns_models = False
        self._binder: ToolBinder | None = None
        self._owned_pools: Pools | None = None
        self._owned_servers: McpServers | None = None

    @property
    def binder(self) -> ToolBinder:
        """Makes what a model may call: with the pools and servers of the engine in a plan, else with its own."""
        if self._binder is None:
            self._owned_pools, self._owned_servers = Pools(), McpServers(None)
            self._binder = ToolBinder(self._owned_pools, self._owned_servers)
        return self._binder

    @binder.setter
    def binder(self, binder: ToolBinder) -> None:
        self._binder = binder

    @property
    def models(self) -> PromptModels:
        """Chooses the model for a prompt: the engine's in a plan, else its own, described by the environment."""
        if self._models is None:
            self._models, self._owns_models = PromptModels(os.environ), True
        return self._models

    @models.setter
    def models(self, models: PromptModels) -> None:
        self._models, self._owns_models = models, False

    async def close(self) -> None:
        """Close the connections and end the workers, where they are its own; may be called twice."""
        if self._owns_models:
            await self.models.close()
        servers, self._owned_servers = self._owned_servers, None
        pools, self._owned_pools = self._owned_pools, None
        if servers is not None and pools is not None:
            self._binder = None
            await servers.close()
            await pools.close()

    def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        return self._execute_prompt(args, ctx, timeout)

    @abstractmethod
    def _execute_prompt(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Ask with `args["prompt"]` and its options (`system`, `model`, ...); `timeout` is in seconds."""
