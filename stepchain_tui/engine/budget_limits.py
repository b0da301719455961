"""The limits that hold for a step's answers, what is spent of them, and what an answer of a model costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from stepchain_tui.llm.prices import Price
from stepchain_tui.llm.profiles import host_of
from stepchain_tui.plan import Budget
from stepchain_tui.run.budgets import RUN, BudgetAnswers, Limits, ModelAt
from stepchain_tui.run.ids import is_inside, parent_path, split_id
from stepchain_tui.run.step_state import Usage

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

USD = "usd"
TOKENS = "tokens"
LEEWAY = 1e-9
"""Part of a limit by which sums of floating-point numbers may miss it."""


class Limit(msgspec.Struct, frozen=True, gc=False):
    """One budget that an answer has to fit into: its scope (see `run.budgets`), its limits, and what is spent of it."""

    scope: str
    limits: Limits
    usage: Usage

    def of(self, unit: str) -> float | None:
        """Return the limit in a unit, None for none."""
        return self.limits.usd if unit == USD else self.limits.tokens

    def spent(self, unit: str) -> float:
        """Return what is spent of it."""
        return amount_of(self.usage, unit)


class _Guess(msgspec.Struct, gc=False):
    """What answers to a step took whose provider did not say it: an estimate, for as long as this engine lives.

    Attributes:
        generation: Which making of the step they belong to: what is made anew by hand begins its budget anew.
        usage: The estimate.
    """

    generation: int
    usage: Usage


class BudgetLimits:
    """The limits of one run, live from its state.

    Args:
        driver: The run.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._state = driver.state
        self._guessed: dict[str, _Guess] = {}
        self._guessed_of_run = Usage()

    def of(self, step_id: str) -> Iterator[Limit]:
        """Yield the budgets that hold for a step: its own, those of the plans around it, the run's."""
        for scope, limits in self._written(step_id):
            said = self._state.budgets.get(scope)
            if limits and (left := limits if said is None else said.over(limits)):
                yield Limit(scope, left, self.spent(scope))

    def _written(self, step_id: str) -> Iterator[tuple[str, Limits]]:
        """Yield the scopes around a step, the nearest first, with what the plan writes for each."""
        source = self._driver.source
        yield step_id, _limits(source.definition(step_id).step.budget)
        inside = step_id
        while outer := parent_path(inside):
            yield outer, _limits(source.definition(inside).plan.budget)
            inside = split_id(outer)[0]
        yield RUN, _limits(source.plan.budget)

    def written(self, step_id: str, scope: str) -> Limits:
        """Return what the plan writes as the budget of a scope around a step."""
        return next((limits for found, limits in self._written(step_id) if found == scope), Limits())

    def one(self, step_id: str, scope: str) -> Limit | None:
        """Return the budget of a scope, where it holds for a step."""
        return next((limit for limit in self.of(step_id) if limit.scope == scope), None)

    def spent(self, scope: str) -> Usage:
        """Return what counts for a budget: what is known, and estimates where a provider said nothing."""
        steps, total = self._state.steps, Usage()
        if scope == RUN:
            parts = [self._state.usage, self._guessed_of_run]
        else:
            is_step = scope in steps and steps[scope].outline.kind != "plan"
            counted = [steps[scope]] if is_step else [one for one in steps.values() if is_inside(one.id, scope)]
            parts = [one.spent for one in counted if one.spent is not None]
            for one in counted:
                guess = self._guessed.get(one.id)
                if guess is not None and guess.generation == one.generation:
                    parts.append(guess.usage)
        for usage in parts:
            total.include(usage)
        return total

    def guess(self, step_id: str, *, tokens: int, usd: float) -> None:
        """Count what an answer probably took beyond what its provider said."""
        generation, guess = self._state.steps[step_id].generation, self._guessed.get(step_id)
        if guess is None or guess.generation != generation:
            guess = self._guessed[step_id] = _Guess(generation, Usage())
        for usage in (guess.usage, self._guessed_of_run):
            usage.input_tokens += max(0, tokens)
            usage.cost += usd

    # --- models and their prices

    def chosen_model(self, step_id: str, model: str, provider: str) -> tuple[str, str]:
        """Return the model to ask, as a person chose it for the step or what is around it, and who answers for it.

        Args:
            step_id: The step.
            model: The real name of the model that it asks.
            provider: Who answers for that.
        """
        asked, name = ModelAt(provider, model), model
        for said in self._answers(step_id):
            for chosen in said.replacements:
                if chosen.asked == asked and self.place(step_id, chosen.name, asked.provider) == chosen.instead:
                    asked, name = chosen.instead, chosen.name
        return name, asked.provider

    def _answers(self, step_id: str) -> Iterator[BudgetAnswers]:
        """Yield what counts of what was said of the budgets around a step, the nearest first."""
        budgets = self._state.budgets
        for scope, limits in self._written(step_id) if budgets else ():
            if (said := budgets.get(scope)) is not None and said.counts_for(limits):
                yield said

    def place(self, step_id: str, model: str, provider: str) -> ModelAt:
        """Return which model is meant by a name in a step's plan."""
        return ModelAt(*self.as_priced(step_id, model, provider))

    def as_priced(self, step_id: str, model: str, provider: str) -> tuple[str, str]:
        """Return the host and the name under which a model has its price: the plan's `models` may give it others."""
        place = self._driver.source.definition(step_id).plan.models.get(model)
        if place is None:
            return provider, model
        return (host_of(place.base_url) if place.base_url else provider), str(place.options.get("model", model))

    def price(self, step_id: str, model: str, provider: str) -> Price | None:
        """Return the price of a model for a step, None where it is not known."""
        prices = self._driver.core.prices
        return prices.price(provider, model) or prices.price(*self.as_priced(step_id, model, provider))

    def are_affordable(self, step_id: str, model: str, provider: str) -> bool:
        """Return whether a model may be asked for a step as far as its price is known: only dollars need one."""
        if all(limit.limits.usd is None for limit in self.of(step_id)):
            return True
        return self.price(step_id, model, self.as_priced(step_id, model, provider)[0]) is not None


def _limits(written: Budget | None) -> Limits:
    return Limits() if written is None else Limits(written.usd, written.tokens)


def amount_of(usage: Usage, unit: str) -> float:
    """Return how much of a unit was taken."""
    return usage.cost if unit == USD else float(usage.input_tokens + usage.output_tokens)


def covers(scope: str, step_id: str) -> bool:
    """Return whether the budget of a scope counts what a step spends."""
    return scope in (RUN, step_id) or is_inside(step_id, scope)


def exceeds(taken: float, limit: float) -> bool:
    """Return whether a sum is above a limit by more than its rounding."""
    return taken > limit * (1 + LEEWAY)
