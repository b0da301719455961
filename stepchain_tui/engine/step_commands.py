"""Commands to one step of a run: run it again, skip it, answer it, stop at it, set its output by hand."""

from __future__ import annotations

from stepchain_tui.core.errors import CommandRefusedError, UsageError
from stepchain_tui.engine.budget_answers import answer_budget_by_hand
from stepchain_tui.engine.calling_off import (
    call_back,
    call_off,
    end_question,
    open_attempt,
    reach_of,
    revive_followers,
    withdraw,
)
from stepchain_tui.engine.order import Order, as_told
from stepchain_tui.engine.tool_approvals import answer_by_hand
from stepchain_tui.run import events as e
from stepchain_tui.run.status import STEP_ENDED, RunStatus, StepStatus
from stepchain_tui.run.step_state import StepState
from stepchain_tui.run.values import Kept

_BUSY = (StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.WAITING)
_DONE = (StepStatus.SUCCEEDED, StepStatus.SKIPPED)
_PLACES = ("before", "after")
_INPUT_KEYS = ("args", "env", "system", "model")
"""What an input has besides its action, see `Resolved.as_json`."""


def cancel_step(order: Order) -> str:
    """Call one step off."""
    step = order.step()
    if step.status in STEP_ENDED:
        raise CommandRefusedError(f"step '{step.id}' is over: it {as_told(step.status)}")
    order.accept()
    call_off(order.driver, step, f"cancelled by {order.by}")
    return f"{step.id} cancelled"


def rerun(order: Order) -> str:
    """Run a step again: with `downstream` all that follows it as well, with `failed` only a map's failed items."""
    driver, step = order.driver, order.step()
    reach = reach_of(driver, step.id)
    downstream, failed = bool(order.arguments.get("downstream")), bool(order.arguments.get("failed"))
    targets = [*reach.inside, *(reach.following if downstream else ())]
    pinned_around = next((one for one in driver.graph.all_around(step.id) if order.state.steps[one].pinned), None)
    if pinned_around is not None:
        raise CommandRefusedError(
            f"'{step.id}' is a part of '{pinned_around}', whose output is pinned", hint="Unpin that to run it again."
        )
    if step.pinned:
        if not downstream:
            raise CommandRefusedError(f"the output of '{step.id}' is pinned", hint="Unpin it to run it again.")
        targets = list(reach.following)
    else:
        targets.insert(0, step.id)
    _refuse_busy(order, [*targets, *(() if step.pinned else reach.around)], reach.around)
    order.refuse_while_cancelling()
    if step.status in (StepStatus.PENDING, StepStatus.QUEUED):
        raise CommandRefusedError(f"step '{step.id}' is {step.status}: it has not run yet")
    if failed:
        _check_failed_items(step)
        wanted = [step_id for step_id in targets if step_id == step.id or _is_unfinished(order, step_id)]
        can_begin = driver.graph.that_can_begin((*reach.around, *wanted), lambda outer: _has_result(order, outer))
        targets = [step_id for step_id in wanted if step_id in can_begin]
    order.accept()
    _make_pending(order, targets, step.id, keep_items=failed)
    steps = order.state.steps
    for outer in reach.around:
        if steps[outer].status in STEP_ENDED:
            driver.emit(e.StepInvalidated, step_id=outer, reason="rerun", cause=step.id, keep_items=True)
    for step_id in reach.following:
        other = steps[step_id]
        stands_on_it = other.status in STEP_ENDED or other.status in (StepStatus.RUNNING, StepStatus.WAITING)
        if step_id not in targets and stands_on_it:
            driver.emit(e.StepInvalidated, step_id=step_id, reason="rerun", cause=step.id, stale=True)
    if not driver.passive and (driver.paused or order.state.status is not RunStatus.RUNNING):
        driver.paused = False
        driver.emit(e.RunResumed, reason=f"rerun of {step.id}")
    driver.frontier.recount([*targets, *reach.around])
    driver.maps.reopen_items()
    more = len(set(targets) - {step.id, *reach.inside})
    what = f"the failed items of {step.id}" if failed else step.id
    return f"rerunning {what}" + (f" and {more} that follow" if more else "")


def _refuse_busy(order: Order, step_ids: list[str], around: tuple[str, ...]) -> None:
    for step_id in step_ids:
        other = order.state.steps[step_id]
        if other.status in _BUSY and not (step_id in around and other.status is StepStatus.RUNNING):
            hint = "Cancel it first, or press t to try it now." if other.status is StepStatus.RETRYING else ""
            raise CommandRefusedError(f"step '{step_id}' is {other.status}", hint=hint or "Cancel it first.")


def _check_failed_items(step: StepState) -> None:
    if not step.outline.is_map or step.items is None:
        raise CommandRefusedError(f"step '{step.id}' has no items", hint="Rerun the step itself.")
    if all(item.status is StepStatus.SUCCEEDED for item in step.items):
        raise CommandRefusedError(f"no item of '{step.id}' failed", hint="Rerun the step to do all items again.")


