"""What the command line prints of what tools say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepchain_tui.cli.manual import manual
from stepchain_tui.cli.text import clean_block, clean_line, safe_json, table, to_type
from stepchain_tui.core.values import encode_json
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


@given(st.text())
def test_json_for_a_terminal_is_the_same_value_without_a_control_character(text: str) -> None:
    safe = safe_json(encode_json([text]))

    assert json.loads(safe) == [text]
    assert not [character for character in safe.decode() if ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0]


def test_what_is_to_be_typed_can_be_typed() -> None:
    assert to_type(None, "resume", "r1") == "stepchain resume r1"
    assert to_type("my runs.db", "show", "r1") == "stepchain show r1 --store 'my runs.db'"


def test_columns_of_a_table_are_aligned() -> None:
    assert table([("a", "bb", "c"), ("aaa", "b", "")]) == ["a    bb  c", "aaa  b"]


def test_the_page_about_the_command_line_is_made_from_the_commands() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == manual(), "run: python -m stepchain_tui.cli.manual > docs/cli.md"
