"""What a store owes the house. One contract suite runs on every implementation.

The engine alone writes, and only for runs whose lock it holds; anybody may read. What is atomic, in which order
things come back and what is durable when a call returns is said at each method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from stepchain_tui.core.secrets import Redactor
from stepchain_tui.run.events import Event, OwnerRecord
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import ErrorType, RunStatus, StepStatus
from stepchain_tui.run.values import Kept


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line that a step printed or that the engine wrote about it.

    Attributes:
        n: Number of the line within the run, increasing; 0 before it is stored.
        at: When it arrived.
        step_id: The step, or an empty string for the run itself.
        attempt: The attempt.
        item: Index of the map's item, or -1.
        stream: `stdout`, `stderr`, `text` (streamed model text) or `engine`.
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
    `steps_failed` those of them that failed or timed out.
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
    last_seq: int = 0
    reason: str = ""
    parent_run_id: str | None = None
    owner: OwnerRecord | None = None
    owner_alive: bool | None = None

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
    """

    events: list[Event] = msgspec.field(default_factory=list)
    states: dict[str, RunState] = msgspec.field(default_factory=dict)
    touched: dict[str, set[str] | None] = msgspec.field(default_factory=dict)
    logs: list[tuple[str, LogLine]] = msgspec.field(default_factory=list)
    owners: dict[str, OwnerRecord | None] = msgspec.field(default_factory=dict)
    workers: dict[str, list[dict[str, Any]]] = msgspec.field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


