"""Tokens and money in the header, the question at a budget, and a tool that is allowed for the whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.widgets import Input
from told_runs import ToldRun
from tui_desk import Desk, Person

from stepchain_tui.run import events as e
from stepchain_tui.run.values import Kept
from stepchain_tui.tui.screens.budget import BudgetScreen
from stepchain_tui.tui.screens.by_hand import ValueEditor
from stepchain_tui.tui.tool_origins import origin_of

SIZES = pytest.mark.parametrize("size", [(80, 24), (200, 60)])
OVER_BUDGET = """goal: spend
budget: {tokens: 100}
steps:
  - {id: one, prompt: a, model: scripted, replies: [{text: first, usage: {input_tokens: 60, output_tokens: 30}}]}
  - id: two
    prompt: "{{ steps.one.output }}"
    model: scripted
    max_output_tokens: 50
    replies: [{text: second, usage: {input_tokens: 60, output_tokens: 30}}]
"""
ADDS = """steps:
  - id: ask
    prompt: add
    model: scripted
    tools: ["./own_tools.py:add"]
    require_approval: always
    replies:
      - {calls: [{name: add, arguments: {a: 1, b: 2}}]}
      - {calls: [{name: add, arguments: {a: 3, b: 4}}]}
      - done
"""


async def until_it_waits(person: Person, step_id: str) -> None:
    await person.press("s")
    await person.step_is(step_id, "waiting")
    await person.quiet()


@SIZES
async def test_a_budget_that_is_reached_asks_and_more_of_it_lets_the_run_go_on(
    desk: Desk, size: tuple[int, int]
) -> None:
    async with desk.app(plan=desk.plan(OVER_BUDGET), size=size) as person:
        await until_it_waits(person, "two")
        await person.sees("90 of 100 tok", "$0")
        if size[0] > 120:
            await person.sees("▓▓▓▓▓▓▓▓▓░ 90%", "two waits at a budget", "a top up, lift it, or stop")
        await person.press("a")
        screen = await person.opened(BudgetScreen)
        await person.sees("has used 90 of 100 tokens", "90 of 100 by now (90%)", "top up [ctrl+s]", "no limit [ctrl+f]")
        assert "other model" not in person.text, "a scripted model has no cheaper one"
        amount = screen.query_one("#amount", Input)
        assert int(amount.value) >= 51, "what is asked for is enough"
        amount.value = ""
        for key in ("x", "y", "ctrl+s"):  # as a terminal sends what is typed fast: all are there at once
            person.app.post_message(events.Key(key, key if len(key) == 1 else None))
        await person.sees("a number above 0, not 'xy'")
        amount.value = "500"
        await person.press("enter")
        await person.run_has_ended()
        await person.sees("180 of 600 tok")
        person.run.select_step("two")
        person.run.step_pane.tab = "transcript"
        await person.sees('action="top_up", tokens=500')


@pytest.mark.parametrize(("key", "status"), [("ctrl+f", "succeeded"), ("ctrl+x", "paused")])
async def test_a_run_goes_on_without_its_budget_or_stops_there(desk: Desk, key: str, status: str) -> None:
    async with desk.app(plan=desk.plan(OVER_BUDGET)) as person:
        await until_it_waits(person, "two")
        await person.press("a")
        await person.opened(BudgetScreen)
        await person.press("escape")
        assert person.status("two") == "waiting", "to look is no answer"
        await person.press("a", key)
        await person.run_is(status)
        if status == "succeeded":
            assert "of 100 tok" not in person.text


async def test_a_cheaper_model_is_chosen_by_its_price_and_a_refusal_is_told(desk: Desk) -> None:
    fields = {
        "action": {"type": "choice", "choices": ["top_up", "cheaper_model", "finish", "stop"]},
        "usd": {"type": "number", "default": 0.5},
        "model": {"type": "text", "default": ""},
    }
    models = [{"model": "[b]small", "input": 0.1, "output": 0.4}, {"model": "mid", "input": 1.0, "output": 4.0}]
    facts = {"unit": "usd", "limit": 0.5, "spent": 0.49, "needed": 0.02, "model": "big", "models": models}
    async with desk.store() as store:
        run = ToldRun(store, "told", "ask", kind="prompt")
        run.begins("ask")
        run.turn("ask", 1, [], [], cost=0.49)
        run.turn("ask", 2, [], [], input_tokens=None, output_tokens=None)
        run.tell(
            e.StepWaiting, step_id="ask", reason="budget", question="$0.49 of $0.50 \x1b[2J", attempt=1, fields=fields,
            input=Kept(facts),
        )  # fmt: skip
        await run.write()
    async with desk.app(run_id="told", size=(200, 60)) as person:
        await person.step_is("ask", "waiting")
        await person.sees("1.2k+? tok", "$0.49+?")
        sent: list[Any] = []

        async def steer(run_id: str, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
            sent.append(arguments["fields"])
            return {}

        person.app.host.steer = steer  # type: ignore[method-assign]
        await person.press("a")
        await person.opened(BudgetScreen)
        await person.sees("[b]small  $0.10 in, $0.40 out per million", "$0.49 of $0.50 by now (98%)", "add dollars")
        assert "\x1b" not in person.text
        await person.press("ctrl+o")
        assert sent == [{"action": "cheaper_model", "model": "[b]small"}]


async def test_a_plan_tells_before_its_start_what_it_will_take_and_a_receipt_what_is_not_spent_again(
    desk: Desk,
) -> None:
    plan = desk.plan(OVER_BUDGET.replace("{tokens: 100}", "{tokens: 170}"))
    async with desk.app(plan=plan) as person:
        await person.press("s")
        await person.step_is("two", "waiting", "succeeded")
        await person.press("a", "ctrl+f")
        await person.run_has_ended()
        person.run.select_step("two")
        await person.press("R")
        await person.sees("reuse 1 (saves", "90 tok", "about 90 tok", "spends")
        await person.press("escape")
    async with desk.app(plan=plan, in_process=False) as person:
        await person.sees("forecast", "a run takes about 180 tokens, $0, by 1 earlier run", "170")
        await person.press("s")
        await person.until(lambda: "forecast" not in person.text)


async def test_a_tool_is_allowed_for_the_rest_of_the_run(desk: Desk) -> None:
    desk.plan("def add(a: int, b: int) -> int:\n    '''Add.'''\n    return a + b\n", "own_tools.py")
    async with desk.app(plan=desk.plan(ADDS)) as person:
        await until_it_waits(person, "ask")
        await person.press("a")
        await person.opened(ValueEditor)
        await person.sees("The function ./own_tools.py:add", "the model is told", "for this run [ctrl+r]")
        await person.press("ctrl+r")
        await person.run_has_ended()
        person.run.step_pane.tab = "transcript"
        await person.sees("add(a=1, b=2)", "add(a=3, b=4)", "allowed by")
        assert person.text.count("allowed by") == 1, "the second call was not asked for"


async def test_a_denied_call_is_told_to_the_model_which_goes_on(desk: Desk) -> None:
    desk.plan("def add(a: int, b: int) -> int:\n    '''Add.'''\n    return a + b\n", "own_tools.py")
    async with desk.app(plan=desk.plan(ADDS)) as person:
        await until_it_waits(person, "ask")
        await person.press("a", "ctrl+n")
        await person.until(lambda: (waiting := person.session.steps["ask"].waiting) is not None and "3" in str(waiting))
        await person.press("a", "ctrl+s")
        await person.run_has_ended()
        person.run.step_pane.tab = "transcript"
        await person.sees("✕ add(a=1, b=2)  denied", "✓ add(a=3, b=4)")


def test_where_a_tool_comes_from_is_told(tmp_path: Path) -> None:
    plan = {
        "mcp_servers": {"files": {"command": "x"}},
        "tools": {"short": {"function": "./a.py:long"}},
        "steps": [{"id": "ask", "prompt": "x", "tools": ["./b.py:add", "files", "short", "web_search", "python_code"]}],
    }
    wanted = {
        "add": "the function ./b.py:add",
        "files.read": "a tool of the MCP server files",
        "short": "the function ./a.py:long",
        "web_search": "a tool that the model's provider carries out",
        "python_code": "a tool of StepChain",
        "other": "",
    }
    assert {name: origin_of(plan, "ask", name) for name in wanted} == wanted
    assert origin_of({"steps": 3}, "ask", "add") == ""
