"""What a prompt may say besides its text, and how the model that it goes to is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepchain_tui.llm import AsyncLLMClient, ClientModel, LLMClient, ModelPlace, ModelRequest, choose_model
from stepchain_tui.plan import Plan, Step

MODEL_KEYS = ("system", "model", "temperature", "max_output_tokens", "reasoning", "replies")
LATER_KEYS = ("tools", "require_approval", "max_turns", "history")
"""Companion keys of prompts that this version does not carry out."""
_OTHER_KEYS = ("request", "engine", "fields", "on_timeout")
"""Companion keys of other kinds of steps."""
_KNOWN = {*MODEL_KEYS, *LATER_KEYS, *_OTHER_KEYS, "models", "prompt"}


def prompt_options(step: Step, plan: Plan) -> dict[str, Any]:
    """Return the options of a prompt step with the plan's `defaults` and `models` under them, unresolved."""
    defaults = plan.defaults
    found: dict[str, Any] = {key: getattr(defaults, key, None) for key in MODEL_KEYS}
    found.update({key: value for key in (*MODEL_KEYS, *LATER_KEYS) if (value := getattr(step, key)) is not None})
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


def request_of(args: Mapping[str, Any], model: str, attempt: int) -> ModelRequest:
    """Return what a model is asked.

    Args:
        args: `prompt` and its options; keys that are not known here go to the API as they are.
        model: The model's name.
        attempt: Which attempt this is, from 1.
    """
    return ModelRequest.of_text(
        str(args.get("prompt", "")),
        model=model,
        system=args.get("system"),
        temperature=args.get("temperature"),
        max_output_tokens=args.get("max_output_tokens"),
        reasoning=args.get("reasoning"),
        options={key: value for key, value in args.items() if key not in _KNOWN},
        attempt=attempt,
    )
