"""Functions and commands as tools: loading them, and the threads and processes they run in.

May import sandbox, resilience, store, run, plan and core. Names load on first use: worker processes pass through
this door and must start fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepchain_tui.tools.context import StepCancelledError, StepContext
    from stepchain_tui.tools.executor import Executor, ToolExecutor
    from stepchain_tui.tools.function_calls import FunctionCall, FunctionCaller
    from stepchain_tui.tools.functions import call_arguments, load_function
    from stepchain_tui.tools.leftovers import end_leftovers
    from stepchain_tui.tools.pools import Pools
    from stepchain_tui.tools.process_pool import ProcessPool
    from stepchain_tui.tools.registry import Tool, ToolRegistry, UnknownToolError
    from stepchain_tui.tools.remote import NotPicklableError, RemoteError
    from stepchain_tui.tools.schema import ToolArgumentError, ToolSchema, ToolSchemaError
    from stepchain_tui.tools.threads import ThreadCall, ThreadPool
    from stepchain_tui.tools.types import ToolCall, ToolResult

_MODULES = {
    "Executor": "executor",
    "FunctionCall": "function_calls",
    "FunctionCaller": "function_calls",
    "NotPicklableError": "remote",
    "Pools": "pools",
    "ProcessPool": "process_pool",
    "RemoteError": "remote",
    "StepCancelledError": "context",
    "StepContext": "context",
    "ThreadCall": "threads",
    "ThreadPool": "threads",
    "Tool": "registry",
    "ToolArgumentError": "schema",
    "ToolCall": "types",
    "ToolExecutor": "executor",
    "ToolRegistry": "registry",
    "ToolResult": "types",
    "ToolSchema": "schema",
    "ToolSchemaError": "schema",
    "UnknownToolError": "registry",
    "call_arguments": "functions",
    "end_leftovers": "leftovers",
    "load_function": "functions",
}

__all__ = (
    "Executor",
    "FunctionCall",
    "FunctionCaller",
    "NotPicklableError",
    "Pools",
    "ProcessPool",
    "RemoteError",
    "StepCancelledError",
    "StepContext",
    "ThreadCall",
    "ThreadPool",
    "Tool",
    "ToolArgumentError",
    "ToolCall",
    "ToolExecutor",
    "ToolRegistry",
    "ToolResult",
    "ToolSchema",
    "ToolSchemaError",
    "UnknownToolError",
    "call_arguments",
    "end_leftovers",
    "load_function",
)


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'stepchain_tui.tools' has no attribute '{name}'")
    return getattr(import_module(f"stepchain_tui.tools.{module}"), name)
