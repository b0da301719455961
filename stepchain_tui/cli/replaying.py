"""`replay`: a run once more, from what was kept of it; and a recorded run as a test."""

from __future__ import annotations

import click

from stepchain_tui.cli.options import input_option, json_option, store_option


@click.command("replay")
@click.argument("run")
@click.option("--plan", metavar="FILE", help="Replay it with the plan in FILE instead of the one it keeps.")
@click.option(
    "--live",
    metavar="KIND",
    multiple=True,
    help="Carry steps of that kind out all the same, such as function, and compare; repeat it for more.",
)
@input_option
@click.option("--run-id", metavar="ID", help="Name the new run.")
@click.option("--pytest", "folder", metavar="FOLDER", help="Run nothing: write the recording and a test into FOLDER.")
@click.option("--force", is_flag=True, help="With --pytest: replace files that are there.")
@json_option
@store_option
def replay_command(
    run: str,
    plan: str | None,
    live: tuple[str, ...],
    inputs: dict[str, str],
    run_id: str | None,
    folder: str | None,
    force: bool,
    as_json: bool,
    store: str | None,
) -> int:
    """Run RUN once more, offline: models, tools, servers, processes and people answer as they did.

    What comes of it is a new run. Where the recording no longer fits, or an output is another one, every such place
    is named, and the command exits with 1; a failure that was recorded is no such place.
    """
    if folder is not None:
        if live or run_id or inputs:
            raise click.UsageError("--pytest runs nothing: leave --live, --input and --run-id out")
        from stepchain_tui.cli.replay_tests import write_test

        return write_test(store, run, folder, plan, replace=force, as_json=as_json)
    if force:
        raise click.UsageError("--force is for --pytest")
    from stepchain_tui.cli.replays import ReplayOrder, replay_run

    order = ReplayOrder(run, plan, live, inputs, run_id=run_id, store=store)
    return replay_run(order, as_json=as_json)
