"""Why a step is as it is: each answer names its cause, and what led there is told below it."""

from __future__ import annotations

from typing import Any

import pytest

from stepchain_tui.run import ErrorType, Failure, Kept
from stepchain_tui.run import events as e
from tests.unit.test_run_why_story import BROKEN, LIMITED, Story, moment, texts

REFUSED = Failure(error_type=ErrorType.USER_ERROR, message="no such file", hint="Write one.")

# --- waiting


def test_a_pending_step_names_the_whole_chain_down_to_what_everything_waits_for() -> None:
    story = Story("a", "b < a", "c < b").begin("a", max_attempts=3).retry("a", 4)
    found = story.why("c")
    assert found.answer == "c waits for b, which waits for a, which is retrying 2/3 in 4 s (rate limit)"
    assert (found.question, found.cause, str(found.status)) == ("why is it waiting?", "a", "pending")
    assert "a: try 1 of 3 failed; the next one in 4 s" in texts(found), "the cause's own last event is told"


def test_of_several_parents_the_one_that_waits_for_a_person_is_the_cause_and_the_others_are_told() -> None:
    story = Story("a", "ask", "b < a", "c < ask", "d < b c").at(1).begin("a").begin("ask")
    story.step(e.StepWaiting, "ask", attempt=1, reason="approval", question="Go on?")
    found = story.why("d", 11)
    assert found.cause == "ask"
    assert "d waits for c, which waits for ask, which waits for a person: Go on? (and for 1 more step)" in found.answer
    assert "b waits for a, which has been running for 10 s" in texts(found)


def test_a_long_chain_is_told_by_its_ends_and_its_length() -> None:
    story = Story("s0", *(f"s{n} < s{n - 1}" for n in range(1, 5_000))).begin("s0")
    found = story.why("s4999")
    assert found.cause == "s0"
    assert found.answer.startswith("s4999 waits for s4998, which waits, over 4,997 more steps, for s0, which has been")


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (e.RunPaused, {"reason": "paused by Ada"}, "because the run is paused by Ada"),
        (e.RunInterrupted, {"reason": "ctrl+c"}, "because the run was interrupted (ctrl+c)"),
        (e.RunWaiting, {"steps": ("x",)}, "because the run waits for a person, and nobody carries it out meanwhile"),
    ],
)
def test_what_nobody_carries_out_says_what_stopped_the_run(kind: Any, fields: dict[str, Any], words: str) -> None:
    story = Story("a", "b < a").add(kind, **fields)
    assert words in story.answer("a")
    assert story.answer("b") == f"b waits for a, which has not begun, {words}"


def test_a_step_that_was_cut_off_says_so() -> None:
    reason = "its engine (process 7) ended"
    story = Story("a").begin("a").step(e.StepInterrupted, "a", attempt=1, reason=reason)
    story.add(e.RunInterrupted, reason=reason)
    found = story.why("a")
    assert found.question == "why is it pending again?"
    assert f"its last try was cut off ({reason})" in found.answer
    assert "it costs no try" in texts(found)


def test_a_queued_step_names_the_limit_and_who_holds_its_slots() -> None:
    keys = {"a": {"limit": "api"}, "b": {"limit": "api"}, "c": {}}
    story = Story("a", "b", "c", keys=keys).begin("a").begin("c").step(e.StepQueued, "b", reason="limit 'api' is full")
    assert story.answer("b") == "b is ready and waits for a slot: limit 'api' is full, held by a"
    story = Story("a", "b", "c").begin("a").begin("c").step(e.StepQueued, "b", reason="2 steps run at once")
    assert story.answer("b") == "b is ready and waits for a slot: 2 steps run at once, held by a and c"
    story = Story("a", "b").begin("a").step(e.StepQueued, "b", reason="the cap over all runs")
    assert story.answer("b").endswith("the cap over all runs"), "other runs hold it too"


