"""What screens ask of the store and of plan files; all of it runs in the reader's thread."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.run.events import ToolApprovalAsked, ToolApprovalGiven, ToolFinished, ToolStarted
from stepchain_tui.tui.tables import RecordTable, table_of
from stepchain_tui.tui.text import one_line, shortened, visible

if TYPE_CHECKING:
    from stepchain_tui.plan import InputSpec, Plan, Problem
    from stepchain_tui.run.failures import Failure
    from stepchain_tui.run.values import Kept
    from stepchain_tui.store.base import AbstractStore, LogLine
    from stepchain_tui.tui.calls import CallRow

PLAN_ENDINGS = (".yaml", ".yml", ".json")
_HEAD = 4_000
_STEPS = re.compile(r'^(?:steps\s*:|\s*"steps"\s*:|.*[{,]\s*"steps"\s*:)', re.MULTILINE)
_GOAL = re.compile(r'^\s*"?goal"?\s*:\s*["\']?(.*?)["\']?,?\s*$', re.MULTILINE)
SCAN = 2_000
"""Log lines that are looked through in one go."""
NEAR = 40_000
"""Log lines that are looked through before the store's index is asked."""


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan's file as the list of plans shows it."""

    path: Path
    goal: str
    shipped: bool = False


def find_plans(folder: Path, shipped: Path) -> list[PlanFile]:
    """Return the plans of the current folder and those that ship with us; blocking."""
    found = []
    for place, ours in ((folder, False), (shipped, True)):
        if ours and place.resolve() == folder.resolve():
            continue
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            goal = _goal_of(path) if path.suffix.lower() in PLAN_ENDINGS and path.is_file() else None
            if goal is not None:
                found.append(PlanFile(path, goal, ours))
    return found


def _goal_of(path: Path) -> str | None:
    """Return the goal of a plan's file, or None where the file is no plan."""
    try:
        with path.open("rb") as file:
            text = file.read(256 * 1024).decode("utf-8", "replace")
    except OSError:
        return None
    if not _STEPS.search(text):
        return None
    goal = _GOAL.search(text[:_HEAD])
    return visible(goal.group(1)) if goal else ""


def copy_plan(path: Path, folder: Path) -> None:
    """Copy a plan's file into a folder, with the plans that it runs and the files of their names; blocking.

    What is there is left as it is.

    Raises:
        PlanError: The plan has mistakes.
        UsageError: The folder cannot be written.
    """
    from stepchain_tui.plan import load_plan, load_subplans

    loaded = load_plan(path)
    plans = [path.absolute(), *map(Path, load_subplans(loaded.plan, loaded.folder, loaded.path))]
    try:
        for file in (file for plan in plans for file in sorted(plan.parent.glob(f"{plan.stem}.*"))):
            if file.is_file() and file.is_relative_to(loaded.folder):
                own = folder / file.relative_to(loaded.folder)
                own.parent.mkdir(parents=True, exist_ok=True)
                if not own.exists():
                    shutil.copyfile(file, own)
    except OSError as error:
        raise UsageError(f"cannot copy {path.name}: {error}", hint="Go to a folder that you may write to.") from None


@dataclass(frozen=True, slots=True)
class PlanPreview:
    """A plan's file as a screen needs it before there is a run.

    Attributes:
        problems: What is wrong with it, one line each; everything else is empty then.
        parents: Step id -> its parents, the parts of sub-plans among the steps.
        kinds: Step id -> its kind.
        inputs: Its inputs.
        model: The model that its prompts go to.
    """

    path: Path
    goal: str = ""
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, InputSpec] = field(default_factory=dict)
    model: str = ""
    problems: tuple[str, ...] = ()


def preview_plan(path: Path, settings_model: str) -> PlanPreview:
    """Return a plan's file, checked; blocking."""
    from stepchain_tui.core.errors import PlanError
    from stepchain_tui.plan import load_plan
    from stepchain_tui.tui.feed import model_label
    from stepchain_tui.tui.kept_plans import step_parents

    try:
        loaded = load_plan(path)
        plan = loaded.plan
        parents, kinds = step_parents(plan, loaded.folder, loaded.path)
    except PlanError as error:
        return PlanPreview(path, problems=error.problems)
    return PlanPreview(
        path,
        goal=plan.goal,
        parents=parents,
        kinds=dict(zip(parents, kinds, strict=True)),
        inputs=plan.inputs,
        model=model_label(plan.model_dump(exclude_unset=True, mode="json"), settings_model),
    )


@dataclass(frozen=True, slots=True)
class CheckedText:
    """A plan's text while it is being written: its problems, or its graph and the plan itself."""

    problems: tuple[Problem, ...]
    parents: Mapping[str, tuple[str, ...]] | None
    plan: Plan | None = None


