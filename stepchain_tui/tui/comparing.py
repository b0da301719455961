"""Two runs compared, and what is different in one of their steps; what takes long runs beside the reader's loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.errors import StepChainError
from stepchain_tui.core.values import encode_json
from stepchain_tui.run.comparison import compare_runs, output_lines, same_value
from stepchain_tui.tui.queries import Lines, text_lines

if TYPE_CHECKING:
    from stepchain_tui.plan import Plan
    from stepchain_tui.run.comparison import RunComparison
    from stepchain_tui.run.state import RunState
    from stepchain_tui.run.step_state import StepState
    from stepchain_tui.store.base import AbstractStore


@dataclass(frozen=True, slots=True)
class Compared:
    """Two runs and how they differ. The states are no longer folded on, so any thread may read them.

    Attributes:
        damage: What of either run cannot be read, a line each.
    """

    left: RunState
    right: RunState
    found: RunComparison
    damage: tuple[str, ...] = ()


async def read_comparison(store: AbstractStore, *, left: str, right: str) -> Compared:
    """Return how two runs differ, as far as they can be read. Raises UnknownRunError."""
    from stepchain_tui.tui.feed import damage_of

    one, one_corrupt = await store.load_readable(left)
    other, other_corrupt = await store.load_readable(right)
    damage = [
        f"{run_id}: {damage_of(corrupt)}"
        for run_id, corrupt in ((left, one_corrupt), (right, other_corrupt))
        if corrupt
    ]
    return Compared(one, other, await asyncio.to_thread(compare_runs, one, other), tuple(damage))


async def step_difference(store: AbstractStore, *, compared: Compared, step_id: str) -> Lines:
    """Return what is different in a step: its error, its output, what it does; headed by lines with `#`."""
    left, right = compared.left.steps.get(step_id), compared.right.steps.get(step_id)
    if left is None or right is None:
        return text_lines(f"# only the {'right' if left is None else 'left'} run has this step")
    values = None
    if same_value(left.output, right.output) is False:
        values = [await store.load_value(step.output) if step.output is not None else None for step in (left, right)]
    return await asyncio.to_thread(_difference, compared, left, right, values)


def _difference(compared: Compared, left: StepState, right: StepState, values: list[Any] | None) -> Lines:
    lines: list[str] = []
    errors = [step.error.message if step.error is not None else "" for step in (left, right)]
    if errors[0] != errors[1]:
        marked = (f"{mark} {line}" for mark, error in zip("-+", errors, strict=True) for line in error.splitlines())
        lines += ["# error", *marked]
    lines += ["# output", *_output(left, right, values)]
    return text_lines("\n".join([*lines, "# what it does", *_work(compared, left, right)]))


def _output(left: StepState, right: StepState, values: list[Any] | None) -> list[str]:
    """Return how two outputs differ; `values` are those outputs where they do."""
    if values is None:
        return ["neither run has one" if left.output is None else "the same"]
    if left.output is None or right.output is None:
        return [f"only the {'right' if left.output is None else 'left'} run has one", *output_lines(*values)[2:]]
    return output_lines(*values)[2:]  # without the names of the two sides


def _work(compared: Compared, left: StepState, right: StepState) -> list[str]:
    from stepchain_tui.plan import compare_plans

    try:
        plans = [_plan_around(state, left.id) for state in (compared.left, compared.right)]
    except (LookupError, ValueError, StepChainError) as error:
        return [f"the plan of a run cannot be read: {error}"]
    changes = compare_plans(*plans).changes.get(left.id.rpartition("/")[2], ())
    lines = [line.removeprefix("~ ") for change in changes for line in change.lines("")]
    lines = [f"~ {line}" if not line.startswith(" ") else line for line in lines]
    if left.content_hash and right.content_hash and left.content_hash != right.content_hash and not lines:
        return ["~ the same in the plan; the code behind it, or the steps it reads from, changed"]
    return lines or ["the same"]


def _plan_around(state: RunState, step_id: str) -> Plan:
    """Return the plan that a step of a run is written in: the run's, or a sub-plan."""
    from stepchain_tui.engine.source import RunSource
    from stepchain_tui.plan import plan_from_json, subplans_from_json

    source = RunSource(
        plan=plan_from_json(encode_json(state.plan)),
        folder=Path(state.plan_folder),
        plans=subplans_from_json(state.plans),
    )
    return source.definition(step_id).plan
