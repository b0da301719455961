"""From a batch to rows, on the caller's thread, before a writer sees it.

States change in place while a writer is at work, so everything a transaction needs is taken out of them here, and
the gate is passed here: what leaves this module has no secret in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from stepchain_tui.core.errors import StoreError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.run.events import Event, OwnerRecord, RunRevised, encode_event
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import STEP_ENDED, ErrorType, RunStatus, StepStatus
from stepchain_tui.run.step_state import StepState
from stepchain_tui.run.values import BlobReference, Kept
from stepchain_tui.store.gate import Gate
from stepchain_tui.store.imports import ImportMark
from stepchain_tui.store.moments import micros, moment, moment_or_none
from stepchain_tui.store.records import Batch, LogLine, RunSummary, StepSummary
from stepchain_tui.store.shared import SharedRows, shared_rows
from stepchain_tui.store.texts import ERROR_PREVIEW, LINE_LIMIT, clean_text

STREAMS: dict[str, int | str] = {"stdout": 0, "stderr": 1, "text": 2, "engine": 3, "server": 4, "text+": "text+"}
"""Stream -> how it is stored; a piece of streamed text whose line is not over has its name."""
STREAM_NAMES = {number: name for name, number in STREAMS.items()}

RunRow = tuple[str, str, int | None, int | None, int, int, int, int, int, int, int, float, int]
"""status reason started_at finished_at steps_total steps_done steps_failed input_tokens output_tokens last_seq, and, as
rows of a table of their own, turns cost unpriced_turns"""
NewRun = tuple[str, str, int, str | None, str | None]
"""goal plan_path created_at parent_run_id parent_step_id"""
StepRow = tuple[int, str, str, str, int, str | None, str, int | None, int | None]
"""position step_id kind status attempts error_type error started_at finished_at"""
LogRow = tuple[str, int, int, int | str, int, str]
"""step_id attempt item stream at text"""

_ENDED = tuple(STEP_ENDED)
_FAILED = (StepStatus.FAILED, StepStatus.TIMED_OUT)


@dataclass(slots=True)
class RunRows:
    """All that one batch stores of one run."""

    run_id: str
    events: list[tuple[int, bytes]] = field(default_factory=list)
    """(seq, JSON)"""
    summary: RunRow | None = None
    created: NewRun | None = None
    steps: list[StepRow] = field(default_factory=list)
    all_steps: bool = False
    """`steps` are all of the run's: other rows of it go."""
    logs: list[LogRow] = field(default_factory=list)
    files: list[BlobReference] = field(default_factory=list)
    owner: OwnerRecord | None = None
    sets_owner: bool = False
    workers: str | None = None
    imported: ImportMark | None = None


@dataclass(slots=True)
class BatchRows:
    """All that one transaction stores of one batch."""

    runs: list[RunRows]
    answers: list[tuple[str, str]] = field(default_factory=list)
    """(answer as JSON, command id)"""
    shared: SharedRows | None = None


def encode_safely(event: Event) -> bytes:
    """Return an event as JSON, also where a string or number in it does not fit into JSON as it is."""
    try:
        return encode_event(event)
    except (UnicodeEncodeError, OverflowError, TypeError, ValueError):
        return encode_json(to_json_value(msgspec.to_builtins(event, enc_hook=to_json_value)))


def kept_in(event: Event) -> list[Kept]:
    """Return the values that an event carries."""
    found = [value for name in event.__struct_fields__ if isinstance(value := getattr(event, name), Kept)]
    return found + [outline.value for outline in getattr(event, "items", ())]


def files_of(event: Event) -> list[BlobReference]:
    """Return the references to files beside the store that an event carries."""
    return [reference for kept in kept_in(event) for reference in kept.references]


def run_row(state: RunState, gate: Gate | None) -> RunRow:
    """Return what a run's row says after its last event."""
    counts = state.counts
    reason = state.reason
    return (
        state.status._value_,
        gate.text(reason) if gate and reason else reason,
        micros(state.started_at),
        micros(state.finished_at),
        len(state.steps),
        sum([counts.get(status, 0) for status in _ENDED]),
        sum([counts.get(status, 0) for status in _FAILED]),
        state.usage.input_tokens,
        state.usage.output_tokens,
        state.last_seq,
        state.usage.turns,
        state.usage.cost,
        state.usage.unpriced_turns,
    )


