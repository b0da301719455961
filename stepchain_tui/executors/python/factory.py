"""The types of executors of sandboxed code."""

from __future__ import annotations

from typing import Any, ClassVar

from stepchain_tui.executors.python.executor import PythonToolExecutor
from stepchain_tui.executors.python.interface import IPythonExecutor
from stepchain_tui.executors.registry import ExecutorFactory, ExecutorRegistry
from stepchain_tui.executors.spec import ToolSpec


class PythonExecutorFactory(ExecutorFactory):
    """Makes executors of sandboxed code by type (document 004)."""

    registry: ClassVar[ExecutorRegistry[Any]] = ExecutorRegistry(
        "python", IPythonExecutor, {"standard": PythonToolExecutor, "default": PythonToolExecutor}
    )

    @classmethod
    def create_executor(cls, spec: ToolSpec, executor_type: str = "standard") -> IPythonExecutor:
        """Return a new executor of a type, with sandboxes of its own.

        Raises:
            UsageError: There is no such type.
        """
        made: IPythonExecutor = cls.get_executor_class(executor_type)(spec)
        return made
