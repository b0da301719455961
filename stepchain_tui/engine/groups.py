"""Sub-plans of one run: a `plan` step is open while its parts are carried out, and holds no slot meanwhile.

The parts are steps of the same run, started by the same frontier in the same slots; what is kept here is which
sub-plans are open, what their inputs are, and how many of their parts have not ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import InputError
from stepchain_tui.engine.body import failed, timed_out
from stepchain_tui.engine.calling_off import call_off, end_question, open_attempt, withdraw
from stepchain_tui.engine.readiness import UNSUCCESSFUL, is_failure
from stepchain_tui.engine.scheduler import Slots
from stepchain_tui.engine.work import Ending, Result, Work
from stepchain_tui.plan.inputs import resolve_inputs
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import AttemptError, Failure
from stepchain_tui.run.ids import parent_path, split_id
from stepchain_tui.run.status import STEP_ENDED, ErrorType, StepStatus
from stepchain_tui.run.step_state import StepState

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver


@dataclass(slots=True)
class _OpenPlan:
    """A sub-plan that is being carried out: the attempt that opened it, its inputs and its own bound on slots."""

    path: str
    work: Work
    inputs: dict[str, Any]
    slots: Slots | None
    cancelled: str | None = None
    overdue: bool = False
    closing: bool = False
    deadline: asyncio.Task[None] | None = None


class Groups:
    """The open sub-plans of one run, by path: `outer`, or `outer[2]` for an item of a map of plans."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._open: dict[str, _OpenPlan] = {}

    def is_open(self, step_id: str) -> bool:
        """Return whether the sub-plan that a part belongs to is being carried out."""
        return parent_path(step_id) in self._open

    def is_running(self, step_id: str) -> bool:
        """Return whether a `plan` step, or any item of it, is being carried out."""
        return any(split_id(path)[0] == step_id for path in self._open)

    def is_carried_out(self, step_id: str, item: int) -> bool:
        """Return whether an item of a map of plans is open."""
        return f"{step_id}[{item}]" in self._open

    def inputs_of(self, scope: str) -> Mapping[str, Any]:
        """Return the inputs of the sub-plan whose parts' ids begin with `scope`."""
        return self._open[scope.removesuffix("/")].inputs

    # --- slots

    def _bounds(self, scope: str) -> list[Slots]:
        found, path = [], scope.removesuffix("/")
        while path:
            step_id = split_id(path)[0]
            if (opened := self._open.get(path)) is not None and opened.slots is not None:
                found.append(opened.slots)
            path = parent_path(step_id)
        return found

    def has_room(self, scope: str) -> bool:
        """Return whether one more part may run by the `max_concurrent` of the sub-plans around it."""
        return all(slots.free for slots in self._bounds(scope))

    def took(self, scope: str) -> None:
        """Count a part's slot."""
        for slots in self._bounds(scope):
            slots.taken += 1

    def gave_back(self, scope: str) -> None:
        """Count a part's slot as free."""
        for slots in self._bounds(scope):
            slots.taken -= 1

    # --- opening

    def open(self, work: Work) -> None:
        """Carry out the sub-plan of an attempt that has begun."""
        driver, call = self._driver, work.call
        assert call is not None
        path = work.step.id if work.item is None else f"{work.step.id}[{work.item}]"
        subplan = driver.source.subplan_of(work.step.definition)
        try:
            inputs = resolve_inputs(subplan.plan, call.args, driver.source.working_folder, subplan.folder)
        except InputError as error:
            failure = AttemptError(error.message, error_type=ErrorType.USER_ERROR, hint=error.hint)
            driver.endings.conclude(work, failed(failure, work.step.kind))
            return
        bounded = "max_concurrent" in subplan.plan.model_fields_set
        opened = _OpenPlan(path, work, inputs, Slots(subplan.plan.max_concurrent) if bounded else None)
        self._open[path] = opened
        driver.release(work)
        if work.item is not None:
            driver.maps.took(work.step.id)  # its items at once are sub-plans at once
        if work.step.timeout is not None:
            moment = driver.core.clock.now() + driver.core.seconds(work.step.timeout)
            opened.deadline = driver.core.loop.create_task(
                self._end_at(moment, opened), name=f"deadline of {driver.run_id}/{path}"
            )
        parts = [driver.state.steps[step_id] for step_id in driver.graph.parts.get(path, ())]
        driver.find_work(parts)
        driver.maps.reopen_parts(parts)
        self._look(opened)

    def renew(self) -> None:
        """Go on with the open sub-plans by the run's new revision: their steps and inputs may be others now."""
        driver = self._driver
        for opened in list(self._open.values()):
            call, step_id = opened.work.call, opened.work.step.id
            assert call is not None
            opened.work.step = driver.prepared(step_id)
            subplan = driver.source.subplan_of(opened.work.step.definition)
            with contextlib.suppress(InputError):  # a new input without a value fails the steps that read it
                opened.inputs = resolve_inputs(subplan.plan, call.args, driver.source.working_folder, subplan.folder)
            self._look(opened)

    async def _end_at(self, moment: Any, opened: _OpenPlan) -> None:
        await self._driver.core.clock.sleep_until(moment)
        opened.deadline = None
        if self._open.get(opened.path) is opened:
            opened.overdue = True
            with self._driver.at_once():
                self._call_off(opened, "its plan ran longer than its timeout")
            self._driver.settle()

    # --- ending

    def step_ended(self, step: StepState) -> None:
        """Take note that a step has a result: a part may close its sub-plan, a `plan` step its parts."""
        if step.outline.part_of and (opened := self._open.get(parent_path(step.id))) is not None:
            self._look(opened)
        if step.outline.kind == "plan":
            self._close_parts(step)

    def _look(self, opened: _OpenPlan) -> None:
        steps, parts = self._driver.state.steps, self._driver.graph.parts.get(opened.path, ())
        if opened.closing or any(steps[step_id].status not in STEP_ENDED for step_id in parts):
            return
        opened.closing = True
        if opened.deadline is not None:
            opened.deadline.cancel()
        outputs = {step_id: steps[step_id].output for step_id in parts}
        if any(kept is not None and kept.blob is not None for kept in outputs.values()):
            self._driver.side_task(self._close_large(opened), f"gather {opened.path}")
        else:
            self._close(opened, {step_id: kept.value if kept else None for step_id, kept in outputs.items()})

    async def _close_large(self, opened: _OpenPlan) -> None:
        driver = self._driver
        steps, store = driver.state.steps, driver.core.store
        outputs = {step_id: steps[step_id].output for step_id in driver.graph.parts.get(opened.path, ())}
        try:
            values = {step_id: await store.load_value(kept) if kept else None for step_id, kept in outputs.items()}
        except Exception as error:  # noqa: BLE001 - a kept value that cannot be read: becomes the step's failure
            if self._open.pop(opened.path, None) is opened:
                self._conclude(opened, failed(error, opened.work.step.kind))
            return
        if self._open.get(opened.path) is opened:
            self._close(opened, values)

    def _close(self, opened: _OpenPlan, values: dict[str, Any]) -> None:
        steps = self._driver.state.steps
        self._open.pop(opened.path, None)
        output = {step_id.rpartition("/")[2]: value for step_id, value in values.items()}
        bad = [steps[step_id] for step_id in values if is_failure(steps[step_id])]
        call = opened.work.call
        assert call is not None
        if opened.overdue:
            self._conclude(opened, timed_out(call))
        elif opened.cancelled is not None:
            opened.work.stop_reason = opened.cancelled
            self._conclude(opened, Result(Ending.CANCELLED, reason=opened.cancelled))
        elif bad:
            self._conclude(opened, Result(Ending.FAILED, output=output, failure=_parts_failed(bad, len(values))))
        else:
            self._conclude(opened, Result(Ending.SUCCEEDED, output=output))

    def _conclude(self, opened: _OpenPlan, result: Result) -> None:
        if opened.work.item is not None:
            self._driver.maps.gave_back(opened.work.step.id)
        self._driver.endings.conclude(opened.work, result)

    def _close_parts(self, step: StepState) -> None:
        """Give a result to the parts of a `plan` step that ended without carrying them out."""
        driver = self._driver
        if step.status is StepStatus.WAITING:
            return
        did_not_run = step.status in UNSUCCESSFUL
        why = "was skipped" if step.status is StepStatus.SKIPPED else "has a result without it"
        for step_id in driver.graph.all_inside(step.id):
            part = driver.state.steps[step_id]
            if part.status in STEP_ENDED:
                continue
            if part.stands_after:
                driver.approvals.go_on(step_id, by=f"the end of {step.id}")
                continue
            withdraw(driver, part)
            end_question(driver, part, f"the end of {step.id}")
            begun = part.status is not StepStatus.PENDING  # it waits for an answer to an earlier engine, or for a retry
            if did_not_run and begun:
                driver.emit(
                    e.StepCancelled, step_id=step_id, reason=f"{step.id} did not run", attempt=open_attempt(part)
                )
            elif did_not_run:
                driver.emit(
                    e.StepBlocked, step_id=step_id, cause=step.cause or step.id, reason=f"{step.id} did not run"
                )
            else:
                driver.emit(
                    e.StepSkipped,
                    step_id=step_id,
                    cause=step.id,
                    reason=f"{step.id} {why}",
                    attempt=open_attempt(part),
                )

    # --- stopping

    def cancel(self, step_id: str, reason: str) -> None:
        """Call a `plan` step off: its parts are stopped, those that did not begin are cancelled."""
        for path, opened in list(self._open.items()):
            if split_id(path)[0] == step_id and opened.cancelled is None:
                opened.cancelled = reason
                self._call_off(opened, reason)

    def _call_off(self, opened: _OpenPlan, reason: str) -> None:
        driver = self._driver
        for step_id in driver.graph.parts.get(opened.path, ()):
            part = driver.state.steps[step_id]
            if part.status not in STEP_ENDED:
                call_off(driver, part, reason)
        self._look(opened)

    def interrupt(self, reason: str) -> None:
        """Send the open sub-plans back to pending, when none of their parts runs any more."""
        driver = self._driver
        self.drop_alarms()
        for opened in self._open.values():
            where: dict[str, Any] = {"step_id": opened.work.step.id, "attempt": opened.work.attempt}
            if opened.work.item is not None:
                driver.emit(e.ItemInterrupted, **where, item=opened.work.item, reason=reason)
            else:
                # the plan step does nothing itself: its parts tell what was cut off
                driver.emit(e.StepInterrupted, **where, reason=reason, asked=True)
        self._open.clear()

    def drop_alarms(self) -> None:
        """Let go of the deadlines."""
        for opened in self._open.values():
            if opened.deadline is not None:
                opened.deadline.cancel()
                opened.deadline = None


def _parts_failed(bad: list[StepState], count: int) -> Failure:
    first = next((step for step in bad if step.error is not None), bad[0])
    cause = first.error.message if first.error else first.reason or first.status.value
    return Failure(
        error_type=first.error.error_type if first.error else ErrorType.UNKNOWN,
        message=f"{len(bad)} of its {count} steps did not succeed; {first.id}: {cause}",
        exception=first.error.exception if first.error else "",
        hint="The results of its other steps are kept: a resume runs only those that did not succeed.",
        details={"failed_steps": [step.id for step in bad[:100]]},
    )
