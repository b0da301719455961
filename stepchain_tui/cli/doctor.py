"""`doctor`: looks at the store whole, and at what this machine has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stepchain_tui.cli.options import json_option, store_option

if TYPE_CHECKING:
    from stepchain_tui.store import RunSummary, SQLiteStore

_PACKAGES = ("textual", "openai", "pydantic", "pydantic-monty", "jinja2", "aiosqlite")
_TOOLS = ("sh", "git", "tmux", "node", "bwrap")


@click.command("doctor")
@json_option
@store_option
def doctor_command(as_json: bool, store: str | None) -> int:
    """Check the store whole, and tell what this machine has; exits 2 on damage."""
    import asyncio

    from stepchain_tui.cli.border import USAGE
    from stepchain_tui.cli.text import clean_line, put, put_json

    report, damaged = asyncio.run(_examine(store))
    if as_json:
        put_json(report)
    else:
        for name, value in report.items():
            if name not in ("problems", "notes", "ok"):
                text = (
                    ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
                )
                put(f"{name:<10} {clean_line(text, 1000)}")
        for note in report["notes"]:
            put(f"note       {clean_line(note, 2000)}")
        for problem in report["problems"]:
            put(f"PROBLEM    {clean_line(problem, 2000)}")
        if report["ok"] or damaged:
            put("all is well" if report["ok"] else "keep a copy of the store before you try anything")
    return 0 if report["ok"] else USAGE


async def _examine(given: str | None) -> tuple[dict[str, Any], bool]:
    """Return what was found, and whether the store is damaged."""
    import platform

    from stepchain_tui import __version__
    from stepchain_tui.core.paths import store_path

    path = store_path(given)
    notes: list[str] = []
    problems: list[str] = []
    facts = await _examine_store(path, notes, problems)
    damaged, model, prices = bool(problems), _model(problems), _prices(problems)
    report = {
        "ok": not problems,
        "stepchain": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "store": str(path),
        **facts,
        "model": model,
        "prices": prices,
        "packages": _packages(),
        "tools": _tools(),
        "notes": notes,
        "problems": problems,
    }
    return report, damaged


async def _examine_store(path: Path, notes: list[str], problems: list[str]) -> dict[str, Any]:
    """Return facts about the store and add what is wrong with it to `problems`; changes nothing."""
    from stepchain_tui.cli.stores import reading, store_missing
    from stepchain_tui.core.errors import StepChainError
    from stepchain_tui.run import RunStatus

    if store_missing(path):
        notes.append("there is no store yet; the first run makes one")
        return {"runs": 0, "bytes": 0}
    facts: dict[str, Any] = {"runs": None, "bytes": _bytes_of(path)}
    try:
        async with reading(str(path)) as store:
            problems += await store.integrity_check(full=True)
            runs = await store.list_runs(limit=-1)
            facts["runs"] = len(runs)
            if not problems:
                for run in runs:
                    problems += await _summary_problems(store, run)
            dead = [run.run_id for run in runs if run.shown_status is RunStatus.INTERRUPTED]
            if dead:
                ids = ", ".join(dead[:5])
                notes.append(f"{len(dead)} interrupted: {ids}{' ...' if len(dead) > 5 else ''}; resume or cancel them")
            if _bytes_of(path.with_name(path.name + "-wal")) and not any(run.owner_alive for run in runs):
                notes.append("the last process that wrote the store did not end cleanly; nothing committed is lost")
    except StepChainError as error:
        problems.append(f"{error.message}. {error.hint}".strip())
    return facts


async def _summary_problems(store: SQLiteStore, run: RunSummary) -> list[str]:
    """Return where a run's rows say something else than its events; those of a run at work may be a moment behind."""
    if run.could_be_live:
        return []
    state = await store.load_state(run.run_id)
    rows = {step.step_id: step.status for step in await store.list_steps(run.run_id)}
    events = {step.id: step.status for step in state.steps.values()}
    if (run.status, run.last_seq, rows) == (state.status, state.last_seq, events):
        return []
    return [f"run '{run.run_id}': its rows in the history differ from its events, which are the truth"]


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _model(problems: list[str]) -> str:
    import os

    from stepchain_tui.core.errors import StepChainError
    from stepchain_tui.core.paths import settings_path
    from stepchain_tui.core.settings import load_settings
    from stepchain_tui.llm.choice import choose_model

    try:
        settings = load_settings(settings_path())
    except StepChainError as error:
        problems.append(f"{error.message}. {error.hint}".strip())
        return "unknown"
    choice = choose_model(None, None, settings.model, os.environ)
    if not choice.available:
        return f"none: {choice.key_variable} is not set; optional prompts are skipped, others fail"
    return f"{choice.label} at {choice.address}"


def _prices(problems: list[str]) -> str:
    from stepchain_tui.core.paths import prices_path
    from stepchain_tui.llm.prices import load_prices

    prices = load_prices(prices_path())
    if prices.problem:
        problems.append(f"{prices.problem} Until then no price is known.")
        return "unknown"
    own = f", {len(prices.own)} of {prices.path}" if prices.own else ""
    return f"{len(prices.shipped)} models as of {prices.date}{own}"


def _packages() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def _tools() -> dict[str, str]:
    import shutil

    return {name: shutil.which(name) or "missing" for name in _TOOLS}
