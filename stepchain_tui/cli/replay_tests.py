"""A recorded run as a test: its recording, and a file that pytest finds."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

from stepchain_tui import __version__
from stepchain_tui.cli.stores import read_run
from stepchain_tui.cli.text import clean_block, clean_line, put_json, say
from stepchain_tui.core.errors import CommandRefusedError, StepChainError, UsageError
from stepchain_tui.run import RunState
from stepchain_tui.run.status import RUN_ENDED
from stepchain_tui.store import SQLiteStore
from stepchain_tui.store.archive import export_run
from stepchain_tui.testing import ReplayResult, replay

_TEST = '''\
"""Replays run {run_id}, offline. Written by `stepchain replay {run_id} --pytest`."""

from pathlib import Path

from stepchain_tui.testing import replay

HERE = Path(__file__).parent


def test_{name}() -> None:
    result = replay(HERE / {archive!r}{plan})
    assert not result.differences, result.explained
    assert result.status == {status!r}
'''
_LONGEST_NAME = 80


def write_test(store: str | None, run_id: str, folder: str, plan: str | None, *, replace: bool, as_json: bool) -> int:
    """Write a run's recording and a test that replays it into a folder; return the exit code.

    Args:
        store: The store that was named.
        run_id: The run.
        folder: The folder, made where it is not there.
        plan: The plan's file that the test is for; the one that the run was started from if None, or the plan that
            the recording has where that file is gone.
        replace: Whether files that are there are replaced.
        as_json: Print JSON.

    Raises:
        UsageError: A file cannot be written, or is there already.
        CommandRefusedError: The run has not ended.
    """
    target = Path(folder)

    async def write(opened: SQLiteStore, known: str) -> tuple[RunState, str]:
        if (await opened.get_run(known)).owner_alive:
            raise CommandRefusedError(f"run '{known}' is still being carried out", hint="Wait until it ends.")
        state = await opened.load_state(known)
        if state.status not in RUN_ENDED:
            raise CommandRefusedError(
                f"run '{known}' has not ended: it is {state.status}",
                hint=f"`stepchain resume {known}` goes on with it.",
            )
        name = _name(state)
        if (target / f"test_{name}.py").exists() and not replace:
            raise UsageError(f"{target / f'test_{name}.py'} is there already", hint="Give --force to replace it.")
        _make(target)
        now = datetime.now(UTC)
        await export_run(opened, known, target / f"{name}.run", program=__version__, now=now, replace=replace)
        return state, name

    state, name = read_run(store, run_id, write)
    plan_path = _plan_beside(target, plan if plan is not None else state.plan_path, is_named=plan is not None)
    archive = target / f"{name}.run"
    result = _tried(archive, target / plan_path if plan_path else None)
    status = result.status if isinstance(result, ReplayResult) else state.status.value
    text = _TEST.format(
        run_id=state.run_id,
        name=name,
        archive=archive.name,
        plan=f", plan=HERE / {plan_path!r}" if plan_path else "",
        status=status,
    )
    test = target / f"test_{name}.py"
    try:
        test.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{test} cannot be written: {error.strerror}", hint="Name another folder.") from None
    _tell(test, archive, plan_path, result, as_json=as_json)
    return 0


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}", hint="Name another folder.") from None


def _name(state: RunState) -> str:
    """Return what the test is called: the plan's name and the run's id, as letters that any file may have."""
    words = f"{Path(state.plan_path).stem if state.plan_path else 'run'}_{state.run_id}"
    return re.sub(r"[^a-z0-9]+", "_", words.lower())[-_LONGEST_NAME:].strip("_")


def _plan_beside(folder: Path, plan: str, *, is_named: bool) -> str:
    """Return the path of a plan's file as the test names it: relative to its folder; empty for no file."""
    if not plan:
        return ""
    path = Path(plan).absolute()
    if path.is_file():
        return os.path.relpath(path, folder.absolute())
    if is_named:
        raise UsageError(f"there is no plan file {plan}")
    return ""


def _tried(archive: Path, plan: Path | None) -> ReplayResult | StepChainError:
    """Return what the test will find; an error of the plan as it is now is told, and is the test's as well."""
    try:
        return replay(archive, plan)
    except StepChainError as error:
        return error


def _tell(test: Path, archive: Path, plan: str, result: ReplayResult | StepChainError, *, as_json: bool) -> None:
    passes = isinstance(result, ReplayResult) and not result.differences
    why = "" if passes else result.explained if isinstance(result, ReplayResult) else result.message
    if as_json:
        put_json({"test": str(test), "recording": str(archive), "plan": plan or None, "passes": passes, "why": why})
        return
    say(f"{clean_line(str(test))} replays {clean_line(archive.name)}" + (f" with {clean_line(plan)}" if plan else ""))
    say("  it passes" if passes else clean_block(f"  it does not pass yet: {why}"))
