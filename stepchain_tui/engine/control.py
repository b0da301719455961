"""Commands to a run: each is checked, then takes effect whole, or is refused and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import (
    CommandRefusedError,
    InternalError,
    StepChainError,
    UsageError,
    did_you_mean,
)
from stepchain_tui.engine.work import Stop
from stepchain_tui.run import events as e
from stepchain_tui.run.state import StepState
from stepchain_tui.run.status import STEP_ENDED, RunStatus, StepStatus
from stepchain_tui.store.base import Command

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

Answer = dict[str, Any]
_BUSY = (StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.WAITING)


def apply_command(driver: Driver, command: Command) -> Answer:
    """Apply a command to a run and return its answer, `{"ok": bool, "message": str, "hint": str}`.

    The answer and the events are stored in one commit.
    """
    control = _Control(driver, command)
    try:
        handler = control.handlers.get(command.command)
        if handler is None:
            hint = did_you_mean(command.command, control.handlers)
            raise UsageError(f"there is no command '{command.command}'", hint=hint)
        answer: Answer = {"ok": True, "message": handler()}
        driver.settle()
    except StepChainError as error:
        driver.emit(
            e.CommandRefused,
            command_id=command.id,
            command=command.command,
            arguments=command.arguments,
            by=command.sender,
            reason=error.message,
        )
        answer = {"ok": False, "message": error.message, "hint": error.hint, "kind": error.kind}
    except Exception as error:  # noqa: BLE001 - a bug of ours must end the run with its traceback, not hang it
        driver.abort(error)
        bug = InternalError(f"{type(error).__name__}: {error}")
        return {"ok": False, "message": bug.message, "hint": bug.hint, "kind": bug.kind}
    driver.core.recorder.answer(command.id, answer)
    return answer


class _Control:
    """One command on its way; `_accept` is the point after which nothing may be refused."""

    def __init__(self, driver: Driver, command: Command) -> None:
        self.driver = driver
        self.command = command
        self.state = driver.state
        self.handlers: dict[str, Callable[[], str]] = {
            "pause": self.pause,
            "resume": self.resume,
            "cancel": self.cancel,
            "rerun": self.rerun,
            "skip": self.skip,
            "approve": self.approve,
            "try_now": self.try_now,
        }

    def _accept(self) -> None:
        self.driver.emit(
            e.CommandApplied,
            command_id=self.command.id,
            command=self.command.command,
            arguments=self.command.arguments,
            by=self.command.sender,
        )

    def _step(self) -> StepState:
        step_id = self.command.arguments.get("step")
        if not isinstance(step_id, str):
            raise UsageError(f"'{self.command.command}' needs a step")
        return self.state.step(step_id)

    @property
    def _by(self) -> str:
        return self.command.sender or "a person"

    # --- the run

    def pause(self) -> str:
        driver, now = self.driver, bool(self.command.arguments.get("now"))
        if self.state.status not in (RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED):
            raise CommandRefusedError(f"the run cannot be paused, it {_as_told(self.state.status)}")
        if driver.paused and not now:
            raise CommandRefusedError("the run is paused already")
        if driver.cancelling is not None:
            raise CommandRefusedError("the run is being cancelled")
        self._accept()
        if not driver.paused:
            driver.emit(e.RunPaused, reason=f"paused by {self._by}", now=now)
            driver.paused = True
        if now:
            driver.stop_all(Stop.PAUSE, "paused at once")
        left = len(driver.bodies)
        return "paused" if not left else f"pausing: {left} running {'stops' if now else 'finishes'} first"

    def resume(self) -> str:
        driver = self.driver
        if not driver.paused:
            raise CommandRefusedError(f"the run is not paused, it {_as_told(self.state.status)}")
        self._accept()
        driver.paused = False
        driver.emit(e.RunResumed, reason=f"resumed by {self._by}")
        for step_id, step in self.state.steps.items():
            if step.status is StepStatus.PENDING and step_id not in driver.frontier.ready:
                driver.frontier.consider(step_id)
        return "resumed"

    def cancel(self) -> str:
        if self.command.arguments.get("step") is not None:
            return self._cancel_step()
        driver = self.driver
        if driver.cancelling is not None:
            raise CommandRefusedError("the run is being cancelled already")
        if self.state.status in (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED):
            raise CommandRefusedError(f"the run is over: it {self.state.status}")
        self._accept()
        reason = f"cancelled by {self._by}"
        driver.cancelling = reason
        for step in self.state.steps.values():
            if step.status not in STEP_ENDED:
                self._call_off(step, reason)
        if driver.passive:
            driver.emit(e.RunFinished, status=RunStatus.CANCELLED, reason=reason)
        return "cancelled"

    # --- a step

    def _cancel_step(self) -> str:
        step = self._step()
        if step.status in STEP_ENDED:
            raise CommandRefusedError(f"step '{step.id}' is over: it is {step.status}")
        self._accept()
        self._call_off(step, f"cancelled by {self._by}")
        return f"{step.id} cancelled"

    def _call_off(self, step: StepState, reason: str) -> None:
        driver = self.driver
        if driver.maps.is_open(step.id):
            driver.approvals.withdraw(step.id)
            driver.maps.cancel(step.id, reason)
            return
        body = driver.bodies.get((step.id, None))
        if body is not None and body.attempt and step.status is StepStatus.RUNNING:
            driver.stop_body(body, Stop.CANCEL, reason)
            return
        self._withdraw(step)
        attempt = step.attempt if step.status in (StepStatus.WAITING, StepStatus.RUNNING) else None
        driver.emit(e.StepCancelled, step_id=step.id, reason=reason, attempt=attempt or None)
        driver.frontier.step_ended(step.id)

    def _withdraw(self, step: StepState) -> None:
        """Take a step out of the queue, off its alarm and off its question."""
        driver = self.driver
        driver.frontier.withdraw(step.id)
        if (alarm := driver.alarms.waiting.pop((step.id, None), None)) is not None:
            alarm[1].cancel()
        driver.approvals.withdraw(step.id)

    def rerun(self) -> str:
        driver, step = self.driver, self._step()
        following = driver.source.graph.descendants(step.id)
        targets = [step.id, *following] if self.command.arguments.get("downstream") else [step.id]
        for step_id in targets:
            other = self.state.steps[step_id]
            if other.status in _BUSY:
                hint = "Cancel it first, or press t to try it now." if other.status is StepStatus.RETRYING else ""
                raise CommandRefusedError(f"step '{step_id}' is {other.status}", hint=hint or "Cancel it first.")
        if driver.cancelling is not None:
            raise CommandRefusedError("the run is being cancelled")
        if step.status in (StepStatus.PENDING, StepStatus.QUEUED):
            raise CommandRefusedError(f"step '{step.id}' is {step.status}: it has not run yet")
        self._accept()
        self._make_pending(targets, step.id)
        for step_id in following:
            other = self.state.steps[step_id]
            stands_on_it = other.status in STEP_ENDED or other.status in (StepStatus.RUNNING, StepStatus.WAITING)
            if step_id not in targets and stands_on_it:
                driver.emit(e.StepInvalidated, step_id=step_id, reason="rerun", cause=step.id, stale=True)
        if driver.paused or self.state.status is not RunStatus.RUNNING:
            driver.paused = False
            driver.emit(e.RunResumed, reason=f"rerun of {step.id}")
        driver.frontier.recount(targets)
        return f"rerunning {step.id}" + (f" and {len(targets) - 1} that follow" if len(targets) > 1 else "")

    def _make_pending(self, targets: list[str], cause: str) -> None:
        driver = self.driver
        children = dict.fromkeys(child for step_id in targets for child in driver.source.graph.children[step_id])
        self._call_back([child for child in children if child not in targets], "its parent runs again", cause)
        for step_id in targets:
            if self.state.steps[step_id].status is not StepStatus.PENDING:
                origin = "" if step_id == cause else cause
                driver.emit(e.StepInvalidated, step_id=step_id, reason="rerun", cause=origin)

    def _call_back(self, step_ids: list[str], reason: str, cause: str) -> None:
        """Make steps that are about to start pending again: what they were ready for no longer holds."""
        for step_id in step_ids:
            step = self.state.steps[step_id]
            if step.status in (StepStatus.QUEUED, StepStatus.RETRYING):
                self._withdraw(step)
                self.driver.emit(e.StepInvalidated, step_id=step_id, reason=reason, cause=cause)

    def skip(self) -> str:
        driver, step = self.driver, self._step()
        if step.status is StepStatus.RUNNING:
            raise CommandRefusedError(f"step '{step.id}' is running", hint="Cancel it first.")
        if step.status in (StepStatus.SUCCEEDED, StepStatus.SKIPPED):
            raise CommandRefusedError(f"step '{step.id}' has {step.status} already")
        self._accept()
        ended = step.status in STEP_ENDED
        self._withdraw(step)
        if driver.maps.is_open(step.id):
            driver.maps.skip_by_hand(step.id, f"skipped by {self._by}")
            return f"{step.id} skipped"
        driver.emit(e.StepSkipped, step_id=step.id, reason=f"skipped by {self._by}", attempt=self._open_attempt(step))
        if ended:
            self._call_back(list(driver.source.graph.children[step.id]), "its parent was skipped", step.id)
            driver.frontier.recount([step.id])
        else:
            driver.frontier.step_ended(step.id)
        return f"{step.id} skipped"

    def _open_attempt(self, step: StepState) -> int | None:
        last = step.last
        return last.n if last is not None and last.finished_at is None else None

    def approve(self) -> str:
        driver, step = self.driver, self._step()
        approved = self.command.arguments.get("approved", True) is not False
        given = self.command.arguments.get("fields") or {}
        if not isinstance(given, dict):
            raise UsageError("the fields of an answer are a mapping of names to values")
        fields = driver.approvals.check(step.id, approved, given)
        self._accept()
        driver.approvals.answer(step.id, approved=approved, fields=fields, by=self._by)
        if driver.passive:
            if not driver.approvals.open and self.state.status is RunStatus.WAITING:
                driver.emit(e.RunPaused, reason=f"answered by {self._by}; resume goes on")
        elif self.state.status is RunStatus.WAITING:
            driver.emit(e.RunResumed, reason="answered")
        return f"{step.id} {'approved' if approved else 'denied'}"

    def try_now(self) -> str:
        driver, step = self.driver, self._step()
        keys = [key for key in driver.alarms.waiting if key[0] == step.id]
        if not keys:
            raise CommandRefusedError(f"step '{step.id}' is {step.status} and waits for no retry")
        self._accept()
        for key in keys:
            driver.alarms.try_now(key)
        return f"trying {step.id} now"


def _as_told(status: RunStatus) -> str:
    """Return a status as it follows "it" in a sentence."""
    return f"has {status}" if status in (RunStatus.SUCCEEDED, RunStatus.FAILED) else f"is {status}"
