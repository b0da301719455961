"""A witness of one run: folds its events as they become durable and holds each against the engine's rules.

It knows nothing of the engine's own bookkeeping. What it finds wrong is kept in `problems`, because it is told of
events inside the engine's callbacks, where raising would be somebody else's failure.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import msgspec

from stepchain_tui.engine.revival import source_of
from stepchain_tui.engine.scheduler import limits_of
from stepchain_tui.engine.source import RunSource
from stepchain_tui.plan import ActionKind, OnInterrupt, Step
from stepchain_tui.run import Event, RunState, StepState
from stepchain_tui.run import events as e
from stepchain_tui.run.ids import parent_path, split_id
from stepchain_tui.run.status import STEP_ENDED, AttemptStatus, ErrorType, Mark, RunStatus, StepStatus
from stepchain_tui.run.step_state import AttemptState
from tests.support.random_runs import may_start, went_well

Place = tuple[str, int | None]
"""A step, or one item of it."""
_FOLLOWS_A_COMMAND = (
    e.StepInvalidated,
    e.StepSkipped,
    e.StepCancelled,
    e.StepPinned,
    e.RunRevised,
    e.RunResumed,
)


class Witness:
    """Sees one run.

    Attributes:
        state: What the durable events add up to.
        events: The durable events.
        holding: Steps and items whose body holds a slot, by the events.
        problems: What was found wrong.
        answered: How often each command was answered by an event.
        cancel_asked: Somebody called the run off, and no engine has gone on with it since.
        paused: Nothing may start.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.state = RunState()
        self.events: list[Event] = []
        self.holding: set[Place] = set()
        self.problems: list[str] = []
        self.answered: Counter[str] = Counter()
        self.cancel_asked = False
        self.paused = False
        self._source: RunSource | None = None
        self._command: e.CommandApplied | None = None
        self._used: Counter[Place] = Counter()
        self._last: Counter[Place] = Counter()
        self._promised: dict[Place, datetime] = {}
        self._revised_since: set[Place] = set()
        self._ended: dict[tuple[str, int | None, int], AttemptState] = {}
        self._done_keys: dict[str, str] = {}
        self._keys: dict[Place, tuple[int, str, str]] = {}
        self._renewed: Counter[str] = Counter()
        self._old_keys: dict[str, set[str]] = {}

    # --- what it is told

    def take(self, events: list[Event]) -> None:
        """Take durable events into account, each once."""
        for event in events:
            if event.seq <= self.state.last_seq:
                continue
            self._check_before(event)
            self.events.append(event)
            try:
                self.state.apply(event)
            except Exception as error:  # noqa: BLE001 - whatever the fold raises is the finding
                self._wrong(f"the fold refuses event {event}: {error!r}")
                return
            self._check_after(event)

    def begin_body(self, step_id: str, item: int | None, attempt: int, key: str) -> None:
        """Hear that a body began."""
        place = (step_id, item)
        step = self.state.steps.get(step_id)
        if step is None:
            self._wrong(f"the body of {step_id} runs, which the run does not have")
            return
        found = step.attempts.get((item, attempt))
        if found is None or found.status is not AttemptStatus.RUNNING:
            self._wrong(f"rule 2: the body of {place} attempt {attempt} runs, stored is {found and found.status}")
        if Mark.PINNED in step.marks:
            self._wrong(f"the body of {step_id} runs although it is pinned")
        if key in self._done_keys:
            self._wrong(f"rule 1: {place} runs again with the key {key}, done by {self._done_keys[key]}")
        if key in self._old_keys.get(step_id, ()):
            self._wrong(f"{place} was rerun and has its old key {key}")
        content = step.items[item].key if item is not None and step.items else ""
        known = self._keys.get(place)
        if known is not None and known[:2] == (self._renewed[step_id], content) and known[2] != key:
            self._wrong(f"the key of {place} changed from {known[2]} to {key} without a rerun")
        self._keys[place] = (self._renewed[step_id], content, key)

    @property
    def source(self) -> RunSource:
        """The run's plan as it is now."""
        assert self._source is not None
        return self._source

    def step_of(self, step_id: str) -> Step:
        """Return a step as the run's plan has it now."""
        return self.source.definition(step_id).step

    def _wrong(self, problem: str) -> None:
        self.problems.append(f"run {self.run_id}, event {self.state.last_seq + 1}: {problem}")

    # --- before an event is applied

    def _check_before(self, event: Event) -> None:
        if event.seq != self.state.last_seq + 1:
            self._wrong(f"event {event.seq} came after {self.state.last_seq}")
        if isinstance(event, e.StepStarted):
            self._check_start(event)
        elif isinstance(event, e.ItemStarted):
            self._check_item_start(event)
        elif isinstance(event, e.StepInvalidated):
            self._check_invalidated(event)
        elif isinstance(event, e.StepRetryScheduled | e.ItemRetryScheduled):
            self._check_retry(event)
        elif isinstance(event, e.CommandApplied):
            self._command = event
        if not isinstance(event, (e.CommandApplied, *_FOLLOWS_A_COMMAND)):
            self._command = None

    def _check_start(self, event: e.StepStarted) -> None:
        step = self.state.steps[event.step_id]
        definition = self.step_of(step.id)
        place: Place = (step.id, None)
        self._check_try(event, place, step)
        parents = [self.state.steps[name] for name in step.outline.parents]
        is_promised = place in self._promised
        if not is_promised and parents and not may_start(definition.trigger_rule.value, parents):
            self._wrong(f"rule 4: {step.id} started before its parents {[(p.id, p.status) for p in parents]}")
        if step.outline.part_of and self.state.steps[step.outline.part_of].status is not StepStatus.RUNNING:
            self._wrong(f"the part {step.id} started while {step.outline.part_of} does not run")
        if definition.when is False:
            self._wrong(f"{step.id} started although its `when` is false")
        if step.breakpoint == "before" and not step.passed and not is_promised and event.tries == 1:
            self._wrong(f"{step.id} ran over its breakpoint")
        if step.interruptions and definition.kind is not ActionKind.PLAN:
            asks = definition.on_interrupt is OnInterrupt.ASK
            if asks or definition.on_interrupt is OnInterrupt.SKIP:
                self._wrong(f"{step.id} was cut off and started again; its on_interrupt is {definition.on_interrupt}")
            if step.interruptions >= 3 and "on_interrupt" not in definition.model_fields_set:
                self._wrong(f"{step.id} was cut off {step.interruptions} times and started without asking")
        self._promised.pop(place, None)

    def _check_item_start(self, event: e.ItemStarted) -> None:
        step, place = self.state.steps[event.step_id], (event.step_id, event.item)
        self._check_try(event, place, step)
        if step.status is not StepStatus.RUNNING:
            self._wrong(f"item {place} started while its map is {step.status}")
        if step.items is not None and step.items[event.item].status in STEP_ENDED:
            self._wrong(f"rule 1: item {place} started after it ended")
        self._promised.pop(place, None)

    def _check_try(self, event: e.StepStarted | e.ItemStarted, place: Place, step: StepState) -> None:
        if self.paused:
            self._wrong(f"rule 9: {place} started in a pause")
        if Mark.PINNED in step.marks:
            self._wrong(f"{place} started although it is pinned")
        if event.attempt != self._last[place] + 1:
            self._wrong(f"rule 10: attempt {event.attempt} of {place} follows {self._last[place]}")
        if event.tries != self._used[place] + 1:
            self._wrong(f"rule 7: {place} says try {event.tries}, {self._used[place]} were used up")
        if event.tries > event.max_attempts and place not in self._revised_since:
            self._wrong(f"rule 7: {place} has try {event.tries} of {event.max_attempts}")
        due = self._promised.get(place)
        if due is not None and event.at < due:
            self._wrong(f"rule 7: the retry of {place} is due {due}, began {event.at}")
        self._last[place] = event.attempt
        self._used[place] += 1

    def _check_invalidated(self, event: e.StepInvalidated) -> None:
        step = self.state.steps[event.step_id]
        if event.stale:
            return
        if step.status is StepStatus.SUCCEEDED:
            said = self._command.command if self._command is not None else ""
            by_hand = said in ("rerun", "edit") or event.reason in ("fresh start", "expanded anew")
            if not by_hand:
                self._wrong(f"rule 1: {step.id} succeeded and is made pending by {event.reason!r}")
            elif event.reason == "edit" and self._command is not None and not self._command.arguments.get("rerun"):
                self._wrong(f"rule 11: {step.id} succeeded and an edit makes it pending without `rerun`")
        for place in [place for place in self._used if place[0] == step.id]:
            self._used[place] = 0
            self._promised.pop(place, None)
        self._promised.pop((step.id, None), None)
        if step.outline.part_of_item is not None:  # its item is undone with it
            outer = self.state.steps[step.outline.part_of]
            index = step.outline.part_of_item
            if outer.items and index < len(outer.items) and outer.items[index].status in STEP_ENDED:
                self._used[outer.id, index] = 0
        if event.again:
            self._renewed[step.id] += 1

    def _check_retry(self, event: e.StepRetryScheduled | e.ItemRetryScheduled) -> None:
        place: Place = (event.step_id, getattr(event, "item", None))
        if event.error.error_type is ErrorType.USER_ERROR:
            self._wrong(f"rule 7: a user error of {place} is retried")
        retry = self.step_of(event.step_id).retry
        if retry is not None and retry.max_attempts is not None and event.tries >= retry.max_attempts:
            self._wrong(f"rule 7: {place} is retried after {event.tries} of {retry.max_attempts} tries")
        if event.error.details.get("probe_out"):  # waiting for another call to find out costs no try
            self._used[place] -= 1
        self._promised[place] = event.retry_at
        self._revised_since.discard(place)

    # --- after it was applied

    def _check_after(self, event: Event) -> None:
        if isinstance(event, e.RunCreated | e.RunRevised):
            self._source = source_of(self.state)
            self._revised_since.update(self._used)
        elif isinstance(event, e.RunPaused):
            self.paused = True
        elif isinstance(event, e.RunResumed | e.RunStarted):
            self.paused = False
            if event.owner is not None:
                self.cancel_asked = False
        elif isinstance(event, e.CommandApplied | e.CommandRefused):
            self.answered[event.command_id] += 1
            if isinstance(event, e.CommandApplied):
                self._take_command(event)
        elif isinstance(event, e.StepInterrupted | e.ItemInterrupted):
            place = (event.step_id, getattr(event, "item", None))
            self._used[place] = max(0, self._used[place] - 1)
        elif isinstance(event, e.StepSucceeded):
            if (known := self._keys.get((event.step_id, None))) is not None and event.attempt:
                self._done_keys[known[2]] = f"event {event.seq}"
        elif isinstance(event, e.ItemSucceeded):
            if (known := self._keys.get((event.step_id, event.item))) is not None and event.attempt:
                self._done_keys[known[2]] = f"event {event.seq}"
        elif isinstance(event, e.RunFinished):
            self._check_end(event)
        elif isinstance(event, e.StepExpanded):  # the list is another one: its items begin anew
            for place in [place for place in self._used if place[0] == event.step_id and place[1] is not None]:
                self._used[place] = 0
                self._promised.pop(place, None)
        self._count_slots(event)
        self._check_attempts(event)

    def _take_command(self, event: e.CommandApplied) -> None:
        arguments = event.arguments
        if event.command == "cancel" and arguments.get("step") is None:
            self.cancel_asked = True
        elif event.command == "try_now":
            for place in [place for place in self._promised if place[0] == arguments["step"]]:
                self._promised[place] = event.at
        elif event.command == "rerun" and not arguments.get("failed"):
            step = self.state.steps[arguments["step"]]
            if Mark.PINNED not in step.marks:
                own = {known[2] for place, known in self._keys.items() if place[0] == step.id}
                self._old_keys.setdefault(step.id, set()).update(own)

    def _check_end(self, event: e.RunFinished) -> None:
        left = [step.id for step in self.state.steps.values() if not step.ended]
        if left:
            self._wrong(f"rule 6: the run is {event.status} and has no result of {left}")
        wanted = RunStatus.SUCCEEDED if went_well(self.state) else RunStatus.FAILED
        if event.status is RunStatus.CANCELLED:
            if not self.cancel_asked:
                self._wrong("rule 6: the run was cancelled by nobody")
        elif event.status is not wanted:
            self._wrong(f"rule 6: the run {event.status}, by its steps it {wanted}")

    def _count_slots(self, event: Event) -> None:
        step_id, attempt = getattr(event, "step_id", None), getattr(event, "attempt", None)
        if step_id is None or not attempt or (step := self.state.steps.get(step_id)) is None:
            return
        item = getattr(event, "item", None)
        found = step.attempts.get((item, attempt))
        holds = found is not None and found.status is AttemptStatus.RUNNING and step.outline.kind == "function"
        if not holds or (step.outline.is_map and item is None):
            self.holding.discard((step_id, item))
            return
        self.holding.add((step_id, item))
        if isinstance(event, e.StepStarted | e.ItemStarted):
            self._check_slots(step)

    def _check_slots(self, step: StepState) -> None:
        state = self.state
        if len(self.holding) > state.max_concurrent:
            self._wrong(f"rule 5: {len(self.holding)} run at once, {state.max_concurrent} may")
        definition = self.step_of(step.id)
        if definition.limit is not None:
            same = [place for place in self.holding if self.limit_of(place[0]) == self.limit_of(step.id)]
            size = limits_of(self.source, state)[self.limit_of(step.id)]
            if len(same) > size:
                self._wrong(f"rule 5: {same} run at once under the limit of {size}")
        if definition.max_concurrent is not None:
            items = [place for place in self.holding if place[0] == step.id]
            if len(items) > definition.max_concurrent:
                self._wrong(f"rule 5: {items} run at once, the map says {definition.max_concurrent}")
        path = parent_path(step.id)
        while path:
            outer = split_id(path)[0]
            subplan = self.source.subplan_of(self.source.definition(outer)).plan
            inside = [place for place in self.holding if place[0].startswith(f"{path}/")]
            if "max_concurrent" in subplan.model_fields_set and len(inside) > subplan.max_concurrent:
                self._wrong(f"rule 5: {inside} run at once, {path} says {subplan.max_concurrent}")
            path = parent_path(outer)

    def limit_of(self, step_id: str) -> str:
        """Return the name of the limit that a step counts against, as the run calls it; empty for none."""
        definition = self.source.definition(step_id)
        name = definition.step.limit or ""
        return name if definition.path is None or not name else f"{definition.path.name}:{name}"

    def _check_attempts(self, event: Event) -> None:
        """Hold that what has ended stays as it ended (rule 10); looked at where an event names the step."""
        step_id = getattr(event, "step_id", None)
        if step_id is None:
            return
        step = self.state.steps.get(step_id)
        for (item, n), attempt in step.attempts.items() if step is not None else ():
            known = self._ended.get((step_id, item, n))
            if known is not None and known != attempt:
                self._wrong(f"rule 10: the ended attempt {n} of {(step_id, item)} changed")
            if attempt.status is AttemptStatus.RUNNING and step is not None and step.ended:
                self._wrong(f"{step_id} is {step.status} and its attempt {(item, n)} runs")
            if attempt.status is not AttemptStatus.RUNNING and known is None:
                self._ended[step_id, item, n] = msgspec.structs.replace(attempt)

    def counts(self) -> dict[str, int]:
        """Return how many attempts each step has had, its items' included."""
        return {step.id: len(step.attempts) for step in self.state.steps.values()}

    def told(self) -> str:
        """Return the end of the history."""
        lines: list[str] = []
        for event in self.events[-40:]:
            fields: dict[str, Any] = msgspec.to_builtins(event)
            for name in ("run_id", "at", "plan", "steps", "plans", "input", "owner", "plan_text", "content_hash"):
                fields.pop(name, None)
            if "error" in fields:
                fields["error"] = fields["error"]["message"]
            lines.append(" ".join(f"{name}={value}" for name, value in fields.items()))
        return "\n".join(lines)
