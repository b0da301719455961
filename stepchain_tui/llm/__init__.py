"""Talking to a model: the protocols of document 000, OpenAI's Responses API, scripted answers, which model is meant.

Imports `run` and `core` only; openai is loaded when the first request is sent.
"""

from stepchain_tui.llm.adapters import ClientModel
from stepchain_tui.llm.choice import DEFAULT_MODEL, SCRIPTED, ModelChoice, ModelPlace, choose_model
from stepchain_tui.llm.openai_responses import OpenAIResponses
from stepchain_tui.llm.scripted import ScriptedModel
from stepchain_tui.llm.types import (
    AsyncLLMClient,
    LLMClient,
    LLMResponse,
    Model,
    ModelAnswer,
    ModelRequest,
    TextCallback,
)

__all__ = (
    "DEFAULT_MODEL",
    "SCRIPTED",
    "AsyncLLMClient",
    "ClientModel",
    "LLMClient",
    "LLMResponse",
    "Model",
    "ModelAnswer",
    "ModelChoice",
    "ModelPlace",
    "ModelRequest",
    "OpenAIResponses",
    "ScriptedModel",
    "TextCallback",
    "choose_model",
)