def test_a_running_step_says_since_when_which_try_and_how() -> None:
    story = Story("a").begin("a", max_attempts=3, mode="process", model="gpt-5").retry("a", 1)
    story.at(2).begin("a", tries=2, max_attempts=3, mode="process", model="gpt-5")
    found = story.why("a", 14)
    assert found.answer == "a has been running for 12 s (try 2 of 3), mode process, model gpt-5"
    assert "try 2 of 3 began, in a process, model gpt-5" in texts(found)


def test_a_running_step_that_asks_for_a_tool_waits_for_a_person() -> None:
    story = Story("a").begin("a").step(e.ToolApprovalAsked, "a", attempt=1, call_id="1", tool_name="rm")
    assert story.answer("a") == "a asks a person whether it may call rm"
    story.step(e.ToolApprovalGiven, "a", attempt=1, call_id="1", approved=False, by="Ada")
    assert "running" in story.answer("a")
    assert "call of rm denied by Ada" in texts(story.why("a"))


@pytest.mark.parametrize(
    ("delay", "reason", "words"),
    [
        (7.0, "rate limit, Retry-After", "the other side asked for that long"),
        (4.0, "rate limit", "rate limit: the policy's wait"),
        (0.0, "tool error", "tool error: the policy tries again at once"),
        (30.0, "the breaker of openai is open", "the breaker of openai is open"),
    ],
)
def test_a_retrying_step_says_what_failed_when_it_goes_on_and_where_the_delay_comes_from(
    delay: float, reason: str, words: str
) -> None:
    error = BROKEN if reason == "tool error" else LIMITED
    story = Story("a").begin("a", max_attempts=3).retry("a", delay, error, reason)
    found = story.why("a")
    kind = error.error_type.value.replace("_", " ")
    when = f"in {delay:g} s" if delay else "as soon as it has a slot"
    assert f"a is retrying 2/3 {when} ({reason}), because try 1 failed with a {kind}: {error.message}" in found.answer
    assert words in texts(found)


def test_a_step_that_asks_tells_the_question_the_deadline_and_what_holds_then() -> None:
    story = Story("ask").begin("ask")
    wait = {"question": "Send it?", "deadline": moment(90), "on_timeout": "deny", "fields": {"to": {}}}
    found = story.step(e.StepWaiting, "ask", attempt=1, reason="approval", **wait).why("ask")
    assert found.answer == "ask asks: Send it?"
    assert "if nobody answers within 1 min 30 s, it counts as deny" in texts(found)
    assert "fields to" in texts(found)


def test_a_breakpoint_says_its_side_and_who_set_it() -> None:
    story = Story("a", keys={"a": {"breakpoint": "before"}})
    story.step(e.StepWaiting, "a", reason="breakpoint", place="before")
    assert story.answer("a") == "a stops at the breakpoint before it, in the plan"
    story = Story("a").command("breakpoint", step="a", place="after").ran("a", 1, 2)
    story.step(e.StepWaiting, "a", reason="breakpoint", place="after")
    assert story.answer("a") == "a stops at the breakpoint after it, set by Ada"


def test_a_step_that_was_cut_off_again_and_again_asks() -> None:
    story = Story("a").step(e.StepWaiting, "a", reason="interrupted", question="a was cut off 3 times. Try it again?")
    assert "cut off 3 times" in story.answer("a")


# --- a result that is good


def test_a_plain_success_says_its_try_and_time() -> None:
    story = Story("a").begin("a", max_attempts=3).at(0.5).succeed("a")
    assert story.answer("a") == "a succeeded at try 1 of 3 after 0.5 s"


def test_a_cached_result_names_where_it_was_made_and_how_old_it_is() -> None:
    story = Story("a", "b").ran("a", 1, 2).at(302).begin("b", cache="hit").succeed("b", cached=True, origin="r/a")
    assert story.answer("b") == "b took its result from the cache, made by r/a 5 min earlier"
    story = Story("b").begin("b", cache="hit: 3 d old").succeed("b", cached=True, origin="other/a")
    assert story.answer("b") == "b took its result from the cache, made by other/a (3 d old)"


