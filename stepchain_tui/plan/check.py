"""Everything that can be wrong with a plan beyond the shape of its parts, for files and for plans built in Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import PlanError
from stepchain_tui.plan.availability import unavailable
from stepchain_tui.plan.check_names import NameChecker
from stepchain_tui.plan.check_steps import step_mistakes
from stepchain_tui.plan.input_values import spec_mistakes
from stepchain_tui.plan.models import Plan
from stepchain_tui.plan.problems import Mistake, Problem, path_text


def check_plan(plan: Plan, folder: Path | None) -> list[Problem]:
    """Return every mistake of `plan`; an empty list where it can run. Lines and columns are 0.

    Args:
        plan: The plan, its shape already validated.
        folder: What `./` is relative to; None leaves files unchecked.
    """
    try:
        data = plan.model_dump(exclude_unset=True, by_alias=True)
        mistakes = find_mistakes(data, folder)
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


def find_mistakes(data: dict[str, Any], folder: Path | None) -> list[Mistake]:
    """Return every mistake in a plan as plain data, which need not have the shape of one.

    What is not available yet is said once; nothing else is said of the same key.
    """
    later = list(unavailable(data))
    silenced = {mistake.location for mistake in later}
    found = [*later, *(mistake for mistake in _all(data, folder) if not _is_within(mistake, silenced))]
    return list(dict.fromkeys(found))


def _is_within(mistake: Mistake, silenced: set[tuple[str | int, ...]]) -> bool:
    location = mistake.location
    return bool(silenced) and any(location[: end + 1] in silenced for end in range(len(location)))


def _all(data: dict[str, Any], folder: Path | None) -> Iterator[Mistake]:
    inputs, steps, defaults = data.get("inputs"), data.get("steps"), data.get("defaults")
    if isinstance(steps, list | tuple) and not steps:
        yield Mistake(("steps",), "a plan needs at least one step")
    for name, spec in inputs.items() if isinstance(inputs, dict) else ():
        yield from spec_mistakes(("inputs", name), spec)
    for place, step in enumerate(steps if isinstance(steps, list | tuple) else ()):
        if isinstance(step, dict):
            yield from step_mistakes(place, step, defaults if isinstance(defaults, dict) else {}, folder)
    yield from NameChecker(data).mistakes()
