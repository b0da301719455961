"""Recordings: what a run kept of its exchanges with the outside, as a replay of it takes them.

Of each step, and of each item of a map, the result that holds now counts, with the attempt that gave it: what was
tried before is not replayed. A recording holds no secrets: where a plan reads one, a word stands in for it that is
masked on the way to the store just as the secret was.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from stepchain_tui.core.errors import CommandRefusedError, UnknownRunError, UsageError, did_you_mean
from stepchain_tui.core.values import encode_json
from stepchain_tui.engine.source import RunSource
from stepchain_tui.plan import (
    ActionKind,
    InputType,
    Plan,
    SubPlan,
    load_plan,
    plan_from_json,
    resolve_inputs,
    subplans_from_json,
)
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import STEP_ENDED, Mark, StepStatus
from stepchain_tui.run.step_state import AttemptState, ItemState, StepState
from stepchain_tui.run.values import Kept
from stepchain_tui.store.base import AbstractStore
from stepchain_tui.store.imports import require_trust

_Place = tuple[str, int | None]
WITHHELD = "withheld-{name}-"
"""What stands in for a secret: a plain word, so that quoting leaves it as it is, and long enough to be masked."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one step, or of one item of a map.

    Attributes:
        status: How it stands; one that has no result was not carried out to its end.
        end: The event that gave the result, None where there is none.
        attempt: The attempt that gave it, None where none did: it was set by hand, pinned or taken over.
        calls: What was said and called on the way to it, in order.
        answer: What a person said to an `approve` step.
        stale: It was made from results that are others now.
    """

    status: StepStatus
    end: e.StepEnd | e.ItemEvent | None = None
    attempt: AttemptState | None = None
    calls: tuple[e.CallEvent, ...] = ()
    answer: e.StepResumed | None = None
    stale: bool = False

    @property
    def by_hand(self) -> bool:
        """Whether a result holds that no attempt of the run made."""
        return isinstance(self.end, e.StepSucceeded) and self.attempt is None


@dataclass(eq=False)
class Recording:
    """What a run kept. Make it with `Recording.of` or `load_recording`.

    Attributes:
        state: The run.
        ends: The event that last gave a step or an item a result.
        calls: What was said and called on the way to it.
        answers: What was last said to an `approve` step.
        has_log: Whether the run wrote any log.
    """

    state: RunState
    ends: dict[_Place, e.StepEnd | e.ItemEvent] = field(default_factory=dict)
    calls: dict[_Place, list[e.CallEvent]] = field(default_factory=dict)
    answers: dict[_Place, e.StepResumed] = field(default_factory=dict)
    has_log: bool = False

    @classmethod
    def of(cls, events: Iterable[e.Event], *, has_log: bool = True) -> Recording:
        """Return the recording that a run's events hold."""
        found = cls(RunState(), has_log=has_log)
        for event in events:
            found.state.apply(event)
            found._take(event)
        return found

    @property
    def run_id(self) -> str:
        """The run."""
        return self.state.run_id

    def _take(self, event: e.Event) -> None:
        match event:
            case e.StepStarted() | e.ItemStarted():
                place = (event.step_id, getattr(event, "item", None))
                self.ends.pop(place, None)
                if not any(isinstance(call, e.ModelTurn) for call in self.calls.get(place, ())):
                    self.calls.pop(place, None)  # a conversation goes on over attempts, nothing else does
            case e.ModelTurn() | e.ToolStarted() | e.ToolFinished() | e.ToolApprovalAsked():
                calls = self.calls.setdefault((event.step_id, event.item), [])
                if isinstance(event, e.ModelTurn) and event.turn == 1:  # a conversation that was begun anew
                    calls[:] = [call for call in calls if call.attempt == event.attempt]
                calls.append(event)
            case e.StepResumed():
                if event.attempt is not None:
                    self.answers[event.step_id, event.item] = event
            case e.StepInvalidated():
                if event.again:
                    for place in [place for place in self.calls if place[0] == event.step_id]:
                        del self.calls[place]
            case (
                e.StepSucceeded()
                | e.StepFailed()
                | e.StepTimedOut()
                | e.StepSkipped()
                | e.StepBlocked()
                | e.StepCancelled()
            ):
                self.ends[event.step_id, None] = event
            case e.ItemSucceeded() | e.ItemFailed() | e.ItemTimedOut() | e.ItemCancelled():
                self.ends[event.step_id, event.item] = event
            case e.StepExpanded():
                self._expanded(event)

    def _expanded(self, event: e.StepExpanded) -> None:
        """Take over what is known of items that were taken over from another place in the list."""
        places = [place for place in self.ends if place[0] == event.step_id and place[1] is not None]
        before = {place[1]: (self.ends.pop(place), self.calls.pop(place, [])) for place in places}
        for index, item in enumerate(event.items):
            if item.reuse is not None and item.reuse in before:
                place = (event.step_id, index)
                self.ends[place], self.calls[place] = before[item.reuse]

    # --- what became of what

    def step(self, step_id: str) -> Recorded | None:
        """Return what became of a step, None where the run has none of that id."""
        step = self.state.steps.get(step_id)
        if step is None:
            return None
        end = self.ends.get((step_id, None)) if step.ended or step.done else None
        status = StepStatus.SUCCEEDED if step.done else step.status
        stale = Mark.STALE in step.marks
        return self._recorded(step, None, status, end, stale=stale)

    def item(self, step_id: str, index: int, key: str) -> Recorded | None:
        """Return what became of an item of a map, None where the run has none of that content.

        Args:
            step_id: The map.
            index: The item's place in the list.
            key: The hash of the item's content; an item of another place will do where that one is another.
        """
        step = self.state.steps.get(step_id)
        found = _item_like(step.items or [], index, key) if step is not None else None
        if step is None or found is None:
            return None
        end = self.ends.get((step_id, found.index)) if found.status in STEP_ENDED else None
        return self._recorded(step, found.index, found.status, end, stale=Mark.STALE in step.marks)

    def _recorded(self, step: StepState, item: int | None, status: StepStatus, end: Any, *, stale: bool) -> Recorded:
        number, answer = getattr(end, "attempt", None) or 0, self.answers.get((step.id, item))
        return Recorded(
            status=status,
            end=end,
            attempt=step.attempts.get((item, number)),
            calls=tuple(self.calls.get((step.id, item), ())),
            answer=answer if answer is not None and answer.attempt == number else None,
            stale=stale,
        )

    def given_input(self, step_id: str) -> Kept | None:
        """Return what a step got instead of its own input, because a person changed that at a breakpoint."""
        step = self.state.steps.get(step_id)
        return step.given_input if step is not None else None

    @cached_property
    def source(self) -> RunSource:
        """The plan that the run keeps; nothing is carried out with it."""
        return self.kept_source()

    def kept_source(self) -> RunSource:
        """Return the plan that the run keeps with its inputs; what stands in for its secrets is among them."""
        state = self.state
        plan, plans = plans_of(state)
        return RunSource(
            plan=plan,
            folder=Path(state.plan_folder),
            path=Path(state.plan_path) if state.plan_path else None,
            text=state.plan_text,
            working_folder=Path(state.working_folder),
            max_concurrent=state.max_concurrent,
            plans=plans,
            kept=True,
            inputs={**state.inputs, **stand_ins(state.secret_inputs)},
        )


