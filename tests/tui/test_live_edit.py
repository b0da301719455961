"""Editing the plan of a run: the receipt first, in the graph too, then the same run goes on with it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tui_desk import Desk, Person, lend_terminal

from stepchain_tui.core import paths
from stepchain_tui.llm.plan_yaml import plan_yaml
from stepchain_tui.plan import parse_plan
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.store import Batch
from stepchain_tui.tui.screens.editor import EditorScreen
from stepchain_tui.tui.screens.run import RunScreen
from stepchain_tui.tui.screens.run_editor import RunEditorScreen

PLAN = """# how to greet
steps:
  - {id: hello, shell: 'echo hello'}
  - {id: shout, shell: 'echo {{ steps.hello.output.stdout | upper | quote }}'}
  - {id: other, shell: 'echo other'}
"""
WAITING = """
steps:
  - {id: first, shell: 'while [ ! -e go ]; do sleep 0.02; done'}
  - {id: second, shell: 'echo second', dependencies: [first]}
  - {id: last, shell: 'echo last', dependencies: [second]}
"""


async def editing(person: Person) -> RunEditorScreen:
    person.app.edit_run(person.session.run_id)
    return await person.opened(RunEditorScreen)


async def ran(person: Person) -> str:
    await person.press("s")
    await person.run_is("succeeded")
    return person.session.run_id


def marks(person: Person) -> dict[str, str]:
    return {step_id: step.marks for step_id, step in person.session.steps.items()}


async def test_the_plan_that_the_run_keeps_is_edited_and_not_its_file(desk: Desk) -> None:
    plan = desk.plan(PLAN)
    async with desk.app(plan=plan) as person:
        run_id = await ran(person)
        plan.write_text("something: else\n")
        screen = await editing(person)
        assert screen.area.text == PLAN
        await person.sees(f"edit run {run_id}, revision 1", "✓ hello")
        screen.area.load_text(PLAN.replace("'echo hello'", "'echo bye'"))
        await person.press("ctrl+s")
        await person.sees("Apply to", "stale 2", "what it does changed since its result", "it stands on hello")
        await person.press("y")
        await person.sees("Save to plan.yaml too?", "says something else than the run did")
        await person.press("n")
        await person.opened(RunScreen)
        await person.until(lambda: person.session.view is not None and person.session.view.revision == 2)
        await person.until(lambda: marks(person) == {"hello": "~", "shout": "~", "other": ""})
        assert plan.read_text() == "something: else\n"


async def test_what_changed_runs_again_at_once_where_that_is_asked(desk: Desk) -> None:
    plan = desk.plan(PLAN)
    async with desk.app(plan=plan) as person:
        await ran(person)
        screen = await editing(person)
        screen.area.load_text(PLAN.replace("'echo hello'", "'echo bye'"))
        await person.press("ctrl+s")
        await person.sees("Apply to")
        await person.press("r")
        await person.sees("Save to plan.yaml too?", "says what the run did until now")
        await person.press("s")
        await person.until(lambda: "echo bye" in plan.read_text())
        await go_on_if_asked(person)
        await person.opened(RunScreen)
        await person.until(lambda: person.session.steps["shout"].attempt == 2)
        await person.run_is("succeeded")
        person.run.select_step("shout")
        await person.sees("BYE")
        assert (person.session.steps["other"].attempt, set(marks(person).values())) == (1, {""})


async def go_on_if_asked(person: Person) -> None:
    """Say yes where nobody carries the run out any more; an engine that still does goes on by itself."""
    await person.until(lambda: "Go on with the run?" in person.text or isinstance(person.app.screen, RunScreen))
    if "Go on with the run?" in person.text:
        await person.press("y")


async def test_steps_that_have_not_begun_are_edited_while_the_run_goes_on(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(WAITING)) as person:
        await person.press("s")
        await person.step_is("first", "running")
        screen = await editing(person)
        new = WAITING.replace("echo second", "echo twice").replace("dependencies: [second]", "dependencies: [first]")
        screen.area.load_text(new)
        await person.press("ctrl+s", "y")
        await person.sees("Save to plan.yaml too?")
        await person.press("n")
        await person.opened(RunScreen)
        await person.until(lambda: person.session.view is not None and person.session.view.revision == 2)
        (desk.folder / "go").touch()
        await person.run_is("succeeded")
        assert person.session.parents["last"] == ("first",)
        person.run.select_step("second")
        await person.sees("twice")


async def test_an_edit_of_a_step_that_runs_is_refused_and_the_text_is_kept(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(WAITING)) as person:
        await person.press("s")
        await person.step_is("first", "running")
        screen = await editing(person)
        text = WAITING.replace("0.02", "0.03")
        screen.area.load_text(text)
        await person.press("ctrl+s")
        await person.until(lambda: "the revision changes first, which is being carried out" in person.toasts)
        assert person.app.screen is screen
        assert screen.area.text == text
        assert screen.dirty
        (desk.folder / "go").touch()
        screen.saved = text


async def test_an_edit_of_a_revision_that_is_no_longer_the_newest_is_refused(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        run_id = await ran(person)
        screen = await editing(person)
        from stepchain_tui.engine.service import revision_arguments

        other = revision_arguments(PLAN.replace("echo other", "echo another"), "plan.yaml", desk.folder)
        await person.app.host.steer(run_id, "edit", other)
        text = PLAN.replace("'echo hello'", "'echo bye'")
        screen.area.load_text(text)
        await person.press("ctrl+s")
        await person.until(lambda: "at revision 2 by now, this edit is of revision 1" in person.toasts)
        assert screen.area.text == text
        screen.saved = text


async def test_a_text_with_mistakes_is_not_applied(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await ran(person)
        screen = await editing(person)
        screen.area.load_text(PLAN.replace("steps.hello", "steps.helo"))
        await person.press("ctrl+s")
        await person.until(lambda: "1 problem: nothing can run yet" in person.toasts)
        await person.sees("Problems (1)", "unknown step 'helo'")
        screen.saved = screen.area.text


async def test_a_text_that_says_the_same_is_not_applied(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await ran(person)
        screen = await editing(person)
        await person.press("ctrl+s")
        assert "nothing was changed" in person.toasts
        screen.area.load_text(PLAN.replace("# how to greet", "# how to say hello"))
        await person.press("ctrl+s")
        await person.until(lambda: "the plan is the same as before" in person.toasts)
        screen.saved = screen.area.text


@pytest.mark.parametrize("size", [(150, 44), (80, 24)])
async def test_the_graph_shows_what_an_edit_would_do(desk: Desk, size: tuple[int, int]) -> None:
    async with desk.app(plan=desk.plan(PLAN), size=size) as person:
        await ran(person)
        screen = await editing(person)
        lines = PLAN.replace("'echo hello'", "'echo bye'").splitlines()[:-1]
        screen.area.load_text("\n".join([*lines, "  - {id: more, shell: 'echo {{ steps.shout.output.stdout }}'}", ""]))
        await person.press("f6")
        await person.sees("~ hello", "~ shout", "+ more", "× other", "+ new 1 · × gone 1 · ~ stale 2")
        await person.press("f6")
        await person.until(lambda: "× " not in person.text and person.app.focused is screen.area)
        await person.press("f6")
        await person.sees("+ more")
        await person.press("escape")
        await person.until(lambda: "× " not in person.text and person.app.focused is screen.area)
        await person.press("f6")
        await person.sees("× other")
        screen.area.insert(" ")
        await person.until(lambda: "× " not in person.text)
        screen.saved = screen.area.text


async def test_a_run_that_was_stopped_is_edited_and_gone_on_with(desk: Desk) -> None:
    broken = PLAN.replace("'echo hello'", "'exit 3'")
    async with desk.app(plan=desk.plan(broken)) as person:
        await person.press("s")
        await person.run_has_ended("failed")
        screen = await editing(person)
        screen.area.load_text(PLAN)
        await person.press("ctrl+s")
        await person.sees("run 2", "what it does was edited")
        await person.press("y")
        await person.sees("Save to plan.yaml too?")
        await person.press("n")
        await person.sees("Go on with the run?", "Nobody carries", "Going on: run 2: hello and shout")
        await person.press("y")
        await person.opened(RunScreen)
        await person.run_is("succeeded")
        assert {step.id: step.attempt for step in person.session.steps.values()} == {"hello": 2, "shout": 1, "other": 1}


async def test_inputs_that_are_new_are_asked_for(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await ran(person)
        screen = await editing(person)
        new = PLAN.replace("steps:", "inputs: {name: {type: text}}\nsteps:")
        screen.area.load_text(new.replace("'echo hello'", "'echo {{ inputs.name | quote }}'"))
        await person.press("ctrl+s")
        await person.sees("New inputs", "name")
        await person.type("ada")
        await person.press("enter")
        await person.sees("Apply to")
        await person.press("r")
        await person.press("n")
        await go_on_if_asked(person)
        await person.opened(RunScreen)
        await person.until(lambda: person.session.steps["hello"].attempt == 2)
        await person.run_is("succeeded")
        person.run.select_step("shout")
        await person.sees("ADA")


async def test_leaving_with_an_edit_that_is_not_applied_asks(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await ran(person)
        screen = await editing(person)
        await person.type("x")
        await person.press("escape")
        await person.sees("The edit is not applied")
        await person.press("n")
        assert person.app.screen is screen
        await person.press("escape", "d")
        await person.opened(RunScreen)
        assert person.session.view is not None
        assert person.session.view.revision == 1


async def test_the_plan_of_a_run_is_edited_in_the_users_editor(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "edit.sh"
    script.write_text("#!/bin/sh\nsed -i \"s/'echo hello'/'echo bye'/\" \"$1\"\n")
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(script))
    plan = desk.plan(PLAN)
    async with desk.app(plan=plan) as person:
        lend_terminal(monkeypatch, person)
        await ran(person)
        person.app.edit_run(person.session.run_id, outside=True)
        await person.sees("Apply to", "stale 2")
        await person.press("y", "n")
        await person.opened(RunScreen)
        await person.until(lambda: person.session.view is not None and person.session.view.revision == 2)
        assert plan.read_text() == PLAN


async def test_a_plan_that_was_made_by_a_program_is_edited_as_yaml(desk: Desk) -> None:
    code = "total = 0\nfor value in [1, 2]:\n    total += value\ntotal"
    data = {"goal": "Add", "steps": [{"id": "add", "python": code}, {"id": "tell", "shell": ["echo", "done"]}]}
    outlines = tuple(e.StepOutline(id=name, kind=kind) for name, kind in (("add", "python"), ("tell", "shell")))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    created = e.RunCreated(
        seq=1, run_id="made", at=at, goal="Add", plan=data, steps=outlines, plan_folder=str(desk.folder),
        working_folder=str(desk.folder),
    )  # fmt: skip
    state = RunState()
    state.apply(created)
    async with desk.store() as store:
        store.commit(Batch(events=[created], states={"made": state}, touched={"made": None}))
    async with desk.app(run_id="made") as person:
        screen = await editing(person)
        await person.sees("made from the plan", "Problems (none)", "python: |-")
        screen.area.load_text(screen.area.text.replace("[1, 2]", "[1, 2, 3]"))
        await person.press("ctrl+s", "y")
        await person.sees("Go on with the run?")
        await person.press("y")
        await person.opened(RunScreen)
        await person.run_is("succeeded")
        person.run.select_step("add")
        await person.sees("6")


@pytest.mark.parametrize("name", ["quickstart.yaml", "folder_report.yaml"])
def test_yaml_that_is_made_of_a_plan_is_that_plan(name: str) -> None:
    from stepchain_tui.core.values import decode_json
    from stepchain_tui.plan import load_plan, plan_to_json

    loaded = load_plan(paths.shipped_folder("sample_plans") / name)
    text = plan_yaml(decode_json(plan_to_json(loaded.plan)))
    assert plan_to_json(parse_plan(text, name, loaded.folder).plan) == plan_to_json(loaded.plan)


# --- plans that ship with us


async def test_a_plan_that_ships_with_us_is_edited_as_a_copy(desk: Desk) -> None:
    shipped = paths.shipped_folder("sample_plans") / "quickstart.yaml"
    before = shipped.read_text()
    async with desk.app(plan=shipped) as person:
        await person.press("e")
        await person.sees("quickstart ships with StepChain")
        await person.press("n")
        assert list(desk.folder.glob("quickstart*")) == []
        await person.press("e", "y")
        screen = await person.opened(EditorScreen)
        assert screen.path == desk.folder / "quickstart.yaml"
        await person.sees("Problems (none)")
        screen.area.insert("# mine\n")
        await person.press("ctrl+s", "escape")
        assert screen.path.read_text() == f"# mine\n{before}"
        assert shipped.read_text() == before
        await person.press("e")
        await person.sees("There is a")
        await person.press("y")
        await person.until(lambda: isinstance(person.app.screen, EditorScreen))
        assert screen.path.read_text().startswith("# mine")


@pytest.mark.parametrize(
    "shipped", sorted(paths.shipped_folder("sample_plans").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_copy_of_any_sample_is_a_plan_that_can_run(shipped: Path, tmp_path: Path) -> None:
    from stepchain_tui.plan import load_plan
    from stepchain_tui.tui.queries import copy_plan

    copy_plan(shipped, tmp_path)
    assert load_plan(tmp_path / shipped.name).text == shipped.read_text()
