"""The limits that hold for a step's answers, what is spent of them, and what an answer of a model costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from stepchain_tui.llm.prices import Price
from stepchain_tui.llm.profiles import host_of
from stepchain_tui.plan import Budget
from stepchain_tui.run.budgets import RUN, Limits
from stepchain_tui.run.ids import is_inside, parent_path, split_id
from stepchain_tui.run.state import Usage

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

USD = "usd"
TOKENS = "tokens"
_LEEWAY = 1e-9
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


class BudgetLimits:
    """The limits of one run, live from its state.

    Args:
        driver: The run.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._state = driver.state
        self._guessed: dict[str, Usage] = {}
        """What answers took whose provider did not say it, by scope: estimates, for as long as this engine lives."""

    def of(self, step_id: str) -> Iterator[Limit]:
        """Yield the budgets that hold for a step: its own, those of the plans around it, the run's."""
        source = self._driver.source
        yield from self._limit(step_id, source.definition(step_id).step.budget)
        inside = step_id
        while outer := parent_path(inside):
            yield from self._limit(outer, source.definition(inside).plan.budget)
            inside = split_id(outer)[0]
        yield from self._limit(RUN, source.plan.budget)

    def one(self, step_id: str, scope: str) -> Limit | None:
        """Return the budget of a scope, where it holds for a step."""
        return next((limit for limit in self.of(step_id) if limit.scope == scope), None)

    def _limit(self, scope: str, written: Budget | None) -> Iterator[Limit]:
        if written is None:
            return
        limits, said = Limits(written.usd, written.tokens), self._state.budgets.get(scope)
        if said is not None:
            limits = said.over(limits)
        if limits:
            yield Limit(scope, limits, self.spent(scope))

    def spent(self, scope: str) -> Usage:
        """Return what counts for a budget: what is known, and estimates where a provider said nothing."""
        steps, total = self._state.steps, Usage()
        if scope == RUN:
            parts = [self._state.usage]
        elif scope in steps and steps[scope].outline.kind != "plan":
            parts = [spent] if (spent := steps[scope].spent) is not None else []
        else:
            parts = [one.spent for one in steps.values() if one.spent is not None and is_inside(one.id, scope)]
        if (guessed := self._guessed.get(scope)) is not None:
            parts.append(guessed)
        for usage in parts:
            total.include(usage)
        return total

    def guess(self, step_id: str, *, tokens: int, usd: float) -> None:
        """Count what an answer probably took beyond what its provider said."""
        for limit in self.of(step_id):
            usage = self._guessed.setdefault(limit.scope, Usage())
            usage.input_tokens += max(0, tokens)
            usage.cost += usd

    # --- models and their prices

    def chosen_model(self, step_id: str) -> str:
        """Return the model that a person chose for the step or for what is around it; the nearest choice holds."""
        budgets = self._state.budgets
        if not budgets:
            return ""
        scopes, inside = [step_id], step_id
        while outer := parent_path(inside):
            scopes.append(outer)
            inside = split_id(outer)[0]
        return next((said.model for scope in (*scopes, RUN) if (said := budgets.get(scope)) and said.model), "")

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


def amount_of(usage: Usage, unit: str) -> float:
    """Return how much of a unit was taken."""
    return usage.cost if unit == USD else float(usage.input_tokens + usage.output_tokens)


def covers(scope: str, step_id: str) -> bool:
    """Return whether the budget of a scope counts what a step spends."""
    return scope in (RUN, step_id) or is_inside(step_id, scope)


def exceeds(taken: float, limit: float) -> bool:
    """Return whether a sum is above a limit by more than its rounding."""
    return taken > limit * (1 + _LEEWAY)
