"""Plans in plans as a person sees them: before the start, while they run, and when they are edited."""

from __future__ import annotations

from pathlib import Path

from tui_desk import Desk

INNER = """
inputs: {n: {type: integer}}
steps:
  - {id: load, shell: 'echo {{ inputs.n }}'}
  - {id: clean, shell: "sed s/^/n/", dependencies: [load]}
"""
PLAN = """
steps:
  - {id: fetch, shell: 'while [ ! -e go ]; do sleep 0.02; done'}
  - {id: region, plan: ./inner.yaml, args: {n: 1}, dependencies: [fetch]}
  - {id: each, for_each: [1, 2, 3], plan: ./inner.yaml, args: {n: "{{ item }}"}, dependencies: [fetch]}
  - {id: report, shell: 'echo done', dependencies: [region, each]}
"""


def plan(desk: Desk) -> Path:
    inner = INNER.replace('"sed s/^/n/"', "'echo clean'")
    desk.plan(inner, "inner.yaml")
    return desk.plan(PLAN)


async def test_parts_are_seen_before_the_start_and_items_once_there_are_any(desk: Desk) -> None:
    async with desk.app(plan=plan(desk), size=(150, 44)) as person:
        await person.sees("○ region", "○ load", "○ clean", "○ each")
        assert "each[" not in person.text
        await person.press("s")
        await person.step_is("fetch", "running")
        (desk.folder / "go").touch()
        await person.run_is("succeeded")
        await person.sees("✓ each[0]", "✓ each[1]", "✓ each[2]", "✓ load", "✓ report")
        person.run.select_step("each[1]/clean")
        await person.sees("each[1]/clean · ✓ succeeded")
        person.run.graph.focus()
        await person.press("space")
        await person.sees("✓ [1] load", "✓ [1] clean")
        await person.press("k")
        assert person.session.selected == "each[1]/load"


async def test_what_an_edit_does_to_items_is_shown_on_them(desk: Desk) -> None:
    async with desk.app(plan=plan(desk), size=(150, 44)) as person:
        (desk.folder / "go").touch()
        await person.press("s")
        await person.run_has_ended()
        await person.press("e")
        await person.sees("edit run", "✓ each[2]")
        area = person.app.screen.query_one("#area")
        area.load_text(PLAN.replace("[1, 2, 3]", "[1, 2]"))  # type: ignore[attr-defined]
        await person.press("f6")
        await person.sees("~ each", "= fetch", "~ report")
        area.load_text(PLAN)  # type: ignore[attr-defined]
        await person.quiet()
