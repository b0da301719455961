"""Questions to a person: a step waits, holds no slot, and goes on with the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import CommandRefusedError, InputError
from stepchain_tui.engine.work import Work
from stepchain_tui.plan import InputSpec, Plan
from stepchain_tui.plan.inputs import resolve_inputs
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.step_state import BREAKPOINT, BUDGET, TOOL_APPROVAL, StepState
from stepchain_tui.run.values import Kept

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

APPROVAL = "approval"
INTERRUPTED = "interrupted"


@dataclass(slots=True)
class _Open:
    """A question that nobody has answered yet."""

    work: Work | None
    waiting: e.StepWaiting
    deadline: asyncio.Task[None] | None = None


class Approvals:
    """The open questions of one run."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.open: dict[str, _Open] = {}
        self.one_by_one: set[str] = set()
        """Maps whose items ask before their tool is called: as one question is asked at a time, so one item runs."""

    @property
    def steps(self) -> tuple[str, ...]:
        """Ids of the steps that wait."""
        return tuple(sorted(self.open))

    @property
    def has_deadline(self) -> bool:
        """Whether a question will be answered by the clock if nobody does."""
        return any(found.waiting.deadline is not None for found in self.open.values())

    def ask(self, work: Work) -> None:
        """Ask what an approve step asks; its attempt has begun."""
        step, call = work.step.step, work.call
        assert call is not None
        deadline = None
        if step.timeout is not None:
            deadline = self._driver.core.clock.now() + self._driver.core.seconds(step.timeout)
        fields = {name: spec.model_dump(mode="json", exclude_unset=True) for name, spec in (step.fields or {}).items()}
        self.wait(
            work,
            step_id=work.step.id,
            reason=APPROVAL,
            question=str(call.value),
            fields=fields,
            deadline=deadline,
            on_timeout=(step.on_timeout.value if step.on_timeout else "deny") if deadline else "",
            attempt=work.attempt,
            item=work.item,
        )

    def ask_before_another_try(self, step: StepState) -> None:
        """Ask before a step that was cut off again and again is tried once more."""
        times = f"{step.interruptions} times" if step.interruptions > 1 else "once"
        last = step.last
        which = f" Its attempt {last.n} began at {last.started_at:%H:%M:%S} UTC and never reported." if last else ""
        self.wait(
            None,
            step_id=step.id,
            reason=INTERRUPTED,
            question=f"{step.id} was cut off {times} by the end of its engine, so its effect may have happened."
            f"{which} Run it again, take it as done, or skip it?",
        )

    def stop_at(self, step: StepState, place: str, shown: Kept | None) -> None:
        """Stop before or after a step until a person lets it go on; it holds no slot.

        Args:
            step: The step.
            place: `before` or `after`.
            shown: What the step would get, for a stop before it; None for a map, whose items are not known yet.
        """
        what = "Let it run?" if place == "before" else "Its output is kept. Let the steps that follow go on?"
        self.wait(
            None,
            step_id=step.id,
            reason=BREAKPOINT,
            question=f"Stopped at the breakpoint {place} {step.id}. {what}",
            place=place,
            input=shown,
        )

    def asks_for_tool(self, step_id: str) -> bool:
        """Return whether the step waits for a word on a tool call."""
        found = self.open.get(step_id)
        return found is not None and found.waiting.reason == TOOL_APPROVAL

    def asks_about_budget(self, step_id: str) -> bool:
        """Return whether the step waits at a budget."""
        found = self.open.get(step_id)
        return found is not None and found.waiting.reason == BUDGET

    def renew(self, step_id: str) -> None:
        """Take note that the run's plan was revised while a question is open."""
        work = self.open[step_id].work
        if work is not None:
            work.step = self._driver.prepared(step_id)

    def wait(self, work: Work | None, **fields: Any) -> None:
        """Record that a step waits, and for what; `fields` are those of `StepWaiting`."""
        self._driver.emit(e.StepWaiting, **fields)
        step = self._driver.state.steps[fields["step_id"]]
        assert step.waiting is not None
        self._register(work, step.waiting)

    def take_up(self, step: StepState) -> None:
        """Go on waiting for an answer that was asked for by an earlier engine."""
        waiting = step.waiting
        assert waiting is not None
        work = None
        if waiting.attempt is not None:
            work = Work(self._driver.prepared(step.id), waiting.item, tries=step.tries - 1, attempt=waiting.attempt)
        self._register(work, waiting)

    def _register(self, work: Work | None, waiting: e.StepWaiting) -> None:
        found = _Open(work, waiting)
        self.open[waiting.step_id] = found
        if waiting.deadline is not None and not self._driver.passive:
            core = self._driver.core
            found.deadline = core.loop.create_task(
                self._answer_at(waiting.deadline, waiting.step_id), name=f"deadline of {waiting.step_id}"
            )

    async def _answer_at(self, moment: datetime, step_id: str) -> None:
        await self._driver.core.clock.sleep_until(moment)
        found = self.open[step_id]
        found.deadline = None
        self.answer(step_id, approved=found.waiting.on_timeout == "approve", fields={}, by="timeout")
        self._driver.settle()

    def check(self, step_id: str, approved: bool, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of an answer, typed.

        Raises:
            CommandRefusedError: The step does not wait, or the fields do not fit; it goes on waiting.
        """
        found = self.open.get(step_id)
        if found is None:
            status = self._driver.state.step(step_id).status
            raise CommandRefusedError(f"step '{step_id}' is {status} and waits for no answer")
        if not approved:
            return {}
        asked = Plan(
            steps=(), inputs={name: InputSpec.model_validate(spec) for name, spec in found.waiting.fields.items()}
        )
        try:
            return resolve_inputs(asked, fields, self._driver.source.working_folder)
        except InputError as error:
            message = error.message.replace("input '", "field '").replace("missing input", "missing field")
            asked_for = ", ".join(f"{name} ({spec.type})" for name, spec in asked.inputs.items())
            raise CommandRefusedError(message, hint=f"Answer again; it asks for {asked_for or 'no fields'}.") from error

    def is_breakpoint(self, step_id: str) -> bool:
        """Return whether the step stands at a breakpoint."""
        found = self.open.get(step_id)
        return found is not None and found.waiting.reason == BREAKPOINT

    def go_on(self, step_id: str, *, by: str, given: Kept | None = None) -> None:
        """Let a step go on from its breakpoint.

        Args:
            step_id: The step.
            by: Who says so.
            given: Its input instead of what was shown, or, after the step, its output; None to leave them.
        """
        driver, waiting = self._driver, self.open.pop(step_id).waiting
        before = waiting.place == "before"
        driver.emit(e.StepResumed, step_id=step_id, answer={"approved": True}, by=by, input=given if before else None)
        if before:
            driver.frontier.consider(step_id)
            return
        if given is not None:
            driver.emit(e.StepSucceeded, step_id=step_id, attempt=0, output=given, by=by)
        driver.frontier.step_ended(step_id)

    def answer(self, step_id: str, *, approved: bool, fields: dict[str, Any], by: str) -> None:
        """Go on with an answer whose fields were checked."""
        driver = self._driver
        found = self.open.pop(step_id)
        if found.deadline is not None:
            found.deadline.cancel()
        waiting, work = found.waiting, found.work
        said = {"approved": approved, "fields": fields}
        driver.emit(e.StepResumed, step_id=step_id, answer=said, by=by, attempt=waiting.attempt, item=waiting.item)
        if waiting.reason == INTERRUPTED:
            if approved:
                driver.frontier.consider(step_id)
            else:
                driver.emit(e.StepCancelled, step_id=step_id, reason=f"not tried again, said {by}")
                driver.frontier.step_ended(step_id)
            return
        assert work is not None
        where: dict[str, Any] = {"step_id": step_id, "attempt": work.attempt}
        output = driver.core.store.keep(said, driver.source.redactor)
        failure = None if approved else denied(by)
        if work.item is not None:
            if failure is None:
                driver.emit(e.ItemSucceeded, **where, item=work.item, output=output)
            else:
                driver.emit(e.ItemFailed, **where, item=work.item, error=failure)
            driver.maps.item_ended(step_id)
            return
        if failure is None:
            driver.endings.succeed_step(step_id, work.attempt, output)
        else:
            driver.endings.fail_step(step_id, work.attempt, failure, output)

    def withdraw(self, step_id: str) -> Work | None:
        """Stop waiting without an answer; returns the attempt that waited."""
        found = self.open.pop(step_id, None)
        if found is None:
            return None
        if found.deadline is not None:
            found.deadline.cancel()
        return found.work

    def drop_alarms(self) -> None:
        """Let go of the deadlines; the questions stay open in the state."""
        for found in self.open.values():
            if found.deadline is not None:
                found.deadline.cancel()


def denied(by: str) -> Failure:
    """Return the failure of what a person said no to, or the clock."""
    if by == "timeout":
        message, hint = "nobody answered in time, which counts as a no", "Rerun the step to be asked again."
    else:
        message, hint = f"denied by {by or 'a person'}", "Rerun the step to be asked again."
    return Failure(error_type=ErrorType.USER_ERROR, message=message, exception="Denied", hint=hint)
