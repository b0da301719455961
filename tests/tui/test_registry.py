"""One registry of actions: bindings, menus, footer, remapping and docs all follow from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.binding import Binding
from tui_desk import Desk

from stepchain_tui.core.settings import Settings
from stepchain_tui.tui.actions import ACTIONS, Scope, footer_actions, in_scopes, keys_document
from stepchain_tui.tui.app import StepChainApp
from stepchain_tui.tui.screens.dialogs import KeysMenu
from stepchain_tui.tui.screens.editor import EditorScreen
from stepchain_tui.tui.screens.history import HistoryScreen
from stepchain_tui.tui.screens.home import HomeScreen
from stepchain_tui.tui.screens.run import RunScreen
from stepchain_tui.tui.screens.run_editor import RunEditorScreen
from stepchain_tui.tui.screens.tools import ToolsScreen
from stepchain_tui.tui.widgets.graph_view import GraphView
from stepchain_tui.tui.widgets.lines import ActionFooter

PLAN = "steps:\n  - {id: hello, shell: 'echo hello'}\n  - {id: bye, shell: 'echo bye', dependencies: [hello]}\n"
FORBIDDEN = {"ctrl+h", "ctrl+m", "ctrl+i", "ctrl+j", "ctrl+left_square_bracket", "alt+up", "alt+down", "alt+left"}
OWNERS = {
    Scope.RUN: (RunScreen,),
    Scope.HOME: (HomeScreen,),
    Scope.HISTORY: (HistoryScreen,),
    Scope.EDITOR: (EditorScreen, RunEditorScreen),
    Scope.TOOLS: (ToolsScreen,),
}


def test_the_docs_of_keys_are_made_from_the_registry() -> None:
    path = Path(__file__).parents[2] / "docs" / "keys.md"
    assert path.read_text() == keys_document(), "run `python -m stepchain_tui.tui.actions > docs/keys.md`"


@pytest.mark.parametrize("action_id", ACTIONS)
def test_every_action_is_carried_out_by_somebody(action_id: str) -> None:
    action = ACTIONS[action_id]
    if not action.own:
        owners = (*OWNERS.get(action.scope, ()), StepChainApp)
        assert any(hasattr(owner, action.method) for owner in owners)


def test_no_key_that_terminals_confuse_is_used() -> None:
    for action in ACTIONS.values():
        assert not set(action.keys.split(",")) & FORBIDDEN


def test_no_two_actions_of_a_screen_share_a_key() -> None:
    for scopes in (HomeScreen.SCOPES, HistoryScreen.SCOPES, ToolsScreen.SCOPES, (Scope.RUN, Scope.APP)):
        keys = [key for action in in_scopes(scopes) for key in action.keys.split(",")]
        assert len(keys) == len(set(keys))


def test_the_graphs_own_keys_are_those_of_the_registry() -> None:
    own = {binding.id: (binding.key, binding.action) for binding in GraphView.BINDINGS if isinstance(binding, Binding)}
    assert own == {action.id: (action.keys, action.own) for action in in_scopes([Scope.GRAPH])}


def test_the_footer_shows_the_most_useful_first() -> None:
    labels = [action.label for action in footer_actions(RunScreen.SCOPES)]
    assert labels[:3] == ["start", "pause", "answer"]


async def test_an_action_is_remapped_by_its_id(desk: Desk) -> None:
    settings = Settings(keymap={"run.start": "ctrl+g", "no.such": "x"})
    async with desk.app(plan=desk.plan(PLAN), settings=settings) as person:
        assert "no.such" in person.toasts
        assert person.run.query_one(ActionFooter).text.startswith("ctrl+g start")
        await person.press("s")
        assert not person.session.run_id
        await person.press("ctrl+g")
        await person.run_is("succeeded")


async def test_two_actions_on_one_key_are_told_once(desk: Desk) -> None:
    settings = Settings(keymap={"run.start": "p"})
    async with desk.app(plan=desk.plan(PLAN), settings=settings) as person:
        assert person.toasts.count("Two actions share a key") == 1
        assert "p: run.start and run.pause" in person.toasts


async def test_the_keys_menu_says_why_and_runs_what_is_chosen(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await person.press("question_mark")
        assert isinstance(person.app.screen, KeysMenu)
        await person.sees("Start the plan", "(nothing runs yet: s starts)")
        await person.press("enter")
        await person.run_is("succeeded")
        await person.press("question_mark")
        menu = person.app.screen
        menu.query_one("OptionList").highlighted = [  # type: ignore[attr-defined]
            option.id
            for option in menu.query_one("OptionList").options  # type: ignore[attr-defined]
        ].index("graph.up")
        await person.press("enter")
        await person.until(lambda: person.session.selected == "hello")


async def test_the_palette_finds_and_runs_an_action(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await person.press("ctrl+p")
        await person.sees("What to do")
        await person.type("run: start")
        await person.sees("Start the plan")
        await person.press("down", "enter")
        await person.until(lambda: isinstance(person.app.screen, RunScreen))
        await person.run_is("succeeded")


async def test_a_disabled_action_in_the_menu_is_dim_and_says_why_when_chosen(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        await person.app.carry_out("step.try_now")
        await person.pilot.pause()
        assert "nothing runs yet" in person.toasts