def _has_result(order: Order, step_id: str) -> bool:
    return order.state.steps[step_id].status in STEP_ENDED


def _is_unfinished(order: Order, step_id: str) -> bool:
    return order.state.steps[step_id].status is not StepStatus.SUCCEEDED


def _make_pending(order: Order, targets: list[str], cause: str, *, keep_items: bool) -> None:
    driver, wanted = order.driver, set(targets)
    children = dict.fromkeys(child for step_id in targets for child in driver.graph.children[step_id])
    call_back(driver, [child for child in children if child not in wanted], "its parent runs again", cause)
    for step_id in targets:
        if order.state.steps[step_id].status is not StepStatus.PENDING:
            driver.emit(
                e.StepInvalidated,
                step_id=step_id,
                reason="rerun",
                cause="" if step_id == cause else cause,
                keep_items=keep_items and step_id == cause,
                again=not keep_items,
            )


def skip(order: Order) -> str:
    """Leave a step out."""
    driver, step = order.driver, order.step()
    if step.status is StepStatus.RUNNING:
        raise CommandRefusedError(f"step '{step.id}' is running", hint="Cancel it first.")
    _refuse_unmade_part(order, step)
    if step.status in _DONE or step.stands_after:
        raise CommandRefusedError(f"step '{step.id}' has {'succeeded' if step.stands_after else step.status} already")
    order.accept()
    ended, reason = step.status in STEP_ENDED, f"skipped by {order.by}"
    withdraw(driver, step)
    if driver.maps.is_open(step.id):
        driver.maps.skip_by_hand(step.id, reason)
        return f"{step.id} skipped"
    end_question(driver, step, reason)
    driver.emit(e.StepSkipped, step_id=step.id, reason=reason, attempt=open_attempt(step))
    if ended:
        call_back(driver, driver.graph.children[step.id], "its parent was skipped", step.id)
        driver.frontier.recount([step.id])
    else:
        driver.frontier.step_ended(step.id)
    _answered(order)
    return f"{step.id} skipped"


def _refuse_unmade_part(order: Order, step: StepState) -> None:
    """Refuse to set a part of an item by hand while the map around it has yet to make its items anew."""
    for outer_id in order.driver.graph.all_around(step.id):
        outer = order.state.steps[outer_id]
        begun = outer.status not in (StepStatus.PENDING, StepStatus.QUEUED)
        if outer.outline.is_map and not begun and not outer.keep_items:
            raise CommandRefusedError(
                f"'{step.id}' is a part of an item that '{outer_id}' makes anew when it runs",
                hint=f"Wait until {outer_id} has its items, or skip or mark {outer_id} itself.",
            )


def approve(order: Order) -> str:
    """Answer a step that waits; at a breakpoint let it go on, with another input or output if one is given."""
    driver, step = order.driver, order.step()
    approved = order.arguments.get("approved", True) is not False
    given = order.arguments.get("fields") or {}
    if not isinstance(given, dict):
        raise UsageError("the fields of an answer are a mapping of names to values")
    if driver.approvals.is_breakpoint(step.id):
        message = _go_on(order, step, approved)
    elif driver.approvals.asks_for_tool(step.id):
        message = answer_by_hand(order, step, approved, given)
    elif driver.approvals.asks_about_budget(step.id):
        message = answer_budget_by_hand(order, step, approved, given)
    else:
        if order.arguments.get("remember"):
            raise CommandRefusedError(f"step '{step.id}' asks for no tool call: there is nothing to remember")
        for name in ("input", "output"):
            if name in order.arguments:
                raise CommandRefusedError(f"step '{step.id}' stands at no breakpoint: it takes no {name} by hand")
        fields = driver.approvals.check(step.id, approved, given)
        order.accept()
        driver.approvals.answer(step.id, approved=approved, fields=fields, by=order.by)
        message = f"{step.id} {'approved' if approved else 'denied'}"
    _answered(order)
    return message


def _go_on(order: Order, step: StepState, approved: bool) -> str:
    place = step.waiting.place if step.waiting is not None else ""
    if not approved:
        raise CommandRefusedError(f"'{step.id}' stands at a breakpoint", hint="Let it go on, skip it or cancel it.")
    name, other = ("input", "output") if place == "before" else ("output", "input")
    if other in order.arguments:
        raise CommandRefusedError(
            f"'{step.id}' stands {place} its work: its {name} can be changed here, not its {other}"
        )
    if name in order.arguments and place == "before" and step.outline.is_map:
        raise CommandRefusedError(f"'{step.id}' is a map: its items come from its `for_each`", hint="Edit the plan.")
    if name in order.arguments and place == "before":
        _check_input(order, step)
    kept = order.keep(name) if name in order.arguments else None
    order.accept()
    order.driver.approvals.go_on(step.id, by=order.by, given=kept)
    return f"{step.id} goes on" + (f" with another {name}" if kept is not None else "")


