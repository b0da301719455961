"""`pause`, `cancel`, `skip`, `approve`: commands to a run, whoever carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from stepchain_tui.cli.options import dry_run_option, json_option, json_value, pairs, store_option

if TYPE_CHECKING:
    from stepchain_tui.run import RunState


@click.command("pause")
@click.argument("run")
@click.option("--now", is_flag=True, help="Send running steps back to pending, at no cost of a try.")
@json_option
@store_option
def pause_command(run: str, now: bool, as_json: bool, store: str | None) -> int:
    """Pause RUN: running steps finish, no further one starts."""
    from stepchain_tui.cli.sending import steer

    return steer(store, run, "pause", {"now": now}, as_json=as_json)


@click.command("cancel")
@click.argument("run")
@click.argument("step", required=False)
@dry_run_option
@json_option
@store_option
def cancel_command(run: str, step: str | None, dry_run: bool, as_json: bool, store: str | None) -> int:
    """Cancel RUN, or one STEP of it; `resume` gives what was cancelled fresh tries."""
    from stepchain_tui.cli.sending import steer

    return steer(store, run, "cancel", {"step": step} if step else {}, as_json=as_json, dry_run=dry_run)


@click.command("skip")
@click.argument("run")
@click.argument("step")
@dry_run_option
@json_option
@store_option
def skip_command(run: str, step: str, dry_run: bool, as_json: bool, store: str | None) -> int:
    """Skip STEP of RUN; what depends on it is skipped too."""
    from stepchain_tui.cli.sending import steer

    return steer(store, run, "skip", {"step": step}, as_json=as_json, dry_run=dry_run)


@click.command("approve")
@click.argument("run")
@click.argument("step")
@click.option("--deny", is_flag=True, help="Say no.")
@click.option(
    "--field", "fields", metavar="K=V", multiple=True, callback=pairs, help="Fill in a field; repeat it for more."
)
@click.option(
    "--with",
    "value",
    metavar="JSON",
    help="At a breakpoint: go on with this input (before) or output (after). For a tool call: with these arguments.",
)
@click.option("--with-file", "file", metavar="FILE", help="The same, as JSON, from FILE; - for stdin.")
@click.option("--remember", is_flag=True, help="For a tool call: allow all further calls of this tool in this run.")
@json_option
@store_option
def approve_command(
    run: str,
    step: str,
    deny: bool,
    remember: bool,
    fields: dict[str, str],
    value: str | None,
    file: str | None,
    as_json: bool,
    store: str | None,
) -> int:
    """Answer the question of STEP of RUN: yes, or no with --deny.

    At a breakpoint this lets STEP go on, with what --with gives instead of what `show` shows. A step that was cut off
    and asks before another try is run again. A step that wants to call a tool calls it, with the arguments that --with
    gives, or with those that --field changes. At a budget, --field action=top_up adds what --field usd=N or --field
    tokens=N says, action=cheaper_model asks --field model=NAME from there on, action=finish goes on without this
    budget, and --deny or action=stop pauses the run.
    """
    from stepchain_tui.cli.sending import steer
    from stepchain_tui.core.errors import UsageError
    from stepchain_tui.run.step_state import TOOL_APPROVAL

    by_hand = json_value(value, file, "--with")
    if remember and deny:
        raise UsageError("--remember goes with a yes", hint="Leave --deny or --remember away.")

    def arguments(state: RunState) -> Mapping[str, Any]:
        answer = {"step": step, "approved": not deny, "fields": fields, **({"remember": True} if remember else {})}
        if not by_hand:
            return answer
        waiting = state.step(step).waiting
        if waiting is not None and waiting.reason == TOOL_APPROVAL:
            return {**answer, "arguments": by_hand["with"]}
        after = waiting is not None and waiting.place == "after"
        return {**answer, ("output" if after else "input"): by_hand["with"]}

    return steer(store, run, "approve", arguments, as_json=as_json)
