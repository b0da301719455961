"""Collects what happens in all runs of this process and stores it, one commit a tick of the event loop.

What is emitted in one tick is stored together: the parent's `succeeded` and its children's `started` share a commit.
A body starts from `after_commit`, so it never runs before the event that says so is durable.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from stepchain_tui.core.clock import Clock
from stepchain_tui.core.errors import StoreError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.store.base import AbstractStore, Batch, CacheEntry, LogLine
from stepchain_tui.store.gate import Gate
from stepchain_tui.store.rows import encode_safely
from stepchain_tui.store.texts import LINE_LIMIT

LOG_DELAY = 0.05
"""Seconds that log lines wait for others when nothing else is to be stored."""
LOG_BATCH = 2_000
"""Log lines after which they wait no longer."""

SUMMARY_DELAY = 0.02
"""Seconds that the summary rows of a busy run may be behind its events. They are with them at every rest: when the
run's status changes, when a slow run's event comes, when a run is let go of; taking over a dead owner's run writes
them anew."""

PIECE = "text+"
"""The stream of a piece of text whose line is not over."""

Listener = Callable[[list[e.Event]], None]


@dataclass(slots=True)
class _Behind:
    """A run whose summary rows are to be written: its state and the steps that changed, None for all."""

    state: RunState
    steps: set[str] | None = field(default_factory=set)


class Recorder:
    """The one writer of an engine process.

    Args:
        store: An open store.
        on_failure: Called once, with the error, when a batch could not be stored; nothing is stored from then on.
    """

    def __init__(self, store: AbstractStore, on_failure: Callable[[BaseException], None]) -> None:
        self.store = store
        self.failure: BaseException | None = None
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._batch = Batch()
        self._after: list[Callable[[], None]] = []
        self._listeners: dict[str, list[Listener]] = defaultdict(list)
        self._scheduled = False
        self._log_timer: asyncio.TimerHandle | None = None
        self._behind: dict[str, _Behind] = {}
        self._summary_due = False
        self._summaries_at = 0.0
        self._summary_timer: asyncio.TimerHandle | None = None

    def subscribe(self, run_id: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` with a run's events once they are durable; returns what ends it."""
        self._listeners[run_id].append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners[run_id]:
                self._listeners[run_id].remove(listener)

        return unsubscribe

    def record(self, state: RunState, event: e.Event, step_id: str | None) -> None:
        """Store an event that was just applied to `state` with the next commit."""
        self._batch.events.append(event)
        behind = self._behind.get(event.run_id)
        if behind is None:
            behind = self._behind[event.run_id] = _Behind(state)
        if step_id is None:
            self._summary_due = True
        elif behind.steps is not None:
            behind.steps.add(step_id)
        if not self._scheduled:
            self._schedule()

    def touch_all(self, run_id: str, state: RunState) -> None:
        """Write the summary rows of all the run's steps with the next commit."""
        self._behind[run_id] = _Behind(state, None)
        self._summary_due = True
        self._schedule()

    def log(self, run_id: str, line: LogLine) -> None:
        """Store a log line soon: with the next commit, or after 50 ms."""
        logs = self._batch.logs
        if line.stream == PIECE and logs and (whole := _joined(logs[-1], run_id, line)) is not None:
            logs[-1] = (run_id, whole)
            return
        logs.append((run_id, line))
        if self._scheduled:
            return
        if len(self._batch.logs) >= LOG_BATCH:
            self._schedule()
        elif self._log_timer is None:
            self._log_timer = self._loop.call_later(LOG_DELAY, self._flush)

    def owner(self, run_id: str, owner: e.OwnerRecord | None) -> None:
        """Store who owns a run with the next commit, together with all summary rows."""
        self._batch.owners[run_id] = owner
        self._summary_due = True
        self._schedule()

    def workers(self, run_ids: Iterable[str], workers: list[dict[str, Any]]) -> None:
        """Store the pool workers of these runs' owner with the next commit."""
        for run_id in run_ids:
            self._batch.workers[run_id] = workers
        self._schedule()

    def keep_cached(self, entry: CacheEntry) -> None:
        """Store a result for other attempts with the next commit."""
        self._batch.cache.append(entry)
        self._schedule()

    def cache_used(self, key: str) -> None:
        """Store with the next commit that a kept result was used: what is used is kept longest."""
        self._batch.cache_used.append(key)
        self._schedule()

    def breaker(self, name: str, record: dict[str, Any]) -> None:
        """Store the state of a circuit breaker with the next commit."""
        self._batch.breakers[name] = record
        self._schedule()

    def answer(self, command_id: str, answer: dict[str, Any]) -> None:
        """Store a command's answer with the next commit, the one that its events are in."""
        self._batch.answers[command_id] = answer
        self._schedule()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call `callback` once what was recorded so far is durable; never, if it could not be stored."""
        self._after.append(callback)
        self._schedule()

    async def settle(self) -> None:
        """Return when all that was recorded so far is durable. Raises the error that kept it from being so."""
        if self._scheduled or self._batch.logs or self._behind:
            self._summary_due = True
            self._flush()
        await self.store.flush()
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """Set no more timers; what was recorded must have been settled before."""
        for timer in (self._log_timer, self._summary_timer):
            if timer is not None:
                timer.cancel()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._log_timer is not None:
            self._log_timer.cancel()
            self._log_timer = None
        self._scheduled = False
        if self._behind:
            self._add_summaries()
        batch, after = self._batch, self._after
        self._batch, self._after = Batch(), []
        if self.failure is not None:
            return
        try:
            self.store.commit(batch, lambda error: self._committed(batch, after, error))
        except StoreError as error:
            self._committed(batch, after, error)

    def _add_summaries(self) -> None:
        """Put the summary rows into the batch if they are due; a busy run's are written every 20 ms, not every time."""
        now = self._loop.time()
        if self._summary_due or now - self._summaries_at >= SUMMARY_DELAY:
            for run_id, behind in self._behind.items():
                self._batch.states[run_id] = behind.state
                self._batch.touched[run_id] = behind.steps
            self._behind, self._summary_due, self._summaries_at = {}, False, now
        elif self._summary_timer is None:
            self._summary_timer = self._loop.call_later(SUMMARY_DELAY, self._summaries_are_due)

    def _summaries_are_due(self) -> None:
        self._summary_timer = None
        if self._behind:
            self._summary_due = True
            self._schedule()

    def _committed(self, batch: Batch, after: list[Callable[[], None]], error: BaseException | None) -> None:
        if error is not None:
            if self.failure is None:
                self.failure = error
                self._on_failure(error)
            return
        for callback in after:
            callback()
        if self._listeners:
            self._tell(batch.events)

    def _tell(self, events: list[e.Event]) -> None:
        by_run: dict[str, list[e.Event]] = defaultdict(list)
        for event in events:
            if event.run_id in self._listeners:
                by_run[event.run_id].append(event)
        for run_id, news in by_run.items():
            for listener in list(self._listeners[run_id]):
                listener(news)