def plans_of(state: RunState) -> tuple[Plan, dict[str, SubPlan]]:
    """Return the plan that a run keeps, and those that its `plan` steps run, by file.

    Raises:
        UsageError: One of them is none: the run was imported, or another version wrote it.
    """
    try:
        return plan_from_json(encode_json(state.plan)), subplans_from_json(state.plans)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    except (LookupError, TypeError, AttributeError):
        problem = "a plan in it has no text or no folder"
    raise UsageError(
        f"the plan that run '{state.run_id}' keeps is none: {problem}", hint="The run can be looked at, and not run."
    )


async def load_recording(store: AbstractStore, run_id: str) -> Recording:
    """Return the recording of a run.

    Raises:
        UnknownRunError: There is no such run.
        StoreError: Part of it cannot be read.
    """
    return Recording.of(await store.read_events(run_id), has_log=await store.count_log(run_id) > 0)


async def prepare_replay(
    store: AbstractStore,
    run_id: str,
    servers: Mapping[str, Mapping[str, Any]],
    *,
    plan_path: str | None,
    inputs: Mapping[str, Any],
    live: Iterable[str],
) -> RunSource:
    """Return what a replay of a run is made from; arguments as for `Engine.replay`, `servers` are the settings'.

    Raises:
        UnknownRunError: The store does not hold the run.
        UntrustedRunError: The run was imported and its steps are to be carried out, or its import was cut off.
        CommandRefusedError: Somebody carries the run out.
        PlanError: The plan has mistakes.
        InputError: An input is missing, unknown or badly typed.
        UsageError: A kind in `live` is none.
        StoreError: Part of the recording cannot be read.
    """
    summary, kinds = await store.get_run(run_id), kinds_of(live)
    if kinds or (summary.imported is not None and not summary.imported.whole):
        require_trust(summary.run_id, summary.imported)
    if store.owner_alive(summary.run_id):
        raise CommandRefusedError(f"run '{summary.run_id}' is still being carried out", hint="Wait until it ends.")
    recording = await load_recording(store, summary.run_id)
    source = source_of_replay(recording, plan_path, inputs)
    source.know_servers(servers)
    go_on_replaying(source, recording, kinds)
    return source


