"""What the screens show of a run: small frozen pictures, made from `RunState` off the screen's thread.

The state itself is folded in place by the reader's thread, so no screen ever holds a part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from stepchain_tui.core.values import encode_json
from stepchain_tui.run.budgets import Limits, run_limits
from stepchain_tui.run.events import StepWaiting
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.spending import spent
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import AttemptStatus, Mark, RunStatus, StepStatus
from stepchain_tui.run.step_state import REPLAYED, AttemptState, StepState, Usage
from stepchain_tui.run.transcript_items import Source
from stepchain_tui.run.values import Kept
from stepchain_tui.tui.glyphs import MARKS
from stepchain_tui.tui.last_answers import LastAnswers
from stepchain_tui.tui.live_text import TALKS, LiveTexts
from stepchain_tui.tui.text import one_line

NO_LIMITS = Limits()
MOST_SPANS = 40
"""Attempts of one step that the timeline draws: the newest."""
MOST_TRIES = 1_000
"""Attempts of one step that the list of tries shows: the newest."""


@dataclass(frozen=True, slots=True)
class Span:
    """One go at a step in time."""

    started_at: datetime
    finished_at: datetime | None
    status: str


@dataclass(frozen=True, slots=True)
class StepView:
    """One step as the graph, the timeline and the title of its pane show it.

    Attributes:
        items: (done, all) of a map, or None.
        error: One line.
        retry_why: Where the delay of the next try comes from.
        version: A number that changes with each change of the step.
        breakpoint: `before` or `after`: where the run stops for a person; empty for nowhere.
        pinned: Whether its output is kept over reruns.
        has_output: Whether there is an output that could be pinned as it is.
        has_failed_items: Whether items of a map ended badly.
    """

    id: str
    kind: str
    name: str = ""
    status: StepStatus = StepStatus.PENDING
    marks: str = ""
    attempt: int = 0
    tries: int = 0
    max_attempts: int = 1
    reason: str = ""
    cause: str = ""
    error: str = ""
    error_type: str = ""
    retry_at: datetime | None = None
    retry_why: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    spans: tuple[Span, ...] = ()
    waiting: StepWaiting | None = None
    model: str = ""
    items: tuple[int, int] | None = None
    version: int = 0
    breakpoint: str = ""
    pinned: bool = False
    has_output: bool = False
    has_failed_items: bool = False


@dataclass(frozen=True, slots=True)
class RunView:
    """What the top line tells of a run, and what decides which actions fit.

    Attributes:
        live: Whether a living process carries the run out.
        owner_pid: That process, or 0.
        status: The shown one: `interrupted` for a run whose engine is gone.
        damage: Which of its events cannot be read, or empty.
        tokens: What answers of models took, of those that told.
        spent: What they cost in words, see `run.spending`; empty where none was asked.
        usd: What they cost, of those whose price is known.
        unknown_tokens: How many answers did not tell what they took.
        limits: The run's budget, with what was added to it.
    """

    run_id: str
    goal: str = ""
    plan_path: str = ""
    working_folder: str = ""
    status: RunStatus = RunStatus.PENDING
    live: bool = False
    owner_pid: int = 0
    reason: str = ""
    done: int = 0
    failed: int = 0
    total: int = 0
    tokens: int = 0
    spent: str = ""
    usd: float = 0.0
    unknown_tokens: int = 0
    limits: Limits = NO_LIMITS
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    last_at: datetime | None = None
    revision: int = 1
    inputs: Mapping[str, Any] = field(default_factory=dict)
    secret_inputs: tuple[str, ...] = ()
    parent_run_id: str | None = None
    model: str = ""
    seq: int = 0
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """What changed since the last frame of a run.

    Attributes:
        steps: The changed steps, by id.
        parents: The whole graph where it changed: step id -> its parents, in plan order.
        log: (step id, attempt or None, lines) of the log that is watched, or None.
        problem: Why the run cannot be shown any more, or empty.
        text: (step id, what a model is just writing for it) of the step whose log is watched, where it talks to one.
    """

    view: RunView
    steps: Mapping[str, StepView]
    parents: Mapping[str, tuple[str, ...]] | None = None
    log: tuple[str, int | None, int] | None = None
    problem: str = ""
    text: tuple[str, LiveTexts] | None = None


@dataclass(frozen=True, slots=True)
class TryRow:
    """One attempt as the list of tries shows it."""

    n: int
    item: int | None
    status: AttemptStatus
    started_at: datetime
    finished_at: datetime | None
    tries: int
    max_attempts: int
    model: str
    mode: str
    error: Failure | None
    reason: str
    revision: int
    usage: Usage | None = None
    """What it took and cost, None where no model was asked."""
    finish: str = ""
    """How the model's last answer ended."""


@dataclass(frozen=True, slots=True)
class StepDetail:
    """What the panes of one step show beside its log."""

    step_id: str
    rows: tuple[TryRow, ...]
    hidden_rows: int
    output: Kept | None
    input: Kept | None
    error: Failure | None
    status: StepStatus
    talks: bool = False
    """It holds a conversation with a model."""
    sources: tuple[Source, ...] = ()
    """What its output names as its sources."""


