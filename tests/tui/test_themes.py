"""Themes: ours and the user's, chosen with a preview, and kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from tui_desk import Desk

from stepchain_tui.core import paths
from stepchain_tui.core.settings import Settings
from stepchain_tui.tui.themes import DEFAULT_THEME, STATUS_DEFAULTS, load_themes, theme_of

PLAN = "steps:\n  - {id: hello, shell: 'echo hello'}\n"


def test_our_theme_is_a_file_that_names_every_status() -> None:
    found = load_themes([paths.shipped_folder("themes")])
    assert not found.problems
    assert set(found.themes[DEFAULT_THEME].variables) == set(STATUS_DEFAULTS)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"colours": {}}, "unknown key 'colours'"),
        ({"colors": {"primary": "blurple"}}, "'blurple' is no colour"),
        ({"colors": {"main": "red"}}, "unknown colour 'main'"),
        ({"variables": {"status-failed": "nope"}}, "'nope' is no colour"),
        ({"dark": False}, "needs 'primary'"),
    ],
)
def test_a_bad_theme_is_refused_with_the_reason(data: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        theme_of(data, "mine")


async def test_every_theme_gives_statuses_a_colour(desk: Desk) -> None:
    async with desk.app(plan=desk.plan(PLAN)) as person:
        for name in person.app.available_themes:
            person.app.theme = name
            await person.quiet()
        assert not person.toasts


async def test_a_theme_is_previewed_taken_or_left_and_kept(desk: Desk) -> None:
    plan = desk.plan(PLAN)
    async with desk.app(plan=plan) as person:
        await person.press("ctrl+t", "home")
        first = person.app.theme
        assert first != DEFAULT_THEME
        await person.press("escape")
        assert person.app.theme == DEFAULT_THEME
        await person.press("ctrl+t", "home", "enter")
        assert person.app.theme == first
        await person.quiet()
    async with desk.app(plan=plan) as person:
        assert person.app.theme == first


async def test_the_users_themes_are_found_and_bad_ones_told_once(desk: Desk) -> None:
    folder = paths.data_folder() / "themes"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text("[colors]\nprimary = '#123456'\n")
    (folder / "bad.toml").write_text("[colors]\nprimary = 'blurple'\n")
    (folder / "worse.toml").write_text("not toml at all")
    async with desk.app(plan=desk.plan(PLAN), settings=Settings(theme="mine")) as person:
        assert person.app.theme == "mine"
        assert "bad.toml: 'blurple' is no colour" in person.toasts
        assert "worse.toml" in person.toasts
        assert len(person.told) == 1


def test_the_state_survives_a_broken_file(tmp_path: Path) -> None:
    from stepchain_tui.tui.state import AppState, load_state, save_state

    path = tmp_path / "deep" / "app.json"
    assert load_state(path) == AppState()
    save_state(path, AppState(theme="nord", split_x=30))
    assert load_state(path) == AppState(theme="nord", split_x=30)
    path.write_text("{broken")
    assert load_state(path) == AppState()