def new_run(state: RunState, gate: Gate | None) -> NewRun:
    """Return what never changes in a run's row."""
    created = micros(state.created_at)
    if created is None:
        raise StoreError(
            f"run '{state.run_id}' has no run.created event", hint="A run's first event makes it; store that first."
        )
    goal = gate.text(state.goal) if gate else state.goal
    return (goal, state.plan_path, created, state.parent_run_id, state.parent_step_id)


def step_row(step: StepState, position: int, gate: Gate | None) -> StepRow:
    """Return one step's row."""
    outline, error = step.outline, step.error
    error_type, text = None, ""
    if error is not None:
        message = gate.text(error.message) if gate else error.message
        error_type, text = error.error_type._value_, clean_text(message[:ERROR_PREVIEW])
    return (
        position,
        outline.id,
        outline.kind,
        step.status._value_,
        step.attempt,
        error_type,
        text,
        micros(step.started_at),
        micros(step.finished_at),
    )


class RowMaker:
    """Makes rows of batches; remembers each run's plan order, so that one changed step costs one row."""

    def __init__(self) -> None:
        self.gates: dict[str, Gate] = {}
        self._made: WeakKeyDictionary[Redactor, Gate] = WeakKeyDictionary()
        self._positions: dict[str, tuple[int, dict[str, int]]] = {}

    def forget(self, run_id: str) -> None:
        """Let go of what is remembered of a run, but for its gate."""
        self._positions.pop(run_id, None)

    def set_redactor(self, run_id: str, redactor: Redactor | None) -> None:
        """Set or lift a run's gate."""
        gate = None if redactor is None else Gate(redactor)
        if gate is None or gate.open:
            self.gates.pop(run_id, None)
        else:
            self.gates[run_id] = gate

    def gates_for(self, redactor: Redactor | None) -> list[Gate]:
        """Return the gate of a redactor, or those of all runs where there is none."""
        if redactor is None:
            return list(self.gates.values())
        gate = self._made.get(redactor)
        if gate is None:
            gate = self._made[redactor] = Gate(redactor)
        return [] if gate.open else [gate]

    def rows(self, batch: Batch) -> BatchRows:
        """Return all rows of a batch."""
        runs: dict[str, RunRows] = {}
        for run_id, events in self._by_run(batch.events).items():
            runs[run_id] = self._event_rows(run_id, events)
        if batch.logs:
            self._log_rows(batch.logs, runs)
        for run_id, state in batch.states.items():
            rows = runs.get(run_id) or runs.setdefault(run_id, RunRows(run_id))
            self._summary_rows(rows, state, batch)
        for rows in runs.values():
            if rows.summary is None and rows.events and rows.events[0][0] == 1:
                self._folded_rows(rows, batch)
        for run_id, owner in batch.owners.items():
            rows = runs.setdefault(run_id, RunRows(run_id))
            rows.owner, rows.sets_owner = owner, True
        for run_id, workers in batch.workers.items():
            runs.setdefault(run_id, RunRows(run_id)).workers = encode_json(to_json_value(workers)).decode()
        for run_id, mark in batch.imported.items():
            runs.setdefault(run_id, RunRows(run_id)).imported = mark
        answers = [(encode_json(self._answer(answer)).decode(), name) for name, answer in batch.answers.items()]
        return BatchRows(list(runs.values()), answers, shared_rows(batch, self.gates))

    @staticmethod
    def _by_run(events: list[Event]) -> Mapping[str, list[Event]]:
        if not events:
            return {}
        first = events[0].run_id
        if all(event.run_id == first for event in events):
            return {first: events}
        grouped: dict[str, list[Event]] = {}
        for event in events:
            grouped.setdefault(event.run_id, []).append(event)
        return grouped

    def _event_rows(self, run_id: str, events: list[Event]) -> RunRows:
        rows = RunRows(run_id)
        encoded = [encode_safely(event) for event in events]
        if (gate := self.gates.get(run_id)) is not None:
            encoded = gate.events(encoded)
        seq = events[0].seq
        if [event.seq for event in events] != list(range(seq, seq + len(events))):
            raise StoreError(
                f"the events of run '{run_id}' do not follow each other", hint="Events are numbered without gaps."
            )
        rows.events = list(enumerate(encoded, seq))
        for event, data in zip(events, encoded, strict=True):
            if b'"sha256":"' in data:
                rows.files += files_of(event)
        return rows

    def _log_rows(self, logs: list[tuple[str, LogLine]], runs: dict[str, RunRows]) -> None:
        last_at, at = None, 0
        for run_id, line in logs:
            rows = runs.get(run_id) or runs.setdefault(run_id, RunRows(run_id))
            if line.at is not last_at:
                last_at, at = line.at, round(line.at.timestamp() * 1_000_000)
            text = line.text
            if len(text) > LINE_LIMIT or not text.isascii():
                text = clean_text(text)
            stream = STREAMS.get(line.stream, line.stream)
            rows.logs.append((line.step_id, line.attempt, line.item, stream, at, text))
        for run_id, rows in runs.items():
            if rows.logs and (gate := self.gates.get(run_id)) is not None:
                before = [row[5] for row in rows.logs]
                after = gate.lines(before)
                if after is not before:
                    rows.logs = [(*row[:5], text) for row, text in zip(rows.logs, after, strict=True)]

    def _summary_rows(self, rows: RunRows, state: RunState, batch: Batch, *, everything: bool = False) -> None:
        gate = self.gates.get(rows.run_id)
        rows.summary = run_row(state, gate)
        if rows.events and rows.events[0][0] == 1:
            rows.created = new_run(state, gate)
        known = self._positions.get(rows.run_id)
        changed = None if everything or rows.created else batch.touched.get(rows.run_id, set())
        steps = state.steps
        if known is None or known[0] != state.layout:
            if known is not None or any(isinstance(event, RunRevised) for event in batch.events):
                changed = None
            known = (state.layout, {step_id: position for position, step_id in enumerate(steps)})
            self._positions[rows.run_id] = known
        if changed is None:
            rows.all_steps = True
            rows.steps = [step_row(step, position, gate) for position, step in enumerate(steps.values())]
        else:
            positions = known[1]
            rows.steps = [
                step_row(steps[step_id], positions[step_id], gate) for step_id in changed if step_id in positions
            ]

    def _folded_rows(self, rows: RunRows, batch: Batch) -> None:
        state = RunState()
        for event in batch.events:
            if event.run_id == rows.run_id:
                state.apply(event)
        self._summary_rows(rows, state, batch, everything=True)

    def _answer(self, answer: dict[str, Any]) -> Any:
        value = to_json_value(answer)
        for gate in self.gates.values():
            value = gate.value(value)
        return value


