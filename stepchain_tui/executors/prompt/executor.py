"""The executor of `prompt:` steps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.executors.types import Outcome, SkipStep, StepCall
from stepchain_tui.llm import (
    AsyncLLMClient,
    ClientModel,
    LLMClient,
    Model,
    ModelAnswer,
    ModelChoice,
    ModelPlace,
    ModelRequest,
    OpenAIResponses,
    ScriptedModel,
    choose_model,
)
from stepchain_tui.plan import Plan, Step
from stepchain_tui.run import AttemptError, ErrorType

_MODEL_KEYS = ("system", "model", "temperature", "max_output_tokens", "reasoning", "replies")
_LATER_KEYS = ("tools", "require_approval", "max_turns", "history")
"""Companion keys of prompts that this version does not carry out."""
_OTHER_KEYS = ("request", "engine", "fields", "on_timeout")
"""Companion keys of other kinds of steps."""


class PromptExecutor:
    """Asks a model once and gives its text.

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
        self._environment = environment
        self._settings_model = settings_model
        self._client = client
        self._clock = clock or SystemClock()
        self._open: dict[tuple[str, str, asyncio.AbstractEventLoop], OpenAIResponses] = {}

    async def execute(self, call: StepCall) -> Outcome:
        """Ask with `call.value` as the prompt; the output is the text.

        `call.options` may hold `system model temperature max_output_tokens reasoning replies`, `models` (the plan's)
        and any further key for the API; see `prompt_options`.

        Raises:
            AttemptError: No model can be asked, or what the model's `answer` raises.
            SkipStep: No model can be asked and the step is optional.
        """
        options = {key: value for key, value in call.options.items() if value is not None}
        later = [key for key in _LATER_KEYS if options.get(key)]
        if later:
            raise AttemptError(
                f"step '{call.step.id}': this version asks a model once, without `{later[0]}`",
                error_type=ErrorType.USER_ERROR,
                hint=f"Leave `{later[0]}` out.",
            )
        model, request = self._model(call, options)
        started = self._clock.monotonic()
        try:
            answer = await model.answer(request, lambda text: call.ports.log("text", text))
        except asyncio.CancelledError:
            if isinstance(model, ClientModel):
                call.lingering = model.lingering
            raise
        except AttemptError as error:
            if "input_tokens" in error.details or "output_tokens" in error.details:
                self._report_failed(call, request, error, started)
            raise
        self._report(call, answer, started)
        if answer.refused:
            call.ports.warn("the model refused to answer; the output is what it said")
        if answer.tool_calls:
            call.ports.warn("the model asked for tools, which this version does not call")
        return Outcome(answer.text)

    def label(self, options: Mapping[str, Any]) -> str:
        """Return the name of the model that a prompt with these options goes to, as screens show it."""
        named, models = options.get("model"), options.get("models")
        return describe_model(named, None, self._settings_model, self._environment, self._client, models)

    def provider(self, call: StepCall) -> str:
        """Return who a call goes to: `model api.openai.com`, `model client`, or empty where nobody is asked."""
        options, environment = call.options, {**self._environment, **call.secrets}
        named = options.get("model") or call.step.model
        choice = choose_model(named, None, self._settings_model, environment, options.get("models"))
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

    def _model(self, call: StepCall, options: dict[str, Any]) -> tuple[Model, ModelRequest]:
        """Return who is asked, and what."""
        environment = {**self._environment, **call.secrets}
        named = options.get("model") or call.step.model
        choice = choose_model(named, None, self._settings_model, environment, options.get("models"))
        if choice.provider == "scripted":
            return ScriptedModel(options.get("replies") or call.step.replies or ()), _request(
                call, options, choice.name
            )
        if self._client is not None:
            return ClientModel(self._client), _request(call, options, named or self._settings_model)
        if not choice.available:
            missing = choice.missing(call.step.id)
            if call.step.optional:
                raise SkipStep(f"no model: {choice.key_variable} is not set")
            raise missing
        return self._connection(choice), _request(call, options, choice.name)

    def _connection(self, choice: ModelChoice) -> OpenAIResponses:
        what = f"{choice.base_url} {choice.name} {sorted(choice.options.items())}"
        key = (what, choice.api_key, asyncio.get_running_loop())
        if key not in self._open:
            self._open[key] = OpenAIResponses(choice, self._clock)
        return self._open[key]

    def _report(self, call: StepCall, answer: ModelAnswer, started: float) -> None:
        call.ports.model_turn(
            model=answer.model,
            response_id=answer.response_id,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            duration=self._clock.monotonic() - started,
        )

    def _report_failed(self, call: StepCall, request: ModelRequest, error: AttemptError, started: float) -> None:
        """Keep what an answer that failed has cost."""
        call.ports.model_turn(
            model=request.model,
            response_id=error.details.get("response_id", ""),
            input_tokens=error.details.get("input_tokens"),
            output_tokens=error.details.get("output_tokens"),
            duration=self._clock.monotonic() - started,
        )


def prompt_options(step: Step, plan: Plan) -> dict[str, Any]:
    """Return the options of a prompt step with the plan's `defaults` and `models` under them, unresolved."""
    defaults = plan.defaults
    found: dict[str, Any] = {key: getattr(defaults, key, None) for key in _MODEL_KEYS}
    found.update({key: value for key in (*_MODEL_KEYS, *_LATER_KEYS) if (value := getattr(step, key)) is not None})
    if plan.models:
        found["models"] = plan.models
    return {key: value for key, value in found.items() if value is not None}


def describe_model(
    step_model: str | None,
    plan_default: str | None,
    settings_model: str | None,
    environment: Mapping[str, str],
    client: LLMClient | AsyncLLMClient | None = None,
    models: Mapping[str, ModelPlace] | None = None,
) -> str:
    """Return what the app's header shows for the model that would be asked: its name, `scripted` or `no model`."""
    choice = choose_model(step_model, plan_default, settings_model, environment, models)
    if client is not None and choice.provider != "scripted":
        return step_model or plan_default or settings_model or ClientModel(client).label
    return choice.label


def _request(call: StepCall, options: dict[str, Any], model: str) -> ModelRequest:
    known = {*_MODEL_KEYS, *_LATER_KEYS, *_OTHER_KEYS, "models"}
    return ModelRequest(
        prompt=str(call.value),
        model=model,
        system=options.get("system"),
        temperature=options.get("temperature"),
        max_output_tokens=options.get("max_output_tokens"),
        reasoning=options.get("reasoning"),
        options={key: value for key, value in options.items() if key not in known},
        attempt=call.attempt,
    )
