"""Steps that call a Python function: inline, in a thread or in a process. May import tools and what lies below."""

from stepchain_tui.executors.function.executor import FunctionExecutor

__all__ = ("FunctionExecutor",)
