"""The records that a store takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from stepchain_tui.run.events import Event, OwnerRecord
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import ErrorType, RunStatus, StepStatus
from stepchain_tui.run.values import Kept
from stepchain_tui.store.imports import ImportMark

CACHE_LIMIT = 10_000
"""Entries that a cache has at most; those that were not used for the longest time go first."""


class LogLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line that a step printed or that the engine wrote about it.

    Attributes:
        n: Number of the line within the run, increasing; 0 before it is stored.
        at: When it arrived.
        step_id: The step, or an empty string for the run itself.
        attempt: The attempt.
        item: Index of the map's item, or -1.
        stream: `stdout`, `stderr`, `text` (streamed model text), `engine` or `server` (an MCP server's log).
        text: The line without its end, at most 64 KiB; control characters kept as they came.
    """

    n: int = 0
    at: datetime
    step_id: str
    attempt: int = 0
    item: int = -1
    stream: str = "stdout"
    text: str


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the history, kept beside the events so that history never folds.

    `status` is the stored one; `owner_alive` tells whether a living engine holds the run, None where it does not
    matter. `shown_status` is what every reader shows. `steps_done` counts the steps that ended, however they did;
    `steps_failed` those of them that failed or timed out. `cost` is in US dollars, of those of the `turns` of models
    whose price is known; runs of before prices were kept have tokens and no turns. `imported` is the mark of a run that
    came from elsewhere.
    """

    run_id: str
    goal: str
    status: RunStatus
    plan_path: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    steps_total: int = 0
    steps_done: int = 0
    steps_failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    turns: int = 0
    cost: float = 0.0
    unpriced_turns: int = 0
    last_seq: int = 0
    reason: str = ""
    parent_run_id: str | None = None
    parent_step_id: str | None = None
    owner: OwnerRecord | None = None
    owner_alive: bool | None = None
    imported: ImportMark | None = None

    @property
    def replay_of(self) -> str:
        """The run whose recording it replays, empty for none: a fork has a step that it began at."""
        return "" if self.parent_step_id else self.parent_run_id or ""

    @property
    def cost_is_known(self) -> bool:
        """Whether `cost` is that of at least one answer, or nobody was asked."""
        if not self.turns:
            return not self.input_tokens + self.output_tokens
        return self.unpriced_turns < self.turns

    @property
    def could_be_live(self) -> bool:
        """Whether the run, as stored, should have a living owner: running, or pending with an owner.

        A run that waits for a person needs none, no more than a paused one: nothing of it can have been cut off.
        """
        if self.status is RunStatus.PENDING:
            return self.owner is not None
        return self.status is RunStatus.RUNNING

    @property
    def shown_status(self) -> RunStatus:
        """The status, with `interrupted` for a run that should be live and whose engine is gone."""
        return RunStatus.INTERRUPTED if self.owner_alive is False and self.could_be_live else self.status


class StepSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One step's row beside the events."""

    run_id: str
    step_id: str
    position: int
    kind: str
    status: StepStatus
    attempts: int = 0
    error_type: ErrorType | None = None
    error: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks of a run: `pause`, `resume`, `cancel`, `rerun`, `approve`, ... with its arguments.

    Attributes:
        id: Unique, made by the sender.
        answer: None until it was answered: `{"ok": bool, "message": str, ...}`.
    """

    id: str
    run_id: str
    command: str
    arguments: dict[str, Any] = {}
    sender: str = ""
    sent_at: datetime
    answer: dict[str, Any] | None = None


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One result that other runs may take over. It outlives the run that made it.

    Attributes:
        key: Hash of `action`, `input` and `code` together.
        scope: Which step it is a result of, in whatever run: says which earlier result a miss is compared with.
        action: Hash of what the step does.
        input: Hash of its resolved input.
        code: Hash of the code behind it.
        output: The result.
        run_id: The run that made it; it may be gone.
        step_id: The step.
        attempt: The attempt.
        item: Index of the map's item, or None.
        created_at: When it was made, aware.
    """

    key: str
    scope: str
    action: str
    input: str
    code: str
    output: Kept
    run_id: str
    step_id: str
    attempt: int
    item: int | None = None
    created_at: datetime


class ToolRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a tool did over all runs.

    A call that was cut off, because its run was stopped, says nothing of the tool: it counts in `calls` and nowhere
    else.

    Attributes:
        name: The tool; `server.tool` for one of an MCP server.
        calls: How often it was called.
        succeeded: How many calls succeeded.
        failed: How many failed.
        seconds: What those that succeeded or failed took.
        cpu_seconds: What they computed, of calls where that is known.
        cpu_wall_seconds: What the calls took of which it is known.
        last_called_at: When the last call ended, aware.
        last_error: What the last call that failed said, 500 characters of it; empty where none did.
    """

    name: str
    calls: int = 0
    succeeded: int = 0
    failed: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    cpu_wall_seconds: float = 0.0
    last_called_at: datetime
    last_error: str = ""

    @property
    def success_rate(self) -> float | None:
        """The part of the calls that succeeded, 0 to 1; None where no call came to an end."""
        ended = self.succeeded + self.failed
        return self.succeeded / ended if ended else None

    @property
    def mean_seconds(self) -> float | None:
        """What a call took on average; None where no call came to an end."""
        ended = self.succeeded + self.failed
        return self.seconds / ended if ended else None

    @property
    def cpu_share(self) -> float | None:
        """The part of its time that the tool computed, 0 to 1; None where it is not known."""
        return min(1.0, self.cpu_seconds / self.cpu_wall_seconds) if self.cpu_wall_seconds else None


class CorruptEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event that could not be taken into account.

    Attributes:
        seq: Its number; the first one where several in a row are missing.
        problem: What is wrong with it.
        type: Its type, empty where that cannot be read.
        step_id: Its step, empty where it has none or that cannot be read.
    """

    seq: int
    problem: str
    type: str = ""
    step_id: str = ""


class Batch(msgspec.Struct, kw_only=True):
    """What is written together: all of it is stored, or none.

    Attributes:
        events: In order; those of one run follow each other by `seq`.
        states: run_id -> state after the last of its events, from which the summary rows are written.
        touched: run_id -> ids of the steps whose rows may have changed; None means all of the run's.
        logs: Log lines; they are stored before the events, so that no attempt ends before its log.
        owners: run_id -> new owner record, None to clear it.
        workers: run_id -> the owner's pool workers as JSON values, for whoever takes over.
        answers: command id -> answer.
        cache: Results that other runs may take over; one of the same key is replaced.
        cache_used: Keys of entries that were taken over: they are let go of later than the others.
        breakers: name -> what is kept of a circuit breaker, a JSON object.
        imported: run_id -> its mark as a run that came from elsewhere.
        from_elsewhere: Whether the events happened elsewhere: then no record of a tool counts their calls.
    """

    events: list[Event] = msgspec.field(default_factory=list)
    states: dict[str, RunState] = msgspec.field(default_factory=dict)
    touched: dict[str, set[str] | None] = msgspec.field(default_factory=dict)
    logs: list[tuple[str, LogLine]] = msgspec.field(default_factory=list)
    owners: dict[str, OwnerRecord | None] = msgspec.field(default_factory=dict)
    workers: dict[str, list[dict[str, Any]]] = msgspec.field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    cache: list[CacheEntry] = msgspec.field(default_factory=list)
    cache_used: list[str] = msgspec.field(default_factory=list)
    breakers: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    imported: dict[str, ImportMark] = msgspec.field(default_factory=dict)
    from_elsewhere: bool = False
