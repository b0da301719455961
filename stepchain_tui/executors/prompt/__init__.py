"""Carries out `prompt:` steps: asks the model that step, plan or settings name, and streams its text into the log.

Imports `llm`, `run` and `plan`.
"""

from stepchain_tui.executors.prompt.base import BasePromptExecutor
from stepchain_tui.executors.prompt.executor import PromptToolExecutor
from stepchain_tui.executors.prompt.factory import PromptExecutorFactory
from stepchain_tui.executors.prompt.interface import IPromptExecutor
from stepchain_tui.executors.prompt.options import describe_model, prompt_options
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
    "prompt_options",
)
