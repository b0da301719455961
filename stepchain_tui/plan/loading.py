"""Plan files: from text to a checked plan, or to all that is wrong with it and the plans in it, each with its line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stepchain_tui.core.errors import PlanError
from stepchain_tui.plan.check_subplans import subplan_mistakes
from stepchain_tui.plan.models import Plan
from stepchain_tui.plan.problems import Problem
from stepchain_tui.plan.reading import read_plan, read_plan_text


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """A checked plan with the text it came from.

    Attributes:
        plan: The plan.
        text: The file's text, exactly.
        path: The file, absolute; None where the text came from elsewhere.
        folder: What `./` in the plan is relative to.
    """

    plan: Plan
    text: str
    path: Path | None
    folder: Path


def load_plan(path: Path) -> LoadedPlan:
    """Return the plan in a YAML or JSON file.

    Raises:
        PlanError: The file cannot be read, or has mistakes: one line for each, `FILE:LINE:COL: PATH: what`.
    """
    text = read_plan_text(path)
    absolute = path.absolute()
    loaded = parse_plan(text, str(path), absolute.parent)
    return LoadedPlan(loaded.plan, text, absolute, absolute.parent)


def parse_plan(text: str, name: str, folder: Path, check_files: bool = True) -> LoadedPlan:
    """Return the plan in `text`, YAML or JSON.

    Args:
        text: The text of a plan file.
        name: The file's name in messages.
        folder: What `./` in the plan is relative to.
        check_files: Whether functions, folders and plans that the plan names must be there.

    Raises:
        PlanError: The text has mistakes; `problems` has one line for each.
    """
    plan, problems = _read(text, name, folder, check_files)
    if plan is None or problems:
        raise PlanError(problem.text(name) for problem in problems)
    return LoadedPlan(plan, text, None, folder)


def find_problems(text: str, name: str, folder: Path, check_files: bool = True) -> list[Problem]:
    """Return every mistake of a plan's text, by line; an empty list where it can run.

    What is wrong within a plan that a step names stands at that step. Of `name` only the last part is used: a plan
    that comes back to this file through others is known by it.
    """
    return _read(text, name, folder, check_files)[1]


def _read(text: str, name: str, folder: Path, check_files: bool) -> tuple[Plan | None, list[Problem]]:
    found = read_plan(text, folder, check_files)
    file = Path(name).name if "\0" not in name else ""
    further = subplan_mistakes(found.data, folder, folder / file if file else None) if check_files else []
    return found.plan, found.all_problems(further)
