"""Maps: one step over many items, in order, each item tried, kept and gone on with by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepchain_tui.run import AttemptError, ErrorType
from stepchain_tui.store import MemoryStore
from tests.support.engines import Bench, Watched, plan_of
from tests.support.world import World

LATER = AttemptError("slow down", error_type=ErrorType.RATE_LIMIT, retry_after=3600)


def over(world: World, items: Any, **keys: Any) -> dict[str, Any]:
    """Return a map whose body is given each item and its place."""
    return world.step("each", for_each=items, args={"item": "{{ item }}", "index": "{{ index }}"}, **keys)


def failing(*bad: Any) -> Any:
    """Return an outcome that fails for these items and gives ten times the others."""

    def outcome(item: Any, index: int) -> Any:
        if item in bad:
            raise RuntimeError(f"no {item}")
        return item * 10

    return outcome


async def test_the_output_is_the_items_outputs_in_the_order_of_the_items() -> None:
    world = World()
    gates = {n: asyncio.Event() for n in range(3)}

    async def in_turn(item: int, index: int) -> int:
        if item < 2:
            await gates[item + 1].wait()
        gates[item].set()
        return item * 10

    world.will("each", in_turn)
    async with Bench() as bench:
        step = {**over(world, "{{ steps.make.output }}"), "function": "tests.support.world:act_awaiting"}
        world.will("make", [0, 1, 2])
        run = await bench.run(plan_of(world.step("make"), step, world.step("end", "each")))
        assert run.outputs["each"] == [0, 10, 20]
        done = await run.events("item.succeeded")
        assert [event.item for event in done] == [2, 1, 0]
        names = await run.names()
        assert names.index("step.expanded") < names.index("item.started")
        await run.check()


async def test_items_start_in_order_and_know_their_value_and_place() -> None:
    world = World()
    seen: list[Any] = []
    world.will("each", lambda item, index: seen.append((item, index)))
    async with Bench() as bench:
        await bench.run(plan_of(over(world, ["x", "y", "z"]), max_concurrent=1))
    assert seen == [("x", 0), ("y", 1), ("z", 2)]


async def test_an_empty_list_gives_an_empty_list() -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.run(
            plan_of(over(world, []), world.step("end", "each", args={"got": "{{ steps.each.output }}"}))
        )
        assert (run.statuses, run.outputs["each"]) == ({"each": "succeeded", "end": "succeeded"}, [])
        await run.check()
    assert world.given["end"] == {"got": []}


@pytest.mark.parametrize("items", ["{{ 7 }}", "{{ 'text' }}", "{{ {'a': 1} }}"])
async def test_what_is_no_list_fails_the_step_as_the_users_error(items: str) -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.run(plan_of(over(world, items, retry={"max_attempts": 3})))
        error = run.state.steps["each"].error
        assert (run.statuses["each"], error.error_type) == ("failed", "user_error")
        assert "for_each needs a list" in error.message
    assert world.calls == []


async def test_an_item_is_tried_again_by_itself() -> None:
    world = World()
    tried: list[int] = []

    def once(item: int, index: int) -> int:
        tried.append(item)
        if item == 1 and tried.count(1) < 3:
            raise RuntimeError("not yet")
        return item

    world.will("each", once)
    async with Bench() as bench:
        run = await bench.run(plan_of(over(world, [0, 1, 2], retry={"max_attempts": 3})))
        assert run.outputs["each"] == [0, 1, 2]
        assert sorted(tried) == [0, 1, 1, 1, 2]
        retries = await run.events("item.retry_scheduled")
        assert [(event.item, event.tries, event.delay) for event in retries] == [(1, 1, 0), (1, 2, 0)]
        assert run.state.steps["each"].attempt == 1
        await run.check()


async def test_an_item_waits_for_its_retry_without_a_slot() -> None:
    world = World()
    world.will("each", LATER, "ok")
    async with Bench() as bench:
        bench.clock.may_jump = False
        run = await bench.start(plan_of(over(world, [0, 1], retry={"max_attempts": 2}), max_concurrent=1))
        await run.until(
            lambda state: [item.status for item in state.steps["each"].items or ()] == ["retrying", "succeeded"]
        )
        assert (await run.tell("try_now", step="each"))["ok"]
        assert await run.end() == "succeeded"


async def test_a_failed_item_fails_the_step_with_the_others_results_kept_and_a_resume_runs_only_the_failed_ones() -> (
    None
):
    world, store = World(), MemoryStore()
    world.will("each", failing(1, 3))
    async with Bench(store) as bench:
        run = await bench.run(plan_of(over(world, [0, 1, 2, 3]), world.step("end", "each")), "r")
        assert run.statuses == {"each": "failed", "end": "blocked"}
        step = run.state.steps["each"]
        assert [item.status for item in step.items] == ["succeeded", "failed", "succeeded", "failed"]
        assert step.error.message == "2 of 4 items failed; item 1: no 1"
        assert (step.error.error_type, step.error.details) == ("tool_error", {"failed_items": [1, 3]})
        assert step.output.value == [0, None, 20, None]
        await run.check()
    again: list[int] = []

    def mended(item: int, index: int) -> int:
        again.append(item)
        return item * 10

    world.will("each", mended)
    async with Bench(store) as bench:
        run = await bench.resume("r")
        assert (again, run.outputs["each"]) == ([1, 3], [0, 10, 20, 30])
        assert run.statuses == {"each": "succeeded", "end": "succeeded"}
        await run.check()


async def test_failed_items_under_continue_are_null_for_those_who_follow() -> None:
    world = World()
    world.will("each", failing(1))
    async with Bench() as bench:
        end = world.step("end", "each", args={"got": "{{ steps.each.output }}"})
        run = await bench.run(plan_of(over(world, [0, 1, 2], on_failure="continue"), end))
        assert run.state.status == "succeeded"
    assert world.given["end"] == {"got": [0, None, 20]}


async def test_done_items_are_not_run_again_after_the_engine_ended_in_the_middle() -> None:
    world, store = World(), MemoryStore()
    gate = asyncio.Event()
    seen: list[int] = []

    async def wait_at_two(item: int, index: int) -> int:
        seen.append(item)
        if item == 2:
            await gate.wait()
        return item

    world.will("each", wait_at_two)
    step = {**over(world, "{{ steps.make.output }}"), "function": "tests.support.world:act_awaiting"}
    world.will("make", [0, 1, 2, 3])
    async with Bench(store) as bench:
        run = await bench.start(plan_of(world.step("make"), step, max_concurrent=1), "r")
        await run.until(lambda state: len(state.steps["each"].items or ()) == 4 and seen[-1:] == [2])
    state = run.state
    assert [item.status for item in state.steps["each"].items] == ["succeeded", "succeeded", "pending", "pending"]
    gate.set()
    async with Bench(store) as bench:
        run = await bench.resume("r")
        assert (seen, run.outputs["each"]) == ([0, 1, 2, 2, 3], [0, 1, 2, 3])
        assert len(await run.events("step.expanded")) == 1
        tries = [found.tries for (item, _), found in run.state.steps["each"].attempts.items() if item == 2]
        assert tries == [1, 1]
        await run.check()


async def test_a_rerun_of_a_map_runs_every_item_again() -> None:
    world = World()
    async with Bench() as bench:
        await bench.run(plan_of(over(world, [1, 2])), "r")
        run = await bench.rerun("r", "each")
        assert (world.count("each"), run.state.status) == (4, "succeeded")
        assert [item.attempt for item in run.state.steps["each"].items] == [2, 2]
        await run.check()


async def test_pause_lets_running_items_finish_and_a_resume_does_the_rest() -> None:
    world, store = World(), MemoryStore()
    gate = world.gate("each")
    async with Bench(store) as bench:
        run = await bench.start(plan_of(over(world, [0, 1, 2], max_concurrent=1)), "r")
        await world.called("each")
        await run.tell("pause")
        gate.set()
        assert await run.end() == "paused"
        assert [item.status for item in run.state.steps["each"].items] == ["succeeded", "pending", "pending"]
        assert run.state.steps["each"].interruptions == 0
        again = await bench.resume("r")
        assert (again.state.status, world.count("each")) == ("succeeded", 3)
        await again.check()


async def test_pause_now_stops_items_and_a_resume_runs_them_again() -> None:
    world = World()
    gate = world.gate("each")
    async with Bench() as bench:
        run = await bench.start(plan_of(over(world, [0, 1])), "r")
        await run.until(lambda _: len(world.running) == 2)
        await run.tell("pause", now=True)
        assert await run.end() == "paused"
        assert [item.status for item in run.state.steps["each"].items] == ["pending", "pending"]
        gate.set()
        again = await bench.resume("r")
        assert (again.state.status, world.count("each")) == ("succeeded", 4)
        await again.check()


async def test_cancelling_a_map_stops_its_items_and_starts_no_other() -> None:
    world = World()
    world.gate("each")
    async with Bench() as bench:
        run = await bench.start(plan_of(over(world, [0, 1, 2], max_concurrent=2)))
        await run.until(lambda _: len(world.running) == 2)
        await run.tell("cancel", step="each")
        assert await run.end() == "failed"
        assert (run.statuses["each"], world.count("each"), world.running) == ("cancelled", 2, [])
        assert {item.status for item in run.state.steps["each"].items} == {"cancelled"}
        await run.check()


async def test_a_map_whose_items_wait_for_a_retry_can_be_cancelled() -> None:
    world = World()
    world.will("each", LATER)
    async with Bench() as bench:
        bench.clock.may_jump = False
        run = await bench.start(plan_of(over(world, [0, 1], retry={"max_attempts": 2})))
        await run.until(lambda state: [item.status for item in state.steps["each"].items or ()] == ["retrying"] * 2)
        await run.tell("cancel", step="each")
        assert await run.end() == "failed"
        await run.check()


async def test_a_map_of_large_items_can_be_cancelled_while_they_are_loaded() -> None:
    world = World()
    async with Bench() as bench:
        world.will("make", ["x" * 100_000, "y" * 100_000])
        run = await bench.start(plan_of(world.step("make"), over(world, "{{ steps.make.output }}")))
        await run.until(lambda state: state.steps["each"].items is not None)
        await run.tell("cancel", step="each")
        assert await run.end() == "failed"
        assert run.statuses["each"] == "cancelled"
        await run.check()


async def test_a_map_of_large_items_can_be_paused_while_they_are_loaded() -> None:
    world = World()
    async with Bench() as bench:
        world.will("make", ["x" * 100_000, "y" * 100_000])
        run = await bench.start(plan_of(world.step("make"), over(world, "{{ steps.make.output }}")), "r")
        await run.until(lambda state: state.steps["each"].items is not None)
        await run.tell("pause", now=True)
        assert (await run.tell("resume"))["ok"] in (True, False)
        status = await run.end()
        if status == "paused":
            run = await bench.resume("r")
        assert run.statuses["each"] == "succeeded"
        await run.check()


async def test_a_map_with_large_results_can_be_cancelled_while_they_are_gathered() -> None:
    world = World()
    world.will("each", "x" * 100_000)
    async with Bench() as bench:
        plan = plan_of(
            over(world, [1, 2]), world.step("slow"), world.step("end", "each", "slow", trigger_rule="all_done")
        )
        gate = world.gate("slow")
        run = await bench.start(plan)
        done = ["succeeded", "succeeded"]
        await run.until(lambda state: [item.status for item in state.steps["each"].items or ()] == done)
        answer = await run.tell("cancel", step="each")
        gate.set()
        await run.end()
        assert run.statuses["each"] == ("cancelled" if answer["ok"] else "succeeded")
        assert run.statuses["end"] == "succeeded"
        await run.check()


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"shell": "printf %s {{ item }}"}, ["a", "b"]),
        ({"python": "word + '!'", "args": {"word": "{{ item }}"}}, ["a!", "b!"]),
        ({"prompt": "say {{ item }}", "model": "scripted", "replies": ["said"]}, ["said", "said"]),
    ],
)
async def test_every_kind_of_step_can_be_a_map(step: dict[str, Any], expected: list[str]) -> None:
    async with Bench() as bench:
        run = await bench.run(plan_of({"id": "each", "for_each": ["a", "b"], **step}))
        assert run.statuses == {"each": "succeeded"}
        found = [item["stdout"] if isinstance(item, dict) else item for item in run.outputs["each"]]
        assert found == expected
        await run.check()


async def test_a_map_of_questions_asks_one_after_the_other() -> None:
    async with Bench() as bench:
        run = await bench.start(plan_of({"id": "ask", "for_each": ["x", "y"], "approve": "{{ item }}?"}))
        await run.until_status("ask", "waiting")
        assert (run.state.steps["ask"].waiting.question, run.state.steps["ask"].waiting.item) == ("x?", 0)
        await run.tell("approve", step="ask")
        await run.until(lambda state: (found := state.steps["ask"].waiting) is not None and found.item == 1)
        assert run.state.steps["ask"].waiting.question == "y?"
        await run.tell("approve", step="ask")
        assert await run.end() == "succeeded"
        assert [answer["approved"] for answer in run.outputs["ask"]] == [True, True]
        await run.check()


async def test_a_map_of_questions_is_gone_on_with_by_another_engine() -> None:
    store = MemoryStore()
    plan = plan_of({"id": "ask", "for_each": ["x", "y"], "approve": "{{ item }}?"})
    async with Bench(store) as bench:
        run = await bench.run(plan, "r", detach=True)
        assert (run.state.status, run.statuses["ask"]) == ("waiting", "waiting")
        assert (await bench.tell("r", "approve", step="ask"))["ok"]
    async with Bench(store) as bench:
        run = await bench.resume("r", detach=True)
        assert run.state.status == "waiting"
        assert run.state.steps["ask"].waiting.item == 1
    async with Bench(store) as bench:
        run = Watched(bench, await bench.engine.resume("r"))
        await run.until_status("ask", "waiting")
        assert (await run.tell("approve", step="ask"))["ok"]
        assert await run.end() == "succeeded"
        assert [answer["approved"] for answer in run.outputs["ask"]] == [True, True]
        await run.check()


async def test_a_map_of_questions_can_be_skipped() -> None:
    async with Bench() as bench:
        run = await bench.start(plan_of({"id": "ask", "for_each": ["x", "y"], "approve": "{{ item }}?"}))
        await run.until_status("ask", "waiting")
        assert (await run.tell("skip", step="ask"))["ok"]
        assert await run.end() == "succeeded"
        assert run.statuses == {"ask": "skipped"}
        await run.check()
