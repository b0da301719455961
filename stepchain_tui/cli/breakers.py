"""`breakers`: the circuit breakers that the store knows, and closing one by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stepchain_tui.cli.options import json_option, store_option

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command("breakers")
@click.option("--reset", "name", metavar="NAME", help="Close this one: the next call to what it stands for is made.")
@json_option
@store_option
def breakers_command(name: str | None, as_json: bool, store: str | None) -> int:
    """Show the circuit breakers of model providers and functions, or close one by hand.

    One opens after failures in a row; it lets one call through after a while, and closes when that succeeds.
    """
    import asyncio

    from stepchain_tui.cli.carrying import open_engine
    from stepchain_tui.cli.stores import store_missing
    from stepchain_tui.cli.text import clean_line, put, put_json, say, table
    from stepchain_tui.core.paths import store_path
    from stepchain_tui.engine import EngineService

    async def work() -> list[dict[str, Any]]:
        if name is None and store_missing(store_path(store)):
            return []
        async with open_engine(store) as engine:
            service = EngineService(engine)
            if name is not None:
                await service.reset_breaker(name)
            return await service.breakers()

    found = asyncio.run(work())
    if as_json:
        put_json(found)
    elif name is not None:
        say(f"{clean_line(name)} is closed")
    elif not found:
        say("no circuit breaker yet: nothing that a step calls has failed in a way that counts")
    else:
        for line in table([("NAME", "STATE", "FAILURES", "UNTIL", "LAST ERROR"), *map(_row, found)]):
            put(line)
    return 0


def _row(record: Mapping[str, Any]) -> tuple[str, ...]:
    from datetime import datetime

    from stepchain_tui.cli.text import clean_line, local_time

    until = record["until"]
    return (
        clean_line(str(record["name"])),
        str(record["state"]).replace("_", " "),
        str(record["failures"]),
        local_time(datetime.fromisoformat(until)) if until else "",
        clean_line(str(record["last_error"])),
    )
