"""Moments that are hard to hit: a store that takes its time, and commands that come right then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.run import Kept
from stepchain_tui.run import events as e
from stepchain_tui.store import Batch, MemoryStore
from tests.support.engines import Bench, plan_of, shell
from tests.support.world import World

Done = Callable[[BaseException | None], None]


class SlowStore(MemoryStore):
    """A store that says that a batch is durable, or gives a large value, when it is let.

    Attributes:
        held: The events whose batch is held back from now on.
        loading: Set when a large value was asked for; `may_load` lets it go.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: tuple[type[Any], ...] = ()
        self.waiting: list[Callable[[], None]] = []
        self.arrived, self.loading, self.may_load = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.may_load.set()

    def commit(self, batch: Batch, done: Done | None = None) -> None:
        """Store a batch, now or when it is let."""
        is_held = self.waiting or any(isinstance(event, self.held) for event in batch.events)
        if is_held and self.held:
            commit = super().commit
            self.waiting.append(lambda: commit(batch, done))
            self.arrived.set()
        else:
            super().commit(batch, done)

    def let_go(self) -> None:
        """Store what was held back."""
        self.held = ()
        waiting, self.waiting = self.waiting, []
        for commit in waiting:
            commit()

    async def load_value(self, kept: Kept) -> Any:
        """Return a value, when it is let."""
        if kept.blob is not None:
            self.loading.set()
            await self.may_load.wait()
        return await super().load_value(kept)


async def test_a_command_between_the_last_event_and_its_commit_does_not_change_a_run_that_has_ended() -> None:
    world, store = World(), SlowStore()
    store.held = (e.RunFinished,)
    async with Bench(store) as bench:
        run = await bench.start(plan_of(world.step("a")))
        await asyncio.wait_for(store.arrived.wait(), 10)
        assert run.handle.live
        answer = asyncio.create_task(run.tell("rerun", step="a"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not answer.done()
        store.let_go()
        assert await run.end() == "succeeded"
        assert (await answer)["ok"] is False
        assert (await run.names())[-1] == "run.finished"
        await run.check()


async def test_a_body_starts_only_when_its_start_is_stored() -> None:
    world, store = World(), SlowStore()
    store.held = (e.StepStarted,)
    async with Bench(store) as bench:
        run = await bench.start(plan_of(world.step("a")))
        await asyncio.wait_for(store.arrived.wait(), 10)
        for _ in range(20):
            await asyncio.sleep(0)
        assert world.calls == []
        store.let_go()
        assert await run.end() == "succeeded"


async def test_a_command_is_held_until_its_process_is_stored(tmp_path: Path) -> None:
    store = SlowStore()
    store.held = (e.StepSpawned,)
    async with Bench(store, tmp_path) as bench:
        run = await bench.start(plan_of(shell("a", "echo done")))
        await asyncio.wait_for(store.arrived.wait(), 10)
        task = next(iter(bench.engine._drivers[run.run_id].bodies.values())).task
        done, _ = await asyncio.wait([task], timeout=0.5)  # a command that was not held would have ended by now
        assert not done
        store.let_go()
        assert await run.end() == "succeeded"


@pytest.mark.parametrize("command", ["cancel", "skip"])
async def test_a_step_whose_inputs_are_being_loaded_can_be_called_off(command: str) -> None:
    world, store = World(), SlowStore()
    world.will("a", "x" * 100_000)
    async with Bench(store) as bench:
        store.may_load.clear()
        step = world.step("b", args={"x": "{{ steps.a.output }}"})
        run = await bench.start(plan_of(world.step("a"), step, world.step("c", "b", trigger_rule="all_done")))
        await asyncio.wait_for(store.loading.wait(), 10)
        assert (await run.tell(command, step="b"))["ok"]
        store.may_load.set()
        await run.end()
        assert run.statuses["b"] == {"cancel": "cancelled", "skip": "skipped"}[command]
        assert (run.statuses["c"], world.count("b")) == ("succeeded", 0)
        assert bench.engine.core.slots.taken == 0
        await run.check()


async def test_a_step_whose_inputs_are_being_loaded_waits_through_a_pause() -> None:
    world, store = World(), SlowStore()
    world.will("a", "x" * 100_000)
    async with Bench(store) as bench:
        store.may_load.clear()
        run = await bench.start(plan_of(world.step("a"), world.step("b", args={"x": "{{ steps.a.output }}"})), "r")
        await asyncio.wait_for(store.loading.wait(), 10)
        await run.tell("pause")
        store.may_load.set()
        assert await run.end() == "paused"
        assert (run.statuses["b"], world.count("b")) == ("pending", 0)
        assert (await bench.resume("r")).state.status == "succeeded"


async def test_a_rerun_of_a_parent_calls_back_a_step_whose_inputs_are_being_loaded() -> None:
    world, store = World(), SlowStore()
    world.will("a", "x" * 100_000, "y" * 100_000)
    async with Bench(store) as bench:
        store.may_load.clear()
        run = await bench.start(plan_of(world.step("a"), world.step("b", args={"x": "{{ steps.a.output }}"})))
        await asyncio.wait_for(store.loading.wait(), 10)
        assert (await run.tell("rerun", step="a"))["ok"]
        store.may_load.set()
        assert await run.end() == "succeeded"
        assert (world.given["b"]["x"][0], world.count("b")) == ("y", 1)
        assert bench.engine.core.slots.taken == 0
        await run.check()


async def test_a_map_can_be_cancelled_while_its_large_results_are_gathered() -> None:
    world, store = World(), SlowStore()
    world.will("each", "x" * 100_000)
    async with Bench(store) as bench:
        store.may_load.clear()
        gate = world.gate("slow")
        steps = [world.step("each", for_each=[1, 2]), world.step("slow")]
        run = await bench.start(plan_of(*steps, world.step("end", "each", "slow", trigger_rule="all_done")))
        await asyncio.wait_for(store.loading.wait(), 10)
        assert (await run.tell("cancel", step="each"))["ok"]
        store.may_load.set()
        gate.set()
        await run.end()
        assert run.statuses == {"each": "cancelled", "slow": "succeeded", "end": "succeeded"}
        await run.check()
