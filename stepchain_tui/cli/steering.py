"""`pause`, `cancel`, `skip`, `approve`: commands to a run, whoever carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from stepchain_tui.cli.options import json_option, pairs, store_option


@click.command("pause")
@click.argument("run")
@click.option("--now", is_flag=True, help="Send running steps back to pending, at no cost of a try.")
@json_option
@store_option
def pause_command(run: str, now: bool, as_json: bool, store: str | None) -> None:
    """Pause RUN: running steps finish, no further one starts."""
    _steer(store, run, "pause", {"now": now}, as_json=as_json)


@click.command("cancel")
@click.argument("run")
@click.argument("step", required=False)
@json_option
@store_option
def cancel_command(run: str, step: str | None, as_json: bool, store: str | None) -> None:
    """Cancel RUN, or one STEP of it; `resume` gives what was cancelled fresh tries."""
    _steer(store, run, "cancel", {"step": step} if step else {}, as_json=as_json)


@click.command("skip")
@click.argument("run")
@click.argument("step")
@json_option
@store_option
def skip_command(run: str, step: str, as_json: bool, store: str | None) -> None:
    """Skip STEP of RUN; what depends on it is skipped too."""
    _steer(store, run, "skip", {"step": step}, as_json=as_json)


@click.command("approve")
@click.argument("run")
@click.argument("step")
@click.option("--deny", is_flag=True, help="Say no.")
@click.option(
    "--field", "fields", metavar="K=V", multiple=True, callback=pairs, help="Fill in a field; repeat it for more."
)
@json_option
@store_option
def approve_command(run: str, step: str, deny: bool, fields: dict[str, str], as_json: bool, store: str | None) -> None:
    """Answer the question of STEP of RUN: yes, or no with --deny."""
    arguments = {"step": step, "approved": not deny, "fields": fields}
    _steer(store, run, "approve", arguments, as_json=as_json)


def _steer(given: str | None, run_id: str, command: str, arguments: Mapping[str, Any], *, as_json: bool) -> None:
    import asyncio

    from stepchain_tui.cli.carrying import open_engine
    from stepchain_tui.cli.stores import require_store
    from stepchain_tui.cli.text import clean_line, put_json, say
    from stepchain_tui.engine import EngineService

    require_store(given, run_id)

    async def work() -> tuple[str, str]:
        async with open_engine(given) as engine:
            known = (await engine.store.get_run(run_id)).run_id
            answer = await EngineService(engine).steer(known, command, arguments)
            return known, str(answer["message"])

    known, message = asyncio.run(work())
    if as_json:
        put_json({"run_id": known, "command": command, "ok": True, "message": message})
    else:
        say(clean_line(message))
