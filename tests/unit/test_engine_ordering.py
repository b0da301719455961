"""Rules 4 and 5: when a step starts, in which order, and how many run at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepchain_tui.core.settings import Settings
from stepchain_tui.engine import Scheduler
from stepchain_tui.plan import Step
from tests.support.engines import Bench, plan_of
from tests.support.world import World


async def test_a_step_starts_when_its_own_parents_are_done_and_not_when_a_level_is() -> None:
    world = World()
    slow = world.gate("slow")
    async with Bench() as bench:
        plan = plan_of(world.step("slow"), world.step("fast"), world.step("next", "fast"), world.step("after", "slow"))
        run = await bench.start(plan)
        await run.until_status("next", "succeeded")
        assert run.statuses == {"slow": "running", "fast": "succeeded", "next": "succeeded", "after": "pending"}
        slow.set()
        assert await run.end() == "succeeded"
        assert sorted(world.calls[:2]) == ["fast", "slow"]  # they begin in threads of their own
        assert world.calls[2:] == ["next", "after"]


async def test_a_reference_in_an_expression_is_a_dependency() -> None:
    world = World()
    async with Bench() as bench:
        reads = world.step("reads", args={"value": "{{ steps.writes.output }}"})
        await bench.run(plan_of(reads, world.step("writes")))
    assert world.calls == ["writes", "reads"]
    assert world.given["reads"] == {"value": "writes"}


async def test_among_ready_steps_the_higher_priority_goes_first_then_plan_order() -> None:
    world = World()
    steps = [world.step(name, priority=priority) for name, priority in zip("abcdef", [0, 0, 5, -1, 5, 0], strict=True)]
    async with Bench() as bench:
        await bench.run(plan_of(*steps, max_concurrent=1))
    assert "".join(world.calls) == "ceabfd"


async def test_a_step_of_low_priority_goes_before_one_of_high_priority_that_is_not_ready() -> None:
    world = World()
    async with Bench() as bench:
        plan = plan_of(world.step("low", priority=-5), world.step("high", "low", priority=9), max_concurrent=1)
        await bench.run(plan)
    assert world.calls == ["low", "high"]


async def test_a_scheduler_of_the_user_decides_the_order() -> None:
    class Reversed(Scheduler):
        def sort_key(self, step: Step, position: int) -> Any:
            return -position

    world = World()
    async with Bench(scheduler=Reversed()) as bench:
        await bench.run(plan_of(*(world.step(name) for name in "abcd"), max_concurrent=1))
    assert "".join(world.calls) == "dcba"


@pytest.mark.parametrize("most", [1, 3, 7])
async def test_no_more_steps_run_at_once_than_max_concurrent_and_as_many_as_that_do(most: int) -> None:
    world = World()
    async with Bench() as bench:
        await bench.run(plan_of(*(world.step(f"s{n}") for n in range(20)), max_concurrent=most))
    assert world.most == most
    assert len(world.calls) == 20


async def test_a_named_limit_holds_and_does_not_hold_up_other_steps() -> None:
    world = World()
    gate = world.gate("a1", "a2", "a3")
    steps = [world.step(name, limit="api") for name in ("a1", "a2", "a3")]
    async with Bench() as bench:
        run = await bench.start(plan_of(*steps, world.step("free"), limits={"api": 2}, max_concurrent=5))
        await run.until_status("free", "succeeded")
        await run.until_status("a3", "queued")
        assert world.running == ["a1", "a2"]
        assert run.state.steps["a3"].reason == "limit 'api' is full"
        gate.set()
        assert await run.end() == "succeeded"
    assert world.most == 3


async def test_a_step_that_waits_for_a_slot_says_for_which() -> None:
    world = World()
    gate = world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b"), max_concurrent=1))
        await run.until_status("b", "queued")
        assert run.state.steps["b"].reason == "1 steps run at once"
        gate.set()
        await run.end()


async def test_the_cap_over_all_runs_holds_and_every_run_gets_its_turn() -> None:
    worlds = [World() for _ in range(4)]
    running: list[int] = []

    def note() -> None:
        running.append(sum(len(world.running) for world in worlds))

    async with Bench(settings=Settings(max_running=3)) as bench:
        runs = []
        for world in worlds:
            for n in range(6):
                world.will(f"s{n}", note)
            steps = [world.step(f"s{n}") for n in range(6)]
            runs.append(await bench.start(plan_of(*steps)))
        assert [await run.end() for run in runs] == ["succeeded"] * 4
        assert bench.engine.core.slots.taken == 0
    assert max(running) == 3
    assert len(running) == 24


async def slots_are_whole(bench: Bench, world: World, **limits: int) -> None:
    """Hold that a new run gets every slot of the engine."""
    assert bench.engine.core.slots.taken == 0
    world.most = 0
    names = [f"z{n}" for n in range(6)]
    gate = world.gate(*names)
    run = await bench.start(plan_of(*(world.step(name) for name in names)))
    await world.called(*names[:4])
    assert world.running == names[:4]
    gate.set()
    assert await run.end() == "succeeded"


BROKEN = RuntimeError("broke")


@pytest.mark.parametrize(
    ("keys", "outcomes"),
    [
        ({}, [BROKEN]),
        ({"retry": {"max_attempts": 3}}, [BROKEN]),
        ({"retry": {"max_attempts": 3, "initial_delay": 5}}, [BROKEN]),
        ({"retry": {"max_attempts": 2}}, [BROKEN, "ok"]),
        ({"when": False}, []),
        ({"when": "{{ 1 / 0 }}"}, []),
        ({"for_each": [1, 2, 3]}, ["ok"]),
        ({"for_each": [1, 2, 3], "max_concurrent": 1, "retry": {"max_attempts": 2}}, [BROKEN]),
        ({"for_each": "{{ 7 }}"}, []),
        ({"for_each": []}, []),
        ({"args": {"x": "{{ 1 / 0 }}"}}, []),
    ],
)
async def test_no_slot_is_lost_however_a_step_ends(keys: dict[str, Any], outcomes: list[Any]) -> None:
    world = World()
    async with Bench(settings=Settings(max_running=4)) as bench:
        steps = []
        for n in range(6):
            world.will(f"s{n}", *outcomes)
            steps.append(world.step(f"s{n}", limit="api", **keys))
        run = await bench.run(plan_of(*steps, limits={"api": 2}))
        assert run.state.status in ("succeeded", "failed")
        await run.check()
        await slots_are_whole(bench, world)


async def test_no_slot_is_lost_to_steps_and_runs_that_are_called_off() -> None:
    world = World()
    async with Bench(settings=Settings(max_running=4)) as bench:
        world.gate(*(f"s{n}" for n in range(6)))
        run = await bench.start(plan_of(*(world.step(f"s{n}", limit="api") for n in range(6)), limits={"api": 2}))
        await world.called("s0", "s1")
        await run.tell("cancel", step="s0")
        await run.tell("cancel", step="s5")
        await world.called("s2")
        await run.tell("cancel")
        assert await run.end() == "cancelled"
        assert set(run.statuses.values()) == {"cancelled"}
        assert world.count("s5") == 0
        await slots_are_whole(bench, world)


async def test_no_slot_is_lost_to_attempts_that_run_into_their_timeout() -> None:
    world = World()
    async with Bench(settings=Settings(max_running=4)) as bench:
        world.gate("a", "b")
        steps = [world.step(name, timeout=0.05, retry={"max_attempts": 2}) for name in "ab"]
        run = await bench.run(plan_of(*steps, max_concurrent=1))
        assert run.statuses == {"a": "timed_out", "b": "timed_out"}
        assert world.calls.count("a") == 2
        await slots_are_whole(bench, world)


async def test_a_wait_for_a_retry_holds_no_slot() -> None:
    world = World()
    world.will("a", ConnectionError("c"), "ok")
    async with Bench() as bench:
        bench.clock.may_jump = False
        plan = plan_of(world.step("a", retry={"max_attempts": 2}), world.step("b"), world.step("c"), max_concurrent=1)
        run = await bench.start(plan)
        await run.until_status("c", "succeeded")
        assert run.statuses == {"a": "retrying", "b": "succeeded", "c": "succeeded"}
        bench.clock.may_jump = True
        assert await run.end() == "succeeded"


async def test_a_question_and_a_map_hold_no_slot_themselves() -> None:
    world = World()
    async with Bench() as bench:
        ask = {"id": "ask", "approve": "go?"}
        plan = plan_of(ask, world.step("each", for_each=[1, 2]), world.step("b"), max_concurrent=1)
        run = await bench.start(plan)
        await run.until_status("b", "succeeded")
        assert run.statuses == {"ask": "waiting", "each": "succeeded", "b": "succeeded"}
        await run.tell("approve", step="ask")
        assert await run.end() == "succeeded"


async def test_items_of_a_map_count_against_every_limit() -> None:
    world = World()
    async with Bench(settings=Settings(max_running=4)) as bench:
        one = await bench.run(plan_of(world.step("a", for_each=list(range(9))), max_concurrent=3))
        assert (one.state.status, world.most) == ("succeeded", 3)
        world.most = 0
        await bench.run(plan_of(world.step("b", for_each=list(range(9)), max_concurrent=2)))
        assert world.most == 2
        world.most = 0
        await bench.run(plan_of(world.step("c", for_each=list(range(9)), limit="x"), limits={"x": 1}))
        assert world.most == 1
        world.most = 0
        await bench.run(plan_of(world.step("d", for_each=list(range(9)), max_concurrent=9), max_concurrent=9))
        assert world.most == 4


async def test_two_plans_run_at_the_same_time() -> None:
    world = World()
    gate = world.gate("a", "b")
    async with Bench() as bench:
        runs = [await bench.start(plan_of(world.step(name))) for name in "ab"]
        await world.called("a", "b")
        gate.set()
        assert await asyncio.gather(*(run.end() for run in runs)) == ["succeeded", "succeeded"]
