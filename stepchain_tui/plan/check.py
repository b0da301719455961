"""Everything that can be wrong with a plan beyond the shape of its parts, for plans built in Python."""

from __future__ import annotations

from pathlib import Path

from stepchain_tui.core.errors import PlanError
from stepchain_tui.plan.check_data import find_mistakes
from stepchain_tui.plan.check_subplans import subplan_mistakes
from stepchain_tui.plan.models import Plan
from stepchain_tui.plan.problems import Mistake, Problem, path_text


def check_plan(plan: Plan, folder: Path | None) -> list[Problem]:
    """Return every mistake of `plan` and of the plans in it; an empty list where it can run. Lines and columns are 0.

    Args:
        plan: The plan, its shape already validated.
        folder: What `./` is relative to; None leaves files unchecked.
    """
    try:
        data = plan.model_dump(exclude_unset=True, by_alias=True)
        mistakes = find_mistakes(data, folder)
        if folder is not None:
            mistakes += subplan_mistakes(data, folder)
    except (RecursionError, ValueError) as error:
        mistakes = [Mistake((), f"a value in the plan is nested too deeply, or within itself: {error}")]
    return [Problem(0, 0, path_text(mistake.location), mistake.message, mistake.suggestion) for mistake in mistakes]


def require_valid(plan: Plan, folder: Path | None) -> None:
    """Return if `plan` can run.

    Raises:
        PlanError: It cannot; `problems` has one line for each mistake.
    """
    problems = check_plan(plan, folder)
    if problems:
        raise PlanError(problem.text() for problem in problems)
