"""The types of shell executors."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.registry import ExecutorFactory, ExecutorRegistry
from stepchain_tui.executors.shell.executor import ShellToolExecutor
from stepchain_tui.executors.shell.interface import IShellExecutor
from stepchain_tui.executors.spec import ToolSpec


class ShellExecutorFactory(ExecutorFactory):
    """Makes shell executors by type (document 004)."""

    registry: ClassVar[ExecutorRegistry[Any]] = ExecutorRegistry(
        "shell", IShellExecutor, {"standard": ShellToolExecutor, "default": ShellToolExecutor}
    )

    @classmethod
    def create_executor(cls, spec: ToolSpec, executor_type: str = "standard") -> IShellExecutor:
        """Return a new executor of a type.

        Raises:
            UsageError: There is no such type.
        """
        made: IShellExecutor = cls.get_executor_class(executor_type)(spec)
        return made
