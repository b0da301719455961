"""A unit of work: the next attempt at a step, or at one item of a map; and how an attempt can end."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec

from stepchain_tui.run.failures import Failure
from stepchain_tui.run.values import BlobReference

if TYPE_CHECKING:
    from stepchain_tui.engine.budget_question import Reached
    from stepchain_tui.engine.ports import AttemptPorts
    from stepchain_tui.engine.prepared import PreparedStep
    from stepchain_tui.engine.reuse import CacheAnswer
    from stepchain_tui.executors.types import ApprovalNeeded, StepCall
    from stepchain_tui.resilience.breaker import Breaker, Ticket


Lane = tuple[str | None, str | None, str, bool]
"""The slots that work needs besides the run's: a named limit, the map whose item it is, the sub-plan it is in; and
whether it talks to a model, which a budget may hold back."""


NO_LANE: Lane = (None, None, "", False)


class Stop(Enum):
    """Why the engine stopped a body."""

    CANCEL = "cancelled"
    PAUSE = "paused"
    SHUTDOWN = "the engine ended"


class Work(msgspec.Struct, eq=False):
    """One attempt that is ready, running or waits for its retry.

    Attributes:
        step: The step, prepared.
        item: Index of the map's item, or None.
        tries: Tries used up before this one.
        attempt: The attempt's number once it began, else 0.
        withdrawn: It is no longer to be started.
        stop: Why its body is being stopped, or None.
        begun: Its task has taken its first step; one that is cancelled before would end without a word.
        overdue: Its body is being stopped because its time is over.
        ticket: The circuit breaker that let its call through, and what it gave for that.
        cached: What the cache said, where it was asked.
        files: The files that its output will refer to.
        asked_hash: Of a prompt or an agent: the hash of what it asks, see `InputResolver`.
    """

    step: PreparedStep
    item: int | None = None
    tries: int = 0
    attempt: int = 0
    withdrawn: bool = False
    stop: Stop | None = None
    stop_reason: str = ""
    begun: bool = False
    overdue: bool = False
    task: asyncio.Task[None] | None = None
    ticket: tuple[Breaker, Ticket] | None = None
    cached: CacheAnswer | None = None
    call: StepCall | None = None
    ports: AttemptPorts | None = None
    warnings: list[str] = msgspec.field(default_factory=list)
    files: tuple[BlobReference, ...] = ()
    asked_hash: str = ""

    @property
    def lane(self) -> Lane:
        """What slots it needs besides the run's: a named limit, and its map's own."""
        step = self.step
        if self.item is None:
            needs_nothing = step.limit is None and not step.scope and not step.talks
            return NO_LANE if needs_nothing else (step.limit, None, step.scope, step.talks)
        return (step.limit, step.id, step.scope, step.talks)

    @property
    def key(self) -> tuple[str, int | None]:
        """What it is the work of."""
        return (self.step.id, self.item)


class Ending(Enum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CACHED = "cached"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    ASKS = "asks"


class Result(msgspec.Struct, frozen=True):
    """What came of an attempt, as a value: failures do not travel as exceptions."""

    ending: Ending
    output: Any = None
    failure: Failure | None = None
    reason: str = ""
    asks: ApprovalNeeded | Reached | None = None
