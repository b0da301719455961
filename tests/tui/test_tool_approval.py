"""A tool call that a person must allow: asked with its arguments, which can be changed; allowed, or denied."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from textual import events
from textual.widgets import TextArea
from told_runs import ToldRun
from tui_desk import Desk, Person

from stepchain_tui.core.settings import Settings
from stepchain_tui.executors.testing import use_executor
from stepchain_tui.executors.tool import BaseToolExecutor, ToolExecutorFactory
from stepchain_tui.executors.types import ApprovalNeeded
from stepchain_tui.run import events as e
from stepchain_tui.run.values import Kept
from stepchain_tui.store import Batch, LogLine
from stepchain_tui.tui.screens.by_hand import ValueEditor, written_json
from stepchain_tui.tui.screens.run_answers import EDIT_LIMIT
from stepchain_tui.tui.widgets.approval import ApprovalBar

SIZES = pytest.mark.parametrize("size", [(80, 24), (200, 60)])


class Asking(BaseToolExecutor):
    """A tool that is only called after somebody allowed it."""

    calls: ClassVar[list[Any]] = []

    async def _execute_tool(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        answer = ctx.call.answers.get("call_1")
        if answer is None:
            raise ApprovalNeeded("call_1", "files.delete", args)
        ctx.ports.tool_started(call_id="call_1", tool_name="files.delete", arguments=answer.arguments)
        self.calls.append(answer.arguments)
        return "gone"


@pytest.fixture(autouse=True)
def called() -> Iterator[list[Any]]:
    """Return the arguments of the calls that were really made."""
    Asking.calls = []
    with use_executor(ToolExecutorFactory, "standard", Asking):
        yield Asking.calls


def plan(args: str = "{path: a.txt, depth: 2}", more: str = "") -> str:
    return f"{more}steps:\n  - {{id: tidy, tool: python_code, args: {args}}}\n"


async def until_asked(person: Person) -> None:
    await person.press("s")
    await person.step_is("tidy", "waiting")
    await person.quiet()


async def editor(person: Person) -> TextArea:
    return (await person.opened(ValueEditor)).query_one(TextArea)


@SIZES
async def test_the_call_is_shown_with_its_arguments_and_allowed(
    desk: Desk, size: tuple[int, int], called: list[Any]
) -> None:
    async with desk.app(plan=desk.plan(plan()), size=size) as person:
        await until_asked(person)
        if size[0] < 100:
            await person.press("2")
        await person.sees("⏸ tidy wants to call files.delete", 'path="a.txt", depth=2', "a allow, change or deny")
        await person.press("a")
        area = await editor(person)
        assert json.loads(area.text) == {"path": "a.txt", "depth": 2}
        await person.sees("tidy wants to call files.delete", "allow [ctrl+s]", "deny [ctrl+n]", "leave [esc]")
        await person.press("escape")
        assert person.status("tidy") == "waiting", "to look is no answer"
        await person.press("a", "ctrl+s")
        await person.run_has_ended("succeeded")
        assert called == [{"path": "a.txt", "depth": 2}]
        assert not person.run.query_one(ApprovalBar).display


async def test_arguments_are_changed_and_wrong_json_is_told_without_an_answer(desk: Desk, called: list[Any]) -> None:
    async with desk.app(plan=desk.plan(plan())) as person:
        await until_asked(person)
        await person.press("a")
        area = await editor(person)
        area.text = '{"path": b.txt}'
        await person.press("ctrl+s")
        await person.sees("this is no JSON: line 1, column 10")
        area.text = '["b.txt"]'
        await person.press("ctrl+s")
        await person.sees("the arguments of a tool call are a mapping of names to values", '["b.txt"]')
        assert person.app.is_asking
        assert called == []
        (await editor(person)).text = '{"path": "b.txt"}'
        await person.press("ctrl+s")
        await person.run_has_ended("succeeded")
        assert called == [{"path": "b.txt"}]


async def test_what_is_typed_right_before_the_key_counts_and_a_problem_is_told_whole_until_it_is_mended(
    desk: Desk, called: list[Any]
) -> None:
    more = ", ".join(f"word{place}: {'long ' * 8}" for place in range(12))
    async with desk.app(plan=desk.plan(plan(f"{{path: a.txt, {more}}}")), size=(80, 24)) as person:
        await until_asked(person)
        await person.press("a")
        area = await editor(person)
        area.text = '{"path": "b.txt"'
        area.move_cursor((0, len(area.text)))
        for place in range(12):
            area.insert(f',\n"word{place}": 1')
        await person.press("ctrl+s")
        await person.sees("this is no JSON: line 13, column", "delimiter", "allow [ctrl+s]")
        for key in ("}", "ctrl+s"):  # as a terminal sends what is typed fast: both are there at once
            person.app.post_message(events.Key(key, key if key == "}" else None))
        await person.until(lambda: called)
        await person.run_has_ended("succeeded")
        assert called[0]["path"] == "b.txt"


async def test_a_problem_is_no_longer_told_of_a_text_that_was_changed(desk: Desk, called: list[Any]) -> None:
    async with desk.app(plan=desk.plan(plan()), size=(80, 24)) as person:
        await until_asked(person)
        await person.press("a")
        area = await editor(person)
        area.text = "{"
        await person.press("ctrl+s")
        await person.sees("this is no JSON")
        await person.press("end", "}")
        assert "this is no JSON" not in person.text


@pytest.mark.parametrize("by_mouse", [False, True])
async def test_a_call_is_denied(desk: Desk, called: list[Any], by_mouse: bool) -> None:
    async with desk.app(plan=desk.plan(plan()), size=(200, 60)) as person:
        await until_asked(person)
        await person.press("a")
        if by_mouse:
            await person.pilot.click("#refuse")
        else:
            await person.press("ctrl+n")
        await person.run_has_ended("failed")
        assert called == []
        await person.sees("denied by")
        person.run.step_pane.tab = "tools"
        await person.quiet()
        await person.sees("✕ denied", "files.delete", 'path="a.txt", depth=2', "by user")


async def test_the_tab_of_tools_tells_what_was_asked_and_who_allowed_what(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(plan()), size=(200, 60)) as person:
        await until_asked(person)
        person.run.step_pane.tab = "tools"
        await person.quiet()
        await person.sees("⏸ waiting", "files.delete", "waiting for a person: a answers", '"depth": 2')
        await person.press("a")
        (await editor(person)).text = '{"path": "b.txt"}'
        await person.press("ctrl+s")
        await person.run_has_ended("succeeded")
        await person.sees("✓ succeeded", 'allowed, changed to path="b.txt"; by ')
        assert person.text.count("files.delete") == 1, "it is one call"
        await person.sees("with these arguments", '"path": "a.txt"', '"path": "b.txt"')


async def test_a_secret_is_not_shown_and_goes_along_where_it_is_left_alone(
    desk: Desk, called: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_TOKEN", "opensesame42")
    args = '{token: "{{ secrets.SHOP_TOKEN }}", path: a.txt}'
    async with desk.app(plan=desk.plan(plan(args, "secrets: [SHOP_TOKEN]\n"))) as person:
        await until_asked(person)
        await person.sees('token="[secret SHOP_TOKEN]"')
        await person.press("a")
        area = await editor(person)
        assert "opensesame42" not in area.text + person.text
        area.text = area.text.replace("a.txt", "b.txt")
        await person.press("ctrl+s")
        await person.run_has_ended("succeeded")
        assert called == [{"token": "opensesame42", "path": "b.txt"}]


async def test_many_arguments_scroll(desk: Desk, called: list[Any]) -> None:
    args = "{" + ", ".join(f"key_{n}: {n}" for n in range(100)) + "}"
    async with desk.app(plan=desk.plan(plan(args)), size=(80, 24)) as person:
        await until_asked(person)
        await person.press("a")
        await person.sees('"key_0": 0', "allow [ctrl+s]")
        assert "key_99" not in person.text
        await person.press(*["pagedown"] * 10)
        await person.sees('"key_99": 99', "allow [ctrl+s]")


@pytest.mark.parametrize("over", [False, True])
async def test_large_arguments_are_asked_for_all_the_same(desk: Desk, called: list[Any], over: bool) -> None:
    size = EDIT_LIMIT + 10 if over else 70_000
    text = '{text: "{{ inputs.text }}", path: a.txt}'
    body = plan(text, "inputs: {text: {type: text}}\n")
    async with desk.app(plan=desk.plan(body), inputs={"text": "x" * size}) as person:
        await until_asked(person)
        await person.sees("tidy wants to call", "bytes of arguments")
        await person.press("a")
        await person.sees("tidy wants to call files.delete", "xxxx")
        assert ("empty: keep the" in person.text) is over
        await person.press("ctrl+s")
        await person.run_has_ended("succeeded")
        assert called == [{"text": "x" * size, "path": "a.txt"}]


async def test_an_answer_that_came_too_late_is_told(desk: Desk, called: list[Any]) -> None:
    async with desk.app(plan=desk.plan(plan())) as person:
        await until_asked(person)
        run_id = person.session.run_id
        await person.press("a")
        await person.app.host.steer(run_id, "approve", {"step": "tidy", "approved": False})
        await person.press("ctrl+s")
        await person.sees("tidy wants to call", "waits for no answer")
        await person.press("escape")
        await person.run_has_ended("failed")


async def test_a_hostile_call_is_neither_markup_nor_obeyed_nor_hidden(desk: Desk) -> None:
    nasty = "\x1b[2J\x9b2J\x1b]0;owned\x07[bold]\u202eevil\u200b"
    async with desk.store() as store:
        run = ToldRun(store, "told", "tidy")
        run.begins("tidy")
        run.tell(e.ToolApprovalAsked, step_id="tidy", attempt=1, call_id="1", tool_name=nasty, arguments={nasty: nasty})
        kept = Kept({"tool": nasty, "arguments": {nasty: nasty}})
        run.tell(
            e.StepWaiting, step_id="tidy", reason="tool_approval", question=nasty, attempt=1, call_id="1", input=kept
        )
        await run.write()
        async with desk.app(run_id="told", size=(200, 60)) as person:
            await person.step_is("tidy", "waiting")
            await person.sees("wants to call", "[bold]")
            await person.press("a")
            area = await editor(person)
            assert json.loads(area.text) == {nasty: nasty}
            await person.sees("\\u202e", "\\u009b", "\\u200b", "[bold]")
            await person.press("escape")
            run.tell(e.ToolApprovalGiven, step_id="tidy", attempt=1, call_id="1", approved=False, by=nasty)
            await run.write()
            person.run.step_pane.tab = "tools"
            await person.sees("✕ denied", "by [bold]")
            assert not set("\x1b\x07\x9b\u202e\u200b") & set(person.text)


async def test_a_question_made_of_what_a_tool_gave_is_not_obeyed(desk: Desk) -> None:
    plan = """steps:
  - {id: said, shell: "printf '\\\\033[2J\\\\033]0;owned\\\\007[bold]evil\\nmore'"}
  - {id: gate, approve: "{{ steps.said.output.stdout }}", fields: {note: {type: text}}}
