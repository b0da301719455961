"""Budgets as a run knows them: what its plan writes, and what persons said when one was reached.

A budget belongs to a scope: the empty text for the whole run, `outer` or `outer[2]` for the plan that such a step runs,
a step's id for the step. What was said of a scope is kept by the fold (`RunState.budgets`), so it holds over restarts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepchain_tui.run.state import RunState

RUN = ""
"""The scope of the whole run."""


class BudgetAction(StrEnum):
    """How a run goes on at a budget."""

    TOP_UP = "top_up"
    """With more money or more tokens."""
    CHEAPER_MODEL = "cheaper_model"
    """With another model for what is left."""
    FINISH = "finish"
    """Without this budget."""
    STOP = "stop"
    """Not now: the run is paused."""
    EDIT = "edit"
    """With another budget in the plan; nobody answers this, it is what an edit comes to."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be spent at most: US dollars and tokens, None for no limit."""

    usd: float | None = None
    tokens: int | None = None

    def __bool__(self) -> bool:
        return self.usd is not None or self.tokens is not None


@dataclass(slots=True)
class BudgetAnswers:
    """What persons said of one budget.

    Attributes:
        usd: Dollars that were added.
        tokens: Tokens that were added.
        model: The model that is asked from then on; empty for the one that is written.
        lifted: It holds no more.
    """

    usd: float = 0.0
    tokens: int = 0
    model: str = ""
    lifted: bool = False

    def add(self, answer: Mapping[str, Any]) -> None:
        """Take one more answer into account, see `step.resumed`; what is no amount adds nothing."""
        match answer.get("action"):
            case BudgetAction.TOP_UP:
                self.usd += amount(answer.get("usd"))
                self.tokens += int(amount(answer.get("tokens")))
            case BudgetAction.CHEAPER_MODEL:
                self.model = str(answer.get("model") or "")
            case BudgetAction.FINISH:
                self.lifted = True

    def begin_anew(self) -> None:
        """Forget what was said of the limit, because another one is written now; the model stays."""
        self.usd, self.tokens, self.lifted = 0.0, 0, False

    def over(self, written: Limits) -> Limits:
        """Return the limits that hold where these are written."""
        if self.lifted:
            return Limits()
        return Limits(
            None if written.usd is None else written.usd + self.usd,
            None if written.tokens is None else written.tokens + self.tokens,
        )


def amount(value: Any) -> float:
    """Return a positive, finite amount; 0 for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < math.inf else 0.0


def written_limits(budget: Any) -> Limits:
    """Return the limits that a plan's JSON writes as a `budget`."""
    if not isinstance(budget, Mapping):
        return Limits()
    return Limits(budget.get("usd"), budget.get("tokens"))


def run_limits(state: RunState) -> Limits:
    """Return the limits of the whole run as they hold now, with what persons added."""
    written = written_limits(state.plan.get("budget"))
    said = state.budgets.get(RUN)
    return written if said is None else said.over(written)


def changed_budgets(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield the scopes whose budget one plan's JSON writes otherwise than another."""
    if before.get("budget") != after.get("budget"):
        yield RUN
    old = {step.get("id"): step.get("budget") for step in before.get("steps") or ()}
    for step in after.get("steps") or ():
        if step.get("budget") != old.get(step.get("id")):
            yield step["id"]