def test_a_miss_of_the_cache_says_which_part_of_the_key_changed() -> None:
    story = Story("a").begin("a", cache="miss: the input changed").at(0.1).succeed("a")
    found = story.why("a")
    assert found.question == "why was it not cached?"
    assert "the cache had no result: the input changed" in found.answer


def test_results_that_were_not_made_here_say_by_whom_or_where() -> None:
    by_hand = Story("a").begin("a").fail("a").step(e.StepSucceeded, "a", attempt=0, output=Kept(1), by="Ada")
    assert by_hand.answer("a") == "a was marked succeeded by hand by Ada"
    forked = Story("a").step(e.StepSucceeded, "a", attempt=0, output=Kept(1), origin="parent/a")
    assert forked.answer("a") == "a was not run here: its result was taken over from parent/a"
    pinned = Story("a").ran("a", 1, 2).step(e.StepPinned, "a", output=Kept(1), by="Ada")
    assert "a is pinned by Ada" in pinned.answer("a")
    assert "pinned by Ada" in texts(pinned.why("a"))
    pinned.step(e.StepInvalidated, "a", reason="rerun").step(
        e.StepSucceeded, "a", attempt=0, output=Kept(1), by="its pin"
    )
    assert "gave the output that it is pinned with" in texts(pinned.why("a"))
    unpinned = pinned.step(e.StepPinned, "a", pinned=False, by="Ada")
    assert unpinned.answer("a") == "a was pinned when it was to run, and gave the pinned output"


def test_an_answered_step_says_who_answered() -> None:
    story = Story("ask").begin("ask").step(e.StepWaiting, "ask", attempt=1, reason="approval", question="Go?")
    story.step(e.StepResumed, "ask", attempt=1, answer={"approved": True, "fields": {}}, by="Ada").succeed("ask")
    assert story.answer("ask") == "ask succeeded: approved by Ada"


# --- a result that is not


def test_a_failed_step_says_why_there_was_no_other_try() -> None:
    story = Story("a").begin("a", max_attempts=2).retry("a", 0, BROKEN).begin("a", tries=2, max_attempts=2).fail("a")
    assert story.answer("a") == "a failed at try 2 of 2: it broke; its 2 tries are used up"
    assert Story("a").begin("a").fail("a").answer("a") == "a failed: it broke; its policy gives one try"
    found = Story("a").begin("a", max_attempts=3).fail("a", REFUSED).why("a")
    assert found.answer == "a failed at try 1 of 3: no such file; a user error is never tried again"
    assert "hint: Write one." in texts(found)


def test_a_timed_out_step_says_so() -> None:
    late = Failure(error_type=ErrorType.TIMEOUT, message="did not end within 30 s")
    found = Story("a").begin("a").fail("a", late, e.StepTimedOut).why("a")
    assert found.question == "why did it time out?"
    assert "timed out: did not end within 30 s; its policy gives one try" in found.answer


def test_a_denied_step_failed_by_that_and_not_by_its_policy() -> None:
    denied = Failure(error_type=ErrorType.USER_ERROR, message="denied by Ada", exception="Denied")
    assert Story("ask").begin("ask").fail("ask", denied).answer("ask") == "ask failed: denied by Ada"


def test_a_skipped_step_names_its_condition() -> None:
    story = Story("a", keys={"a": {"when": "{{ 1 > 2 }}"}}).step(e.StepSkipped, "a", reason="its `when` is false")
    assert story.answer("a") == "a was skipped because its `when` is false: {{ 1 > 2 }}"


def test_a_step_that_was_skipped_because_of_another_follows_that_to_the_root() -> None:
    story = Story("a", "b < a", "c < b").step(e.StepSkipped, "a", reason="skipped by Ada")
    story.step(e.StepSkipped, "b", reason="a was skipped", cause="a")
    story.step(e.StepSkipped, "c", reason="b was skipped", cause="a")
    found = story.why("c")
    assert (found.answer, found.cause) == ("c was skipped because a was skipped by Ada", "a")
    assert story.answer("a") == "a was skipped by Ada"


