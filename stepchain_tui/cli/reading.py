"""`runs` and `show`: what the store holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stepchain_tui.cli.options import json_option, store_option

if TYPE_CHECKING:
    from stepchain_tui.cli.family import Family
    from stepchain_tui.cli.states import ReadRun
    from stepchain_tui.store import RunSummary, SQLiteStore
    from stepchain_tui.tui.calls import ToolCalls


@click.command("runs")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the newest N.")
@click.option("--find", "text", metavar="TEXT", default="", help="Only runs with TEXT in id, goal or plan.")
@click.option("--tree", is_flag=True, help="Show forks below the run that they are forked from.")
@json_option
@store_option
def runs_command(limit: int | None, text: str, tree: bool, as_json: bool, store: str | None) -> None:
    """List the runs, newest first."""
    import asyncio

    from stepchain_tui.cli.family import tree_records
    from stepchain_tui.cli.shapes import summary_record
    from stepchain_tui.cli.stores import store_missing
    from stepchain_tui.cli.text import put_json, say
    from stepchain_tui.core.paths import store_path

    path = store_path(store)
    missing = store_missing(path)
    runs = [] if missing else asyncio.run(_list_runs(store, limit, text))
    if as_json:
        put_json(tree_records(runs) if tree else [summary_record(run) for run in runs])
    else:
        _put_runs(runs, tree=tree)
    if not runs and not as_json:
        say(f"no runs: there is no store at {path} yet" if missing else "no runs")


async def _list_runs(given: str | None, limit: int | None, text: str) -> list[RunSummary]:
    from stepchain_tui.cli.stores import reading

    async with reading(given) as store:
        return await store.list_runs(limit=-1 if limit is None else limit, text=text)


def _put_runs(runs: list[RunSummary], *, tree: bool) -> None:
    import sys

    from stepchain_tui.cli.family import family_rows, of_parent
    from stepchain_tui.cli.text import between, clean_line, local_time, painted, put, table, uses_colour, words_of

    if not runs:
        return
    head = ("RUN", "STATUS", "STEPS", "CREATED", "TOOK", "GOAL")
    named = family_rows(runs) if tree else [(f"{run.run_id}{of_parent(run)}", run) for run in runs]
    rows = [
        (
            name,
            words_of(run.shown_status),
            f"{run.steps_done}/{run.steps_total}",
            local_time(run.created_at),
            between(run.started_at, run.finished_at),
            clean_line(run.goal, 60),
        )
        for name, run in named
    ]
    lines = table([head, *rows])
    colour = uses_colour(sys.stdout)
    put(lines[0])
    for line, (_, run) in zip(lines[1:], named, strict=True):
        put(painted(line, run.shown_status, colour=colour))


@click.command("show")
@click.argument("run")
@click.option("--full", is_flag=True, help="Show outputs whole, also large ones.")
@click.option("--revisions", is_flag=True, help="List the revisions of its plan instead.")
@click.option("--plan", is_flag=True, help="Print the text of its plan, as it really ran, instead.")
@click.option("--revision", "number", type=click.IntRange(1), metavar="N", help="With --plan: revision N of it.")
@json_option
@store_option
def show_command(
    run: str, full: bool, revisions: bool, plan: bool, number: int | None, as_json: bool, store: str | None
) -> None:
    """Show RUN: how each step stands, its tries, output and error."""
    from stepchain_tui.cli.states import read_state, say_what_is_broken
    from stepchain_tui.cli.stores import read_run
    from stepchain_tui.core.errors import UsageError
    from stepchain_tui.plan.kinds import calls_tools

    if revisions and plan:
        raise UsageError("--revisions and --plan exclude each other")
    if number is not None and not plan:
        raise UsageError("--revision goes with --plan")
    if plan:
        _show_plan(store, run, number, as_json=as_json)
        return

    async def read(opened: SQLiteStore, run_id: str) -> tuple[ReadRun, dict[str, Any], Family, ToolCalls | None]:
        from stepchain_tui.cli.family import read_family
        from stepchain_tui.cli.shapes import outputs_of
        from stepchain_tui.tui.calls import read_calls

        found = await read_state(opened, run_id)
        outputs = {} if revisions else await outputs_of(opened, found.state, whole=full)
        kinds = {step.outline.kind for step in found.state.steps.values()} if not (revisions or as_json) else set()
        calls = await read_calls(opened, run_id) if any(calls_tools(kind) for kind in kinds) else None
        return found, outputs, await read_family(opened, found.state), calls

    found, outputs, family, calls = read_run(store, run, read)
    say_what_is_broken(found)
    if revisions:
        _show_revisions(found, as_json=as_json)
    elif as_json:
        from stepchain_tui.cli.shapes import run_record
        from stepchain_tui.cli.text import put_json

        put_json(run_record(found.state, found.summary, outputs, family.children))
    else:
        from stepchain_tui.cli.showing import put_run

        put_run(found.state, found.summary, outputs, family, full=full, calls=calls)


def _show_revisions(found: ReadRun, *, as_json: bool) -> None:
    from stepchain_tui.cli.revisions import revision_records
    from stepchain_tui.cli.text import clean_line, local_time, put, put_json, table

    if as_json:
        put_json(revision_records(found.state))
        return
    rows = [
        (str(record.number), local_time(record.at), clean_line(record.by), clean_line(record.reason))
        for record in found.state.revisions
    ]
    for line in table([("REVISION", "AT", "BY", "REASON"), *rows]):
        put(line)


def _show_plan(given: str | None, run: str, number: int | None, *, as_json: bool) -> None:
    import sys

    from stepchain_tui.cli.revisions import PlanRevision, read_revision
    from stepchain_tui.cli.states import read_state, say_what_is_broken
    from stepchain_tui.cli.stores import read_run
    from stepchain_tui.cli.text import clean_block, put_json

    async def read(opened: SQLiteStore, run_id: str) -> tuple[str, PlanRevision]:
        known = await read_state(opened, run_id)
        say_what_is_broken(known)
        return run_id, await read_revision(opened, known.state, number)

    run_id, found = read_run(given, run, read)
    if as_json:
        put_json({"run_id": run_id, "revision": found.number, "plan": found.plan, "text": found.text})
        return
    text = found.shown_text  # as it is where it does not go to a terminal: it may become a plan's file again
    sys.stdout.write(clean_block(text) if sys.stdout.isatty() else text)
