"""What is asked where a budget is reached: the words, the fields of an answer, and the facts for a screen."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from stepchain_tui.engine.budget_limits import LEEWAY, TOKENS, USD, Limit, exceeds
from stepchain_tui.executors.types import BudgetReached
from stepchain_tui.llm.choice import SCRIPTED
from stepchain_tui.llm.prices import Price, Prices
from stepchain_tui.run import events as e
from stepchain_tui.run.budgets import RUN, BudgetAction
from stepchain_tui.run.spending import dollars

ACTIONS = tuple(action for action in BudgetAction if action is not BudgetAction.EDIT)
"""What may be answered."""
HELD_BACK = "held back by the budget"
STOPPED = "stopped at its budget by "
GOES_ON = "goes on: "
SENT_BACK = (HELD_BACK, STOPPED, GOES_ON, "waits until another question is answered")
"""What the reason of an attempt begins with that was sent back between two answers: nothing of it was cut off."""
MOST_MODELS = 12
"""Cheaper models that a question offers."""


class Expected(msgspec.Struct, frozen=True, gc=False):
    """What an answer is expected to take."""

    usd: float
    input_tokens: int
    output_tokens: int
    price: Price | None = None
    """What it was priced with."""

    @property
    def tokens(self) -> int:
        """Tokens of question and answer."""
        return self.input_tokens + self.output_tokens

    def of(self, unit: str) -> float:
        """Return it in a unit."""
        return self.usd if unit == USD else float(self.tokens)


class Reached(BudgetReached):
    """A budget is reached, and whose it is.

    Attributes:
        scope_id: The scope, see `run.budgets`.
        expected: What the next answer is expected to take.
        provider: Who would be asked.
        only_held: Nobody needs to be asked: another question is open, or answers in flight take what is left for now.
    """

    def __init__(
        self, limit: Limit, unit: str, expected: Expected, model: str, provider: str, *, only_held: bool = False
    ) -> None:
        scope = "run" if limit.scope == RUN else "step"
        super().__init__(scope, unit, limit.of(unit) or 0.0, limit.spent(unit), expected.of(unit), model)
        self.expected = expected
        self.scope_id = limit.scope
        self.provider = provider
        self.only_held = only_held


def question_of(reached: Reached, step_id: str) -> str:
    """Return the question as a person reads it."""
    unit = reached.unit
    of = " tokens" if unit == TOKENS else ""
    who = "The run" if reached.scope_id == RUN else f"Step {reached.scope_id}"
    verb, will = ("has spent", "cost") if unit == USD else ("has used", "take")
    return (
        f"{who} {verb} {told(unit, reached.spent)} of {told(unit, reached.limit)}{of}, and the next answer of "
        f"{reached.model or 'the model'} for {step_id} is expected to {will} {told(unit, reached.needed)}{of}. "
        "How is it to go on?"
    )


def fields_of(reached: Reached) -> dict[str, Any]:
    """Return what an answer may hold, as the specifications of inputs."""
    choices = [action.value for action in ACTIONS]
    if reached.provider == SCRIPTED or reached.unit == TOKENS or exceeds(reached.spent, reached.limit):
        choices.remove(BudgetAction.CHEAPER_MODEL)
    kind, what = ("number", "Dollars") if reached.unit == USD else ("integer", "Tokens")
    fields: dict[str, Any] = {
        "action": {"type": "choice", "choices": choices, "description": "How the run goes on."},
        reached.unit: {"type": kind, "default": _suggestion(reached), "description": f"{what} to add, for top_up."},
    }
    if BudgetAction.CHEAPER_MODEL in choices:
        fields["model"] = {"type": "text", "default": "", "description": "The model to ask, for cheaper_model."}
    return fields


def facts_of(reached: Reached, prices: Prices) -> dict[str, Any]:
    """Return what a screen shows beside the question; `models` are cheaper ones that fit, the cheapest first.

    Each has its prices for a million tokens, and its `cost` in US dollars for an answer like the one that is expected.
    """
    return {
        "scope": reached.scope,
        "scope_id": reached.scope_id,
        "unit": reached.unit,
        "limit": reached.limit,
        "spent": reached.spent,
        "needed": reached.needed,
        "input_tokens": reached.expected.input_tokens,
        "output_tokens": reached.expected.output_tokens,
        "model": reached.model,
        "provider": reached.provider,
        "models": _cheaper(reached, prices),
    }


def asked_of(waiting: e.StepWaiting) -> dict[str, Any]:
    """Return the facts of a question, see `facts_of`; an imported run may hold anything."""
    asked = waiting.input.value if waiting.input is not None else None
    return asked if isinstance(asked, dict) else {}


def scope_of(waiting: e.StepWaiting) -> str:
    """Return whose budget a question is about, see `run.budgets`."""
    return str(asked_of(waiting).get("scope_id", RUN))


def told(unit: str, value: float) -> str:
    """Return an amount of a budget in words."""
    return dollars(value) if unit == USD else f"{int(value):,}"


def _cheaper(reached: Reached, prices: Prices) -> list[dict[str, Any]]:
    own = prices.price(reached.provider, reached.model)
    if own is None or reached.provider == SCRIPTED or reached.unit == TOKENS:
        return []
    expected = reached.expected
    cheaper: list[dict[str, Any]] = [
        {
            "model": name,
            "input": price.input,
            "output": price.output,
            "cost": price.of(expected.input_tokens, expected.output_tokens),
        }
        for name, price in prices.models(reached.provider).items()
        if (price.output, price.input) < (own.output, own.input)
    ]
    fitting = [model for model in cheaper if not exceeds(reached.spent + model["cost"], reached.limit)]
    return fitting[:MOST_MODELS]


def _suggestion(reached: Reached) -> float:
    """Return how much to add: as much again as the budget is, and at least what the next answer needs twice."""
    return rounded_up(reached.unit, max(reached.limit, reached.spent + 2 * reached.needed - reached.limit))


def rounded_up(unit: str, amount: float) -> float:
    """Return an amount as a person would write it, and not less."""
    if unit == TOKENS:
        return math.ceil(amount)
    digits = 2 if amount >= 1 or amount <= 0 else 1 - math.floor(math.log10(amount))
    found = round(amount, digits)
    return found if found >= amount * (1 - LEEWAY) else round(found + 10.0**-digits, digits)
