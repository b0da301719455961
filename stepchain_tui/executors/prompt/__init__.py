"""Carries out `prompt:` steps: conversations with the model that step, plan or settings name, and with its tools.

Imports `llm`, `mcp`, `tools`, `run` and `plan`, and the calls of tools from `executors.tool`.
"""

from stepchain_tui.executors.prompt.base import BasePromptExecutor
from stepchain_tui.executors.prompt.executor import PromptToolExecutor
from stepchain_tui.executors.prompt.factory import PromptExecutorFactory
from stepchain_tui.executors.prompt.interface import IPromptExecutor
from stepchain_tui.executors.prompt.options import describe_model
from stepchain_tui.executors.prompt.steps import PromptExecutor
from stepchain_tui.executors.spec import ToolSpec

__all__ = (
    "BasePromptExecutor",
    "IPromptExecutor",
    "PromptExecutor",
    "PromptExecutorFactory",
    "PromptToolExecutor",
    "ToolSpec",
    "describe_model",
)
