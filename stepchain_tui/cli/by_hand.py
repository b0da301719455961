"""`mark`, `pin`, `breakpoint`, `limits`: what a person sets in a run by hand."""

from __future__ import annotations

from typing import Any

import click

from stepchain_tui.cli.options import (
    dry_run_option,
    json_option,
    json_value,
    output_options,
    pairs,
    store_option,
)


@click.command("mark")
@click.argument("run")
@click.argument("step")
@output_options
@dry_run_option
@json_option
@store_option
def mark_command(
    run: str,
    step: str,
    output: str | None,
    output_file: str | None,
    dry_run: bool,
    as_json: bool,
    store: str | None,
) -> int:
    """Take STEP of RUN as succeeded, with the output that is given or null; it is not run."""
    from stepchain_tui.cli.sending import steer

    arguments = {"step": step, **json_value(output, output_file, "--output")}
    return steer(store, run, "mark", arguments, as_json=as_json, dry_run=dry_run)


@click.command("pin")
@click.argument("run")
@click.argument("step")
@output_options
@click.option("--off", is_flag=True, help="Pin it no longer.")
@dry_run_option
@json_option
@store_option
def pin_command(
    run: str,
    step: str,
    output: str | None,
    output_file: str | None,
    off: bool,
    dry_run: bool,
    as_json: bool,
    store: str | None,
) -> int:
    """Keep the output of STEP of RUN, the one it has or the one that is given: no rerun makes it anew."""
    from stepchain_tui.cli.sending import steer
    from stepchain_tui.core.errors import UsageError

    if off and (output is not None or output_file is not None):
        raise UsageError("--off takes no output")
    arguments = {"step": step, **({"off": True} if off else json_value(output, output_file, "--output"))}
    return steer(store, run, "pin", arguments, as_json=as_json, dry_run=dry_run)


@click.command("breakpoint")
@click.argument("run")
@click.argument("step")
@click.option("--before", is_flag=True, help="Stop before STEP; this is the default.")
@click.option("--after", is_flag=True, help="Stop after STEP.")
@click.option("--off", is_flag=True, help="Stop there no longer.")
@json_option
@store_option
def breakpoint_command(
    run: str, step: str, before: bool, after: bool, off: bool, as_json: bool, store: str | None
) -> int:
    """Stop RUN before or after STEP, until `approve` lets it go on."""
    from stepchain_tui.cli.sending import steer
    from stepchain_tui.core.errors import UsageError

    if before + after + off > 1:
        raise UsageError("--before, --after and --off exclude each other")
    place = None if off else "after" if after else "before"
    return steer(store, run, "breakpoint", {"step": step, "place": place}, as_json=as_json)


@click.command("limits")
@click.argument("run")
@click.argument("named", metavar="[NAME=N]...", nargs=-1, callback=pairs)
@click.option("--max-concurrent", type=click.IntRange(1, 1_000_000), metavar="N", help="Steps at once.")
@click.option(
    "--priority",
    "priorities",
    metavar="STEP=N",
    multiple=True,
    callback=pairs,
    help="Higher first; repeat it for more.",
)
@click.option(
    "--max-running", type=click.IntRange(1, 1_000_000), metavar="N", help="Steps at once over all runs of the engine."
)
@json_option
@store_option
def limits_command(
    run: str,
    named: dict[str, str],
    max_concurrent: int | None,
    priorities: dict[str, str],
    max_running: int | None,
    as_json: bool,
    store: str | None,
) -> int:
    """Change how much of RUN goes on at once; without anything to change, show who holds a slot."""
    from stepchain_tui.cli.sending import give, steer

    arguments: dict[str, Any] = {
        "limits": _numbers(named, "limit"),
        "priorities": _numbers(priorities, "priority of"),
        "max_concurrent": max_concurrent,
        "max_running": max_running,
    }
    wanted = {name: value for name, value in arguments.items() if value}
    if wanted:
        return steer(store, run, "limits", wanted, as_json=as_json)
    from stepchain_tui.cli.slots import put_slots

    found = give(store, run, "slots", {})
    put_slots(found.run_id, found.answer["slots"], as_json=as_json)
    return 0


def _numbers(given: dict[str, str], what: str) -> dict[str, int]:
    from stepchain_tui.core.errors import UsageError

    numbers = {}
    for name, text in given.items():
        try:
            numbers[name] = int(text)
        except ValueError:
            raise UsageError(f"the {what} '{name}' is a whole number, not '{text}'") from None
    return numbers
