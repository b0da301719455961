"""Steps that run a command. May import tools and what lies below."""

from stepchain_tui.executors.shell.base import BaseShellExecutor
from stepchain_tui.executors.shell.executor import ShellToolExecutor
from stepchain_tui.executors.shell.factory import ShellExecutorFactory
from stepchain_tui.executors.shell.interface import IShellExecutor
from stepchain_tui.executors.shell.steps import ShellExecutor
from stepchain_tui.executors.spec import ToolSpec

__all__ = (
    "BaseShellExecutor",
    "IShellExecutor",
    "ShellExecutor",
    "ShellExecutorFactory",
    "ShellToolExecutor",
    "ToolSpec",
)
