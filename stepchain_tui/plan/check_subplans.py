"""What can be wrong between plan files: files that are not there, arguments that are no inputs, plans without end.

Nothing here recurses: the files are walked first, each read once, then judged.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from stepchain_tui.core.errors import PlanError, UsageError
from stepchain_tui.plan.check_steps import action_of, is_literal
from stepchain_tui.plan.expression_values import suggest
from stepchain_tui.plan.expressions import walk_text
from stepchain_tui.plan.graph import find_cycle
from stepchain_tui.plan.input_values import coerce_input
from stepchain_tui.plan.models import Plan
from stepchain_tui.plan.problems import Mistake, Problem
from stepchain_tui.plan.reading import PlanText, read_plan, read_plan_text

STEP_LIMIT = 100_000
"""Steps of a plan and all plans in it together, each counted as often as it is named."""
_ROOT = ""
_CYCLES = 20


def subplan_mistakes(data: Any, folder: Path, path: Path | None = None) -> list[Mistake]:
    """Return what is wrong with the plans that a plan in plain data reaches; each mistake stands at a step of `data`.

    Args:
        data: The plan as plain data, which need not have the shape of one.
        folder: What `./` in it is relative to.
        path: Its file, by which a plan is known that comes back to it; None where it has none.
    """
    links = list(_links(data))
    if not links:
        return []
    files = PlanFiles(links, len(data["steps"]), folder, path)
    found = files.own()
    for file in files.files.values():
        where = ("steps", files.place_of(file), "plan")
        found += [Mistake(where, f"in {problem.text(file.name)}") for problem in files.problems_of(file)]
    return list(dict.fromkeys(found))


class PlanLink(NamedTuple):
    """A step that names a plan file: its place in its plan, the file as written, its arguments."""

    place: int
    reference: str
    args: Any


def _links(data: Any) -> Iterator[PlanLink]:
    steps = data.get("steps") if isinstance(data, dict) else None
    for place, step in enumerate(steps if isinstance(steps, list | tuple) else ()):
        reference = step.get("plan") if isinstance(step, dict) else None
        if isinstance(reference, str) and reference and is_literal(reference) and action_of(step) == "plan":
            yield PlanLink(place, reference, step.get("args"))


def plan_file_key(reference: str, folder: Path) -> str:
    """Return the absolute path of a plan file as text, made from the words alone.

    Raises:
        UsageError: The text cannot be a path.
    """
    try:
        if reference and b"\0" not in os.fsencode(reference):
            return _absolute(folder / Path(reference).expanduser())
    except (RuntimeError, UnicodeEncodeError):
        pass  # There is no such home folder, or no file can have this name.
    raise UsageError(f"{reference[:80]!r} is not a path", hint="Write the path of a plan file, such as './other.yaml'.")


def _absolute(path: Path) -> str:
    return os.path.normpath(path.absolute())


@dataclass
class PlanFile:
    """One plan file on the way.

    Attributes:
        key: Its absolute path.
        name: What it is called in messages.
        trail: The real paths from the outermost plan to this file, itself included.
        failure: Why it cannot be read, or empty.
        suggestion: The file that was probably meant, or empty.
        text: Its text, exactly.
        read: The plan in it.
        links: The steps in it that name files.
    """

    key: str
    name: str
    trail: frozenset[str]
    failure: str = ""
    suggestion: str = ""
    text: str = ""
    read: PlanText | None = None
    links: list[PlanLink] = field(default_factory=list)

    def open(self, reference: str) -> None:
        """Read the file, or note in `failure` why that cannot be."""
        path = Path(self.key)
        try:
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                self.failure = f"'{reference}' is a folder, not a plan file"
            elif not stat.S_ISREG(mode):
                self.failure = f"'{reference}' is not a file"
            else:
                self.text = read_plan_text(path, self.name)
        except FileNotFoundError:
            self.failure = f"there is no file '{reference}'"
            nearby = _nearby(path.parent)
            self.suggestion = nearby.get(suggest(path.stem, nearby), "")
        except PlanError as error:
            self.failure = f"in {error.problems[0]}"
        except (OSError, ValueError) as error:
            self.failure = f"cannot read '{reference}': {error}"
        if not self.failure:
            self.read = read_plan(self.text, path.parent)
            self.links = list(_links(self.read.data))


def _nearby(folder: Path) -> dict[str, str]:
    """Return the plan files of a folder: name without ending to whole name."""
    try:
        return {other.stem: other.name for other in folder.iterdir() if other.suffix in (".yaml", ".yml", ".json")}
    except OSError:
        return {}


class PlanFiles:
    """All plan files that one plan reaches, read.

    Args:
        links: The steps of the outermost plan that name files.
        count: How many steps it has.
        folder: What `./` in it is relative to.
        path: Its own file, or None.
    """

    def __init__(self, links: list[PlanLink], count: int, folder: Path, path: Path | None) -> None:
        self.files: dict[str, PlanFile] = {}
        self._links = links
        self._count = count
        self._folder = folder
        self._own_key = _absolute(path) if path is not None else _ROOT
        self._own_name = path.name if path is not None else "this plan"
        self._edges: dict[str, list[str]] = {self._own_key: []}
        self._places: dict[str, int] = {}
        trail = frozenset([os.path.realpath(path)] if path is not None else [])
        self._base = _absolute(folder)
        for link in links:
            waiting = self._follow(self._own_key, trail, link, folder, link.place)
            while waiting:
                file = waiting.pop()
                for inner in file.links:
                    waiting += self._follow(file.key, file.trail, inner, Path(file.key).parent, link.place)

    def own(self) -> list[Mistake]:
        """Return what is wrong at the steps of the outermost plan: files, arguments, cycles, too many steps."""
        found = [mistake for link in self._links for mistake in self._link_mistakes(link, self._folder)]
        cycles = list(self._cycles())
        return [*found, *cycles] if cycles else [*found, *self._size_mistakes()]

    def place_of(self, file: PlanFile) -> int:
        """Return the place of the first step of the outermost plan through which a file is reached."""
        return self._places[file.key]

    def problems_of(self, file: PlanFile) -> list[Problem]:
        """Return what is wrong within one file, by line."""
        if file.read is None:
            return []
        folder = Path(file.key).parent
        return file.read.all_problems([found for link in file.links for found in self._link_mistakes(link, folder)])

    def _follow(self, owner: str, trail: frozenset[str], link: PlanLink, folder: Path, place: int) -> list[PlanFile]:
        """Note where a link leads; return the file, read, if it is met for the first time."""
        try:
            key = plan_file_key(link.reference, folder)
        except UsageError:
            return []
        self._places.setdefault(key, place)
        if key == self._own_key or key in self.files:
            self._edges[owner].append(key)
            return []
        real = os.path.realpath(key)
        if real in trail:
            # The same file under another name, through a link in the file system: without end if it were followed.
            known = (
                file.key for file in self.files.values() if real in file.trail and os.path.realpath(file.key) == real
            )
            self._edges[owner].append(next(known, self._own_key))
            return []
        self._edges[owner].append(key)
        self._edges[key] = []
        file = self.files[key] = PlanFile(key, os.path.relpath(key, self._base), trail | {real})
        file.open(link.reference)
        return [file]

    def _link_mistakes(self, link: PlanLink, folder: Path) -> Iterator[Mistake]:
        where = ("steps", link.place, "plan")
        try:
            file = self.files.get(plan_file_key(link.reference, folder))
        except UsageError as error:
            yield Mistake(where, str(error))
            return
        if file is not None and file.failure:
            yield Mistake(where, file.failure, file.suggestion)
        elif file is not None and file.read is not None and file.read.plan is not None:
            yield from _argument_mistakes(link, file.read.plan, file.name, folder)

    def _cycles(self) -> Iterator[Mistake]:
        edges = {key: list(found) for key, found in self._edges.items()}
        order = {key: place for place, key in enumerate(edges)}
        for _ in range(_CYCLES):
            path = find_cycle(edges)
            if path is None:
                return
            files = path[:0:-1]
            first = files.index(min(files, key=order.__getitem__))
            files = files[first:] + files[:first]
            shown = [self._name(key) for key in (*files, files[0])]
            if len(shown) > 12:
                shown = [*shown[:6], "...", *shown[-5:]]
            place = self._places[files[1 % len(files)] if files[0] == self._own_key else files[0]]
            yield Mistake(("steps", place, "plan"), f"plans run each other without end: {' -> '.join(shown)}")
            for before, after in pairwise((*files, files[0])):
                edges[before] = [key for key in edges[before] if key != after]

    def _name(self, key: str) -> str:
        return self._own_name if key == self._own_key else self.files[key].name

    def _size_mistakes(self) -> Iterator[Mistake]:
        sizes: dict[str, int] = {}
        for key in TopologicalSorter(self._edges).static_order():
            inner = self.files.get(key)
            own = self._count if inner is None else len(inner.read.plan.steps) if inner.read and inner.read.plan else 0
            sizes[key] = own + sum(sizes[to] for to in self._edges[key])
        if sizes[self._own_key] > STEP_LIMIT and self._edges[self._own_key]:
            largest = max(self._edges[self._own_key], key=sizes.__getitem__)
            message = f"this plan and the plans in it have {sizes[self._own_key]:,} steps, more than {STEP_LIMIT:,}"
            yield Mistake(("steps", self._places[largest], "plan"), message)


def _argument_mistakes(link: PlanLink, plan: Plan, name: str, folder: Path) -> Iterator[Mistake]:
    """Yield where the arguments of a `plan` step are not the inputs of its plan."""
    where = ("steps", link.place, "args")
    given = link.args if isinstance(link.args, dict) else {}
    for key, value in given.items():
        spec = plan.inputs.get(key)
        if spec is None:
            known = "" if plan.inputs else ", which has no inputs"
            message = f"unknown argument '{key}': it is no input of {name}{known}"
            yield Mistake((*where, key), message, suggest(key, plan.inputs), on_key=True)
        elif not any(True for _ in walk_text(value)):
            try:
                coerce_input(spec, value, folder)
            except ValueError as error:
                yield Mistake((*where, key), str(error))
    for key, spec in plan.inputs.items():
        if key not in given and not spec.has_default:
            yield Mistake(
                where if link.args is not None else ("steps", link.place, "plan"),
                f"argument '{key}' is missing: an input of {name}",
            )
