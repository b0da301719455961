"""A plan being carried out: `Engine` decides which step when; `Executor` and `AsyncExecutor` are its faces.

Imports `executors` and what is below; knows nothing of screens or the command line.
"""

from stepchain_tui.engine.async_executor import AsyncExecutor
from stepchain_tui.engine.engine import Engine
from stepchain_tui.engine.executor import Executor, execute
from stepchain_tui.engine.receipt import Decision, Receipt, ReceiptLine, account
from stepchain_tui.engine.results import StepResult, step_results
from stepchain_tui.engine.runs import RunHandle
from stepchain_tui.engine.scheduler import Scheduler
from stepchain_tui.engine.service import EngineService, error_record, load_source, revision_arguments
from stepchain_tui.engine.source import RunSource

__all__ = (
    "AsyncExecutor",
    "Decision",
    "Engine",
    "EngineService",
    "Executor",
    "Receipt",
    "ReceiptLine",
    "RunHandle",
    "RunSource",
    "Scheduler",
    "StepResult",
    "account",
    "error_record",
    "execute",
    "load_source",
    "revision_arguments",
    "step_results",
)
