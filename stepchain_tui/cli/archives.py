"""`export` and `import`: a run as one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stepchain_tui.cli.options import json_option, store_option

if TYPE_CHECKING:
    from stepchain_tui.store import SQLiteStore
    from stepchain_tui.store.archive import ArchiveHeader


@click.command("export")
@click.argument("run")
@click.argument("file")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@json_option
@store_option
def export_command(run: str, file: str, force: bool, as_json: bool, store: str | None) -> int:
    """Write RUN, all of it, to FILE: events, plans, logs, outputs.

    FILE is gzip of JSON lines, for `stepchain import`. No secret is in it: none is in the store.
    """
    from datetime import UTC, datetime
    from pathlib import Path

    from stepchain_tui import __version__
    from stepchain_tui.cli.stores import read_run
    from stepchain_tui.cli.text import clean_line, put_json, say, size
    from stepchain_tui.store.archive import export_run

    path = Path(file)

    async def write(opened: SQLiteStore, run_id: str) -> ArchiveHeader:
        return await export_run(opened, run_id, path, program=__version__, now=datetime.now(UTC), replace=force)

    header = read_run(store, run, write)
    written = path.stat().st_size
    if as_json:
        counts = {"events": header.events, "lines": header.lines, "values": header.values}
        put_json({"run_id": header.run_id, "file": file, "bytes": written, **counts})
    else:
        say(
            f"{header.run_id} is in {clean_line(file)}: {size(written)}, {header.events:,} events, "
            f"{header.lines:,} log lines, {header.values:,} large outputs"
        )
    return 0


@click.command("import")
@click.argument("file")
@click.option("--as", "run_id", metavar="NEW_ID", help="Give the run another id.")
@click.option("--large", is_flag=True, help="Take a file that is far larger when unpacked.")
@json_option
@store_option
def import_command(file: str, run_id: str | None, large: bool, as_json: bool, store: str | None) -> int:
    """Take the run in FILE, which `stepchain export` wrote, into the store.

    It can be looked at like any other. Its steps run only after `stepchain resume RUN --trust`: whoever wrote the
    file wrote their commands.
    """
    import asyncio
    from datetime import UTC, datetime
    from pathlib import Path

    from stepchain_tui.cli.stores import writing
    from stepchain_tui.cli.text import clean_line, put_json, say, to_type, words_of
    from stepchain_tui.store import RunSummary
    from stepchain_tui.store.importing import import_run

    async def take() -> RunSummary:
        async with writing(store) as opened:
            return await import_run(opened, Path(file), now=datetime.now(UTC), run_id=run_id, large=large)

    run = asyncio.run(take())
    if as_json:
        put_json({"run_id": run.run_id, "status": run.shown_status, "goal": run.goal})
    else:
        say(f"{run.run_id} is imported: {words_of(run.shown_status)}, {clean_line(run.goal)}")
        say(f"  `{to_type(store, 'show', run.run_id)}` shows it; its steps run only after `resume --trust`.")
    return 0
