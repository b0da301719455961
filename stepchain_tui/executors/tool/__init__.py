"""Steps that call a tool by its name: one of the plan, one registered in Python, or one that is built in."""

from stepchain_tui.executors.spec import ToolSpec
from stepchain_tui.executors.tool.base import BaseToolExecutor
from stepchain_tui.executors.tool.executor import ToolStepExecutor
from stepchain_tui.executors.tool.factory import ToolExecutorFactory
from stepchain_tui.executors.tool.interface import IToolExecutor
from stepchain_tui.executors.tool.steps import ToolSteps

__all__ = (
    "BaseToolExecutor",
    "IToolExecutor",
    "ToolExecutorFactory",
    "ToolSpec",
    "ToolStepExecutor",
    "ToolSteps",
)
