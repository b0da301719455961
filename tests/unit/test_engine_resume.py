"""Rules 1, 2, 3 and 10: what is done stays done, what was cut off costs nothing, and one engine owns a run."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from stepchain_tui.core.errors import CommandRefusedError, RunLockedError, UnknownRunError
from stepchain_tui.engine.frontier import SHOWN_AFTER
from stepchain_tui.run import AttemptStatus, Mark, RunStatus
from stepchain_tui.store import AbstractStore, MemoryStore, SQLiteStore
from tests.support.engines import Bench, JumpingClock, Watched, plan_of
from tests.support.world import World

BROKEN = RuntimeError("broke")


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AbstractStore:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "runs.db")


async def test_what_succeeded_is_never_run_again_by_any_resume(store: AbstractStore) -> None:
    world = World()
    world.will("bad", BROKEN, BROKEN, "mended")
    plan = plan_of(world.step("good"), world.step("bad", "good"), world.step("end", "bad"))
    async with Bench(store) as bench:
        assert (await bench.run(plan, "r")).state.status == "failed"
    for expected in ("failed", "succeeded", "succeeded"):
        async with Bench(store) as bench:
            run = await bench.resume("r")
            assert run.state.status == expected
            await run.check()
    assert (world.count("good"), world.count("bad"), world.count("end")) == (1, 3, 1)


async def test_a_run_that_succeeded_is_left_as_it_is_with_no_event_more(store: AbstractStore) -> None:
    world = World()
    async with Bench(store) as bench:
        run = await bench.run(plan_of(world.step("a")), "r")
        before = await run.events()
        again = await bench.resume("r")
        assert (again.state.status, await again.events()) == ("succeeded", before)
        same = await bench.run(plan_of(world.step("a")), "r")
        assert (same.state.status, world.count("a")) == ("succeeded", 1)


async def test_a_resume_gives_fresh_tries_to_what_failed_timed_out_was_blocked_or_cancelled() -> None:
    world = World()
    world.will("bad", BROKEN, BROKEN, "ok")
    late, called_off = world.gate("late"), world.gate("called_off")
    async with Bench() as bench:
        steps = [
            world.step("bad", retry={"max_attempts": 2}),
            world.step("late", timeout=0.05),
            world.step("called_off"),
            world.step("follows", "bad", "late", "called_off"),
        ]
        run = await bench.start(plan_of(*steps), "r")
        await run.tell("cancel", step="called_off")
        assert await run.end() == "failed"
        assert run.statuses == {
            "bad": "failed",
            "late": "timed_out",
            "called_off": "cancelled",
            "follows": "blocked",
        }
        late.set()
        called_off.set()
        again = await bench.resume("r")
        assert set(again.statuses.values()) == {"succeeded"}
        bad = again.state.steps["bad"]
        assert [found.status for found in bad.attempts.values()] == ["failed", "failed", "succeeded"]
        assert (bad.last.tries, bad.attempt) == (1, 3)
        await again.check()


async def test_a_result_that_stands_on_what_is_tried_again_is_stale_but_stays() -> None:
    world = World()
    world.will("bad", BROKEN, "mended")
    async with Bench() as bench:
        plan = plan_of(
            world.step("bad", on_failure="continue"), world.step("stands", "bad"), world.step("fails", "bad")
        )
        world.will("fails", BROKEN, "ok")
        assert (await bench.run(plan, "r")).statuses == {"bad": "failed", "stands": "succeeded", "fails": "failed"}
        run = await bench.resume("r")
        assert run.statuses == {"bad": "succeeded", "stands": "succeeded", "fails": "succeeded"}
        assert run.state.steps["stands"].marks == {Mark.STALE}
        assert run.state.steps["fails"].marks == set()
        assert (world.count("stands"), run.state.status) == (1, "succeeded")


async def test_a_cancelled_run_goes_on_where_it_was(store: AbstractStore) -> None:
    world = World()
    gate = world.gate("b")
    async with Bench(store) as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a"), world.step("c", "b")), "r")
        await world.called("b")
        await run.tell("cancel")
        assert await run.end() == "cancelled"
        assert run.statuses == {"a": "succeeded", "b": "cancelled", "c": "cancelled"}
    gate.set()
    async with Bench(store) as bench:
        again = await bench.resume("r")
        assert (again.state.status, world.calls) == ("succeeded", ["a", "b", "b", "c"])


async def test_an_engine_that_is_closed_leaves_its_runs_interrupted_and_the_attempt_costs_no_try(
    store: AbstractStore,
) -> None:
    world = World()
    gate = world.gate("b")
    async with Bench(store) as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a")), "r")
        await world.called("b")
    assert await run.end() == "interrupted"
    await store.open()
    assert (await store.get_run("r")).shown_status == "interrupted"
    gate.set()
    async with Bench(store) as bench:
        again = await bench.resume("r")
        assert again.state.status == "succeeded"
        step = again.state.steps["b"]
        assert [found.status for found in step.attempts.values()] == ["interrupted", "succeeded"]
        assert [found.tries for found in step.attempts.values()] == [1, 1]
        assert step.interruptions == 0
        await again.check()
    assert world.calls == ["a", "b", "b"]


async def cut_off(bench_store: AbstractStore, world: World, times: int, **keys: object) -> None:
    """Start run `r` and end its engine in the middle of step `a`, so often."""
    world.gate("a")
    for n in range(times):
        async with Bench(bench_store) as bench:
            if n == 0:
                await bench.start(plan_of(world.step("a", **keys), world.step("b", "a")), "r")
            else:
                await bench.engine.resume("r")
            await world.called("a")


async def test_after_three_interruptions_the_engine_asks_before_it_tries_again() -> None:
    world, store = World(), MemoryStore()
    await cut_off(store, world, 3)
    async with Bench(store) as bench:
        run = await bench.resume("r", detach=True)
        assert (run.state.status, run.statuses["a"], world.count("a")) == ("waiting", "waiting", 3)
        waiting = run.state.steps["a"].waiting
        assert (waiting.reason, waiting.attempt) == ("interrupted", None)
        assert "cut off 3 times" in waiting.question
        await run.check()
    world.will("a", "ok")
    async with Bench(store) as bench:
        assert (await bench.tell("r", "approve", step="a"))["ok"]
        run = await bench.resume("r")
        assert (run.state.status, world.count("a")) == ("succeeded", 4)
        await run.check()


async def test_after_three_interruptions_a_no_cancels_the_step() -> None:
    world, store = World(), MemoryStore()
    await cut_off(store, world, 3)
    async with Bench(store) as bench:
        handle = await bench.engine.resume("r")
        run = Watched(bench, handle)
        await run.until_status("a", "waiting")
        assert (await run.tell("approve", step="a", approved=False))["ok"]
        assert await run.end() == "failed"
        assert run.statuses == {"a": "cancelled", "b": "blocked"}
        await run.check()


async def test_two_interruptions_are_not_asked_about() -> None:
    world, store = World(), MemoryStore()
    await cut_off(store, world, 2)
    world.will("a", "ok")
    async with Bench(store) as bench:
        assert (await bench.resume("r")).state.status == "succeeded"


async def test_a_step_that_says_rerun_is_never_asked_about() -> None:
    world, store = World(), MemoryStore()
    await cut_off(store, world, 5, on_interrupt="rerun")
    world.will("a", "ok")
    async with Bench(store) as bench:
        assert (await bench.resume("r")).state.status == "succeeded"
    assert world.count("a") == 6


async def test_pausing_at_once_does_not_count_as_an_interruption() -> None:
    world = World()
    gate = world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a")), "r")
        for _ in range(4):
            await world.called("a")
            await run.tell("pause", now=True)
            assert await run.end() == "paused"
            run = Watched(bench, await bench.engine.resume("r"))
        gate.set()
        assert await run.end() == "succeeded"
        assert run.state.steps["a"].interruptions == 0


async def test_a_second_engine_is_refused_with_the_owners_pid(store: AbstractStore) -> None:
    world = World()
    gate = world.gate("a")
    plan = plan_of(world.step("a"))
    async with Bench(store) as bench:
        run = await bench.start(plan, "r")
        await world.called("a")
        for call in (
            lambda: bench.start(plan, "r"),
            lambda: bench.engine.resume("r"),
            lambda: bench.engine.rerun("r", "a"),
        ):
            with pytest.raises(RunLockedError) as caught:
                await call()
            assert (caught.value.run_id, caught.value.pid) == ("r", os.getpid())
            assert str(os.getpid()) in caught.value.message
        gate.set()
        assert await run.end() == "succeeded"
        assert world.count("a") == 1
        assert (await bench.run(plan, "r")).state.status == "succeeded"


async def test_fresh_starts_over_in_the_same_run_and_old_attempts_stay(store: AbstractStore) -> None:
    world = World()
    plan = plan_of(world.step("a"), world.step("b", "a"))
    async with Bench(store) as bench:
        await bench.run(plan, "r")
        run = await bench.run(plan, "r", fresh=True)
        assert world.calls == ["a", "b", "a", "b"]
        assert [len(step.attempts) for step in run.state.steps.values()] == [2, 2]
        assert run.state.status == "succeeded"
        await run.check()


async def test_a_rerun_of_one_step_marks_what_follows_stale_and_keeps_old_attempts(store: AbstractStore) -> None:
    world = World()
    world.will("a", "old", "new")
    async with Bench(store) as bench:
        plan = plan_of(world.step("a"), world.step("b", "a"), world.step("c", "b"), world.step("d"))
        await bench.run(plan, "r")
        run = await bench.rerun("r", "a")
        assert world.calls == ["a", "d", "b", "c", "a"]
        assert run.outputs["a"] == "new"
        assert [found.output.value for found in run.state.steps["a"].attempts.values()] == ["old", "new"]
        assert {name for name, step in run.state.steps.items() if Mark.STALE in step.marks} == {"b", "c"}
        assert run.state.status == "succeeded"
        await run.check()


async def test_a_rerun_with_what_follows_runs_it_in_order_and_leaves_nothing_stale(store: AbstractStore) -> None:
    world = World()
    async with Bench(store) as bench:
        plan = plan_of(world.step("a"), world.step("b", "a"), world.step("c", "b"), world.step("d"))
        await bench.run(plan, "r")
        world.calls.clear()
        run = await bench.rerun("r", "b", downstream=True)
        assert world.calls == ["b", "c"]
        assert not any(step.marks for step in run.state.steps.values())
        assert run.state.status == "succeeded"
        await run.check()


async def test_a_rerun_that_fails_fails_the_run_and_a_later_resume_mends_it() -> None:
    world = World()
    world.will("a", "ok", BROKEN, "ok again")
    async with Bench() as bench:
        await bench.run(plan_of(world.step("a"), world.step("b", "a")), "r")
        run = await bench.rerun("r", "a")
        assert (run.state.status, run.statuses) == ("failed", {"a": "failed", "b": "succeeded"})
        assert (await bench.resume("r")).state.status == "succeeded"
    assert world.calls == ["a", "b", "a", "a"]


async def test_a_rerun_during_a_run_goes_on_with_the_others() -> None:
    world = World()
    gate = world.gate("slow")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("slow"), world.step("a"), world.step("b", "a")))
        await run.until_status("b", "succeeded")
        assert (await run.tell("rerun", step="a", downstream=True))["ok"]
        await run.until_status("b", "pending")
        await run.until_status("b", "succeeded")
        gate.set()
        assert await run.end() == "succeeded"
        assert (world.count("a"), world.count("b"), world.count("slow")) == (2, 2, 1)


async def test_a_rerun_is_refused_for_a_step_that_is_at_work_or_has_not_run(store: AbstractStore) -> None:
    world = World()
    gate = world.gate("a")
    async with Bench(store) as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a")), "r")
        await world.called("a")
        for step in "ab":
            assert (await run.tell("rerun", step=step))["ok"] is False
        gate.set()
        await run.end()
        assert "command.refused" in await run.names()
        with pytest.raises(CommandRefusedError, match="no step 'z' in this run"):
            await bench.engine.rerun("r", "z")


async def test_a_refused_rerun_of_a_stopped_run_leaves_it_as_it_was() -> None:
    world = World()
    world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a")), "r")
        await world.called("a")
        await run.tell("pause", now=True)
        await run.end()
        with pytest.raises(CommandRefusedError):
            await bench.engine.rerun("r", "b")
        state = await bench.store.load_state("r")
        assert (state.status, state.steps["b"].status) == (RunStatus.PAUSED, "pending")


async def test_an_unknown_run_is_named(store: AbstractStore) -> None:
    async with Bench(store) as bench:
        with pytest.raises(UnknownRunError):
            await bench.engine.resume("nope")


async def test_a_run_can_be_named_by_the_beginning_of_its_id(store: AbstractStore) -> None:
    world = World()
    world.will("a", BROKEN, "ok")
    async with Bench(store) as bench:
        await bench.run(plan_of(world.step("a")), "20260101-long-id")
        assert (await bench.resume("20260101-lo")).state.status == "succeeded"


async def test_a_changed_plan_keeps_the_results_of_unchanged_steps_and_marks_what_changed() -> None:
    world = World()
    async with Bench() as bench:
        before = plan_of(world.step("a"), world.step("b", "a"), world.step("c", "b"))
        await bench.run(before, "r")
        after = plan_of(
            world.step("a"), world.step("b", "a", args={"more": 1}), world.step("c", "b"), world.step("d", "c")
        )
        run = await bench.run(after, "r")
        assert run.state.revision == 2
        assert world.calls == ["a", "b", "c", "d"]
        assert {name for name, step in run.state.steps.items() if Mark.STALE in step.marks} == {"b", "c"}
        assert run.state.status == "succeeded"
        await run.check()


async def test_waiting_for_a_run_twice_gives_the_same_answer() -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a")))
        assert await asyncio.gather(run.end(), run.end()) == ["succeeded", "succeeded"]
        assert run.handle.live is False
        assert [found.status for found in run.state.steps["a"].attempts.values()] == [AttemptStatus.SUCCEEDED]


async def test_a_step_that_was_queued_when_its_engine_ended_waits_in_the_queue_of_the_next_one(tmp_path: Path) -> None:
    world = World()
    world.gate("a")
    plan = plan_of(world.step("a"), world.step("b"), world.step("c"), max_concurrent=1)
    async with Bench(SQLiteStore(tmp_path / "runs.db")) as bench:
        run = await bench.start(plan, "r")
        await run.until_status("c", "queued")
    gate = world.gate("a")
    async with Bench(SQLiteStore(tmp_path / "runs.db")) as bench:
        run = await bench.start(plan, "r")
        await world.called("a")
        shown = bench.engine.core.loop.create_future()
        bench.engine.core.loop.call_later(2 * SHOWN_AFTER, shown.set_result, None)
        await shown
        gate.set()
        assert await run.end() == "succeeded"
        assert len(await run.events("step.queued")) == 2


async def test_a_map_that_only_waits_for_retries_is_not_cut_off_by_an_orderly_end(tmp_path: Path) -> None:
    world = World()
    world.will("m", ValueError("not yet"), "there")
    retry = {"max_attempts": 2, "initial_delay": 3600.0, "jitter": False}
    plan = plan_of(world.step("m", for_each=[1], retry=retry))
    clock = JumpingClock()
    clock.may_jump = False
    for _ in range(4):
        async with Bench(SQLiteStore(tmp_path / "runs.db"), clock=clock) as bench:
            run = await bench.start(plan, "r")
            await run.until(lambda state: bool(state.steps["m"].items) and state.steps["m"].items[0].tries == 1)
            assert run.statuses == {"m": "running"}
    clock.may_jump = True
    async with Bench(SQLiteStore(tmp_path / "runs.db"), clock=clock) as bench:
        run = await bench.run(plan, "r")
        assert run.state.status == "succeeded"
        assert world.count("m") == 2
