"""A run that somebody else's store exported: it is looked at freely, and asks before its steps run here."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tui_desk import Desk, Person

from stepchain_tui.store.archive import export_run
from stepchain_tui.store.importing import import_run
from stepchain_tui.tui.screens.run import RunScreen

PLAN = """
steps:
  - {id: first, shell: "echo one >> effects"}
  - {id: second, shell: "echo two >> effects", dependencies: [first]}
"""
NOW = datetime(2026, 1, 2, tzinfo=UTC)


async def imported(desk: Desk) -> str:
    """Return the id of a run in the desk's store that came from another store."""
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await person.press("s")
        await person.run_has_ended()
        run_id = person.session.run_id
    file = desk.folder / "run.gz"
    async with desk.store() as store:
        await export_run(store, run_id, file, program="a test", now=NOW)
        await import_run(store, file, now=NOW, run_id="theirs")
    (desk.folder / "effects").unlink()
    return "theirs"


async def begun(person: Person, key: str) -> None:
    """Ask for a step to be run again, and agree to what that means."""
    await person.press(key)
    await person.sees("it succeeded" if key == "R" else "reuse")
    await person.press("y")


@pytest.mark.parametrize("in_process", [True, False])
@pytest.mark.parametrize("key", ["R", "F"])
async def test_an_imported_run_asks_once_before_its_steps_are_carried_out(
    desk: Desk, key: str, *, in_process: bool
) -> None:
    run_id = await imported(desk)
    async with desk.app(run_id=run_id, in_process=in_process) as person:
        await person.run_is("succeeded")
        await begun(person, key)
        await person.sees("Carry out a run that was imported?", "theirs was imported from run.gz")
        await person.press("n")
        await person.until(lambda: isinstance(person.app.screen, RunScreen))
        await person.quiet()
        assert not (desk.folder / "effects").exists()
        await begun(person, key)
        await person.sees("Carry out a run that was imported?")
        await person.press("y")
        await person.until((desk.folder / "effects").exists)
        await person.run_has_ended()
        once = len((desk.folder / "effects").read_text())
        await begun(person, key)
        await person.until(lambda: len((desk.folder / "effects").read_text()) > once)
        await person.run_has_ended()