def test_what_is_optional_or_only_for_failures_says_so_when_it_is_skipped() -> None:
    story = Story("a", "b < a", keys={"a": {"optional": True}}).begin("a")
    story.step(e.StepSkipped, "a", attempt=1, reason="no model is set up")
    assert story.answer("a") == "a is optional and cannot run here: no model is set up"
    story.step(e.StepSkipped, "b", reason="none of its parents failed")
    assert story.answer("b") == "b runs only where a parent failed, and none did"


def test_a_blocked_step_names_the_root_its_error_and_what_lies_between() -> None:
    story = Story("a", "b < a", "c < b").begin("a").fail("a")
    story.step(e.StepBlocked, "b", reason="a failed", cause="a").step(
        e.StepBlocked, "c", reason="b is blocked", cause="a"
    )
    found = story.why("c")
    assert found.answer == "c cannot run because a failed: it broke (it needs b, blocked too)"
    assert found.cause == "a"
    assert "a: failed (tool error): it broke" in texts(found)
    assert story.answer("b") == "b cannot run because a failed: it broke"


def test_a_blocked_step_whose_cause_runs_again_says_both() -> None:
    story = Story("a", "b < a").begin("a").fail("a").step(e.StepBlocked, "b", reason="a failed", cause="a")
    story.step(e.StepInvalidated, "a", reason="rerun").begin("a").succeed("a")
    assert story.answer("b") == "b could not run because a failed; meanwhile a has succeeded"


def test_a_cancelled_step_says_by_whom_and_whether_it_alone() -> None:
    alone = Story("a").begin("a").command("cancel", step="a")
    alone.step(e.StepCancelled, "a", attempt=1, reason="cancelled by Ada")
    assert alone.answer("a") == "a was cancelled by Ada, on its own"
    whole = Story("a").command("cancel").step(e.StepCancelled, "a", reason="cancelled by Ada")
    assert whole.answer("a") == "a was cancelled by Ada, with the whole run"
    not_again = Story("a").step(e.StepCancelled, "a", reason="not tried again, said Ada")
    assert not_again.answer("a") == "a was cancelled: not tried again, said Ada"


# --- how it is told


def test_lines_begin_with_the_answer_and_go_on_in_the_order_of_time() -> None:
    story = Story("a", "b < a").at(1).begin("a").at(2).fail("a")
    story.at(3).step(e.StepBlocked, "b", reason="a failed", cause="a")
    found = story.why("b")
    dated = [fact.seq for fact in found.details if fact.seq]
    assert found.lines()[0] == found.answer
    assert dated == sorted(dated)
    assert len(dated) == 2
    assert [fact.at for fact in found.details[:2]] == [moment(2), moment(3)]
    local = moment(3).astimezone()
    assert f"  {local:%H:%M:%S}  blocked: a failed" in found.lines()
    told = story.why("b", 3 * 86_400).lines()
    assert f"  {local:%Y-%m-%d %H:%M:%S}  blocked: a failed" in told, "another day is named"


def test_to_json_holds_everything() -> None:
    found = Story("a").at(1).begin("a").at(2).fail("a").why("a").to_json()
    assert list(found) == ["step_id", "status", "question", "answer", "cause", "details"]
    assert (found["status"], found["step_id"]) == ("failed", "a")
    assert found["details"][0] == {"at": "2026-01-01T12:00:01+00:00", "text": "try 1 of 1 began", "seq": 3}


def test_a_long_message_does_not_become_a_long_sentence() -> None:
    story = Story("a").begin("a").fail("a", Failure(error_type=ErrorType.TOOL_ERROR, message="x\n" * 5_000))
    assert len(story.answer("a")) < 350
    assert "\n" not in story.answer("a")
