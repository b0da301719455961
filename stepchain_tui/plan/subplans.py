"""Plans in plans: the files that the `plan` steps of a plan name, to any depth.

A step `plan: ./other.yaml` runs another plan as one step. Each file is read once, however many steps name it, and a
plan that comes back to itself is a mistake. What an inner plan says of itself keeps its own scope: its `defaults`,
`secrets` and `limits` are those of its own steps, its `max_concurrent` bounds its own steps within the slots of the
run, and its expressions see its own `inputs` and `steps` only; what the outer plan knows comes in through `args`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import PlanError
from stepchain_tui.core.values import decode_json, encode_json
from stepchain_tui.plan.check_subplans import PlanFiles, PlanLink, plan_file_key
from stepchain_tui.plan.models import Plan, Step, plan_from_json, plan_to_json
from stepchain_tui.plan.problems import Problem, path_text


@dataclass(frozen=True)
class SubPlan:
    """A plan that a step of another one names.

    Attributes:
        path: Its file, absolute.
        plan: The plan.
        text: The file's text, exactly.
        folder: What `./` in the plan is relative to.
    """

    path: Path
    plan: Plan
    text: str
    folder: Path


def subplan_key(step: Step, folder: Path) -> str:
    """Return the key under which the plan of a `plan` step is found: its file's absolute path as text.

    The path is made from the words alone, so a run finds what it kept also after its files are gone.

    Args:
        step: A step with the key `plan`.
        folder: The folder of the plan that the step is in.

    Raises:
        UsageError: The text cannot be a path.
    """
    return plan_file_key(step.plan or "", folder)


def load_subplans(plan: Plan, folder: Path, path: Path | None = None) -> dict[str, SubPlan]:
    """Return every plan that can be reached from `plan`, by its key; each file is read once.

    Args:
        plan: A plan that `check_plan` finds nothing wrong with by itself.
        folder: What `./` in it is relative to.
        path: Its file, by which a plan is known that comes back to it; None where it has none.

    Raises:
        PlanError: A file cannot be read or has mistakes, arguments do not fit, or a plan reaches itself; one line for
            each mistake, those of the files as `FILE:LINE:COL: PATH: what`.
    """
    links = [PlanLink(place, step.plan, step.args) for place, step in enumerate(plan.steps) if step.plan is not None]
    if not links:
        return {}
    files = PlanFiles(links, len(plan.steps), folder, path)
    lines = [Problem(0, 0, path_text(found.location), found.message, found.suggestion).text() for found in files.own()]
    found: dict[str, SubPlan] = {}
    for file in files.files.values():
        lines += [problem.text(file.key) for problem in files.problems_of(file)]
        if file.read is not None and file.read.plan is not None:
            found[file.key] = SubPlan(Path(file.key), file.read.plan, file.text, Path(file.key).parent)
    if lines:
        raise PlanError(lines)
    return found


def subplans_to_json(subplans: Mapping[str, SubPlan]) -> dict[str, Any]:
    """Return `subplans` as a JSON value that a run can keep: key to `plan`, `text` and `folder`."""
    return {
        key: {"plan": decode_json(plan_to_json(found.plan)), "text": found.text, "folder": str(found.folder)}
        for key, found in subplans.items()
    }


def subplans_from_json(data: Mapping[str, Any]) -> dict[str, SubPlan]:
    """Return the plans in `data`, as `subplans_to_json` wrote them; no file is opened.

    Raises:
        pydantic.ValidationError: One of them is not a plan.
    """
    return {
        key: SubPlan(Path(key), plan_from_json(encode_json(kept["plan"])), kept["text"], Path(kept["folder"]))
        for key, kept in data.items()
    }
