"""Where runs are kept: one contract (`AbstractStore`), in a SQLite file (`SQLiteStore`) or in memory (`MemoryStore`).

Imports `core`, `plan` and `run` only, and knows nothing of engines and screens.
"""

from stepchain_tui.store.base import (
    AbstractStore,
    Batch,
    CacheEntry,
    Command,
    CorruptEvent,
    LogLine,
    RunLock,
    RunSummary,
    StepSummary,
)
from stepchain_tui.store.memory import MemoryStore
from stepchain_tui.store.sqlite import SQLiteStore

__all__ = (
    "AbstractStore",
    "Batch",
    "CacheEntry",
    "Command",
    "CorruptEvent",
    "LogLine",
    "MemoryStore",
    "RunLock",
    "RunSummary",
    "SQLiteStore",
    "StepSummary",
)
