"""The types of prompt executors."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.prompt.executor import PromptToolExecutor
from stepchain_tui.executors.prompt.interface import IPromptExecutor
from stepchain_tui.executors.registry import ExecutorFactory, ExecutorRegistry
from stepchain_tui.executors.spec import ToolSpec


class PromptExecutorFactory(ExecutorFactory):
    """Makes prompt executors by type (document 004)."""

    registry: ClassVar[ExecutorRegistry[Any]] = ExecutorRegistry(
        "prompt", IPromptExecutor, {"standard": PromptToolExecutor, "default": PromptToolExecutor}
    )

    @classmethod
    def create_executor(cls, spec: ToolSpec, executor_type: str = "standard") -> IPromptExecutor:
        """Return a new executor of a type, which finds its models by the environment.

        Raises:
            UsageError: There is no such type.
        """
        made: IPromptExecutor = cls.get_executor_class(executor_type)(spec)
        return made