def step_view(step: StepState, model: str, version: int) -> StepView:
    """Return the picture of a step as it is now."""
    spans = [attempt for (item, _), attempt in step.attempts.items() if item is None][-MOST_SPANS:]
    last = step.last
    done = None
    if step.items is not None:
        done = (sum(item.status in _ITEM_OVER for item in step.items), len(step.items))
    retry_at, why = step.retry_at, step.reason
    if retry_at is None and step.items is not None:
        retry_at = min((item.retry_at for item in step.items if item.retry_at is not None), default=None)
        why = "an item"
    return StepView(
        id=step.id,
        kind=step.outline.kind,
        name=step.outline.name,
        status=step.status,
        marks="".join(text for mark, text in MARKS.items() if mark in step.marks),
        attempt=step.attempt,
        tries=step.tries,
        max_attempts=step.max_attempts,
        reason=step.reason,
        cause=step.cause,
        error=one_line(step.error.beside(step.id)) if step.error else "",
        error_type=str(step.error.error_type) if step.error else "",
        retry_at=retry_at,
        retry_why=why,
        started_at=step.started_at,
        finished_at=step.finished_at,
        spans=tuple(
            Span(one.started_at, one.finished_at, str(one.status if one.finished_at is not None else step.status))
            for one in spans
        ),
        waiting=step.waiting,
        model=(last.model if last else "") or model,
        items=done,
        version=version,
        breakpoint=step.breakpoint,
        pinned=Mark.PINNED in step.marks,
        has_output=step.output is not None and (step.status is StepStatus.SUCCEEDED or stands_after(step.waiting)),
        has_failed_items=any(item.status in _ITEM_BROKEN for item in step.items or ()),
    )


def stands_after(waiting: StepWaiting | None) -> bool:
    """Say whether a wait is a breakpoint after its step's work."""
    return waiting is not None and waiting.place == "after"


_ITEM_BROKEN = frozenset((StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.CANCELLED))
_ITEM_OVER = _ITEM_BROKEN | {StepStatus.SUCCEEDED}


def parents_of(state: RunState) -> dict[str, tuple[str, ...]]:
    """Return the steps of a run -> their parents."""
    known = state.steps
    return {
        step_id: tuple(parent for parent in step.outline.parents if parent in known) for step_id, step in known.items()
    }


def run_view(state: RunState, *, alive: bool, model: str) -> RunView:
    """Return the picture of a run as it is now; `alive` tells whether a living process owns it."""
    status = state.status
    if not alive and (status is RunStatus.RUNNING or (status is RunStatus.PENDING and state.owner is not None)):
        status = RunStatus.INTERRUPTED
    over = sum(number for status_, number in state.counts.items() if status_ in _OVER)
    failed = state.counts.get(StepStatus.FAILED, 0) + state.counts.get(StepStatus.TIMED_OUT, 0)
    return RunView(
        run_id=state.run_id,
        goal=state.goal,
        plan_path=state.plan_path,
        working_folder=state.working_folder,
        status=status,
        live=alive,
        owner_pid=state.owner.pid if alive and state.owner else 0,
        reason=state.reason,
        done=over,
        failed=failed,
        total=len(state.steps),
        tokens=state.usage.input_tokens + state.usage.output_tokens,
        spent=spent(state.usage),
        usd=state.usage.cost,
        unknown_tokens=state.usage.unknown_turns,
        limits=run_limits(state),
        created_at=state.created_at,
        started_at=state.started_at,
        finished_at=state.finished_at,
        last_at=state.last_at,
        revision=state.revision,
        inputs=state.inputs,
        secret_inputs=state.secret_inputs,
        parent_run_id=state.parent_run_id,
        model=model,
        seq=state.last_seq,
    )


_OVER = frozenset(
    (
        StepStatus.SUCCEEDED,
        StepStatus.FAILED,
        StepStatus.TIMED_OUT,
        StepStatus.SKIPPED,
        StepStatus.BLOCKED,
        StepStatus.CANCELLED,
    )
)


def step_detail(step: StepState, answers: LastAnswers | None = None) -> StepDetail:
    """Return what the panes of a step show; attempts newest first."""
    finished = answers.finished(step.id) if answers is not None else {}
    attempts: Sequence[AttemptState] = list(step.attempts.values())
    shown = attempts[-MOST_TRIES:]
    last = attempts[-1] if attempts else None
    return StepDetail(
        step_id=step.id,
        rows=tuple(
            TryRow(
                n=one.n,
                item=one.item,
                status=one.status,
                started_at=one.started_at,
                finished_at=one.finished_at,
                tries=one.tries,
                max_attempts=one.max_attempts,
                model=one.model,
                mode=one.mode,
                error=one.error,
                reason=one.reason or (REPLAYED if one.cache == REPLAYED else ""),
                revision=one.revision,
                usage=None if one.usage is None else replace(one.usage),
                finish=finished.get((one.item, one.n), ""),
            )
            for one in reversed(shown)
        ),
        hidden_rows=len(attempts) - len(shown),
        output=step.output,
        input=(step.last.input if step.last else None) or (last.input if last else None),
        error=step.error,
        status=step.status,
        talks=step.outline.kind in TALKS,
        sources=answers.sources(step.id) if answers is not None else (),
    )


@dataclass(frozen=True, slots=True)
class CutOff:
    """One attempt that began and never reported; `pid` is the process that it had, or 0."""

    n: int
    item: int | None
    started_at: datetime
    pid: int


def cut_off(step: StepState) -> tuple[CutOff, ...]:
    """Return the attempts that were cut off since the step's last result, the newest first."""
    found = []
    for attempt in reversed(step.attempts.values()):
        if attempt.status is not AttemptStatus.INTERRUPTED:
            break
        pid = attempt.process.pid if attempt.process is not None else 0
        found.append(CutOff(attempt.n, attempt.item, attempt.started_at, pid))
    return tuple(found)


def size_of(kept: Kept) -> int:
    """Return the bytes of a value's JSON."""
    return kept.blob.bytes if kept.blob is not None else len(encode_json(kept.value))
