"""Carries out `python:` steps: code from the plan, in the sandbox, its prints streamed into the step's log.

Imports `sandbox`, `run` and `plan`.
"""

from stepchain_tui.executors.python.base import BasePythonExecutor
from stepchain_tui.executors.python.executor import PythonToolExecutor
from stepchain_tui.executors.python.factory import PythonExecutorFactory
from stepchain_tui.executors.python.interface import IPythonExecutor
from stepchain_tui.executors.python.steps import PythonExecutor
from stepchain_tui.executors.spec import ToolSpec

__all__ = (
    "BasePythonExecutor",
    "IPythonExecutor",
    "PythonExecutor",
    "PythonExecutorFactory",
    "PythonToolExecutor",
    "ToolSpec",
)
