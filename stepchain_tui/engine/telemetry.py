"""Tells what a run does as spans, from its own events: they are stored already, and secrets are out of them.

The carrying-out of a run is a span, from its start, or its going on, to its end, or to the moment this process lets go
of it. Within it is one for each attempt at a step, within that one for each answer of a model and each call of a tool.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from stepchain_tui.core import telemetry_names as names
from stepchain_tui.core.settings import TelemetrySettings
from stepchain_tui.core.telemetry import Attribute, Span, SpanKind, telemetry_of
from stepchain_tui.engine.telemetry_messages import content, messages
from stepchain_tui.plan import Step
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.store.base import AbstractStore

if TYPE_CHECKING:
    from stepchain_tui.engine.runs import RunHandle

LONGEST_NAME = 80
"""Characters of a span's name behind its first word."""
LONGEST_FACT = 1_000
"""Characters of an attribute that holds no contents: models and servers write some of them."""
_logger = logging.getLogger("stepchain.telemetry")
_Key = tuple[str, int | None, int]
"""An attempt: its step, the map's item or None, its number."""
_ENDS: dict[type[e.Event], str] = {
    e.StepSucceeded: "succeeded",
    e.StepFailed: "failed",
    e.StepTimedOut: "timed_out",
    e.StepSkipped: "skipped",
    e.StepCancelled: "cancelled",
    e.StepInterrupted: "interrupted",
    e.StepRetryScheduled: "",
    e.ItemSucceeded: "succeeded",
    e.ItemFailed: "failed",
    e.ItemTimedOut: "timed_out",
    e.ItemCancelled: "cancelled",
    e.ItemInterrupted: "interrupted",
    e.ItemRetryScheduled: "",
}
"""The events that end an attempt, and how: empty where the event itself says it."""


class Observer:
    """Tells of the runs of one engine, where somebody wants to know; else it costs nothing.

    Args:
        telemetry: What the caller of the engine gives, or None.
        settings: Where spans go otherwise.
        store: The engine's store, beside which the exporter logs what goes wrong.

    Raises:
        UsageError: `telemetry` cannot get spans.
    """

    def __init__(self, telemetry: Any, settings: TelemetrySettings, store: AbstractStore) -> None:
        self._telemetry = telemetry_of(telemetry)
        self._settings = settings
        self._store = store
        self._exported: Any = None

    def prepare(self) -> None:
        """Make the exporter that the settings ask for, before the first run.

        Raises:
            UsageError: The settings are wrong, or the extra is not installed.
        """
        if self._telemetry is not None or not self._settings.endpoint:
            return
        from stepchain_tui import __version__
        from stepchain_tui.core.telemetry_export import ExportedTelemetry

        folder = self._store.folder
        log = None if folder is None else folder.with_suffix(".telemetry.log")
        self._exported = ExportedTelemetry(self._settings, os.environ, version=__version__, log=log)
        self._telemetry = self._exported

    def watch(self, handle: RunHandle) -> RunHandle:
        """Tell of a run from now on, where this process carries it out; returns its handle. A replay is not told."""
        if self._telemetry is not None and (driver := handle.driver) is not None and not handle.state.replay_of:
            asked = handle.state.plan.get("trace")
            contents = bool(getattr(self._telemetry, "contents", False)) if asked is None else bool(asked)
            spans = RunSpans(
                self._telemetry, handle.state, lambda step_id: driver.prepared(step_id).step, contents=contents
            )
            forget = handle.subscribe(spans.take)

            def left(_: Any) -> None:
                forget()
                spans.close()

            driver.done.add_done_callback(left)
        return handle

    async def close(self) -> None:
        """Send what is left, where the exporter is ours; in a thread, and two seconds at most."""
        if self._exported is not None:
            exported, self._exported, self._telemetry = self._exported, None, None
            await asyncio.to_thread(exported.close)


