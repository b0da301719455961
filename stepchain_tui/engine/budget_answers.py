"""What a person says at a budget: more of it, another model, no limit any more, or stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import CommandRefusedError
from stepchain_tui.engine.budget_limits import TOKENS, USD, exceeds
from stepchain_tui.engine.budget_question import ACTIONS, GOES_ON, STOPPED, asked_of, rounded_up, scope_of, told
from stepchain_tui.llm.choice import SCRIPTED
from stepchain_tui.run import events as e
from stepchain_tui.run.budgets import BudgetAction, amount
from stepchain_tui.run.status import RunStatus
from stepchain_tui.run.step_state import StepState

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver
    from stepchain_tui.engine.order import Order

_HOW = (
    "Say how it is to go on: --field action=top_up (with usd=N or tokens=N), cheaper_model (with model=NAME), finish "
    "or stop."
)


MOST = 1_000_000_000_000
"""Dollars or tokens that are added at once, at most: more is a slip of the finger."""


def answer_budget_by_hand(order: Order, step: StepState, approved: bool, given: dict[str, Any]) -> str:
    """Carry out the command `approve` for a question about a budget.

    Raises:
        CommandRefusedError: The answer does not fit; the question stays open.
    """
    driver, waiting = order.driver, order.driver.approvals.open[step.id].waiting
    if driver.approvals.open[step.id].work is None:  # such a run was imported by an earlier version
        raise CommandRefusedError(f"no attempt of '{step.id}' waits for an answer", hint="Rerun the step.")
    for name in ("input", "output", "arguments", "remember"):
        if name in order.arguments:
            raise CommandRefusedError(f"step '{step.id}' waits at a budget, which takes no {name}", hint=_HOW)
    scope = scope_of(waiting)
    written = driver.budgets.limits.written(step.id, scope)
    answer = {
        "scope": scope,
        "written": {USD: written.usd, TOKENS: written.tokens},
        **_read(driver, step.id, asked_of(waiting), approved, given),
    }
    order.accept()
    answer_budget(driver, step.id, answer, by=order.by)
    return _said(answer, step.id, order.by)


def _read(driver: Driver, step_id: str, asked: dict[str, Any], approved: bool, given: dict[str, Any]) -> dict[str, Any]:
    """Return an answer as its event keeps it, checked."""
    word = given.get("action")
    if not approved and word is None:
        word = BudgetAction.STOP
    if word is None:
        raise CommandRefusedError(
            f"step '{step_id}' waits at a budget: a yes alone does not say how to go on", hint=_HOW
        )
    if word not in ACTIONS or (not approved and word != BudgetAction.STOP):
        raise CommandRefusedError(f"'{str(word)[:60]}' is no answer to a budget", hint=_HOW)
    known = {"action", USD, TOKENS, "model"}
    if unknown := sorted(str(name) for name in given if name not in known):
        raise CommandRefusedError(f"the question of '{step_id}' has no field '{unknown[0]}'", hint=_HOW)
    action = BudgetAction(word)
    if action is BudgetAction.TOP_UP:
        return {"action": action.value, **_top_up(driver, step_id, asked, given)}
    if action is BudgetAction.CHEAPER_MODEL:
        return {"action": action.value, **_model(driver, step_id, asked, given)}
    return {"action": action.value}


def _top_up(driver: Driver, step_id: str, asked: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    unit, other = (USD, TOKENS) if asked.get("unit") == USD else (TOKENS, USD)
    limit = driver.budgets.limits.one(step_id, scope_of(driver.approvals.open[step_id].waiting))
    if given.get(other) not in (None, "") and (limit is None or limit.of(other) is None):
        raise CommandRefusedError(
            f"the budget has no limit in {other}: there is nothing to add to", hint=f"Give {unit}=N."
        )
    field = driver.approvals.open[step_id].waiting.fields.get(unit)
    default = field.get("default") if isinstance(field, dict) else None
    found = {name: _number(name, given[name]) for name in (unit, other) if given.get(name) not in (None, "")}
    missing = _missing(driver, step_id, asked, amount(asked.get("needed")))
    if not found:
        return {unit: max(_number(unit, default), rounded_up(unit, missing))}
    if exceeds(missing, found.get(unit, 0)):
        least = rounded_up(unit, missing)
        raise CommandRefusedError(
            f"that is not enough: with the next answer the budget is exceeded by {told(unit, least)}",
            hint=f"Add at least {unit}={least:.12g}.",
        )
    return found


def _missing(driver: Driver, step_id: str, asked: dict[str, Any], needed: float) -> float:
    """Return by how much an answer that takes so much exceeds the budget as it is now; 0 where it fits."""
    unit = USD if asked.get("unit") == USD else TOKENS
    limit = driver.budgets.limits.one(step_id, scope_of(driver.approvals.open[step_id].waiting))
    most = limit.of(unit) if limit is not None else None
    if limit is None or most is None or not exceeds(limit.spent(unit) + needed, most):
        return 0.0
    return limit.spent(unit) + needed - most


def _number(name: str, value: Any) -> float:
    """Return how much is added, from what was typed."""
    if isinstance(value, str):
        try:
            value = float(value.strip().removeprefix("$").replace("_", ""))
        except ValueError:
            value = None
    number = amount(value)
    if not 0 < number <= MOST or (name == TOKENS and number != int(number)):
        what = "a whole number of tokens" if name == TOKENS else "an amount of dollars"
        raise CommandRefusedError(
            f"'{name}' is {what} above 0", hint=f"Write for example {name}={1 if name == USD else 10000}."
        )
    return int(number) if name == TOKENS else number


def _model(driver: Driver, step_id: str, asked: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    model, provider = str(given.get("model") or "").strip(), str(asked.get("provider", ""))
    if not model:
        raise CommandRefusedError("which model is to be asked instead?", hint="Give model=NAME.")
    if provider == SCRIPTED or model == SCRIPTED:
        raise CommandRefusedError("answers that the plan writes have no cheaper model", hint="Top up, finish or stop.")
    if model == asked.get("model"):
        raise CommandRefusedError(f"{model} is the model that is asked already", hint="Give another one.")
    limits = driver.budgets.limits
    before, after = (limits.place(step_id, name, provider) for name in (str(asked.get("model", "")), model))
    if after == before:
        raise CommandRefusedError(f"{model} is the model that is asked already", hint="Give another one.")
    if asked.get("unit") != USD:
        raise CommandRefusedError(
            "the budget is in tokens, and another model takes as many", hint="Top up, finish or stop."
        )
    if not limits.are_affordable(step_id, model, provider):
        path = driver.core.prices.path
        raise CommandRefusedError(
            f"the price of {model} at {provider} is not known, and the budget is in dollars",
            hint=f"Give a model whose price is known, or write its price into {path or 'prices.json'}.",
        )
    price = limits.price(step_id, model, after.provider)
    tokens = (int(amount(asked.get(name))) for name in ("input_tokens", "output_tokens"))
    cost = price.of(*tokens) if price is not None else 0.0
    missing = _missing(driver, step_id, asked, cost)
    if missing:
        raise CommandRefusedError(
            f"{model} does not help: its answer is expected to cost {told(USD, cost)}, and with that the budget is "
            f"exceeded by {told(USD, rounded_up(USD, missing))}",
            hint="Top up, finish or stop, or give a model that costs less.",
        )
    return {"model": model, "instead_of": before.told(), "asks": after.told()}


def answer_budget(driver: Driver, step_id: str, answer: dict[str, Any], *, by: str) -> None:
    """Go on with what was said at a budget; the attempt that asked goes back to pending at no cost of a try.

    Args:
        driver: The run.
        step_id: The step that waits.
        answer: What was said, checked, see `run.budgets.BudgetAnswers`.
        by: Who said it.
    """
    work = driver.approvals.open.pop(step_id).work
    assert work is not None
    where: dict[str, Any] = {"step_id": step_id, "attempt": work.attempt, "item": work.item}
    driver.emit(e.StepResumed, **where, answer=answer, by=by)
    driver.budgets.ease(answer["scope"])
    if answer["action"] == BudgetAction.STOP:
        driver.endings.send_back(work, f"{STOPPED}{by}")
        if driver.state.status in (RunStatus.RUNNING, RunStatus.WAITING) and not driver.paused:
            driver.emit(e.RunPaused, reason=f"stopped at a budget by {by}")
            driver.paused = True
    else:
        driver.endings.send_back(work, f"{GOES_ON}{answer['action'].replace('_', ' ')} by {by}")
    driver.budgets.go_on(work)


def _said(answer: dict[str, Any], step_id: str, by: str) -> str:
    match answer["action"]:
        case BudgetAction.TOP_UP:
            parts = [
                f"{told(unit, answer[unit])}{' tokens' if unit == TOKENS else ''}"
                for unit in (USD, TOKENS)
                if unit in answer
            ]
            return f"{step_id}: {' and '.join(parts)} more"
        case BudgetAction.CHEAPER_MODEL:
            return f"{step_id}: goes on with {answer['model']}"
        case BudgetAction.FINISH:
            return f"{step_id}: goes on without that budget"
        case _:
            return "stopped at the budget: the run is paused"
