"""`stepchain [PLAN]` and `open`: the app."""

from __future__ import annotations

import click

from stepchain_tui.cli.options import input_option, store_option


@click.command("app", hidden=True)
@click.argument("plan")
@input_option
@click.option("--in-process", is_flag=True, help="Carry runs out within the app's own process.")
@store_option
@click.pass_context
def app_command(context: click.Context, plan: str, inputs: dict[str, str], in_process: bool, store: str | None) -> int:
    """Open the app on PLAN; `s` starts it."""
    in_process = in_process or bool(context.find_root().params.get("in_process"))
    return open_app(store, plan=plan, inputs=inputs, in_process=in_process)


@click.command("open")
@click.argument("run")
@click.option("--in-process", is_flag=True, help="Carry runs out within the app's own process.")
@store_option
@click.pass_context
def open_command(context: click.Context, run: str, in_process: bool, store: str | None) -> int:
    """Open the app on RUN, also one that another terminal carries out."""
    from stepchain_tui.cli.stores import require_store

    require_store(store, run)
    in_process = in_process or bool(context.find_root().params.get("in_process"))
    return open_app(store, run_id=run, in_process=in_process)


def open_app(
    store: str | None,
    *,
    plan: str | None = None,
    run_id: str | None = None,
    inputs: dict[str, str] | None = None,
    in_process: bool = False,
) -> int:
    """Run the app and return its exit code.

    Raises:
        UsageError: There is no terminal to draw on.
        PlanError: The plan's file cannot be read.
    """
    import sys
    from pathlib import Path

    from stepchain_tui.cli.user_settings import user_settings
    from stepchain_tui.core.errors import UsageError
    from stepchain_tui.core.paths import store_path

    settings = user_settings()
    if plan is not None:
        from stepchain_tui.plan import read_plan_text

        read_plan_text(Path(plan))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "the app needs a terminal to draw on", hint="Use `stepchain run PLAN` where there is none; see --help."
        )
    from stepchain_tui.tui import run_app

    return run_app(store_path(store), Path(plan) if plan else None, run_id, in_process, settings, dict(inputs or {}))
