"""Prompt steps: the plan's prompt, behind the executor that the step names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from stepchain_tui.core.clock import Clock
from stepchain_tui.executors.base import IExecutor
from stepchain_tui.executors.prompt.base import BasePromptExecutor
from stepchain_tui.executors.prompt.binding import ToolBinder
from stepchain_tui.executors.prompt.factory import PromptExecutorFactory
from stepchain_tui.executors.prompt.models import PromptModels
from stepchain_tui.executors.registry import ExecutorFactory
from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.steps import KindSteps
from stepchain_tui.executors.types import StepCall
from stepchain_tui.llm import AsyncLLMClient, LLMClient


class PromptExecutor(KindSteps):
    """Asks a model and returns its answer.

    Args:
        environment: Where the model's key and address are looked up: the engine's whole environment.
        settings_model: The model that the user's settings name.
        client: A client of the user, which then answers all prompts except those of `model: scripted`.
        clock: Tells the time.
        models: Chooses who is asked, instead of what the others say; its owner closes it.
        binder: Makes what models may call; ones of its own, which end with `close`, where it is not given.
    """

    factory: ClassVar[type[ExecutorFactory]] = PromptExecutorFactory

    def __init__(
        self,
        environment: Mapping[str, str],
        settings_model: str = "",
        client: LLMClient | AsyncLLMClient | None = None,
        clock: Clock | None = None,
        *,
        models: PromptModels | None = None,
        binder: ToolBinder | None = None,
    ) -> None:
        super().__init__()
        self._owns_models = models is None
        self._models = models or PromptModels(environment, settings_model, client, clock)
        self._binder = binder

    def args_of(self, call: StepCall) -> dict[str, Any]:
        """Return the prompt with its options."""
        found = {key: value for key, value in call.options.items() if value is not None}
        for key in ("model", "replies"):
            if not found.get(key) and (written := getattr(call.step, key)) is not None:
                found[key] = written
        return {**found, "prompt": call.value}

    def make(self, executor_type: type[Any], spec: ToolSpec, call: StepCall) -> IExecutor:
        """Return a new executor that asks the engine's models."""
        made = super().make(executor_type, spec, call)
        if isinstance(made, BasePromptExecutor):
            made.models = self._models
            if self._binder is not None:
                made.binder = self._binder
        return made

    def label(self, options: Mapping[str, Any]) -> str:
        """Return the name of the model that a prompt with these options goes to, as screens show it."""
        return self._models.label(options)

    def provider(self, call: StepCall) -> str:
        """Return who a call goes to: `model api.openai.com`, `model client`, or empty where nobody is asked."""
        return self._models.provider(self.args_of(call), call.secrets)

    async def close(self) -> None:
        """Let go of all executors, and close the connections to models that are its own; may be called twice."""
        await super().close()
        if self._owns_models:
            await self._models.close()
