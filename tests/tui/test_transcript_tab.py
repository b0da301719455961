"""The tab of the transcript, and text that is shown while a model writes it."""

from __future__ import annotations

from typing import Any

import pytest
from told_runs import ToldRun
from tui_desk import Desk, Person

from stepchain_tui.core.settings import Settings
from stepchain_tui.run import events as e
from stepchain_tui.run.values import Kept
from stepchain_tui.tui.widgets.breaking import broken_line
from stepchain_tui.tui.widgets.following import LONGEST_OPEN, GrowingLines
from stepchain_tui.tui.widgets.transcript_view import TranscriptView
from tests.support.command_line import CommandLine

SIZES = pytest.mark.parametrize("size", [(80, 24), (200, 60)])
NASTY = "\x1b]0;owned\x07[bold]\u202eevil"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str, *sources: str) -> dict[str, Any]:
    cited = [{"type": "url_citation", "title": f"On {url}", "url": f"https://{url}"} for url in sources]
    part = {"type": "output_text", "text": text, "annotations": cited}
    return {"type": "message", "role": "assistant", "content": [part]}


def call(call_id: str, name: str = "add") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": '{"a": 2}'}


async def look_at_transcript(person: Person, step_id: str = "ask") -> TranscriptView:
    if person.app.size.width < 100:
        await person.press("2")
    person.run.select_step(step_id)
    await person.quiet()
    person.run.step_pane.tab = "transcript"
    await person.quiet()
    return person.run.step_pane.transcript


@SIZES
async def test_a_conversation_is_read_from_its_beginning_to_its_end(desk: Desk, size: tuple[int, int]) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "ask", kind="prompt")
        run.tell(e.StepStarted, step_id="ask", attempt=1, input=Kept({"prompt": "How much?", "system": "Be brief."}))
        run.turn("ask", 1, [user("How much?")], [answer("I add."), call("1")], cost=0.0021)
        run.called("ask", "1", "add", {"a": 2}, {"sum": 4})
        await run.write()
        async with desk.app(run_id="told", size=size) as person:
            view = await look_at_transcript(person)
            await person.press("g")
            await person.sees("attempt 1", "system", "Be brief.", "user", "How much?", "assistant", "I add.")
            await person.press("G")
            await person.sees("✓ add(a=2)  250ms", '{"sum": 4}', "turn 1 · m · 1.2k in · 34 out", "$0.0021 · 1.5s")
            run.turn("ask", 2, [], [answer("It is " + "four " * 60, "a.test", "b.test")])
            run.gives("ask", "four")
            run.ends()
            await run.write()
            await person.sees("[1] On a.test  https://a.test", "[2] On b.test", "✓ succeeded")
            assert view.virtual_size.width <= view.size.width, "nothing of it is out of sight at the right"
            assert "It is four" in await view.whole_text()


async def test_text_is_on_the_screen_while_it_is_written_and_stands_there_once(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "ask", kind="prompt")
        run.begins("ask")
        await run.write()
        async with desk.app(run_id="told") as person:
            await person.quiet()
            await run.writes("ask", "Once upon ", "a time")
            await person.sees("Once upon a time")
            await run.writes("ask", ", there", " was")
            await person.sees("Once upon a time, there was")
            await look_at_transcript(person)
            await person.sees("▶ writing", "Once upon a time, there was")
            run.turn("ask", 1, [user("Tell me.")], [answer("Once upon a time, there was nobody.")])
            await run.write()
            await person.until(lambda: "writing" not in person.text)
            assert person.text.count("Once upon") == 1
            await run.writes("ask", "And more.")
            await person.sees("▶ writing", "And more.")
            run.turn("ask", 2, [], [answer("And more.")])
            run.gives("ask", "And more.")
            await run.write()
            person.run.step_pane.tab = "output"
            await person.until(lambda: not person.run.step_pane.output.live.display)
            await person.sees("And more.")


