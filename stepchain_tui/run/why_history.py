"""What happened to one step: its events as sentences, and which of them an answer is made from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from stepchain_tui.run import events as e
from stepchain_tui.run.ids import is_inside
from stepchain_tui.run.status import worded
from stepchain_tui.run.step_state import BREAKPOINT, REPLAYED
from stepchain_tui.run.why_facts import Fact
from stepchain_tui.run.why_words import by, listed, numbered, quoted, spoken

ITEMS_SHOWN = 5
"""Failures of items that are told of each attempt at a map; the others are counted."""
_MODES = {"inline": "inline", "thread": "in a thread", "process": "in a process", "cluster": "on the cluster"}
BY_PIN = "its pin"
"""Who set the result of a pinned step that was to run."""
_EFFECTS = (
    e.StepInvalidated
    | e.StepResumed
    | e.StepCancelled
    | e.StepSkipped
    | e.StepInterrupted
    | e.StepPinned
    | e.ItemCancelled
    | e.ItemInterrupted
    | e.RunPaused
    | e.RunResumed
    | e.RunRevised
)
"""Events that can be the effect of the command right before them."""


@dataclass(slots=True)
class History:
    """What happened to one step.

    Attributes:
        facts: A line for each of its events, in order.
        again: Why it was last made to run anew, empty where it never was.
        stale: Why it was last marked stale.
        cancel: The command that last called it, or the whole run, off.
        breakpoint_by: Who set its breakpoint; None where the plan did.
        pinned_by: Who pinned it.
        set_by: Who set its result by hand.
        answered: The last answer that it got.
        asks_for: Tools that it asks to call and that nobody has allowed or denied yet, by call id.
        retry: Its last failure that has another try.
    """

    facts: list[Fact] = field(default_factory=list)
    again: str = ""
    stale: str = ""
    cancel: e.CommandApplied | None = None
    breakpoint_by: str | None = None
    pinned_by: str = ""
    set_by: str = ""
    answered: e.StepResumed | None = None
    asks_for: dict[str, str] = field(default_factory=dict)
    retry: e.StepRetryScheduled | None = None


def read_history(events: Iterable[e.Event], step_id: str) -> History:
    """Return what happened to a step."""
    reader = _Reader(step_id)
    for event in events:
        reader.read(event)
    return reader.history


class _Reader:
    """Reads the events of a run once; `command` is the one whose effects are just being read."""

    def __init__(self, step_id: str) -> None:
        self.step_id = step_id
        self.history = History()
        self.command: e.CommandApplied | None = None
        self.revision: e.RunRevised | None = None
        self.wait = ""
        self.items_failed = 0
        self.own_reasons: dict[str, str] = {}  # why a step's own result stopped counting: edited, or only its code

    def read(self, event: e.Event) -> None:
        if isinstance(event, e.CommandApplied):
            self.command = event
            self._order(event)
            return
        if isinstance(event, e.RunRevised):
            self.revision = event
        if getattr(event, "step_id", None) == self.step_id and (text := self._told(event)):
            self.history.facts.append(Fact(text, event.at, event.seq))
        by_hand = isinstance(event, e.StepSucceeded) and bool(event.by)
        if not (by_hand or isinstance(event, _EFFECTS)):
            self.command = None
        if isinstance(event, e.StepInvalidated) and event.cause == event.step_id:
            self.own_reasons[event.step_id] = event.reason

    def _order(self, event: e.CommandApplied) -> None:
        step_id, history = event.arguments.get("step"), self.history
        if event.command == "cancel" and step_id in (None, self.step_id):
            history.cancel = event
        if step_id != self.step_id:
            return
        text = ""
        if event.command == "breakpoint":
            place = event.arguments.get("place")
            history.breakpoint_by = event.by if place else None
            text = f"breakpoint {place} it set{by(event.by)}" if place else f"breakpoint taken away{by(event.by)}"
        elif event.command == "try_now":
            text = f"tried now instead of later, as asked for{by(event.by)}"
        if text:
            history.facts.append(Fact(text, event.at, event.seq))

    def _told(self, event: e.Event) -> str:
        """Return an event of the step as a line; an empty string where it is not worth one."""
        history = self.history
        match event:
            case e.StepQueued():
                return "ready, and waits for a slot" + (f": {event.reason}" if event.reason else "")
            case e.StepStarted():
                self.items_failed, history.asks_for = 0, {}
                return _started(event)
            case e.StepSpawned():
                return f"runs as process {event.pid}" if event.item is None else ""
            case e.StepExpanded():
                self.items_failed = 0
                kept = sum(item.reuse is not None for item in event.items)
                return f"has {numbered(len(event.items), 'item')}" + (f", {kept} of them done before" if kept else "")
            case e.StepWaiting():
                self.wait = event.reason
                return waits(event, history.breakpoint_by)
            case e.StepResumed():
                history.answered = event
                return answered(event, self.wait)
            case e.StepRetryScheduled():
                history.retry = event
                when = f"the next one in {spoken(event.delay)}" if event.delay else "the next one at once"
                return (
                    f"try {event.tries} of {event.max_attempts} {worded(event.status)}; {when} ({delay_of(event)}): "
                    f"{quoted(event.error.message)}"
                )
            case e.StepSucceeded():
                history.set_by = event.by
                return _succeeded(event)
            case e.StepFailed():
                return f"failed ({worded(event.error.error_type)}): {quoted(event.error.message)}"
            case e.StepTimedOut():
                return f"timed out: {quoted(event.error.message)}"
            case e.StepSkipped():
                return f"skipped: {event.reason}{_because_of(event.cause, event.reason)}"
            case e.StepBlocked():
                return f"blocked: {event.reason or 'a step it needs did not succeed'}" + _because_of(
                    event.cause, event.reason
                )
            case e.StepCancelled():
                return f"cancelled: {event.reason}" if event.reason else "cancelled"
            case e.StepInterrupted():
                return f"try cut off{f': {event.reason}' if event.reason else ''}; it costs no try"
            case e.StepInvalidated():
                return self._invalidated(event)
            case e.StepPinned():
                history.pinned_by = event.by if event.pinned else ""
                return f"{'pinned' if event.pinned else 'unpinned'}{by(event.by)}"
            case e.ItemFailed() | e.ItemTimedOut():
                self.items_failed += 1
                words = "failed" if isinstance(event, e.ItemFailed) else "timed out"
                return (
                    f"item {event.item} {words}: {quoted(event.error.message)}"
                    if self.items_failed <= ITEMS_SHOWN
                    else ""
                )
            case e.ToolApprovalAsked():
                history.asks_for[event.call_id] = event.tool_name
                return f"asks whether it may call {event.tool_name}"
            case e.ToolApprovalGiven():
                tool = history.asks_for.pop(event.call_id, "the tool")
                return f"call of {tool} {'allowed' if event.approved else 'denied'}{by(event.by)}"
            case _:
                return ""

    def _invalidated(self, event: e.StepInvalidated) -> str:
        why = self._reason_to_run_again(event)
        if event.stale:
            self.history.stale = why
            return f"its result became stale: {why}"
        self.history.again = why
        return f"is to run again: {why}"

    def _reason_to_run_again(self, event: e.StepInvalidated) -> str:
        """Return as a clause what made a step run again, or stale."""
        who = self.command.by if self.command is not None else ""
        cause, reason = event.cause, event.reason
        own = cause in ("", self.step_id)
        subject = "it" if own else cause
        if reason == "edit" and self.own_reasons.get(cause) == "code":
            reason = "code"
        match reason:
            case "rerun":
                return self._reason_of_rerun(event, subject) + by(who)
            case "resume" if own:
                return f"the run was resumed{by(who)}, with fresh tries for what had not succeeded"
            case "resume":
                return f"{subject} got fresh tries when the run was resumed{by(who)}"
            case "edit":
                made = self.revision
                return f"{subject} was edited" + (
                    f" (revision {made.revision}{by(made.by or who)})" if made else by(who)
                )
            case "code":
                return f"the code behind {subject} changed"
            case "fork" if event.stale:
                return "it was stale in the run that this one was forked from"
            case "fork":
                return "the run that this one was forked from had done a part of its items"
            case "expanded anew":
                return f"the items of {subject} were made anew"
            case "fresh start":
                return f"the run was started over{by(who)}"
            case "its parent runs again":
                return f"{subject} is to run again{by(who)}"
            case "its parent was skipped":
                return f"{subject} was skipped{by(who)}"
        return (reason or "it was asked for") + by(who) + _because_of("" if own else cause, reason)

    def _reason_of_rerun(self, event: e.StepInvalidated, subject: str) -> str:
        failed_items = self.command is not None and bool(self.command.arguments.get("failed"))
        if subject == "it":
            return "its failed items were rerun" if failed_items else "it was rerun"
        if event.stale:
            return f"{subject} was rerun"
        if is_inside(event.cause, self.step_id):
            return f"its part {subject} was rerun"
        what = "its parts" if is_inside(self.step_id, event.cause) else "all that follows it"
        return f"{subject} was rerun with {what}"


# --- single events as clauses


def waits(event: e.StepWaiting, breakpoint_by: str | None) -> str:
    """Return what a step that waits for a person waits for, as a clause without subject."""
    if event.reason == BREAKPOINT:
        whose = "in the plan" if breakpoint_by is None else f"set{by(breakpoint_by or 'a person')}"
        return f"stops at the breakpoint {event.place or 'before'} it, {whose}"
    where = f" for item {event.item}" if event.item is not None else ""
    return f"asks{where}: {quoted(event.question)}"


def answered(event: e.StepResumed, wait: str) -> str:
    """Return how a wait for a person ended, as a clause without subject."""
    if wait == BREAKPOINT:
        return f"passed its breakpoint{by(event.by)}" + (", with another input" if event.input is not None else "")
    said: Any = event.answer.get("approved") if isinstance(event.answer, dict) else None
    if said is None:
        return f"answered{by(event.by)}"
    if event.by == "timeout":
        return f"nobody answered in time, which counts as a {'yes' if said else 'no'}"
    where = f"item {event.item} " if event.item is not None else ""
    return f"{where}{'approved' if said else 'denied'}{by(event.by)}"


def delay_of(event: e.StepRetryScheduled) -> str:
    """Return where the delay before another try comes from."""
    if "Retry-After" in event.reason:
        return f"{event.reason}: the other side asked for that long"
    reason = event.reason or worded(event.error.error_type)
    if reason != worded(event.error.error_type):
        return reason
    if not event.delay:
        return f"{reason}: the policy tries again at once"
    return f"{reason}: the policy's wait"


def _started(event: e.StepStarted) -> str:
    notes = [f"try {event.tries} of {event.max_attempts} began"]
    if event.mode:
        notes.append(_MODES.get(event.mode, event.mode))
    if event.model:
        notes.append(f"model {event.model}")
    if event.revision > 1:
        notes.append(f"revision {event.revision}")
    if event.cache:
        notes.append(event.cache if event.cache == REPLAYED else f"cache {event.cache}")
    return ", ".join(notes)


def _succeeded(event: e.StepSucceeded) -> str:
    if event.by == BY_PIN:
        return "gave the output that it is pinned with"
    if event.by:
        return f"result set by hand{by(event.by)}"
    if event.cached:
        return f"result taken from the cache{f', made by {event.origin}' if event.origin else ''}"
    if event.origin:
        return f"result taken over from {event.origin}"
    return "succeeded" + (f", with a warning: {quoted(listed(event.warnings))}" if event.warnings else "")


def _because_of(cause: str, reason: str) -> str:
    return f" (because of {cause})" if cause and not reason.startswith(f"{cause} ") else ""