def check_text(text: str, name: str, folder: Path) -> CheckedText:
    """Return every problem of a plan's text, and its graph where there is none; blocking."""
    from stepchain_tui.plan import find_problems, parse_plan
    from stepchain_tui.tui.kept_plans import step_parents

    problems = tuple(find_problems(text, name, folder))
    if problems:
        return CheckedText(problems, None)
    plan = parse_plan(text, name, folder).plan
    return CheckedText((), step_parents(plan, folder, folder / Path(name).name)[0], plan)


# --- values


@dataclass(frozen=True, slots=True)
class Lines:
    """A text cut into lines that are safe to show.

    Attributes:
        json: Whether it is JSON, for the colours.
        width: Cells of the longest line, at least: characters.
        raw: The text as it is copied and paged.
        kinds: What each line is, where not all are alike: `json`, `ours` for what we say of it, `title`, or empty.
        prose: It is read as text: its lines are broken where there is no room.
    """

    lines: tuple[str, ...] = ()
    json: bool = False
    width: int = 0
    raw: str = ""
    kinds: tuple[str, ...] = ()
    prose: bool = False


async def value_lines(store: AbstractStore, kept: Kept) -> Lines:
    """Return a kept value as lines: text as it is, anything else as indented JSON; large ones from their file."""
    value = await store.load_value(kept)
    return await asyncio.to_thread(lines_of, value)


def lines_of(value: Any) -> Lines:
    """Return a JSON value as lines; blocking."""
    if isinstance(value, str):
        return text_lines(value)
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text_lines(text, is_json=True)


def text_lines(text: str, *, is_json: bool = False) -> Lines:
    """Return a text as lines that are safe to show."""
    lines = tuple(shortened(visible(line)) for line in text.split("\n"))
    if len(lines) > 1 and not lines[-1]:
        lines = lines[:-1]
    return Lines(lines, is_json, max(map(len, lines), default=0), text)


@dataclass(slots=True)
class ShownValue:
    """An output as it can be shown.

    Attributes:
        value: The output itself.
        table: It as a table, None where it is none.
        lines: It as lines, None while nobody has looked at them.
    """

    value: Any
    table: RecordTable | None
    lines: Lines | None


async def shown_value(store: AbstractStore, kept: Kept, *, as_table: bool) -> ShownValue:
    """Return a kept output as it is shown: lines are made where there is no table, or none is wanted."""
    return await asyncio.to_thread(_shown, await store.load_value(kept), as_table)


def _shown(value: Any, as_table: bool) -> ShownValue:
    table = table_of(value)
    return ShownValue(value, table, None if as_table and table is not None else lines_of(value))


# --- tool calls


async def call_lines(store: AbstractStore, *, run_id: str, call: CallRow, whole: bool) -> Lines:
    """Return what a tool call was given and what it gave; of a large result its beginning, unless `whole`."""
    arguments, finished, given = None, None, None
    for seq in (*call.asked_seqs, call.started_seq, call.finished_seq):
        for event in await store.read_events(run_id, after=seq - 1, limit=1) if seq else ():
            if isinstance(event, ToolStarted | ToolFinished | ToolApprovalAsked):
                changed = given is not None and given.arguments is not None  # told with who changed them
                arguments = arguments if event.arguments is None or changed else event.arguments
                finished = event if isinstance(event, ToolFinished) else finished
            elif isinstance(event, ToolApprovalGiven):
                given = event
    parts: list[str | Lines] = [] if arguments is None else ["arguments", lines_of(arguments)]
    if given is not None:
        parts += await _answered_parts(store, given)
    if finished is not None:
        parts += await _ended_parts(store, finished, whole=whole)
    elif given is not None and call.status in ("allowed", "denied"):
        pass  # it is not called yet, or never
    elif call.status == "waiting":
        parts.append("waiting for a person: a answers")
    else:
        parts.append(f"no result: {call.status.replace('_', ' ')}")
    return await asyncio.to_thread(_one_below_the_other, parts)


async def _answered_parts(store: AbstractStore, given: ToolApprovalGiven) -> list[str | Lines]:
    said = f"{'allowed' if given.approved else 'denied'} by {one_line(given.by, 60) or 'a person'}"
    if given.arguments is None:
        return [said]
    return [f"{said} with these arguments", lines_of((await store.load_value(given.arguments))["arguments"])]