"""
    async with desk.app(plan=desk.plan(plan)) as person:
        await person.press("s")
        await person.step_is("gate", "waiting")
        await person.press("a")
        await person.sees("gate asks", "[bold]evil", "more")
        assert not set("\x1b\x07") & set(person.text)


def test_what_would_not_be_seen_is_written_out_and_means_the_same() -> None:
    value = {"a\u200b": ["\u202e", "\x9b", "é", "\n", 1.5]}
    text = written_json(value)
    assert json.loads(text) == value
    assert "é" in text
    assert not set("\u200b\u202e\x9b") & set(text)


async def test_everything_is_ascii_where_the_terminal_has_no_more(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(plan()), size=(80, 24), settings=Settings(ascii=True)) as person:
        await until_asked(person)
        await person.press("2")
        await person.sees("? tidy wants to call files.delete")
        assert person.text.isascii(), person.text
        await person.press("a")
        await person.sees("allow [ctrl+s]")
        assert person.text.isascii(), person.text


async def test_log_lines_of_a_server_are_marked(desk: Desk) -> None:
    async with desk.store() as store:
        run = ToldRun(store, "told", "tidy")
        run.begins("tidy")
        await run.write()
        at = run.state.last_at
        assert at is not None
        lines = [
            LogLine(step_id="tidy", attempt=1, n=n, at=at, stream=stream, text=text)
            for n, (stream, text) in enumerate((("stdout", "mine"), ("server", "theirs [b]x[/b]")), 1)
        ]
        store.commit(Batch(logs=[("told", line) for line in lines]))
        await store.flush()
    async with desk.app(run_id="told", size=(200, 60)) as person:
        person.run.step_pane.tab = "log"
        await person.sees(" server theirs [b]x[/b]", " mine")
        assert "server mine" not in person.text
