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
        ([{}], "needs `text` or `error`"),
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
