"""`transcript`: what was said and done with a model in a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stepchain_tui.cli.options import json_option, store_option

if TYPE_CHECKING:
    from stepchain_tui.run.transcript_entries import Entry
    from stepchain_tui.store import SQLiteStore


@click.command("transcript")
@click.argument("run")
@click.argument("step")
@click.option("--item", type=click.IntRange(min=0), help="Only this item of a map, the first is 0.")
@click.option("--full", is_flag=True, help="Also what is very long.")
@json_option
@store_option
def transcript_command(run: str, step: str, item: int | None, full: bool, as_json: bool, store: str | None) -> None:
    """Print what was said and done with a model in STEP of RUN: texts, tool calls, approvals, tokens and money."""
    import sys

    import msgspec

    from stepchain_tui.cli.states import read_state
    from stepchain_tui.cli.stores import read_run
    from stepchain_tui.cli.text import draws_unicode, put, put_json, say
    from stepchain_tui.tui.glyphs import ASCII, UNICODE
    from stepchain_tui.tui.transcript_lines import paragraphs
    from stepchain_tui.tui.transcripts import TranscriptReader

    async def read(opened: SQLiteStore, run_id: str) -> list[Entry]:
        (await read_state(opened, run_id)).state.step(step)  # an unknown step is told with the names of those there are
        return await TranscriptReader(run_id, step, item).read(opened)

    entries = read_run(store, run, read)
    if as_json:
        put_json([msgspec.to_builtins(entry) for entry in entries])
        return
    if not entries:
        say(f"nothing was said in {step}")
    glyphs = UNICODE if draws_unicode(sys.stdout) else ASCII
    lines = [line for entry in entries for line in paragraphs(entry, glyphs, whole=full)]
    for place, line in enumerate(lines):
        if place or line.text:
            put(f"{' ' * line.indent}{line.text}".rstrip())
