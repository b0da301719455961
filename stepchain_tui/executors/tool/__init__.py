"""Steps that call a tool by its name: of the plan, registered in Python, built in, or of an MCP server."""

from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.tool.base import BaseToolExecutor
from stepchain_tui.executors.tool.executor import ToolStepExecutor
from stepchain_tui.executors.tool.factory import ToolExecutorFactory
from stepchain_tui.executors.tool.interface import IToolExecutor
from stepchain_tui.executors.tool.mcp_executor import McpToolExecutor
from stepchain_tui.executors.tool.steps import ToolSteps

__all__ = (
    "BaseToolExecutor",
    "IToolExecutor",
    "McpToolExecutor",
    "ToolExecutorFactory",
    "ToolSpec",
    "ToolStepExecutor",
    "ToolSteps",
)
