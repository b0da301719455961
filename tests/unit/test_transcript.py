"""What was said and done with a model, as it is told from events: over turns, tries, approvals, hand-offs and items."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from stepchain_tui.run import events as e
from stepchain_tui.run.failures import Failure
from stepchain_tui.run.spending import dollars, spent
from stepchain_tui.run.status import AttemptStatus, ErrorType
from stepchain_tui.run.step_state import Usage
from stepchain_tui.run.transcript import Transcript, large_values, transcript, with_values
from stepchain_tui.run.transcript_entries import Answered, Began, Called, Ended, HandedOver, Said, Waited
from stepchain_tui.run.transcript_items import read_items
from stepchain_tui.run.values import BlobReference, Kept
from stepchain_tui.tui.glyphs import ASCII, UNICODE
from stepchain_tui.tui.transcript_lines import MOST_RESULT, paragraphs

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
RATE_LIMIT = Failure(error_type=ErrorType.RATE_LIMIT, message="slow down", hint="Wait.")


class Told:
    """Events of a step `ask`, one a second."""

    def __init__(self) -> None:
        self.events: list[e.Event] = []

    def tell(self, kind: type[Any], **fields: Any) -> None:
        seq = len(self.events) + 1
        at = START + timedelta(seconds=seq)
        where = {"step_id": "ask", "attempt": 1} if "attempt" in kind.__struct_fields__ else {"step_id": "ask"}
        self.events.append(kind(seq=seq, run_id="run", at=at, **{**where, **fields}))

    def begins(self, attempt: int = 1, **fields: Any) -> None:
        asked = Kept({"prompt": "How much is 2 + 2?", "system": "Be brief."})
        self.tell(e.StepStarted, attempt=attempt, **{"input": asked, **fields})

    def turn(self, turn: int, sent: list[Any], output: list[Any] | None, **fields: Any) -> None:
        told = {"model": "m", "turn": turn, "input_tokens": 10, "output_tokens": 5, "finish_reason": "stop"}
        kept = None if output is None else Kept(output)
        self.tell(e.ModelTurn, **{**told, "sent": Kept(sent), "output": kept, **fields})

    def finished(self, call_id: str, result: Any = None, error: Failure | None = None, **fields: Any) -> None:
        kept = None if error else Kept(result)
        told = {"tool_name": "add", "execution_time": 0.25, "call_id": call_id, "result": kept, "error": error}
        self.tell(e.ToolFinished, **{**told, **fields})

    @property
    def entries(self) -> list[Any]:
        return list(transcript(self.events, "ask"))

    @property
    def text(self) -> str:
        lines = [line for entry in self.entries for line in paragraphs(entry, UNICODE)]
        return "\n".join(f"{' ' * line.indent}{line.text}" for line in lines)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, **more}
    return {"type": "message", "role": "assistant", "content": [part]}


def call(call_id: str, arguments: str = '{"a": 2}', name: str = "add") -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def said(entries: list[Any]) -> list[tuple[str, str]]:
    return [(one.role, one.text) for one in entries if isinstance(one, Said)]


def test_a_question_stands_there_before_anybody_answered_and_only_once() -> None:
    told = Told()
    told.begins()
    assert said(told.entries) == [("system", "Be brief."), ("user", "How much is 2 + 2?")]
    told.turn(1, [user("Earlier: 1\n\nHow much is 2 + 2?")], [answer("4")])
    assert said(told.entries) == [
        ("system", "Be brief."),
        ("user", "Earlier: 1\n\nHow much is 2 + 2?"),
        ("assistant", "4"),
    ]


def test_parallel_calls_have_their_arguments_results_errors_and_times() -> None:
    told = Told()
    told.begins()
    reasoning = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "I add."}]}
    told.turn(1, [user("go")], [reasoning, call("1"), call("2", '{"a": "x"}')], finish_reason="tool_calls")
    assert [one.status for one in told.entries if isinstance(one, Called)] == ["asked", "asked"]
    told.tell(e.ToolStarted, call_id="1", tool_name="math.add", arguments={"a": 2})
    told.tell(e.ToolStarted, call_id="2", tool_name="math.add", arguments={"a": "x"})
    told.finished("2", error=Failure(error_type=ErrorType.TOOL_ERROR, message="no number"), tool_name="math.add")
    told.finished("1", {"sum": 4}, tool_name="math.add", arguments={"a": 2})
    results = [
        {"type": "function_call_output", "call_id": "1", "output": '{"sum": 4}'},
        {"type": "function_call_output", "call_id": "2", "output": "no number"},
    ]
    told.turn(2, results, [answer("4")])
    first, second = (one for one in told.entries if isinstance(one, Called))
    assert (first.status, first.result, first.tool_name) == ("succeeded", {"sum": 4}, "math.add")
    assert (second.status, second.error.message if second.error else "") == ("failed", "no number")
    assert ("reasoning", "I add.") in said(told.entries)
    assert "✓ math.add(a=2)  250ms" in told.text
    assert '✕ math.add(a="x")  failed  250ms' in told.text
    assert "tool error: no number" in told.text
    assert "function_call_output" not in told.text


def test_a_call_with_wrong_arguments_tells_what_the_model_was_told() -> None:
    told = Told()
    told.begins()
    told.turn(1, [user("go")], [call("1", "{broken")])
    told.turn(2, [{"type": "function_call_output", "call_id": "1", "output": "that is no JSON"}], [answer("sorry")])
    (found,) = (one for one in told.entries if isinstance(one, Called))
    assert (found.status, found.told, found.arguments) == ("failed", "that is no JSON", "{broken")


def test_an_approval_is_told_with_who_gave_it_and_what_they_changed() -> None:
    told = Told()
    told.begins()
    told.turn(1, [user("go")], [call("1"), call("2")])
    told.tell(e.ToolApprovalAsked, call_id="1#ab12", tool_name="add", arguments={"a": 2})
    assert "⏸ add(a=2)  waiting" in told.text
    changed = Kept({"tool": "add", "arguments": {"a": 3}})
    told.tell(e.ToolApprovalGiven, call_id="1#ab12", approved=True, by="ada", arguments=changed)
    told.tell(e.ToolApprovalAsked, call_id="2", tool_name="add", arguments={"a": 2})
    told.tell(e.ToolApprovalGiven, call_id="2", approved=False, by="bob")
    told.tell(e.StepInterrupted, reason="goes on: denied by bob")
    told.begins(2)
    assert [one.goes_on for one in told.entries if isinstance(one, Began)] == [False, True]
    told.finished("1", 5, attempt=2, arguments={"a": 3})
    denied = Failure(error_type=ErrorType.USER_ERROR, message="denied by bob", exception="DeniedError")
    told.finished("2", error=denied, attempt=2)
    told.turn(2, [], [answer("5")], attempt=2)
    first, second = (one for one in told.entries if isinstance(one, Called))
    assert (first.status, first.answered_by, first.changed) == ("succeeded", "ada", {"a": 3})
    assert (second.status, second.answered_by) == ("denied", "bob")
    assert "allowed by ada with a=3" in told.text
    assert said(told.entries).count(("user", "go")) == 1, "the conversation goes on"


def test_a_retry_in_between_is_told_and_the_question_is_not_repeated() -> None:
    told = Told()
    told.begins()
    at = START + timedelta(seconds=9)
    told.tell(
        e.StepRetryScheduled, status=AttemptStatus.FAILED, error=RATE_LIMIT, delay=4.0, retry_at=at, reason="rate limit"
    )
    told.begins(2, tries=2, max_attempts=3)
    told.turn(1, [user("How much is 2 + 2?")], [answer("4")], attempt=2)
    told.tell(e.StepSucceeded, attempt=2, output=Kept("4"))
    assert [one.status for one in told.entries if isinstance(one, Ended)] == ["failed", "succeeded"]
    assert len(said(told.entries)) == 3
    assert "rate limit: slow down" in told.text
    assert "the next try in 4.0s" in told.text
    assert "hint: Wait." in told.text
    assert "attempt 2 · try 2 of 3" in told.text


def test_a_rerun_is_a_conversation_of_its_own_although_its_calls_have_the_same_ids() -> None:
    told = Told()
    for attempt in (1, 2):
        told.begins(attempt)
        told.turn(1, [user("go")], [call("1")], attempt=attempt)
        told.finished("1", attempt, attempt=attempt)
        told.turn(2, [], [answer("done")], attempt=attempt)
        told.tell(e.StepSucceeded, attempt=attempt, output=Kept("done"))
        told.tell(e.StepInvalidated, reason="rerun", again=True)
    assert [one.result for one in told.entries if isinstance(one, Called)] == [1, 2]
    assert len([one for one in told.entries if isinstance(one, Said) and one.role == "user"]) == 2


def test_an_id_that_a_model_uses_again_is_another_call() -> None:
    told = Told()
    told.begins()
    for turn, call_id in ((1, "same"), (2, "same~2.0")):
        told.turn(turn, [user("go")] if turn == 1 else [], [call("same")])
        told.finished(call_id, turn)
    assert [one.result for one in told.entries if isinstance(one, Called)] == [1, 2]


def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_differences() -> None:
    told = Told()
    told.begins()
    told.turn(1, [user("go")], [answer("[]")])
    told.turn(2, [user("$.price: a number was expected")], [answer('{"price": 1}')])
    repair = next(one for one in told.entries if isinstance(one, Said) and one.automatic)
    assert repair.text == "$.price: a number was expected"
    assert "stepchain asks again" in told.text


def test_a_hand_off_is_told_once_and_who_speaks() -> None:
    told = Told()
    told.begins()
    told.turn(1, [user("go")], [call("1", "{}", "transfer_to_editor")], agent="writer")
    told.finished("1", "ok", tool_name="transfer_to_editor")
    told.turn(2, [], [answer("edited")], agent="editor")
    handed = [(one.from_agent, one.to_agent) for one in told.entries if isinstance(one, HandedOver)]
    assert handed == [("writer", "editor")]
    assert not [one for one in told.entries if isinstance(one, Called)]
    assert "writer hands over to editor" in told.text


def test_an_agent_that_only_calls_tools_has_a_heading_and_what_each_was_told_to_do_stands_before_it() -> None:
    told = Told()
    instructions = {"writer": "Write.", "editor": "Cut."}
    told.begins(input=Kept({"agent": "writer", "request": "Go on", "instructions": instructions}))
    told.turn(1, [user("Go on")], [call("1", "{}", "transfer_to_editor")], agent="writer")
    told.finished("1", {"agent": "editor"}, tool_name="transfer_to_editor")
    told.turn(2, [], [call("2")], agent="editor")
    told.finished("2", 4)
    told.turn(3, [], [call("3"), answer("done")], agent="editor")
    order = ["writer system", "Write.", "user", "Go on", "writer hands over to editor", "editor system", "Cut."]
    order += ["editor\n  ✓ add(a=2)", "turn 2", "○ add(a=2)", "editor\n  done"]
    places = [told.text.find(part) for part in order]
    assert -1 not in places, told.text
    assert places == sorted(places), told.text
    assert "writer\n" not in told.text, "who hands over is named with that"
    assert told.text.count("Write.") == told.text.count("Cut.") == 1


def test_what_an_answer_that_was_cut_off_had_written_is_told_from_the_failure() -> None:
    told = Told()
    told.begins()
    partly = Failure(error_type=ErrorType.SERVER_ERROR, message="gone", details={"partial_text": "The answer is"})
    told.turn(1, [user("go")], None, finish_reason="error")
    at = START + timedelta(seconds=9)
    told.tell(e.StepRetryScheduled, status=AttemptStatus.FAILED, error=partly, delay=0.0, retry_at=at)
    told.begins(2)
    told.turn(1, [user("go")], [answer("4")], attempt=2)
    told.tell(e.StepFailed, attempt=2, error=Failure(error_type=ErrorType.UNKNOWN, message="no", details={}))
    assert "assistant (cut off)\n  The answer is\n  turn 1" in told.text
    assert told.text.count("cut off") == 1
    assert [one.text for one in told.entries if isinstance(one, Said) and one.cut_off] == ["The answer is"]


def test_a_carriage_return_hides_nothing_of_a_result() -> None:
    told = Told()
    told.begins()
    told.turn(1, [user("go")], [call("1"), answer("first\r\nsafe\rHIDDEN")])
    told.finished("1", "overwrite\rHIDDEN")
    assert "overwrite␍HIDDEN" in told.text
    assert "  first\n  safe␍HIDDEN" in told.text


def test_tokens_money_and_compressed_history_are_told_and_unknown_is_not_nothing() -> None:
    told = Told()
    told.begins()
    told.turn(
        1, [user("go")], [answer("4")], input_tokens=12_400, cached_tokens=800, cost=0.0021, first_text_after=0.4,
        duration=1.3, history_tokens=2_100, history_tokens_before=30_000,
    )  # fmt: skip
    told.turn(2, [], None, input_tokens=None, output_tokens=None, finish_reason="error")
    known, unknown = (one for one in told.entries if isinstance(one, Answered))
    assert known.cost == 0.0021
    assert unknown.cost is None
    assert "12.4k in (800 cached) · 5 out · $0.0021 · 1.3s · first text after 0.4s" in told.text
    assert "earlier results 30.0k tokens, compressed to 2.1k" in told.text
    assert "? in · ? out · price unknown" in told.text


def test_hosted_calls_and_sources_are_told() -> None:
    told = Told()
    told.begins()
    cited = [{"type": "url_citation", "title": "Rain", "url": "https://rain.test"}] * 2
    cited.append({"type": "url_citation", "url": "javascript:alert(1)"})
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "rain"}}
    told.turn(1, [user("go")], [search, answer("It rains.", annotations=cited)])
    (found,) = (one for one in told.entries if isinstance(one, Called))
    assert (found.tool_name, found.hosted, found.status) == ("web_search", True, "succeeded")
    assert told.text.count("[1] Rain  https://rain.test") == 1
    assert "[2]" not in told.text, "a source is named once, and no address but those of the web, as in the log"


def test_a_budget_that_was_reached_is_told_with_its_answer() -> None:
    told = Told()
    told.begins()
    told.tell(e.StepWaiting, reason="budget", question="The run has spent $0.49 of $0.50")
    told.tell(e.StepResumed, answer={"scope": "", "action": "top_up", "usd": 1}, by="ada")
    (waited,) = (one for one in told.entries if isinstance(one, Waited))
    assert waited.by == "ada"
    assert 'answered by ada: action="top_up", usd=1' in told.text


def test_items_of_a_map_are_told_one_below_the_other() -> None:
    told = Told()
    for item in (0, 1):
        told.tell(e.ItemStarted, item=item, input=Kept({"prompt": f"item {item}"}))
    for item in (1, 0):
        told.turn(1, [user(f"item {item}")], [answer(f"answer {item}")], item=item)
    texts = [text for _, text in said(told.entries)]
    assert texts == ["item 0", "answer 0", "item 1", "answer 1"]
    assert said(transcript(told.events, "ask", item=1)) == [("user", "item 1"), ("assistant", "answer 1")]
    assert transcript(told.events, "other") == []


def test_large_values_are_told_by_their_beginning_until_they_are_put_in() -> None:
    blob = BlobReference(sha256="a" * 64, bytes=100_000, preview='"xxx')
    told = Told()
    told.begins()
    told.turn(1, [user("go")], [call("1")])
    told.finished("1")
    event = told.events.pop()
    assert isinstance(event, e.ToolFinished)
    large = e.ToolFinished(
        **{name: getattr(event, name) for name in event.__struct_fields__} | {"result": Kept(blob=blob)}
    )
    assert large_values(large) == [Kept(blob=blob)]
    told.events.append(large)
    assert "... 100,000 bytes in all" in told.text
    told.events[-1] = with_values(large, {"a" * 64: "whole"})
    assert "whole" in told.text
    assert "bytes in all" not in told.text


def test_what_a_provider_sends_in_another_form_hurts_nobody() -> None:
    strange: list[Any] = [
        None, 1, {}, {"type": 3}, {"type": "message", "content": 7}, {"type": "reasoning", "summary": "text"},
        {"type": "message", "content": [{"type": "output_text", "text": "a", "annotations": [5, {"url": {}}]}, 3]},
        {"type": "function_call", "call_id": None, "arguments": "[" * 100_000}, {"type": "web_search_call"},
        {"type": "mcp_call", "name": "x", "error": {"message": "no"}}, {"type": "brand_new", "x": 1},
        {"type": "message", "content": [{"type": "refusal", "refusal": "no"}, {"type": "input_image"}]},
    ]  # fmt: skip
    told = Told()
    told.begins()
    told.turn(1, strange, strange)
    assert told.text
    assert read_items("text") == []
    assert read_items({"a": 1}) == []


def test_nothing_of_a_model_or_a_tool_reaches_the_terminal_as_it_came() -> None:
    nasty = "\x1b]0;owned\x07[bold]\u202eevil"
    told = Told()
    told.begins(input=Kept({"prompt": nasty}), model=nasty)
    told.turn(1, [user(nasty)], [answer(nasty), call("1", "{}", nasty)], agent=nasty, model=nasty, finish_reason=nasty)
    told.finished("1", nasty, tool_name=nasty, error=Failure(error_type=ErrorType.TOOL_ERROR, message=nasty))
    told.tell(e.StepWaiting, reason=nasty, question=nasty)
    told.tell(e.StepFailed, error=Failure(error_type=ErrorType.UNKNOWN, message=nasty, hint=nasty))
    assert "[bold]" in told.text
    assert not set("\x1b\x07\u202e") & set(told.text)


def test_a_long_result_is_cut_unless_all_is_wanted_and_ascii_stays_ascii() -> None:
    told = Told()
    told.begins()
    told.turn(1, [user("go")], [call("1")])
    told.finished("1", "x" * (MOST_RESULT + 10))
    called = next(one for one in told.entries if isinstance(one, Called))
    assert "10 more characters" in "".join(line.text for line in paragraphs(called, ASCII))
    assert "more character" not in "".join(line.text for line in paragraphs(called, ASCII, whole=True))
    assert all(line.text.isascii() for one in told.entries for line in paragraphs(one, ASCII))


def test_a_transcript_that_grows_is_the_same_as_one_that_is_read_at_once() -> None:
    told = Told()
    told.begins()
    told.turn(1, [user("go")], [call("1")])
    told.finished("1", 1)
    growing = Transcript("ask")
    for event in told.events:
        growing.take(event)
    assert growing.entries == told.entries


def test_money_is_told_exactly_enough_and_unknown_is_not_nothing() -> None:
    amounts = [0.0, 0.00001, 0.0021, 0.03, 0.999, 12.4, 1234.5, 99_999.0]
    words = ["$0", "<$0.0001", "$0.0021", "$0.03", "$1.00", "$12.40", "$1,234.50", "$99,999"]
    assert [dollars(one) for one in amounts] == words
    assert dollars(None) == "?"
    assert spent(Usage()) == ""
    assert spent(Usage(turns=2, unpriced_turns=2)) == "?"
    assert spent(Usage(turns=3, unpriced_turns=1, cost=0.03)) == "$0.03+?"
    assert spent(Usage(turns=3, unpriced_turns=2, cost=0.03), short=False) == "$0.03 and 2 answers of unknown price"
