"""`tools`: what may be called, how well it did over all runs, and the servers behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from stepchain_tui.cli.options import json_option, store_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stepchain_tui.engine import Engine

_KINDS = {"built_in": "built in", "mcp": "MCP", "": "-"}
_HINTS = {"process": "computes: better in mode process", "thread": "waits: better in mode thread"}


@click.command("tools")
@click.option("--plan", metavar="PLAN", help="Also those of PLAN, and of its MCP servers.")
@click.option(
    "--no-connect",
    is_flag=True,
    help="Show what is known already: start no server, import no function.",
)
@json_option
@store_option
def tools_command(plan: str | None, no_connect: bool, as_json: bool, store: str | None) -> int:
    """List the tools that steps and `call` may name, with how their calls went over all runs.

    Built in, of PLAN, and of the MCP servers of PLAN and of the settings. Of tools with one name on several servers
    the healthier stands first. Tools that were called once and are in none of these are listed too.
    """
    import asyncio
    import contextlib
    import sys

    from stepchain_tui.cli.text import clean_line, put_json, say
    from stepchain_tui.engine import EngineService

    async def work() -> dict[str, Any]:
        async with _engine(store) as engine:
            return await EngineService(engine).tools(plan, connect=not no_connect)

    with contextlib.redirect_stdout(sys.stderr):  # what a module prints when it is imported is no data of ours
        found = asyncio.run(work())
    if as_json:
        put_json(found)
    else:
        _put(found)
        told = {_error(row) for row in found["servers"]}
        for problem in found["problems"]:
            if problem not in told:
                say(clean_line(problem, 1_000))
    return 0


def _engine(given: str | None) -> Engine:
    """Return an engine to look with: on the store, or, where there is none yet, on one in memory."""
    from stepchain_tui.cli.carrying import open_engine
    from stepchain_tui.cli.stores import store_missing
    from stepchain_tui.cli.user_settings import user_settings
    from stepchain_tui.core.paths import store_path
    from stepchain_tui.engine import Engine
    from stepchain_tui.store import MemoryStore

    if store_missing(store_path(given)):
        return Engine(MemoryStore(), settings=user_settings())
    return open_engine(given)


def _put(found: Mapping[str, Any]) -> None:
    from stepchain_tui.cli.text import put, table

    heads = ("TOOL", "KIND", "CALLS", "SUCCESS", "MEAN", "HINT")
    for line in table([heads, *map(_tool, found["tools"])]):
        put(line)
    if found["servers"]:
        put()
        for line in table([("SERVER", "STATE", "TOOLS", "WHERE", "ERROR"), *_servers(found["servers"])]):
            put(line)


def _tool(row: Mapping[str, Any]) -> tuple[str, ...]:
    from stepchain_tui.cli.text import clean_line
    from stepchain_tui.tui.calls import call_time
    from stepchain_tui.tui.text import percent

    rate, mean = row["success_rate"], row["mean_seconds"]
    return (
        clean_line(row["name"], 80),
        _KINDS.get(row["kind"], row["kind"]),
        str(row["calls"]) if row["calls"] else "-",
        "-" if rate is None else percent(rate),
        "-" if mean is None else call_time(mean),
        _HINTS.get(row["hint"], ""),
    )


def _servers(rows: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, ...]]:
    from stepchain_tui.cli.text import clean_line

    for row in rows:
        tools = "-" if row["tools"] is None else str(row["tools"])
        yield clean_line(row["name"], 80), row["state"], tools, clean_line(row["where"], 120), clean_line(_error(row))


def _error(row: Mapping[str, Any]) -> str:
    """Return what is wrong with a server and what to do about it, as it stands among the problems too."""
    return f"{row['error']}. {row['hint']}" if row["error"] and row["hint"] else str(row["error"])
