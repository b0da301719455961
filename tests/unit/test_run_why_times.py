"""Where the time went: of one step by its phases, of the run along the critical path; and why a run stopped."""

from __future__ import annotations

from typing import Any

import pytest

from stepchain_tui.run import Explanation, Kept, RunStatus, explain_run
from stepchain_tui.run import events as e
from stepchain_tui.run.critical_path import PathStep, critical_path
from stepchain_tui.run.why_times import Phase, times_of
from stepchain_tui.run.why_words import listed, numbered, spoken
from tests.support.engines import Bench, plan_of
from tests.support.world import World
from tests.unit.test_run_why_story import BROKEN, Story, moment, texts


def path_of(story: Story) -> list[tuple[str, float, float]]:
    """Return the critical path as (step, seconds waiting, seconds running)."""
    return [(found.step_id, found.waiting, found.running) for found in critical_path(story.state, story.events)]


def why_run(story: Story, second: float | None = None) -> Explanation:
    return explain_run(story.state, story.events, now=moment(story.second if second is None else second))


# --- one step


def test_the_time_of_a_step_is_split_by_what_it_was_spent_on() -> None:
    story = Story("a", "b < a").ran("a", 0, 2).at(5).begin("b", max_attempts=2).at(9).retry("b", 3)
    story.at(13).begin("b", tries=2, max_attempts=2).at(14).step(e.StepWaiting, "b", attempt=2, reason="approval")
    story.at(20).step(e.StepResumed, "b", attempt=2).at(21).succeed("b")
    times = times_of(story.state, story.events, "b", moment(99))
    assert times.seconds == {
        Phase.PARENTS: 2,
        Phase.SLOT: 3 + 1,
        Phase.RUNNING: 4 + 1 + 1,
        Phase.RETRY: 3,
        Phase.PERSON: 6,
    }
    assert times.taken == 19
    assert times.words().startswith("6 s running, 6 s waiting for a person, 4 s waiting for a slot")


def test_the_time_in_which_nobody_carried_the_run_out_is_told_apart() -> None:
    story = Story("a").at(1).begin("a").at(2).step(e.StepInterrupted, "a", attempt=1, reason="ctrl+c")
    story.add(e.RunInterrupted, reason="ctrl+c").at(1_002).add(e.RunResumed).at(1_003).begin("a").at(1_005).succeed("a")
    times = times_of(story.state, story.events, "a", moment(1_005))
    assert times.seconds == {Phase.SLOT: 2, Phase.RUNNING: 3, Phase.STOPPED: 1_000}
    assert times.taken == 5


def test_a_step_that_goes_on_counts_up_to_now_and_one_of_a_stopped_run_does_not() -> None:
    story = Story("a").begin("a")
    assert times_of(story.state, story.events, "a", moment(30)).seconds == {Phase.RUNNING: 30}
    story.at(5).add(e.RunPaused)
    assert times_of(story.state, story.events, "a", moment(30)).seconds == {Phase.RUNNING: 5}


def test_a_breakpoint_after_a_step_ends_its_time() -> None:
    story = Story("a").ran("a", 0, 2).step(e.StepWaiting, "a", reason="breakpoint", place="after")
    story.at(5).step(e.StepResumed, "a").at(9)
    assert times_of(story.state, story.events, "a", moment(9)).seconds == {Phase.RUNNING: 2, Phase.PERSON: 3}


def test_a_slow_step_says_its_share_where_its_time_went_and_whether_it_decided() -> None:
    story = Story("a", "quick", "b < a").ran("quick", 0, 1).ran("a", 0, 2).ran("b", 4, 12)
    story.add(e.RunFinished, status=RunStatus.SUCCEEDED)
    found = story.why("b", 999)
    assert found.question == "why did it take so long?"
    assert found.answer == "b succeeded after 10 s: 8 s running, 2 s waiting for parents, 2 s waiting for a slot"
    assert "took 10 s, 83% of the run's 12 s" in texts(found)
    assert "is on the critical path: a -> b" in texts(found)
    assert "is not on the critical path: a -> b" in texts(story.why("quick"))


# --- the run


