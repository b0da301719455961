"""One plan file by itself: from bytes to text, from text to a plan with its mistakes, each with its line.

What other plan files it names is looked at by `check_subplans`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import PlanError
from stepchain_tui.plan.check_data import find_mistakes
from stepchain_tui.plan.models import Plan
from stepchain_tui.plan.problems import Mistake, Problem, path_text
from stepchain_tui.plan.shapes import validate
from stepchain_tui.plan.tree import DEPTH_LIMIT, Node, TreeBuilder, TreeError

FILE_LIMIT = 5 * 1024 * 1024
"""Bytes of a plan file."""
_TOO_LARGE = f"larger than {FILE_LIMIT // (1024 * 1024)} MB, which no plan file may be"


@dataclass(frozen=True, slots=True)
class PlanText:
    """The text of one plan file, read.

    Attributes:
        text: The text as it was read for places.
        data: The text as plain data; None where it has no tree.
        plan: The plan; None where the data has not the shape of one.
        mistakes: What is wrong with the plan by itself.
        problems: What is wrong with the text as YAML.
        root: The text as a tree; None where it was not needed.
    """

    text: str
    data: Any
    plan: Plan | None
    mistakes: Sequence[Mistake]
    problems: Sequence[Problem] = ()
    root: Node | None = None

    def all_problems(self, further: Sequence[Mistake] = ()) -> list[Problem]:
        """Return everything that is wrong, by line, with `further` mistakes that others found in the data."""
        mistakes = [*self.mistakes, *further]
        problems = list(self.problems)
        if mistakes:
            root = self.root or _tree(self.text)
            for mistake in mistakes:
                line, column = root.find(mistake.location, on_key=mistake.on_key) if root is not None else (1, 1)
                where = path_text(mistake.location)
                problems.append(Problem(line, column, where, mistake.message, mistake.suggestion))
        return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column))


def read_plan_text(path: Path, name: str = "") -> str:
    """Return the text of a plan file.

    Args:
        path: The file.
        name: What it is called in messages; the path where it is empty.

    Raises:
        PlanError: There is no such file, it cannot be read, is over 5 MB, or is not UTF-8 text.
    """
    name = name or str(path)
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except FileNotFoundError:
        raise PlanError([f"{name}: there is no such file"], hint="Check the path.") from None
    except IsADirectoryError:
        raise PlanError([f"{name}: this is a folder, not a plan file"], hint="Name a file in it.") from None
    except (OSError, ValueError) as error:
        raise PlanError([f"{name}: cannot be read: {error}"], hint="Check the path and its permissions.") from None
    if len(data) > FILE_LIMIT:
        raise PlanError([f"{name}: {_TOO_LARGE}"], hint="Keep data out of the plan: read it from files in its steps.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        what = "a binary file, not a plan" if b"\0" in data else "not UTF-8 text"
        raise PlanError([f"{name}:{line}:{column}: plan: this is {what}"], hint="Save the file as UTF-8.") from None


def read_plan(text: str, folder: Path, check_files: bool = True) -> PlanText:
    """Return the plan in a text, YAML or JSON, or what is wrong with it.

    Args:
        text: The text of a plan file.
        folder: What `./` in the plan is relative to.
        check_files: Whether functions and folders that the plan names must be there.
    """
    if len(text) > FILE_LIMIT or (not text.isascii() and len(text.encode("utf-8", "replace")) > FILE_LIMIT):
        return PlanText("", None, None, (), [Problem(1, 1, "plan", _TOO_LARGE)])
    text = text.removeprefix("\ufeff")
    fast = _read_json(text)
    if fast is not None:
        text = text.replace("\t", " ")
        plan, mistakes = _check(fast, folder, check_files)
        if plan is not None and not mistakes:
            return PlanText(text, fast, plan, ())
    builder = TreeBuilder()
    try:
        root = builder.build(text)
    except TreeError as error:
        return PlanText(text, None, None, (), [*builder.problems, error.problem])
    plan, mistakes = _check(root.data, folder, check_files)
    return PlanText(text, root.data, plan, mistakes, builder.problems, root)


def _check(data: Any, folder: Path, check_files: bool) -> tuple[Plan | None, list[Mistake]]:
    plan, mistakes = validate(data)
    if isinstance(data, dict):
        mistakes = mistakes + find_mistakes(data, folder if check_files else None)
    return plan, mistakes


def _tree(text: str) -> Node | None:
    try:
        return TreeBuilder().build(text)
    except TreeError:
        return None  # JSON may hold letters that YAML refuses.


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
