"""Rehearsals: what a command would do to a run, found by doing it to a copy that nothing is stored of."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stepchain_tui.core.errors import CommandRefusedError
from stepchain_tui.engine.attempts import what_after_interruption
from stepchain_tui.engine.control import apply_command
from stepchain_tui.engine.driver import Driver
from stepchain_tui.engine.forecast import forecast_of_rest, took_by_step
from stepchain_tui.engine.fork import create, fork
from stepchain_tui.engine.graph import graph_of
from stepchain_tui.engine.receipt import Decision, Receipt, ReceiptLine, planned, seconds_of, tokens_of
from stepchain_tui.engine.recorder import Journal, Recorder
from stepchain_tui.engine.revival import go_on, source_at_rest
from stepchain_tui.engine.source import RunSource
from stepchain_tui.engine.steering import refusal
from stepchain_tui.engine.takeover import record_death
from stepchain_tui.plan import OnInterrupt, load_plan, resolve_inputs
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import StepStatus
from stepchain_tui.store.base import Command

if TYPE_CHECKING:
    from stepchain_tui.engine.core import EngineCore

_STEERING = ("rerun", "edit", "skip", "mark", "pin", "cancel")
"""Commands that can be rehearsed besides going on and forking."""


_MAY_ASK_MODELS = ("prompt", "agent", "plan")
"""Kinds of steps that a forecast can say something of."""


class _NothingStored(Recorder):
    """Remembers the events of a rehearsal; stores nothing and wakes nobody."""

    def __init__(self, core: EngineCore) -> None:
        super().__init__(core.store, lambda _: None)
        self.events: list[e.Event] = []

    def record(self, state: RunState, event: e.Event, step_id: str | None) -> None:
        """Remember an event."""
        self.events.append(event)

    def touch_all(self, run_id: str, state: RunState) -> None:
        """Do nothing."""

    def owner(self, run_id: str, owner: e.OwnerRecord | None) -> None:
        """Do nothing."""

    def answer(self, command_id: str, answer: dict[str, Any]) -> None:
        """Do nothing."""

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Do nothing: nothing is committed."""


