"""What a person does to a step by hand: stop at it, change what it gets or gives, pin, mark, skip, fork."""

from __future__ import annotations

from typing import Any

import pytest
from tui_desk import Desk, Person

from stepchain_tui.core.settings import Settings
from stepchain_tui.tui.screens.by_hand import ValueEditor
from stepchain_tui.tui.screens.history import HistoryScreen
from stepchain_tui.tui.widgets.approval import ApprovalBar

STOPS = """
steps:
  - {id: first, shell: "echo one"}
  - {id: second, shell: "echo {{ steps.first.output.stdout | trim }} two", breakpoint: before}
  - {id: third, shell: "echo {{ steps.second.output.stdout | trim }} three"}
"""
TWO = """
steps:
  - {id: first, shell: "echo one"}
  - {id: second, shell: "echo {{ steps.first.output.stdout | trim }} two"}
"""


def write(person: Person, text: str) -> None:
    """Put a text into the field of the dialog in sight."""
    assert isinstance(person.app.screen, ValueEditor), person.app.screen
    person.app.screen.query_one("TextArea").text = text  # type: ignore[attr-defined]


def field(person: Person) -> str:
    return str(person.app.screen.query_one("TextArea").text)  # type: ignore[attr-defined]


async def test_a_breakpoint_of_the_plan_stops_says_where_and_goes_on(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(STOPS)) as person:
        await person.press("s")
        await person.step_is("second", "waiting")
        await person.sees("● second stands before its work", "c go on", "a edit input", "S skip", "X cancel")
        await person.sees("⏸ second●", "● stops before")
        await person.press("c")
        await person.run_is("succeeded")
        assert not person.run.query_one(ApprovalBar).display
        await person.sees('"stdout": "one two three')


async def test_keys_answer_the_question_in_sight_whatever_is_selected(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(STOPS)) as person:
        await person.press("s")
        await person.step_is("second", "waiting")
        person.run.select_step("first")
        await person.sees("● second stands before its work", "c go on", "X cancel")
        assert "S skip" not in person.text
        await person.press("c")
        await person.run_is("succeeded")


async def test_b_turns_a_breakpoint_before_then_after_then_off(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(TWO)) as person:
        await person.press("s")
        await person.run_has_ended()
        person.run.select_step("second")
        for place, seen in (("before", "● stops before"), ("after", "● stops after")):
            await person.press("b")
            await person.until(lambda place=place: person.session.steps["second"].breakpoint == place)
            await person.sees("✓ second●", seen)
        await person.press("b")
        await person.until(lambda: not person.session.steps["second"].breakpoint)
        assert "●" not in person.text


async def test_the_input_is_changed_at_a_breakpoint_and_a_mistake_is_asked_about_again(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(STOPS)) as person:
        await person.press("s")
        await person.step_is("second", "waiting")
        await person.press("a")
        await person.sees("The input of second", "echo one two")
        text = field(person)
        write(person, text.replace('"echo', "echo"))
        await person.press("ctrl+s")
        await person.sees("this is no JSON: line ")
        write(person, text.replace("one two", "changed"))
        await person.press("ctrl+s")
        await person.run_is("succeeded")
        await person.sees('"stdout": "changed three')


async def test_the_output_is_changed_at_a_breakpoint_after_the_work(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(STOPS.replace("breakpoint: before", "breakpoint: after"))) as person:
        await person.press("s")
        await person.step_is("second", "waiting")
        await person.sees("● second stands after its work", "a edit output")
        assert "S skip" not in person.text
        await person.press("a")
        await person.sees("The output of second", '"stdout": "one two\\n"')
        write(person, '{"stdout": "other"}')
        await person.press("ctrl+s")
        await person.run_is("succeeded")
        await person.sees('"stdout": "other three')


