"""What the command line prints of what tools say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepchain_tui.cli.manual import manual
from stepchain_tui.cli.text import clean_block, clean_line, table
from tests.support.command_line import ROOT

EVIL = st.text(st.sampled_from("\x1b[]0;m\x07\x9b\\PX^_?31mJhK \r\x08\x7f\u202eab\n\t"))


@given(EVIL)
def test_no_text_can_drive_a_terminal(text: str) -> None:
    for cleaned in (clean_block(text), clean_line(text)):
        assert not [character for character in cleaned if not (character.isprintable() or character in "\n\t")]
    assert "\n" not in clean_line(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("plain ünïcode ✓", "plain ünïcode ✓"),
        ("a\nb", "a\nb"),
        ("nul\x00", "nul␀"),
    ],
)
def test_colours_go_and_controls_are_seen(text: str, shown: str) -> None:
    assert clean_block(text) == shown


def test_columns_of_a_table_are_aligned() -> None:
    assert table([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]


def test_the_page_about_the_command_line_is_made_from_the_commands() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == manual(), "run: python -m stepchain_tui.cli.manual > docs/cli.md"
