"""Two runs side by side."""

from __future__ import annotations

import pytest
from tui_desk import Desk, Person

from stepchain_tui.tui.screens.compare import CompareScreen
from stepchain_tui.tui.screens.history import HistoryScreen

PLAN = """
inputs: {who: {type: text, default: ada}}
steps:
  - {id: same, shell: 'echo same'}
  - {id: greet, shell: "echo hello {{ inputs.who }}"}
  - {id: tell, python: "[name for name in text.split()]", args: {text: "{{ steps.greet.output.stdout }}"}}
"""


async def ran(desk: Desk, person: Person, plan: str, name: str, *, status: str = "succeeded") -> str:
    run_id = await person.app.host.start(
        str(desk.plan(plan, f"{name}.yaml")), inputs={}, run_id=name, working_folder=str(desk.folder)
    )
    person.app.open_run(run_id)
    await person.quiet()
    await person.run_is(status)
    return run_id


async def opened(person: Person, left: str, right: str) -> CompareScreen:
    person.app.open_comparison(left, right)
    return await person.opened(CompareScreen)


@pytest.mark.parametrize("size", [(140, 40), (80, 24)])
async def test_inputs_steps_and_outputs_that_differ_are_shown(desk: Desk, size: tuple[int, int]) -> None:
    async with desk.app(size=size) as person:
        await ran(desk, person, PLAN, "one")
        other = PLAN.replace("default: ada", "default: grace").replace("text.split()", "text.upper().split()")
        await ran(desk, person, other, "two")
        await opened(person, "one", "two")
        await person.sees('input who: "ada" -> "grace"', "3 steps, 2 of them differ", "left   one: succeeded")
        await person.sees("= same", "~ greet", "~ tell", "different", "✓ succeeded")
        await person.press("n", "enter")
        await person.sees("greet, left to right", "# output", "# what it does")
        await person.press("n")
        await person.sees("tell, left to right", '-  "hello"', '+  "HELLO"')
        await person.press("tab", "G")
        await person.sees("~ python:")
        await person.press("escape", "escape")
        assert "tell, left to right" not in person.text


async def test_a_step_that_failed_in_one_run_or_is_in_one_only_is_told(desk: Desk) -> None:
    async with desk.app() as person:
        await ran(desk, person, PLAN, "one")
        other = PLAN.replace("echo same", "exit 3").replace("id: tell", "id: say")
        await ran(desk, person, other, "two", status="failed")
        await opened(person, "one", "two")
        await person.sees("~ same", "✓ succeeded → ✕ failed", "- tell", "+ say", "✓ succeeded → none")
        await person.press("enter")
        await person.sees("# error", "+ ", "only the left run has one")
        await person.press("G")
        await person.sees("# only the left run has this step")


async def test_runs_are_chosen_in_the_history(desk: Desk) -> None:
    async with desk.app() as person:
        await ran(desk, person, PLAN, "one")
        await ran(desk, person, PLAN, "two")
        await person.press("L")
        await person.until(lambda: isinstance(person.app.screen, HistoryScreen) and person.app.screen.table.row_count)
        await person.press("c")
        await person.until(lambda: "space marks" in person.toasts)
        await person.press("G", "space", "g", "c")
        await person.until(lambda: isinstance(person.app.screen, CompareScreen))
        await person.sees("left   one: succeeded", "right  two: succeeded", "no difference")
        await person.press("escape")
        assert isinstance(person.app.screen, HistoryScreen)
