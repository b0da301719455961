"""Python of a stranger, run where it can reach neither files nor network nor this process: `Sandbox` and its runners.

Imports `run` and `core` only; pydantic_monty is loaded when the first snippet runs.
"""

from stepchain_tui.sandbox.bwrap_runner import (
    DEFAULT_BWRAP_MEMORY_LIMIT,
    SANDBOX_BUSY,
    BwrapRunner,
    find_bubblewrap,
)
from stepchain_tui.sandbox.runner import (
    DEFAULT_MEMORY_LIMIT,
    DEFAULT_PRINT_LIMIT,
    DEFAULT_TIME_LIMIT,
    MontyRunner,
)
from stepchain_tui.sandbox.sandbox import (
    Sandbox,
    SandboxError,
    SandboxMemoryError,
    SandboxPermissionError,
    SandboxRecursionError,
    SandboxSyntaxError,
    SandboxTimeoutError,
)
from stepchain_tui.sandbox.worker import WorkerProcess

__all__ = (
    "DEFAULT_BWRAP_MEMORY_LIMIT",
    "DEFAULT_MEMORY_LIMIT",
    "DEFAULT_PRINT_LIMIT",
    "DEFAULT_TIME_LIMIT",
    "SANDBOX_BUSY",
    "BwrapRunner",
    "MontyRunner",
    "Sandbox",
    "SandboxError",
    "SandboxMemoryError",
    "SandboxPermissionError",
    "SandboxRecursionError",
    "SandboxSyntaxError",
    "SandboxTimeoutError",
    "WorkerProcess",
    "find_bubblewrap",
)
