"""`edit`: another revision of a run's plan, live or stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from stepchain_tui.cli.options import dry_run_option, input_option, json_option, store_option

if TYPE_CHECKING:
    from stepchain_tui.run import RunState


@click.command("edit")
@click.argument("run")
@click.argument("file")
@click.option(
    "--rerun", is_flag=True, help="Run what succeeded and changed again, with what follows; else it is marked stale."
)
@click.option("--reason", metavar="TEXT", help="Why, as history shows it.")
@input_option
@dry_run_option
@json_option
@store_option
def edit_command(
    run: str,
    file: str,
    rerun: bool,
    reason: str | None,
    inputs: dict[str, str],
    dry_run: bool,
    as_json: bool,
    store: str | None,
) -> int:
    """Give RUN the plan in FILE as its next revision.

    It is checked whole, then applied: unchanged steps keep their results. `show RUN --plan` prints the plan as it is.
    What is being carried out must stay as it is.
    """
    from pathlib import Path

    from stepchain_tui.cli.receipts import put_receipt, say_receipt
    from stepchain_tui.cli.sending import give, say_how_to_go_on
    from stepchain_tui.cli.text import clean_line, put_json, say
    from stepchain_tui.engine import revision_arguments
    from stepchain_tui.plan import read_plan_text

    text = read_plan_text(Path(file))

    def arguments(state: RunState) -> Mapping[str, Any]:
        made = revision_arguments(text, file, Path(state.plan_folder))
        made |= {"revision": state.revision, "rerun": rerun}
        made |= {"reason": reason} if reason else {}
        return made | ({"inputs": inputs} if inputs else {})

    found = give(store, run, "edit", arguments, send=not dry_run, receipt=True)
    assert found.receipt is not None
    if dry_run:
        return put_receipt(found.receipt, as_json=as_json)
    message = str(found.answer["message"])
    if as_json:
        record = {"run_id": found.run_id, "command": "edit", "ok": True, "message": message}
        put_json({**record, "receipt": found.receipt.to_json()})
        return 0
    say(f"run {found.run_id}: {clean_line(message)}")
    say_receipt(found.receipt)
    say_how_to_go_on(found, store)
    return 0
