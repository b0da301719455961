"""What a prompt may say besides its text, and how the model that it goes to is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepchain_tui.llm import AsyncLLMClient, ClientModel, LLMClient, ModelPlace, ModelRequest, choose_model

MODEL_KEYS = ("system", "model", "temperature", "max_output_tokens", "reasoning", "replies")
CONVERSATION_KEYS = ("tools", "require_approval", "max_turns", "history", "expects")
_OTHER_KEYS = ("request", "engine", "fields", "on_timeout")
"""Companion keys of other kinds of steps."""
_FROM_THE_ENGINE = ("models", "agents", "servers", "earlier", "compression", "continued")
_KNOWN = {*MODEL_KEYS, *CONVERSATION_KEYS, *_OTHER_KEYS, *_FROM_THE_ENGINE, "prompt"}


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


def request_of(args: Mapping[str, Any], **fields: Any) -> ModelRequest:
    """Return what a model is asked.

    Args:
        args: The options of a prompt; keys that are not known here go to the API as they are.
        **fields: Further fields of `ModelRequest`.
    """
    return ModelRequest(
        temperature=args.get("temperature"),
        max_output_tokens=args.get("max_output_tokens"),
        reasoning=args.get("reasoning"),
        options={key: value for key, value in args.items() if key not in _KNOWN},
        **fields,
    )
