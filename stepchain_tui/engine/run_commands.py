"""Commands to a run as a whole: pause it, go on, call it off, change its slots or its plan."""

from __future__ import annotations

from typing import Any

from stepchain_tui.core.errors import CommandRefusedError, PlanError, UsageError
from stepchain_tui.engine.calling_off import call_off, withdraw
from stepchain_tui.engine.order import Order, as_told
from stepchain_tui.engine.revision import changes_of, refuse_what_runs, revise, revised_source
from stepchain_tui.engine.step_commands import cancel_step
from stepchain_tui.engine.work import Stop, Work
from stepchain_tui.plan import require_valid
from stepchain_tui.run import events as e
from stepchain_tui.run.status import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus

MOST_SLOTS = 1_000_000


def pause(order: Order) -> str:
    """Start nothing more; with `now` send what runs back to pending."""
    driver, state, now = order.driver, order.state, bool(order.arguments.get("now"))
    if state.status not in (RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED):
        raise CommandRefusedError(f"the run cannot be paused, it {as_told(state.status)}")
    if driver.paused and not now:
        raise CommandRefusedError("the run is paused already")
    order.refuse_while_cancelling()
    order.accept()
    if not driver.paused:
        driver.emit(e.RunPaused, reason=f"paused by {order.by}", now=now)
        driver.paused = True
    if now:
        driver.stop_all(Stop.PAUSE, "paused at once")
    left = len(driver.bodies)
    return "paused" if not left else f"pausing: {left} running {'stops' if now else 'finishes'} first"


def resume(order: Order) -> str:
    """Go on after a pause."""
    driver = order.driver
    if not driver.paused:
        raise CommandRefusedError(f"the run is not paused, it {as_told(order.state.status)}")
    order.accept()
    driver.paused = False
    driver.emit(e.RunResumed, reason=f"resumed by {order.by}")
    for step_id, step in order.state.steps.items():
        if step.status is StepStatus.PENDING and step_id not in driver.frontier.ready:
            driver.frontier.consider(step_id)
    return "resumed"


def cancel(order: Order) -> str:
    """Call the run off, or one step of it."""
    if order.arguments.get("step") is not None:
        return cancel_step(order)
    driver, state = order.driver, order.state
    if driver.cancelling is not None:
        raise CommandRefusedError("the run is being cancelled already")
    if state.status in RUN_ENDED:
        raise CommandRefusedError(f"the run is over: it {as_told(state.status)}")
    order.accept()
    reason = f"cancelled by {order.by}"
    driver.cancelling = reason
    for step in state.steps.values():
        if step.status not in STEP_ENDED:
            call_off(driver, step, reason)
    if driver.passive:
        driver.emit(e.RunFinished, status=RunStatus.CANCELLED, reason=reason)
    return "cancelled"


# --- slots


def limits(order: Order) -> str:
    """Change how much of the run goes on at once: `max_concurrent`, named `limits`, `priorities`, the engine's cap."""
    driver, arguments = order.driver, order.arguments
    slots, cap = arguments.get("max_concurrent"), arguments.get("max_running")
    named, priorities = arguments.get("limits") or {}, arguments.get("priorities") or {}
    if not (slots or cap or named or priorities):
        raise UsageError(
            "nothing to change", hint="Give max_concurrent, a named limit, a priority or the engine's cap."
        )
    for name, size in (("max_concurrent", slots), ("max_running", cap), *named.items()):
        if size is not None and not (isinstance(size, int) and 1 <= size <= MOST_SLOTS):
            raise UsageError(f"'{name}' is a whole number from 1 to {MOST_SLOTS}, not {size!r}")
    for name in named:
        if name not in driver.limits:
            known = ", ".join(sorted(driver.limits)) or "none"
            raise UsageError(f"the plan has no limit '{name}'", hint=f"It has: {known}.")
    for step_id, priority in priorities.items():
        order.state.step(step_id)
        if not isinstance(priority, int) or abs(priority) > MOST_SLOTS:
            raise UsageError(f"the priority of '{step_id}' is a whole number, not {priority!r}")
    if cap and driver.passive:
        raise CommandRefusedError("nobody carries this run out: there is no engine whose cap could be changed")
    order.accept()
    driver.resize()
    if priorities:
        driver.queue_anew()
    if cap:
        driver.core.resize(cap)
    changed = [f"{name} {size}" for name, size in (("max_concurrent", slots), *named.items()) if size]
    changed += [f"priority of {step_id} {priority}" for step_id, priority in priorities.items()]
    return ", ".join([*changed, *([f"{cap} at once over all runs"] if cap else [])])


