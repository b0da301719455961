"""Before a command is given the app says what it would do, step by step, and afterwards what was really run."""

from __future__ import annotations

from pathlib import Path

from tui_desk import Desk

from stepchain_tui.engine.receipt import Decision, Receipt, ReceiptLine
from stepchain_tui.run.status import StepStatus
from stepchain_tui.tui.screens.receipt import ReceiptScreen
from stepchain_tui.tui.widgets.receipt_bar import ReceiptBar
from stepchain_tui.tui.widgets.receipt_view import ReceiptView

THREE = """
goal: Three in a row
steps:
  - {id: first, shell: "echo one"}
  - {id: second, shell: "echo two", dependencies: [first]}
  - {id: third, shell: "echo three", dependencies: [second]}
"""


def failing(folder: Path) -> str:
    """A plan that fails in its second step until a file is there."""
    return f"""
steps:
  - {{id: first, shell: "echo one"}}
  - {{id: second, shell: "test -e {folder}/fine", dependencies: [first]}}
  - {{id: third, shell: "echo three", dependencies: [second]}}
"""


async def test_rerun_from_here_asks_with_a_receipt_and_back_changes_nothing(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press("s")
        await person.run_has_ended()
        person.run.select_step("second")
        await person.press("R")
        await person.sees(
            "Rerun from second?", "▶ run", "run 2", "= reuse", "(saves ", "it follows second", "asked for"
        )
        await person.press("escape")
        assert [step.attempt for step in person.session.steps.values()] == [1, 1, 1]
        await person.press("R", "enter")
        await person.until(lambda: person.session.steps["third"].attempt == 2)
        await person.run_is("succeeded")
        assert person.session.steps["first"].attempt == 1


async def test_rerun_runs_at_once_with_its_receipt_beside_and_its_account_in_the_end(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press("s")
        await person.run_has_ended()
        person.run.select_step("second")
        await person.press("r")
        await person.sees("what was run", "ran 1: second · stale 1: third · reused 1")
        assert person.run.focused is person.run.graph
        await person.press("escape")
        assert not person.run.query_one(ReceiptBar).display


async def test_the_receipt_stands_beside_the_work_while_it_goes_on(desk: Desk) -> None:
    plan = desk.plan(
        f"""
steps:
  - id: gate
    shell: "while [ ! -e {desk.folder}/go ]; do sleep 0.02; done"
  - {{id: after, shell: "echo after", dependencies: [gate]}}
"""
    )
    (desk.folder / "go").touch()
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_has_ended()
        (desk.folder / "go").unlink()
        person.run.select_step("gate")
        await person.press("r")
        await person.step_is("gate", "running")
        await person.sees("rerun of gate", "run 1: gate · stale 1: after")
        (desk.folder / "go").touch()
        await person.sees("what was run", "ran 1: gate")


async def test_resume_of_a_failed_run_tells_what_was_really_run(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(failing(desk.folder))) as person:
        await person.press("s")
        await person.run_has_ended("failed")
        (desk.folder / "fine").touch()
        await person.press("p")
        await person.run_is("succeeded")
        await person.sees("ran 2: second and third · reused 1 (saved ")
        assert person.session.steps["first"].attempt == 1


async def test_resume_asks_when_the_code_behind_a_result_changed(desk: Desk) -> None:
    code = desk.folder / "work.py"
    code.write_text("def work():\n    return 1\n")
    plan = desk.plan(
        f"""
steps:
  - {{id: made, function: "./work.py:work"}}
  - {{id: second, shell: "test -e {desk.folder}/fine", dependencies: [made]}}
"""
    )
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_has_ended("failed")
        code.write_text("def work():\n    return 2\n")
        await person.press("p")
        await person.sees("Resume the run?", "~ stale", "changed since its result: made", "run 1")
        await person.press("n")
        assert person.session.steps["second"].attempt == 1
        (desk.folder / "fine").touch()
        await person.press("p", "y")
        await person.run_is("succeeded")
        assert person.session.steps["made"].attempt == 1


def _large(command: str = "rerun") -> Receipt:
    lines = [
        ReceiptLine(step_id=f"s{number}", decision=Decision.REUSE, reason="it succeeded", seconds=1.0)
        for number in range(9_999)
    ]
    last = ReceiptLine(step_id="last", decision=Decision.RUN, reason="it failed", status=StepStatus.FAILED)
    return Receipt(run_id="r", command=command, steps=(*lines, last), warnings=("s1: attempt 1 never reported",))


async def test_a_receipt_of_ten_thousand_steps_makes_only_the_lines_in_sight(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        answers: list[str | None] = []

        async def ask() -> None:
            answers.append(await person.app.show_receipt(_large(), "Rerun?", accept="rerun"))

        person.app.begin("ask", ask)
        await person.sees("run 1 · reuse 9,999 (saves 2 h 46 min)", "! s1: attempt 1 never reported", "last")
        view = person.app.screen.query_one(ReceiptView)
        made: list[int] = []
        pieces = view.pieces

        def counted(index: int) -> list[tuple[str, str]]:
            made.append(index)
            return pieces(index)

        view.pieces = counted  # type: ignore[method-assign]
        await person.press("G")
        await person.sees("s9998")
        assert len(made) < 200
        await person.press("y")
        await person.until(lambda: answers == ["accept"])


async def test_the_receipt_of_an_edit_can_rerun_what_changed(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE), size=(80, 24)) as person:
        answers: list[str | None] = []

        async def ask() -> None:
            answers.append(await person.app.show_receipt(_large("edit"), accept="apply"))

        person.app.begin("ask", ask)
        await person.sees("Edit?", "apply [y]", "apply and rerun what changed [r]", "back [n]")
        assert isinstance(person.app.screen, ReceiptScreen)
        await person.press("r")
        await person.until(lambda: answers == ["rerun"])
