"""`logs`: what the steps of a run printed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import click

from stepchain_tui.cli.options import json_option, store_option
from stepchain_tui.cli.stores import read_run
from stepchain_tui.cli.text import clean_line, safe_json
from stepchain_tui.core.values import encode_json
from stepchain_tui.store import LogLine, SQLiteStore
from stepchain_tui.tui.log_lines import WholeLines, safe

_PAGE = 2_000
_LOOK_AT_OWNER = 0.5
"""Seconds after which we look whether the run's engine still lives: its death changes nothing in the store."""


@click.command("logs")
@click.argument("run")
@click.argument("step", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="Only attempt N.")
@json_option
@store_option
def logs_command(
    run: str, step: str | None, follow: bool, attempt: int | None, as_json: bool, store: str | None
) -> None:
    """Print what RUN printed, or one STEP of it."""

    async def read(opened: SQLiteStore, run_id: str) -> None:
        await _check_step(opened, run_id, step)
        async for line in _lines(opened, run_id, step, attempt, follow=follow):
            _put_line(line, of_one_step=step is not None, as_json=as_json)
        sys.stdout.flush()

    read_run(store, run, read)


async def _check_step(store: SQLiteStore, run_id: str, step_id: str | None) -> None:
    if step_id is None:
        return
    known = [step.step_id for step in await store.list_steps(run_id)]
    if step_id not in known and not await store.count_log(run_id, step_id=step_id):
        from stepchain_tui.core.errors import UnknownStepError

        raise UnknownStepError(step_id, known)


async def _lines(
    store: SQLiteStore, run_id: str, step_id: str | None, attempt: int | None, *, follow: bool
) -> AsyncIterator[LogLine]:
    """Yield log lines, each when it is whole; with `follow` until no engine carries the run out any more."""
    changes = store.changes()
    whole = WholeLines()
    waking: asyncio.Task[None] | None = None
    after = 0
    try:
        while True:
            live = follow and store.owner_alive(run_id)  # looked at first: what it wrote last is read below
            while page := await store.read_log(run_id, step_id=step_id, attempt=attempt, after=after, limit=_PAGE):
                for row in page:
                    for line in whole.take(row):
                        yield line
                after = page[-1].n
            if not live:
                break
            sys.stdout.flush()
            waking = waking or asyncio.create_task(anext(changes))  # type: ignore[arg-type]
            done, _ = await asyncio.wait({waking}, timeout=_LOOK_AT_OWNER)
            if done:
                waking = None
        for line in whole.rest():
            yield line
    finally:
        if waking is not None:
            waking.cancel()
            await asyncio.gather(waking, return_exceptions=True)


def _put_line(line: LogLine, *, of_one_step: bool, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(safe_json(encode_json(_record(line))) + b"\n")
        return
    text = "\n".join(safe(line.stream, part) for part in line.text.split("\n"))
    if of_one_step:
        sys.stdout.write(text + "\n")
        return
    item = f"[{line.item}]" if line.item >= 0 else ""
    sys.stdout.write(f"{line.at.astimezone():%H:%M:%S} {clean_line(line.step_id)}{item} {text}\n")


def _record(line: LogLine) -> dict[str, Any]:
    return {
        "n": line.n,
        "at": line.at,
        "step_id": line.step_id,
        "attempt": line.attempt,
        "item": None if line.item < 0 else line.item,
        "stream": line.stream,
        "text": line.text,
    }
