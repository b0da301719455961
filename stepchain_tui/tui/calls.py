"""The tool calls of a run, by step, as its events tell them; the fold of a run keeps none of them.

Only lines to choose from are held, the newest `MOST_CALLS` of each step: arguments and results are read from the store
when somebody looks at a call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.core.values import encode_json
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.transcript import asked_call, was_denied
from stepchain_tui.run.values import Kept
from stepchain_tui.tui.text import duration, one_line

if TYPE_CHECKING:
    from stepchain_tui.run.step_state import StepState
    from stepchain_tui.store.base import AbstractStore

MOST_CALLS = 1_000
"""Calls of one step that are listed: the newest."""
BRIEF = 160
"""Characters of arguments and results in a list of calls."""
CALL_EVENTS = frozenset((e.ToolStarted, e.ToolFinished, e.ToolApprovalAsked, e.ToolApprovalGiven))
"""The events that are taken in."""


@dataclass(frozen=True, slots=True)
class CallRow:
    """One tool call as a list of calls shows it.

    Attributes:
        attempt: The attempt that called.
        item: Index of the map's item that called, or None.
        status: `running`, `waiting` for a person's word, `allowed` (the next attempt makes the call), `denied`,
            `succeeded`, `failed`, `timed_out`, or how the attempt ended that began it and never heard of it again.
        arguments: One line.
        result: One line of what it gave, or of its error, or of who allowed or denied it.
        execution_time: Seconds that it took, None while it runs.
        started_seq: The event that tells its beginning, or that it was asked for; or 0.
        finished_seq: The event that tells its end, or what a person said of it; or 0.
        allowed: Who allowed it in an earlier attempt, and with which arguments where those were changed.
        asked_seqs: The events that tell that a person was asked, and what they said.
    """

    attempt: int
    item: int | None
    call_id: str
    tool_name: str
    status: str
    started_at: datetime | None = None
    arguments: str = ""
    result: str = ""
    execution_time: float | None = None
    started_seq: int = 0
    finished_seq: int = 0
    allowed: str = ""
    asked_seqs: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[int, int | None, str]:
        """What tells it from all other calls of its step."""
        return self.attempt, self.item, self.call_id

    @property
    def took(self) -> str:
        """How long it took, empty where that is not known."""
        return "" if self.execution_time is None else call_time(self.execution_time)

    @property
    def by(self) -> str:
        """Which attempt called, of which item: `2`, `2[7]`."""
        return str(self.attempt) if self.item is None else f"{self.attempt}[{self.item}]"


class ToolCalls:
    """The calls of all steps of a run; give it the run's events in their order."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[tuple[int, int | None, str], CallRow]] = {}
        self._dropped: dict[str, int] = {}

    def take(self, event: e.Event) -> None:
        """Take in one event; those that tell nothing of a tool are left alone."""
        match event:
            case e.ToolStarted():
                began = self._begun(event)
                self._keep(event, replace(began, status="running", started_seq=event.seq, finished_seq=0))
            case e.ToolFinished():
                began = self._begun(event)
                ended = replace(
                    began,
                    status="denied" if was_denied(event.error) else status_of(event.error),
                    arguments=brief_arguments(event.arguments) or began.arguments,
                    result=_with_word(brief_result(event.result, event.error), began.allowed),
                    execution_time=event.execution_time,
                    finished_seq=event.seq,
                )
                self._keep(event, ended)
            case e.ToolApprovalAsked():
                self._asked(event)
            case e.ToolApprovalGiven():
                self._answered(event)
            case _:
                pass

    def of(self, step_id: str, ended: Callable[[CallRow], str] = lambda _: "") -> tuple[CallRow, ...]:
        """Return the calls of a step, the newest first.

        Args:
            step_id: The step.
            ended: Gives how the attempt ended that made a call which never ended, empty while it goes on.
        """
        rows = self._steps.get(step_id, {})
        found = [row if row.finished_seq else replace(row, status=ended(row) or row.status) for row in rows.values()]
        return tuple(reversed(found))

    def dropped(self, step_id: str) -> int:
        """Return how many older calls of a step are not listed."""
        return self._dropped.get(step_id, 0)

    def _begun(self, event: e.ToolStarted | e.ToolFinished) -> CallRow:
        known = self._steps.get(event.step_id, {}).get((event.attempt, event.item, event.call_id))
        if known is not None:
            return known
        said = self._take_answered(event)
        allowed = f"allowed, {said.result}" if said is not None and said.status == "allowed" else ""
        is_start = isinstance(event, e.ToolStarted)
        return CallRow(
            attempt=event.attempt,
            item=event.item,
            call_id=event.call_id,
            tool_name=one_line(event.tool_name, 80),
            status="running",
            started_at=event.at if is_start else None,
            arguments=brief_arguments(event.arguments),
            result=allowed,
            started_seq=event.seq if is_start else 0,
            allowed=allowed,
            asked_seqs=() if said is None else (said.started_seq, said.finished_seq),
        )

    def _take_answered(self, event: e.ToolStarted | e.ToolFinished) -> CallRow | None:
        """Return what a person said of a call in an earlier attempt, which is told with what became of it now."""
        rows, call_id = self._steps.get(event.step_id, {}), event.call_id
        for key, row in reversed(rows.items()):
            asked = asked_call(row.call_id) in (call_id, call_id.rpartition("~")[0])
            if asked and row.item == event.item and row.execution_time is None and row.status in ("allowed", "denied"):
                return rows.pop(key)
        return None

    def _asked(self, event: e.ToolApprovalAsked) -> None:
        """Note that a call waits for a person."""
        row = CallRow(
            attempt=event.attempt,
            item=event.item,
            call_id=event.call_id,
            tool_name=one_line(event.tool_name, 80),
            status="waiting",
            started_at=event.at,
            arguments=brief_arguments(event.arguments),
            started_seq=event.seq,
        )
        self._keep(event, row)

    def _answered(self, event: e.ToolApprovalGiven) -> None:
        """Note what a person said of a call; where it is allowed another attempt makes it."""
        row = self._steps.get(event.step_id, {}).get((event.attempt, event.item, event.call_id))
        if row is None:
            return
        changed, given = "", event.arguments
        if given is not None:
            now = f"{given.blob.bytes:,} bytes" if given.blob is not None else brief_arguments(given.value["arguments"])
            changed = f"changed to {now}; "
        said = replace(
            row,
            status="allowed" if event.approved else "denied",
            result=f"{changed}by {one_line(event.by, 60) or 'a person'}",
            finished_seq=event.seq,
        )
        self._keep(event, said)

    def _keep(self, event: Any, row: CallRow) -> None:
        rows = self._steps.setdefault(event.step_id, {})
        rows[row.key] = row
        if len(rows) > MOST_CALLS:
            del rows[next(iter(rows))]
            self._dropped[event.step_id] = self._dropped.get(event.step_id, 0) + 1


