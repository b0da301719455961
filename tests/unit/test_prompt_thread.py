"""What of a conversation a provider is sent."""

from __future__ import annotations

from stepchain_tui.executors.prompt.items import wanted_in
from stepchain_tui.executors.prompt.questions import Thread

ASKED = {"role": "user", "content": "hi"}
THOUGHT = {"type": "reasoning", "encrypted_content": "sealed"}
ANSWERED = {"type": "message", "content": []}


def conversation() -> Thread:
    thread = Thread()
    thread.add([ASKED])
    thread.answered([THOUGHT, ANSWERED], "resp_1", "api.example.com")
    thread.add([ASKED])
    return thread


def test_who_gave_the_last_answer_is_told_its_id_and_where_what_is_new_begins() -> None:
    sent = conversation().sent_to("api.example.com")
    assert (sent["previous_response_id"], sent["new_from"]) == ("resp_1", 3)
    assert sent["items"] == (ASKED, THOUGHT, ANSWERED, ASKED)


def test_another_provider_gets_the_conversation_without_what_the_first_ones_model_thought() -> None:
    assert conversation().sent_to("other.example.com") == {"items": (ASKED, ANSWERED, ASKED)}


def test_a_first_question_is_sent_as_it_is() -> None:
    thread = Thread()
    thread.add([ASKED])
    assert thread.sent_to("api.example.com") == {"items": (ASKED,)}


def test_a_name_that_is_too_long_is_not_cut_so_that_no_beginning_of_a_secret_shows() -> None:
    secret = "sk-proj-" + "x" * 300
    item = {"type": "function_call", "call_id": secret, "name": secret, "arguments": "{}"}
    (wanted,) = wanted_in([item], 1, set())
    assert (wanted.name, wanted.call_id) == ("name_of_308_characters", "call_1_0")
