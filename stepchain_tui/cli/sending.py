"""Giving a command to a run, whoever carries it out: ask for its receipt, send it, tell the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stepchain_tui.cli.carrying import open_engine
from stepchain_tui.cli.receipts import put_receipt
from stepchain_tui.cli.stores import require_store
from stepchain_tui.cli.text import clean_line, put_json, say, to_type
from stepchain_tui.engine import Engine, EngineService, Receipt
from stepchain_tui.run import RunState, RunStatus

Arguments = Mapping[str, Any] | Callable[[RunState], Mapping[str, Any]]
"""A command's arguments, or what makes them of the run as it is."""


@dataclass(frozen=True, slots=True)
class Given:
    """What became of a command.

    Attributes:
        run_id: The run's whole id.
        answer: What was answered; empty where nothing was sent.
        receipt: What it does to the run, where that was asked for.
        left: The run where nobody carries it out and `resume` would go on with it, else None.
    """

    run_id: str
    answer: Mapping[str, Any]
    receipt: Receipt | None = None
    left: RunState | None = None


def give(
    given: str | None, run_id: str, command: str, arguments: Arguments, *, send: bool = True, receipt: bool = False
) -> Given:
    """Give a command to a run.

    Args:
        given: The store that was named.
        run_id: The run, or a prefix of its id.
        command: The command.
        arguments: Its arguments.
        send: Whether it is carried out.
        receipt: Whether to find out beforehand what it does.

    Raises:
        CommandRefusedError: It does not fit the run as it is; nothing was changed.
        UnknownRunError: The store does not hold the run.
    """
    require_store(given, run_id)

    async def work() -> Given:
        async with open_engine(given) as engine:
            known, service = (await engine.store.get_run(run_id)).run_id, EngineService(engine)
            made = arguments(await engine.store.load_state(known)) if callable(arguments) else arguments
            found = await service.receipt(known, command, made) if receipt else None
            if not send:
                return Given(known, {}, found)
            answer = await service.steer(known, command, made)
            return Given(known, answer, found, await _left(engine, known))

    return asyncio.run(work())


async def _left(engine: Engine, run_id: str) -> RunState | None:
    if engine.store.owner_alive(run_id):
        return None
    state = await engine.store.load_state(run_id)
    done = state.status is RunStatus.SUCCEEDED and all(step.ended for step in state.steps.values())
    held = state.status in (RunStatus.CANCELLED, RunStatus.WAITING)
    return None if done or held else state


def steer(
    given: str | None, run_id: str, command: str, arguments: Arguments, *, as_json: bool, dry_run: bool = False
) -> int:
    """Give a command to a run and tell its answer, or with `dry_run` only what it would do; return the exit code."""
    found = give(given, run_id, command, arguments, send=not dry_run, receipt=dry_run)
    if found.receipt is not None:
        return put_receipt(found.receipt, as_json=as_json)
    message = str(found.answer["message"])
    if as_json:
        put_json({"run_id": found.run_id, "command": command, "ok": True, "message": message})
        return 0
    say(clean_line(message))
    say_how_to_go_on(found, given)
    return 0


def say_how_to_go_on(found: Given, store: str | None) -> None:
    """Tell what goes on with a run that nobody carries out."""
    if found.left is not None:
        say(f"  nobody carries the run out: `{to_type(store, 'resume', found.run_id)}` goes on.")