def _joined(before: tuple[str, LogLine], run_id: str, piece: LogLine) -> LogLine | None:
    """Return a piece of streamed text behind the one before it, None where they do not belong together."""
    last = before[1]
    same = before[0] == run_id and (last.step_id, last.attempt, last.item) == (piece.step_id, piece.attempt, piece.item)
    if not same or last.stream != PIECE or len(last.text) + len(piece.text) > LINE_LIMIT:
        return None
    return structs.replace(last, text=last.text + piece.text)


class Journal:
    """Makes the events of one run: numbers them, takes secrets out, applies them to the state and records them.

    The store's gate would take the secrets out as well; they are taken out here so that the engine's state, and what
    dependents read from it, is what the store holds.
    """

    __slots__ = ("_gate", "clock", "recorder", "run_id", "state")

    def __init__(self, run_id: str, state: RunState, recorder: Recorder, clock: Clock) -> None:
        self.run_id = run_id
        self.state = state
        self.recorder = recorder
        self.clock = clock
        self._gate: Gate | None = None

    def set_redactor(self, redactor: Redactor) -> None:
        """Take these secrets out of every event from now on, here and at the store's gate."""
        gate = Gate(redactor)
        self._gate = None if gate.open else gate
        self.recorder.store.set_redactor(self.run_id, redactor)

    def emit(self, event_type: Callable[..., e.Event], **fields: Any) -> None:
        """Make an event of that type happen now."""
        event = event_type(seq=self.state.last_seq + 1, run_id=self.run_id, at=self.clock.now(), **fields)
        if self._gate is not None:
            data = encode_safely(event)
            if self._gate.hit(data):
                event = e.decode_event(self._gate.event(data))
        self.state.apply(event)
        self.recorder.record(self.state, event, fields.get("step_id"))
