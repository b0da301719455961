"""Where runs are kept: one contract (`AbstractStore`), in a SQLite file (`SQLiteStore`), in a
folder of JSON lines (`JSONLStore`) or in memory (`MemoryStore`).

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
    ToolRecord,
)
from stepchain_tui.store.jsonl import JSONLStore
from stepchain_tui.store.memory import MemoryStore
from stepchain_tui.store.sqlite import SQLiteStore

__all__ = (
    "AbstractStore",
    "Batch",
    "CacheEntry",
    "Command",
    "CorruptEvent",
    "JSONLStore",
    "LogLine",
    "MemoryStore",
    "RunLock",
    "RunSummary",
    "SQLiteStore",
    "StepSummary",
    "ToolRecord",
)