async def test_a_line_that_came_in_pieces_is_a_line_in_the_log_and_grows_there(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "ask", kind="prompt")
        run.begins("ask")
        await run.write()
        await run.writes("ask", "Once upon ", "a ", item=0)
        await run.writes("ask", "The other ", item=1)
        async with desk.app(run_id="told") as person:
            person.run.step_pane.tab = "log"
            await person.sees("[0] Once upon a", "[1] The other")
            await run.writes("ask", "time", item=0)
            await run.writes("ask", "", stream="text", item=0)
            await run.writes("ask", "No \rsecret.", item=0)
            await person.sees("[0] Once upon a time", "[0] No ␍secret.")
            view = person.run.step_pane.log_view
            assert view.count == 3
            assert await view.find("upon a time")
            assert "Once upon a time\nThe other" in await view.text_in_sight()


async def test_what_is_written_in_a_rerun_is_shown_although_there_is_an_older_output(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "ask", kind="prompt")
        run.begins("ask")
        run.gives("ask", "the old one")
        run.tell(e.StepInvalidated, step_id="ask", reason="rerun", again=True)
        run.begins("ask", 2)
        await run.write()
        async with desk.app(run_id="told") as person:
            await person.sees("the old one")
            await run.writes("ask", "the new", attempt=2)
            await person.until(lambda: "the new" in person.text and "the old one" not in person.text)
            run.gives("ask", "the new one", 2)
            await run.write()
            await person.sees("the new one")


async def test_what_a_cut_off_answer_had_written_stays(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "ask", kind="prompt")
        run.begins("ask")
        run.turn("ask", 1, [user("Tell me.")], [answer("I look it up."), call("1")])
        await run.write()
        await run.writes("ask", "I look it up.", stream="text", before=True)
        await run.writes("ask", "Once upon ", "a time")
        async with desk.app(run_id="told") as person:
            await look_at_transcript(person)
            await person.sees("▶ writing", "Once upon a time")
            run.tell(e.StepCancelled, step_id="ask", attempt=1, reason="cancelled by ada")
            await run.write()
            await person.until(lambda: "writing" not in person.text)
            await person.sees("assistant (cut off)", "Once upon a time", "cancelled by ada")
            assert person.text.count("I look it up.") == 1
        stepchain = CommandLine(desk.folder)
        told = stepchain("transcript", "told", "ask", "--json", "--store", str(desk.store_path)).json
        assert [one["text"] for one in told if one.get("cut_off")] == ["Once upon a time"]
        refused = stepchain("transcript", "told", "ask", "--item", "7", "--store", str(desk.store_path))
        assert refused.code == 2
        assert "step 'ask' is no map" in refused.err


async def test_a_very_long_text_stays_where_it_is_for_somebody_who_went_up(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "ask", kind="prompt")
        run.begins("ask")
        await run.write()
        await run.writes("ask", "The beginning. ", *["many words " * 5_000] * 5)
        async with desk.app(run_id="told") as person:
            view = await look_at_transcript(person)
            await person.sees("many words")
            await person.press("2", "g")
            await person.sees("The beginning. many")
            before = view.count
            await run.writes("ask", "more words " * 5_000)
            await person.until(lambda: view.count > before)
            await person.sees("The beginning. many")


async def test_it_follows_until_somebody_goes_up_and_long_ones_scroll(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "ask", kind="prompt")
        run.begins("ask")
        for turn in range(1, 60):
            run.turn("ask", turn, [user(f"question {turn}")], [answer(f"answer {turn}")])
        await run.write()
        async with desk.app(run_id="told") as person:
            view = await look_at_transcript(person)
            await person.sees("answer 59")
            await person.press("2", "g")
            await person.sees("question 1")
            assert not view.follow
            run.turn("ask", 60, [user("question 60")], [answer("answer 60")])
            await run.write()
            await person.until(lambda: "answer 60" in "".join(text for text, _ in view.pieces(view.count - 2)))
            assert "answer 60" not in person.text, "whoever reads stays where they are"
            await person.press("f")
            await person.sees("answer 60")
            await person.press("slash")
            await person.type("answer 23")
            await person.press("enter")
            await person.sees("answer 23")
            assert not view.follow


