"""What happened: events, the one status vocabulary, failures, and `RunState`, the fold of events.

Knows nothing of stores, engines or screens. Imports `core` and `plan` only.
What tells about runs (explanations, comparisons) loads on first use: worker processes and the app's start pass
through this door.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stepchain_tui.run.events import EVENT_TYPES, Event, decode_event, encode_event
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import AttemptStatus, ErrorType, Mark, RunStatus, StepStatus
from stepchain_tui.run.step_state import AttemptState, ItemState, StepState
from stepchain_tui.run.values import BlobReference, Kept

if TYPE_CHECKING:
    from stepchain_tui.run.comparison import RunComparison, compare_runs, output_lines
    from stepchain_tui.run.why import Explanation, Fact, explain, explain_run

_MODULES = {
    "Explanation": "why",
    "Fact": "why",
    "RunComparison": "comparison",
    "compare_runs": "comparison",
    "explain": "why",
    "explain_run": "why",
    "output_lines": "comparison",
}

__all__ = (
    "EVENT_TYPES",
    "AttemptError",
    "AttemptState",
    "AttemptStatus",
    "BlobReference",
    "ErrorType",
    "Event",
    "Explanation",
    "Fact",
    "Failure",
    "ItemState",
    "Kept",
    "Mark",
    "RunComparison",
    "RunState",
    "RunStatus",
    "StepState",
    "StepStatus",
    "compare_runs",
    "decode_event",
    "encode_event",
    "explain",
    "explain_run",
    "output_lines",
)


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'stepchain_tui.run' has no attribute '{name}'")
    return getattr(import_module(f"stepchain_tui.run.{module}"), name)
