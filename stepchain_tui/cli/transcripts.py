"""`transcript`: what was said and done with a model in a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stepchain_tui.cli.options import json_option, store_option

if TYPE_CHECKING:
    from stepchain_tui.run.step_state import StepState
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
        state = (await read_state(opened, run_id)).state
        found = state.step(step)  # an unknown step is told with the names of those there are
        if item is not None:
            _check_item(found, item)
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


def _check_item(step: StepState, item: int) -> None:
    """Raise where a step has no such item."""
    from stepchain_tui.core.errors import UsageError

    if not step.outline.is_map:
        raise UsageError(f"step '{step.id}' is no map, it has no items", hint="Leave --item out.")
    if step.items is not None and item >= len(step.items):
        last = f"its last one is {len(step.items) - 1}" if step.items else "it has none"
        raise UsageError(f"step '{step.id}' has no item {item}: {last}", hint="The first item is 0.")
