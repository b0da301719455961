"""Repairs without a model: what the class of an error and the plan itself tell of its cause.

A rule proposes only what it can tell from the plan, the kept events and files that are read, never run. Where none
fits, the proposal has no edits and says what a person can do.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.llm.plan_repair import Edit
from stepchain_tui.plan import Plan, Step, effective_timeout, function_location, module_file
from stepchain_tui.plan.expression_values import suggest
from stepchain_tui.plan.servers import server_tool
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.step_state import StepState
from stepchain_tui.tools.registry import shared_tools

LONGEST_TIMEOUT = 24 * 3600.0
MOST_ATTEMPTS = 10
_SHORT = 30.0
"""Seconds of a timeout up to which it is raised fourfold, above twofold."""
_LARGEST_FILE = 2_000_000
_NOT_FOUND = 127
"""The exit code of a shell that did not find a command."""
_NOT_DEFINED = re.compile(r"name '(\w+)' is not defined")
_MISSING = re.compile(r"^\{\{ ?(?P<expression>.*?) ?\}\}: .*? has no (?:key|step|input)[^']*'(?P<name>\w+)'", re.DOTALL)
_MEANT = re.compile(r"did you mean '([^']+)'\?")
_NO_ARGUMENT = re.compile(r"no parameter '(\w+)'|'(\w+)' is no argument")


@dataclass(frozen=True, slots=True)
class Advice:
    """What the rules make of a failure.

    Attributes:
        edits: What mends it; empty where the plan is not the cause, or no rule tells.
        explanation: Why, and what a person can do.
    """

    edits: tuple[Edit, ...]
    explanation: str


@dataclass(frozen=True, slots=True)
class Case:
    """A failure with what the rules look at.

    Attributes:
        step: The step as the plan writes it.
        plan: The plan.
        state: What happened to the step.
        error: The error; of a map the first failed item's.
        folder: What `./` in the plan is relative to.
    """

    step: Step
    plan: Plan
    state: StepState
    error: Failure
    folder: Path


def advise(case: Case) -> Advice:
    """Return what the rules make of a failure."""
    for rule in _RULES:
        if (found := rule(case)) is not None:
            return found
    hint = case.error.hint or "Mend the step, or what it calls, by hand."
    return Advice((), f"No rule mends this: {hint}")


# --- time and luck


def _timeout(case: Case) -> Advice | None:
    if case.error.error_type is not ErrorType.TIMEOUT:
        return None
    seconds = effective_timeout(case.step, case.plan.defaults)
    if seconds is None or seconds >= LONGEST_TIMEOUT:
        return None
    factor = 4 if seconds <= _SHORT else 2
    raised = min(LONGEST_TIMEOUT, seconds * factor)
    value = int(raised) if raised >= 1 and raised == int(raised) else round(raised, 3)
    return Advice(
        (Edit(action="set", key="timeout", value=value),),
        f"It ran longer than its timeout of {seconds:g} s: it gets {value:g} s.",
    )


def _retry(case: Case) -> Advice | None:
    kind = case.error.error_type
    if kind not in (ErrorType.RATE_LIMIT, ErrorType.SERVER_ERROR):
        return None
    tries = max(case.state.max_attempts, 1)
    attempts = min(MOST_ATTEMPTS, max(5, tries * 2))
    if tries >= MOST_ATTEMPTS:
        return Advice((), f"It was tried {tries} times: waiting longer, or another server, may help. {case.error.hint}")
    delay = max(5.0, case.error.retry_after or 0.0) if kind is ErrorType.RATE_LIMIT else 2.0
    edits = [Edit(action="set", key="retry.max_attempts", value=attempts)]
    written = case.step.retry
    if written is None or written.initial_delay is None or written.initial_delay < delay:
        edits.append(Edit(action="set", key="retry.initial_delay", value=delay))
    if kind is ErrorType.RATE_LIMIT and (written is None or written.exponential_base is None):
        edits.append(Edit(action="set", key="retry.exponential_base", value=2.0))
    if case.step.retry is None:  # one key with all of it reads better than three edits
        edits = [
            Edit(action="set", key="retry", value={edit.path[1]: edit.value for edit in edits}),
        ]
    what = "The server asked for fewer calls" if kind is ErrorType.RATE_LIMIT else "The other side failed"
    return Advice(tuple(edits), f"{what}: it is tried {attempts} times instead of {tries}, with a wait between.")


# --- names


def _arguments(case: Case) -> Advice | None:
    args = case.step.args
    if case.error.error_type is not ErrorType.USER_ERROR or (args is None and case.step.function is None):
        return None
    given = list(args or {})
    known = _parameters(case)
    if known is None:
        return _told_argument(case, given)
    names, needed, takes_any = known
    unknown = [] if takes_any else [name for name in given if name not in names]
    missing = [name for name in needed if name not in given]
    if not unknown:
        if not missing:
            return None
        takes = ", ".join(names)
        return Advice((), f"It is not given {', '.join(missing)}: add that to `args`. It takes: {takes}.")
    free = [name for name in names if name not in given]
    edits, told = [], []
    for name in unknown:
        meant = suggest(name, free) or (missing[0] if len(unknown) == len(missing) == 1 else "")
        if meant in free:
            free.remove(meant)
            edits.append(Edit(action="rename", key=f"args.{name}", value=meant))
            told.append(f"'{name}' is '{meant}'")
    if not edits:
        return Advice((), f"It takes no {', '.join(unknown)}; it takes: {', '.join(names) or 'nothing'}.")
    return Advice(tuple(edits), f"What it calls names its arguments otherwise: {', '.join(told)}.")


def _told_argument(case: Case, given: list[str]) -> Advice | None:
    """Return the repair that a server's own words tell, where its tool's arguments are not known here."""
    meant, wrong = _MEANT.search(case.error.hint), _NO_ARGUMENT.search(case.error.message)
    if meant is None or wrong is None:
        return None
    old, new = wrong.group(1) or wrong.group(2), meant.group(1)
    if old not in given or new in given:
        return None
    return Advice(
        (Edit(action="rename", key=f"args.{old}", value=new),), f"The tool names its argument '{new}', not '{old}'."
    )


_Parameters = tuple[list[str], list[str], bool]
"""All names, those that are needed, and whether any other is taken too."""


def _parameters(case: Case) -> _Parameters | None:
    """Return what the function or tool of a step takes; None where no file tells. Nothing is imported."""
    step, plan = case.step, case.plan
    if isinstance(step.function, str):
        return _signature(step.function, case.folder)
    if step.tool is None:
        return None
    entry = plan.tools.get(step.tool)
    reference = entry.get("function") if isinstance(entry, Mapping) else entry
    if isinstance(reference, str) and ":" in reference:
        return _signature(reference, case.folder)
    if server_tool(step.tool, entry) is None and step.tool in (shared := shared_tools()):
        function = shared.get(step.tool).function
        return _signature(function, case.folder) if isinstance(function, str) else None
    return None


def _signature(reference: str, folder: Path) -> _Parameters | None:
    try:
        location = function_location(reference, folder)
    except UsageError:
        return None
    path = Path(location.source) if location.kind == "file" else module_file(location.source)
    try:
        if path is None or path.stat().st_size > _LARGEST_FILE:
            return None
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    body: list[ast.stmt] = tree.body
    *classes, name = location.qualname.split(".")
    for outer in classes:
        found = next((node for node in body if isinstance(node, ast.ClassDef) and node.name == outer), None)
        if found is None:
            return None
        body = found.body
    functions = [
        node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    return _of_function(functions[-1], bool(classes)) if functions and not functions[-1].decorator_list else None


def _of_function(node: ast.FunctionDef | ast.AsyncFunctionDef, method: bool) -> _Parameters:
    taken = node.args
    ordered = [*taken.posonlyargs, *taken.args][1 if method else 0 :]
    optional = {one.arg for one in ordered[len(ordered) - len(taken.defaults) :]} if taken.defaults else set()
    optional |= {
        one.arg for one, default in zip(taken.kwonlyargs, taken.kw_defaults, strict=True) if default is not None
    }
    names = [one.arg for one in (*ordered, *taken.kwonlyargs) if one.arg != "ctx"]  # the context is given by us
    return names, [name for name in names if name not in optional], taken.kwarg is not None


def _expression(case: Case) -> Advice | None:
    """Mend a key that an expression asks for and that is not there."""
    found, meant = _MISSING.search(case.error.message), _MEANT.search(case.error.hint)
    if found is None or meant is None:
        return None
    wrong, right, expression = found.group("name"), meant.group(1), found.group("expression")
    edits = list(_replaced(case.step, wrong, right, within=expression))
    if not edits:
        return None
    return Advice(tuple(edits), f"'{wrong}' is not there, and '{right}' is.")


def _replaced(step: Step, wrong: str, right: str, *, within: str) -> Iterator[Edit]:
    """Yield the edits that put one name in the place of another within an expression."""
    mended = re.sub(rf"\b{re.escape(wrong)}\b", lambda _: right, within)
    for key, value in step.model_dump(exclude_unset=True, by_alias=True, mode="json").items():
        yield from _replaced_in(key, value, within, mended)


def _replaced_in(path: str, value: Any, old: str, new: str) -> Iterator[Edit]:
    if isinstance(value, str):
        if old in value and "{{" in value:
            yield Edit(action="set", key=path, value=value.replace(old, new))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if "." not in str(key):
                yield from _replaced_in(f"{path}.{key}", item, old, new)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _replaced_in(f"{path}.{place}", item, old, new)


def _undefined(case: Case) -> Advice | None:
    """Mend a name that sandboxed code uses and that is none of its arguments."""
    found = _NOT_DEFINED.search(case.error.message)
    if case.step.python is None or found is None:
        return None
    names = list(case.step.args or {})
    wrong, right = found.group(1), suggest(found.group(1), names)
    if not right:
        there = f"its args are: {', '.join(names)}" if names else "it has no args"
        return Advice((), f"The code uses '{wrong}', which is not defined; {there}.")
    code = re.sub(rf"\b{re.escape(wrong)}\b", lambda _: right, case.step.python)
    return Advice((Edit(action="set", key="python", value=code),), f"The code's '{wrong}' is its argument '{right}'.")


def _no_command(case: Case) -> Advice | None:
    if case.step.shell is None or case.error.details.get("exit_code") != _NOT_FOUND:
        return None
    return Advice((), f"The shell does not find the command, which no edit of the plan mends. {case.error.hint}")


_RULES: tuple[Callable[[Case], Advice | None], ...] = (
    _timeout,
    _retry,
    _no_command,
    _expression,
    _undefined,
    _arguments,
)
