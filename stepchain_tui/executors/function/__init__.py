"""Steps that call a Python function: inline, in a thread or in a process. May import tools and what lies below."""

from stepchain_tui.executors.function.base import BaseFunctionExecutor
from stepchain_tui.executors.function.batching import BatchingFunctionExecutor
from stepchain_tui.executors.function.cached import CachedFunctionExecutor
from stepchain_tui.executors.function.executor import FunctionToolExecutor, StreamingFunctionExecutor
from stepchain_tui.executors.function.factory import FunctionExecutorFactory
from stepchain_tui.executors.function.interface import IFunctionExecutor
from stepchain_tui.executors.function.steps import FunctionExecutor
from stepchain_tui.executors.spec import ToolSpec

__all__ = (
    "BaseFunctionExecutor",
    "BatchingFunctionExecutor",
    "CachedFunctionExecutor",
    "FunctionExecutor",
    "FunctionExecutorFactory",
    "FunctionToolExecutor",
    "IFunctionExecutor",
    "StreamingFunctionExecutor",
    "ToolSpec",
)