def run_summary(row: tuple[Any, ...]) -> RunSummary:
    """Return a row of `RUN_COLUMNS` as a summary; whether its owner lives is not known yet."""
    return RunSummary(
        run_id=row[0],
        goal=row[1],
        plan_path=row[2],
        created_at=moment(row[3]),
        parent_run_id=row[4],
        parent_step_id=row[5],
        status=RunStatus(row[6]),
        reason=row[7],
        started_at=moment_or_none(row[8]),
        finished_at=moment_or_none(row[9]),
        steps_total=row[10],
        steps_done=row[11],
        steps_failed=row[12],
        input_tokens=row[13],
        output_tokens=row[14],
        last_seq=row[15],
        turns=row[16] or 0,
        cost=row[17] or 0.0,
        unpriced_turns=row[18] or 0,
        owner=None if row[19] is None else msgspec.json.decode(row[19], type=OwnerRecord),
        imported=None if row[20] is None else msgspec.json.decode(row[20], type=ImportMark),
    )


RUN_COLUMNS = (
    "runs.run_id, runs.goal, runs.plan_path, runs.created_at, runs.parent_run_id, runs.parent_step_id, runs.status, "
    "runs.reason, runs.started_at, runs.finished_at, runs.steps_total, runs.steps_done, runs.steps_failed, "
    "runs.input_tokens, runs.output_tokens, runs.last_seq, spending.turns, spending.cost, spending.unpriced_turns, "
    "owners.record, imports.record"
)
"""What `run_summary` takes, from `RUN_TABLES`."""
RUN_TABLES = (
    "runs LEFT JOIN owners ON owners.run = runs.key LEFT JOIN imports ON imports.run = runs.key "
    "LEFT JOIN spending ON spending.run = runs.key"
)


def step_summary(run_id: str, row: StepRow) -> StepSummary:
    """Return a step's row as a summary."""
    return StepSummary(
        run_id=run_id,
        position=row[0],
        step_id=row[1],
        kind=row[2],
        status=StepStatus(row[3]),
        attempts=row[4],
        error_type=None if row[5] is None else ErrorType(row[5]),
        error=row[6],
        started_at=moment_or_none(row[7]),
        finished_at=moment_or_none(row[8]),
    )
