"""A plan from a goal, and a repair of a failed step: what a person sees, decides, and what is left alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tui_desk import Desk, Person

from stepchain_tui.tui.screens.goal import DraftEditorScreen, GoalDialog, WaitDialog
from stepchain_tui.tui.screens.repair import RepairScreen
from stepchain_tui.tui.screens.run import RunScreen
from tests.support.model_server import RawModelServer, answer, text

DRAFT = {
    "goal": "Greet",
    "steps": [
        {"id": "hello", "shell": "touch was-run"},
        {"id": "shout", "python": "1", "dependencies": ["helo"]},
    ],
}
BROKEN = """goal: count
steps:
  # how many
  - id: count
    function: "./words.py:count"
    args: {txt: "one two"}
"""
WORDS = """def count(text):
    with open(__file__ + '.calls', 'a') as file:
        file.write('call\\n')
    return len(text.split())
"""
EDITS = [{"action": "rename", "key": "args.txt", "value": "text"}]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawModelServer]:
    with RawModelServer() as one:
        for name, value in one.environment().items():
            monkeypatch.setenv(name, value)
        yield one


def says(plan: Any) -> Any:
    return text(json.dumps(plan))


async def ask_for_a_plan(person: Person, goal: str) -> None:
    await person.press("ctrl+g")
    await person.opened(GoalDialog)
    await person.type(goal)
    await person.pilot.press("ctrl+s")


def broken_plan(desk: Desk) -> Path:
    """Return the file of a plan whose only step fails."""
    (desk.folder / "words.py").write_text(WORDS)
    return desk.plan(BROKEN)


async def failed_run(person: Person) -> RunScreen:
    """Start the broken plan and wait until its step has failed."""
    await person.press("s")
    await person.run_has_ended("failed")
    return person.run


# --- a plan from a goal


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_a_goal_becomes_a_draft_in_the_editor_with_its_problems_and_nothing_runs(desk, server, size) -> None:
    server.answers(says(DRAFT))
    async with desk.app(size=size) as person:
        await ask_for_a_plan(person, "Greet")
        editor = await person.opened(DraftEditorScreen)
        assert "shell: touch was-run" in editor.area.text
        assert "# runs a command on this machine" in editor.area.text
        await person.sees("unknown step 'helo'")
        assert editor.dirty
        assert not (desk.folder / "plan.yaml").exists()
        assert not (desk.folder / "was-run").exists()
        assert "nothing was run" in person.toasts
        await person.press("ctrl+s")
        assert "id: hello" in (desk.folder / "plan.yaml").read_text()
    assert not (desk.folder / "was-run").exists()
    assert "Greet" in json.dumps(server.bodies[0])


async def test_what_no_model_may_write_is_among_the_problems_and_is_asked_about_before_it_is_opened(
    desk, server, monkeypatch
) -> None:
    hello = {"id": "hello", "shell": "echo a\u200bb", "env": {"PATH": "/tmp"}}
    server.answers(says({"goal": "Greet", "steps": [hello]}))
    async with desk.app() as person:
        await ask_for_a_plan(person, "Greet")
        editor = await person.opened(DraftEditorScreen)
        await person.sees("'env' is for a person to write", "characters that hide", "Problems (2)")
        assert "2 mistakes left" in person.toasts
        await person.press("ctrl+s")
        assert "2 things in it are not for a model to write" in person.toasts

        await person.press("ctrl+r")
        await person.sees("what a model should not write?", "characters that hide", "steps[0].env")
        await person.press("n")
        assert person.app.screen is editor

        monkeypatch.setattr(type(person.app), "edit_outside", append_a_comment)
        await person.press("f4")
        await person.until(lambda: "# mine" in editor.area.text)
        assert not editor.dirty

        await person.press("ctrl+r")
        await person.press("y")
        await person.opened(RunScreen)


async def append_a_comment(app: Any, path: Path) -> bool:
    """Stand in for a person's own editor."""
    path.write_text(path.read_text() + "# mine\n")
    return True


