"""Whom prompts are asked: the models that an engine may reach, and its connections to them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.core.secrets import Redactor
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


class Chosen(NamedTuple):
    """Who is asked.

    Attributes:
        model: What answers.
        name: The model's name at its provider.
        provider: Who that is, as events and prices name it: the API's host, `client` or `scripted`.
    """

    model: Model
    name: str
    provider: str


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
        self,
        args: Mapping[str, Any],
        secrets: Mapping[str, str],
        *,
        asked_by: str,
        optional: bool = False,
        instead: str = "",
    ) -> Chosen:
        """Return who is asked.

        Args:
            args: The prompt's options: `model`, `models` (the plan's) and `replies` count.
            secrets: The plan's secrets by name; a model's key may be among them.
            asked_by: What the error names where there is no model.
            optional: Whether the step is skipped then.
            instead: Another model that is to be asked: one under the plan's `models`, else one of the same provider.

        Raises:
            AttemptError: No model can be asked.
            SkipStep: No model can be asked and the step is optional.
        """
        if instead in (args.get("models") or ()):
            args, instead = {**args, "model": instead}, ""
        choice = self._choice(args, secrets)
        if instead:
            choice = replace(choice, name=instead)
        if choice.provider == "scripted":
            return Chosen(ScriptedModel(args.get("replies") or (), self.clock), choice.name, choice.host)
        if self._client is not None:
            model = ClientModel(self._client)
            return Chosen(model, instead or args.get("model") or self._settings_model, model.host)
        if not choice.available:
            if optional:
                raise SkipStep(f"no model: {choice.key_variable} is not set")
            raise choice.missing(asked_by)
        return Chosen(self._connection(choice), choice.name, choice.host)

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
            return f"model {ClientModel(self._client).host}"
        return f"model {choice.host}" if choice.available else ""

    def redactor(self, secrets: Mapping[str, str]) -> Redactor:
        """Return what takes secrets out of what models are told: those of the environment, and these."""
        return Redactor.of_environment(self._environment, inputs=secrets)

    async def close(self) -> None:
        """Close the connections to models; may be called twice."""
        models, self._open = list(self._open.values()), {}
        for model in models:
            await model.close()
        if self._client is not None:
            await ClientModel(self._client).close()

    def _choice(self, args: Mapping[str, Any], secrets: Mapping[str, str]) -> ModelChoice:
        environment = {**self._environment, **secrets}
        return choose_model(args.get("model"), None, self._settings_model, environment, args.get("models"))

    def _connection(self, choice: ModelChoice) -> OpenAIResponses:
        what = f"{choice.base_url} {choice.name} {sorted(choice.options.items())} {choice.profile}"
        key = (what, choice.api_key, asyncio.get_running_loop())
        if key not in self._open:
            self._open[key] = OpenAIResponses(choice, self.clock)
        return self._open[key]
