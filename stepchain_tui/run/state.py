"""`RunState`: what the events of a run so far add up to; the only notion of state in the house.

`RunState.apply` is the one place that changes state. It has no clock, reads and writes nothing, and each consumer
(engine, screen, command line, history) folds its own copy, in place: copying a state of 10,000 steps for each
event would be quadratic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, assert_never

from stepchain_tui.core.errors import InternalError, UnknownStepError
from stepchain_tui.run import events as e
from stepchain_tui.run.budgets import BudgetAnswers, changed_budgets
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.status import STEP_ENDED, STEP_MOVES, AttemptStatus, ErrorType, Mark, RunStatus, StepStatus
from stepchain_tui.run.step_state import (
    BREAKPOINT,
    BUDGET,
    Answered,
    AttemptState,
    ItemState,
    RevisionRecord,
    StepState,
    Usage,
)
from stepchain_tui.run.values import Kept


@dataclass(slots=True)
class RunState:
    """A run as its events tell it. Start with `RunState()` and `apply` the events in order."""

    run_id: str = ""
    status: RunStatus = RunStatus.PENDING
    goal: str = ""
    revision: int = 1
    plan: dict[str, Any] = field(default_factory=dict)
    plan_path: str = ""
    plan_text: str = ""
    plan_folder: str = ""
    working_folder: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    secret_inputs: tuple[str, ...] = ()
    max_concurrent: int = 5
    parent_run_id: str | None = None
    parent_step_id: str | None = None
    replay_of: str = ""
    """The run whose recording this one replays; empty for none."""
    live: tuple[str, ...] = ()
    """Kinds of steps that are carried out all the same, where it is a replay."""
    steps: dict[str, StepState] = field(default_factory=dict)
    removed: dict[str, StepState] = field(default_factory=dict)
    """Steps that a later revision took out of the plan."""
    counts: dict[StepStatus, int] = field(default_factory=dict)
    owner: e.OwnerRecord | None = None
    reason: str = ""
    waiting_for: tuple[str, ...] = ()
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    usage: Usage = field(default_factory=Usage)
    last_seq: int = 0
    last_at: datetime | None = None
    plans: dict[str, Any] = field(default_factory=dict)
    """The plans that `plan` steps run, by file."""
    limits: dict[str, int] = field(default_factory=dict)
    """Named limits that were changed for this run, over the plan's."""
    priorities: dict[str, int] = field(default_factory=dict)
    """Priorities of steps that were changed for this run, over the plan's."""
    revisions: list[RevisionRecord] = field(default_factory=list)
    resumed_seq: int = 0
    """The event by which an engine last began with the run or went on with it."""
    allowed_tools: dict[str, int] = field(default_factory=dict)
    """Tools that a person allowed for the whole run, by `tool_key`, with the event that says so."""
    budgets: dict[str, BudgetAnswers] = field(default_factory=dict)
    """What persons said of budgets that were reached, by scope, see `run.budgets`."""
    layout: int = 1
    """Counts how often the run got other steps: by a revision, or by the parts of a map of plans."""

    def step(self, step_id: str) -> StepState:
        """Return the step of that id.

        Raises:
            UnknownStepError: The run's plan has no such step.
        """
        try:
            return self.steps[step_id]
        except KeyError:
            raise UnknownStepError(step_id, self.steps) from None

    def apply(self, event: e.Event) -> None:
        """Take one more event into account.

        Raises:
            InternalError: The event does not follow the last one, or its move is not legal.
        """
        if event.seq != self.last_seq + 1:
            raise InternalError(f"event {event.seq} of run '{event.run_id}' came after {self.last_seq}")
        self.last_seq = event.seq
        self.last_at = event.at
        match event:
            case e.StepStarted():
                self._begin(event)
            case e.StepSucceeded():
                step = self.steps[event.step_id]
                self._end(step, StepStatus.SUCCEEDED, event)
                self._end_attempt(step, None, event.attempt, AttemptStatus.SUCCEEDED, event, output=event.output)
                step.output, step.error = event.output, None
                step.reason, step.cause, step.origin = event.by and f"set by {event.by}", "", event.origin
                step.interruptions = 0
                step.exchanges.clear()
                if not event.attempt:  # no attempt of this run made it
                    step.content_hash = event.content_hash
                if step.marks and not event.attempt:
                    step.marks.discard(Mark.STALE)
                if event.cached:
                    step.marks.add(Mark.CACHED)
                    if last := step.attempts.get((None, event.attempt)):
                        last.origin = event.origin
                if event.warnings and (last := step.attempts.get((None, event.attempt))):
                    last.warnings = event.warnings
            case e.StepQueued():
                step = self.steps[event.step_id]
                self._move(step, StepStatus.QUEUED)
                step.reason = event.reason
            case e.ItemStarted():
                self._begin_item(event)
            case e.ItemSucceeded():
                item = self._end_item(event, StepStatus.SUCCEEDED, AttemptStatus.SUCCEEDED, output=event.output)
                item.output = event.output
                self.steps[event.step_id].exchanges.pop(event.item, None)
                if event.warnings or event.cached:
                    attempt = self.steps[event.step_id].attempts[event.item, event.attempt]
                    attempt.warnings, attempt.origin = event.warnings, event.origin
            case e.StepRetryScheduled():
                step = self.steps[event.step_id]
                self._move(step, StepStatus.RETRYING)
                self._end_attempt(step, None, event.attempt, event.status, event, error=event.error)
                step.retry_at, step.error = event.retry_at, event.error
                step.tries, step.reason = event.tries, event.reason
            case e.ItemRetryScheduled():
                item = self._end_item(event, StepStatus.RETRYING, event.status, error=event.error)
                item.retry_at, item.tries = event.retry_at, event.tries
            case e.StepFailed():
                step = self.steps[event.step_id]
                self._end(step, StepStatus.FAILED, event)
                self._end_attempt(
                    step, None, event.attempt, AttemptStatus.FAILED, event, error=event.error, output=event.output
                )
                step.error, step.output = event.error, event.output
                if event.error.error_type is ErrorType.USER_ERROR:
                    step.exchanges.pop(None, None)
            case e.StepTimedOut():
                step = self.steps[event.step_id]
                self._end(step, StepStatus.TIMED_OUT, event)
                self._end_attempt(step, None, event.attempt, AttemptStatus.TIMED_OUT, event, error=event.error)
                step.error = event.error
            case e.StepSkipped():
                step = self.steps[event.step_id]
                self._end(step, StepStatus.SKIPPED, event)
                step.reason, step.cause = event.reason, event.cause
                if event.attempt:
                    self._end_attempt(step, None, event.attempt, AttemptStatus.CANCELLED, event, reason=event.reason)
            case e.StepBlocked():
                step = self.steps[event.step_id]
                self._end(step, StepStatus.BLOCKED, event)
                step.reason, step.cause = event.reason, event.cause
            case e.StepCancelled():
                step = self.steps[event.step_id]
                self._end(step, StepStatus.CANCELLED, event)
                step.reason = event.reason
                if event.attempt:
                    self._end_attempt(step, None, event.attempt, AttemptStatus.CANCELLED, event, reason=event.reason)
            case e.StepInterrupted():
                step = self.steps[event.step_id]
                self._move(step, StepStatus.PENDING)
                self._end_attempt(step, None, event.attempt, AttemptStatus.INTERRUPTED, event, reason=event.reason)
                step.tries = max(0, step.tries - 1)
                step.interruptions += 0 if event.asked else 1
                step.reason, step.waiting, step.keep_items = event.reason, None, True
            case e.StepInvalidated():
                self._invalidate(event)
            case e.StepSpawned():
                self.steps[event.step_id].attempts[event.item, event.attempt].process = event
            case e.StepExpanded():
                self._expand(event)
            case e.StepWaiting():
                step = self.steps[event.step_id]
                self._move(step, StepStatus.WAITING)
                step.waiting, step.reason = event, event.reason
            case e.StepResumed():
                self._end_wait(event)
            case e.StepPinned():
                step = self.steps[event.step_id]
                (step.marks.add if event.pinned else step.marks.discard)(Mark.PINNED)
                step.pinned_output = event.output if event.pinned else None
            case e.ItemFailed():
                item = self._end_item(event, StepStatus.FAILED, AttemptStatus.FAILED, error=event.error)
                item.error = event.error
                if event.error.error_type is ErrorType.USER_ERROR:
                    self.steps[event.step_id].exchanges.pop(event.item, None)
            case e.ItemTimedOut():
                item = self._end_item(event, StepStatus.TIMED_OUT, AttemptStatus.TIMED_OUT, error=event.error)
                item.error = event.error
            case e.ItemCancelled():
                self._end_item(event, StepStatus.CANCELLED, AttemptStatus.CANCELLED, reason=event.reason)
            case e.ItemInterrupted():
                item = self._end_item(event, StepStatus.PENDING, AttemptStatus.INTERRUPTED, reason=event.reason)
                item.tries = max(0, item.tries - 1)
            case e.ModelTurn():
                step = self.steps[event.step_id]
                self._count(step, event)
                if event.output is not None and event.item is None and event.turn:
                    step.answered = _answered(step, event)
                if event.output is not None and not event.replayed:
                    step.exchanges.setdefault(event.item, []).append(event)
            case e.ToolApprovalGiven():
                self.steps[event.step_id].answers[event.item, event.call_id] = event
                if event.approved and event.remember and event.tool_key:
                    self.allowed_tools[event.tool_key] = event.seq
            case e.ToolFinished():
                if talk := self.steps[event.step_id].exchanges.get(event.item):
                    talk.append(event)
            case e.ToolStarted() | e.ToolApprovalAsked():
                pass
            case e.CommandApplied():
                self._set(event)
            case e.CommandRefused():
                pass
            case e.RunCreated():
                self._create(event)
            case e.RunStarted():
                self.status, self.owner, self.started_at = RunStatus.RUNNING, event.owner, event.at
                self.reason, self.resumed_seq = "", event.seq
            case e.RunResumed():
                self.status, self.reason, self.finished_at, self.waiting_for = RunStatus.RUNNING, "", None, ()
                self.started_at = self.started_at or event.at
                if event.owner is not None:
                    self.owner, self.resumed_seq = event.owner, event.seq
            case e.RunPaused():
                self.status, self.reason = RunStatus.PAUSED, event.reason
            case e.RunWaiting():
                self.status, self.reason, self.waiting_for = RunStatus.WAITING, event.reason, event.steps
            case e.RunInterrupted():
                self.status, self.reason, self.owner = RunStatus.INTERRUPTED, event.reason, None
            case e.RunRevised():
                self._revise(event)
            case e.RunFinished():
                self.status, self.reason, self.finished_at = event.status, event.reason, event.at
            case _:
                assert_never(event)

    # --- arms of the fold that take more than a few lines

    def _create(self, event: e.RunCreated) -> None:
        self.run_id, self.created_at, self.goal = event.run_id, event.at, event.goal
        self.plan, self.plan_path, self.plan_text = event.plan, event.plan_path, event.plan_text
        self.plan_folder, self.working_folder = event.plan_folder, event.working_folder
        self.inputs, self.secret_inputs = event.inputs, event.secret_inputs
        self.max_concurrent = event.max_concurrent
        self.parent_run_id, self.parent_step_id = event.parent_run_id, event.parent_step_id
        self.plans, self.replay_of, self.live = event.plans, event.replay_of, event.live
        self.revisions = [RevisionRecord(1, event.seq, event.at)]
        self.steps = {outline.id: StepState(outline, breakpoint=outline.breakpoint) for outline in event.steps}
        self.counts = {StepStatus.PENDING: len(self.steps)}

    def _revise(self, event: e.RunRevised) -> None:
        if self.budgets:
            for scope in changed_budgets(self.plan, event.plan):
                if (said := self.budgets.get(scope)) is not None:
                    said.begin_anew()
        self.revision, self.plan, self.plan_text = event.revision, event.plan, event.plan_text
        self.max_concurrent, self.plans = event.max_concurrent, event.plans
        if event.inputs is not None:
            self.inputs, self.secret_inputs = event.inputs, event.secret_inputs
        self.revisions.append(RevisionRecord(event.revision, event.seq, event.at, event.by, event.reason))
        self._replace_steps(event.steps)

    def _replace_steps(self, outlines: Iterable[e.StepOutline]) -> None:
        """Take these steps for the run's; what is known of a step is kept, also of one that comes back later."""
        known = {**self.removed, **self.steps}
        steps: dict[str, StepState] = {}
        for outline in outlines:
            step = known.pop(outline.id, None) or StepState(outline, breakpoint=outline.breakpoint)
            if step.outline.breakpoint != outline.breakpoint:
                step.breakpoint = outline.breakpoint
            step.outline = outline
            steps[outline.id] = step
        self.steps, self.removed, self.layout = steps, known, self.layout + 1
        self.counts = {}
        for step in steps.values():
            self.counts[step.status] = self.counts.get(step.status, 0) + 1

    def _count(self, step: StepState, turn: e.ModelTurn) -> None:
        """Count what an answer of a model took: for the run, the step and the attempt."""
        self.usage.add(turn)
        step.usage, step.spent = step.usage or Usage(), step.spent or Usage()
        step.usage.add(turn)
        step.spent.add(turn)
        attempt = step.attempts.get((turn.item, turn.attempt))
        if attempt is not None:
            attempt.usage = attempt.usage or Usage()
            attempt.usage.add(turn)

    def _set(self, event: e.CommandApplied) -> None:
        """Change a setting of the run; the other commands take effect by the events that follow them."""
        arguments = event.arguments
        if event.command == "breakpoint":
            self.steps[arguments["step"]].breakpoint = arguments.get("place") or ""
        elif event.command == "limits":
            self.max_concurrent = arguments.get("max_concurrent") or self.max_concurrent
            self.limits.update(arguments.get("limits") or {})
            self.priorities.update(arguments.get("priorities") or {})

    def _end_wait(self, event: e.StepResumed) -> None:
        step = self.steps[event.step_id]
        waiting = step.waiting
        to = StepStatus.RUNNING if event.attempt else StepStatus.PENDING
        if waiting is not None and waiting.reason == BREAKPOINT:
            if waiting.place == "after":
                to = StepStatus.SUCCEEDED
            else:
                step.passed, step.given_input = True, event.input
        elif waiting is not None and waiting.reason == BUDGET and isinstance(event.answer, dict):
            scope = str(event.answer.get("scope", ""))
            self.budgets.setdefault(scope, BudgetAnswers()).add(event.answer)
        self._move(step, to)
        step.interruptions = 0
        step.waiting, step.reason = None, ""

    def _begin(self, event: e.StepStarted) -> None:
        step = self.steps[event.step_id]
        self._move(step, StepStatus.RUNNING)
        step.attempt, step.tries, step.max_attempts = event.attempt, event.tries, event.max_attempts
        step.attempts[None, event.attempt] = AttemptState(
            event.attempt,
            None,
            AttemptStatus.RUNNING,
            event.at,
            event.tries,
            event.max_attempts,
            input=event.input,
            mode=event.mode,
            model=event.model,
            content_hash=event.content_hash,
            revision=event.revision,
            cache=event.cache,
            seq=event.seq,
        )
        step.content_hash = event.content_hash
        step.started_at, step.finished_at = event.at, None
        step.retry_at, step.error, step.reason, step.cause = None, None, "", ""
        if step.marks:
            step.marks -= {Mark.STALE, Mark.CACHED}

    def _begin_item(self, event: e.ItemStarted) -> None:
        step = self.steps[event.step_id]
        item = self._item(step, event.item)
        item.status, item.attempt, item.tries = StepStatus.RUNNING, event.attempt, event.tries
        item.retry_at, item.error = None, None
        step.attempts[event.item, event.attempt] = AttemptState(
            event.attempt,
            event.item,
            AttemptStatus.RUNNING,
            event.at,
            event.tries,
            event.max_attempts,
            input=event.input,
            cache=event.cache,
            seq=event.seq,
        )

    def _end_item(
        self,
        event: e.ItemEvent,
        status: StepStatus,
        attempt_status: AttemptStatus,
        *,
        output: Kept | None = None,
        error: Failure | None = None,
        reason: str = "",
    ) -> ItemState:
        step = self.steps[event.step_id]
        item = self._item(step, event.item)
        item.status = status
        if event.attempt:
            self._end_attempt(
                step, event.item, event.attempt, attempt_status, event, output=output, error=error, reason=reason
            )
        return item

    def _expand(self, event: e.StepExpanded) -> None:
        step = self.steps[event.step_id]
        before = step.items or []
        step.items, step.keep_items = [], False
        made = {item.index: item.attempt for item in before}
        if len(event.items) > len(before):  # a longer list before that one has left attempts at these
            for item_index, n in step.attempts:
                if item_index is not None and item_index >= len(before):
                    made[item_index] = max(n, made.get(item_index, 0))
        for index, outline in enumerate(event.items):
            item = ItemState(index, outline.key, outline.value, attempt=made.get(index, 0))
            if outline.reuse is not None:
                item.status, item.output = StepStatus.SUCCEEDED, before[outline.reuse].output
            step.items.append(item)
        if step.outline.kind == "plan":
            self._place_parts(step.id, event.steps)

    def _place_parts(self, step_id: str, parts: tuple[e.StepOutline, ...]) -> None:
        """Put the parts of a map's items right behind it, in place of those of an earlier expansion."""
        outlines: list[e.StepOutline] = []
        inside = f"{step_id}["
        for outline in [step.outline for step in self.steps.values()]:
            if outline.id.startswith(inside):
                continue
            outlines.append(outline)
            if outline.id == step_id:
                outlines.extend(parts)
        self._replace_steps(outlines)

    def _invalidate(self, event: e.StepInvalidated) -> None:
        step = self.steps[event.step_id]
        if event.stale:
            step.marks.add(Mark.STALE)
            return
        if step.status is not StepStatus.PENDING:
            self._move(step, StepStatus.PENDING)
        step.reason, step.cause, step.keep_items = event.reason, event.cause, event.keep_items
        step.tries, step.interruptions, step.retry_at, step.waiting = 0, 0, None, None
        step.error, step.finished_at, step.origin = None, None, ""
        step.passed, step.given_input = False, None
        step.answers.clear()
        if event.again:
            step.exchanges.clear()
            step.spent = None
            self.budgets.pop(event.step_id, None)
        step.generation += event.again
        step.wanted_anew = event.again and not event.cause
        step.marks -= {Mark.STALE, Mark.CACHED}
        for item in step.items or ():
            item.tries = 0
            if item.status is not StepStatus.SUCCEEDED:
                item.status = StepStatus.PENDING
        if step.outline.part_of_item is not None:
            self._reopen_item(step.outline)

    def _reopen_item(self, part: e.StepOutline) -> None:
        """Take an item of a map of plans for undone, because a part of it is to run anew."""
        items, index = self.steps[part.part_of].items, part.part_of_item
        if items and index is not None and index < len(items) and items[index].status in STEP_ENDED:
            items[index].status, items[index].tries = StepStatus.PENDING, 0

    def _move(self, step: StepState, to: StepStatus) -> None:
        before = step.status
        if to not in STEP_MOVES[before]:
            legal = ", ".join(sorted(STEP_MOVES[before]))
            raise InternalError(f"step '{step.outline.id}' is {before} and cannot become {to}, only {legal}")
        counts = self.counts
        counts[before] -= 1
        counts[to] = counts.get(to, 0) + 1
        step.status = to

    def _end(self, step: StepState, to: StepStatus, event: e.Event) -> None:
        self._move(step, to)
        step.finished_at, step.retry_at, step.waiting = event.at, None, None

    def _end_attempt(
        self,
        step: StepState,
        item: int | None,
        n: int,
        status: AttemptStatus,
        event: e.Event,
        *,
        output: Kept | None = None,
        error: Failure | None = None,
        reason: str = "",
    ) -> None:
        attempt = step.attempts.get((item, n))
        if attempt is None:  # a step marked by hand has a result without an attempt
            return
        attempt.status, attempt.finished_at = status, event.at
        attempt.output, attempt.error, attempt.reason = output, error, reason

    @staticmethod
    def _item(step: StepState, index: int) -> ItemState:
        if step.items is None or not 0 <= index < len(step.items):
            raise InternalError(f"step '{step.outline.id}' has no item {index}")
        return step.items[index]


def _answered(step: StepState, turn: e.ModelTurn) -> Answered:
    before = step.answered
    return Answered(
        attempt=turn.attempt,
        first_seq=turn.seq if before is None or turn.turn == 1 else before.first_seq,
        seq=turn.seq,
        response_id=turn.response_id,
        provider=turn.provider,
        model=turn.model,
    )
