"""How a run ends when several things end it at once."""

from __future__ import annotations

from stepchain_tui.engine.control import apply_command
from stepchain_tui.run.events import RunFinished, RunInterrupted
from stepchain_tui.store import Command, MemoryStore
from tests.support.engines import Bench, plan_of
from tests.support.world import World


async def test_a_run_that_is_cancelled_while_its_engine_ends_is_cancelled_and_not_interrupted() -> None:
    world, store = World(), MemoryStore()
    world.gate("slow")
    async with Bench(store) as bench:
        run = await bench.start(plan_of(world.step("slow"), world.step("next", "slow")))
        await world.called("slow")
        order = Command(id="c", run_id=run.run_id, command="cancel", sender="Ada", sent_at=bench.clock.now())
        assert apply_command(bench.engine._drivers[run.run_id], order)["ok"]
        await bench.engine.close()
        assert await run.end() == "cancelled"
    await store.open()
    events = await store.read_events(run.run_id)
    assert isinstance(events[-1], RunFinished)
    assert not [event for event in events if isinstance(event, RunInterrupted)]
