"""What was said and done with a model in one step: a fold of its events, which reads nothing else.

Conversations are told one below the other: that of the step itself, or one for each item of a map. A conversation goes
on over tries: what an earlier try left is not told twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.step_state import TOOL_APPROVAL
from stepchain_tui.run.transcript_entries import Answered, Began, Called, Ended, Entry, HandedOver, Said, Waited
from stepchain_tui.run.transcript_items import Call, Message
from stepchain_tui.run.transcript_values import beginning, first_agent, instructions_of, parts, question_of
from stepchain_tui.run.values import Kept

HAND_OFF = "transfer_to_"
"""What the name of a tool begins with by which one agent hands over to another."""
_NOT_BEGUN = ("asked", "waiting", "allowed", "denied")
_DENIED = ("Denied", "DeniedError")
_LARGE = ("sent", "output", "input", "result")
"""The fields of events that may be kept in files of their own and are wanted whole here."""
_VOICES = ("assistant", "reasoning", "refusal")


class Cut(msgspec.Struct, frozen=True):
    """Where an answer may have been cut off: its text is in the log alone, that of the attempt between two moments.

    Attributes:
        after: None for the attempt's beginning.
        until: None for the attempt's end.
    """

    item: int | None
    attempt: int
    after: datetime | None = None
    until: datetime | None = None


def transcript(events: Iterable[e.Event], step_id: str, item: int | None = None) -> list[Entry]:
    """Return what was said and done in a step, in the order of its conversations.

    Args:
        events: Those of the run; of large values only the beginning is told, unless `with_values` put them in.
        step_id: The step.
        item: Only this item of a map; None for everything.
    """
    told = Transcript(step_id, item)
    for event in events:
        told.take(event)
    return told.entries


def asked_call(call_id: str) -> str:
    """Return which call an approval is for: behind its id there may be a hash of what is to be called with what."""
    return call_id.rpartition("#")[0] or call_id


def was_denied(error: Failure | None) -> bool:
    """Return whether a call ended because a person denied it."""
    return error is not None and error.exception in _DENIED


def large_values(event: e.Event) -> list[Kept]:
    """Return what of an event is kept in files of its own and wanted whole here."""
    found = (getattr(event, name, None) for name in _LARGE)
    return [kept for kept in found if isinstance(kept, Kept) and kept.blob is not None]


def with_values(event: e.Event, values: Mapping[str, Any]) -> e.Event:
    """Return an event with its large values, by their hash, put in."""
    changed = {}
    for name in _LARGE:
        kept = getattr(event, name, None)
        if isinstance(kept, Kept) and kept.blob is not None and kept.blob.sha256 in values:
            changed[name] = Kept(values[kept.blob.sha256])
    return msgspec.structs.replace(event, **changed) if changed else event


class Transcript:
    """The conversations of one step; give it the run's events in their order, then read `entries`.

    Args:
        step_id: The step.
        item: Only this item of a map; None for everything.
    """

    def __init__(self, step_id: str, item: int | None = None) -> None:
        self._step_id = step_id
        self._item = item
        self._talks: dict[int | None, _Talk] = {}

    @property
    def entries(self) -> list[Entry]:
        """What was said and done so far."""
        return [entry for talk in self._talks.values() for entry in talk.entries if not _is_nothing(entry)]

    @property
    def cuts(self) -> list[Cut]:
        """Where answers may have been cut off; `fill` tells what was written by then."""
        return [cut for talk in self._talks.values() for cut in talk.cuts]

    def fill(self, cut: Cut, text: str) -> None:
        """Tell what had been written of an answer that was cut off; empty for nothing."""
        self._talks[cut.item].fill(cut, text)

    def take(self, event: e.Event) -> None:
        """Take in one event; those of other steps, and those that tell nothing here, are left alone."""
        if getattr(event, "step_id", None) != self._step_id:
            return
        item = getattr(event, "item", None)
        if self._item is not None and item != self._item:
            return
        if isinstance(event, _TOLD):
            talk = self._talks.get(item)
            if talk is None:
                talk = self._talks[item] = _Talk(item)
            talk.take(event)


class _Talk:
    """One conversation: that of the step, or of one item of it."""

    def __init__(self, item: int | None) -> None:
        self.entries: list[Entry] = []
        self._item = item
        self._calls: dict[str, int] = {}
        self._question: tuple[Any, ...] = ()
        """What the attempt was given to ask."""
        self._question_at: int | None = None
        """Where the question stands that no answer has come to yet."""
        self._turns = 0
        self._agent = ""
        self._open_wait: int | None = None
        self._speaker = ""
        """Who said what stands last, where that is an agent or the model."""
        self._instructions: Mapping[str, Any] = {}
        self._introduced: set[str] = set()
        self._last_turn: datetime | None = None
        """When the attempt's last answer ended."""
        self._cut_turn: int | None = None
        """Where that answer stands, if it was cut off."""
        self.cuts: dict[Cut, int] = {}

    def fill(self, cut: Cut, text: str) -> None:
        """Put in what had been written of an answer that was cut off."""
        place = self.cuts.pop(cut)
        if text:
            self.entries[place] = msgspec.structs.replace(self.entries[place], text=text)

    def take(self, event: Any) -> None:
        match event:
            case e.StepStarted() | e.ItemStarted():
                self._begin(event)
            case e.ModelTurn():
                self._turn(event)
            case e.ToolStarted():
                self._call(event, event.call_id, tool_name=event.tool_name, arguments=event.arguments, status="running")
            case e.ToolFinished():
                self._finish(event)
            case e.ToolApprovalAsked():
                known = {"tool_name": event.tool_name, "arguments": event.arguments}
                self._call(event, asked_call(event.call_id), **known, status="waiting")
            case e.ToolApprovalGiven():
                changed = event.arguments.value if event.arguments is not None else None
                self._call(
                    event,
                    asked_call(event.call_id),
                    status="allowed" if event.approved else "denied",
                    answered_by=event.by or "a person",
                    changed=changed.get("arguments") if isinstance(changed, dict) else None,
                )
            case e.StepWaiting() if event.reason != TOOL_APPROVAL:
                self._open_wait = len(self.entries)
                self._add(Waited, event, reason=event.reason, question=event.question)
            case e.StepResumed() if self._open_wait is not None:
                asked = self.entries[self._open_wait]
                self.entries[self._open_wait] = msgspec.structs.replace(asked, answer=event.answer, by=event.by)
                self._open_wait = None
            case e.StepRetryScheduled() | e.ItemRetryScheduled():
                self._end(event, str(event.status), error=event.error, retry_after=event.delay, reason=event.reason)
            case e.StepSucceeded() | e.ItemSucceeded():
                self._succeed(event)
            case e.StepFailed() | e.ItemFailed():
                self._end(event, "failed", error=event.error)
                if event.error.error_type is ErrorType.USER_ERROR:
                    self._forget()
            case e.StepTimedOut() | e.ItemTimedOut():
                self._end(event, "timed_out", error=event.error)
            case e.StepCancelled() | e.ItemCancelled():
                self._end(event, "cancelled", reason=event.reason)
            case e.StepInterrupted() | e.ItemInterrupted():
                self._end(event, "interrupted", reason=event.reason)
            case e.StepInvalidated() if event.again:
                self._forget()

    def _add(self, kind: type[Entry], event: Any, **fields: Any) -> None:
        if kind is Said:
            self._speaker = (fields.get("agent") or "assistant") if fields["role"] in _VOICES else ""
        elif kind not in (Called, Answered):
            self._speaker = ""
        self.entries.append(kind(at=event.at, attempt=getattr(event, "attempt", 0) or 0, item=self._item, **fields))

    # --- attempts

    def _begin(self, event: e.StepStarted | e.ItemStarted) -> None:
        asked = question_of(event.input)
        same = asked == self._question
        self._last_turn = self._cut_turn = None
        self._add(
            Began,
            event,
            tries=event.tries,
            max_attempts=event.max_attempts,
            model=getattr(event, "model", ""),
            goes_on=same and self._turns > 0,
        )
        if same:
            return
        self._question, self._turns, self._calls, self._agent = asked, 0, {}, ""
        self._instructions, self._introduced = instructions_of(event.input), set()
        self._introduce(event, first_agent(event.input))
        for role, text, size in asked:
            if role == "user":
                self._question_at = len(self.entries)
            self._add(Said, event, role=role, text=text, bytes=size)

    def _introduce(self, event: Any, agent: str) -> None:
        """Tell what an agent was told to do, before it first speaks."""
        told = self._instructions.get(agent)
        if isinstance(told, str) and agent not in self._introduced:
            self._introduced.add(agent)
            self._add(Said, event, role="system", text=told, turn=getattr(event, "turn", 0), agent=agent)

    def _succeed(self, event: e.StepSucceeded | e.ItemSucceeded) -> None:
        if event.attempt:
            self._end(event, "succeeded", reason=f"from {event.origin}" if event.origin else "")
        self._forget()

    def _forget(self) -> None:
        """Begin anew with the next attempt."""
        self._turns, self._question, self._agent = 0, (), ""

    def _end(self, event: Any, status: str, **fields: Any) -> None:
        for place in self._calls.values():
            call = self.entries[place]
            if isinstance(call, Called) and call.status == "running":
                self.entries[place] = msgspec.structs.replace(call, status=status)
        if getattr(event, "attempt", None):
            if status != "succeeded":
                self._cut_off(event, fields.get("error"))
            self._add(Ended, event, status=status, **fields)

    def _cut_off(self, event: Any, error: Failure | None = None, *, until: datetime | None = None) -> None:
        """Keep a place for the answer that was being written; what is known of it is what the failure tells."""
        known = error.details.get("partial_text") if error is not None else None
        text = known if isinstance(known, str) else ""
        if until is None and self._cut_turn is not None:
            place, self._cut_turn = self._cut_turn, None
            written = self.entries[place]
            if isinstance(written, Said) and not written.text:
                self.entries[place] = msgspec.structs.replace(written, text=text)
            return
        self.cuts[Cut(self._item, event.attempt, self._last_turn, until)] = len(self.entries)
        agent = getattr(event, "agent", "") or self._agent
        self._add(Said, event, role="assistant", text=text, turn=self._turns + 1, agent=agent, cut_off=True)

    # --- turns

    def _turn(self, event: e.ModelTurn) -> None:
        if event.turn == 1:
            self._calls = {}
        if self._agent and event.agent and event.agent != self._agent and not self._just_handed_over(event.agent):
            self._add(HandedOver, event, from_agent=self._agent, to_agent=event.agent)
        self._agent = event.agent or self._agent
        self._introduce(event, event.agent)
        if event.sent is not None and event.turn > self._turns:
            self._sent(event)
        if event.output is not None:
            self._turns, self._cut_turn = max(self._turns, event.turn), None
            self._output(event)
        elif event.sent is not None:
            self._cut_turn = len(self.entries)
            self._cut_off(event, until=event.at)
        self._last_turn = event.at
        names = (name for name in Answered.__struct_fields__ if name not in _OWN)
        self._add(Answered, event, **{name: getattr(event, name) for name in names})

    def _sent(self, event: e.ModelTurn) -> None:
        """Tell what was new in a question; the first one stands there already, as the attempt was given it."""
        assert event.sent is not None
        items, size = parts(event.sent)
        for message in (part for part in items if isinstance(part, Message)):
            fields = {"role": message.role, "text": message.text, "turn": event.turn, "bytes": size}
            if self._question_at is not None:
                known = self.entries[self._question_at]
                self.entries[self._question_at] = msgspec.structs.replace(known, **fields)
                self._question_at = None
            else:
                self._add(Said, event, automatic=event.turn > 1 and message.role == "user", **fields)
        self._question_at = None
        for part in items:
            if isinstance(part, Call) and part.is_result and (place := self._calls.get(part.call_id)) is not None:
                self._told(place, part)

    def _told(self, place: int, result: Call) -> None:
        """Tell what the model was told of a call, where no event tells how it ended."""
        call = self.entries[place]
        if isinstance(call, Called) and call.status in ("asked", "denied"):
            status = "failed" if call.status == "asked" else call.status
            self.entries[place] = msgspec.structs.replace(call, status=status, told=str(result.result or ""))

    def _output(self, event: e.ModelTurn) -> None:
        assert event.output is not None
        items, size = parts(event.output)
        for part in items:
            if isinstance(part, Message):
                self._add(
                    Said,
                    event,
                    role=part.role if event.turn else "summary",
                    text=part.text,
                    turn=event.turn,
                    agent=event.agent,
                    sources=part.sources,
                    bytes=size,
                )
            elif not (part.hosted and part.call_id in self._calls):
                self._calls.pop(part.call_id, None)  # a model may use an id again
                hands_over = bool(event.agent) and part.name.startswith(HAND_OFF)  # which is told with who does
                if self._speaker != (event.agent or "assistant") and not hands_over:
                    self._add(Said, event, role="assistant", text="", turn=event.turn, agent=event.agent)
                self._call(
                    event,
                    part.call_id,
                    tool_name=part.name,
                    arguments=part.arguments,
                    status=part.status,
                    result=part.result,
                    hosted=part.hosted,
                    agent=event.agent,
                )

    # --- calls

    def _call(self, event: Any, call_id: str, **fields: Any) -> None:
        place = self._place_of(call_id)
        if place is None:
            self._calls[call_id] = len(self.entries)
            self._add(Called, event, call_id=call_id, **{"tool_name": "", **fields})
        else:
            known = self.entries[place]
            if fields.get("arguments", ...) is None:
                del fields["arguments"]
            self.entries[place] = msgspec.structs.replace(known, **fields)

    def _place_of(self, call_id: str) -> int | None:
        """Return where a call stands; where a model used an id again, the engine puts `~` and a place behind it."""
        place = self._calls.get(call_id)
        if place is None and "~" in call_id:
            place = self._calls.get(call_id.rpartition("~")[0])
            call = self.entries[place] if place is not None else None
            if not isinstance(call, Called) or call.status not in _NOT_BEGUN:
                return None
            assert place is not None
            self._calls[call_id] = place
        return place

    def _finish(self, event: e.ToolFinished) -> None:
        if self._agent and event.tool_name.startswith(HAND_OFF) and event.error is None:
            to_agent = event.tool_name.removeprefix(HAND_OFF)
            handed = HandedOver(
                at=event.at, attempt=event.attempt, item=self._item, from_agent=self._agent, to_agent=to_agent
            )
            self._speaker = ""
            if (place := self._place_of(event.call_id)) is not None:
                self.entries[place] = handed
                return
        denied = was_denied(event.error)
        status = "denied" if denied else "succeeded"
        if event.error is not None and not denied:
            status = "timed_out" if event.error.error_type is ErrorType.TIMEOUT else "failed"
        result, size = beginning(event.result)
        self._call(
            event,
            event.call_id,
            tool_name=event.tool_name,
            arguments=event.arguments,
            status=status,
            result=result,
            result_bytes=size,
            error=event.error,
            execution_time=event.execution_time,
            hosted=event.hosted,
        )

    def _just_handed_over(self, to_agent: str) -> bool:
        handed = [entry for entry in self.entries[-20:] if isinstance(entry, HandedOver)]
        return bool(handed) and handed[-1].to_agent == to_agent


_OWN = frozenset(("at", "attempt", "item"))
_TOLD = (
    e.StepStarted,
    e.ItemStarted,
    e.ModelTurn,
    e.ToolStarted,
    e.ToolFinished,
    e.ToolApprovalAsked,
    e.ToolApprovalGiven,
    e.StepWaiting,
    e.StepResumed,
    e.StepRetryScheduled,
    e.ItemRetryScheduled,
    e.StepSucceeded,
    e.ItemSucceeded,
    e.StepFailed,
    e.ItemFailed,
    e.StepTimedOut,
    e.ItemTimedOut,
    e.StepCancelled,
    e.ItemCancelled,
    e.StepInterrupted,
    e.ItemInterrupted,
    e.StepInvalidated,
)


def _is_nothing(entry: Entry) -> bool:
    return isinstance(entry, Said) and entry.cut_off and not entry.text
