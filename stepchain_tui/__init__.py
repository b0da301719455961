"""StepChain: run plans of steps, watch them, stop, mend and rerun them, with nothing lost.

The names of document 000 are here and load on first use, so that `import stepchain_tui` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepchain_tui.core.telemetry import Telemetry
    from stepchain_tui.engine import AsyncExecutor, Executor, Scheduler, StepResult, execute
    from stepchain_tui.engine.decomposing import TaskDecomposer, decompose
    from stepchain_tui.llm import AsyncLLMClient, LLMClient, LLMResponse
    from stepchain_tui.llm.history import CompressionStrategy, FullHistory
    from stepchain_tui.plan import Plan, Step
    from stepchain_tui.run import ErrorType
    from stepchain_tui.store import AbstractStore, JSONLStore, MemoryStore, SQLiteStore

__version__ = "0.1.0"

_ROOMS = {
    "AbstractStore": "store",
    "AsyncExecutor": "engine",
    "AsyncLLMClient": "llm",
    "CompressionStrategy": "llm.history",
    "ErrorType": "run",
    "Executor": "engine",
    "FullHistory": "llm.history",
    "JSONLStore": "store",
    "LLMClient": "llm",
    "LLMResponse": "llm",
    "MemoryStore": "store",
    "Plan": "plan",
    "SQLiteStore": "store",
    "Scheduler": "engine",
    "Step": "plan",
    "StepResult": "engine",
    "TaskDecomposer": "engine.decomposing",
    "Telemetry": "core.telemetry",
    "decompose": "engine.decomposing",
    "execute": "engine",
}

__all__ = (
    "AbstractStore",
    "AsyncExecutor",
    "AsyncLLMClient",
    "CompressionStrategy",
    "ErrorType",
    "Executor",
    "FullHistory",
    "JSONLStore",
    "LLMClient",
    "LLMResponse",
    "MemoryStore",
    "Plan",
    "SQLiteStore",
    "Scheduler",
    "Step",
    "StepResult",
    "TaskDecomposer",
    "Telemetry",
    "decompose",
    "execute",
)


def __getattr__(name: str) -> Any:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'stepchain_tui' has no attribute '{name}'")
    return getattr(import_module(f"stepchain_tui.{room}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
