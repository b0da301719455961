"""Budgets: what answers of models may cost, and the question that is asked where the next one would cost too much.

Asked before each answer (`AttemptPorts.before_turn`), live from the run's state. An answer in flight counts with what
it is expected to take, so a budget is never exceeded by more than what was guessed too low. At the limit the attempt
ends at no cost of a try and its conversation stays; until a person has answered, other prompts and agents under the
same budget are held back, without a slot.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from stepchain_tui.engine.budget_limits import TOKENS, USD, BudgetLimits, amount_of, covers, exceeds
from stepchain_tui.engine.budget_question import (
    GOES_ON,
    HELD_BACK,
    Expected,
    Reached,
    asked_of,
    facts_of,
    fields_of,
    question_of,
    scope_of,
)
from stepchain_tui.engine.work import Work
from stepchain_tui.llm.choice import SCRIPTED
from stepchain_tui.llm.prices import Price
from stepchain_tui.llm.tokens import estimated_tokens
from stepchain_tui.plan import ActionKind
from stepchain_tui.plan.shared import called_entry
from stepchain_tui.run import events as e
from stepchain_tui.run.budgets import BudgetAction, amount
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.step_state import BUDGET

if TYPE_CHECKING:
    from stepchain_tui.engine.driver import Driver

_TEXTS = ("text", "refusal", "arguments", "input")
"""What a model itself wrote in an item of its answer."""


class _Tight(msgspec.Struct, frozen=True, gc=False):
    """What did not fit beside the answers in flight: how much of which unit, and the limit."""

    unit: str
    needed: float
    most: float


class Budgets:
    """The budgets of one run.

    Args:
        driver: The run.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.limits = BudgetLimits(driver)
        self._in_flight: dict[Work, Expected] = {}
        self._tight: dict[str, _Tight] = {}
        """Budgets, by scope, into which an answer did not fit beside those in flight."""
        self._without_prices = False

    # --- before and after an answer

    def before_turn(
        self, work: Work, *, model: str, provider: str, input_tokens: int, output_tokens: int | None
    ) -> str:
        """Return the model to ask. As `executors.types.CallPorts.before_turn`, for one attempt."""
        chosen = model
        if provider != SCRIPTED:
            chosen, provider = self.limits.chosen_model(work.step.id, model, provider)
        limits = list(self.limits.of(work.step.id))
        price = self.limits.price(work.step.id, chosen, provider)
        if price is None and any(limit.limits.usd is not None for limit in limits):
            raise self._unknown_price(work, chosen, provider)
        expected = self._expect(work, price, input_tokens, output_tokens)
        self._in_flight.pop(work, None)
        for limit in limits:
            for unit in (USD, TOKENS):
                most = limit.of(unit)
                if most is None:
                    continue
                alone = limit.spent(unit) + expected.of(unit)
                if exceeds(alone, most) or self._asked(limit.scope):
                    raise Reached(limit, unit, expected, chosen, provider, only_held=self._asked(limit.scope))
                if exceeds(alone + self._flying(limit.scope, unit), most):
                    self._tight[limit.scope] = _Tight(unit, expected.of(unit), most)
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
        output: Any,
    ) -> None:
        """Take note of an answer; where its provider did not say what it took, an estimate counts.

        Args:
            work: The attempt.
            input_tokens: Tokens of the question, None where they are not known.
            output_tokens: Tokens of the answer, None where they are not known.
            cost: What it cost, None where that is not known.
            output: The answer's items.
        """
        expected = self._in_flight.pop(work, None)
        if expected is None or (input_tokens is not None and output_tokens is not None):
            return
        asked = expected.input_tokens if input_tokens is None else input_tokens
        said = output_tokens
        if said is None:
            said = max(expected.output_tokens, estimated_tokens(_characters(output)))
        known = (input_tokens or 0) + (output_tokens or 0)
        usd = expected.price.of(asked, said) if cost is None and expected.price is not None else 0.0
        self.limits.guess(work.step.id, tokens=asked + said - known, usd=usd)

    def cost_of(
        self,
        work: Work,
        *,
        model: str,
        provider: str,
        input_tokens: int | None,
        output_tokens: int | None,
        cached_tokens: int | None,
    ) -> float | None:
        """Return what the answer in flight cost, None where that is not known.

        It has the price of the model that it names, and where that is not known the one that it was let through with:
        a model may call itself otherwise than it is asked for.

        Args:
            work: The attempt.
            model: The model that the answer names.
            provider: Who answered.
            input_tokens: Tokens of the question.
            output_tokens: Tokens of the answer.
            cached_tokens: Tokens of the question that the provider had at hand.
        """
        counts = {"input_tokens": input_tokens, "output_tokens": output_tokens, "cached_tokens": cached_tokens}
        cost = self._driver.core.prices.cost(provider, model, **counts)
        asked = self._in_flight.get(work)
        if cost is not None or asked is None or asked.price is None or input_tokens is None or output_tokens is None:
            return cost
        return asked.price.of(input_tokens, output_tokens, cached_tokens or 0)

    def first_without_prices(self) -> bool:
        """Return True once: for the first answer of the run whose price cannot be looked up."""
        first, self._without_prices = not self._without_prices, True
        return first

    def attempt_ended(self, work: Work) -> None:
        """Take note that an attempt asks no more."""
        self._in_flight.pop(work, None)

    def _expect(self, work: Work, price: Price | None, input_tokens: int, output_tokens: int | None) -> Expected:
        if output_tokens is None:
            talk = self._driver.state.steps[work.step.id].exchanges.get(work.item, ())
            earlier = [turn.output_tokens or 0 for turn in talk if isinstance(turn, e.ModelTurn)]
            output_tokens = round(sum(earlier) / len(earlier)) if earlier else 0
        usd = price.of(input_tokens, output_tokens) if price is not None else 0.0
        return Expected(usd, input_tokens, output_tokens, price)

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

    def _flying(self, scope: str, unit: str) -> float:
        """Return what answers in flight are expected to take of a budget."""
        return sum(expected.of(unit) for work, expected in self._in_flight.items() if covers(scope, work.step.id))

    # --- who is held back

    def _asked(self, scope: str) -> bool:
        """Return whether a question about this very budget is open."""
        return any(one == scope for one in self._open_scopes())

    def _open_scopes(self) -> Iterator[str]:
        for found in self._driver.approvals.open.values():
            if found.waiting.reason == BUDGET:
                yield scope_of(found.waiting)

    def holds(self, map_id: str | None, scope: str) -> bool:
        """Return whether prompts and agents of a map or of a sub-plan may not begin now: somebody is asked first, or
        what is left of their budget may all be taken by those at work.

        Args:
            map_id: The map whose items they are, or None.
            scope: What the ids of their steps begin with, such as `outer/`; empty for the plan's own.
        """
        one_of_them = map_id or f"{scope}any"
        if any(covers(tight, one_of_them) and self._is_full(tight) for tight in self._tight):
            return True
        if not self._driver.approvals.open:
            return False
        return any(covers(asked, one_of_them) for asked in self._open_scopes())

    def _is_full(self, scope: str) -> bool:
        """Return whether a budget has no room for one more answer while those who are at work may ask as much."""
        tight = self._tight[scope]
        at_work = [work for work in self._driver.bodies.values() if _asks_models(work) and covers(scope, work.step.id)]
        if not at_work:
            return False  # nobody spends: who does not fit now has to ask
        undecided = sum(work not in self._in_flight for work in at_work)
        spent = amount_of(self.limits.spent(scope), tight.unit) + self._flying(scope, tight.unit)
        return exceeds(spent + (undecided + 1) * tight.needed, tight.most)

    # --- the question

    def ask(self, work: Work, reached: Reached) -> None:
        """Ask how to go on, or send the attempt back to wait where that is asked already.

        Args:
            work: The attempt that would ask a model; it has given its slots back.
            reached: The budget.
        """
        driver = self._driver
        if reached.only_held or self._asked(reached.scope_id) or work.step.id in driver.approvals.open:
            driver.endings.send_back(work, HELD_BACK)
            self.go_on(work)
            return
        driver.approvals.wait(
            work,
            step_id=work.step.id,
            attempt=work.attempt,
            item=work.item,
            reason=BUDGET,
            question=question_of(reached, work.step.id),
            fields=fields_of(reached),
            input=driver.core.store.keep(facts_of(reached, driver.core.prices), driver.source.redactor),
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

    def ease(self, scope: str) -> None:
        """Take note that a budget is another one now: what did not fit may do so."""
        self._tight.pop(scope, None)

    # --- the plan was edited

    def look_again(self) -> None:
        """Let steps go on whose question has gone: the budget is another one now, or there is none."""
        driver = self._driver
        self._tight.clear()
        if driver.passive or driver.cancelling is not None:
            return
        for step_id, found in list(driver.approvals.open.items()):
            waiting, work = found.waiting, found.work
            if waiting.reason != BUDGET or work is None:
                continue
            asked, scope = asked_of(waiting), scope_of(waiting)
            unit = USD if asked.get("unit") == USD else TOKENS
            now = self.limits.one(step_id, scope)
            most = now.of(unit) if now is not None else None
            if now is None or most is None or not exceeds(now.spent(unit) + amount(asked.get("needed")), most):
                driver.approvals.open.pop(step_id)
                answer = {"action": BudgetAction.EDIT.value, "scope": scope}
                where: dict[str, Any] = {"step_id": step_id, "attempt": work.attempt, "item": work.item}
                driver.emit(e.StepResumed, **where, answer=answer, by="an edit of the plan")
                driver.endings.send_back(work, f"{GOES_ON}its budget was edited")
                self.go_on(work)


def _asks_models(work: Work) -> bool:
    """Return whether work asks models by our ports: prompts do, and agents that the plan describes."""
    definition = work.step.definition
    if work.step.kind is ActionKind.PROMPT:
        return True
    entry = called_entry(definition.step, definition.plan) if work.step.kind is ActionKind.AGENT else None
    return isinstance(entry, dict) and "agents" in entry


def _characters(items: Any) -> int:
    """Return how long the texts in an answer's items are, without the JSON around them."""
    total = 0
    for item in items if isinstance(items, list | tuple) else ():
        parts = [item]
        for name in ("content", "summary"):
            inner = item.get(name) if isinstance(item, dict) else None
            parts += inner if isinstance(inner, list | tuple) else [{"text": inner}]
        texts = (part.get(name) for part in parts if isinstance(part, dict) for name in _TEXTS)
        total += sum(len(text) for text in texts if isinstance(text, str))
    return total
