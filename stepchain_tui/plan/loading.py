"""Plan files: from text to a checked plan, or to all that is wrong with it, each with its line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import PlanError
from stepchain_tui.plan.check import find_mistakes
from stepchain_tui.plan.models import Plan
from stepchain_tui.plan.problems import Mistake, Problem, path_text
from stepchain_tui.plan.shapes import validate
from stepchain_tui.plan.tree import DEPTH_LIMIT, Node, TreeBuilder, TreeError

FILE_LIMIT = 5 * 1024 * 1024
"""Bytes of a plan file."""


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


def read_plan_text(path: Path) -> str:
    """Return the text of a plan file.

    Raises:
        PlanError: There is no such file, it cannot be read, is over 5 MB, or is not UTF-8 text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except FileNotFoundError:
        raise PlanError([f"{path}: there is no such file"], hint="Check the path.") from None
    except IsADirectoryError:
        raise PlanError([f"{path}: this is a folder, not a plan file"], hint="Name a file in it.") from None
    except (OSError, ValueError) as error:
        raise PlanError([f"{path}: cannot be read: {error}"], hint="Check the path and its permissions.") from None
    if len(data) > FILE_LIMIT:
        raise PlanError([f"{path}: {_TOO_LARGE}"], hint="Keep data out of the plan: read it from files in its steps.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        what = "a binary file, not a plan" if b"\0" in data else "not UTF-8 text"
        raise PlanError([f"{path}:{line}:{column}: plan: this is {what}"], hint="Save the file as UTF-8.") from None


def parse_plan(text: str, name: str, folder: Path, check_files: bool = True) -> LoadedPlan:
    """Return the plan in `text`, YAML or JSON.

    Args:
        text: The text of a plan file.
        name: The file's name in messages.
        folder: What `./` in the plan is relative to.
        check_files: Whether functions and folders that the plan names must be there.

    Raises:
        PlanError: The text has mistakes; `problems` has one line for each.
    """
    plan, problems = _read(text, folder, check_files)
    if plan is None or problems:
        raise PlanError(problem.text(name) for problem in problems)
    return LoadedPlan(plan, text, None, folder)


def find_problems(text: str, name: str, folder: Path, check_files: bool = True) -> list[Problem]:
    """Return every mistake of a plan's text, by line; an empty list where it can run.

    `name` is not used in the result, which has lines of its own; it is taken so that calls read like `parse_plan`.
    """
    return _read(text, folder, check_files)[1]


_TOO_LARGE = f"larger than {FILE_LIMIT // (1024 * 1024)} MB, which no plan file may be"


def _read(text: str, folder: Path, check_files: bool) -> tuple[Plan | None, list[Problem]]:
    if len(text) > FILE_LIMIT or (not text.isascii() and len(text.encode("utf-8", "replace")) > FILE_LIMIT):
        return None, [Problem(1, 1, "plan", _TOO_LARGE)]
    text = text.removeprefix("\ufeff")
    fast = _read_json(text)
    if fast is not None:
        plan, mistakes = _check(fast, folder, check_files)
        if plan is not None and not mistakes:
            return plan, []
        text = text.replace("\t", " ")
    builder = TreeBuilder()
    try:
        root = builder.build(text)
    except TreeError as error:
        return None, _in_order([*builder.problems, error.problem])
    plan, mistakes = _check(root.data, folder, check_files)
    return plan, _in_order([*builder.problems, *_with_places(root, mistakes)])


def _check(data: Any, folder: Path, check_files: bool) -> tuple[Plan | None, list[Mistake]]:
    plan, mistakes = validate(data)
    if isinstance(data, dict):
        others = find_mistakes(data, folder if check_files else None)
        later = {mistake.location for mistake in others if mistake.message.endswith("not available yet")}
        mistakes = [mistake for mistake in mistakes if not _within(mistake, later)] + others
    return plan, mistakes


def _within(mistake: Mistake, locations: set[tuple[str | int, ...]]) -> bool:
    return any(mistake.location[: end + 1] in locations for end in range(len(mistake.location)))


def _with_places(root: Node, mistakes: list[Mistake]) -> list[Problem]:
    problems = []
    for mistake in mistakes:
        line, column = root.find(mistake.location, on_key=mistake.on_key)
        problems.append(Problem(line, column, path_text(mistake.location), mistake.message, mistake.suggestion))
    return problems


def _in_order(problems: list[Problem]) -> list[Problem]:
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column))


class _NotPlainJsonError(ValueError):
    """Signals JSON that needs the slower reader: doubled keys, numbers that are none, deep nesting."""


def _read_json(text: str) -> Any:
    """Return the value of a JSON text, which is read much faster than YAML; None where it is not plain JSON."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        data = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_refuse)
        if "\\u" in text:
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return data if not _is_deep(data) else None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotPlainJsonError
    return found


def _refuse(word: str) -> Any:
    raise _NotPlainJsonError(word)


def _is_deep(data: Any) -> bool:
    level, depth = [data], 0
    while level and depth <= DEPTH_LIMIT:
        depth += 1
        level = [
            part
            for value in level
            for part in (value.values() if isinstance(value, dict) else value)
            if isinstance(part, dict | list)
        ]
    return depth > DEPTH_LIMIT
