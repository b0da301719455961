"""`run`, `resume`, `rerun`: commands that carry a run out in the foreground."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from stepchain_tui.cli.options import dry_run_option, input_option, json_option, store_option


@click.command("run")
@click.argument("plan")
@input_option
@click.option("--run-id", metavar="ID", help="Name the run; a known run is gone on with.")
@click.option("--fresh", is_flag=True, help="Start a known run over; its old attempts stay.")
@click.option("--max-concurrent", type=click.IntRange(1, 1_000_000), metavar="N", help="Run N steps at once at most.")
@click.option("--detach", is_flag=True, help="Let the run go on by itself; print its id.")
@click.option("--detached", is_flag=True, hidden=True)
@dry_run_option
@json_option
@store_option
def run_command(
    plan: str,
    inputs: dict[str, str],
    run_id: str | None,
    fresh: bool,
    max_concurrent: int | None,
    detach: bool,
    detached: bool,
    as_json: bool,
    store: str | None,
) -> int:
    """Run PLAN and wait until it ends; a run that is known by --run-id goes on."""
    from stepchain_tui.cli import runs

    order = runs.RunOrder(plan, inputs, run_id=run_id, fresh=fresh, max_concurrent=max_concurrent, store=store)
    if detached:
        from stepchain_tui.cli.detaching import run_detached

        return run_detached(order)
    if detach:
        from stepchain_tui.cli.detaching import detach_run

        return detach_run(order, as_json=as_json)
    return runs.run_plan(order, as_json=as_json)


@click.command("resume")
@click.argument("run")
@input_option
@dry_run_option
@json_option
@store_option
def resume_command(run: str, inputs: dict[str, str], as_json: bool, store: str | None) -> int:
    """Go on with RUN, with the plan it keeps; what succeeded is not run again.

    Inputs of type secret are not stored: give them again with --input.
    """
    from stepchain_tui.cli.runs import resume_run

    return resume_run(store, run, inputs, as_json=as_json)


@click.command("rerun")
@click.argument("run")
@click.argument("step")
@click.option("--downstream", is_flag=True, help="Also run all that follows STEP.")
@input_option
@dry_run_option
@json_option
@store_option
def rerun_command(
    run: str, step: str, downstream: bool, inputs: dict[str, str], as_json: bool, store: str | None
) -> int:
    """Run STEP of RUN again; what follows it is marked stale, or run too with --downstream."""
    from stepchain_tui.cli.runs import rerun_step

    return rerun_step(store, run, step, inputs, downstream=downstream, as_json=as_json)


def ask_secret(name: str) -> str:
    """Return a secret that the person at the terminal types."""
    value: str = click.prompt(f"{name} (is not shown)", hide_input=True, err=True)
    return value


def asker() -> Callable[[str], str] | None:
    """Return what asks for a secret, or None where nobody is there to answer."""
    return ask_secret if sys.stdin.isatty() and sys.stderr.isatty() else None
