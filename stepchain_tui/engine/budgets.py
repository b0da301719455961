"""Budgets: what answers of models may cost, and the question that is asked where the next one would cost too much.

Asked before each answer (`AttemptPorts.before_turn`), live from the run's state. An answer in flight counts with what
it is expected to take: near a limit answers are made one after the other, so a budget is never exceeded by more than
what was guessed too low. At the limit the attempt ends at no cost of a try and its conversation stays; until a person
has answered, other prompts and agents under the same budget are held back, without a slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from stepchain_tui.engine.work import Work
from stepchain_tui.executors.types import BudgetReached
from stepchain_tui.llm.choice import SCRIPTED
from stepchain_tui.llm.prices import Price
from stepchain_tui.plan import Budget
from stepchain_tui.run import events as e
from stepchain_tui.run.budgets import RUN, BudgetAction, Limits
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.ids import is_inside, parent_path, split_id
from stepchain_tui.run.spending import dollars
from stepchain_tui.run.state import BUDGET, Usage
from stepchain_tui.run.status import ErrorType

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

USD = "usd"
TOKENS = "tokens"
MOST_MODELS = 12
"""Cheaper models that a question offers."""
_CHARACTERS_PER_TOKEN = 4
_LEEWAY = 1e-9
"""Part of a limit by which sums of floating-point numbers may miss it."""


class _Expected(msgspec.Struct, frozen=True, gc=False):
    """What an answer is expected to take."""

    usd: float = 0.0
    tokens: int = 0

    def of(self, unit: str) -> float:
        return self.usd if unit == USD else float(self.tokens)


class _Limit(msgspec.Struct, frozen=True, gc=False):
    """One budget that an answer has to fit into: its scope, its limits, and what is spent of it."""

    scope: str
    limits: Limits
    usage: Usage

    def of(self, unit: str) -> float | None:
        return self.limits.usd if unit == USD else self.limits.tokens

    def spent(self, unit: str) -> float:
        return self.usage.cost if unit == USD else float(self.usage.input_tokens + self.usage.output_tokens)


class Reached(BudgetReached):
    """A budget is reached, and whose it is.

    Attributes:
        scope_id: The scope, see `run.budgets`.
        provider: Who would be asked.
        expected: What the next answer is expected to take.
        only_held: Nobody needs to be asked: another question is open, or answers in flight take what is left for now.
    """

    def __init__(
        self, limit: _Limit, unit: str, expected: _Expected, model: str, provider: str, *, only_held: bool = False
    ) -> None:
        scope = "run" if limit.scope == RUN else "step"
        super().__init__(scope, unit, limit.of(unit) or 0.0, limit.spent(unit), expected.of(unit), model)
        self.scope_id = limit.scope
        self.provider = provider
        self.only_held = only_held


class Budgets:
    """The budgets of one run.

    Args:
        driver: The run.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._state = driver.state
        self._in_flight: dict[Work, _Expected] = {}
        self._guessed: dict[str, Usage] = {}
        """What answers took whose provider did not say it, by scope: estimates, for as long as this engine lives."""
        self._one_by_one = False
        """An answer did not fit beside those in flight."""
        self._without_prices = False

    # --- before and after an answer

    def before_turn(
        self, work: Work, *, model: str, provider: str, input_tokens: int, output_tokens: int | None
    ) -> str:
        """Return the model to ask. As `executors.types.CallPorts.before_turn`, for one attempt."""
        chosen = self._chosen_model(work.step.id) or model
        if chosen != model:
            provider = self._provider_of(chosen, provider)
        limits = list(self._limits(work.step.id))
        if not limits:
            return chosen
        price = self._driver.core.prices.price(provider, chosen)
        if price is None and any(limit.limits.usd is not None for limit in limits):
            raise self._unknown_price(work, chosen, provider)
        expected = self._expected(work, price, input_tokens, output_tokens)
        self._in_flight.pop(work, None)
        for limit in limits:
            for unit in (USD, TOKENS):
                most = limit.of(unit)
                if most is None:
                    continue
                alone = limit.spent(unit) + expected.of(unit)
                if _exceeds(alone, most) or self._asked(limit.scope):
                    raise Reached(limit, unit, expected, chosen, provider, only_held=self._asked(limit.scope))
                if _exceeds(alone + self._flying(limit.scope, unit), most):
                    self._one_by_one = True
                    raise Reached(limit, unit, expected, chosen, provider, only_held=True)
        self._in_flight[work] = expected
        return chosen

    def turn_ended(
        self,
        work: Work,
        *,
        input_tokens: int | None,
        output_tokens: int | None,
        cost: float | None,
        characters: int,
    ) -> None:
        """Take note of an answer; where its provider did not say what it took, an estimate counts.

        Args:
            work: The attempt.
            input_tokens: Tokens of the question, None where they are not known.
            output_tokens: Tokens of the answer, None where they are not known.
            cost: What it cost, None where that is not known.
            characters: How long the answer was.
        """
        expected = self._in_flight.pop(work, None)
        if expected is None or (input_tokens is not None and output_tokens is not None):
            return
        guessed = max(expected.tokens, (input_tokens or 0) + (output_tokens or characters // _CHARACTERS_PER_TOKEN))
        for limit in self._limits(work.step.id):
            usage = self._guessed.setdefault(limit.scope, Usage())
            usage.input_tokens += guessed - (input_tokens or 0) - (output_tokens or 0)
            usage.cost += expected.usd if cost is None else 0.0

    def first_without_prices(self) -> bool:
        """Return True once: for the first answer of the run whose price cannot be looked up."""
        first, self._without_prices = not self._without_prices, True
        return first

    def attempt_ended(self, work: Work) -> None:
        """Take note that an attempt asks no more."""
        self._in_flight.pop(work, None)

    def _expected(self, work: Work, price: Price | None, input_tokens: int, output_tokens: int | None) -> _Expected:
        if output_tokens is None:
            talk = self._state.steps[work.step.id].exchanges.get(work.item, ())
            earlier = [turn.output_tokens or 0 for turn in talk if isinstance(turn, e.ModelTurn)]
            output_tokens = round(sum(earlier) / len(earlier)) if earlier else 0
        usd = price.of(input_tokens, output_tokens) if price is not None else 0.0
        return _Expected(usd, input_tokens + output_tokens)

    def _unknown_price(self, work: Work, model: str, provider: str) -> AttemptError:
        prices = self._driver.core.prices
        why = f": {prices.problem}" if prices.problem else ""
        return AttemptError(
            f"step '{work.step.id}' has a budget in dollars, and the price of {model} at {provider} is not known{why}",
            error_type=ErrorType.USER_ERROR,
            hint=f'Write its price into {prices.path or "prices.json"}, under "{provider}/{model}", or give the '
            "budget in tokens.",
            exception="UnknownPrice",
            details={"model": model, "provider": provider},
        )

    # --- the limits

    def _limits(self, step_id: str) -> Iterator[_Limit]:
        """Yield the budgets that hold for a step: its own, those of the plans around it, the run's."""
        source = self._driver.source
        yield from self._limit(step_id, source.definition(step_id).step.budget)
        inside = step_id
        while outer := parent_path(inside):
            yield from self._limit(outer, source.definition(inside).plan.budget)
            inside = split_id(outer)[0]
        yield from self._limit(RUN, source.plan.budget)

    def _limit(self, scope: str, written: Budget | None) -> Iterator[_Limit]:
        if written is None:
            return
        limits, said = Limits(written.usd, written.tokens), self._state.budgets.get(scope)
        if said is not None:
            limits = said.over(limits)
        if limits:
            yield _Limit(scope, limits, self._spent(scope))

    def _spent(self, scope: str) -> Usage:
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

    def _flying(self, scope: str, unit: str) -> float:
        """Return what answers in flight are expected to take of a budget."""
        return sum(expected.of(unit) for work, expected in self._in_flight.items() if covers(scope, work.step.id))

    def written(self, step_id: str, scope: str, unit: str) -> float | None:
        """Return a limit that holds for a step by its scope and unit, None where there is none."""
        return next((limit.of(unit) for limit in self._limits(step_id) if limit.scope == scope), None)

    # --- other models

    def _chosen_model(self, step_id: str) -> str:
        """Return the model that a person chose for the step or for what is around it; the nearest choice holds."""
        budgets = self._state.budgets
        if not budgets:
            return ""
        scopes, inside = [step_id], step_id
        while outer := parent_path(inside):
            scopes.append(outer)
            inside = split_id(outer)[0]
        return next((said.model for scope in (*scopes, RUN) if (said := budgets.get(scope)) and said.model), "")

    def _provider_of(self, model: str, provider: str) -> str:
        """Return who is asked for a model: the address that the plan's `models` give it, else who was asked so far."""
        place = self._driver.source.plan.models.get(model)
        return (urlsplit(place.base_url).netloc or provider) if place is not None and place.base_url else provider

    def is_affordable(self, step_id: str, model: str, provider: str) -> bool:
        """Return whether a model may be asked under the budgets of a step as far as its price is known."""
        if all(limit.limits.usd is None for limit in self._limits(step_id)):
            return True
        return self._driver.core.prices.price(self._provider_of(model, provider), model) is not None

    # --- who is held back

    def _asked(self, scope: str) -> bool:
        """Return whether a question about this very budget is open."""
        return any(one == scope for one in self._open_scopes())

    def _open_scopes(self) -> Iterator[str]:
        for found in self._driver.approvals.open.values():
            if found.waiting.reason == BUDGET:
                yield scope_of(found.waiting)

    def holds(self, map_id: str | None, scope: str) -> bool:
        """Return whether prompts and agents of a map or of a sub-plan may not begin now.

        Args:
            map_id: The map whose items they are, or None.
            scope: What the ids of their steps begin with, such as `outer/`; empty for the plan's own.
        """
        if self._one_by_one and any(work.step.talks for work in self._driver.bodies.values()):
            return True
        open_questions = self._driver.approvals.open
        if not open_questions:
            return False
        one_of_them = map_id or f"{scope}any"
        return any(covers(asked, one_of_them) for asked in self._open_scopes())

    # --- the question

    def ask(self, work: Work, reached: Reached) -> None:
        """Ask how to go on, or send the attempt back to wait where that is asked already.

        Args:
            work: The attempt that would ask a model; it has given its slots back.
            reached: The budget.
        """
        driver = self._driver
        if reached.only_held or self._asked(reached.scope_id) or work.step.id in driver.approvals.open:
            driver.endings.send_back(work, "held back by the budget")
            self.go_on(work)
            return
        driver.approvals.wait(
            work,
            step_id=work.step.id,
            attempt=work.attempt,
            item=work.item,
            reason=BUDGET,
            question=_question(reached, work.step.id),
            fields=self._fields(reached, work.step.id),
            input=driver.core.store.keep(self._facts(reached, work.step.id), driver.source.redactor),
        )

    def go_on(self, work: Work) -> None:
        """Queue an attempt once more that was sent back."""
        driver = self._driver
        if driver.passive:
            return
        if work.item is None:
            driver.frontier.consider(work.step.id)
        else:
            driver.frontier.enqueue(Work(driver.prepared(work.step.id), work.item, work.tries))

    def _facts(self, reached: Reached, step_id: str) -> dict[str, Any]:
        return {
            "scope": reached.scope,
            "scope_id": reached.scope_id,
            "unit": reached.unit,
            "limit": reached.limit,
            "spent": reached.spent,
            "needed": reached.needed,
            "model": reached.model,
            "provider": reached.provider,
            "models": self._cheaper(reached),
        }

    def _cheaper(self, reached: Reached) -> list[dict[str, Any]]:
        """Return the known models that cost less than the one that would be asked, the cheapest first."""
        prices = self._driver.core.prices
        own = prices.price(reached.provider, reached.model)
        if own is None or reached.provider == SCRIPTED:
            return []
        cheaper = [
            {"model": name, "input": price.input, "output": price.output}
            for name, price in prices.models(reached.provider).items()
            if (price.output, price.input) < (own.output, own.input)
        ]
        return cheaper[:MOST_MODELS]

    def _fields(self, reached: Reached, step_id: str) -> dict[str, Any]:
        """Return what an answer may hold, as the specifications of inputs."""
        choices = [action.value for action in BudgetAction if action is not BudgetAction.EDIT]
        if reached.provider == SCRIPTED:
            choices.remove(BudgetAction.CHEAPER_MODEL)
        kind = "number" if reached.unit == USD else "integer"
        more = suggestion(reached.unit, reached.limit, reached.spent, reached.needed)
        what = "Dollars" if reached.unit == USD else "Tokens"
        fields: dict[str, Any] = {
            "action": {"type": "choice", "choices": choices, "description": "How the run goes on."},
            reached.unit: {"type": kind, "default": more, "description": f"{what} to add, for top_up."},
        }
        if BudgetAction.CHEAPER_MODEL in choices:
            fields["model"] = {"type": "text", "default": "", "description": "The model to ask, for cheaper_model."}
        return fields

    # --- the plan was edited

    def look_again(self) -> None:
        """Let steps go on whose question has gone: the budget is another one now, or there is none."""
        driver = self._driver
        if driver.passive or driver.cancelling is not None:
            return
        for step_id, found in list(driver.approvals.open.items()):
            waiting, work = found.waiting, found.work
            if waiting.reason != BUDGET or work is None or waiting.input is None:
                continue
            asked, scope = waiting.input.value or {}, scope_of(waiting)
            now = next((limit for limit in self._limits(step_id) if limit.scope == scope), None)
            most = now.of(asked["unit"]) if now is not None else None
            if now is None or most is None or not _exceeds(now.spent(asked["unit"]) + asked["needed"], most):
                driver.approvals.open.pop(step_id)
                answer = {"action": BudgetAction.EDIT.value, "scope": scope}
                where: dict[str, Any] = {"step_id": step_id, "attempt": work.attempt, "item": work.item}
                driver.emit(e.StepResumed, **where, answer=answer, by="an edit of the plan")
                driver.endings.send_back(work, "goes on: its budget was edited")
                self.go_on(work)


def covers(scope: str, step_id: str) -> bool:
    """Return whether the budget of a scope counts what a step spends."""
    return scope in (RUN, step_id) or is_inside(step_id, scope)


def scope_of(waiting: e.StepWaiting) -> str:
    """Return whose budget a question is about, see `run.budgets`."""
    asked = waiting.input.value if waiting.input is not None else None
    return str(asked.get("scope_id", RUN)) if isinstance(asked, dict) else RUN


def suggestion(unit: str, limit: float, spent: float, needed: float) -> float:
    """Return how much to add: as much again as the budget is, and at least what the next answer needs twice."""
    more = max(limit, spent + 2 * needed - limit)
    return round(more + 0.005, 2) if unit == USD and more >= 0.01 else round(more, 6) if unit == USD else int(more)


def told(unit: str, value: float) -> str:
    """Return an amount of a budget in words."""
    return dollars(value) if unit == USD else f"{int(value):,}"


def _exceeds(amount: float, limit: float) -> bool:
    return amount > limit * (1 + _LEEWAY)


def _question(reached: Reached, step_id: str) -> str:
    unit = reached.unit
    of = " tokens" if unit == TOKENS else ""
    who = "The run" if reached.scope_id == RUN else f"Step {reached.scope_id}"
    verb, will = ("has spent", "cost") if unit == USD else ("has used", "take")
    return (
        f"{who} {verb} {told(unit, reached.spent)} of {told(unit, reached.limit)}{of}, and the next answer of "
        f"{reached.model} for {step_id} is expected to {will} {told(unit, reached.needed)}{of}. How is it to go on?"
    )