async def test_a_pinned_output_is_taken_by_reruns_until_it_is_unpinned(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(TWO)) as person:
        await person.press("s")
        await person.run_has_ended()
        person.run.select_step("first")
        await person.press("asterisk")
        await person.sees("Pin the output of first?", '"stdout": "one\\n"')
        write(person, '{"stdout": "pinned"}')
        await person.press("ctrl+s")
        await person.sees("✓ first*", "first is pinned")
        person.run.select_step("second")
        await person.press("R", "y")
        await person.until(lambda: person.session.steps["second"].attempt == 2)
        await person.run_has_ended()
        await person.sees('"stdout": "pinned two')
        person.run.select_step("first")
        await person.press("asterisk")
        await person.until(lambda: not person.session.steps["first"].pinned)


async def test_a_failed_step_is_taken_as_succeeded_with_an_output(desk: Desk) -> None:
    plan = desk.plan(TWO.replace("echo one", "exit 3"))
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_has_ended("failed")
        person.run.select_step("first")
        await person.press("m")
        await person.sees("Take first as succeeded?")
        assert field(person) == "null"
        write(person, '{"stdout": "by hand"}')
        await person.press("ctrl+s")
        await person.step_is("first", "succeeded")
        await person.press("p")
        await person.run_is("succeeded")
        person.run.select_step("second")
        await person.sees('"stdout": "by hand two')


async def test_esc_leaves_the_step_as_it_is(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(TWO)) as person:
        await person.press("s")
        await person.run_has_ended()
        person.run.select_step("first")
        assert person.session.view is not None
        before = person.session.view.seq
        await person.press("m")
        await person.sees("Take first as succeeded?")
        await person.press("escape")
        assert person.app.screen is person.run
        assert person.session.steps["first"].attempt == 1
        async with desk.store() as store:
            assert (await store.load_state(person.session.run_id)).last_seq == before


async def test_a_skip_shows_what_it_means_first(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(STOPS)) as person:
        await person.press("s")
        await person.step_is("second", "waiting")
        await person.press("S")
        await person.sees("Skip second?", "― leave")
        await person.press("y")
        await person.step_is("second", "skipped")
        await person.step_is("third", "skipped")


@pytest.mark.parametrize("in_process", [True, False])
async def test_a_fork_takes_over_what_is_upstream_and_is_a_run_of_its_own(desk: Desk, in_process: bool) -> None:
    async with desk.app(plan=desk.plan(TWO), in_process=in_process) as person:
        await person.press("s")
        await person.run_has_ended()
        parent = person.session.run_id
        person.run.select_step("second")
        await person.press("F")
        await person.sees("Fork at second?", "forked here", "= reuse", "run 1 · reuse 1")
        await person.press("y")
        await person.until(lambda: person.session.run_id not in ("", parent))
        await person.run_has_ended()
        assert person.session.view is not None
        assert person.session.view.parent_run_id == parent
        assert person.session.steps["first"].attempt == 0
        assert person.session.steps["second"].attempt == 1


async def test_a_run_is_replayed_and_its_steps_say_so(desk: Desk) -> None:
    plan = desk.plan(f"steps:\n  - {{id: first, shell: 'echo hello; echo ran >> {desk.folder}/ran'}}\n")
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_has_ended()
        recorded = person.session.run_id
        await person.press("Y")
        await person.until(lambda: person.session.run_id not in ("", recorded))
        await person.run_has_ended()
        replayed = person.session.run_id
        await person.sees("hello")
        await person.press("L")
        screen = await person.opened(HistoryScreen)
        await person.until(lambda: screen.table.row_count == 2)
        await person.press("t")
        await person.until(lambda: str(screen.table.get_row_at(1)[6]) == f"└ {replayed}  replayed")
        screen.table.move_cursor(row=0)
        await person.press("r")
        await person.until(lambda: person.session.run_id not in ("", recorded, replayed))
        await person.run_has_ended()
        person.run.select_step("first")
        await person.press("2", "right_square_bracket", "right_square_bracket")
        await person.sees("replayed")
    assert (desk.folder / "ran").read_text() == "ran\n"


