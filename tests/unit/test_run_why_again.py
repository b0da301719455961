"""Why a result is stale or a step ran again, how maps and sub-plans are told, and what a real engine writes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stepchain_tui.core.errors import UnknownStepError
from stepchain_tui.run import AttemptError, ErrorType, Failure, Kept, RunStatus, explain
from stepchain_tui.run import events as e
from tests.support.engines import Bench, plan_of
from tests.support.world import World
from tests.unit.test_run_why_story import BROKEN, Story, texts

# --- stale, and run again


def test_a_stale_result_says_what_happened_to_the_step_it_stands_on() -> None:
    story = Story("a", "b < a").ran("a", 1, 2).ran("b", 2, 3).at(4).command("rerun", step="a")
    story.step(e.StepInvalidated, "a", reason="rerun")
    story.step(e.StepInvalidated, "b", reason="rerun", cause="a", stale=True)
    found = story.why("b")
    assert found.question == "why is it stale?"
    assert found.answer.startswith("the result of b is stale: a was rerun by Ada, and a has not begun")
    assert found.cause == "a"


@pytest.mark.parametrize(
    ("reason", "words"),
    [("edit", "a was edited (revision 2 by Ada)"), ("code", "the code behind a changed"), ("resume", "a got fresh")],
)
def test_staleness_by_edit_code_or_resume_is_told_apart(reason: str, words: str) -> None:
    story = Story("a", "b < a").ran("a", 1, 2).ran("b", 2, 3)
    story.add(e.RunRevised, revision=2, plan={"steps": []}, steps=story.outlines, by="Ada")
    story.step(e.StepInvalidated, "a", reason=reason, cause="a", stale=True)
    story.step(e.StepInvalidated, "b", reason=reason, cause="a", stale=True)
    assert words in story.answer("b")
    own = story.why("a")
    assert own.cause == "", "the step itself is no cause that one would look up"
    assert ("it" if reason != "resume" else "a") in own.answer


@pytest.mark.parametrize(
    ("reason", "cause", "words"),
    [
        ("rerun", "", "it was rerun by Ada"),
        ("rerun", "a", "a was rerun with all that follows it by Ada"),
        ("resume", "", "the run was resumed by Ada, with fresh tries"),
        ("edit", "b", "it was edited (revision 2)"),
        ("fresh start", "", "the run was started over"),
        ("a was set by hand", "a", "a was set by hand by Ada"),
        ("some reason of tomorrow", "a", "some reason of tomorrow by Ada (because of a)"),
    ],
)
def test_each_time_that_a_step_runs_again_says_why(reason: str, cause: str, words: str) -> None:
    story = Story("a", "b < a").ran("a", 1, 2).ran("b", 2, 3).at(4)
    if reason == "edit":
        story.add(e.RunRevised, revision=2, plan={"steps": []}, steps=story.outlines)
    elif reason != "fresh start":
        story.command("rerun" if reason == "rerun" else "resume")
    story.step(e.StepInvalidated, "b", reason=reason, cause=cause)
    assert words in story.answer("b"), "while it has not begun again"
    story.ran("b", 5, 6)
    found = story.why("b")
    assert found.question == "why did it run again?"
    assert words in found.answer
    assert f"is to run again: {words}" in texts(found)


def test_a_command_is_not_made_the_reason_of_what_came_later() -> None:
    story = Story("a", "b").ran("a", 1, 2).command("limits", max_concurrent=2).ran("b", 3, 4)
    story.step(e.StepInvalidated, "a", reason="rerun")
    assert "Ada" not in story.answer("a")


# --- maps, sub-plans, removed steps


def test_a_map_counts_its_items_and_tells_the_first_failures() -> None:
    story = Story("each", "after < each", keys={"each": {"is_map": True}}).begin("each").expand("each", range(4))
    for index in range(3):
        story.step(e.ItemStarted, "each", item=index, attempt=1)
    story.step(e.ItemSucceeded, "each", item=0, attempt=1, output=Kept(1))
    story.step(e.ItemFailed, "each", item=2, attempt=1, error=BROKEN)
    found = story.why("each")
    assert "4 items: 1 failed, 1 succeeded, 1 running, 1 pending" in found.answer
    assert "item 2 failed: it broke" in texts(found)
    assert "after waits for each, which has been running" in story.answer("after")
    story.step(e.ItemSucceeded, "each", item=1, attempt=1, output=Kept(1))
    story.step(e.ItemCancelled, "each", item=3, attempt=0)
    story.fail("each", Failure(error_type=ErrorType.TOOL_ERROR, message="1 of 4 items failed; item 2: it broke"))
    assert story.answer("each").endswith("item 2: it broke; each item had tries of its own")


def test_a_part_names_its_step_and_what_that_waits_for() -> None:
    keys = {"sub": {"kind": "plan"}, "sub/x": {"part_of": "sub"}, "sub/y": {"part_of": "sub"}}
    story = Story("a", "sub < a", "sub/x", "sub/y < sub/x", "z < sub", keys=keys).begin("a")
    found = story.why("sub/y", 3)
    assert found.cause == "a"
    assert found.answer.startswith("sub/y waits for sub/x, which waits for sub, which waits for a, which has been")
    assert "is a part of sub" in texts(found)
    story.at(4).succeed("a").begin("sub").begin("sub/x", max_attempts=2).retry("sub/x", 5)
    found = story.why("z")
    assert found.cause == "sub/x"
    assert "z waits for sub, which runs its part sub/x, which is retrying 2/2 in 5 s" in found.answer


def test_a_failed_sub_plan_and_what_it_blocks_name_the_part_that_failed() -> None:
    keys = {"sub": {"kind": "plan"}, "sub/x": {"part_of": "sub"}}
    story = Story("sub", "sub/x", "z < sub", keys=keys).begin("sub").begin("sub/x").fail("sub/x").fail("sub")
    assert story.why("sub").cause == "sub/x"
    assert story.answer("sub").endswith("; each of its steps had tries of its own")
    assert story.step(e.StepBlocked, "z", reason="sub failed", cause="sub").why("z").cause == "sub/x"
    assert "sub/x: failed (tool error): it broke" in texts(story.why("z"))


def test_a_rerun_of_a_part_of_a_whole_and_of_failed_items_are_told_apart() -> None:
    keys = {"sub": {"kind": "plan"}, "sub/x": {"part_of": "sub"}}
    story = Story("sub", "sub/x", keys=keys).begin("sub").ran("sub/x", 1, 2).succeed("sub").command("rerun")
    story.step(e.StepInvalidated, "sub/x", reason="rerun").step(e.StepInvalidated, "sub", reason="rerun", cause="sub/x")
    assert "after its part sub/x was rerun by Ada" in story.answer("sub")
    story.begin("sub").ran("sub/x", 3, 4).succeed("sub").command("rerun").step(e.StepInvalidated, "sub", reason="rerun")
    story.step(e.StepInvalidated, "sub/x", reason="rerun", cause="sub")
    assert "sub was rerun with its parts by Ada" in story.answer("sub/x")
    items = Story("each").begin("each").fail("each").command("rerun", step="each", failed=True)
    items.step(e.StepInvalidated, "each", reason="rerun", keep_items=True)
    assert "its failed items were rerun by Ada" in items.answer("each")


def test_what_stands_on_changed_code_is_not_said_to_stand_on_an_edit() -> None:
    story = Story("a", "b < a").ran("a", 1, 2).ran("b", 2, 3)
    story.add(e.RunRevised, revision=2, plan={"steps": []}, steps=story.outlines)
    story.step(e.StepInvalidated, "a", reason="code", cause="a", stale=True)
    story.step(e.StepInvalidated, "b", reason="edit", cause="a", stale=True)
    assert "the code behind a changed" in story.answer("b")


def test_a_fork_says_what_it_took_over() -> None:
    story = Story("a").step(e.StepSucceeded, "a", attempt=0, output=Kept(1), origin="p/a")
    story.step(e.StepInvalidated, "a", reason="fork", cause="a", stale=True)
    assert "it was stale in the run that this one was forked from" in story.answer("a")


def test_a_step_that_a_revision_took_out_can_be_asked_about_and_an_unknown_one_cannot() -> None:
    story = Story("a", "b").ran("b", 1, 2)
    story.add(e.RunRevised, revision=2, plan={"steps": []}, steps=story.outlines[:1], by="Ada")
    assert story.answer("b") == "b is no longer in the plan: revision 2 by Ada took it out"
    with pytest.raises(UnknownStepError):
        story.why("never")


# --- what a real engine writes


async def test_an_engines_run_explains_retries_blocks_and_skips() -> None:
    world = World()
    world.will("fetch", AttemptError("429", error_type=ErrorType.RATE_LIMIT, retry_after=7.0), RuntimeError("gone"))
    plan = plan_of(
        world.step("fetch", retry={"max_attempts": 2}),
        world.step("use", "fetch"),
        world.step("tell", "use"),
        world.step("never", when="{{ 1 > 2 }}"),
        world.step("after", "never"),
    )
    async with Bench() as bench:
        run = await bench.run(plan)
        state, events, now = run.state, await run.events(), bench.clock.now()
    assert state.status is RunStatus.FAILED
    told = {step_id: explain(state, events, step_id, now=now) for step_id in state.steps}
    assert told["fetch"].answer == "fetch failed at try 2 of 2: gone; its 2 tries are used up"
    assert "the next one in 7 s (rate limit, Retry-After: the other side asked for that long): 429" in texts(
        told["fetch"]
    )
    assert "7 s waiting for a retry" in texts(told["fetch"])
    assert told["tell"].answer == "tell cannot run because fetch failed: gone (it needs use, blocked too)"
    assert (
        told["after"].answer == "after was skipped because never was skipped because its `when` is false: {{ 1 > 2 }}"
    )


async def test_an_engines_rerun_names_who_asked_for_it(tmp_path: Path) -> None:
    world = World()
    async with Bench(folder=tmp_path) as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a"), {"id": "ask", "approve": "Go?"}))
        await run.until_status("b", "succeeded")
        await run.until_status("ask", "waiting")
        assert (await run.tell("rerun", step="a"))["ok"]
        await run.until(lambda state: state.steps["a"].attempt == 2 and state.steps["a"].ended)
        state, events, now = run.state, await run.events(), bench.clock.now()
        again, stale = (explain(state, events, step_id, now=now) for step_id in ("a", "b"))
        assert again.answer.startswith("a ran again because it was rerun by Ada")
        assert stale.answer == "the result of b is stale: a was rerun by Ada, and a has succeeded"
        assert explain(state, events, "ask", now=now).answer == "ask asks: Go?"
        await run.tell("cancel")
        await asyncio.wait_for(run.end(), 10)
        state, events = run.state, await run.events()
    assert explain(state, events, "ask", now=now).answer == "ask was cancelled by Ada, with the whole run"
