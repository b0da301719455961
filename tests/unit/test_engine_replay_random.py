"""Whatever happened to a run, a replay of it gives what the run has in the end, and calls nothing."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepchain_tui.core.settings import Settings
from stepchain_tui.engine.replay_differences import find_differences
from stepchain_tui.run.status import RUN_ENDED
from stepchain_tui.store import MemoryStore
from tests.support.engines import Bench, JumpingClock, Watched, check_summaries
from tests.support.random_runs import Drawn, Order, build, drawn_steps, orders
from tests.support.world import World
from tests.unit.test_engine_properties import Tormentor

NEVER_OPEN = Settings(breaker_failures=1_000_000)
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(QUICK, max_examples=60)
@given(drawn_steps(questions=True, maps=True), st.integers(1, 4), orders())
def test_a_replay_of_a_random_run_is_what_the_run_was(
    steps: tuple[Drawn, ...], most: int, given_orders: list[Order]
) -> None:
    async def go() -> None:
        world, store, clock = World(), MemoryStore(), JumpingClock()
        plan = build(world, steps, most, 1)
        tormentor = Tormentor(given_orders, len(steps))
        begun = False
        for _ in range(12):
            async with Bench(store, clock=clock, settings=NEVER_OPEN) as bench:
                tormentor.restart.clear()
                engine = bench.engine
                handle = await (engine.resume("r") if begun else engine.start(bench.source(plan), run_id="r"))
                begun = True
                handle.subscribe(tormentor.listen)
                await tormentor.end(Watched(bench, handle))
            await store.open()
            if (await store.load_state("r")).status in RUN_ENDED:
                break
        recorded = await store.load_state("r")
        async with Bench(store, clock=clock, settings=NEVER_OPEN) as bench:
            made, jumps = len(world.calls), len(clock.jumps)

            replay = Watched(bench, await bench.engine.replay("r", new_run_id="again"))
            await replay.end()

            found = [str(one) for one in await find_differences(store, recorded, replay.state)]
            assert recorded.status not in RUN_ENDED or found == []
            assert all("the recording ends before it has a result" in one for one in found)
            assert len(world.calls) == made
            assert len(clock.jumps) == jumps
            assert all(step.ended for step in replay.state.steps.values())
            for step in recorded.steps.values():
                if step.done:
                    assert replay.outputs[step.id] == (step.output.value if step.output else None)
            assert bench.engine.core.slots.taken == 0
            await replay.check()
            await check_summaries(store, replay.state)

    asyncio.run(go())
