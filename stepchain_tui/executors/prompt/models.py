"""Whom prompts are asked: the models that an engine may reach, and its connections to them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.executors.prompt.options import describe_model
from stepchain_tui.executors.types import SkipStep
from stepchain_tui.llm import (
    AsyncLLMClient,
    ClientModel,
    LLMClient,
    Model,
    ModelChoice,
    OpenAIResponses,
    ScriptedModel,
    choose_model,
)


class PromptModels:
    """Chooses the model for a prompt and keeps the connections open for the next.

    Args:
        environment: Where the model's key and address are looked up: the engine's whole environment.
        settings_model: The model that the user's settings name.
        client: A client of the user, which then answers all prompts except those of `model: scripted`.
        clock: Tells the time.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        settings_model: str = "",
        client: LLMClient | AsyncLLMClient | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self._environment = environment
        self._settings_model = settings_model
        self._client = client
        self._open: dict[tuple[str, str, asyncio.AbstractEventLoop], OpenAIResponses] = {}

    def choose(
        self, args: Mapping[str, Any], secrets: Mapping[str, str], *, asked_by: str, optional: bool = False
    ) -> tuple[Model, str]:
        """Return who is asked, and by which name.

        Args:
            args: The prompt's options: `model`, `models` (the plan's) and `replies` count.
            secrets: The plan's secrets by name; a model's key may be among them.
            asked_by: What the error names where there is no model.
            optional: Whether the step is skipped then.

        Raises:
            AttemptError: No model can be asked.
            SkipStep: No model can be asked and the step is optional.
        """
        choice = self._choice(args, secrets)
        if choice.provider == "scripted":
            return ScriptedModel(args.get("replies") or ()), choice.name
        if self._client is not None:
            return ClientModel(self._client), args.get("model") or self._settings_model
        if not choice.available:
            if optional:
                raise SkipStep(f"no model: {choice.key_variable} is not set")
            raise choice.missing(asked_by)
        return self._connection(choice), choice.name

    def label(self, args: Mapping[str, Any]) -> str:
        """Return the name of the model that a prompt with these options goes to, as screens show it."""
        named, models = args.get("model"), args.get("models")
        return describe_model(named, None, self._settings_model, self._environment, self._client, models)

    def provider(self, args: Mapping[str, Any], secrets: Mapping[str, str]) -> str:
        """Return who a prompt goes to: `model api.openai.com`, `model client`, or empty where nobody is asked."""
        choice = self._choice(args, secrets)
        if choice.provider == "scripted":
            return ""
        if self._client is not None:
            return "model client"
        return f"model {urlsplit(choice.base_url).netloc}" if choice.available else ""

    async def close(self) -> None:
        """Close the connections to models; may be called twice."""
        models, self._open = list(self._open.values()), {}
        for model in models:
            await model.close()

    def _choice(self, args: Mapping[str, Any], secrets: Mapping[str, str]) -> ModelChoice:
        environment = {**self._environment, **secrets}
        return choose_model(args.get("model"), None, self._settings_model, environment, args.get("models"))

    def _connection(self, choice: ModelChoice) -> OpenAIResponses:
        what = f"{choice.base_url} {choice.name} {sorted(choice.options.items())}"
        key = (what, choice.api_key, asyncio.get_running_loop())
        if key not in self._open:
            self._open[key] = OpenAIResponses(choice, self.clock)
        return self._open[key]
