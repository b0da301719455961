"""What the lines of a `JSONLStore`'s files say: a run's events as they are, and beside them these records.

Events have a dot in their type (`step.started`), records have none, so `grep '"type":"step.failed"'` finds what it
names and nothing else. A line that cannot be read takes the place of an event, unless it begins like a record or the
events around it leave no number free.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.run.events import OwnerRecord
from stepchain_tui.store.imports import ImportMark
from stepchain_tui.store.moments import micros, moment
from stepchain_tui.store.records import Command
from stepchain_tui.store.rows import STREAM_NAMES, STREAMS, LogRow, NewRun, RunRows

VERSION = 1
"""Of the files; a higher one was written by a newer version."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Any line that is no event."""


class RunHeader(Record, frozen=True, kw_only=True, omit_defaults=True, tag="run"):
    """The first line: whose file this is, and what a history says of it.

    Attributes:
        steps: id -> kind of the steps that the run began with, for a file whose first event is damaged.
    """

    version: int
    run_id: str
    goal: str
    plan_path: str
    created_at: datetime
    parent_run_id: str | None = None
    parent_step_id: str | None = None
    steps: dict[str, str] = {}

    @property
    def created(self) -> NewRun:
        """What an index keeps of it."""
        return self.goal, self.plan_path, micros(self.created_at) or 0, self.parent_run_id, self.parent_step_id


class LoggedLine(Record, frozen=True, kw_only=True, omit_defaults=True, tag="log", gc=False):
    """One log line."""

    at: datetime
    step_id: str = ""
    attempt: int = 0
    item: int = -1
    stream: str = "stdout"
    text: str = ""


class OwnerLine(Record, frozen=True, kw_only=True, omit_defaults=True, tag="owner"):
    """A new owner, or None."""

    owner: OwnerRecord | None = None


class WorkersLine(Record, frozen=True, kw_only=True, omit_defaults=True, tag="workers"):
    """The owner's pool workers."""

    workers: list[dict[str, Any]]


class ImportLine(Record, frozen=True, kw_only=True, omit_defaults=True, tag="import"):
    """The mark of an imported run."""

    mark: ImportMark


class CommandLine(Record, frozen=True, kw_only=True, omit_defaults=True, tag="command"):
    """A command that somebody sent."""

    command: Command


class AnswerLine(Record, frozen=True, kw_only=True, omit_defaults=True, tag="answer"):
    """The answer to a command."""

    command_id: str
    answer: dict[str, Any]


_Any = RunHeader | LoggedLine | OwnerLine | WorkersLine | ImportLine | CommandLine | AnswerLine
_records: msgspec.json.Decoder[_Any] = msgspec.json.Decoder(_Any)
_LONGEST_GAP = 1_000_000
"""Events that may be missing in a row; a number beyond that is no number of an event."""
_TYPE = re.compile(rb'\s*\{\s*"type"\s*:\s*"([a-z_.]*)')
_RECORD_TYPES = frozenset({b"run", b"log", b"owner", b"workers", b"import", b"command", b"answer"})


class _Numbered(msgspec.Struct):
    seq: int


_numbers = msgspec.json.Decoder(_Numbered)


def encoded(record: Record) -> bytes:
    """Return a record as one line of JSON, also where a string in it does not fit into JSON as it is."""
    try:
        return msgspec.json.encode(record)
    except UnicodeEncodeError:
        return encode_json(to_json_value(msgspec.to_builtins(record)))


