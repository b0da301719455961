"""Carries out `python:` steps: code from the plan, in the sandbox, its prints streamed into the step's log.

Imports `sandbox`, `run` and `plan`.
"""

from stepchain_tui.executors.python.executor import PythonExecutor

__all__ = ("PythonExecutor",)
