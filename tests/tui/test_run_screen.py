"""The run screen as a person uses it: every key does its job on a real engine."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tui_desk import Desk

from stepchain_tui.run.status import RunStatus
from stepchain_tui.tui.queries import value_lines
from stepchain_tui.tui.widgets.approval import ApprovalBar
from stepchain_tui.tui.widgets.graph_view import GraphView
from stepchain_tui.tui.widgets.lines import ActionFooter
from stepchain_tui.tui.widgets.log_view import LogView
from stepchain_tui.tui.widgets.status_line import StatusLine
from stepchain_tui.tui.widgets.text_view import TextView
from stepchain_tui.tui.widgets.timeline import Timeline

THREE = """
goal: Three in a row
steps:
  - {id: first, shell: "echo one"}
  - {id: second, shell: "echo two; echo oops >&2", dependencies: [first]}
  - {id: third, shell: "echo {{ steps.second.output.stdout | trim }} three", dependencies: [second]}
"""
SLOW = """
steps:
  - {id: quick, shell: "echo quick"}
  - {id: slow, shell: "echo begun; sleep 60", dependencies: [quick]}
  - {id: after, shell: "echo after", dependencies: [slow]}
"""


def gated(folder: Path) -> str:
    """A plan whose second step waits for a file, so that nothing hangs on time."""
    return f"""
steps:
  - {{id: first, shell: "echo one"}}
  - {{id: gate, shell: "while [ ! -e {folder}/go ]; do sleep 0.02; done; echo gone", dependencies: [first]}}
  - {{id: last, shell: "echo last", dependencies: [gate]}}
"""


async def test_a_plan_is_started_watched_and_its_output_read(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        assert "ready: s starts" in person.text
        assert "○ first" in person.text
        assert person.session.selected == "first"
        await person.press("s")
        await person.run_is("succeeded")
        for step in ("first", "second", "third"):
            assert f"✓ {step}" in person.text
        assert "✓ succeeded 3/3" in person.text
        assert person.session.selected == "third"
        await person.sees('"stdout": "two three\\n"')
        assert "third · ✓ succeeded" in person.text
        await person.press("right_square_bracket")
        await person.sees("two three")
        assert person.run.step_pane.tab == "log"


async def test_start_again_after_the_end_makes_another_run(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press("s")
        await person.run_has_ended()
        first = person.session.run_id
        await person.press("s")
        await person.until(lambda: person.session.run_id not in ("", first))
        await person.run_is("succeeded")
        assert len(person.app.open_screens()) == 2


async def test_pause_lets_the_running_step_finish_and_resume_goes_on(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder))) as person:
        await person.press("s")
        await person.step_is("gate", "running")
        await person.press("p")
        await person.run_is("paused")
        (desk.folder / "go").touch()
        await person.step_is("gate", "succeeded")
        await person.run_is_left()
        assert person.status("last") == "pending"
        await person.sees("p resume")
        await person.press("p")
        await person.run_is("succeeded")


async def test_pause_now_sends_the_running_step_back(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder))) as person:
        await person.press("s")
        await person.step_is("gate", "running")
        await person.press("P")
        await person.step_is("gate", "pending")
        await person.run_is_left()
        assert person.session.view is not None
        assert person.session.view.status is RunStatus.PAUSED
        (desk.folder / "go").touch()
        await person.press("p")
        await person.run_is("succeeded")


async def test_cancelling_a_step_stops_it_and_says_so(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(SLOW)) as person:
        await person.press("s")
        await person.step_is("slow", "running")
        await person.until(lambda: person.session.selected == "slow")
        await person.press("x")
        await person.step_is("slow", "cancelled")
        await person.step_is("after", "blocked")
        await person.sees("■ slow", "⊘ after")


async def test_cancelling_the_run_asks_first(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(SLOW)) as person:
        await person.press("s")
        await person.step_is("slow", "running")
        await person.press("X")
        await person.sees("Cancel plan?", "2 of 3 steps have not ended")
        await person.press("n")
        assert person.status("slow") == "running"
        await person.press("X")
        await person.sees("Cancel plan?")
        await person.press("y")
        await person.run_is("cancelled")


async def test_rerun_runs_one_step_and_marks_what_follows(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press("s")
        await person.run_has_ended()
        await person.press("k")
        assert person.session.selected == "second"
        await person.press("r")
        await person.until(lambda: person.session.steps["second"].attempt == 2)
        await person.run_is("succeeded")
        await person.sees("✓ third~")
        assert person.session.steps["third"].attempt == 1


async def test_rerun_from_here_shows_what_will_run_and_runs_it(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press("s")
        await person.run_has_ended()
        await person.press("k", "R")
        await person.sees("Rerun from second?", "run 2 · reuse 1", "it follows second")
        await person.press("y")
        await person.until(lambda: person.session.steps["third"].attempt == 2)
        await person.run_is("succeeded")
        assert person.session.steps["first"].attempt == 1


async def test_rerun_on_a_live_run_is_a_command_to_its_engine(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder))) as person:
        await person.press("s")
        await person.step_is("gate", "running")
        person.run.select_step("first")
        await person.press("r")
        await person.until(lambda: person.session.steps["first"].attempt == 2)
        (desk.folder / "go").touch()
        await person.run_is("succeeded")


async def test_a_retry_is_counted_down_and_can_be_tried_now(desk: Desk) -> None:
    plan = desk.plan(
        f"""
