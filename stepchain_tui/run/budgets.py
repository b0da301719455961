"""Budgets as a run knows them: what its plan writes, and what persons said when one was reached.

A budget belongs to a scope: the empty text for the whole run, `outer` or `outer[2]` for the plan that such a step runs,
a step's id for the step. What was said of a scope is kept by the fold (`RunState.budgets`), so it holds over restarts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class ModelAt:
    """A model by its real name at the one who answers for it (as in `model.turn`)."""

    provider: str = ""
    model: str = ""

    @classmethod
    def read(cls, told: Any) -> ModelAt:
        """Return the model that an answer tells; an imported run may hold anything."""
        found = told if isinstance(told, Mapping) else {}
        return cls(str(found.get("provider") or ""), str(found.get("model") or ""))

    def told(self) -> dict[str, str]:
        """Return it as an answer tells it."""
        return {"provider": self.provider, "model": self.model}


@dataclass(frozen=True, slots=True)
class Replacement:
    """One model that is asked in place of another.

    Attributes:
        asked: The one that was to be asked.
        name: The other one, as a person named it; a name of the plan's `models` among them.
        instead: What was meant by that name.
    """

    asked: ModelAt
    name: str
    instead: ModelAt


@dataclass(slots=True)
class BudgetAnswers:
    """What persons said of one budget; it counts as long as the plan writes the budget that they were asked about.

    Attributes:
        usd: Dollars that were added.
        tokens: Tokens that were added.
        model: The model that a person chose last; empty for none.
        lifted: It holds no more.
        written: What the plan wrote when they answered, None where that is not known.
        replacements: The models that were chosen, in the order of the answers; others are asked as before.
    """

    usd: float = 0.0
    tokens: int = 0
    model: str = ""
    lifted: bool = False
    written: Limits | None = None
    replacements: list[Replacement] = field(default_factory=list)

    def add(self, answer: Mapping[str, Any]) -> None:
        """Take one more answer into account, see `step.resumed`; what is no amount adds nothing."""
        if isinstance(told := answer.get("written"), Mapping):
            written = written_limits(told)
            if not self.counts_for(written):
                self.begin_anew()
            self.written = written
        match answer.get("action"):
            case BudgetAction.TOP_UP:
                self.usd += amount(answer.get("usd"))
                self.tokens += int(amount(answer.get("tokens")))
            case BudgetAction.CHEAPER_MODEL:
                self.model = str(answer.get("model") or "")
                asked, instead = ModelAt.read(answer.get("instead_of")), ModelAt.read(answer.get("asks"))
                self.replacements.append(Replacement(asked, self.model, instead))
            case BudgetAction.FINISH:
                self.lifted = True

    def begin_anew(self) -> None:
        """Forget what was said, because another budget is written now."""
        self.usd, self.tokens, self.model, self.lifted, self.written = 0.0, 0, "", False, None
        self.replacements.clear()

    def counts_for(self, written: Limits) -> bool:
        """Return whether what was said is said of a budget that is written like this."""
        return self.written is None or self.written == written

    def over(self, written: Limits) -> Limits:
        """Return the limits that hold where these are written."""
        if not self.counts_for(written):
            return written
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