class RunSpans:
    """Makes the spans of one run.

    Args:
        telemetry: Gets them, see `core.telemetry.Telemetry`.
        state: The run as the engine has it.
        step_of: Gives a step of the run by its id.
        contents: Whether messages, arguments and results are told too.
    """

    def __init__(self, telemetry: Any, state: RunState, step_of: Callable[[str], Step], *, contents: bool) -> None:
        self._telemetry = telemetry
        self._state = state
        self._step_of = step_of
        self._contents = contents
        self._run: Span | None = None
        self._attempts: dict[_Key, Span] = {}
        self._tools: dict[tuple[_Key, str], Span] = {}
        self._last: datetime | None = None
        self._broken = False

    def take(self, events: list[e.Event]) -> None:
        """Take events that were just made durable."""
        if self._broken:
            return
        try:
            for event in events:
                self._last = event.at
                self._take(event)
        except Exception:  # whatever a user's object raises: nothing of it may reach the run
            self._broken = True
            _logger.exception("run %s: nothing more is told of it", self._state.run_id)

    def close(self) -> None:
        """End what is open: this process has let go of the run."""
        if self._broken or self._run is None or self._last is None:
            return
        try:
            self._end_run(self._last, self._state.status, "")
        except Exception:  # as above
            _logger.exception("run %s: its end could not be told", self._state.run_id)

    def _take(self, event: e.Event) -> None:
        match event:
            case e.StepStarted() | e.ItemStarted():
                self._begin(event)
            case e.ModelTurn():
                self._turn(event)
            case e.ToolStarted():
                self._tool_started(event)
            case e.ToolFinished():
                self._tool_finished(event)
            case e.RunStarted() | e.RunResumed():
                self._begin_run(event)
            case e.RunFinished():
                self._end_run(event.at, event.status, event.reason)
            case e.RunPaused():
                self._end_run(event.at, RunStatus.PAUSED, "")
            case e.RunInterrupted():
                self._end_run(event.at, RunStatus.INTERRUPTED, "")
            case e.StepResumed() if event.attempt:
                self._reopen(event)
            case _ if type(event) in _ENDS:
                self._end_attempt(event)

    # --- the run

    def _begin_run(self, event: e.RunStarted | e.RunResumed) -> None:
        if self._run is not None:
            return
        goal = _short(self._state.goal) or self._state.run_id
        about = {names.OPERATION: names.INVOKE_WORKFLOW, names.WORKFLOW: goal}
        self._run = self._start(event.seq, f"{names.INVOKE_WORKFLOW} {goal}", "plan", "", event.at, about)

    def _end_run(self, at: datetime, status: RunStatus, reason: str) -> None:
        for tool in list(self._tools.values()):
            self._end(tool, at)
        for attempt in list(self._attempts.values())[::-1]:  # parts of a step before the step
            self._end(attempt, at)
        self._tools.clear()
        self._attempts.clear()
        if self._run is not None:
            self._run.attributes[names.RUN_STATUS] = status.value
            if status in (RunStatus.FAILED, RunStatus.CANCELLED):
                self._run.error_type, self._run.error = status.value, reason
            self._end(self._run, at)
            self._run = None

    # --- attempts

    def _begin(self, event: e.StepStarted | e.ItemStarted) -> None:
        item = event.item if isinstance(event, e.ItemStarted) else None
        self._open_attempt(event, (event.step_id, item, event.attempt))

    def _reopen(self, event: e.StepResumed) -> None:
        """Go on with an attempt that waited for a person, perhaps in another process."""
        key = (event.step_id, event.item, event.attempt or 0)
        if key not in self._attempts:
            self._open_attempt(event, key)

    def _open_attempt(self, event: e.StepStarted | e.ItemStarted | e.StepResumed, key: _Key) -> None:
        step_id, item, attempt = key
        outline = self._state.steps[step_id].outline
        name = f"{outline.kind} {step_id}" if item is None else f"{outline.kind} {step_id}[{item}]"
        about: dict[str, Attribute] = {names.STEP: step_id, names.STEP_KIND: outline.kind, names.ATTEMPT: attempt}
        if item is not None:
            about[names.ITEM] = item
        agent = self._step_of(step_id).agent if outline.kind == "agent" else None
        if agent is not None and not (outline.is_map and item is None):
            name = f"{names.INVOKE_AGENT} {agent}"
            about |= {names.OPERATION: names.INVOKE_AGENT, names.AGENT: agent}
        self._attempts[key] = self._start(event.seq, name, "step", self._around(step_id, item), event.at, about)

    def _around(self, step_id: str, item: int | None) -> str:
        """Return the span that an attempt is part of: its map's, its `plan` step's, or the run's."""
        if item is not None and (whole := self._latest(step_id, None)):
            return whole
        outline = self._state.steps[step_id].outline
        if outline.part_of:
            of_item = self._latest(outline.part_of, outline.part_of_item)
            return of_item or self._latest(outline.part_of, None) or self._run_id
        return self._run_id

    def _latest(self, step_id: str, item: int | None) -> str:
        """Return the open attempt at a step or an item, or an empty string."""
        step = self._state.steps[step_id]
        number = step.attempt if item is None else step.items[item].attempt if step.items else 0
        found = self._attempts.get((step_id, item, number))
        return found.span_id if found is not None else ""

    def _end_attempt(self, event: Any) -> None:
        key = (event.step_id, getattr(event, "item", None), event.attempt or 0)
        span = self._attempts.pop(key, None)
        if span is None:
            return  # a result without an attempt: given by hand, or taken over
        for of_attempt, call_id in [found for found in self._tools if found[0] == key]:
            self._end(self._tools.pop((of_attempt, call_id)), event.at)
        status = _ENDS[type(event)] or str(event.status)
        span.attributes[names.ATTEMPT_STATUS] = status
        if getattr(event, "cached", False):
            span.attributes[names.CACHED] = True
        self._end(span, event.at, getattr(event, "error", None))

    # --- models and tools

    def _turn(self, event: e.ModelTurn) -> None:
        about: dict[str, Attribute | None] = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: _provider(event.provider),
            names.SERVER_ADDRESS: event.provider.partition(":")[0] if "." in event.provider else None,
            names.REQUEST_MODEL: event.model,
            names.RESPONSE_MODEL: event.model,
            names.RESPONSE_ID: event.response_id or None,
            names.FINISH_REASONS: [event.finish_reason[:LONGEST_FACT]] if event.finish_reason else None,
            names.TIME_TO_FIRST_CHUNK: event.first_text_after,
            names.INPUT_TOKENS: event.input_tokens,
            names.OUTPUT_TOKENS: event.output_tokens,
            names.CACHED_TOKENS: event.cached_tokens,
            names.REASONING_TOKENS: event.reasoning_tokens,
            names.AGENT: event.agent or None,
            names.COST: event.cost,
            names.REQUEST_ID: event.request_id or None,
        }
        if self._contents:
            about[names.INPUT_MESSAGES] = messages(event.sent) if event.sent is not None else None
            reason = event.finish_reason or "stop"
            about[names.OUTPUT_MESSAGES] = messages(event.output, reason) if event.output is not None else None
        span = self._start(
            event.seq,
            f"{names.CHAT} {_short(event.model)}",
            "model",
            self._attempt_of(event),
            event.at - timedelta(seconds=max(event.duration, 0.0)),
            {name: value for name, value in about.items() if value is not None},
        )
        if event.output is None and event.finish_reason:
            span.error_type = event.finish_reason
        self._end(span, event.at)

    def _tool_started(self, event: e.ToolStarted) -> None:
        self._tools[(event.step_id, event.item, event.attempt), event.call_id] = self._start_tool(event, event.at)

    def _tool_finished(self, event: e.ToolFinished) -> None:
        key = ((event.step_id, event.item, event.attempt), event.call_id)
        span = self._tools.pop(key, None)
        if span is None:
            span = self._start_tool(event, event.at - timedelta(seconds=max(event.execution_time, 0.0)))
        span.attributes[names.TOOL_TYPE] = "extension" if event.hosted else "function"
        if self._contents and event.result is not None:
            span.attributes[names.TOOL_RESULT] = content(event.result)
        self._end(span, event.at, event.error)

    def _start_tool(self, event: e.ToolStarted | e.ToolFinished, at: datetime) -> Span:
        about: dict[str, Attribute] = {
            names.OPERATION: names.EXECUTE_TOOL,
            names.TOOL: event.tool_name,
            names.TOOL_CALL: event.call_id,
        }
        if self._contents:
            about[names.TOOL_ARGUMENTS] = content(event.arguments)
        name = f"{names.EXECUTE_TOOL} {_short(event.tool_name)}"
        return self._start(event.seq, name, "tool", self._attempt_of(event), at, about)

    def _attempt_of(self, event: e.ModelTurn | e.ToolStarted | e.ToolFinished) -> str:
        found = self._attempts.get((event.step_id, event.item, event.attempt))
        return found.span_id if found is not None else self._run_id

    # --- spans

    @property
    def _run_id(self) -> str:
        return self._run.span_id if self._run is not None else ""

    def _start(self, seq: int, name: str, kind: SpanKind, parent_id: str, at: datetime, about: dict[str, Any]) -> Span:
        run_id = self._state.run_id
        span = Span(
            name=name,
            kind=kind,
            span_id=hashlib.sha256(f"{run_id} {seq}".encode()).hexdigest()[:16],
            trace_id=hashlib.sha256(run_id.encode()).hexdigest()[:32],
            parent_id=parent_id,
            start=at,
            attributes={name: _fit(name, value) for name, value in about.items()}
            | {names.CONVERSATION: run_id, names.RUN: run_id},
        )
        if (started := getattr(self._telemetry, "span_started", None)) is not None:
            started(span)
        return span

    def _end(self, span: Span, at: datetime, error: Failure | None = None) -> None:
        span.end = max(at, span.start)
        if error is not None:
            span.error_type, span.error = error.error_type.value, error.message
        self._telemetry.span_ended(span)


def _short(text: str) -> str:
    """Return a text as a part of a span's name: on one line, and cut."""
    return " ".join(text.split())[:LONGEST_NAME]


def _fit(name: str, value: Attribute) -> Attribute:
    return value[:LONGEST_FACT] if isinstance(value, str) and name not in names.CONTENTS else value


def _provider(asked: str) -> str:
    """Return a provider by its name in the conventions, where it has one."""
    host = asked.partition(":")[0]
    return "openai" if host == "api.openai.com" else host or "unknown"
