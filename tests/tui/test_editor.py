"""The editor: problems while one types, saving that never loses anybody's work."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input
from tui_desk import Desk, Person, lend_terminal

from stepchain_tui.tui.screens.editor import EditorScreen

PLAN = "# mine\nsteps:\n  - {id: hello, shell: 'echo hello'}\n"
BROKEN = "steps:\n  - {id: a, shell: 'echo a', dependencies: [bb]}\n  - {id: b, shel: x}\n"


def editor(person: Person) -> EditorScreen:
    assert isinstance(person.app.screen, EditorScreen), person.app.screen
    return person.app.screen


async def test_a_broken_plan_opens_in_the_editor_with_its_problems(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(BROKEN)) as person:
        screen = await person.opened(EditorScreen)
        await person.sees("Problems (2)", "2:45", "unknown step 'bb'", "unknown key 'shel'")
        await person.press("f8", "enter")
        assert screen.area.cursor_location == (1, 44)
        assert screen.focused is screen.area


async def test_problems_are_shown_while_one_types_and_the_graph_once_there_are_none(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await person.press("e")
        screen = await person.opened(EditorScreen)
        await person.sees("Problems (none)", "○ hello")
        screen.area.move_cursor((2, 0))
        await person.type("nope: 1 ")
        await person.sees("Problems (1)", "not saved", "as it was last right")
        screen.area.load_text(PLAN + "  - {id: bye, shell: 'echo bye', dependencies: [hello]}\n")
        await person.sees("Problems (none)", "○ bye")


async def test_single_letters_are_text_in_the_editor(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await person.press("e")
        screen = await person.opened(EditorScreen)
        letters = "spPxXrRteEozfynN?/[]123hjkl"
        await person.type(letters)
        assert screen.area.text.startswith(letters)
        assert not person.toasts


async def test_saving_writes_the_file_and_running_opens_the_plan(desk: Desk) -> None:
    plan = desk.plan(PLAN)
    async with desk.app(plan=plan) as person:
        await person.press("e")
        screen = await person.opened(EditorScreen)
        screen.area.load_text(PLAN + "  - {id: bye, shell: 'echo bye'}\n")
        await person.press("ctrl+s")
        await person.until(lambda: "bye" in plan.read_text())
        assert not screen.dirty
        await person.press("ctrl+r")
        await person.sees("ready: s starts", "○ bye")


async def test_a_plan_with_problems_is_not_run(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(BROKEN)) as person:
        await person.opened(EditorScreen)
        await person.press("ctrl+r")
        await person.until(lambda: "2 problems" in person.toasts)
        editor(person)


@pytest.mark.parametrize(("key", "kept"), [("o", "mine"), ("l", "theirs"), ("n", "theirs")])
async def test_a_file_changed_on_disk_is_noticed(desk: Desk, key: str, kept: str) -> None:
    plan = desk.plan(PLAN)
    async with desk.app(plan=plan) as person:
        await person.press("e")
        screen = await person.opened(EditorScreen)
        screen.area.load_text(PLAN.replace("hello", "mine"))
        plan.write_text(PLAN.replace("hello", "theirs"))
        await person.press("ctrl+s")
        await person.sees("was changed by another program")
        await person.press(key)
        assert kept in plan.read_text()
        assert ("theirs" in screen.area.text) is (key == "l")
        screen.saved = screen.area.text


async def test_leaving_with_unsaved_text_asks(desk: Desk) -> None:
    plan = desk.plan(PLAN)
    async with desk.app(plan=plan) as person:
        await person.press("e")
        screen = await person.opened(EditorScreen)
        await person.type("x")
        await person.press("escape")
        await person.sees("is not saved")
        await person.press("n")
        assert editor(person) is screen
        await person.press("escape")
        await person.sees("is not saved")
        await person.press("d")
        await person.until(lambda: not isinstance(person.app.screen, EditorScreen))
        assert plan.read_text() == PLAN


async def test_quitting_with_unsaved_text_asks(desk: Desk) -> None:
    plan = desk.plan(PLAN)
    async with desk.app(plan=plan) as person:
        await person.press("e")
        await person.opened(EditorScreen)
        await person.type("#")
        await person.press("ctrl+q")
        await person.sees("is not saved")
        await person.press("s")
        await person.until(lambda: person.app._exit)
        assert plan.read_text() == "#" + PLAN


async def test_f4_goes_on_in_the_users_editor(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = desk.plan(PLAN)
    script = tmp_path / "edit.sh"
    script.write_text('#!/bin/sh\nsed -i s/hello/changed/ "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(script))
    async with desk.app(plan=plan) as person:
        lend_terminal(monkeypatch, person)
        await person.press("e")
        screen = await person.opened(EditorScreen)
        await person.press("f4")
        assert "changed" in screen.area.text
        await person.press("escape")
        await person.until(lambda: not isinstance(person.app.screen, EditorScreen))
        await person.press("E")
        assert "changed" in plan.read_text()


async def test_the_pager_gets_the_text_in_sight(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "page.sh"
    script.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/paged\n')
    script.chmod(0o755)
    monkeypatch.setenv("PAGER", str(script))
    async with desk.app(plan=desk.plan(PLAN)) as person:
        lend_terminal(monkeypatch, person)
        await person.press("s")
        await person.run_is("succeeded")
        await person.press("o")
        assert '"stdout": "hello' in (tmp_path / "paged").read_text()


async def test_a_step_is_filled_in_as_a_form(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN), size=(140, 40)) as person:
        await person.press("e")
        screen = await person.opened(EditorScreen)
        screen.graph.focus()
        await person.press("enter")
        await person.sees("Step hello", "shell", "echo hello", "timeout", "on_failure")
        field = person.app.screen.query_one("#field-timeout", Input)
        field.value = "12"
        await person.press("ctrl+s")
        await person.until(lambda: "timeout: 12" in screen.area.text)
        assert screen.area.text.startswith("# mine")
        screen.area.undo()
        assert screen.area.text == PLAN
        screen.area.load_text(PLAN.replace("shell", "shel"))
        await person.sees("Problems (1)")
        screen.graph.focus()
        await person.press("enter")
        await person.until(lambda: "mend the problems first" in person.toasts)
        screen.saved = screen.area.text
