"""Calling steps off, and taking back what has not begun: what commands, sub-plans and revisions have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from stepchain_tui.engine.graph import Reach
from stepchain_tui.engine.work import Stop
from stepchain_tui.run import events as e
from stepchain_tui.run.status import STEP_ENDED, Mark, StepStatus
from stepchain_tui.run.step_state import StepState

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

OPENED_AGAIN = (StepStatus.FAILED, StepStatus.TIMED_OUT, StepStatus.CANCELLED)
"""What a `plan` step comes to through its parts, or without some of them: it is opened again for a part of it."""


def call_off(driver: Driver, step: StepState, reason: str) -> None:
    """Cancel a step that has not ended; what runs of it is stopped, and ends when that has."""
    if driver.maps.is_open(step.id):
        driver.approvals.withdraw(step.id)
        driver.maps.cancel(step.id, reason)
        return
    if driver.groups.is_running(step.id):
        driver.groups.cancel(step.id, reason)
        return
    body = driver.bodies.get((step.id, None))
    if body is not None and body.attempt and step.status is StepStatus.RUNNING:
        driver.stop_body(body, Stop.CANCEL, reason)
        return
    if step.stands_after:
        driver.approvals.go_on(step.id, by=reason)  # it is done: only what follows is called off
        return
    withdraw(driver, step)
    end_question(driver, step, reason)
    driver.emit(e.StepCancelled, step_id=step.id, reason=reason, attempt=open_attempt(step))
    driver.frontier.step_ended(step.id)


def withdraw(driver: Driver, step: StepState) -> None:
    """Take a step out of the queue, off its alarm and off its question."""
    driver.frontier.withdraw(step.id)
    if (alarm := driver.alarms.waiting.pop((step.id, None), None)) is not None:
        alarm[1].cancel()
    driver.approvals.withdraw(step.id)


def end_question(driver: Driver, step: StepState, reason: str) -> None:
    """End the item that asks of a map which an earlier engine left waiting: it ends with its map."""
    asks = step.waiting
    if asks is not None and asks.item is not None and asks.attempt:
        driver.emit(e.ItemCancelled, step_id=step.id, item=asks.item, attempt=asks.attempt, reason=reason)


def open_attempt(step: StepState) -> int | None:
    """Return the number of the attempt that has not ended, or None."""
    last = step.last
    return last.n if last is not None and last.finished_at is None else None


def call_back(driver: Driver, step_ids: Iterable[str], reason: str, cause: str) -> None:
    """Make steps that are about to start pending again: what they were ready for no longer holds."""
    for step_id in step_ids:
        step = driver.state.steps[step_id]
        if step.status in (StepStatus.QUEUED, StepStatus.RETRYING) or step.stands_before:
            withdraw(driver, step)
            driver.emit(e.StepInvalidated, step_id=step_id, reason=reason, cause=cause)


def reach_of(driver: Driver, step_id: str) -> Reach:
    """Return what a change of a step's result means to the others; a pinned step passes nothing on."""
    steps = driver.state.steps
    return driver.graph.reach(step_id, stop_at=lambda other: steps[other].pinned)


def revive_followers(driver: Driver, step_id: str, reason: str) -> None:
    """Follow up a new result of a step that had ended: what it stood in the way of may go on, the rest is stale."""
    reach, steps = reach_of(driver, step_id), driver.state.steps
    anew: list[str] = []
    for other_id in (*reach.around, *reach.following):
        other = steps[other_id]
        if other.held_up or (other_id in reach.around and other.status in OPENED_AGAIN):
            anew.append(other_id)
        elif other.status is StepStatus.SUCCEEDED and Mark.STALE not in other.marks:
            driver.emit(e.StepInvalidated, step_id=other_id, reason=reason, cause=step_id, stale=True)
    call_back(driver, (*driver.graph.children[step_id],), reason, step_id)
    anew = driver.graph.that_can_begin(anew, lambda outer: steps[outer].status in STEP_ENDED)
    for other_id in anew:
        driver.emit(e.StepInvalidated, step_id=other_id, reason=reason, cause=step_id, keep_items=True)
    driver.frontier.recount([step_id, *anew])
    driver.maps.reopen_items()
