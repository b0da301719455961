"""A day in the life of a run, on a fake clock: waits, deadlines and tries outlive every restart of the engine."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from stepchain_tui.plan import Plan
from stepchain_tui.run import AttemptError, ErrorType
from stepchain_tui.run import events as e
from stepchain_tui.store import SQLiteStore
from tests.support.engines import Bench, JumpingClock, Watched, plan_of
from tests.support.world import World

HOUR = 3600.0
YEAR = 365 * 24 * HOUR
"""The longest delay that a plan may ask for."""


def asks_for(hours: float) -> AttemptError:
    """Return what the other side says when it wants to be left alone for so long."""
    return AttemptError("slow down", error_type=ErrorType.RATE_LIMIT, retry_after=hours * HOUR)


class Day:
    """One run on one file, carried out by one engine after the other; hours count from its start.

    Time stands still while the engine has work, and while nobody lets it go on.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.path = folder / "runs.db"
        self.plan = plan
        self.clock = JumpingClock()
        self.clock.may_jump = False
        self.begin = self.clock.now()
        self.engines = 0
        self.bench: Bench
        self.run: Watched

    @property
    def hour(self) -> float:
        """How late it is."""
        return self.hour_of(self.clock.now())

    def hour_of(self, moment: datetime | None) -> float:
        """Return how many hours after the start a moment is."""
        assert moment is not None
        return (moment - self.begin).total_seconds() / HOUR

    async def __aenter__(self) -> Self:
        """Start the next engine, and the run, or go on with it."""
        self.engines += 1
        self.bench = Bench(SQLiteStore(self.path), self.path.parent, clock=self.clock)
        await self.bench.__aenter__()
        source = self.bench.source(self.plan)
        self.run = Watched(self.bench, await self.bench.engine.start(source, run_id="day"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clock.may_jump = False
        await self.bench.__aexit__(kind, error, trace)

    async def until(self, hour: float) -> None:
        """Let time go on to that hour, and let what is due then be done."""
        self.clock.may_jump = True
        await self.clock.sleep_until(self.begin + timedelta(hours=hour))
        self.clock.may_jump = False
        await self.rest()

    async def rest(self) -> None:
        """Return when only time can bring something new."""
        quiet = 0
        while quiet < 5:
            await asyncio.sleep(0)
            quiet = quiet + 1 if self.bench.is_idle() else 0

    def away_until(self, hour: float) -> None:
        """Let time go on while no engine is there."""
        self.clock.advance((hour - self.hour) * HOUR)

    async def end(self) -> str:
        """Let time go on until the run ends; returns its status."""
        self.clock.may_jump = True
        return (await self.run.end()).value

    async def hours_of(self, step_id: str, *types: type[e.Event]) -> list[float]:
        """Return at which hours a step started, or what else is asked for happened to it."""
        return [
            self.hour_of(event.at)
            for event in await self.run.events()
            if isinstance(event, types or (e.StepStarted,)) and getattr(event, "step_id", "") == step_id
        ]


async def test_a_run_of_a_day_keeps_every_wait_and_every_deadline_over_three_restarts(tmp_path: Path) -> None:
    world = World()
    world.will("poll", *[RuntimeError("not yet")] * 4, "there")
    world.will("fetch", asks_for(2), asks_for(1.5), "fetched")
    world.will("publish", asks_for(12), "published")
    slow = {"max_attempts": 5, "initial_delay": HOUR, "max_delay": 4 * HOUR, "exponential_base": 2, "jitter": False}
    plan = plan_of(
        world.step("prepare"),
        world.step("poll", "prepare", retry=slow),
        world.step("fetch", "prepare", retry={"max_attempts": 3}),
        {"id": "ask", "approve": "Go on?", "timeout": 10 * HOUR, "on_timeout": "approve", "dependencies": ["prepare"]},
        world.step("publish", "ask", "poll", "fetch", retry={"max_attempts": 2}),
        max_concurrent=1,
    )
    day = Day(tmp_path, plan)

    async with day:
        await day.until(3)
        assert day.run.statuses["poll"] == "retrying"
        assert day.run.state.steps["fetch"].tries == 2
    async with day:  # at once, half an hour before fetch is due
        assert day.hour == 3
        await day.until(6)
        assert (day.run.statuses["fetch"], day.run.statuses["ask"]) == ("succeeded", "waiting")
    day.away_until(9)  # poll was due at 7
    async with day:
        await day.rest()
        assert world.count("poll") == 4
        assert day.run.statuses["ask"] == "waiting"
        await day.until(9.5)
        assert day.run.statuses["poll"] == "retrying"
    day.away_until(9.75)
    async with day:
        await day.until(10)
        assert day.run.outputs["ask"] == {"approved": True, "fields": {}}
        assert await day.end() == "succeeded"

        assert day.engines == 4
        assert day.hour == 25
        assert await day.hours_of("prepare") == [0]
        assert await day.hours_of("fetch") == [0, 2, 3.5]
        assert await day.hours_of("poll") == [0, 1, 3, 9, 13]
        assert await day.hours_of("ask", e.StepWaiting) == [0]
        assert await day.hours_of("ask", e.StepResumed) == [10]
        assert await day.hours_of("publish") == [13, 25]
        polls = [event for event in await day.run.events("step.retry_scheduled") if event.step_id == "poll"]
        assert [event.delay / HOUR for event in polls] == [1, 2, 4, 4]
    assert [world.count(name) for name in ("prepare", "poll", "fetch", "publish")] == [1, 5, 3, 2]
    assert not any(step.interruptions for step in day.run.state.steps.values())


@pytest.mark.parametrize(
    ("opened", "again"),
    [(1.0, 6.0), (5.99, 6.0), (6.0, 6.0), (6.01, 6.01), (30.0, 30.0)],
)
async def test_a_wait_for_a_retry_ends_on_time_or_at_once_and_only_once(
    opened: float, again: float, tmp_path: Path
) -> None:
    world = World()
    world.will("a", asks_for(6), "ok")
    day = Day(tmp_path, plan_of(world.step("a", retry={"max_attempts": 2}), world.step("b", "a")))
    async with day:
        await day.until(0.5)
    day.away_until(opened)
    async with day:
        await day.end()
        assert await day.hours_of("a") == [0, again]
        assert await day.hours_of("a", e.StepRetryScheduled) == [0]
    day.away_until(40)
    async with day:
        assert await day.end() == "succeeded"
        assert await day.hours_of("a") == [0, again]
    assert (world.count("a"), world.count("b")) == (2, 1)


async def test_a_wait_that_many_engines_take_up_ends_once(tmp_path: Path) -> None:
    world = World()
    world.will("a", asks_for(6), "ok")
    day = Day(tmp_path, plan_of(world.step("a", retry={"max_attempts": 2})))
    for hour in (1, 2, 3, 4, 5):
        async with day:
            await day.until(hour)
            assert day.run.statuses == {"a": "retrying"}
            assert day.hour_of(day.run.state.steps["a"].retry_at) == 6
    async with day:
        assert await day.end() == "succeeded"
        assert await day.hours_of("a") == [0, 6]
    assert world.count("a") == 2


async def test_the_longest_waits_hold_over_restarts(tmp_path: Path) -> None:
    world = World()
    world.will("a", RuntimeError("broke"), RuntimeError("broke"), "ok")
    longest = {"max_attempts": 3, "initial_delay": YEAR, "max_delay": YEAR, "jitter": False}
    day = Day(tmp_path, plan_of(world.step("a", retry=longest)))
    async with day:
        await day.until(1)
    async with day:
        await day.until(YEAR / HOUR + 1)
    async with day:
        assert await day.end() == "succeeded"
        assert [hour * HOUR / YEAR for hour in await day.hours_of("a")] == [0, 1, 2]


async def test_no_restart_gives_a_try_that_was_used_up(tmp_path: Path) -> None:
    world = World()
    world.will("a", asks_for(2))
    day = Day(tmp_path, plan_of(world.step("a", retry={"max_attempts": 4}), world.step("b", "a")))
    for hour in (1, 3, 5):
        async with day:
            await day.until(hour)
    async with day:
        assert await day.end() == "failed"
        assert day.run.statuses == {"a": "failed", "b": "blocked"}
        assert await day.hours_of("a") == [0, 2, 4, 6]
    assert world.count("a") == 4


@pytest.mark.parametrize(("on_timeout", "end"), [("approve", "succeeded"), ("deny", "failed"), (None, "failed")])
@pytest.mark.parametrize("back", [9.0, 15.0])
async def test_a_question_is_answered_by_the_clock_as_the_plan_says_whoever_was_there(
    on_timeout: str | None, end: str, back: float, tmp_path: Path
) -> None:
    world = World()
    keys = {"on_timeout": on_timeout} if on_timeout else {}
    day = Day(
        tmp_path, plan_of({"id": "ask", "approve": "Go on?", "timeout": 10 * HOUR, **keys}, world.step("b", "ask"))
    )
    async with day:
        await day.until(2)
        assert day.run.state.status == "waiting"
    day.away_until(3)
    async with day:
        await day.until(4)
        assert day.run.statuses["ask"] == "waiting"
    day.away_until(back)
    async with day:
        assert await day.end() == end
        answered = (await day.run.events("step.resumed"))[0]
        assert answered.by == "timeout"
        assert day.hour_of(answered.at) == max(10.0, back)
        assert len(await day.run.events("step.waiting")) == 1
    assert world.count("b") == (end == "succeeded")


async def test_items_of_a_map_keep_their_own_waits(tmp_path: Path) -> None:
    world = World()
    called: list[int] = []

    def come_to(n: int) -> int:
        called.append(n)
        if n and called.count(n) == 1:
            raise asks_for(3 * n)
        return n

    world.will("each", come_to)
    step = world.step("each", for_each=[0, 1, 2], args={"n": "{{ item }}"}, retry={"max_attempts": 2})
    day = Day(tmp_path, plan_of(step, max_concurrent=3))
    async with day:
        await day.until(1)
        assert sorted(called) == [0, 1, 2]
    day.away_until(2)
    async with day:
        await day.until(3)
        assert called.count(1) == 2
        await day.until(4)
        assert called.count(2) == 1
    day.away_until(5.5)
    async with day:
        assert await day.end() == "succeeded"
        assert day.hour == 6
        assert day.run.outputs["each"] == [0, 1, 2]
    assert sorted(called) == [0, 1, 1, 2, 2]
