"""Rule 7 as a run shows it: every retry is an event with its deadline, at the moment the policy says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from stepchain_tui.core.settings import RetryDefaults, Settings
from stepchain_tui.run import AttemptError, AttemptStatus, ErrorType
from stepchain_tui.store import MemoryStore
from tests.support.engines import Bench, JumpingClock, plan_of
from tests.support.world import World

FOUR = {"max_attempts": 4, "jitter": False}


def limited(retry_after: float | None = None) -> AttemptError:
    return AttemptError("slow down", error_type=ErrorType.RATE_LIMIT, retry_after=retry_after)


@pytest.mark.parametrize(
    ("error", "jumps"),
    [
        (limited(), [1, 2, 4]),
        (limited(retry_after=7.5), [7.5, 7.5, 7.5]),
        (ConnectionError("gone"), [1, 1, 1]),
        (TimeoutError("late"), [1, 1, 1]),
        (RuntimeError("broke"), []),
        (AttemptError("who knows", error_type=ErrorType.UNKNOWN), [1, 2, 4]),
    ],
)
async def test_a_step_is_tried_again_after_the_delays_of_its_class_of_error(
    error: Exception, jumps: list[float]
) -> None:
    world = World()
    world.will("a", error)
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a", retry=FOUR)))
        assert run.statuses == {"a": "failed"}
        assert world.count("a") == 4
        assert bench.clock.jumps == jumps
        retries = await run.events("step.retry_scheduled")
        expected = jumps or [0, 0, 0]
        assert [event.delay for event in retries] == expected
        for event in retries:
            assert event.retry_at == event.at + timedelta(seconds=event.delay)
            assert (event.max_attempts, event.status) == (4, AttemptStatus.FAILED)
        assert [event.tries for event in retries] == [1, 2, 3]
        starts = await run.events("step.started")
        assert [(event.attempt, event.tries) for event in starts] == [(1, 1), (2, 2), (3, 3), (4, 4)]
        for event, retry in zip(starts[1:], retries, strict=True):
            assert event.at == retry.retry_at
        await run.check()


async def test_a_users_error_is_called_once() -> None:
    world = World()
    world.will("a", TypeError("not like this"))
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a", retry=FOUR)))
        assert (world.count("a"), run.state.steps["a"].error.error_type) == (1, "user_error")


async def test_written_delays_hold_also_for_a_tool_error() -> None:
    world = World()
    world.will("a", RuntimeError("broke"))
    async with Bench() as bench:
        await bench.run(plan_of(world.step("a", retry={**FOUR, "initial_delay": 0.5, "exponential_base": 3})))
        assert bench.clock.jumps == [0.5, 1.5, 4.5]


@pytest.mark.parametrize(("keys", "calls"), [({}, 1), ({"retry": {"max_attempts": 3}}, 3)])
async def test_a_function_is_called_once_and_max_attempts_3_means_three_calls(keys: dict[str, Any], calls: int) -> None:
    world = World()
    world.will("a", RuntimeError("broke"))
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a", **keys)))
        assert (world.count("a"), run.statuses["a"]) == (calls, "failed")


async def test_a_prompt_is_asked_three_times_where_nothing_is_written() -> None:
    replies = [{"error": {"type": "server_error"}}, {"error": {"type": "server_error"}}, "third time lucky"]
    async with Bench() as bench:
        plan = plan_of({"id": "a", "prompt": "hello", "model": "scripted", "replies": replies})
        run = await bench.run(plan)
        assert (run.outputs["a"], run.state.steps["a"].attempt) == ("third time lucky", 3)


async def test_the_plan_and_the_settings_say_how_often_where_the_step_does_not() -> None:
    world = World()
    for name in "abc":
        world.will(name, RuntimeError("broke"))
    settings = Settings(retry=RetryDefaults(max_attempts=2))
    async with Bench(settings=settings) as bench:
        await bench.run(plan_of(world.step("a")))
        await bench.run(plan_of(world.step("b"), defaults={"retry": {"max_attempts": 3}}))
        await bench.run(plan_of(world.step("c", retry={"max_attempts": 4}), defaults={"retry": {"max_attempts": 3}}))
    assert [world.count(name) for name in "abc"] == [2, 3, 4]


async def test_success_after_failures_keeps_every_attempt_with_its_error() -> None:
    world = World()
    world.will("a", RuntimeError("one"), limited(3), "ok")
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a", retry=FOUR)))
        step = run.state.steps["a"]
        assert [(n.status, n.error.message if n.error else None) for n in step.attempts.values()] == [
            ("failed", "one"),
            ("failed", "slow down"),
            ("succeeded", None),
        ]
        assert (step.error, run.outputs["a"]) == (None, "ok")
        assert bench.clock.jumps == [3]


async def test_a_timeout_is_per_attempt_and_the_last_one_is_told_apart_from_a_failure() -> None:
    world = World()
    world.gate("a")
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a", timeout=0.03, retry={"max_attempts": 2})))
        assert run.statuses == {"a": "timed_out"}
        assert [found.status for found in run.state.steps["a"].attempts.values()] == ["timed_out", "timed_out"]
        assert run.state.steps["a"].error.error_type == "timeout"
        assert bench.clock.jumps == [1]
        assert world.running == []
        await run.check()


async def test_a_timeout_then_a_success() -> None:
    world = World()
    gate = world.gate("a")
    world.will("a", gate, "ok")
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a", timeout=0.03, retry={"max_attempts": 2})))
        assert run.statuses == {"a": "succeeded"}


async def test_a_function_that_raises_a_timeout_of_its_own_has_failed_and_not_timed_out() -> None:
    world = World()
    world.will("a", TimeoutError("its own"))
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a")))
        assert (run.statuses["a"], run.state.steps["a"].error.error_type) == ("failed", "timeout")


async def test_try_now_does_not_wait() -> None:
    world = World()
    world.will("a", limited(3600), "ok")
    async with Bench() as bench:
        bench.clock.may_jump = False
        run = await bench.start(plan_of(world.step("a", retry=FOUR)))
        await run.until_status("a", "retrying")
        assert run.state.steps["a"].reason == "rate limit, Retry-After"
        assert (await run.tell("try_now", step="a"))["ok"]
        assert await run.end() == "succeeded"
        assert bench.clock.jumps == []
        refused = await run.tell("try_now", step="a")
        assert (refused["ok"], refused["kind"]) == (False, "refused")


async def test_a_wait_for_a_retry_survives_a_restart_and_keeps_its_moment() -> None:
    world, store, clock = World(), MemoryStore(), JumpingClock()
    world.will("a", limited(100), "ok")
    clock.may_jump = False
    async with Bench(store, clock=clock) as bench:
        run = await bench.start(plan_of(world.step("a", retry=FOUR)), "r")
        await run.until_status("a", "retrying")
        moment = run.state.steps["a"].retry_at
    clock.advance(40)
    clock.may_jump = True
    async with Bench(store, clock=clock) as bench:
        run = await bench.resume("r")
        assert run.state.status == "succeeded"
        starts = await run.events("step.started")
        assert [(event.attempt, event.tries) for event in starts] == [(1, 1), (2, 2)]
        assert starts[1].at == moment
        assert clock.jumps == [60]
        await run.check()
    assert world.count("a") == 2


async def test_a_retry_whose_moment_passed_while_nobody_ran_it_is_tried_at_once() -> None:
    world, store, clock = World(), MemoryStore(), JumpingClock()
    world.will("a", limited(100), "ok")
    clock.may_jump = False
    async with Bench(store, clock=clock) as bench:
        run = await bench.start(plan_of(world.step("a", retry=FOUR)), "r")
        await run.until_status("a", "retrying")
    clock.advance(1000)
    async with Bench(store, clock=clock) as bench:
        assert (await bench.resume("r")).state.status == "succeeded"
        assert clock.jumps == []


async def test_tries_used_up_before_a_restart_are_not_given_again() -> None:
    world, store, clock = World(), MemoryStore(), JumpingClock()
    world.will("a", limited(100))
    clock.may_jump = False
    async with Bench(store, clock=clock) as bench:
        run = await bench.start(plan_of(world.step("a", retry={"max_attempts": 2})), "r")
        await run.until_status("a", "retrying")
    clock.may_jump = True
    async with Bench(store, clock=clock) as bench:
        run = await bench.resume("r")
        assert (run.statuses["a"], world.count("a")) == ("failed", 2)


async def test_a_retrying_step_can_be_called_off() -> None:
    world = World()
    world.will("a", limited(3600))
    async with Bench() as bench:
        bench.clock.may_jump = False
        run = await bench.start(plan_of(world.step("a", retry=FOUR), world.step("b", "a")))
        await run.until_status("a", "retrying")
        assert (await run.tell("cancel", step="a"))["ok"]
        assert await run.end() == "failed"
        assert run.statuses == {"a": "cancelled", "b": "blocked"}
        assert [found.status for found in run.state.steps["a"].attempts.values()] == ["failed"]
        await run.check()