steps:
  - id: flaky
    shell: "test -e {desk.folder}/fine"
    retry: {{max_attempts: 3, initial_delay: 500, jitter: false}}
"""
    )
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.step_is("flaky", "retrying")
        await person.sees("↻ retrying 2/3 in ")
        assert "tool error" in person.text
        (desk.folder / "fine").touch()
        await person.press("t")
        await person.run_is("succeeded")
        person.run.step_pane.tab = "tries"
        await person.sees("✕ failed", "✓ succeeded")


async def test_a_question_is_answered_in_the_app(desk: Desk) -> None:
    plan = desk.plan(
        """
steps:
  - id: gate
    approve: "Ship [b]it[/b]?"
    fields: {count: {type: integer, default: 2}, note: {type: text}}
  - id: after
    shell: "echo {{ steps.gate.output.fields.count }} {{ steps.gate.output.fields.note }}"
    dependencies: [gate]
"""
    )
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_is("waiting")
        assert person.run.query_one(ApprovalBar).display
        await person.sees("gate asks", "Ship [b]it[/b]?")
        await person.press("a")
        await person.sees("count", "note", "approve", "deny")
        await person.press("ctrl+s")
        await person.sees("a value is needed")
        await person.type("hello")
        await person.press("ctrl+s")
        await person.run_is("succeeded")
        await person.sees('"stdout": "2 hello')
        assert not person.run.query_one(ApprovalBar).display


async def test_a_question_can_be_denied(desk: Desk) -> None:
    plan = desk.plan("steps:\n  - {id: gate, approve: 'Go?'}\n")
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_is("waiting")
        await person.press("a")
        await person.sees("deny")
        await person.press("tab", "enter")
        await person.run_is("failed")
        assert person.status("gate") == "failed"


async def test_inputs_are_asked_for_checked_and_used(desk: Desk) -> None:
    plan = desk.plan(
        """
inputs:
  name: {type: text, description: who is greeted}
  times: {type: integer, default: 1}
  loud: {type: boolean, default: false}
  tone: {type: choice, choices: [warm, cold], default: warm}
steps:
  - {id: greet, shell: "echo {{ inputs.name }} {{ inputs.times }} {{ inputs.tone }}"}