def _check_input(order: Order, step: StepState) -> None:
    """Refuse an input by hand that is not of the form of the one that was shown."""
    given, kind = order.arguments["input"], step.outline.kind
    shown = step.waiting.input.value if step.waiting is not None and step.waiting.input is not None else None
    if not isinstance(given, dict):
        raise UsageError("an input by hand is a mapping, like the one that is shown", hint=f"Give {{{kind!r}: ...}}.")
    unknown = [name for name in given if name not in (kind, *_INPUT_KEYS)]
    if unknown:
        hint = f"It has: {', '.join((kind, *_INPUT_KEYS))}."
        raise UsageError(f"the input of '{step.id}' has no '{unknown[0]}'", hint=hint)
    if not isinstance(given.get("args", {}), dict) or not isinstance(given.get("env", {}), dict):
        raise UsageError("'args' and 'env' of an input are mappings")
    if kind == "function" and isinstance(shown, dict) and given.get(kind, shown[kind]) != shown[kind]:
        raise CommandRefusedError("which function is called is not part of its input", hint="Edit the plan.")


def _answered(order: Order) -> None:
    """Let the run go on when nothing of it waits any more."""
    driver, waits = order.driver, order.state.status is RunStatus.WAITING
    if not waits:
        return
    if not driver.passive:
        driver.emit(e.RunResumed, reason="answered")
    elif not driver.approvals.open:
        driver.emit(e.RunPaused, reason=f"answered by {order.by}; resume goes on")


def try_now(order: Order) -> str:
    """Let a step that waits for its next try begin it now."""
    driver, step = order.driver, order.step()
    keys = [key for key in driver.alarms.waiting if key[0] == step.id]
    if not keys:
        raise CommandRefusedError(f"step '{step.id}' is {step.status} and waits for no retry")
    order.accept()
    for key in keys:
        driver.alarms.try_now(key)
    return f"trying {step.id} now"


# --- by hand


def set_breakpoint(order: Order) -> str:
    """Stop the run before or after a step from now on, or no longer."""
    step, place = order.step(), order.arguments.get("place")
    if place not in (None, "", *_PLACES):
        raise UsageError(f"a breakpoint is before or after a step, not '{place}'")
    if step.breakpoint == (place or ""):
        raise CommandRefusedError(f"'{step.id}' has {f'a breakpoint {place} it' if place else 'no breakpoint'} already")
    order.accept()
    return f"stops {place} {step.id}" if place else f"no breakpoint at {step.id}"


def mark(order: Order) -> str:
    """Take a step as succeeded, with an output that a person gives (null if none is)."""
    step = order.step()
    if step.status is StepStatus.RUNNING:
        raise CommandRefusedError(f"step '{step.id}' is running", hint="Cancel it first.")
    if step.waiting is not None and step.waiting.attempt is not None:
        raise CommandRefusedError(f"step '{step.id}' waits for an answer", hint="Answer it, or skip it.")
    order.refuse_while_cancelling()
    _refuse_unmade_part(order, step)
    kept = order.keep("output") if "output" in order.arguments else Kept(None)
    order.accept()
    _set_result(order, step, kept)
    _answered(order)
    return f"{step.id} is marked succeeded"


def pin(order: Order) -> str:
    """Keep a step's output over reruns, the one it has or one that a person gives; with `off` no longer."""
    driver, step = order.driver, order.step()
    if order.arguments.get("off"):
        if not step.pinned:
            raise CommandRefusedError(f"the output of '{step.id}' is not pinned")
        order.accept()
        driver.emit(e.StepPinned, step_id=step.id, pinned=False, by=order.by)
        return f"{step.id} is no longer pinned"
    if step.status is StepStatus.RUNNING or (step.waiting is not None and step.waiting.attempt is not None):
        raise CommandRefusedError(f"step '{step.id}' is {step.status}", hint="Cancel it first, or wait for its end.")
    given = "output" in order.arguments
    if not given and (step.output is None or not step.done):
        raise CommandRefusedError(f"step '{step.id}' has no output to pin", hint="Give one: --output JSON.")
    _refuse_unmade_part(order, step)
    kept = order.keep("output") if given else step.output
    assert kept is not None
    order.accept()
    driver.emit(e.StepPinned, step_id=step.id, output=kept, by=order.by)
    if kept != step.output and step.status in STEP_ENDED:
        _set_result(order, step, kept)
    elif step.status is StepStatus.RETRYING:
        call_back(driver, [step.id], "its output was pinned", "")
        driver.frontier.recount([step.id])
    return f"{step.id} is pinned"


def _set_result(order: Order, step: StepState, kept: Kept) -> None:
    """Record a result by hand and follow it up."""
    driver = order.driver
    if step.stands_after:
        driver.approvals.go_on(step.id, by=order.by, given=kept)
        return
    ended = step.status in STEP_ENDED
    withdraw(driver, step)
    driver.emit(e.StepSucceeded, step_id=step.id, attempt=0, output=kept, by=order.by)
    if ended:
        revive_followers(driver, step.id, f"{step.id} was set by hand")
    driver.frontier.step_ended(step.id)
