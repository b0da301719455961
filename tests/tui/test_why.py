"""`w` says why the selected step is as it is, and goes on saying it while the run goes on."""

from __future__ import annotations

from pathlib import Path

from tui_desk import Desk

from stepchain_tui.tui.widgets.why_view import WhyView


def gated(folder: Path) -> str:
    """A plan whose first step fails once a file is there."""
    return f"""
steps:
  - {{id: gate, shell: "while [ ! -e {folder}/go ]; do sleep 0.02; done; exit 3"}}
  - {{id: middle, shell: "echo middle", dependencies: [gate]}}
  - {{id: last, shell: "echo last", dependencies: [middle]}}
"""


async def test_the_answer_names_the_root_and_follows_the_run(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder))) as person:
        await person.press("s")
        await person.step_is("gate", "running")
        person.run.select_step("last")
        await person.press("w")
        await person.sees("why is it waiting?", "gate")
        assert person.run.focused is person.run.graph
        (desk.folder / "go").touch()
        await person.run_is("failed")
        await person.sees("last", "gate", "the run · ✕ failed")
        await person.press("k", "k")
        await person.sees("gate failed", "exit code 3")


async def test_the_answer_counts_the_time_while_nothing_happens(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder))) as person:
        await person.press("s")
        await person.step_is("gate", "running")
        await person.press("w")
        view = person.run.query_one(WhyView)
        await person.until(lambda: view.text)
        first = view.text
        await person.until(lambda: view.text != first)


async def test_a_run_that_did_not_begin_has_no_answer(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder))) as person:
        await person.press("w")
        assert "nothing ran yet: s starts" in person.toasts


async def test_a_long_answer_is_broken_to_the_width_and_copied_whole(desk: Desk) -> None:
    question = "Is " + " ".join(f"word{number}" for number in range(40)) + " right?"
    plan = desk.plan(f"steps:\n  - {{id: gate, approve: '{question}'}}\n")
    async with desk.app(plan=plan, size=(80, 24)) as person:
        await person.press("s")
        await person.run_is("waiting")
        await person.press("w", "2", "z")
        view = person.run.query_one(WhyView)
        await person.until(lambda: view.text)
        assert all(sum(len(text) for text, _ in view.pieces(line)) <= view.size.width for line in range(view.count))
        await person.press("y")
        assert "word1 word2 word3 word4 word5 word6 word7 word8 word9" in person.app.clipboard


async def test_why_is_found_in_a_maximised_pane_too(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(gated(desk.folder))) as person:
        await person.press("s")
        await person.step_is("gate", "running")
        await person.press("z", "w")
        await person.sees("gate has been running")
