"""Replays in the app: they are told apart from runs that were carried out, and say whether they are the same."""

from __future__ import annotations

import pytest
from tui_desk import Desk, Person

from stepchain_tui.tui.screens.history import HistoryScreen
from stepchain_tui.tui.screens.run import RunScreen

WORDS = "def count(text):\n    return len(text.split())\n"
PLAN = """goal: count
steps:
  - {id: count, function: "./words.py:count", args: {text: "one two"}}
  - {id: say, python: "n + 1", args: {n: "{{ steps.count.output }}"}}
"""


async def recorded_run(person: Person) -> str:
    """Carry the plan out; return its run."""
    await person.press("s")
    await person.run_has_ended("succeeded")
    return person.session.run_id


async def replayed(person: Person, of: str, status: str) -> RunScreen:
    """Replay the run in sight, and wait until that has ended."""
    await person.press("Y")
    await person.until(lambda: person.session.run_id != of)
    await person.run_has_ended(status)
    return person.run


@pytest.mark.parametrize("size", [(80, 24), (140, 40)])
async def test_a_replay_is_called_one_everywhere_and_says_that_it_is_the_same(desk: Desk, size) -> None:
    (desk.folder / "words.py").write_text(WORDS)
    async with desk.app(plan=desk.plan(PLAN), size=size) as person:
        first = await recorded_run(person)
        assert "replay of" not in person.text
        await replayed(person, first, "succeeded")
        await person.sees(f"replay of {first}", "as it was recorded; nothing was called")
        again = person.session.run_id

        await person.press("L")
        screen = await person.opened(HistoryScreen)
        rows = [[str(cell) for cell in screen.table.get_row_at(place)] for place in (0, 1)]
        assert [row[2] for row in rows] == ["plan (replay)", "plan"]
        assert rows[0][-1] == f"replay of {first}: count"
    async with desk.app(size=size) as person:
        await person.sees("replay of")
    async with desk.app(run_id=again, size=size) as person:
        await person.sees(f"replay of {first}", "as it was recorded")


async def test_a_replay_that_no_longer_fits_names_the_places_and_offers_no_repair(desk: Desk) -> None:
    (desk.folder / "words.py").write_text(WORDS)
    async with desk.app(plan=desk.plan(PLAN)) as person:
        first = await recorded_run(person)
        (desk.folder / "words.py").write_text(WORDS.replace("split()", "split('o')"))
        run = await replayed(person, first, "failed")
        await person.sees("not what was recorded, in 1 place:", "count: code: the code behind it is another")
        assert "The replay is not what was recorded, in 1 place" in person.toasts
        run.select_step("count")
        await person.quiet()
        assert "repair" not in person.text.splitlines()[-1]
        await person.press("d")
        assert f"repair run {first}, which it replays" in person.toasts
