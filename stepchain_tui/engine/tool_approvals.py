"""Tool calls that a person must allow: the attempt goes back to pending, and the next one makes the call.

So nothing is held while somebody thinks it over: no slot, no task, no engine. What was allowed holds for the retries
of the step, and over restarts; a rerun asks again, and so does another call than the one that was allowed: because the
plan was edited meanwhile, or because other steps give other arguments now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import CommandRefusedError, UsageError
from stepchain_tui.core.secrets import marks_in
from stepchain_tui.core.values import decode_json, encode_json
from stepchain_tui.engine.approvals import denied
from stepchain_tui.engine.body import failed
from stepchain_tui.engine.prepared import same_json
from stepchain_tui.engine.work import Work
from stepchain_tui.plan import ActionKind
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.step_state import TOOL_APPROVAL, StepState
from stepchain_tui.run.values import Kept

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver
    from stepchain_tui.engine.order import Order
    from stepchain_tui.executors.types import ApprovalNeeded

QUESTION_LENGTH = 500
"""Characters of a call's arguments that its question shows."""


def ask_for_tool(driver: Driver, work: Work, asked: ApprovalNeeded) -> None:
    """Ask whether a tool may be called, before anything of that call was done.

    Args:
        driver: The run.
        work: The attempt that wants to call it; it has given its slots back.
        asked: The call.
    """
    tool_name, redactor = asked.tool_name, driver.source.redactor
    if work.step.talks:
        tool_name = redactor.text(tool_name)  # a model may write what it was told
    try:
        kept = driver.core.store.keep({"tool": tool_name, "arguments": asked.arguments}, redactor)
    except AttemptError as error:
        driver.endings.conclude(work, failed(error, work.step.kind))
        return
    arguments = kept.value["arguments"] if kept.blob is None else None
    where: dict[str, Any] = {"step_id": work.step.id, "attempt": work.attempt, "item": work.item}
    driver.emit(e.ToolApprovalAsked, **where, call_id=asked.call_id, tool_name=tool_name, arguments=arguments)
    shown = "large arguments" if arguments is None else encode_json(arguments).decode()
    if len(shown) > QUESTION_LENGTH:
        shown = f"{shown[:QUESTION_LENGTH]}..."
    driver.approvals.wait(
        work,
        **where,
        reason=TOOL_APPROVAL,
        question=f"{_name_of(work.step.id, work.item)} wants to call {tool_name} with {shown}. Allow it?",
        call_id=asked.call_id,
        input=kept,
        content_hash=driver.inputs.meant(work, work.call.options if work.call is not None else {}),
        tool_key=asked.tool_key,
    )


def answer_for_tool(
    driver: Driver, step_id: str, *, approved: bool, by: str, given: Kept | None = None, remember: bool = False
) -> None:
    """Go on with what a person said of a tool call.

    Args:
        driver: The run.
        step_id: The step.
        approved: Whether the call may be made.
        by: Who says so.
        given: The arguments, where the person changed them, as `{"tool", "arguments"}`.
        remember: Further calls of this tool in this run need no answer.
    """
    found = driver.approvals.open.pop(step_id)
    waiting, work = found.waiting, found.work
    assert work is not None
    where: dict[str, Any] = {"step_id": step_id, "attempt": work.attempt, "item": work.item}
    driver.emit(
        e.ToolApprovalGiven,
        **where,
        call_id=waiting.call_id,
        approved=approved,
        content_hash=waiting.content_hash,
        asked=waiting.input,
        arguments=given,
        by=by,
        tool_key=waiting.tool_key,
        remember=remember and approved and bool(waiting.tool_key),
    )
    driver.emit(e.StepResumed, **where, answer={"approved": approved}, by=by)
    if approved or work.step.kind is not ActionKind.TOOL:
        # A model is told that its call was denied, and goes on without it.
        driver.endings.send_back(work, f"goes on: {'allowed' if approved else 'denied'} by {by or 'a person'}")
        if work.item is None:
            driver.frontier.consider(step_id)
        elif not driver.passive:
            driver.frontier.enqueue(Work(driver.prepared(step_id), work.item, work.tries))
    elif work.item is None:
        driver.endings.fail_step(step_id, work.attempt, denied(by))
    else:
        driver.emit(e.ItemFailed, **where, error=denied(by))
        driver.maps.item_ended(step_id)


def answer_by_hand(order: Order, step: StepState, approved: bool, fields: dict[str, Any]) -> str:
    """Carry out the command `approve` for a tool call.

    Its `arguments` are taken whole instead of what was asked; `fields` change single ones.
    """
    waiting = step.waiting
    kept = waiting.input if waiting is not None else None
    told = kept.value if kept is not None and isinstance(kept.value, dict) else {}
    asked = {"tool": told.get("tool", ""), "arguments": told.get("arguments")}
    if order.driver.approvals.open[step.id].work is None:  # such a run was imported by an earlier version
        raise CommandRefusedError(f"no attempt of '{step.id}' waits for an answer", hint="Rerun the step.")
    arguments = order.arguments.get("arguments", asked["arguments"])
    if "arguments" in order.arguments and not isinstance(arguments, dict):
        raise UsageError("the arguments of a tool call are a mapping of names to values")
    if fields:
        if not isinstance(arguments, dict):
            raise CommandRefusedError(f"the arguments of '{step.id}' are too large for fields", hint="Give them whole.")
        typed = {name: _as_typed(value, arguments.get(name)) for name, value in fields.items()}
        arguments = {**arguments, **typed}
    given, remember = None, bool(order.arguments.get("remember"))
    if remember and step.waiting is not None and not step.waiting.tool_key:
        raise CommandRefusedError(f"the call of '{step.id}' is allowed once only", hint="Answer without `remember`.")
    if approved and not same_json(arguments, asked["arguments"]):
        given = order.keep_value({"tool": asked["tool"], "arguments": arguments})
        if new := marks_in(given.value) - marks_in(asked):
            raise CommandRefusedError(
                f"the arguments hold {min(new)}, and an answer is stored: a secret cannot be given by hand",
                hint="Leave what is shown as it is, or write {{ secrets.NAME }} in the plan.",
            )
    order.accept()
    answer_for_tool(order.driver, step.id, approved=approved, by=order.by, given=given, remember=remember)
    name = _name_of(step.id, waiting.item if waiting is not None else None)
    return f"{name}: the call is {'allowed' if approved else 'denied'}" + (" with other arguments" if given else "")


def _name_of(step_id: str, item: int | None) -> str:
    return step_id if item is None else f"{step_id}[{item}]"


def _as_typed(value: Any, asked: Any) -> Any:
    """Return what was typed for an argument: JSON where it is some, unless text was asked for."""
    if not isinstance(value, str) or isinstance(asked, str):
        return value
    try:
        return decode_json(value.encode())
    except ValueError:
        return value