def slots(order: Order) -> str:
    """Tell who holds a slot; changes nothing and is no event."""
    driver = order.driver
    held = [_holder(order, work, stuck=False) for work in driver.bodies.values()]
    held += [_holder(order, work, stuck=True) for work in driver.aside]
    order.told["slots"] = {
        "held": held,
        "run": {"taken": driver.slots.taken, "size": driver.slots.size},
        "limits": {name: {"taken": found.taken, "size": found.size} for name, found in driver.limits.items()},
        "engine": {"taken": driver.core.slots.taken, "size": driver.core.slots.size},
        "waiting": len(driver.frontier.queue.waiting()),
    }
    order.told["breakers"] = driver.core.breakers.records()
    return f"{driver.slots.taken} of {driver.slots.size} slots taken"


def breaker_reset(order: Order) -> str:
    """Close a circuit breaker of the engine by hand: the next call to what it stands for is made."""
    name = order.arguments.get("name")
    if not isinstance(name, str):
        raise UsageError("a reset needs the name of a circuit breaker")
    changed = order.driver.core.breakers.reset(name)
    order.accept()
    return f"{name} is closed" if changed else f"{name} was closed already"


def _holder(order: Order, work: Work, *, stuck: bool) -> dict[str, Any]:
    step = order.state.steps.get(work.step.id)
    attempt = step.attempts.get((work.item, work.attempt)) if step is not None else None
    return {
        "step": work.step.id,
        "item": work.item,
        "attempt": work.attempt,
        "limit": work.step.limit,
        "since": attempt.started_at.isoformat() if attempt is not None else None,
        "stuck": stuck and work.attempt > 0,
    }


# --- the plan


def edit(order: Order) -> str:
    """Give the run another revision of its plan: valid as a whole, or refused; what runs must stay as it is."""
    driver, state, arguments = order.driver, order.state, order.arguments
    order.refuse_while_cancelling()
    expected = arguments.get("revision")
    if expected is not None and expected != state.revision:
        raise CommandRefusedError(
            f"the run's plan is at revision {state.revision} by now, this edit is of revision {expected}",
            hint="Look at the plan as it is and edit that.",
        )
    source = revised_source(driver.source, state, arguments)
    try:
        require_valid(source.plan, source.folder)
        source.subplans  # noqa: B018 - reads and checks the plans that it names
    except PlanError as error:
        raise CommandRefusedError(f"the revision is not valid: {error.message}", hint=error.hint) from error
    changes = changes_of(driver.source, source, state, driver.core.hasher)
    if changes.same:
        raise CommandRefusedError("the plan is the same as before")
    refuse_what_runs(driver.source, source, state, changes)
    order.accept()
    revision = state.revision + 1
    for step_id, step in state.steps.items():
        asks = step.waiting is not None and step.waiting.place != "before"  # its question stays open
        if step_id in changes.removed or (step_id in changes.content and not asks) or step.status is StepStatus.QUEUED:
            withdraw(driver, step)
    reason, rerun = str(arguments.get("reason") or "edited"), bool(arguments.get("rerun"))
    revise(driver.journal, source, changes, reason=reason, by=order.by, rerun=rerun)
    driver.adopt(source)
    return f"revision {revision}"
