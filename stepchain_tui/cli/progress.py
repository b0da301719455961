"""Live progress on standard error: one line for each change of a step, and on a terminal a line that counts."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from typing import assert_never

from stepchain_tui.cli.beginnings import Beginning
from stepchain_tui.cli.text import (
    between,
    clean_line,
    draws_unicode,
    glyph,
    painted,
    table,
    to_type,
    uses_colour,
    words_of,
)
from stepchain_tui.cli.usage import usage_words
from stepchain_tui.run import Event, RunState, StepState, StepStatus, decode_event
from stepchain_tui.run import events as e
from stepchain_tui.run.why_words import numbered
from stepchain_tui.tui.calls import brief_arguments, call_time, status_of
from stepchain_tui.tui.text import duration

_CALL = 160
"""Characters of a tool call's arguments or error that are told."""
_LONG = 30
"""Steps above which the table at the end only lists what did not succeed."""


class Progress:
    """Tells people how a run goes on. On a terminal there is one more line at the bottom, drawn over and over.

    Args:
        store: The store that was named, for the commands that people are told to type.
    """

    needs_state = True

    def __init__(self, store: str | None) -> None:
        self._store = store
        self._stream = sys.stderr
        self._live = uses_colour(sys.stderr) or sys.stderr.isatty()
        self._colour = uses_colour(sys.stderr)
        self._ascii = not draws_unicode(sys.stderr)
        self._state = RunState()
        self._beginning = Beginning(self._state, store)
        self._line = ""
        self._gone = False

    def begin(self, state: RunState) -> None:
        """Take the run as it was before the first new event."""
        self._state = state
        self._beginning = Beginning(state, self._store)

    def event(self, data: bytes) -> None:
        """Fold one more event and print what it means for a step."""
        event = decode_event(data)
        self._state.apply(event)
        text = self._told(event)
        for line in (*([text] if text else ()), *self._beginning.lines(event, self._state)):
            self._print(line)
        self._draw()

    def tick(self) -> None:
        """Draw the bottom line anew."""
        self._draw()

    def end(self) -> None:
        """Take the bottom line away; on a terminal, print the table."""
        self._erase()
        for line in self._beginning.left(self._state):
            self._print(line)
        if self._live and self._state.last_seq:
            for line in self._table():
                self._print(line)

    # --- what is told

    def _told(self, event: Event) -> str:
        """Return the line for an event, or an empty string where people need not hear of it."""
        match event:
            case e.RunStarted() | e.RunResumed():
                return self._begun("resumed" if isinstance(event, e.RunResumed) else "started")
            case e.StepStarted():
                tries = f"try {event.tries}/{event.max_attempts}" if event.tries > 1 else ""
                return self._step(event.step_id, tries)
            case e.StepSucceeded(origin=origin, attempt=0) if origin:
                return ""  # taken over by a fork: counted where the run begins
            case e.StepSucceeded():
                warning = clean_line("; ".join(event.warnings))
                return self._step(event.step_id, f"warning: {warning}" if warning else "")
            case e.StepFailed() | e.StepTimedOut():
                return self._step(event.step_id, clean_line(event.error.beside(event.step_id)))
            case e.StepRetryScheduled():
                return self._step(event.step_id, _again(event))
            case e.StepSkipped() | e.StepCancelled() | e.StepBlocked():
                return self._step(event.step_id, clean_line(event.reason))
            case e.StepWaiting():
                return self._step(event.step_id, clean_line(event.question))
            case e.StepInterrupted() if not self._beginning.begun:
                return ""  # the end of an earlier engine: told with what was cut off where the run goes on
            case e.StepInterrupted():
                return self._step(event.step_id, f"interrupted: {clean_line(event.reason)}")
            case e.ItemFailed() | e.ItemTimedOut():
                return self._step(event.step_id, f"item {event.item}: {clean_line(event.error.beside(event.step_id))}")
            case e.ItemRetryScheduled():
                return self._step(event.step_id, f"item {event.item}: {_again(event)}")
            case e.ToolFinished():
                return self._call(event)
            case e.RunPaused():
                return f"run {self._state.run_id}: {clean_line(event.reason)}"
            case e.RunRevised():
                sides = [f"{self._state.run_id}@{number}" for number in (event.revision - 1, event.revision)]
                shown = f"`{to_type(self._store, 'diff', *sides)}` shows it"
                return f"run {self._state.run_id}: revision {event.revision}: {clean_line(event.reason)} ({shown})"
            case e.StepPinned():
                return self._step(event.step_id, "its output is pinned" if event.pinned else "no longer pinned")
            case e.CommandRefused():
                return f"refused: {event.command}: {clean_line(event.reason)}"
            case (
                e.RunCreated()
                | e.RunWaiting()
                | e.RunInterrupted()
                | e.RunFinished()
                | e.StepQueued()
                | e.StepSpawned()
                | e.StepExpanded()
                | e.StepResumed()
                | e.StepInvalidated()
                | e.ItemStarted()
                | e.ItemSucceeded()
                | e.ItemCancelled()
                | e.ItemInterrupted()
                | e.ToolStarted()
                | e.ToolApprovalAsked()
                | e.ToolApprovalGiven()
                | e.ModelTurn()
                | e.CommandApplied()
            ):
                return ""
            case _:
                assert_never(event)

    def _begun(self, how: str) -> str:
        state = self._state
        fork = f", forked from {state.parent_run_id} at {state.parent_step_id}" if state.parent_run_id else ""
        if state.replay_of:
            fork = f", a replay of {state.replay_of}"
        goal = f": {clean_line(state.goal, 120)}" if state.goal else ""
        return f"run {state.run_id} {how}{fork if how == 'started' else ''}{goal}"

    def _step(self, step_id: str, note: str = "") -> str:
        step = self._state.steps.get(step_id) or self._state.removed[step_id]
        head = f"{self._glyph(step.status)} {step_id}"
        took = between(step.started_at, step.finished_at) if step.ended else ""
        parts = [part for part in (took, note) if part]
        return "  ".join([head, *parts])

    def _call(self, event: e.ToolFinished) -> str:
        status = StepStatus(status_of(event.error))
        item = "" if event.item is None else f"[{event.item}]"
        said = f"{event.error.error_type}: {event.error.message}" if event.error else brief_arguments(event.arguments)
        head = f"  {self._glyph(status)} {event.step_id}{item}: {clean_line(event.tool_name)}"
        parts = [head, call_time(event.execution_time), clean_line(said, _CALL)]
        return "  ".join(part for part in parts if part)

    def _glyph(self, status: StepStatus) -> str:
        return painted(glyph(status, ascii_only=self._ascii), status, colour=self._colour)

    def _table(self) -> list[str]:
        steps = list(self._state.steps.values())
        shown = steps if len(steps) <= _LONG else [step for step in steps if step.status is not StepStatus.SUCCEEDED]
        rows = [
            (
                f"  {glyph(step.status, ascii_only=self._ascii)} {step.id}",
                words_of(step.status),
                numbered(step.attempt, "try") if step.attempt else "",
                between(step.started_at, step.finished_at),
                _note(step),
            )
            for step in shown[: 2 * _LONG]
        ]
        lines = table(rows)
        colours = [painted(line, step.status, colour=self._colour) for line, step in zip(lines, shown, strict=False)]
        hidden = len(steps) - len(rows)
        return ["", *colours, *([f"  ... and {hidden} more"] if hidden and rows else [])]

    # --- the terminal

    def _print(self, line: str) -> None:
        self._erase()
        self._write(line + "\n")

    def _draw(self) -> None:
        if not self._live or self._gone or not self._state.steps:
            return
        width = shutil.get_terminal_size().columns
        line = self._status_line()[: max(0, width - 1)]
        if line != self._line:
            self._write(f"\r\x1b[K{line}")
            self._line = line

    def _status_line(self) -> str:
        counts, state = self._state.counts, self._state
        done = _ended(state)
        parts = [f"{done}/{len(state.steps)} done"]
        for status in (StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.WAITING, StepStatus.FAILED):
            if counts.get(status):
                parts.append(f"{counts[status]} {words_of(status)}")
        if usage := usage_words(state.usage):
            parts.append(usage)
        if state.started_at is not None:
            parts.append(duration(max(0.0, (datetime.now(UTC) - state.started_at).total_seconds())))
        return f"{glyph(StepStatus.RUNNING, ascii_only=self._ascii)} {' · '.join(parts)}"

    def _erase(self) -> None:
        if self._line:
            self._write("\r\x1b[K")
            self._line = ""

    def _write(self, text: str) -> None:
        if self._gone:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # nobody reads what we say; the run goes on
            self._gone = True


def _again(event: e.StepRetryScheduled | e.ItemRetryScheduled) -> str:
    left = event.max_attempts - event.tries
    when = f"again in {duration(event.delay)}" if event.delay else "again at once"
    return f"{clean_line(event.error.beside(event.step_id))}; {when}, {numbered(left, 'try')} left"


def _ended(state: RunState) -> int:
    from stepchain_tui.run.status import STEP_ENDED

    return sum(state.counts.get(status, 0) for status in STEP_ENDED)


def _note(step: StepState) -> str:
    if step.error is not None:
        return clean_line(step.error.beside(step.id), 80)
    return clean_line(step.reason, 80) if step.status is not StepStatus.SUCCEEDED else ""
