"""What a store owes the house. One contract suite runs on every implementation.

The engine alone writes, and only for runs whose lock it holds; anybody may read. What is atomic, in which order
things come back and what is durable when a call returns is said at each method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from stepchain_tui.core.secrets import Redactor
from stepchain_tui.run.events import Event
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.run.values import BlobReference, Kept
from stepchain_tui.store.readable import fold_readable
from stepchain_tui.store.records import (
    Batch,
    CacheEntry,
    Command,
    CorruptEvent,
    LogLine,
    RunSummary,
    StepSummary,
    ToolRecord,
)

__all__ = (
    "AbstractStore",
    "Batch",
    "CacheEntry",
    "Command",
    "CorruptEvent",
    "LogLine",
    "RunLock",
    "RunSummary",
    "StepSummary",
    "ToolRecord",
)


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
        """Forget a run: events, rows, logs, commands, and the large values that nothing else refers to.

        The cache keeps what it made, and runs forked from it keep its name.

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

    @abstractmethod
    def keep_file(self, data: bytes, *, suffix: str = "", redactor: Redactor | None = None) -> BlobReference:
        """Return the reference to bytes that were put into a file, such as an image; secrets are taken out of them.

        The file lives as long as an event or an entry of the cache has the reference in its `Kept.files`; until one
        has, for a day.

        Args:
            data: At most 10 MB.
            suffix: The end of the file's name, such as `.png`; capitals become small letters, nothing `.bin`.
            redactor: As for `keep`.

        Raises:
            AttemptError: user_error, the bytes are too many, or the suffix is none.
        """

    # --- reading: anybody, at any time

    @abstractmethod
    async def load_value(self, kept: Kept) -> Any:
        """Return the whole value that `keep` was given (with its secrets taken out)."""

    @abstractmethod
    async def load_file(self, reference: BlobReference) -> bytes:
        """Return the bytes of a file that `keep_file` made. Raises StoreError where it is gone or damaged."""

    @abstractmethod
    def file_path(self, reference: BlobReference) -> Path | None:
        """Return where a file is, for whoever shows it; None for a large value of a store in memory."""

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

    async def load_readable(self, run_id: str) -> tuple[RunState, list[CorruptEvent]]:
        """Return the fold of those events of a run that can be folded, and the others, by `seq`.

        An event that is missing, cannot be read, or makes no sense without one of those is left out; what comes
        after it still counts. Where the first event is lost the run's rows say what its steps are. For showing only:
        a run that goes on needs all of it (`load_state`). Raises UnknownRunError.
        """
        return await fold_readable(self, run_id)

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
    async def children_of(self, run_id: str) -> list[RunSummary]:
        """Return the runs that were forked from a run, oldest first; it may be deleted by now."""

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

    # --- what runs share: written with `commit`, by whichever engine

    @abstractmethod
    async def find_cached(self, key: str) -> CacheEntry | None:
        """Return the entry of that key, however old, None where there is none or its large value is gone.

        Who takes it over says so in `Batch.cache_used`; a reader marks nothing.
        """

    @abstractmethod
    async def last_cached(self, scope: str) -> CacheEntry | None:
        """Return the newest entry of a step, None where there is none."""

    @abstractmethod
    async def clear_cache(self) -> int:
        """Forget all entries and return how many there were."""

    @abstractmethod
    async def read_breakers(self) -> dict[str, dict[str, Any]]:
        """Return what is kept of each circuit breaker, by name."""

    @abstractmethod
    async def read_tools(self) -> list[ToolRecord]:
        """Return how each tool did, by name, in all runs that were carried out here, deleted ones included.

        Kept from the `tool.finished` events that `commit` stores, together with them.
        """

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
            UntrustedRunError: The run was imported, and nobody has said yet that its steps may run here.
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
