"""What all prompt executors share."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Any, ClassVar

from stepchain_tui.executors.base import BaseExecutor
from stepchain_tui.executors.context import CallContext
from stepchain_tui.executors.prompt.models import PromptModels
from stepchain_tui.executors.spec import ToolSpec


class BasePromptExecutor(BaseExecutor):
    """Asks models; an implementation overrides `_execute_prompt`."""

    kind: ClassVar[str] = "prompt"

    def __init__(self, spec: ToolSpec) -> None:
        super().__init__(spec)
        self._models: PromptModels | None = None
        self._owns_models = False

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
        """Close the connections, where they are its own; may be called twice."""
        if self._owns_models:
            await self.models.close()

    def _hook(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        return self._execute_prompt(args, ctx, timeout)

    @abstractmethod
    def _execute_prompt(self, args: dict[str, Any], ctx: CallContext, timeout: float | None) -> Any:
        """Ask with `args["prompt"]` and its options (`system`, `model`, ...); `timeout` is in seconds."""