def test_the_critical_path_follows_the_parent_that_ended_last() -> None:
    story = Story("a", "b", "c < a b", "d < c", "e < a").ran("a", 0, 2).ran("b", 0, 5).ran("e", 2, 4)
    story.ran("c", 6, 7).ran("d", 7, 10)
    assert path_of(story) == [("b", 0, 5), ("c", 1, 1), ("d", 0, 3)]


def test_retries_count_as_running_and_reruns_begin_when_they_were_asked_for() -> None:
    story = Story("a").at(1).begin("a", max_attempts=2).at(2).retry("a", 5).at(7).begin("a", tries=2).at(8).succeed("a")
    assert path_of(story) == [("a", 1, 7)]
    story.add(e.RunFinished, status=RunStatus.SUCCEEDED).at(5_000).step(e.StepInvalidated, "a", reason="rerun")
    story.at(5_001).add(e.RunResumed).ran("a", 5_002, 5_004)
    assert path_of(story) == [("a", 1, 2)]


def test_steps_that_never_ran_are_walked_through_and_not_told() -> None:
    story = Story("a", "b < a", "c < b").ran("a", 0, 3).step(e.StepSkipped, "b", reason="its `when` is false")
    assert path_of(story.ran("c", 4, 5)) == [("a", 0, 3), ("c", 1, 1)]
    assert path_of(Story("a").step(e.StepSkipped, "a", reason="said so")) == []


def test_a_parent_that_ran_again_since_did_not_decide() -> None:
    story = Story("a", "b < a").ran("a", 0, 2).ran("b", 2, 9).step(e.StepInvalidated, "a", reason="rerun")
    assert path_of(story.ran("a", 10, 11)) == [("a", 1, 1)]
    story.at(12).step(e.StepInvalidated, "b", reason="rerun")
    assert path_of(story.ran("b", 12, 14)) == [("a", 1, 1), ("b", 0, 2)]


def test_the_path_goes_through_the_parts_of_a_sub_plan() -> None:
    keys = {"sub": {"kind": "plan"}, "sub/x": {"part_of": "sub"}, "sub/y": {"part_of": "sub"}}
    story = Story("a", "sub < a", "sub/x", "sub/y < sub/x", "z < sub", keys=keys).ran("a", 0, 2).begin("sub")
    story.ran("sub/x", 3, 5).ran("sub/y", 5, 9).succeed("sub").ran("z", 9, 10)
    assert path_of(story) == [("a", 0, 2), ("sub/x", 1, 2), ("sub/y", 0, 4), ("sub", 0, 0), ("z", 0, 1)]


def test_the_path_of_a_run_of_ten_thousand_steps_has_them_all() -> None:
    names = [f"s{n}" + (f" < s{n - 1}" + (f" s{n // 2}" if n > 2 else "") if n else "") for n in range(10_000)]
    story = Story(*names)
    for number in range(10_000):
        story.ran(f"s{number}", number, number + 0.5)
    path = critical_path(story.state, story.events)
    assert len(path) == 10_000
    assert path[1] == PathStep("s1", 0.5, 0.5, moment(1), moment(1.5))
    assert "is on the critical path: s0 -> s1 -> s2 -> ... ->" in texts(story.why("s9999"))


# --- why the run stopped


def test_a_running_run_says_what_is_in_flight() -> None:
    story = Story("a", "b").begin("a").step(e.StepQueued, "b", reason="1 steps run at once")
    found = why_run(story, 12)
    assert (found.step_id, found.cause, str(found.status)) == ("", "a", "running")
    assert found.answer == "the run has been going on for 12 s: a has been running for 12 s (and 1 more step in flight)"
    assert "started by process 7" in texts(found)
    assert "2 steps: 1 running, 1 queued" in texts(found)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        (e.RunPaused, {"reason": "paused by Ada"}, "the run is paused by Ada; a may finish first"),
        (e.RunPaused, {"reason": "budget of 5 usd is used up"}, "the run is paused: budget of 5 usd is used up"),
        (
            e.RunInterrupted,
            {"reason": "its engine (process 7) ended"},
            "the run was interrupted: its engine (process 7) ended; a resume goes on with it",
        ),
        (
            e.RunFinished,
            {"status": RunStatus.CANCELLED, "reason": "cancelled by Ada"},
            "the run was cancelled by Ada",
        ),
    ],
)
def test_a_stopped_run_says_who_or_what_stopped_it(kind: Any, fields: dict[str, Any], words: str) -> None:
    story = Story("a").begin("a").command("pause").add(kind, **fields)
    found = why_run(story)
    assert found.question == "why did it stop?"
    assert words in found.answer
    assert "pause by Ada" in texts(found)


