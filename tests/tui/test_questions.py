"""Questions of `approve` steps: typed fields, asked again with the reason beside the field, answered by the clock."""

from __future__ import annotations

from textual.widgets import Input, Select, Switch
from tui_desk import Desk

from stepchain_tui.tui.screens.form import FieldsForm

ALL_TYPES = """
steps:
  - id: gate
    approve: "All of it?"
    fields:
      words: {type: text}
      ratio: {type: number}
      times: {type: integer}
      sure: {type: boolean, default: false}
      place: {type: path}
      tone: {type: choice, choices: [warm, cold]}
  - id: after
    shell: "echo {{ steps.gate.output.fields.words | quote }} {{ steps.gate.output.fields.times }}"
"""


async def test_fields_of_every_type_are_checked_and_given(desk: Desk) -> None:
    (desk.folder / "here").mkdir()
    async with desk.app(plan=desk.plan(ALL_TYPES)) as person:
        await person.press("s")
        await person.run_is("waiting")
        await person.press("a")
        form = person.app.screen
        assert isinstance(form, FieldsForm)
        given = {"words": "two words", "ratio": "a half", "times": "1.5", "place": "here"}
        for name, text in given.items():
            form.query_one(f"#field-{name}", Input).value = text
        await person.press("ctrl+s")
        assert person.app.screen is form
        problems = {name: str(form.query_one(f"#problem-{name}").render()) for name in [*given, "tone"]}
        assert problems["words"] == problems["place"] == ""
        assert "number" in problems["ratio"]
        assert problems["times"]
        assert problems["tone"] == "a value is needed"
        form.query_one("#field-ratio", Input).value = "0.5"
        form.query_one("#field-times", Input).value = "3"
        form.query_one("#field-tone", Select).value = "cold"
        form.query_one("#field-sure", Switch).value = True
        await person.press("ctrl+s")
        await person.run_is("succeeded")
        person.run.select_step("gate")
        await person.sees('"words": "two words"', '"ratio": 0.5', '"times": 3', '"sure": true', '"tone": "cold"')
        assert '"approved": true' in person.text


async def test_what_the_clock_answers_is_counted_down(desk: Desk) -> None:
    plan = desk.plan("steps:\n  - {id: gate, approve: 'Go?', timeout: 90, on_timeout: approve}\n")
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_is("waiting")
        await person.sees("approved in 8")
        first = next(line for line in person.text.splitlines() if "approved in" in line)
        await person.until(lambda: first not in person.text)


async def test_the_clock_denies_where_nothing_else_is_said(desk: Desk) -> None:
    plan = desk.plan("steps:\n  - {id: gate, approve: 'Go?', timeout: 0.5}\n")
    async with desk.app(plan=plan, size=(80, 24)) as person:
        await person.press("s")
        await person.run_is("failed")
        assert person.status("gate") == "failed"
        await person.sees('"approved": false', "nobody ans")


async def test_an_answer_that_came_too_late_is_told_and_the_values_are_kept(desk: Desk) -> None:
    plan = desk.plan("steps:\n  - {id: gate, approve: 'Go?', fields: {note: {type: text}}}\n")
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.run_is("waiting")
        await person.press("a")
        await person.type("mine")
        await person.app.host.steer(
            person.app.screen_stack[0].session.run_id,  # type: ignore[attr-defined]
            "approve",
            {"step": "gate", "approved": True, "fields": {"note": "theirs"}},
        )
        await person.press("ctrl+s")
        await person.sees("gate asks", "mine", "waits for no answer")
        await person.press("escape")
        await person.run_is("succeeded")