class Rehearsal:
    """One copy of a run, and what is done to it.

    Args:
        core: The engine's shared parts.
        state: The run as it is stored; it is changed.
        owned: A living engine carries the run out.
        died: The engine that carried it out is dead: whoever goes on records that first.
    """

    def __init__(self, core: EngineCore, state: RunState, *, owned: bool = False, died: bool = False) -> None:
        self._recorder = _NothingStored(core)
        self._core = core.with_recorder(self._recorder)
        self._state = state
        self._owned = owned
        self._before = {step.id: step.status for step in state.steps.values()}
        self._took = took_by_step(state)
        self._journal = Journal(state.run_id, state, self._recorder, core.clock)
        if died:
            record_death(self._journal)

    async def with_forecast(self, receipt: Receipt) -> Receipt:
        """Return a receipt of this rehearsal with what its steps that are to run will probably take."""
        runs = {line.step_id for line in receipt.steps if line.decision is Decision.RUN}
        known = self._state.steps
        if not any(step_id in known and known[step_id].outline.kind in _MAY_ASK_MODELS for step_id in runs):
            return receipt
        found = await forecast_of_rest(self._core.store, self._state, self._source(), runs, self._took)
        return receipt.with_forecast(found)

    def resume(self, source: RunSource | None = None, *, fresh: bool = False) -> Receipt:
        """Return the receipt of going on with the run, with another plan if `source` is given.

        Raises:
            CommandRefusedError: A living engine carries it out.
        """
        if self._owned:
            raise CommandRefusedError(
                f"run '{self._state.run_id}' is being carried out", hint="There is nothing to resume."
            )
        go_on(self._journal, source or self._source(), self._core.hasher, fresh=fresh)
        return self._receipt("run" if source is not None else "resume")

    def source_from(self, plan_path: str) -> RunSource:
        """Return the run's source with the plan that a file holds now.

        Raises:
            PlanError: The plan has mistakes.
            InputError: It has an input that the run has no value of.
        """
        state, loaded = self._state, load_plan(Path(plan_path))
        secret = dict.fromkeys((name for name in state.secret_inputs if name in loaded.plan.inputs), "")
        known = {name: value for name, value in state.inputs.items() if name in loaded.plan.inputs}
        working_folder = Path(state.working_folder)
        return RunSource(
            plan=loaded.plan,
            folder=loaded.folder,
            path=loaded.path,
            text=loaded.text,
            working_folder=working_folder,
            inputs=resolve_inputs(loaded.plan, {**known, **secret}, working_folder, loaded.folder),
            checked=True,
        )

    def command(self, name: str, arguments: Mapping[str, Any]) -> Receipt:
        """Return the receipt of a command.

        Raises:
            CommandRefusedError: It would be refused.
        """
        if name not in _STEERING:
            raise CommandRefusedError(
                f"there is no receipt for '{name}'", hint=f"There is for: {', '.join(_STEERING)}."
            )
        driver = Driver(self._core, self._source(), self._journal, detach=True, passive=True)
        driver.start()
        order = Command(
            id=uuid.uuid4().hex,
            run_id=self._state.run_id,
            command=name,
            arguments=dict(arguments),
            sent_at=self._core.clock.now(),
        )
        answer = apply_command(driver, order)
        if not answer["ok"]:
            raise refusal(answer)
        return self._receipt(name)

    def fork(self, step_id: str) -> Receipt:
        """Return the receipt of forking the run at a step."""
        child = Journal(f"{self._state.run_id}-fork", RunState(), self._recorder, self._core.clock)
        self._recorder.events.clear()
        fork(child, self._source(), self._state, step_id)
        before = dict.fromkeys(child.state.steps, StepStatus.PENDING)
        receipt = planned("fork", self._state.run_id, before, child.state, self._recorder.events)
        lines = [self._line_of_child(line, step_id) for line in receipt.steps]
        return msgspec.structs.replace(receipt, steps=tuple(lines))

    def _line_of_child(self, line: ReceiptLine, forked_at: str) -> ReceiptLine:
        """Return a line of a fork's receipt with what only the parent knows: how long its results took to make."""
        known = self._state.steps.get(line.step_id)
        if known is None or known.status is not StepStatus.SUCCEEDED:
            return line
        if line.decision is not Decision.RUN:
            return msgspec.structs.replace(line, seconds=seconds_of(known), **tokens_of(known.spent))
        reason = "forked here" if line.step_id == forked_at else f"it follows {forked_at}"
        return msgspec.structs.replace(line, reason=reason)

    def _source(self) -> RunSource:
        return source_at_rest(self._state)

    def _receipt(self, command: str) -> Receipt:
        receipt = planned(command, self._state.run_id, self._before, self._state, self._recorder.events)
        return with_interruptions(receipt, self._state, self._source())


def with_interruptions(receipt: Receipt, state: RunState, source: RunSource) -> Receipt:
    """Return a receipt that tells what becomes of steps that were cut off and are asked about, or skipped.

    Args:
        receipt: What was rehearsed.
        state: The run after that.
        source: Its source, whose steps say what is to be done (`on_interrupt`).
    """
    told: dict[str, tuple[Decision, str]] = {}
    graph = graph_of(source, state)
    pending = [step for step in state.steps.values() if step.interruptions and step.status is StepStatus.PENDING]
    for step in pending:
        what = what_after_interruption(source.definition(step.id).step, step)
        if what is OnInterrupt.ASK:
            told[step.id] = (Decision.RUN, "it was cut off: you are asked first whether it runs again")
        elif what is OnInterrupt.SKIP:
            told[step.id] = (Decision.LEAVE, "it was cut off, and its on_interrupt is skip")
            around = graph.all_around(step.id)
            for other in graph.followers([step.id], stop_at=around.__contains__):
                if state.steps[other].status is StepStatus.PENDING and other not in graph.rules:
                    told.setdefault(other, (Decision.LEAVE, f"it follows {step.id}, which is skipped"))
    lines = [
        msgspec.structs.replace(line, decision=told[line.step_id][0], reason=told[line.step_id][1])
        if line.step_id in told
        else line
        for line in receipt.steps
    ]
    return msgspec.structs.replace(receipt, steps=tuple(lines))


def receipt_of_start(core: EngineCore, source: RunSource) -> Receipt:
    """Return the receipt of a run that does not exist yet: every step is new."""
    recorder = _NothingStored(core)
    journal = Journal("", RunState(), recorder, core.clock)
    create(journal, source)
    before = {step_id: step.status for step_id, step in journal.state.steps.items()}
    return planned("run", "", before, journal.state, recorder.events)