async def test_only_the_failed_items_run_again(desk: Desk) -> None:
    plan = desk.plan(
        f"""
steps:
  - id: each
    for_each: "{{{{ [1, 2, 3] }}}}"
    shell: "echo {{{{ item }}}} >> {desk.folder}/done; test {{{{ item }}}} != 2 -o -e {desk.folder}/fine"
"""
    )
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_has_ended("failed")
        (desk.folder / "fine").touch()
        await person.press("I")
        await person.run_has_ended()
        assert sorted((desk.folder / "done").read_text().split()) == ["1", "2", "2", "3"]
        await person.sees("what was run")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("b", "nothing runs yet: write `breakpoint: before` into the plan"),
        ("c", "no breakpoint holds a step"),
        ("asterisk", "nothing runs yet"),
        ("m", "nothing runs yet"),
        ("S", "nothing runs yet"),
        ("I", "nothing ran yet"),
        ("F", "nothing ran yet"),
        ("U", "nothing ran yet"),
        ("v", "nothing ran yet"),
    ],
)
async def test_before_a_run_each_key_says_why_it_does_nothing(desk: Desk, key: str, reason: str) -> None:
    async with desk.app(plan=desk.plan(TWO)) as person:
        await person.press(key)
        assert reason in person.toasts


async def test_a_refused_value_is_asked_for_again_with_the_reason(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(TWO)) as person:
        await person.press("s")
        await person.run_has_ended()
        person.run.select_step("first")
        await person.press("m")
        await person.sees("Take first as succeeded?")
        deep: Any = "[" * 300 + "]" * 300
        write(person, deep)
        await person.press("ctrl+s")
        await person.sees("nested")
        assert isinstance(person.app.screen, ValueEditor)


@pytest.mark.parametrize(("key", "title"), [("asterisk", "Pin the output"), ("m", "Take first as succeeded?")])
async def test_an_output_too_large_for_a_field_is_kept_as_it_is(desk: Desk, key: str, title: str) -> None:
    plan = desk.plan("steps:\n  - {id: first, python: \"'x' * 300000\"}\n")
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_has_ended()
        await person.press(key)
        await person.sees(title, "empty: keep the 300,002 bytes that are there")
        await person.press("ctrl+s")
        await person.until(lambda: "first is " in person.toasts)
        async with desk.store() as store:
            state = await store.load_state(person.session.run_id)
            kept = state.steps["first"].output
            assert kept is not None
            assert await store.load_value(kept) == "x" * 300_000


async def test_a_fork_asks_for_secrets_again(desk: Desk) -> None:
    plan = desk.plan(
        """
inputs: {token: {type: secret}}
steps:
  - {id: first, shell: "echo one"}
  - {id: second, shell: "test {{ inputs.token }} = open", dependencies: [first]}
"""
    )
    async with desk.app(plan=plan, inputs={"token": "open"}) as person:
        await person.press("s")
        await person.run_has_ended()
        parent = person.session.run_id
        await person.press("F", "y")
        await person.sees("Secret inputs", "needed again")
        await person.press("escape")
        assert person.session.run_id == parent
        await person.press("F", "y")
        await person.sees("Secret inputs")
        await person.type("open")
        await person.press("ctrl+s")
        await person.until(lambda: person.session.run_id not in ("", parent))
        await person.run_has_ended()


async def test_a_poor_terminal_gets_ascii_only(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(STOPS), size=(80, 24), settings=Settings(ascii=True)) as person:
        await person.press("s")
        await person.step_is("second", "waiting")
        await person.sees("^ second stands before its work", "? second^")
        for key, seen in (
            ("w", "why is it waiting?"),
            ("a", "The input of"),
            ("U", "Slots"),
            ("S", "Skip second?"),
        ):
            await person.press(key)
            await person.sees(seen)
            assert person.text.isascii(), person.text
            if person.app.is_asking:
                await person.press("escape")
        await person.press("c")
        await person.run_has_ended()
        person.run.step_pane.tab = "output"
        await person.press("R")
        await person.sees("Rerun from", "> run", "= reuse")
        assert person.text.isascii(), person.text
        await person.press("escape", "r")
        await person.sees("what was run")
        assert person.text.isascii(), person.text
