"""Carries out `prompt:` steps: asks the model that step, plan or settings name, and streams its text into the log.

Imports `llm`, `run` and `plan`.
"""

from stepchain_tui.executors.prompt.executor import PromptExecutor, describe_model, prompt_options

__all__ = ("PromptExecutor", "describe_model", "prompt_options")
