"""Steps that run a command. May import tools and what lies below."""

from stepchain_tui.executors.shell.executor import ShellExecutor

__all__ = ("ShellExecutor",)
