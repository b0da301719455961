"""The scripted model: replies by try, streamed word by word."""

from __future__ import annotations

import pytest

from stepchain_tui.llm import ModelRequest, ScriptedModel
from stepchain_tui.run import AttemptError, ErrorType


async def ask(replies, attempt=1):
    pieces: list[str] = []
    answer = await ScriptedModel(replies).answer(ModelRequest.of_text("?", attempt=attempt), pieces.append)
    return answer, pieces


async def test_each_try_gets_its_reply_and_the_last_one_repeats():
    texts = [(await ask(["one", "two"], attempt))[0].text for attempt in (1, 2, 3, 9)]
    assert texts == ["one", "two", "two", "two"]


async def test_it_streams_word_by_word_and_loses_no_blank():
    text = "  Two words,\n\nand  more "
    answer, pieces = await ask([text])
    assert answer.text == text
    assert "".join(pieces) == text
    assert len(pieces) == 4


async def test_it_is_labelled_as_scripted():
    answer, _ = await ask(["hello"])
    assert answer.model == "scripted"
    assert answer.response_id.startswith("scripted")


async def test_usage_is_what_the_reply_says_and_else_unknown():
    answer, _ = await ask([{"text": "x", "usage": {"input_tokens": 3, "output_tokens": 5}}])
    assert (answer.input_tokens, answer.output_tokens) == (3, 5)
    answer, _ = await ask(["x"])
    assert (answer.input_tokens, answer.output_tokens) == (None, None)


async def test_a_reply_can_be_an_error_of_any_class():
    for error_type in ErrorType:
        with pytest.raises(AttemptError) as caught:
            await ask([{"error": {"type": str(error_type), "message": "slow down", "retry_after": 0.5}}])
        assert caught.value.error_type is error_type
        assert caught.value.retry_after == 0.5
        assert str(caught.value) == "slow down"


async def test_an_error_then_text_is_a_failure_and_then_a_success():
    replies = [{"error": "rate_limit"}, "done"]
    with pytest.raises(AttemptError):
        await ask(replies, attempt=1)
    assert (await ask(replies, attempt=2))[0].text == "done"


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        ([], "needs `replies`"),
        ([{"txt": "x"}], "unknown key 'txt'"),
        ([{}], "needs `text`, `calls`, `refusal` or `error`"),
        ([{"text": "x", "usage": {"input_token": 3}}], "usage: unknown key 'input_token'"),
        ([{"text": "x", "usage": {"input_tokens": "3"}}], "usage.input_tokens: not a number of tokens"),
        ([{"calls": {"name": "add"}}], "calls: not a list of mappings"),
        ([{"calls": [{"arguments": {}}]}], r"calls\[0\]: needs the `name` of a tool"),
        ([{"calls": [{"name": "add", "args": {}}]}], r"calls\[0\]: unknown key 'args'"),
        ([{"calls": [{"name": "add", "arguments": [1]}]}], r"calls\[0\]\.arguments: neither a mapping nor text"),
        ([{"text": "x", "citations": ["https://x"]}], "citations: not a list of mappings"),
        ([{"refusal": 5}], "refusal: not a text"),
        ([["x"]], "neither text nor a mapping"),
        ([{"error": {"type": "rate_limt"}}], "unknown type 'rate_limt'"),
        ([{"text": "x", "delay": "long"}], "not a number of seconds"),
        ([{"text": "x", "usage": 3}], "not a mapping"),
    ],
)
async def test_a_reply_that_cannot_be_meant_says_which_and_why(replies, words):
    with pytest.raises(AttemptError, match=words) as caught:
        await ask(replies)
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert caught.value.hint


async def turn_of(replies, turn=1, attempt=1):
    request = ModelRequest.of_text("?", attempt=attempt, turn=turn)
    return await ScriptedModel(replies).answer(request, lambda text: None)


CALL = {"calls": [{"name": "add", "arguments": {"a": 1}}]}


async def test_each_turn_of_a_conversation_gets_the_next_reply():
    answers = [await turn_of([CALL, "three"], turn) for turn in (1, 2, 3)]
    assert [answer.finish_reason for answer in answers] == ["tool_calls", "stop", "stop"]
    assert [answer.text for answer in answers] == ["", "three", "three"]


async def test_a_conversation_that_goes_on_after_a_failed_try_gets_the_reply_after_the_error():
    replies = [CALL, {"error": "server_error"}, "done"]
    assert (await turn_of(replies, turn=1)).calls
    with pytest.raises(AttemptError):
        await turn_of(replies, turn=2)
    assert (await turn_of(replies, turn=2, attempt=2)).text == "done"


async def test_calls_have_ids_of_their_own_in_each_turn_and_their_items_go_back():
    twice = {
        "text": "Let me see.",
        "calls": [{"name": "add", "arguments": {"a": "ä"}}, {"name": "b", "arguments": "{"}],
    }
    first, second = await turn_of([twice], 1), await turn_of([twice], 2)
    assert [(call.name, call.arguments) for call in first.calls] == [("add", '{"a": "ä"}'), ("b", "{")]
    assert len({call.call_id for call in (*first.calls, *second.calls)}) == 4
    assert [item["type"] for item in first.items] == ["message", "function_call", "function_call"]
    assert first.text == "Let me see."


async def test_a_reply_can_cite_reason_and_refuse():
    thoughts: list[str] = []
    reply = {"text": "It is so.", "citations": [{"title": "A page", "url": "https://x"}], "reasoning": "Hm."}
    answer = await ScriptedModel([reply]).answer(ModelRequest.of_text("?"), lambda text: None, thoughts.append)
    assert [(one.title, one.url) for one in answer.citations] == [("A page", "https://x")]
    assert thoughts == ["Hm."]
    refused = await turn_of([{"refusal": "I will not."}])
    assert (refused.text, refused.refused, refused.finish_reason) == ("I will not.", True, "refusal")


async def test_usage_can_say_what_was_cached_and_reasoned():
    usage = {"input_tokens": 9, "output_tokens": 5, "cached_tokens": 4, "reasoning_tokens": 3}
    answer = await turn_of([{"text": "x", "usage": usage}])
    assert (answer.cached_tokens, answer.reasoning_tokens) == (4, 3)
