"""The cache of results and the circuit breakers, as runs meet them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.settings import Settings
from stepchain_tui.run import AttemptError, ErrorType
from stepchain_tui.store import MemoryStore, SQLiteStore
from tests.support.engines import Bench, JumpingClock, plan_of
from tests.support.world import World

DOWN = AttemptError("connection refused", error_type=ErrorType.SERVER_ERROR)


# --- the cache


async def test_what_was_made_of_the_same_is_not_made_again() -> None:
    world = World()
    world.will("a", 42)
    plan = plan_of(world.step("a", cache=True), world.step("b", args={"got": "{{ steps.a.output }}"}))
    async with Bench() as bench:
        first = await bench.run(plan, "first")
        assert first.state.steps["a"].attempts[None, 1].cache == "miss: first time"
        second = await bench.run(plan, "second")
        step = second.state.steps["a"]
        assert world.calls == ["a", "b", "b"]
        assert (second.outputs["a"], step.marks, step.origin) == (42, {"cached"}, "first/a")
        assert step.attempts[None, 1].cache.startswith("hit: ")
        assert first.state.steps["a"].marks == second.state.steps["b"].marks == set()
        await second.check()


async def test_a_miss_says_which_part_of_the_key_changed(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("def f(n):\n    return n\n")
    step: dict[str, Any] = {"id": "a", "function": "./code.py:f", "mode": "inline", "cache": True}

    async def said(bench: Bench, **keys: Any) -> str:
        run = await bench.run(plan_of({**step, **keys}, inputs={"n": {"type": "integer", "default": keys.get("n", 1)}}))
        return run.state.steps["a"].attempts[None, 1].cache

    async with Bench(folder=tmp_path) as bench:
        given = {"args": {"n": "{{ inputs.n }}"}}
        source = plan_of({**step, **given}, inputs={"n": {"type": "integer"}})
        await bench.run(source, "one", inputs={"n": 1})
        other = await bench.run(source, "two", inputs={"n": 2})
        assert other.state.steps["a"].attempts[None, 1].cache == "miss: the input changed"
        code.write_text("def f(n):\n    return n + 1000\n")
        new = await bench.run(source, "three", inputs={"n": 2})
        assert new.state.steps["a"].attempts[None, 1].cache == "miss: the code changed"
        assert new.outputs["a"] == 1002
        hit = await bench.run(source, "four", inputs={"n": 2})
        assert hit.state.steps["a"].marks == {"cached"}
        assert hit.state.steps["a"].origin == "three/a"


async def test_a_kept_result_grows_too_old() -> None:
    world = World()
    plan = plan_of(world.step("a", cache=300))
    async with Bench() as bench:
        await bench.run(plan)
        bench.clock.advance(299)
        assert (await bench.run(plan)).state.steps["a"].marks == {"cached"}
        bench.clock.advance(21)
        late = await bench.run(plan)
        assert late.state.steps["a"].attempts[None, 1].cache == "miss: expired 20 s ago"
        assert world.count("a") == 2


async def test_errors_are_not_kept_and_a_rerun_by_hand_makes_it_anew() -> None:
    world = World()
    world.will("a", ValueError("no"), "yes")
    plan = plan_of(world.step("a", cache=True), world.step("b", args={"got": "{{ steps.a.output }}"}, cache=True))
    async with Bench() as bench:
        await bench.run(plan, "r")
        again = await bench.resume("r")
        assert again.outputs["a"] == "yes"
        await bench.rerun("r", "a", downstream=True)
        assert world.calls == ["a", "a", "b", "a"]
        hit = await bench.run(plan, "other")
        assert hit.state.steps["a"].marks == hit.state.steps["b"].marks == {"cached"}


async def test_items_are_kept_each_by_itself() -> None:
    world = World()
    world.will("m", lambda n: n * 2)

    def plan(*values: int) -> Any:
        return plan_of(world.step("m", for_each=list(values), args={"n": "{{ item }}"}, cache=True))

    async with Bench() as bench:
        await bench.run(plan(1, 2))
        # for_each belongs to the action: a list that is written out is another action
        listed = plan_of(
            world.step("list"),
            world.step("m", for_each="{{ steps.list.output }}", args={"n": "{{ item }}"}, cache=True),
        )
        world.will("list", [1, 2], [2, 3], [3, 2])
        await bench.run(listed)
        second = await bench.run(listed)
        assert second.outputs["m"] == [4, 6]
        assert second.state.steps["m"].marks == set()
        third = await bench.run(listed)
        assert third.outputs["m"] == [6, 4]
        assert third.state.steps["m"].marks == {"cached"}
        assert world.count("m") == 5
        await third.check()


async def test_kept_results_outlive_their_run_and_their_process(tmp_path: Path) -> None:
    world = World()
    world.will("a", "large " * 20_000)
    plan = plan_of(world.step("a", cache=True))
    async with Bench(SQLiteStore(tmp_path / "store.db")) as bench:
        await bench.run(plan, "r")
        await bench.store.delete_run("r")
    async with Bench(SQLiteStore(tmp_path / "store.db")) as bench:
        again = await bench.run(plan, "s")
        kept = again.state.steps["a"].output
        assert kept is not None
        assert await bench.store.load_value(kept) == "large " * 20_000
        assert world.count("a") == 1


async def test_a_step_that_is_paused_while_the_cache_is_asked_is_not_lost() -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a", cache=True)))
        assert (await run.tell("pause", now=True))["ok"]
        await run.end()
        again = await bench.resume(run.run_id)
        assert again.state.status == "succeeded"
        await again.check()


# --- breakers


def calls(world: World, count: int, **keys: Any) -> Any:
    steps = [world.step(f"s{n}", *([f"s{n - 1}"] if n else []), on_failure="continue", **keys) for n in range(count)]
    return plan_of(*steps)


async def test_five_failures_in_a_row_open_the_breaker_and_the_next_call_fails_fast() -> None:
    world = World()
    for n in range(8):
        world.will(f"s{n}", DOWN)
    async with Bench() as bench:
        bench.clock.may_jump = False
        run = await bench.run(calls(world, 8))
        assert world.calls == ["s0", "s1", "s2", "s3", "s4"]
        failed = run.state.steps["s5"].error
        assert failed is not None
        assert "the circuit breaker of function tests.support.world:act is open" in failed.message
        assert "connection refused" in failed.message
        assert failed.error_type == "server_error"
        await run.check()


async def test_one_probe_decides_whether_calls_go_again() -> None:
    world = World()
    for n in range(5):
        world.will(f"s{n}", DOWN)
    async with Bench(settings=Settings(breaker_seconds=60)) as bench:
        bench.clock.may_jump = False
        await bench.run(calls(world, 5))
        bench.clock.advance(61)
        gate = world.gate("p")
        run = await bench.start(plan_of(world.step("p"), *(world.step(f"q{n}") for n in range(3))))
        await world.called("p")
        await run.until(lambda state: sum(step.status == "failed" for step in state.steps.values()) == 3)
        assert world.calls[5:] == ["p"]
        gate.set()
        await run.end()
        again = await bench.resume(run.run_id)
        assert again.state.status == "succeeded"
        assert sorted(world.calls[5:]) == ["p", "q0", "q1", "q2"]


async def test_waiting_for_a_probe_costs_no_try() -> None:
    world = World()
    for n in range(5):
        world.will(f"s{n}", DOWN)
    async with Bench() as bench:
        await bench.run(calls(world, 5))
        retry = {"max_attempts": 2, "initial_delay": 1, "jitter": False}
        run = await bench.run(plan_of(*(world.step(f"q{n}", retry=retry) for n in range(4))))
        assert run.state.status == "succeeded"
        waits = await run.events("step.retry_scheduled")
        assert {event.reason for event in waits} == {"the circuit breaker of function tests.support.world:act"}  # type: ignore[union-attr]


async def test_a_breaker_survives_a_restart_and_is_reset_by_hand(tmp_path: Path) -> None:
    world = World()
    for n in range(5):
        world.will(f"s{n}", DOWN)
    async with Bench(SQLiteStore(tmp_path / "store.db")) as bench:
        clock = bench.clock
        clock.may_jump = False
        await bench.run(calls(world, 5), "r")
    async with Bench(SQLiteStore(tmp_path / "store.db"), clock=clock) as bench:
        run = await bench.run(plan_of(world.step("q")), "s")
        assert run.state.status == "failed"
        name = "function tests.support.world:act"
        assert [record["name"] for record in (await bench.tell("s", "slots"))["breakers"]] == [name]
        assert not (await bench.tell("s", "breaker_reset", name="nothing"))["ok"]
        assert (await bench.tell("s", "breaker_reset", name=name))["ok"]
        again = await bench.resume("s")
        assert again.state.status == "succeeded"


@pytest.mark.parametrize("error", [ValueError("mine"), AttemptError("bad", error_type=ErrorType.USER_ERROR)])
async def test_a_callers_own_mistakes_open_no_breaker(error: BaseException) -> None:
    world = World()
    for n in range(8):
        world.will(f"s{n}", error)
    async with Bench(MemoryStore()) as bench:
        await bench.run(calls(world, 8))
        assert len(world.calls) == 8


async def test_a_breaker_holds_its_time_over_a_day_of_restarts(tmp_path: Path) -> None:
    world, hour = World(), 3600.0
    for n in range(5):
        world.will(f"s{n}", DOWN)
    world.will("q", DOWN, "there")
    settings = Settings(breaker_seconds=8 * hour)
    plan = plan_of(
        *calls(world, 5).steps,
        world.step(
            "q", "s4", trigger_rule="all_done", retry={"max_attempts": 5, "initial_delay": 60.0, "jitter": False}
        ),
    )
    clock = JumpingClock()
    clock.may_jump = False

    async def waits(bench: Bench, begin: float) -> float:
        run = await bench.start(plan, "r")
        await run.until(lambda state: state.steps["q"].status == "retrying")
        retry_at = run.state.steps["q"].retry_at
        assert retry_at is not None
        return (retry_at - clock.now()).total_seconds() / hour + begin

    async with Bench(SQLiteStore(tmp_path / "store.db"), settings=settings, clock=clock) as bench:
        assert await waits(bench, 0) == 8
    for passed in (3, 6):  # two restarts before its time: nothing is called, and the time stays
        clock.advance(3 * hour)
        async with Bench(SQLiteStore(tmp_path / "store.db"), settings=settings, clock=clock) as bench:
            assert await waits(bench, passed) == 8
            assert world.count("q") == 0
    clock.advance(4 * hour)  # the third restart is after it: the probe fails, and it is open for as long again
    async with Bench(SQLiteStore(tmp_path / "store.db"), settings=settings, clock=clock) as bench:
        run = await bench.start(plan, "r")
        await run.until(lambda state: (state.steps["q"].attempt, state.steps["q"].status) == (2, "retrying"))
        assert world.count("q") == 1
        clock.may_jump = True
        assert await run.end() == "succeeded"
        assert world.count("q") == 2
        assert clock.jumps[-2:] == [60, 8 * hour - 60]
        await run.check()
