"""Breakpoints, pins and results set by hand: a person stops a run, changes what goes in or comes out, and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.engines import Bench, plan_of
from tests.support.world import World


def chain(world: World, *names: str, **first: Any) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    for name in names:
        step = world.step(name)
        if steps:
            before = steps[-1]["id"]
            step["args"] = {**step["args"], "got": f"{{{{ steps.{before}.output }}}}"}
        steps.append(step)
    steps[0].update(first)
    return steps


async def test_a_breakpoint_before_a_step_shows_its_input_and_holds_no_slot() -> None:
    world = World()
    world.will("a", 7)
    a, b = chain(world, "a", "b")
    b["breakpoint"] = "before"
    async with Bench() as bench:
        run = await bench.start(plan_of(a, b, world.step("c"), max_concurrent=1))
        await run.until_status("b", "waiting")
        await run.until_status("c", "succeeded")
        waiting = run.state.steps["b"].waiting
        assert waiting is not None
        assert (waiting.reason, waiting.place) == ("breakpoint", "before")
        assert waiting.input is not None
        assert waiting.input.value["args"]["got"] == 7
        assert world.count("b") == 0
        answer = await run.tell("approve", step="b")
        assert answer["ok"], answer
        assert await run.end() == "succeeded"
        assert world.given["b"]["got"] == 7
        await run.check()


async def test_the_input_of_a_step_can_be_changed_at_its_breakpoint() -> None:
    world = World()
    a, b = chain(world, "a", "b")
    b["breakpoint"] = "before"
    async with Bench() as bench:
        run = await bench.start(plan_of(a, b))
        await run.until_status("b", "waiting")
        waiting = run.state.steps["b"].waiting
        assert waiting is not None
        assert waiting.input is not None
        given = {**waiting.input.value, "args": {**waiting.input.value["args"], "got": "by hand"}}
        assert (await run.tell("approve", step="b", input=given))["ok"]
        assert await run.end() == "succeeded"
        assert world.given["b"]["got"] == "by hand"
        assert run.state.steps["b"].attempts[None, 1].input is not None
        assert run.state.steps["b"].attempts[None, 1].input.value["args"]["got"] == "by hand"
        await run.check()


async def test_a_breakpoint_after_a_step_keeps_its_result_and_holds_back_what_follows() -> None:
    world = World()
    world.will("a", 1)
    a, b = chain(world, "a", "b", breakpoint="after")
    async with Bench() as bench:
        run = await bench.start(plan_of(a, b))
        await run.until_status("a", "waiting")
        assert run.outputs["a"] == 1
        refused = await run.tell("approve", step="a", input={})
        assert not refused["ok"]
        assert (await run.tell("approve", step="a", output=2))["ok"]
        assert await run.end() == "succeeded"
        assert world.given["b"]["got"] == 2
        assert (world.count("a"), run.outputs["a"]) == (1, 2)
        assert run.state.steps["a"].attempts[None, 1].output.value == 1  # type: ignore[union-attr]
        await run.check()


@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_run_at_a_breakpoint_is_let_go_of_and_goes_on_in_another_engine(place: str) -> None:
    world = World()
    a, b = chain(world, "a", "b", breakpoint=place)
    async with Bench() as bench:
        run = await bench.start(plan_of(a, b), detach=True)
        assert await run.end() == "waiting"
        run_id = run.run_id
        store = bench.store
        again = await bench.resume(run_id, detach=True)
        assert again.state.status == "waiting"
        assert (await bench.tell(run_id, "approve", step="a"))["ok"]
        done = await bench.resume(run_id)
        assert done.state.status == "succeeded"
        assert world.calls == ["a", "b"]
        assert (await store.load_state(run_id)).status == "succeeded"


async def test_a_breakpoint_can_be_set_and_taken_off_while_the_run_goes_on() -> None:
    world = World()
    gate = world.gate("a")
    a, b = chain(world, "a", "b")
    async with Bench() as bench:
        run = await bench.start(plan_of(a, b))
        await world.called("a")
        assert (await run.tell("breakpoint", step="b", place="before"))["ok"]
        assert not (await run.tell("breakpoint", step="b", place="before"))["ok"]
        assert not (await run.tell("breakpoint", step="b", place="inside"))["ok"]
        gate.set()
        await run.until_status("b", "waiting")
        assert (await run.tell("breakpoint", step="b", place=None))["ok"]
        assert (await run.tell("approve", step="b"))["ok"]
        assert await run.end() == "succeeded"
        await run.check()


async def test_cancelling_at_a_breakpoint_after_a_step_keeps_what_it_did() -> None:
    world = World()
    a, b = chain(world, "a", "b", breakpoint="after")
    async with Bench() as bench:
        run = await bench.start(plan_of(a, b))
        await run.until_status("a", "waiting")
        assert (await run.tell("cancel"))["ok"]
        assert await run.end() == "cancelled"
        assert run.statuses == {"a": "succeeded", "b": "cancelled"}
        again = await bench.resume(run.run_id)
        assert again.statuses == {"a": "succeeded", "b": "succeeded"}
        assert world.calls == ["a", "b"]


async def test_a_pinned_step_is_not_carried_out_again() -> None:
    world = World()
    world.will("b", 2)
    async with Bench() as bench:
        run = await bench.run(plan_of(*chain(world, "a", "b", "c")))
        assert (await bench.tell(run.run_id, "pin", step="b"))["ok"]
        refused = await bench.tell(run.run_id, "rerun", step="b")
        assert not refused["ok"]
        again = await bench.rerun(run.run_id, "a", downstream=True)
        assert world.calls == ["a", "b", "c", "a"]
        assert again.statuses == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}
        assert (await bench.tell(run.run_id, "pin", step="b", output="pinned by hand"))["ok"]
        await bench.rerun(run.run_id, "c")
        assert world.given["c"]["got"] == "pinned by hand"
        assert (await bench.tell(run.run_id, "pin", step="b", off=True))["ok"]
        assert not (await bench.tell(run.run_id, "pin", step="b", off=True))["ok"]


async def test_a_failed_step_is_marked_succeeded_and_what_it_blocked_goes_on() -> None:
    world = World()
    world.will("a", ValueError("broken"))
    gate = world.gate("z")
    async with Bench() as bench:
        run = await bench.start(plan_of(*chain(world, "a", "b", "c"), world.step("z")))
        await run.until_status("c", "blocked")
        assert (await run.tell("mark", step="a", output=5))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        assert world.given["b"]["got"] == 5
        assert world.count("a") == 1
        await run.check()


async def test_a_step_that_stopped_runs_is_marked_and_the_run_resumes_without_it() -> None:
    world = World()
    world.will("a", ValueError("broken"))
    async with Bench() as bench:
        run = await bench.run(plan_of(*chain(world, "a", "b")))
        assert run.state.status == "failed"
        assert (await bench.tell(run.run_id, "mark", step="a", output=[1]))["ok"]
        again = await bench.resume(run.run_id)
        assert again.state.status == "succeeded"
        assert world.calls == ["a", "b"]
        assert world.given["b"]["got"] == [1]
        await again.check()


async def test_an_input_by_hand_keeps_the_secrets_that_were_not_shown(tmp_path: Path) -> None:
    plan = plan_of(
        {"id": "a", "shell": "printf %s {{ secrets.API_TOKEN }} | wc -c; echo $WHO", "breakpoint": "before"},
        secrets=["API_TOKEN"],
    )
    async with Bench(folder=tmp_path) as bench:
        run = await bench.start(
            plan, inputs={"n": 1}, environment={"API_TOKEN": "sesame-12345", "PATH": "/usr/bin:/bin"}
        )
        await run.until_status("a", "waiting")
        waiting = run.state.steps["a"].waiting
        assert waiting is not None
        assert waiting.input is not None
        assert "sesame" not in str(waiting.input.value)
        given = {**waiting.input.value, "env": {"WHO": "Ada"}}
        for wrong in ("text", {"prompt": "x"}, {"shell": "true", "env": []}):
            assert not (await run.tell("approve", step="a", input=wrong))["ok"]
        assert (await run.tell("approve", step="a", input=given))["ok"]
        assert await run.end() == "succeeded"
        assert run.outputs["a"]["stdout"].split() == ["12", "Ada"]  # the length of the secret itself


async def test_which_function_is_called_is_not_changed_at_a_breakpoint() -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a", breakpoint="before")))
        await run.until_status("a", "waiting")
        refused = await run.tell("approve", step="a", input={"function": "os:system", "args": {"command": "true"}})
        assert "Edit the plan" in refused["hint"]
        assert (await run.tell("cancel"))["ok"]
        await run.end()
        assert world.calls == []
