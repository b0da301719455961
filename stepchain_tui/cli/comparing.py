"""`diff`: two runs, or two revisions of plans, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from stepchain_tui.cli.options import json_option, store_option

if TYPE_CHECKING:
    from stepchain_tui.cli.revisions import PlanRevision
    from stepchain_tui.cli.states import ReadRun
    from stepchain_tui.store import SQLiteStore


@dataclass(frozen=True, slots=True)
class _Side:
    """One side: the run, and the revision of its plan where one was named."""

    run: ReadRun
    plan: PlanRevision
    named: str


@click.command("diff")
@click.argument("left", metavar="RUN[@N]")
@click.argument("right", metavar="RUN[@N]")
@click.option("--outputs", is_flag=True, help="Also show how the outputs of steps differ.")
@click.option("--text", is_flag=True, help="Also show how the texts of the plans differ.")
@json_option
@store_option
def diff_command(left: str, right: str, outputs: bool, text: bool, as_json: bool, store: str | None) -> None:
    """Show how two runs differ: steps, inputs and what they took.

    RUN@2 is the second revision of its plan: then the plans are compared, RUN alone being the plan as it is. Exits 0,
    whether there is a difference or not.
    """
    from stepchain_tui.core.errors import UsageError

    sides = [_parsed(word) for word in (left, right)]
    of_plans = any(number is not None for _, number in sides)
    if of_plans and outputs:
        raise UsageError("--outputs compares runs, and plans have none", hint="Leave the @N out, or --outputs.")
    import asyncio

    from stepchain_tui.cli.states import say_what_is_broken
    from stepchain_tui.cli.stores import reading, require_store
    from stepchain_tui.cli.text import put_json

    require_store(store, sides[0][0])

    async def work() -> tuple[list[_Side], dict[str, list[str]]]:
        async with reading(store) as opened:
            found = [await _read_side(opened, *side) for side in sides]
            return found, await _output_lines(opened, found[0], found[1]) if outputs else {}

    found, changed = asyncio.run(work())
    for run in {side.run.summary.run_id: side.run for side in found}.values():
        say_what_is_broken(run)
    record, lines = _plans(*found) if of_plans else _runs(*found)
    record |= {"outputs": changed} if outputs else {}
    for step_id, differences in changed.items():
        lines += ["", f"output of {step_id}:", *differences]
    if text:
        record["text"] = _texts(*found)
        lines += ["", *(record["text"] or ["the texts of the plans are the same"])]
    if as_json:
        put_json(record)
    else:
        _put(lines)


def _parsed(word: str) -> tuple[str, int | None]:
    """Return the run and the revision that a word names.

    Raises:
        UsageError: What follows the @ is no number.
    """
    run_id, separator, number = word.rpartition("@")
    if not separator:
        return word, None
    if not number.isdecimal() or not run_id:
        from stepchain_tui.core.errors import UsageError

        raise UsageError(
            f"'{word}' is no RUN@N", hint="N is the number of a revision; `show RUN --revisions` lists them."
        )
    return run_id, int(number)


async def _read_side(store: SQLiteStore, run_id: str, number: int | None) -> _Side:
    from stepchain_tui.cli.revisions import read_revision
    from stepchain_tui.cli.states import read_state

    run = await read_state(store, (await store.get_run(run_id)).run_id)
    plan = await read_revision(store, run.state, number)
    return _Side(run, plan, f"{run.state.run_id}@{plan.number}")


def _runs(left: _Side, right: _Side) -> tuple[dict[str, Any], list[str]]:
    from stepchain_tui.run import compare_runs

    found = compare_runs(left.run.state, right.run.state)
    return found.to_json(), found.lines()


def _plans(left: _Side, right: _Side) -> tuple[dict[str, Any], list[str]]:
    from stepchain_tui.plan import compare_plans

    found = compare_plans(left.plan.parsed(), right.plan.parsed())
    record = {
        "left": left.named,
        "right": right.named,
        "added": found.added,
        "removed": found.removed,
        "changed": {
            step_id: [{"key": one.key, "before": one.before, "after": one.after} for one in changes]
            for step_id, changes in found.changes.items()
        },
        "plan": [{"key": one.key, "before": one.before, "after": one.after} for one in found.plan_changes],
        "dependencies_changed": found.dependencies_changed,
        "reordered": found.reordered,
    }
    return record, [f"plan {left.named} -> {right.named}", *(found.lines() or ["the plans are the same"])]


def _texts(left: _Side, right: _Side) -> list[str]:
    from stepchain_tui.plan import text_difference

    return text_difference(left.plan.shown_text, right.plan.shown_text, left.named, right.named)


async def _output_lines(store: SQLiteStore, left: _Side, right: _Side) -> dict[str, list[str]]:
    """Return how the outputs of steps differ that both runs have, as the lines of a unified diff."""
    from stepchain_tui.run import compare_runs, output_lines

    one, other = left.run.state, right.run.state
    found = {}
    for step in compare_runs(one, other).steps:
        if step.same_output is not False:
            continue
        kept = [state.steps[step.step_id].output for state in (one, other)]
        values = [await store.load_value(value) if value is not None else None for value in kept]
        found[step.step_id] = output_lines(*values)
    return found


def _put(lines: Sequence[str]) -> None:
    import sys

    from stepchain_tui.cli.text import clean_block, painted, put, uses_colour

    colour = uses_colour(sys.stdout)
    signs = {"+": "succeeded", "-": "failed", "~": "retrying", "@": "running"}
    for line in lines:
        put(painted(clean_block(line), signs.get(line[:1], ""), colour=colour))
