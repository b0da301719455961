"""What is said when a run begins or goes on: what is taken again, what may have happened, what changed since."""

from __future__ import annotations

from collections.abc import Iterator

from stepchain_tui.cli.receipts import plan_words
from stepchain_tui.cli.text import local_time, to_type
from stepchain_tui.engine import RunSource
from stepchain_tui.engine.attempts import what_after_interruption
from stepchain_tui.engine.receipt import planned
from stepchain_tui.engine.rehearsal import with_interruptions
from stepchain_tui.engine.revival import source_at_rest
from stepchain_tui.plan import OnInterrupt, Step
from stepchain_tui.run import AttemptStatus, Event, RunState, StepState
from stepchain_tui.run import events as e
from stepchain_tui.run.status import STEP_ENDED
from stepchain_tui.run.why_words import numbered

_TOLD = 20
"""Steps of one sort that are told one by one; the rest is counted."""
_NO_EFFECT = ("plan", "approve")
"""Kinds of steps that do nothing themselves."""


class Beginning:
    """Collects the events up to the one by which an engine begins, and tells what they mean.

    What is said is read off these events, as a receipt is: it is what happens, and costs no second look at the run.

    Args:
        before: The run as it was before them.
        store: The store that was named.

    Attributes:
        begun: Whether that event has come.
    """

    def __init__(self, before: RunState, store: str | None) -> None:
        self._known = bool(before.last_seq)
        self._before = {step.id: step.status for step in before.steps.values()}
        self._store = store
        self._events: list[Event] = []
        self.begun = False

    def lines(self, event: Event, state: RunState) -> list[str]:
        """Take one more event, already folded into `state`; return what to say, nothing before the run begins."""
        if self.begun:
            return []
        self._events.append(event)
        if not isinstance(event, e.RunStarted | e.RunResumed):
            return []
        self.begun = True
        if not self._known and (state.parent_run_id is None or state.replay_of):
            return []
        receipt = planned("resume", state.run_id, self._before, state, self._events)
        cut_off: list[str] = []
        if any(step.interruptions for step in state.steps.values()):
            source = source_at_rest(state)
            receipt = with_interruptions(receipt, state, source)
            cut_off.extend(_cut_off(state, source))
        told = [f"  {plan_words(receipt)}", *cut_off, *self._changed_code(state)]
        self._events.clear()
        return told

    def left(self, state: RunState) -> list[str]:
        """Return what is to be said of a run of which nothing was left to do."""
        return [] if self.begun else list(self._changed_code(state, told_how=False))

    def _changed_code(self, state: RunState, *, told_how: bool = True) -> Iterator[str]:
        changed = [
            event.step_id
            for event in self._events
            if isinstance(event, e.StepInvalidated) and event.reason == "code" and event.cause == event.step_id
        ]
        for step_id in changed[:_TOLD]:
            rerun = to_type(self._store, "rerun", state.run_id, step_id, "--downstream")
            how = f", `{rerun}` makes it anew" if told_how else ""
            yield f"  the code behind {step_id} changed since its result: it is stale{how}"
        yield from _more(len(changed))


def _cut_off(state: RunState, source: RunSource) -> Iterator[str]:
    found = [
        step
        for step in state.steps.values()
        if step.interruptions and step.status not in STEP_ENDED and step.outline.kind not in _NO_EFFECT
    ]
    if not found:
        return
    what = "its effect" if len(found) == 1 else "their effects"
    yield f"  {numbered(len(found), 'attempt')} never reported: {what} may have happened"
    for step in found[:_TOLD]:
        last = next((one for one in reversed(step.attempts.values()) if one.status is AttemptStatus.INTERRUPTED), None)
        if last is not None:
            item = f"[{last.item}]" if last.item is not None else ""
            began = f"attempt {last.n} began at {local_time(last.started_at)}"
            yield f"    {step.id}{item}: {began}; {_what_follows(step, source.definition(step.id).step)}"
    yield from _more(len(found))


def _what_follows(step: StepState, written: Step) -> str:
    match what_after_interruption(written, step):
        case OnInterrupt.SKIP:
            return "it is skipped"
        case OnInterrupt.ASK:
            return "you are asked before it is run again"
        case OnInterrupt.RERUN:
            return "it is run again"


def _more(count: int) -> Iterator[str]:
    if count > _TOLD:
        yield f"    ... and {count - _TOLD:,} more"