async def test_what_is_wrong_with_the_question_is_said_where_it_is_asked(desk, server) -> None:
    desk.plan("mine", "plan.yaml")
    async with desk.app() as person:
        await ask_for_a_plan(person, "Greet")
        await person.sees("plan.yaml exists already: name another file", "Greet")
        await person.press("escape")
        assert not person.app.is_asking
    assert server.bodies == []
    assert (desk.folder / "plan.yaml").read_text() == "mine"


async def test_without_a_model_the_dialog_says_what_to_set(desk) -> None:
    async with desk.app() as person:
        await ask_for_a_plan(person, "Greet")
        await person.sees("no model can be asked: OPENAI_API_KEY is not set")


async def test_a_person_may_stop_waiting_and_the_run_is_cancelled(desk, server) -> None:
    held = threading.Event()
    server.answers(answer(held))
    try:
        async with desk.app() as person:
            await ask_for_a_plan(person, "Greet")
            await person.until(lambda: isinstance(person.app.screen, WaitDialog))
            await person.press("escape")
            await person.sees("cancelled")
            assert not person.app.is_asking
    finally:
        held.set()


# --- a repair


async def test_a_repair_is_shown_tried_and_applied_as_the_person_says(desk, server) -> None:
    server.answers(says({"explanation": "It is called text.", "edits": EDITS}))
    plan = broken_plan(desk)
    async with desk.app(plan=plan, size=(80, 24)) as person:
        run = await failed_run(person)
        await person.press("d")
        await person.opened(RepairScreen)
        await person.sees("It is called text.", '-    args: {txt: "one two"}', '+    args: {text: "one two"}')
        assert not (desk.folder / "words.py.calls").exists()

        await person.press("t")
        await person.sees("succeeded when tried", ": 2")
        assert (desk.folder / "words.py.calls").read_text() == "call\n"
        assert run.session.steps["count"].status == "failed"

        await person.press("y")
        await person.sees("Apply to")
        await person.press("y")
        await person.sees("Go on with the run?")
        await person.press("y")
        await person.run_has_ended("succeeded")
    assert plan.read_text() == BROKEN


async def test_the_question_after_a_repair_tells_of_all_that_going_on_would_run(desk) -> None:
    (desk.folder / "words.py").write_text(WORDS)
    plan = desk.plan(f"{BROKEN}  - {{id: sleepy, shell: sleep 9, timeout: 0.2, retry: {{max_attempts: 1}}}}\n")
    async with desk.app(plan=plan, size=(80, 24)) as person:
        run = await failed_run(person)
        run.select_step("count")
        await person.press("d")
        await person.opened(RepairScreen)
        await person.press("y")
        await person.sees("Apply to", "leave  sleepy")
        await person.press("y")
        await person.sees("Going on: run 2: count and sleepy")
        await person.press("n")
        assert run.session.steps["sleepy"].attempt == 1
    assert not (desk.folder / "words.py.calls").exists()


async def test_without_a_model_the_rules_propose_and_leaving_changes_nothing(desk) -> None:
    async with desk.app(plan=broken_plan(desk)) as person:
        run = await failed_run(person)
        await person.press("d")
        await person.opened(RepairScreen)
        await person.sees(
            "Proposed by a rule, without a model", "No model can be asked: OPENAI_API_KEY", '{text: "one two"}'
        )
        await person.press("escape")
        assert run.session.steps["count"].status == "failed"
    assert not (desk.folder / "words.py.calls").exists()


async def test_a_proposal_that_cannot_be_applied_offers_the_rules(desk, server) -> None:
    server.answers(says({"explanation": "Be bold.", "edits": [{"action": "set", "key": "shell", "value": "rm -rf ."}]}))
    async with desk.app(plan=broken_plan(desk)) as person:
        await failed_run(person)
        await person.press("d")
        await person.opened(RepairScreen)
        await person.sees("It cannot be applied", "a repair keeps the step's kind")
        await person.press("y")
        assert isinstance(person.app.screen, RepairScreen)
        await person.press("r")
        await person.sees("Proposed by a rule", '{text: "one two"}')


async def test_only_what_failed_can_be_repaired(desk) -> None:
    async with desk.app(plan=desk.plan("steps:\n  - id: a\n    shell: echo\n")) as person:
        await person.press("s")
        await person.run_has_ended()
        await person.press("d")
        assert "a is succeeded: only what failed is repaired" in person.toasts
