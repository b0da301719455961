"""`runs` and `show`: what the store holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stepchain_tui.cli.options import json_option, store_option

if TYPE_CHECKING:
    from stepchain_tui.run import RunState
    from stepchain_tui.store import RunSummary, SQLiteStore


@click.command("runs")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the newest N.")
@click.option("--find", "text", metavar="TEXT", default="", help="Only runs with TEXT in id, goal or plan.")
@json_option
@store_option
def runs_command(limit: int | None, text: str, as_json: bool, store: str | None) -> None:
    """List the runs, newest first."""
    import asyncio

    from stepchain_tui.cli.shapes import summary_record
    from stepchain_tui.cli.stores import store_missing
    from stepchain_tui.cli.text import put_json, say
    from stepchain_tui.core.paths import store_path

    path = store_path(store)
    missing = store_missing(path)
    runs = [] if missing else asyncio.run(_list_runs(store, limit, text))
    if as_json:
        put_json([summary_record(run) for run in runs])
    else:
        _put_runs(runs)
    if not runs and not as_json:
        say(f"no runs: there is no store at {path} yet" if missing else "no runs")


async def _list_runs(given: str | None, limit: int | None, text: str) -> list[RunSummary]:
    from stepchain_tui.cli.stores import reading

    async with reading(given) as store:
        return await store.list_runs(limit=-1 if limit is None else limit, text=text)


def _put_runs(runs: list[RunSummary]) -> None:
    import sys

    from stepchain_tui.cli.text import between, clean_line, local_time, painted, put, table, uses_colour, words_of

    if not runs:
        return
    head = ("RUN", "STATUS", "STEPS", "CREATED", "TOOK", "GOAL")
    rows = [
        (
            run.run_id,
            words_of(run.shown_status),
            f"{run.steps_done}/{run.steps_total}",
            local_time(run.created_at),
            between(run.started_at, run.finished_at),
            clean_line(run.goal, 60),
        )
        for run in runs
    ]
    lines = table([head, *rows])
    colour = uses_colour(sys.stdout)
    put(lines[0])
    for line, run in zip(lines[1:], runs, strict=True):
        put(painted(line, run.shown_status, colour=colour))


@click.command("show")
@click.argument("run")
@click.option("--full", is_flag=True, help="Show outputs whole, also large ones.")
@json_option
@store_option
def show_command(run: str, full: bool, as_json: bool, store: str | None) -> None:
    """Show RUN: how each step stands, its tries, output and error."""
    from stepchain_tui.cli.stores import read_run

    async def read(opened: SQLiteStore, run_id: str) -> tuple[RunState, RunSummary, dict[str, Any]]:
        from stepchain_tui.cli.shapes import outputs_of, state_as_it_is

        state, summary = await state_as_it_is(opened, run_id)
        return state, summary, await outputs_of(opened, state, whole=full)

    state, summary, outputs = read_run(store, run, read)
    if as_json:
        from stepchain_tui.cli.shapes import run_record
        from stepchain_tui.cli.text import put_json

        put_json(run_record(state, summary, outputs))
        return
    from stepchain_tui.cli.showing import put_run

    put_run(state, summary, outputs, full=full)
