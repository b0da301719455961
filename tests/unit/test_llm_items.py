"""The items of an answer, as they are kept and go back with the next question."""

from __future__ import annotations

from datetime import date

from stepchain_tui.llm.openai_answer import calls_of, items_of
from stepchain_tui.llm.openai_stream import Pieces


def call(**fields: object) -> dict[str, object]:
    return {"type": "function_call", "name": "add", "arguments": "{}", **fields}


def test_an_id_that_is_made_is_none_that_another_call_has() -> None:
    items = [call(call_id="call_1"), call(), call(call_id="call_2"), call(call_id="call_1"), call(call_id="call_3")]
    ids = [one.call_id for one in calls_of(items_of(items))]
    assert len(set(ids)) == 5
    assert [ids[0], ids[2], ids[4]] == ["call_1", "call_2", "call_3"], "those that are given stay"


def test_ids_that_only_halves_of_characters_told_apart_are_told_apart_still() -> None:
    ids = [one.call_id for one in calls_of(items_of([call(call_id="c\ud800"), call(call_id="c\ud801")]))]
    assert ids[0] == "c?"
    assert len(set(ids)) == 2


def test_arguments_that_json_has_no_form_for_are_text() -> None:
    [one] = calls_of(items_of([call(arguments={"day": date(2026, 11, 20), "number": 2**70})]))
    assert one.arguments == '{"day": "2026-11-20", "number": "1180591620717411303424"}'


def test_pieces_of_text_are_joined_at_characters() -> None:
    pieces = Pieces()
    said = [pieces.take(piece) for piece in ("a", "\ud83d", "\ude00b\ud83d", "c", "\ud83d\ud83d", "\ude00", "é\ud800")]
    assert "".join(said) + pieces.rest() == "a😀b?c?😀é?"
    assert pieces.rest() == ""
