"""Secret inputs: they are not stored, so whoever goes on with a run gives them again, or is asked for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import click

from stepchain_tui.cli.border import STOPPED
from stepchain_tui.cli.stores import read_run
from stepchain_tui.cli.user_settings import user_settings
from stepchain_tui.core.errors import InputError
from stepchain_tui.plan import InputType, load_plan
from stepchain_tui.run import decode_event
from stepchain_tui.run.events import RunCreated, RunRevised
from stepchain_tui.store import SQLiteStore

_RESUME_INPUTS = "Only inputs of type secret are asked for again; the others are kept with the run."


def asked_secrets(plan_path: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the secret inputs of a plan's file that were not given, from the person at the terminal."""
    ask = _asker()
    if ask is None:
        return {}
    from pathlib import Path

    user_settings()
    plan = load_plan(Path(plan_path)).plan
    missing = [
        name
        for name, spec in plan.inputs.items()
        if spec.type is InputType.SECRET and not spec.has_default and name not in given
    ]
    return {name: ask(name) for name in missing}


def secrets_for(given_store: str | None, run_id: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the secret inputs of a run that goes on: those given, and those the person at the terminal types.

    They are asked for before there is an engine, whose loop would keep ctrl+c from a person who types.

    Raises:
        InputError: Something else was given, or one is missing and nobody is there to be asked.
    """
    names = read_run(given_store, run_id, _secret_names)
    others = [name for name in given if name not in names]
    if others:
        asks = f"; it asks for {', '.join(names)}" if names else ""
        raise InputError(f"a run that goes on takes no input '{others[0]}'{asks}", hint=_RESUME_INPUTS)
    missing = [name for name in names if name not in given]
    if not missing:
        return dict(given)
    ask = _asker()
    if ask is None:
        hint = " ".join(f"--input {name}=..." for name in missing)
        error = InputError(f"secret inputs are not stored: give {', '.join(missing)} again", hint=f"Add {hint}")
        error.cli_code = STOPPED  # type: ignore[attr-defined]
        raise error
    return {**given, **{name: ask(name) for name in missing}}


async def _secret_names(store: SQLiteStore, run_id: str) -> tuple[str, ...]:
    """Return the names of a run's secret inputs, those of its last revision."""
    names: tuple[str, ...] = ()
    async for _, kind, _, data in store.read_raw_events(run_id):
        if kind not in ("run.created", "run.revised"):
            continue
        event = decode_event(data)
        if isinstance(event, RunCreated) or (isinstance(event, RunRevised) and event.inputs is not None):
            names = event.secret_inputs
    return names


def _ask(name: str) -> str:
    value: str = click.prompt(f"{name} (is not shown)", hide_input=True, err=True)
    return value


def _asker() -> Callable[[str], str] | None:
    """Return what asks for a secret, or None where nobody is there to answer."""
    return _ask if sys.stdin.isatty() and sys.stderr.isatty() else None
