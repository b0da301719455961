"""`why`: why a step, or the run, is as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stepchain_tui.cli.options import json_option, store_option

if TYPE_CHECKING:
    from stepchain_tui.cli.states import ReadRun
    from stepchain_tui.run import Event
    from stepchain_tui.store import SQLiteStore


@click.command("why")
@click.argument("run")
@click.argument("step", required=False)
@json_option
@store_option
def why_command(run: str, step: str | None, as_json: bool, store: str | None) -> None:
    """Tell from its events why STEP of RUN is as it is, or without STEP why RUN is."""
    from stepchain_tui.cli.states import events_of, read_state, say_what_is_broken
    from stepchain_tui.cli.stores import read_run
    from stepchain_tui.cli.text import clean_line, put, put_json
    from stepchain_tui.core.clock import SystemClock
    from stepchain_tui.run import explain, explain_run

    async def read(opened: SQLiteStore, run_id: str) -> tuple[ReadRun, list[Event]]:
        found = await read_state(opened, run_id)
        return found, await events_of(opened, found)

    found, events = read_run(store, run, read)
    say_what_is_broken(found)
    now = SystemClock().now()
    told = explain(found.state, events, step, now=now) if step else explain_run(found.state, events, now=now)
    if as_json:
        put_json({"run_id": found.state.run_id, **told.to_json()})
        return
    for line in told.lines():
        put(f"{line[: len(line) - len(line.lstrip())]}{clean_line(line.strip(), 2000)}")
