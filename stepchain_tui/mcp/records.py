"""What is known of one call while it runs, found by whatever carries out a part of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

OnLog = Callable[[str, str], None]
"""Takes a log message of a server: its level and its text."""
OnProgress = Callable[[float, float | None, str | None], None]
"""Takes how much is done, of how much, and what the server says about it."""


@dataclass(eq=False)
class CallRecord:
    """One exchange with a server, as the transport saw it.

    Attributes:
        on_log: Takes the log messages that belong to it.
        status: The HTTP status of a refusal, 0 where there was none.
        headers: The headers of the refusal.
        problem: What went wrong on the way, empty where nothing did.
        was_sent: Whether any of it may have reached the server.
        too_large: Whether the answer was more than may be taken in.
    """

    on_log: OnLog | None = None
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    was_sent: bool = True
    too_large: bool = False


current_record: ContextVar[CallRecord | None] = ContextVar("stepchain_mcp_call", default=None)
"""The call on whose behalf code runs. The SDK carries it from the calling task to the request it makes over HTTP."""