"""
    )
    async with desk.app(plan=plan) as person:
        await person.sees("Inputs of plan", "who is greeted", "name  text  needed")
        await person.press("ctrl+s")
        await person.sees("a value is needed")
        await person.type("Ada")
        person.app.screen.query_one("#field-times").value = "many"  # type: ignore[attr-defined]
        await person.press("ctrl+s")
        await person.sees("expected a number")
        person.app.screen.query_one("#field-times").value = "3"  # type: ignore[attr-defined]
        await person.press("ctrl+s")
        await person.sees("ready: s starts")
        await person.press("i")
        await person.sees("Inputs of plan", "Ada")
        await person.press("escape", "s")
        await person.run_is("succeeded")
        await person.sees('"stdout": "Ada 3 warm')


async def test_inputs_given_on_the_command_line_are_not_asked_for(desk: Desk) -> None:
    plan = desk.plan("inputs: {name: {type: text}}\nsteps:\n  - {id: greet, shell: 'echo {{ inputs.name }}'}\n")
    async with desk.app(plan=plan, inputs={"name": "Ada"}) as person:
        await person.press("s")
        await person.run_is("succeeded")
        await person.sees("Ada")


@pytest.mark.parametrize(
    ("key", "reason"),
    [("p", "nothing runs yet"), ("x", "nothing runs yet"), ("r", "nothing ran yet"), ("t", "nothing runs yet"),
     ("a", "nobody waits for an answer"), ("P", "nothing runs yet"), ("X", "nothing runs yet"),
     ("R", "nothing ran yet"), ("i", "asks for no inputs")],
)  # fmt: skip
async def test_a_key_that_does_not_fit_says_why(desk: Desk, key: str, reason: str) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press(key)
        assert reason in person.toasts


async def test_the_selection_walks_along_the_edges_and_the_pane_follows(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press("j", "down")
        assert person.session.selected == "third"
        await person.sees("2 third")
        await person.press("k", "up", "h", "l", "left", "right")
        assert person.session.selected == "first"


async def test_numbers_go_to_panes_and_z_gives_one_all_the_room(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press("s")
        await person.run_is("succeeded")
        await person.press("2")
        assert isinstance(person.run.focused, TextView)
        await person.press("3")
        assert isinstance(person.run.focused, Timeline)
        await person.press("z")
        assert not person.run.graph.region.width or not person.run.query_one("#graph-pane").display
        assert person.run.timeline.size.height > 30
        await person.press("z")
        assert person.run.query_one("#graph-pane").display
        await person.press("1")
        assert isinstance(person.run.focused, GraphView)


async def test_esc_is_a_ladder(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press("s")
        await person.run_is("succeeded")
        await person.press("2", "z", "slash")
        await person.type("stdout")
        await person.press("enter")
        await person.sees("find: stdout")
        await person.press("escape")
        assert "find: stdout" not in person.text
        assert person.run.has_class("-max")
        await person.press("escape")
        assert not person.run.has_class("-max")
        await person.press("escape")
        assert isinstance(person.run.focused, GraphView)
        await person.press("escape")
        assert person.app.current_mode == "home"


async def test_find_goes_from_place_to_place(desk: Desk) -> None:
    plan = desk.plan("steps:\n  - {id: a, shell: 'seq 1 500; echo needle; seq 1 400; echo Needle'}\n")
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_is("succeeded")
        await person.press("2", "right_square_bracket", "g", "slash")
        await person.type("needle")
        await person.press("enter")
        log = person.run.step_pane.query_one("#log", LogView)
        assert log.found_line == 500
        await person.press("n")
        assert log.found_line == 901
        await person.press("n")
        assert log.found_line == 500
        await person.press("N")
        assert log.found_line == 901
        assert not log.follow or log.scroll_y >= log.max_scroll_y
        await person.press("slash")
        await person.type("nowhere")
        await person.press("enter")
        assert "is not here" in person.toasts


async def test_find_in_the_graph_selects_steps(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press("slash")
        await person.type("r")
        await person.press("enter")
        assert person.session.selected == "first"
        await person.press("n")
        assert person.session.selected == "third"


async def test_follow_lets_go_when_the_person_chooses_and_takes_up_again(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder))) as person:
        await person.press("s")
        await person.until(lambda: person.session.selected == "gate")
        await person.press("k")
        assert person.session.selected == "first"
        assert not person.session.follow
        await person.press("f")
        assert person.session.selected == "gate"
        assert person.session.follow
        (desk.folder / "go").touch()
        await person.run_is("succeeded")


async def test_copy_takes_the_text_in_sight(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press("s")
        await person.run_is("succeeded")
        await person.press("y")
        assert person.app.clipboard == "third"
        await person.press("2", "y")
        assert '"stdout": "two three' in person.app.clipboard
        await person.press("right_square_bracket", "y")
        assert person.app.clipboard == "two three"


async def test_panes_are_resized_by_keys_and_mouse_and_stay_so(desk: Desk) -> None:
    plan = desk.plan(THREE)
    async with desk.app(plan=plan) as person:
        width = person.run.query_one("#graph-pane").size.width
        await person.press("greater_than_sign")
        assert person.run.query_one("#graph-pane").size.width > width
        height = person.run.step_pane.size.height
        await person.press("minus")
        assert person.run.step_pane.size.height < height
        await person.press("plus", "less_than_sign")
        assert person.run.query_one("#graph-pane").size.width == width
        splitter = person.run.query_one("#split-x").region
        await person.pilot.mouse_down(offset=(splitter.x, 10))
        await person.pilot.hover(offset=(30, 10))
        await person.pilot.mouse_up(offset=(30, 10))
        await person.quiet()
        assert abs(person.run.query_one("#graph-pane").size.width - 30) < 4
        edge = person.run.query_one("#timeline-pane").region
        await person.pilot.mouse_down(offset=(edge.x + 30, edge.y))
        await person.pilot.hover(offset=(edge.x + 30, 15))
        await person.pilot.mouse_up(offset=(edge.x + 30, 15))
        await person.quiet()
        assert abs(person.run.query_one("#timeline-pane").region.y - 15) <= 2
        kept = person.app.state.split_x, person.app.state.split_y
    async with desk.app(plan=plan) as person:
        assert (person.app.state.split_x, person.app.state.split_y) == kept


async def test_the_tab_is_kept(desk: Desk) -> None:
    plan = desk.plan(THREE)
    async with desk.app(plan=plan) as person:
        await person.press("left_square_bracket")
        assert person.run.step_pane.tab == "why"
    async with desk.app(plan=plan) as person:
        assert person.run.step_pane.tab == "why"


async def test_the_input_of_a_step_is_shown(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press("s")
        await person.run_is("succeeded")
        await person.press("left_square_bracket", "left_square_bracket")
        await person.sees("echo two three")


async def test_a_value_is_shown_also_where_its_first_reading_was_replaced_by_another(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder))) as person:
        await person.press("s")
        await person.step_is("gate", "running")
        library, ask = person.app.library, person.app.library.ask
        held = asyncio.Event()

        async def first_held(question: Callable[..., Any]) -> Any:
            if getattr(question, "func", None) is value_lines and not held.is_set():
                held.set()
                await asyncio.Event().wait()
            return await ask(question)

        monkeypatch.setattr(library, "ask", first_held)
        person.run.select_step("first")
        person.run.step_pane.tab = "input"
        await person.until(held.is_set)
        pane = person.run.step_pane
        assert pane.step is not None
        pane.show(pane.feed, dataclasses.replace(pane.step, version=pane.step.version + 1), person.app.now())
        await person.sees("echo one")
        (desk.folder / "go").touch()
        await person.run_has_ended()


async def test_all_of_an_error_is_in_sight_however_narrow_the_pane_is(desk: Desk) -> None:
    said = "the first word and then many more until the very last one"
    plan = desk.plan(f"steps: [{{id: a, shell: 'echo {said} >&2; exit 3'}}]")
    async with desk.app(plan=plan, size=(80, 24)) as person:
        await person.press("s")
        await person.run_has_ended("failed")
        await person.sees("the command", "first word", "very last one", "hint:")
        await person.pilot.resize_terminal(200, 40)
        await person.sees(said)


async def test_the_way_to_all_keys_is_in_the_footer_of_a_narrow_terminal(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE), size=(80, 24)) as person:
        await person.press("s")
        await person.run_has_ended()
        assert "? keys  ctrl+p menu" in person.text
        await person.pilot.click(ActionFooter, offset=(80 - 1 - len("keys  ctrl+p menu"), 0))
        await person.until(lambda: person.app.is_asking)


async def test_a_terminal_of_any_size_shows_the_run(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder)), size=(80, 24)) as person:
        await person.press("s")
        await person.step_is("gate", "running")
        for size in ((250, 70), (80, 24), (60, 20), (120, 40), (30, 10)):
            await person.pilot.resize_terminal(*size)
            await person.quiet()
            assert person.run.query_one(StatusLine).size.width == size[0] - 2
        await person.pilot.resize_terminal(60, 20)
        await person.sees("gate")
        await person.press("2")
        assert person.run.step_pane.size.width > 40
        await person.press("3")
        assert person.run.timeline.size.width > 40
        await person.press("1")
        (desk.folder / "go").touch()
        await person.run_is("succeeded")
        await person.sees("✓ last")


async def test_the_footer_shows_what_fits_and_a_click_does_it(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(THREE)) as person:
        footer = person.run.query_one(ActionFooter)
        assert footer.text.startswith("s start")
        await person.pilot.click(ActionFooter, offset=(1, 0))
        await person.run_is("succeeded")


async def test_a_failed_step_shows_its_error_hint_and_traceback(desk: Desk) -> None:
    (desk.folder / "mod.py").write_text("def broken():\n    raise ValueError('no [good]')\n")
    plan = desk.plan("steps:\n  - {id: bad, function: './mod.py:broken'}\n")
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_is("failed")
        await person.sees("no [good]", "✕ bad")
        person.run.step_pane.tab = "tries"
        await person.quiet()
        await person.sees("ValueError (tool error): no [good]")
        error = person.run.query_one("#try-error", TextView)
        assert any("mod.py" in line for line in error.content.lines)


async def test_a_poor_terminal_gets_ascii_only(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "linux")
    async with desk.app(plan=desk.plan(THREE)) as person:
        await person.press("s")
        await person.run_is("succeeded")
        assert "+ third" in person.text
        assert "✓" not in person.text


async def test_each_item_of_a_map_has_its_own_try_and_log(desk: Desk) -> None:
    plan = desk.plan(
        "steps:\n  - {id: each, for_each: [ann, bob, cy], shell: 'echo hello {{ item }}; test {{ item }} != bob',"
        " retry: {max_attempts: 1}}\n"
    )
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_is("failed")
        person.run.step_pane.tab = "tries"
        await person.sees("item", "✕ failed", "✓ succeeded")
        assert person.session.steps["each"].items == (3, 3)
        await person.press("2")
        seen = set()
        for _ in range(4):
            text = "\n".join(person.run.query_one("#item-log", TextView).content.lines)
            seen.add(text)
            await person.press("down")
        assert {"hello ann", "hello bob", "hello cy"} <= seen


async def test_secret_inputs_are_asked_for_again(desk: Desk) -> None:
    plan = desk.plan(
        "inputs: {key: {type: secret}}\nsteps:\n"
        f"  - {{id: use, shell: 'test -e {desk.folder}/go && echo {{{{ inputs.key }}}} | wc -c'}}\n"
    )
    async with desk.app(plan=plan) as person:
        await person.sees("Inputs of plan")
        await person.type("very-secret-value")
        await person.press("ctrl+s")
        await person.press("s")
        await person.run_has_ended("failed")
        assert "very-secret-value" not in person.text
        (desk.folder / "go").touch()
        await person.press("p")
        await person.sees("Secret inputs", "needed again")
        await person.type("very-secret-value")
        await person.press("ctrl+s")
        await person.run_is("succeeded")
        await person.sees('"stdout": "18')
