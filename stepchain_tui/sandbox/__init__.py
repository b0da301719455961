"""Python from a plan, run where it can reach neither files nor network nor this process: `MontyRunner`.

Imports `run` and `core` only; pydantic_monty is loaded when the first snippet runs.
"""

from stepchain_tui.sandbox.runner import (
    DEFAULT_MEMORY_LIMIT,
    DEFAULT_PRINT_LIMIT,
    DEFAULT_TIME_LIMIT,
    MontyRunner,
)
from stepchain_tui.sandbox.worker import WorkerProcess

__all__ = (
    "DEFAULT_MEMORY_LIMIT",
    "DEFAULT_PRINT_LIMIT",
    "DEFAULT_TIME_LIMIT",
    "MontyRunner",
    "WorkerProcess",
)
