"""How one step is carried out: one folder a kind, all of them behind the same contract (`types`).

Imports `agents`, `tools`, `sandbox`, `llm` and what is below them; never the engine. The names of document 004 are here
too and load on first use, so that a kind costs nothing before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stepchain_tui.executors.types import CallPorts, Outcome, SkipStep, StepCall, StepExecutor

if TYPE_CHECKING:
    from stepchain_tui.executors.agent import AgentExecutorFactory, BaseAgentExecutor, IAgentExecutor
    from stepchain_tui.executors.base import BaseExecutor, CallTimeoutError, IExecutor
    from stepchain_tui.executors.context import CallContext
    from stepchain_tui.executors.db import BaseDbExecutor, DbExecutorFactory, DynamoDBExecutor, IDbExecutor
    from stepchain_tui.executors.function import (
        BaseFunctionExecutor,
        BatchingFunctionExecutor,
        CachedFunctionExecutor,
        FunctionExecutorFactory,
        FunctionToolExecutor,
        IFunctionExecutor,
        StreamingFunctionExecutor,
    )
    from stepchain_tui.executors.http import (
        BaseHttpExecutor,
        GraphQLExecutor,
        HttpExecutorFactory,
        HttpToolExecutor,
        IHttpExecutor,
    )
    from stepchain_tui.executors.kinds import executor_factory, kinds_with_executors
    from stepchain_tui.executors.prompt import BasePromptExecutor, IPromptExecutor, PromptExecutorFactory
    from stepchain_tui.executors.python import BasePythonExecutor, IPythonExecutor, PythonExecutorFactory
    from stepchain_tui.executors.registry import ExecutorFactory
    from stepchain_tui.executors.shell import BaseShellExecutor, IShellExecutor, ShellExecutorFactory
    from stepchain_tui.executors.spec import ToolSpec
    from stepchain_tui.executors.testing import use_executor
    from stepchain_tui.executors.tool import BaseToolExecutor, IToolExecutor, ToolExecutorFactory

_MODULES = {
    "AgentExecutorFactory": "agent",
    "BaseAgentExecutor": "agent",
    "BaseDbExecutor": "db",
    "BaseExecutor": "base",
    "BaseFunctionExecutor": "function",
    "BaseHttpExecutor": "http",
    "BasePromptExecutor": "prompt",
    "BasePythonExecutor": "python",
    "BaseShellExecutor": "shell",
    "BaseToolExecutor": "tool",
    "BatchingFunctionExecutor": "function",
    "CachedFunctionExecutor": "function",
    "CallContext": "context",
    "CallTimeoutError": "base",
    "DbExecutorFactory": "db",
    "DynamoDBExecutor": "db",
    "ExecutorFactory": "registry",
    "FunctionExecutorFactory": "function",
    "FunctionToolExecutor": "function",
    "GraphQLExecutor": "http",
    "HttpExecutorFactory": "http",
    "HttpToolExecutor": "http",
    "IAgentExecutor": "agent",
    "IDbExecutor": "db",
    "IExecutor": "base",
    "IFunctionExecutor": "function",
    "IHttpExecutor": "http",
    "IPromptExecutor": "prompt",
    "IPythonExecutor": "python",
    "IShellExecutor": "shell",
    "IToolExecutor": "tool",
    "PromptExecutorFactory": "prompt",
    "PythonExecutorFactory": "python",
    "ShellExecutorFactory": "shell",
    "StreamingFunctionExecutor": "function",
    "ToolExecutorFactory": "tool",
    "ToolSpec": "spec",
    "executor_factory": "kinds",
    "kinds_with_executors": "kinds",
    "use_executor": "testing",
}

__all__ = (
    "AgentExecutorFactory",
    "BaseAgentExecutor",
    "BaseDbExecutor",
    "BaseExecutor",
    "BaseFunctionExecutor",
    "BaseHttpExecutor",
    "BasePromptExecutor",
    "BasePythonExecutor",
    "BaseShellExecutor",
    "BaseToolExecutor",
    "BatchingFunctionExecutor",
    "CachedFunctionExecutor",
    "CallContext",
    "CallPorts",
    "CallTimeoutError",
    "DbExecutorFactory",
    "DynamoDBExecutor",
    "ExecutorFactory",
    "FunctionExecutorFactory",
    "FunctionToolExecutor",
    "GraphQLExecutor",
    "HttpExecutorFactory",
    "HttpToolExecutor",
    "IAgentExecutor",
    "IDbExecutor",
    "IExecutor",
    "IFunctionExecutor",
    "IHttpExecutor",
    "IPromptExecutor",
    "IPythonExecutor",
    "IShellExecutor",
    "IToolExecutor",
    "Outcome",
    "PromptExecutorFactory",
    "PythonExecutorFactory",
    "ShellExecutorFactory",
    "SkipStep",
    "StepCall",
    "StepExecutor",
    "StreamingFunctionExecutor",
    "ToolExecutorFactory",
    "ToolSpec",
    "executor_factory",
    "kinds_with_executors",
    "use_executor",
)


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'stepchain_tui.executors' has no attribute '{name}'")
    return getattr(import_module(f"stepchain_tui.executors.{module}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
