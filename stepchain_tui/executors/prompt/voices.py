"""Who speaks in a conversation, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepchain_tui.executors.prompt.toolset import NO_TOOLS, ToolSet
from stepchain_tui.llm.types import Citation, Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """One that a model speaks as: a prompt's own model, or an agent.

    Attributes:
        name: The agent; empty for a prompt's own model.
        system: Its instructions.
        args: How its model is asked: `model temperature max_output_tokens reasoning replies models`, and further keys
            for the API.
        tools: What it may call.
        handoffs: Names of the voices that it may hand the conversation to.
        description: What others are told about it, who may hand over to it.
    """

    name: str = ""
    system: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    tools: ToolSet = NO_TOOLS
    handoffs: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """How a conversation ended.

    Attributes:
        text: The last answer's text.
        value: What the text stands for, where it was to have a form (`expects`); else the text.
        items: The whole conversation, in the form of the Responses API.
        turns: How many answers there were, those of earlier attempts included.
        calls: How many tool calls were made, those of earlier attempts included.
        citations: The sources that the last answer names.
        agent: Who answered last.
        model: The model that answered last.
        refused: The text is the model's refusal.
    """

    text: str
    value: Any
    items: tuple[Item, ...]
    turns: int
    calls: int
    citations: tuple[Citation, ...] = ()
    agent: str = ""
    model: str = ""
    refused: bool = False