async def test_only_steps_that_talk_have_the_tab_and_it_comes_back(desk: Desk) -> None:
    text = """steps:
  - {id: make, shell: "true"}
  - {id: ask, prompt: "go", model: scripted, replies: [ok], dependencies: [make]}
"""
    async with desk.app(plan=desk.plan(text)) as person:
        await person.press("s")
        await person.run_has_ended()
        await look_at_transcript(person)
        assert "Transcript" in person.text
        person.run.select_step("make")
        await person.until(lambda: "Transcript" not in person.text)
        assert person.run.step_pane.tab == "output"
        person.run.select_step("ask")
        await person.until(lambda: person.run.step_pane.tab == "transcript")
        await person.sees("attempt 1", "✓ succeeded")


async def test_nothing_of_a_model_is_obeyed_or_read_as_markup(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "ask", kind="prompt")
        run.begins("ask")
        run.turn("ask", 1, [user(NASTY)], [answer(NASTY, NASTY), call("1", NASTY)], agent=NASTY, finish_reason=NASTY)
        run.called("ask", "1", NASTY, {NASTY: NASTY}, NASTY)
        await run.write()
        async with desk.app(run_id="told", size=(200, 60)) as person:
            await look_at_transcript(person)
            await run.writes("ask", NASTY)
            await person.sees("writing", "[bold]")
            assert not set("\x1b\x07\x9b\u202e\u200b") & set(person.text)


@SIZES
async def test_an_output_of_a_model_is_broken_into_lines_with_its_sources_below(
    desk: Desk, size: tuple[int, int]
) -> None:
    text = "It is four because " + "two and two are four, " * 12 + "as is known."
    async with desk.store() as store:
        run = ToldRun(store, "told", "ask", kind="prompt")
        run.begins("ask")
        run.turn("ask", 1, [user("go")], [answer(text, "a.test")], cost=0.02, finish_reason="length")
        run.gives("ask", text)
        run.ends()
        await run.write()
    async with desk.app(run_id="told", size=size) as person:
        if size[0] < 100:
            await person.press("2", "z")
        await person.sees("It is four because", "as is known.", "sources", "[1] On a.test  https://a.test")
        assert await person.run.step_pane.whole_text() == text, "what is copied has no breaks of ours"
        person.run.step_pane.tab = "tries"
        await person.sees("1.2k", "$0.02")
        if size[0] > 120:
            await person.sees("length", "ended", "model")


async def test_it_is_ascii_where_the_terminal_has_no_more(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "ask", kind="prompt")
        run.begins("ask")
        run.turn("ask", 1, [user("go")], [answer("ok"), call("1")])
        run.called("ask", "1", "add", {"a": 2}, 4)
        await run.write()
        async with desk.app(run_id="told", size=(80, 24), settings=Settings(ascii=True)) as person:
            await look_at_transcript(person)
            await run.writes("ask", "more")
            await person.sees("> writing", "+ add(a=2)")
            assert person.text.isascii(), person.text


@pytest.mark.parametrize(
    "text",
    [
        "one two\nthree four five six",
        "x" * (3 * LONGEST_OPEN),
        "wörter " * 500 + "\n\nend",
        "words of one line " * 1_500 + "end",
        "wörter einer zeile " * 1_500 + "end",
    ],
)
def test_a_text_that_grows_is_broken_as_if_it_came_at_once(text: str) -> None:
    grown, at_once = GrowingLines(), GrowingLines()
    for end in range(0, len(text) + 1, max(1, len(text) // 50)):
        grown.show(text[:end], 20)
    grown.show(text, 20)
    at_once.show(text, 20)
    assert grown.lines == at_once.lines
    assert all(len(line) <= 20 for line in grown.lines)
    assert grown.lines == [line for part in text.split("\n") for line in broken_line(part, 20)], "no word is cut"
    grown.show("other", 20)
    assert grown.lines == ["other"]