async def recording_of_replay(store: AbstractStore, state: RunState) -> Recording:
    """Return the recording that a replay was made from, to go on with it.

    Raises:
        CommandRefusedError: It was deleted: the steps of a replay are never carried out without it.
    """
    try:
        summary = await store.get_run(state.replay_of)
        if summary.run_id == state.replay_of:
            return await load_recording(store, state.replay_of)
    except UnknownRunError:
        pass
    raise CommandRefusedError(
        f"run '{state.run_id}' replays run '{state.replay_of}', which was deleted",
        hint="What it replayed can be looked at; there is nothing to go on with.",
    )


def stand_ins(names: Iterable[str]) -> dict[str, str]:
    """Return what stands in for secrets, by name."""
    return {name: WITHHELD.format(name=name) for name in names}


def go_on_replaying(source: RunSource, recording: Recording, live: tuple[str, ...]) -> None:
    """Make a plan's source that of a replay; its servers are known.

    Every secret that the plan names has a value then: what is really in the environment where steps are carried out,
    else a word that stands in for it.

    Args:
        source: The source; it is changed.
        recording: What is replayed.
        live: Kinds of steps that are carried out.
    """
    source.recording, source.live = recording, live
    source.environment = {**stand_ins(sorted(source.secret_names)), **(os.environ if live else {})}
    for name in ("secrets", "redactor"):
        source.__dict__.pop(name, None)


def source_of_replay(recording: Recording, plan_path: str | None, inputs: Mapping[str, Any]) -> RunSource:
    """Return what a replay is made from.

    Args:
        recording: What is replayed.
        plan_path: The plan's file, None for the plan that the recorded run keeps.
        inputs: Inputs that are other ones now, or that the recording has no value of.

    Raises:
        PlanError: The plan has mistakes.
        InputError: An input is missing, unknown or badly typed.
    """
    state, source = recording.state, recording.kept_source()
    if plan_path is not None:
        loaded = load_plan(Path(plan_path))
        source = RunSource(
            plan=loaded.plan,
            folder=loaded.folder,
            path=loaded.path,
            text=loaded.text,
            working_folder=source.working_folder,
            checked=True,
        )
    elif not inputs:
        return source
    plan = source.plan
    known = {name: value for name, value in state.inputs.items() if name in plan.inputs}
    secret = [name for name, spec in plan.inputs.items() if spec.type is InputType.SECRET]
    given = {**known, **stand_ins(secret), **inputs}
    source.inputs = resolve_inputs(plan, given, source.working_folder, source.folder)
    return source


def kinds_of(words: Iterable[str]) -> tuple[str, ...]:
    """Return kinds of steps that a replay can carry out, each once, in the order of the plan's actions.

    Raises:
        UsageError: A word is no such kind.
    """
    known = [kind.value for kind in ActionKind if kind is not ActionKind.PLAN]
    wanted = set(words)
    for word in sorted(wanted.difference(known)):
        hint = did_you_mean(word, known) or f"The kinds are: {', '.join(known)}."
        raise UsageError(f"there is no kind of steps '{word}' that could be carried out", hint=hint)
    return tuple(kind for kind in known if kind in wanted)


def refuse_fork(state: RunState) -> None:
    """See that a run may be forked: the steps of a replay are never carried out.

    Raises:
        CommandRefusedError: It is a replay.
    """
    if state.replay_of:
        raise CommandRefusedError(
            f"run '{state.run_id}' is a replay", hint=f"Fork run '{state.replay_of}', which it replays."
        )


def _item_like(items: list[ItemState], index: int, key: str) -> ItemState | None:
    if index < len(items) and items[index].key == key:
        return items[index]
    return next((item for item in items if item.key == key), None)