def test_a_waiting_run_names_the_question() -> None:
    story = Story("ask").begin("ask").step(e.StepWaiting, "ask", attempt=1, reason="approval", question="Go on?")
    found = why_run(story.add(e.RunWaiting, reason="waits for an answer", steps=("ask",)))
    assert (found.answer, found.cause) == ("the run waits for a person: ask waits for a person: Go on?", "ask")


def test_a_failed_run_names_the_first_failure_and_what_it_blocked() -> None:
    story = Story("early", "late", "after < late", keys={"early": {"continues": True}}).begin("early").fail("early")
    story.at(2).begin("late").fail("late").step(e.StepBlocked, "after", reason="late failed", cause="late")
    found = why_run(story.add(e.RunFinished, status=RunStatus.FAILED, reason="late failed"))
    assert (found.answer, found.cause) == ("the run failed because late failed: it broke", "late")
    assert "blocked by that: after" in texts(found)


def test_a_run_that_succeeded_says_how_long_it_took_and_which_step_decided() -> None:
    story = Story("a", "b < a").ran("a", 0, 8).ran("b", 8, 10).add(e.RunFinished, status=RunStatus.SUCCEEDED)
    found = why_run(story, 500)
    assert found.answer == "the run succeeded after 10 s; of the critical path a took longest, 8 s"
    assert "critical path: a ran 8 s, waited 0 s" in texts(found)


def test_the_history_of_a_run_holds_its_forks_revisions_and_refused_commands() -> None:
    story = Story("a", parent_run_id="p", parent_step_id="a").command("rerun", step="a", downstream=True)
    story.add(e.CommandRefused, command_id="c", command="skip", arguments={"step": "a"}, reason="it runs", by="Bob")
    story.add(e.RunRevised, revision=2, plan={}, steps=story.outlines, by="Ada", reason="a typo")
    told = texts(why_run(story))
    assert "created, forked from p at a" in told
    assert "rerun step=a downstream=True by Ada" in told
    assert "skip step=a by Bob refused: it runs" in told
    assert "revision 2 by Ada (a typo)" in told


async def test_an_engines_run_has_the_path_that_its_clock_says() -> None:
    world = World()
    world.will("slow", ConnectionError("gone"), "there")
    plan = plan_of(
        world.step("slow", retry={"max_attempts": 2}), world.step("quick"), world.step("end", "slow", "quick")
    )
    async with Bench() as bench:
        run = await bench.run(plan)
        state, events, now = run.state, await run.events(), bench.clock.now()
    path = critical_path(state, events)
    assert [found.step_id for found in path] == ["slow", "end"]
    assert path[0].running == 1, "the wait for the retry is part of it"
    found = explain_run(state, events, now=now)
    assert found.answer == "the run succeeded after 1 s; of the critical path slow took longest, 1 s"


# --- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0.012, "12 ms"),
        (0.4, "0.4 s"),
        (4.0, "4 s"),
        (9.96, "10 s"),
        (59.7, "1 min"),
        (187, "3 min 7 s"),
        (7_500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_lengths_of_time_are_said_as_people_do(seconds: float, words: str) -> None:
    assert spoken(seconds) == words


def test_lists_and_numbers_are_said_as_people_do() -> None:
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed(list("abcdefg"), 2)] == [
        "none",
        "a",
        "a and b",
        "a, b and 5 more",
    ]
    assert [numbered(1, "try"), numbered(3, "try"), numbered(2_000, "step")] == ["1 try", "3 tries", "2,000 steps"]


def test_a_result_by_hand_has_no_time_of_its_own() -> None:
    story = Story("a").at(1).begin("a").at(3).fail("a", BROKEN)
    story.at(50).step(e.StepSucceeded, "a", attempt=0, output=Kept(1), by="Ada")
    assert path_of(story) == []