def lines_of(rows: RunRows) -> list[bytes]:
    """Return what one batch stores of a run as lines: logs before events, so that no attempt ends before its log."""
    lines: list[bytes] = []
    if rows.created is not None:
        goal, plan_path, created_at, parent_run_id, parent_step_id = rows.created
        header = RunHeader(
            version=VERSION,
            run_id=rows.run_id,
            goal=goal,
            plan_path=plan_path,
            created_at=moment(created_at),
            parent_run_id=parent_run_id,
            parent_step_id=parent_step_id,
            steps={row[1]: row[2] for row in rows.steps},
        )
        lines.append(encoded(header))
    lines += [encoded(_logged(row)) for row in rows.logs]
    lines += [data for _, data in rows.events]
    if rows.sets_owner:
        lines.append(encoded(OwnerLine(owner=rows.owner)))
    if rows.workers is not None:
        lines.append(encoded(WorkersLine(workers=msgspec.json.decode(rows.workers))))
    if rows.imported is not None:
        lines.append(encoded(ImportLine(mark=rows.imported)))
    return lines


def _logged(row: LogRow) -> LoggedLine:
    step_id, attempt, item, stream, at, text = row
    name = STREAM_NAMES.get(stream, str(stream))
    return LoggedLine(at=moment(at), step_id=step_id, attempt=attempt, item=item, stream=name, text=text)


def log_row(line: LoggedLine) -> LogRow:
    """Return a log line as a batch has it."""
    stream = STREAMS.get(line.stream, line.stream)
    return line.step_id, line.attempt, line.item, stream, micros(line.at) or 0, line.text


@dataclass(slots=True)
class ParsedLines:
    """What some lines say.

    Attributes:
        events: `(seq, JSON)`; a damaged event has the bytes that are left of it.
        logs: Log lines, empty where they were only counted.
        log_count: How many log lines there are.
        records: All others, in order.
        damaged: How many lines cannot be read and are no event.
    """

    events: list[tuple[int, bytes]] = field(default_factory=list)
    logs: list[LogRow] = field(default_factory=list)
    log_count: int = 0
    records: list[_Any] = field(default_factory=list)
    damaged: int = 0


def parse(lines: Iterable[bytes], expected: int, *, with_logs: bool) -> ParsedLines:
    """Return what lines of a run's file say.

    Args:
        lines: Lines without their ends.
        expected: The number of the next event.
        with_logs: Whether log lines are wanted; else they are only counted.
    """
    parsed = ParsedLines()
    candidates: list[tuple[int | None, bytes]] = []
    for line in lines:
        match = _TYPE.match(line)
        kind = match.group(1) if match else b""
        if kind == b"log" and not with_logs:
            parsed.log_count += 1
        elif kind in _RECORD_TYPES:
            _parse_record(line, parsed)
        else:
            candidates.append((_number(line), line))
    _number_events(candidates, expected, parsed)
    return parsed


def _parse_record(line: bytes, parsed: ParsedLines) -> None:
    try:
        record = _records.decode(line)
    except (msgspec.DecodeError, ValueError):
        parsed.damaged += 1
        return
    if isinstance(record, LoggedLine):
        parsed.logs.append(log_row(record))
        parsed.log_count += 1
    else:
        parsed.records.append(record)


def _number(line: bytes) -> int | None:
    try:
        return _numbers.decode(line).seq
    except (msgspec.DecodeError, ValueError):
        return None


def _number_events(candidates: Sequence[tuple[int | None, bytes]], expected: int, parsed: ParsedLines) -> None:
    """Give each line its number: that of its place, shifted where whole lines are gone or were no events."""
    damaged = 0
    for position, (number, line) in enumerate(candidates):
        if number is not None and 0 < number - expected <= _LONGEST_GAP and _others_agree(candidates, position, number):
            expected = number
        elif number is not None and 0 < expected - number <= damaged:
            surplus = expected - number
            del parsed.events[-surplus:]
            parsed.damaged += surplus
            expected = number
        damaged = damaged + 1 if number is None else 0
        parsed.events.append((expected, line))
        expected += 1


def _others_agree(candidates: Sequence[tuple[int | None, bytes]], position: int, number: int) -> bool:
    """Return whether the next readable line has the number that follows from this one's, or there is none."""
    for later in range(position + 1, len(candidates)):
        if (other := candidates[later][0]) is not None:
            return other - number == later - position
    return True