def _with_word(result: str, allowed: str) -> str:
    return "; ".join(part for part in (result, allowed) if part)


async def read_calls(store: AbstractStore, run_id: str) -> ToolCalls:
    """Return the tool calls of a run; events that cannot be read are left out. Raises UnknownRunError."""
    calls = ToolCalls()
    async for _, kind, _, data in store.read_raw_events(run_id):
        if e.EVENT_TYPES.get(kind) in CALL_EVENTS:
            with contextlib.suppress(StepChainError):  # whoever reads the run tells what of it cannot be read
                calls.take(e.decode_event(data))
    return calls


def ended_as(step: StepState) -> Callable[[CallRow], str]:
    """Return what gives how the attempt of a step ended that made a call, empty while it goes on."""

    def ended(call: CallRow) -> str:
        attempt = step.attempts.get((call.item, call.attempt))
        return "" if attempt is None or attempt.finished_at is None else str(attempt.status)

    return ended


def call_time(seconds: float) -> str:
    """Return how long a call took: most take less than a second."""
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else duration(seconds)


def status_of(error: Failure | None) -> str:
    """Return the word for how a call ended."""
    if error is None:
        return "succeeded"
    return "timed_out" if error.error_type is ErrorType.TIMEOUT else "failed"


def brief_arguments(arguments: Any) -> str:
    """Return arguments in one line: `name="Ada", n=2`."""
    if isinstance(arguments, Mapping):
        parts = []
        for name, value in arguments.items():
            parts.append(f"{name}={brief_value(value)}")
            if sum(map(len, parts)) > BRIEF:
                break
        return one_line(", ".join(parts), BRIEF)
    return "" if arguments is None else brief_value(arguments)


def brief_result(result: Kept | None, error: Failure | None) -> str:
    """Return what a call gave in one line, or why it gave nothing."""
    if error is not None:
        return one_line(f"{error.error_type.replace('_', ' ')}: {error.message}", BRIEF)
    if result is None:
        return ""
    return one_line(result.blob.preview, BRIEF) if result.blob is not None else brief_value(result.value)


def brief_value(value: Any) -> str:
    """Return a JSON value in one line, cut where it is long."""
    if isinstance(value, str) and len(value) > BRIEF:
        value = value[:BRIEF] + "…"
    return one_line(encode_json(value)[: BRIEF * 8].decode("utf-8", "ignore"), BRIEF)
