"""`run`, `resume`, `rerun`, `fork`: commands that carry a run out in the foreground."""

from __future__ import annotations

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
    dry_run: bool,
    as_json: bool,
    store: str | None,
) -> int:
    """Run PLAN and wait until it ends; a run that is known by --run-id goes on."""
    from stepchain_tui.cli import runs

    if detached:
        from stepchain_tui.cli.detaching import handed_inputs, run_detached

        inputs = handed_inputs()
    order = runs.RunOrder(plan, inputs, run_id=run_id, fresh=fresh, max_concurrent=max_concurrent, store=store)
    if detached:
        return run_detached(order)
    if dry_run:
        from stepchain_tui.cli.rehearsing import rehearse_run

        return rehearse_run(order, as_json=as_json)
    if detach:
        from stepchain_tui.cli.detaching import detach_run

        return detach_run(order, as_json=as_json)
    return runs.run_plan(order, as_json=as_json)


@click.command("resume")
@click.argument("run")
@input_option
@click.option("--trust", is_flag=True, help="Let the steps of an imported run be carried out here from now on.")
@dry_run_option
@json_option
@store_option
def resume_command(
    run: str, inputs: dict[str, str], trust: bool, dry_run: bool, as_json: bool, store: str | None
) -> int:
    """Go on with RUN, with the plan it keeps; what succeeded is not run again.

    Inputs of type secret are not stored: give them again with --input.
    """
    if dry_run:
        from stepchain_tui.cli.rehearsing import rehearse

        return rehearse(store, run, "resume", {}, as_json=as_json)
    if trust:
        from stepchain_tui.cli.trusting import trust_imported

        trust_imported(store, run)
    from stepchain_tui.cli.runs import resume_run

    return resume_run(store, run, inputs, as_json=as_json)


@click.command("rerun")
@click.argument("run")
@click.argument("step")
@click.option("--downstream", is_flag=True, help="Also run all that follows STEP.")
@click.option("--failed", is_flag=True, help="Only the failed items of STEP, which is a map.")
@input_option
@dry_run_option
@json_option
@store_option
def rerun_command(
    run: str,
    step: str,
    downstream: bool,
    failed: bool,
    inputs: dict[str, str],
    dry_run: bool,
    as_json: bool,
    store: str | None,
) -> int:
    """Run STEP of RUN again; what follows it is marked stale, or run too with --downstream."""
    if dry_run:
        from stepchain_tui.cli.rehearsing import rehearse

        arguments = {"step": step, "downstream": downstream, "failed": failed}
        return rehearse(store, run, "rerun", arguments, as_json=as_json)
    from stepchain_tui.cli.runs import rerun_step

    return rerun_step(store, run, step, inputs, downstream=downstream, failed=failed, as_json=as_json)


@click.command("fork")
@click.argument("run")
@click.argument("step")
@click.option("--run-id", metavar="ID", help="Name the new run.")
@input_option
@click.option("--detach", is_flag=True, help="Let the new run go on by itself; print its id.")
@click.option("--detached", is_flag=True, hidden=True)
@dry_run_option
@json_option
@store_option
def fork_command(
    run: str,
    step: str,
    run_id: str | None,
    inputs: dict[str, str],
    detach: bool,
    detached: bool,
    dry_run: bool,
    as_json: bool,
    store: str | None,
) -> int:
    """Start a new run from STEP of RUN: that and what follows is run, the other results are taken over.

    RUN is not touched, and may go on or be deleted. Inputs of type secret are given again with --input.
    """
    if dry_run:
        from stepchain_tui.cli.rehearsing import rehearse

        return rehearse(store, run, "fork", {"step": step}, as_json=as_json)
    from stepchain_tui.cli import runs
    from stepchain_tui.cli.trusting import require_trusted

    require_trusted(store, run)

    if detached:
        from stepchain_tui.cli.detaching import handed_inputs, run_detached

        return run_detached(runs.ForkOrder(run, step, handed_inputs(), run_id=run_id, store=store))
    order = runs.ForkOrder(run, step, inputs, run_id=run_id, store=store)
    if detach:
        from stepchain_tui.cli.detaching import detach_run

        return detach_run(runs.with_secrets(order), as_json=as_json)
    return runs.fork_run(order, as_json=as_json)
