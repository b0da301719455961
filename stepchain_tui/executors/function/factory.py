"""The types of function executors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from stepchain_tui.executors.function.batching import BatchingFunctionExecutor
from stepchain_tui.executors.function.cached import CachedFunctionExecutor
from stepchain_tui.executors.function.executor import FunctionToolExecutor, StreamingFunctionExecutor
from stepchain_tui.executors.function.interface import IFunctionExecutor
from stepchain_tui.executors.registry import ExecutorFactory, ExecutorRegistry
from stepchain_tui.executors.spec import ToolSpec


class FunctionExecutorFactory(ExecutorFactory):
    """Makes function executors by type (document 004)."""

    registry: ClassVar[ExecutorRegistry[Any]] = ExecutorRegistry(
        "function",
        IFunctionExecutor,
        {
            "standard": FunctionToolExecutor,
            "default": FunctionToolExecutor,
            "cached": CachedFunctionExecutor,
            "streaming": StreamingFunctionExecutor,
            "batching": BatchingFunctionExecutor,
        },
    )

    @classmethod
    def create_executor(
        cls, spec: ToolSpec, func: Callable[..., Any], executor_type: str = "standard"
    ) -> IFunctionExecutor:
        """Return a new executor of a type for a function.

        Raises:
            UsageError: There is no such type.
        """
        made: IFunctionExecutor = cls.get_executor_class(executor_type)(spec, func)
        return made
