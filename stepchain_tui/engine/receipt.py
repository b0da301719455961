"""The receipt (rule 12): per step whether its result is taken again, is stale or is made anew, and why.

It is read off a state, so it cannot say anything else than what happens: before the fact off a rehearsal of the very
commands that would be carried out, after the fact off the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from stepchain_tui.engine.budget_question import SENT_BACK
from stepchain_tui.engine.forecast import Forecast
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import STEP_ENDED, AttemptStatus, Mark, StepStatus
from stepchain_tui.run.step_state import BUDGET, AttemptState, StepState, Usage


class Decision(StrEnum):
    """What becomes of a step's result."""

    REUSE = "reuse"
    """It is done and stays done."""
    RUN = "run"
    """It is carried out."""
    STALE = "stale"
    """It is done, and stands on something that changed; it stays so until somebody reruns it."""
    LEAVE = "leave"
    """It has no good result, and nothing is done about it."""


_KEPT = (Decision.REUSE, Decision.STALE)
"""Decisions by which a result is not made anew."""


class ReceiptLine(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a receipt.

    Attributes:
        step_id: The step.
        decision: What becomes of its result.
        reason: Why, as a person reads it.
        cause: The step that this comes from, or an empty string.
        seconds: How long its kept result took to make, which is saved; for a step that ran how long that took; else
            None.
        status: The step's status: before the fact the one it has now, after the fact the one it came to.
        tokens: Tokens that its kept result took, which are not spent again; for a step that ran what it took now, for
            one that is to run what is expected. None where that is not known, or where it asks no model.
        usd: The same in US dollars.
    """

    step_id: str
    decision: Decision
    reason: str
    cause: str = ""
    seconds: float | None = None
    status: StepStatus = StepStatus.PENDING
    tokens: int | None = None
    usd: float | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What a command does to a run, step by step, or, with `done`, what was really run.

    Attributes:
        run_id: The run; for a fork the parent.
        command: `run`, `resume`, `rerun`, `edit`, `fork`, ...
        steps: A line each, in plan order.
        warnings: What a person should know first, such as attempts whose effect may have happened.
        done: It tells what was, not what would be.
        forecast: What is to run will probably take, None where nobody looked or no model will be asked.
    """

    run_id: str
    command: str
    steps: tuple[ReceiptLine, ...]
    warnings: tuple[str, ...] = ()
    done: bool = False
    forecast: Forecast | None = None

    def count(self, decision: Decision) -> int:
        """Return how many steps have this decision."""
        return sum(line.decision is decision for line in self.steps)

    @property
    def seconds_saved(self) -> float:
        """How long the results that are kept took to make, as far as it is known."""
        return sum(line.seconds or 0.0 for line in self.steps if line.decision in _KEPT)

    @property
    def tokens_saved(self) -> int:
        """How many tokens the results that are kept took, as far as it is known."""
        return sum(line.tokens or 0 for line in self.steps if line.decision in _KEPT)

    @property
    def usd_saved(self) -> float:
        """How many dollars the results that are kept cost, as far as it is known."""
        return sum(line.usd or 0.0 for line in self.steps if line.decision in _KEPT)

    @property
    def tokens_run(self) -> int:
        """How many tokens what runs takes, as far as it is known: expected before the fact, counted after it."""
        return sum(line.tokens or 0 for line in self.steps if line.decision is Decision.RUN)

    @property
    def usd_run(self) -> float:
        """How many dollars what runs costs, as far as it is known: expected before the fact, counted after it."""
        return sum(line.usd or 0.0 for line in self.steps if line.decision is Decision.RUN)

    def with_forecast(self, found: Forecast) -> Receipt:
        """Return the receipt with what its steps that are to run will probably take."""
        expected = {step.step_id: step for step in found.steps}
        lines = [
            msgspec.structs.replace(
                line,
                tokens=None if step.tokens is None else round(step.tokens.mean),
                usd=None if step.usd is None else step.usd.mean,
            )
            if line.decision is Decision.RUN and (step := expected.get(line.step_id)) is not None
            else line
            for line in self.steps
        ]
        warnings = (*self.warnings, *found.warnings)
        return msgspec.structs.replace(self, steps=tuple(lines), warnings=warnings, forecast=found)

    def to_json(self) -> dict[str, Any]:
        """Return the receipt as plain data, its counts and sums beside the steps."""
        return {
            "run_id": self.run_id,
            "command": self.command,
            "done": self.done,
            **{decision.value: self.count(decision) for decision in Decision},
            "seconds_saved": round(self.seconds_saved, 3),
            "tokens_saved": self.tokens_saved,
            "usd_saved": round(self.usd_saved, 6),
            "forecast": self.forecast.to_json() if self.forecast is not None else None,
            "warnings": list(self.warnings),
            "steps": [msgspec.to_builtins(line) for line in self.steps],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Receipt:
        """Return the receipt that `to_json` made `data` of."""
        names = ("run_id", "command", "steps", "warnings", "done", "forecast")
        return msgspec.convert({name: data[name] for name in names}, Receipt)


def planned(
    command: str, run_id: str, before: Mapping[str, StepStatus], after: RunState, events: Iterable[e.Event]
) -> Receipt:
    """Return the receipt of something that was rehearsed.

    Args:
        command: What was rehearsed.
        run_id: The run.
        before: The status of each step before it.
        after: The run after it.
        events: What the rehearsal recorded.
    """
    said: dict[str, e.Event] = {}
    for event in events:
        if isinstance(event, e.StepInvalidated | e.StepInterrupted | e.StepSucceeded | e.StepPinned):
            said[event.step_id] = event
    lines = [_planned_line(step, before.get(step.id), said.get(step.id)) for step in after.steps.values()]
    return Receipt(run_id=run_id, command=command, steps=tuple(lines), warnings=tuple(_warnings(after)))


def _planned_line(step: StepState, was: StepStatus | None, said: e.Event | None) -> ReceiptLine:
    now = was or step.status
    if step.done:
        stale = Mark.STALE in step.marks
        reason, cause = _why_kept(step, said, stale=stale)
        decision = Decision.STALE if stale else Decision.REUSE
        took = {"seconds": seconds_of(step), **tokens_of(step.spent)}
        return _line(step, decision, reason, cause=cause, status=now, **took)
    if step.status in STEP_ENDED:
        return _line(step, Decision.LEAVE, step.reason or f"it {_told(step.status)}", cause=step.cause, status=now)
    reason, cause = _why_run(step, was, said)
    return _line(step, Decision.RUN, reason, cause=cause, status=now)


def _line(step: StepState, decision: Decision, reason: str, **more: Any) -> ReceiptLine:
    return ReceiptLine(step_id=step.id, decision=decision, reason=reason, **more)


def _why_kept(step: StepState, said: e.Event | None, *, stale: bool) -> tuple[str, str]:
    if stale:
        if isinstance(said, e.StepInvalidated) and said.stale:
            return _STALE_WORDS.get((said.reason, said.cause == step.id), f"it stands on {said.cause}"), said.cause
        return "it is stale already", step.cause
    if step.pinned:
        return "its output is pinned", ""
    if step.origin:
        return f"taken over from {step.origin}", ""
    return "it succeeded", ""


_STALE_WORDS = {
    ("code", True): "the code behind it changed since its result",
    ("edit", True): "what it does changed since its result",
}


def _why_run(step: StepState, was: StepStatus | None, said: e.Event | None) -> tuple[str, str]:
    if step.pinned:
        return "its output is pinned: it is taken, not made", ""
    if isinstance(said, e.StepInterrupted):
        return f"its attempt {said.attempt} was cut off", ""
    if isinstance(said, e.StepInvalidated):
        if said.reason == "edit" and said.cause in ("", step.id):
            return "what it does was edited", ""
        if said.cause and said.cause != step.id:
            return f"it follows {said.cause}", said.cause
        if said.reason == "rerun":
            items = ": only the failed items" if said.keep_items and step.items else ""
            return f"asked for{items}", ""
        if was is not None and was in STEP_ENDED:
            kept = ": only the items that are not done" if said.keep_items and step.items else ""
            return f"it {_told(was)}{kept}", ""
    if was is None:
        return "it is new", ""
    if (last := step.last) is not None and last.status is AttemptStatus.INTERRUPTED:
        return f"its attempt {last.n} was cut off", ""
    words = {
        StepStatus.RUNNING: "it is running",
        StepStatus.RETRYING: "it waits for its next try",
        StepStatus.WAITING: "it waits for a person",
    }
    return words.get(was, "it has not run yet"), ""


def _told(status: StepStatus) -> str:
    words = {
        StepStatus.BLOCKED: "was blocked",
        StepStatus.CANCELLED: "was cancelled",
        StepStatus.SKIPPED: "was skipped",
    }
    return words.get(status, status.value.replace("_", " "))


def seconds_of(step: StepState) -> float | None:
    """Return how long the attempt took that a step's result is of, or None where it is not known.

    A `plan` step has none: its parts have theirs, which must not be counted twice.
    """
    if step.outline.kind == "plan":
        return None
    for attempt in reversed(step.attempts.values()):
        if attempt.item is None and attempt.status is AttemptStatus.SUCCEEDED and attempt.finished_at is not None:
            return (attempt.finished_at - attempt.started_at).total_seconds()
    return None


def tokens_of(usage: Usage | None) -> dict[str, Any]:
    """Return the `tokens` and `usd` of a receipt's line; a sum of which a part is not known is not known."""
    if usage is None or not usage.turns:
        return {}
    return {
        "tokens": None if usage.unknown_turns else usage.input_tokens + usage.output_tokens,
        "usd": None if usage.unpriced_turns else usage.cost,
    }


_NAMED = 5
"""Items of a map that are named one by one."""
_NO_EFFECT = ("plan", "approve")
"""Kinds of steps that do nothing themselves."""


def _warnings(state: RunState) -> Iterable[str]:
    for step in state.steps.values():
        if not step.interruptions or step.status in STEP_ENDED or step.outline.kind in _NO_EFFECT:
            continue
        in_doubt = _cut_off(step)
        for one in in_doubt[:_NAMED]:
            name = step.id if one.item is None else f"{step.id}[{one.item}]"
            yield (
                f"{name}: attempt {one.n} began at {one.started_at:%Y-%m-%d %H:%M:%S} UTC and never reported: its "
                "effect may have happened"
            )
        if (more := len(in_doubt) - _NAMED) > 0:
            items = "1 more item" if more == 1 else f"{more:,} more items"
            yield f"{step.id}: attempts at {items} never reported: their effect may have happened"


def _cut_off(step: StepState) -> list[AttemptState]:
    """Return the attempts at a step, or at the items of a map, that the last cut-off of the step ended."""
    own = [one for one in step.attempts.values() if one.item is None and _is_cut_off(one)]
    if not own or not step.outline.is_map:
        return own[-1:]
    last = own[-1]
    return [
        one
        for one in step.attempts.values()
        if one.item is not None and one.seq > last.seq and one.reason == last.reason and _is_cut_off(one)
    ]


def _is_cut_off(attempt: AttemptState) -> bool:
    return attempt.status is AttemptStatus.INTERRUPTED and not attempt.reason.startswith(SENT_BACK)


def _ran(state: RunState, step: StepState) -> list[AttemptState]:
    """Return the attempts since an engine last went on with the run, but those that only found a budget reached."""
    since = [attempt for attempt in step.attempts.values() if attempt.seq > state.resumed_seq]
    ran = [attempt for attempt in since if not _was_held_back(step, attempt)]
    if step.outline.is_map and len(ran) < len(since) and all(attempt.item is None for attempt in ran):
        return []
    return ran


def _was_held_back(step: StepState, attempt: AttemptState) -> bool:
    """Return whether an attempt has asked no model yet, because of a budget."""
    if attempt.usage is not None:
        return False
    if attempt.status is AttemptStatus.INTERRUPTED:
        return attempt.reason.startswith(SENT_BACK)
    waiting = step.waiting
    return (
        waiting is not None
        and waiting.reason == BUDGET
        and (waiting.item, waiting.attempt) == (attempt.item, attempt.n)
    )


def account(state: RunState) -> Receipt:
    """Return what was really run since an engine last began with the run or went on with it."""
    lines: list[ReceiptLine] = []
    for step in state.steps.values():
        if ran := _ran(state, step):
            ended = [attempt.finished_at for attempt in ran if attempt.finished_at is not None]
            seconds = (max(ended) - min(attempt.started_at for attempt in ran)).total_seconds() if ended else None
            own = sum(attempt.item is None for attempt in ran)
            tries = f" in {own} attempts" if own > 1 else ""
            cached = ", from the cache" if Mark.CACHED in step.marks else ""
            reason = f"it {_told(step.status)}{tries}{cached}"
            usage = Usage()
            for attempt in ran:
                if attempt.usage is not None:
                    usage.include(attempt.usage)
            lines.append(_line(step, Decision.RUN, reason, seconds=seconds, status=step.status, **tokens_of(usage)))
        elif step.status is StepStatus.SUCCEEDED:
            stale = Mark.STALE in step.marks
            reason, cause = _why_kept(step, None, stale=stale)
            decision = Decision.STALE if stale else Decision.REUSE
            took = {"seconds": seconds_of(step), **tokens_of(step.spent)}
            lines.append(_line(step, decision, reason, cause=cause, status=step.status, **took))
        else:
            waits = step.status is StepStatus.WAITING
            reason = "it waits for a person" if waits else step.reason or f"it is {step.status.value}"
            lines.append(_line(step, Decision.LEAVE, reason, cause=step.cause, status=step.status))
    return Receipt(run_id=state.run_id, command="run", steps=tuple(lines), done=True)
