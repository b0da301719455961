"""Talking to a model: the protocols of document 000, OpenAI's Responses API, scripted answers, which model is meant.

May import tools, run, plan and core; openai is loaded when the first request is sent.
"""

from stepchain_tui.llm.adapters import ClientModel
from stepchain_tui.llm.choice import DEFAULT_MODEL, SCRIPTED, ModelChoice, ModelPlace, choose_model
from stepchain_tui.llm.clients import AsyncOpenAIClient, OpenAIClient, ScriptedClient
from stepchain_tui.llm.openai_responses import OpenAIResponses
from stepchain_tui.llm.profiles import PROFILES, Profile
from stepchain_tui.llm.scripted import ScriptedModel
from stepchain_tui.llm.tool_formats import tools_for_model
from stepchain_tui.llm.types import (
    AsyncLLMClient,
    CallRequest,
    Citation,
    Item,
    LLMClient,
    LLMResponse,
    Model,
    ModelAnswer,
    ModelRequest,
    TextCallback,
    call_output,
    user_message,
)

__all__ = (
    "DEFAULT_MODEL",
    "PROFILES",
    "SCRIPTED",
    "AsyncLLMClient",
    "AsyncOpenAIClient",
    "CallRequest",
    "Citation",
    "ClientModel",
    "Item",
    "LLMClient",
    "LLMResponse",
    "Model",
    "ModelAnswer",
    "ModelChoice",
    "ModelPlace",
    "ModelRequest",
    "OpenAIClient",
    "OpenAIResponses",
    "Profile",
    "ScriptedClient",
    "ScriptedModel",
    "TextCallback",
    "call_output",
    "choose_model",
    "tools_for_model",
    "user_message",
)