class AbstractStore(ABC):
    """Keeps runs. Open it with `await open()`, end it with `await close()`; both may be called twice.

    Every method raises `core.errors.StoreError`, with a hint, when the store is locked, read-only, full, broken or
    newer than this version.
    """

    location: str
    """What names this store in messages: a file's path, or `memory`."""

    @abstractmethod
    async def open(self, *, read_only: bool = False) -> None:
        """Make the store ready. Creates and migrates it unless `read_only`."""

    @abstractmethod
    async def close(self) -> None:
        """Write out what is queued and let everything go."""

    # --- writing: the owner of the runs only

    @abstractmethod
    def commit(self, batch: Batch, done: Callable[[BaseException | None], None] | None = None) -> None:
        """Store a batch in one transaction; never blocks on anything but the disk.

        Batches are stored in the order of the calls. `done` is called on the event loop's thread once the batch is
        durable, or with the error that kept it from being stored: from within this call where the store commits on
        the caller's thread, later where it has a writer. Without `done` such an error is raised by the next call.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Return when all that was committed so far is durable.

        Raises the error of a batch that failed and had no `done` to be told.
        """

    @abstractmethod
    def set_redactor(self, run_id: str, redactor: Redactor | None) -> None:
        """Set what is secret in a run: the one gate.

        From now on every string value that `commit` stores for the run (events, log lines, summary rows, answers)
        has these secrets taken out; ids, statuses, hashes, places of files and all keys are left alone. None lifts
        it. The engine sets it before the first commit of a run and lifts it when it lets go of the run's lock.
        """

    @abstractmethod
    async def delete_run(self, run_id: str) -> None:
        """Forget a run: events, rows, logs, commands, and the large values that no other run shares.

        Raises:
            UnknownRunError: There is no such run.
            RunLockedError: A living process owns it.
        """

    @abstractmethod
    def keep(self, value: Any, redactor: Redactor | None = None) -> Kept:
        """Return a JSON value as events carry it, secrets taken out, a large one in a file named by its content.

        Without a redactor the secrets of all runs that have a gate (`set_redactor`) are taken out.

        Raises:
            AttemptError: user_error, the JSON is over 10 MB; the hint says to write a file.
        """

    # --- reading: anybody, at any time

    @abstractmethod
    async def load_value(self, kept: Kept) -> Any:
        """Return the whole value that `keep` was given (with its secrets taken out)."""

    @abstractmethod
    async def read_events(self, run_id: str, after: int = 0, limit: int | None = None) -> list[Event]:
        """Return a run's events with `seq > after`, by `seq`.

        Raises:
            UnknownRunError: There is no such run.
            StoreError: An event cannot be read; names the run and its `seq`.
        """

    @abstractmethod
    def read_raw_events(
        self, run_id: str, after: int = 0, limit: int | None = None
    ) -> AsyncIterator[tuple[int, str, str, bytes]]:
        """Yield `(seq, type, step_id, JSON)` of a run's events with `seq > after`, without decoding them whole.

        An event that cannot be read has an empty type and hides no other. Raises UnknownRunError.
        """

    async def load_state(self, run_id: str) -> RunState:
        """Return the fold of all events of a run. Raises UnknownRunError."""
        state = RunState()
        for event in await self.read_events(run_id):
            state.apply(event)
        return state

    @abstractmethod
    async def list_runs(
        self,
        *,
        limit: int = 100,
        offset: int = 0,
        text: str = "",
        statuses: Sequence[RunStatus] = (),
        plan_path: str = "",
    ) -> list[RunSummary]:
        """Return runs, newest first. `text` filters by id, goal and plan path; `statuses` by the shown status."""

    @abstractmethod
    async def get_run(self, run_id: str) -> RunSummary:
        """Return one run's row. Raises UnknownRunError with near matches; a unique prefix of an id is enough."""

    @abstractmethod
    async def list_steps(self, run_id: str) -> list[StepSummary]:
        """Return the rows of a run's steps in plan order."""

    @abstractmethod
    async def read_log(
        self,
        run_id: str,
        *,
        step_id: str | None = None,
        attempt: int | None = None,
        item: int | None = None,
        after: int = 0,
        before: int | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[LogLine]:
        """Return log lines with `after < n < before` in order of `n`; with `newest` the last `limit` of them."""

    @abstractmethod
    async def count_log(self, run_id: str, *, step_id: str | None = None, attempt: int | None = None) -> int:
        """Return how many log lines there are."""

    @abstractmethod
    async def read_log_page(
        self, run_id: str, *, step_id: str, attempt: int | None = None, offset: int = 0, limit: int = 200
    ) -> list[LogLine]:
        """Return the lines at positions `offset` to `offset + limit` of a step's log, fast at any offset."""

    @abstractmethod
    async def search(self, text: str, *, run_id: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return hits in logs, outputs and errors: `{run_id, step_id, attempt, kind, n, text}`, newest run first."""

    # --- commands: anybody sends, the owner answers

    @abstractmethod
    async def send_command(self, command: Command) -> None:
        """Store a command; durable when this returns. Raises UnknownRunError."""

    @abstractmethod
    async def pending_commands(self, run_ids: Sequence[str]) -> list[Command]:
        """Return the unanswered commands for these runs in the order they were sent."""

    @abstractmethod
    async def get_command(self, command_id: str) -> Command | None:
        """Return a command with its answer, or None where there is none of that id."""

    @abstractmethod
    async def data_version(self) -> int:
        """Return a number that changes whenever any other connection has written to the store."""

    @abstractmethod
    def changes(self, poll: float = 0.05) -> AsyncIterator[None]:
        """Yield at once, and then each time the store may hold something new; several changes may yield once."""

    # --- ownership: an OS lock for each run

    @abstractmethod
    def acquire_run(self, run_id: str) -> RunLock:
        """Take the run's lock for this process.

        Raises:
            RunLockedError: A living process holds it; the error has its pid.
        """

    @abstractmethod
    def owner_alive(self, run_id: str) -> bool:
        """Return whether a living process holds the run's lock."""

    @abstractmethod
    async def read_workers(self, run_id: str) -> list[dict[str, Any]]:
        """Return what the last owner recorded of its pool workers."""

    @property
    def folder(self) -> Path | None:
        """The folder beside the store for its files, or None for a store in memory."""
        return None


class RunLock(ABC):
    """A held lock; the operating system lets go of it when the process dies."""

    run_id: str

    @abstractmethod
    def release(self) -> None:
        """Let go; may be called twice."""
