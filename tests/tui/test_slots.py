"""Who holds a slot is shown, and how many there are is changed, while a run goes on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from tui_desk import Desk

from stepchain_tui.tui.glyphs import ASCII
from stepchain_tui.tui.screens.slots import SlotsScreen


def crowd(folder: str) -> str:
    """Three steps that wait for a file, of which two fit into a run and one into a limit."""
    wait = f"while [ ! -e {folder}/go ]; do sleep 0.02; done"
    return f"""
max_concurrent: 2
limits: {{api: 1}}
steps:
  - {{id: one, shell: "{wait}", limit: api}}
  - {{id: two, shell: "{wait}"}}
  - {{id: three, shell: "{wait}"}}
"""


async def test_holders_are_shown_and_a_limit_is_changed_live(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(crowd(str(desk.folder)))) as person:
        await person.press("s")
        await person.step_is("two", "running")
        await person.step_is("three", "queued")
        await person.press("U")
        await person.sees("Slots", "run                          2 of 2 taken", "limit api", "1 of 1")
        await person.sees("▶ one · attempt 1", "limit api", "▶ two · attempt 1", "1 step ready, waiting for a slot")
        await person.press("plus")
        await person.sees("3 of 3 taken", "▶ three · attempt 1", "nobody waits for a slot")
        await person.press("down", "plus")
        await person.sees("1 of 2 taken")
        await person.press("minus", "minus", "minus")
        await person.sees("1 of 1 taken")
        await person.press("escape")
        assert person.app.screen is person.run
        (desk.folder / "go").touch()
        await person.run_is("succeeded")


async def test_the_picture_goes_on_with_the_run(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(crowd(str(desk.folder)))) as person:
        await person.press("s")
        await person.step_is("two", "running")
        await person.press("U")
        await person.sees("▶ two · attempt 1")
        (desk.folder / "go").touch()
        await person.sees("no slot is taken")


async def test_the_limits_of_a_run_that_stopped_can_be_seen_and_changed(desk: Desk) -> None:
    plan = desk.plan("max_concurrent: 2\nsteps:\n  - {id: one, shell: 'exit 3'}\n")
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_has_ended("failed")
        await person.press("U")
        await person.sees("0 of 2 taken")
        await person.press("plus")
        await person.sees("0 of 3 taken")


async def test_an_open_breaker_is_shown_and_reset(desk: Desk) -> None:
    given: list[tuple[str, object]] = []
    breaker = {
        "name": "openai", "state": "half_open", "failures": 5, "until": "2026-01-01T12:00:30+00:00",
        "last_error": "429 [b]slow[/b] down",
    }  # fmt: skip
    slots = {"held": [], "run": {"taken": 0, "size": 5}, "limits": {}, "engine": {"taken": 0, "size": 8}, "waiting": 0}

    async def steer(command: str, arguments: object) -> dict[str, object]:
        await asyncio.sleep(0)
        given.append((command, arguments))
        reset = any(name == "breaker_reset" for name, _ in given)
        return {"ok": True, "message": "done", "slots": slots, "breakers": [] if reset else [breaker]}

    async with desk.app(size=(80, 24)) as person:
        now = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
        await person.app.push_screen(SlotsScreen(steer, lambda: True, lambda: now, ASCII))
        await person.sees("breaker openai", "half open - until ", "5 failures", "429 [b]slow")
        await person.press("r", "end", "r")
        await person.until(lambda: ("breaker_reset", {"name": "openai"}) in given)
        await person.until(lambda: "breaker openai" not in person.text)
