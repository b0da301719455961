"""What happened: events, the one status vocabulary, failures, and `RunState`, the fold of events.

Knows nothing of stores, engines or screens. Imports `core` and `plan` only.
"""

from stepchain_tui.run.events import EVENT_TYPES, Event, decode_event, encode_event
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.state import AttemptState, ItemState, RunState, StepState
from stepchain_tui.run.status import AttemptStatus, ErrorType, Mark, RunStatus, StepStatus
from stepchain_tui.run.values import BlobReference, Kept

__all__ = (
    "EVENT_TYPES",
    "AttemptError",
    "AttemptState",
    "AttemptStatus",
    "BlobReference",
    "ErrorType",
    "Event",
    "Failure",
    "ItemState",
    "Kept",
    "Mark",
    "RunState",
    "RunStatus",
    "StepState",
    "StepStatus",
    "decode_event",
    "encode_event",
)
