"""The revisions of a run's plan, and what each of them changed."""

from __future__ import annotations

from tui_desk import Desk, Person

from stepchain_tui.engine.service import revision_arguments
from stepchain_tui.tui.screens.revisions import RevisionsScreen
from stepchain_tui.tui.screens.run import RunScreen

PLAN = """# how to greet
steps:
  - {id: hello, shell: 'echo hello'}
  - {id: other, shell: 'echo other'}
"""


async def revised(person: Person, desk: Desk, *texts: str) -> None:
    """Run the plan, and give the run these revisions."""
    await person.press("s")
    await person.run_is("succeeded")
    for text in texts:
        arguments = revision_arguments(text, "plan.yaml", desk.folder)
        await person.app.host.steer(person.session.run_id, "edit", {**arguments, "reason": "a better word"})


async def opened(person: Person) -> RevisionsScreen:
    person.app.open_revisions(person.session.run_id)
    return await person.opened(RevisionsScreen)


async def test_each_revision_is_told_with_its_reason_and_what_it_changed(desk: Desk) -> None:
    second = PLAN.replace("echo hello", "echo good day")
    third = second.replace("other", "another")
    async with desk.app(plan=desk.plan(PLAN), size=(160, 40)) as person:
        await revised(person, desk, second, third)
        await opened(person)
        await person.sees("3 ", "a better word", "2 steps changed", "1 step changed", "as it was started")
        await person.sees("Revision 2 to 3", "- other", "+ another")
        await person.press("j")
        await person.sees("Revision 1 to 2", '~ hello: shell: "echo hello" -> "echo good day"')
        await person.press("j")
        await person.sees("2 Revision 1 ", "# how to greet")


async def test_any_two_revisions_are_compared(desk: Desk) -> None:
    second = PLAN.replace("echo hello", "echo good day")
    third = second.replace("other", "another")
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await revised(person, desk, second, third)
        await opened(person)
        await person.press("G", "space", "g")
        await person.sees("Revision 1 to 3", "~ hello: shell:", "+ another")
        await person.press("G", "space", "g")
        await person.sees("Revision 2 to 3")


async def test_the_whole_text_of_a_revision_is_shown_as_it_was_written(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN), size=(80, 30)) as person:
        await revised(person, desk, PLAN.replace("echo hello", "echo good day"))
        screen = await opened(person)
        await person.press("enter")
        await person.sees("Revision 2, whole", "# how to greet", "- {id: hello, shell: 'echo good day'}")
        await person.press("enter")
        await person.sees("Revision 1 to 2")
        await person.press("enter", "escape")
        await person.sees("Revision 1 to 2")
        assert person.app.screen is screen
        await person.press("escape")
        await person.until(lambda: isinstance(person.app.screen, RunScreen))


async def test_a_change_of_a_comment_is_shown_in_the_text(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await revised(person, desk, PLAN.replace("# how to greet", "# hi").replace("echo other", "echo it"))
        await opened(person)
        await person.sees("~ other: shell", "-# how to greet", "+# hi")
