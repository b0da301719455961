"""Runs whose events are damaged: told in a line, the rest shown."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tui_desk import Desk, Person

PLAN = """
steps:
  - {id: first, shell: 'echo one'}
  - {id: second, shell: 'echo two', dependencies: [first]}
"""


async def ran(desk: Desk) -> str:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await person.press("s")
        await person.run_has_ended()
        return person.session.run_id


def damage(store: Path, change: str) -> None:
    """Do something to the event that tells that the first step succeeded."""
    with sqlite3.connect(store) as connection:
        (found,) = connection.execute(
            "SELECT id FROM events WHERE CAST(data AS TEXT) LIKE '%step.succeeded%' ORDER BY id LIMIT 1"
        ).fetchone()
        connection.execute(change, (found,))
    connection.close()


async def shown(person: Person) -> None:
    await person.until(lambda: person.session.view is not None and len(person.session.steps) == 2)
    await person.quiet()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            'UPDATE events SET data = \'{"type":"step.succee\' WHERE id = ?',
            "event 5 cannot be read: Input data was truncated",
        ),
        ("DELETE FROM events WHERE id = ?", "event 5 cannot be read: it is missing"),
    ],
)
@pytest.mark.breaks_its_store("an event is damaged on purpose")
async def test_a_damaged_event_is_told_and_the_rest_of_the_run_is_shown(desk: Desk, change: str, told: str) -> None:
    run_id = await ran(desk)
    damage(desk.store_path, change)
    async with desk.app(run_id=run_id) as person:
        await shown(person)
        assert person.toasts.count(told) == 1
        assert (person.status("first"), person.status("second")) == ("running", "succeeded")
        assert person.session.view is not None
        assert told in person.session.view.damage
        person.run.select_step("second")
        await person.sees('"stdout": "two')