async def _ended_parts(store: AbstractStore, finished: ToolFinished, *, whole: bool) -> list[str | Lines]:
    parts: list[str | Lines] = []
    result = finished.result
    if finished.error is not None:
        parts += ["error", text_lines(failure_text(finished.error))]
    elif result is not None and result.blob is not None and not whole:
        rest = f"... {result.blob.bytes:,} bytes in all: o opens all of it in the pager"
        parts += ["result", text_lines(result.blob.preview, is_json=True), rest]
    elif result is not None:
        parts += ["result", lines_of(await store.load_value(result))]
    computed = "" if finished.cpu_time is None else f", {finished.cpu_time:.3f}s of them computing"
    return [*parts, f"took {finished.execution_time:.3f}s{computed}"]


def _one_below_the_other(parts: Sequence[str | Lines]) -> Lines:
    """Return texts and what we say between them as one text; blocking."""
    lines: list[str] = []
    kinds: list[str] = []
    raw: list[str] = []
    for part in parts:
        if isinstance(part, Lines):
            lines += part.lines
            kinds += ["json" if part.json else ""] * len(part.lines)
            raw.append(part.raw)
        else:
            lines.append(part)
            kinds.append("ours")
            raw.append(part)
    return Lines(tuple(lines), width=max(map(len, lines), default=0), raw="\n".join(raw), kinds=tuple(kinds))


def failure_text(error: Failure) -> str:
    """Return an error: what, what to do, the details, the traceback."""
    parts = [f"{error.exception or 'error'} ({error.error_type.replace('_', ' ')}): {error.message}"]
    if error.hint:
        parts.append(f"hint: {error.hint}")
    if error.retry_after is not None:
        parts.append(f"asked to wait {error.retry_after:g}s")
    parts += [f"{name}: {value}" for name, value in error.details.items()]
    if error.traceback:
        parts += ["", error.traceback]
    return "\n".join(parts)


# --- finding in a log


async def find_in_log(
    store: AbstractStore, run_id: str, step_id: str, attempt: int | None, text: str, start: int, *, backwards: bool
) -> int | None:
    """Return the position of the next log line that contains `text`, whatever its case; goes round at the end.

    Args:
        store: Where to look.
        run_id: The run.
        step_id: Its step.
        attempt: Only lines of this attempt, or None.
        text: What to find.
        start: The first position to look at.
        backwards: Look upwards.
    """
    total = await store.count_log(run_id, step_id=step_id, attempt=attempt)
    if not total or not text:
        return None
    wanted = text.casefold()
    looked, position, asked_index = 0, start % total, False
    while looked < total:
        if looked >= NEAR and not asked_index:
            asked_index = True
            found = await _by_index(store, run_id, step_id, attempt, text, position, total, backwards=backwards)
            if found is not None:
                return found
        low, high = (max(0, position - SCAN + 1), position + 1) if backwards else (position, position + SCAN)
        lines = await store.read_log_page(
            run_id, step_id=step_id, attempt=attempt, offset=low, limit=min(high, total) - low
        )
        places = range(len(lines) - 1, -1, -1) if backwards else range(len(lines))
        for place in places:
            if wanted in visible(lines[place].text).casefold():
                return low + place
        looked += max(1, min(high, total) - low)
        position = low - 1 if backwards else high
        if not 0 <= position < total:
            position = total - 1 if backwards else 0
        await asyncio.sleep(0)
    return None


async def _by_index(
    store: AbstractStore,
    run_id: str,
    step_id: str,
    attempt: int | None,
    text: str,
    position: int,
    total: int,
    *,
    backwards: bool,
) -> int | None:
    """Return the position of the nearest hit of the store's search beyond `position`, or None."""
    hits = await store.search(text, run_id=run_id, limit=500)
    numbers = sorted(
        int(hit["n"])
        for hit in hits
        if hit["kind"] == "log" and hit["step_id"] == step_id and attempt in (None, hit["attempt"])
    )
    here = await _line_at(store, run_id, step_id, attempt, min(position, total - 1))
    if not numbers or here is None:
        return None
    beyond = [number for number in numbers if (number <= here.n if backwards else number >= here.n)]
    if len(hits) >= 500 or not beyond:
        return None  # the nearest may not be among the newest 500
    wanted = beyond[-1] if backwards else beyond[0]
    low, high = 0, total - 1
    while low < high:
        middle = (low + high) // 2
        line = await _line_at(store, run_id, step_id, attempt, middle)
        if line is None:
            return None
        low, high = (middle + 1, high) if line.n < wanted else (low, middle)
    return low


async def _line_at(
    store: AbstractStore, run_id: str, step_id: str, attempt: int | None, position: int
) -> LogLine | None:
    found = await store.read_log_page(run_id, step_id=step_id, attempt=attempt, offset=position, limit=1)
    return found[0] if found else None
