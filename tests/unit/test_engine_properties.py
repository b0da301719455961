"""The rules as invariants: random graphs, failures, retries and limits, and commands at random moments."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepchain_tui.core.settings import Settings
from stepchain_tui.run import Event, RunStatus
from stepchain_tui.run import events as e
from stepchain_tui.store import MemoryStore
from tests.support.engines import Bench, JumpingClock, Watched, check_summaries
from tests.support.random_runs import (
    Drawn,
    Order,
    build,
    check_history,
    drawn_steps,
    expected_statuses,
    orders,
)
from tests.support.world import World

ENDED = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
NEVER_OPEN = Settings(breaker_failures=1_000_000)
"""All steps call one function here: a circuit breaker of it would keep calls from being made."""
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(QUICK, max_examples=80)
@given(drawn_steps(questions=False, maps=False), st.integers(1, 4), st.integers(1, 2))
def test_every_step_of_a_random_plan_ends_as_the_rules_say(steps: tuple[Drawn, ...], most: int, scarce: int) -> None:
    async def go() -> None:
        world, store = World(), MemoryStore()
        plan = build(world, steps, most, scarce)
        async with Bench(store, settings=NEVER_OPEN) as bench:
            run = await bench.run(plan)
            assert run.statuses == expected_statuses(steps)
            assert check_history(await run.events(), plan) == run.state
            await check_summaries(store, run.state)
            assert world.most <= most
            assert len(world.calls) == sum(len(step.attempts) for step in run.state.steps.values())
            assert bench.engine.core.slots.taken == 0

    asyncio.run(go())


class Tormentor:
    """Gives a run commands at the moments that were drawn, and answers its questions."""

    def __init__(self, orders: list[Order], count: int) -> None:
        self.orders = sorted(orders, key=lambda order: order.after)
        self.count = count
        self.heard = 0
        self.restart = asyncio.Event()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.run: Watched | None = None

    def listen(self, events: list[Event]) -> None:
        """Take note of stored events, and do what is due."""
        self.heard += len(events)
        while self.orders and self.orders[0].after <= self.heard:
            self._give(self.orders.pop(0))
        for event in events:
            if isinstance(event, e.StepWaiting):
                self._tell("approve", step=event.step_id, approved=event.seq % 3 != 0)

    def _give(self, order: Order) -> None:
        step = f"s{order.step % self.count}"
        match order.command:
            case "restart":
                self.restart.set()
            case "pause":
                self._tell("pause", now=order.flag)
            case "resume" | "cancel":
                self._tell(order.command)
            case "cancel step":
                self._tell("cancel", step=step)
            case "rerun":
                self._tell("rerun", step=step, downstream=order.flag)
            case _:
                self._tell(order.command, step=step)

    def _tell(self, command: str, **arguments: Any) -> None:
        assert self.run is not None
        if not self.restart.is_set():
            self.tasks.add(asyncio.create_task(self.run.tell(command, **arguments)))

    async def end(self, run: Watched) -> None:
        """Return when the run was let go of, or its engine is to be started anew."""
        self.run = run
        self.listen([])
        self.answer_again()
        done = asyncio.create_task(run.end())
        restart = asyncio.create_task(self.restart.wait())
        await asyncio.wait({done, restart}, return_when=asyncio.FIRST_COMPLETED)
        restart.cancel()
        if done.done():
            await done
        else:
            done.cancel()
        while self.tasks:
            task = self.tasks.pop()
            answer = await asyncio.wait_for(task, 10)
            assert answer["ok"] or answer["kind"] in ("refused", "usage", "unknown_step"), answer

    def answer_again(self) -> None:
        """Answer the questions that were open before this engine came."""
        assert self.run is not None
        for step in self.run.state.steps.values():
            if step.waiting is not None:
                self._tell("approve", step=step.id)


@settings(QUICK, max_examples=150)
@given(drawn_steps(questions=True, maps=True), st.integers(1, 4), st.integers(1, 2), orders())
def test_no_command_at_any_moment_breaks_a_rule_or_keeps_a_run_from_ending(
    steps: tuple[Drawn, ...], most: int, scarce: int, given_orders: list[Order]
) -> None:
    async def go() -> None:
        world, store, clock = World(), MemoryStore(), JumpingClock()
        plan = build(world, steps, most, scarce)
        tormentor = Tormentor(given_orders, len(steps))
        run: Watched | None = None
        for _ in range(12):
            async with Bench(store, clock=clock, settings=NEVER_OPEN) as bench:
                tormentor.restart.clear()
                handle = await (
                    bench.engine.start(bench.source(plan), run_id="r") if run is None else bench.engine.resume("r")
                )
                run = Watched(bench, handle)
                handle.subscribe(tormentor.listen)
                await tormentor.end(run)
                if not tormentor.restart.is_set():
                    assert bench.engine.core.slots.taken == 0
            events = await stored(store)  # some commands may have come after the engine let go
            assert check_history(events[: run.state.last_seq], plan) == run.state
            state = check_history(events, plan)
            if state.status in ENDED:
                break
        assert state.status in ENDED
        assert all(step.ended for step in state.steps.values())
        await check_summaries(store, state)
        assert world.most <= most
        assert not world.running

    asyncio.run(go())


async def stored(store: MemoryStore) -> list[Event]:
    await store.open()
    return await store.read_events("r")
