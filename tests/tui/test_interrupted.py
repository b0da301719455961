"""A step that began and never reported is asked about, where its plan says so, before it is tried again."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tui_desk import Desk, Person

from stepchain_tui.tui.host import ChildHost


@asynccontextmanager
async def cut_off(desk: Desk) -> AsyncIterator[Person]:
    """An app whose engine was killed while a step ran that asks before it is tried again, and was started anew."""
    plan = desk.plan(
        f"""
steps:
  - {{id: first, shell: "echo one"}}
  - id: effect
    shell: "echo done >> {desk.folder}/effects; while [ ! -e {desk.folder}/go ]; do sleep 0.02; done"
    on_interrupt: ask
    dependencies: [first]
  - {{id: last, shell: "echo last", dependencies: [effect]}}
"""
    )
    async with desk.app(plan=plan, in_process=False) as person:
        await person.press("s")
        await person.step_is("effect", "running")
        await person.until((desk.folder / "effects").exists)
        assert isinstance(person.app.host, ChildHost)
        os.kill(person.app.host.pid, signal.SIGKILL)
        await person.run_is("interrupted")
        (desk.folder / "go").touch()
        await person.press("p")
        await person.sees("Resume the run?", "effect: attempt 1 began at ")
        await person.press("y")
        await person.step_is("effect", "waiting")
        person.run.select_step("effect")
        await person.sees("effect was cut off", "a run again, take as done, or skip")
        await person.press("a")
        await person.sees("attempt 1 began ", "process ", "never reported", "run again [r]", "take as done [d]")
        yield person


async def test_it_is_run_again(desk: Desk) -> None:
    async with cut_off(desk) as person:
        await person.press("r")
        await person.run_is("succeeded")
        assert (desk.folder / "effects").read_text().count("done") == 2


@pytest.mark.parametrize("key", ["d", "enter"])
async def test_it_is_taken_as_done_with_an_output(desk: Desk, key: str) -> None:
    async with cut_off(desk) as person:
        await person.press(key)
        await person.sees("Take effect as succeeded?")
        person.app.screen.query_one("TextArea").text = '{"stdout": "seen"}'  # type: ignore[attr-defined]
        await person.press("ctrl+s")
        await person.run_is("succeeded")
        assert (desk.folder / "effects").read_text().count("done") == 1
        person.run.select_step("effect")
        await person.sees('"stdout": "seen"')


async def test_it_is_skipped(desk: Desk) -> None:
    async with cut_off(desk) as person:
        await person.press("s")
        await person.step_is("effect", "skipped")
        await person.step_is("last", "skipped")
        assert (desk.folder / "effects").read_text().count("done") == 1
