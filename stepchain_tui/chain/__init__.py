"""Chains of tool calls (document 003): a face of the engine, with the tools that do best found first.

Imports `engine` and what is below; knows nothing of screens or the command line.
"""

from stepchain_tui.chain.discovery import ToolDiscovery
from stepchain_tui.chain.executor import ChainExecutor
from stepchain_tui.chain.states import ExecutionResult, ExecutionState, ExecutionStatus
from stepchain_tui.chain.types import ExecutionPlan, ToolCall

__all__ = (
    "ChainExecutor",
    "ExecutionPlan",
    "ExecutionResult",
    "ExecutionState",
    "ExecutionStatus",
    "ToolCall",
    "ToolDiscovery",
)
