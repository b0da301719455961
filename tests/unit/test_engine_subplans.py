"""Plans in plans: the parts are steps of the same run, in the same slots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.values import decode_json, encode_json
from stepchain_tui.plan import plan_to_json
from tests.support.engines import Bench, plan_of
from tests.support.world import World


def write(folder: Path, name: str, *steps: dict[str, Any], **keys: Any) -> str:
    """Write a plan file and return how a step names it."""
    (folder / name).write_bytes(encode_json({"steps": list(steps), **keys}))
    return f"./{name}"


def plan_step(step_id: str, file: str, *after: str, **keys: Any) -> dict[str, Any]:
    return {"id": step_id, "plan": file, **({"dependencies": list(after)} if after else {}), **keys}


N = {"n": {"type": "integer", "default": 1}}


async def test_the_parts_of_a_plan_are_steps_of_the_same_run(tmp_path: Path) -> None:
    world = World()
    inner = write(
        tmp_path,
        "inner.yaml",
        world.step("x", args={"n": "{{ inputs.n }}"}),
        world.step("y", args={"got": "{{ steps.x.output }}"}),
        inputs=N,
    )
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(
            plan_of(
                world.step("a"),
                plan_step("sub", inner, "a", args={"n": 5}),
                world.step("b", args={"got": "{{ steps.sub.output.y }}"}),
            )
        )
        assert run.state.status == "succeeded"
        assert list(run.state.steps) == ["a", "sub", "sub/x", "sub/y", "b"]
        assert world.calls == ["a", "x", "y", "b"]
        assert world.given["x"]["n"] == 5
        assert run.outputs["sub"] == {"x": "x", "y": "y"}
        assert world.given["b"]["got"] == "y"
        assert run.state.steps["sub/y"].outline.parents == ("sub/x",)
        await run.check()


async def test_plans_are_nested_and_a_waiting_parent_holds_no_slot(tmp_path: Path) -> None:
    world = World()
    write(tmp_path, "deep.yaml", world.step("d1"), world.step("d2", "d1"))
    middle = write(tmp_path, "middle.yaml", plan_step("deep", "./deep.yaml"), world.step("m", "deep"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of(plan_step("top", middle), max_concurrent=1))
        assert run.state.status == "succeeded"
        assert world.calls == ["d1", "d2", "m"]
        assert run.outputs["top"] == {"deep": {"d1": "d1", "d2": "d2"}, "m": "m"}
        await run.check()


async def test_a_map_of_plans_has_parts_for_each_item(tmp_path: Path) -> None:
    world = World()
    world.will("x", lambda n: n * 10)
    inner = write(tmp_path, "inner.yaml", world.step("x", args={"n": "{{ inputs.n }}"}), inputs=N)
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(
            plan_of(plan_step("sub", inner, for_each=[1, 2, 3], args={"n": "{{ item }}"}), world.step("b", "sub"))
        )
        assert run.state.status == "succeeded"
        assert list(run.state.steps) == ["sub", "sub[0]/x", "sub[1]/x", "sub[2]/x", "b"]
        assert run.outputs["sub"] == [{"x": 10}, {"x": 20}, {"x": 30}]
        await run.check()


async def test_a_failed_part_fails_its_plan_and_a_resume_runs_only_that(tmp_path: Path) -> None:
    world = World()
    world.will("y", ValueError("no"), "fine")
    inner = write(tmp_path, "inner.yaml", world.step("x"), world.step("y", "x"), world.step("z", "y"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of(plan_step("sub", inner), world.step("b", "sub")))
        assert run.state.status == "failed"
        assert run.statuses == {
            "sub": "failed",
            "sub/x": "succeeded",
            "sub/y": "failed",
            "sub/z": "blocked",
            "b": "blocked",
        }
        assert run.state.steps["sub"].error is not None
        assert "sub/y: no" in run.state.steps["sub"].error.message
        again = await bench.resume(run.run_id)
        assert again.state.status == "succeeded"
        assert world.calls == ["x", "y", "y", "z", "b"]
        await again.check()


async def test_a_failed_item_of_a_map_of_plans_is_all_that_runs_again(tmp_path: Path) -> None:
    world = World()
    world.will("x", lambda n: n)
    world.will("y", "ok", ValueError("no"), "ok")
    inner = write(tmp_path, "inner.yaml", world.step("x", args={"n": "{{ inputs.n }}"}), world.step("y", "x"), inputs=N)
    sub = plan_step("sub", inner, for_each=[1, 2, 3], max_concurrent=1, args={"n": "{{ item }}"})
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of(sub))
        assert run.state.status == "failed"
        assert (world.count("x"), world.count("y")) == (3, 3)
        again = await bench.rerun(run.run_id, "sub", failed=True)
        assert again.state.status == "succeeded", again.statuses
        assert (world.count("x"), world.count("y")) == (3, 4)
        await again.check()


async def test_a_plan_that_is_skipped_or_blocked_gives_all_its_parts_a_result(tmp_path: Path) -> None:
    world = World()
    world.will("a", ValueError("no"))
    inner = write(tmp_path, "inner.yaml", world.step("x"), world.step("y", "x"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of(world.step("a"), plan_step("s1", inner, "a"), plan_step("s2", inner, when=False)))
        assert run.statuses == {
            "a": "failed",
            "s1": "blocked",
            "s1/x": "blocked",
            "s1/y": "blocked",
            "s2": "skipped",
            "s2/x": "skipped",
            "s2/y": "skipped",
        }
        await run.check()


async def test_a_part_that_runs_again_opens_its_plan_again_and_leaves_the_other_parts(tmp_path: Path) -> None:
    world = World()
    inner = write(tmp_path, "inner.yaml", world.step("x"), world.step("y"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of(plan_step("sub", inner), world.step("b", args={"g": "{{ steps.sub.output }}"})))
        world.will("x", "new")
        again = await bench.rerun(run.run_id, "sub/x")
        assert again.state.status == "succeeded"
        assert (set(world.calls[:2]), world.calls[2:]) == ({"x", "y"}, ["b", "x"])
        assert again.outputs["sub"] == {"x": "new", "y": "y"}
        assert again.state.steps["b"].marks == {"stale"}
        third = await bench.rerun(run.run_id, "sub/x", downstream=True)
        assert world.calls[2:] == ["b", "x", "x", "b"]
        assert third.state.steps["b"].marks == set()
        whole = await bench.rerun(run.run_id, "sub")
        assert world.calls[6:] == ["x", "y"] or sorted(world.calls[6:]) == ["x", "y"]
        await whole.check()


async def test_an_engine_that_ends_in_the_middle_goes_on_in_the_middle(tmp_path: Path) -> None:
    world = World()
    inner = write(tmp_path, "inner.yaml", world.step("x"), world.step("y", "x"), world.step("z", "y"))
    gate = world.gate("y")
    async with Bench(folder=tmp_path) as first:
        store = first.store
        run = await first.start(plan_of(plan_step("sub", inner), world.step("b", "sub")))
        await world.called("y")
        await first.engine.close()
        assert run.statuses["sub"] == "pending"
    gate.set()
    async with Bench(store, folder=tmp_path) as second:
        again = await second.resume(run.run_id)
        assert again.state.status == "succeeded"
        assert world.calls == ["x", "y", "y", "z", "b"]
        await again.check()


async def test_a_paused_plan_goes_on_where_it_was(tmp_path: Path) -> None:
    world = World()
    inner = write(tmp_path, "inner.yaml", world.step("x"), world.step("y", "x"))
    gate = world.gate("x")
    async with Bench(folder=tmp_path) as bench:
        run = await bench.start(plan_of(plan_step("sub", inner), world.step("b", "sub")))
        await world.called("x")
        assert (await run.tell("pause"))["ok"]
        gate.set()
        assert await run.end() == "paused"
        again = await bench.resume(run.run_id)
        assert again.state.status == "succeeded"
        assert world.calls == ["x", "y", "b"]


async def test_cancelling_a_plan_stops_its_parts_and_a_timeout_does_so_too(tmp_path: Path) -> None:
    world = World()
    inner = write(tmp_path, "inner.yaml", world.step("x"), world.step("y", "x"))
    world.gate("x")
    async with Bench(folder=tmp_path) as bench:
        run = await bench.start(plan_of(plan_step("sub", inner), world.step("b", "sub")))
        await world.called("x")
        assert (await run.tell("cancel", step="sub"))["ok"]
        assert await run.end() == "failed"
        assert run.statuses == {"sub": "cancelled", "sub/x": "cancelled", "sub/y": "cancelled", "b": "blocked"}
        await run.check()
        world.gate("x")
        timed = await bench.start(plan_of(plan_step("sub", inner, timeout=60)))
        await timed.until_status("sub/x", "running")
        bench.clock.advance(61)
        assert await timed.end() == "failed"
        assert timed.statuses["sub"] == "timed_out"
        await timed.check()


async def test_the_inner_plan_bounds_its_own_steps(tmp_path: Path) -> None:
    world = World()
    names = [f"x{number}" for number in range(4)]
    inner = write(tmp_path, "inner.yaml", *(world.step(name) for name in names), max_concurrent=2)
    gates = {name: world.gate(name) for name in names}
    async with Bench(folder=tmp_path) as bench:
        run = await bench.start(plan_of(plan_step("sub", inner), max_concurrent=9))
        await world.called("x0", "x1")
        assert sorted(world.running) == ["x0", "x1"]
        for gate in gates.values():
            gate.set()
        assert await run.end() == "succeeded"
        assert world.most == 2


async def test_an_inner_step_that_asks_is_answered_by_its_own_id(tmp_path: Path) -> None:
    world = World()
    inner = write(tmp_path, "inner.yaml", {"id": "ask", "approve": "go?"}, world.step("x", "ask"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.start(plan_of(plan_step("sub", inner)), detach=True)
        assert await run.end() == "waiting"
        assert (await bench.tell(run.run_id, "approve", step="sub/ask"))["ok"]
        again = await bench.resume(run.run_id)
        assert again.state.status == "succeeded", again.statuses
        assert world.calls == ["x"]
        await again.check()


@pytest.mark.parametrize("changed", ["x", "y"])
async def test_a_part_is_edited_through_its_own_file(tmp_path: Path, changed: str) -> None:
    world = World()
    steps = {"x": world.step("x"), "y": world.step("y", "x")}
    inner = write(tmp_path, "inner.yaml", *steps.values())
    gate = world.gate("z")
    async with Bench(folder=tmp_path) as bench:
        plan = plan_of(plan_step("sub", inner), world.step("z"))
        run = await bench.start(plan)
        await run.until_status("sub", "succeeded")
        steps[changed] = {**steps[changed], "args": {**steps[changed]["args"], "new": 1}}
        write(tmp_path, "inner.yaml", *steps.values())
        assert (await run.tell("edit", plan=decode_json(plan_to_json(plan)), rerun=True))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        assert world.given[changed]["new"] == 1
        assert (world.count("x"), world.count("y")) == ((2, 2) if changed == "x" else (1, 2))
        await run.check()


async def test_a_part_of_an_item_runs_again_and_the_other_items_stay(tmp_path: Path) -> None:
    world = World()
    world.will("x", lambda n: n)
    inner = write(tmp_path, "inner.yaml", world.step("x", args={"n": "{{ inputs.n }}"}), world.step("y", "x"), inputs=N)
    sub = plan_step("sub", inner, for_each=[1, 2], args={"n": "{{ item }}"})
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of(sub, world.step("z")))
        assert (world.count("x"), world.count("y")) == (2, 2)
        world.will("x", "anew")
        again = await bench.rerun(run.run_id, "sub[1]/x", downstream=True)
        assert again.state.status == "succeeded"
        assert (world.count("x"), world.count("y")) == (3, 3)
        assert again.outputs["sub"] == [{"x": 1, "y": "y"}, {"x": "anew", "y": "y"}]
        await again.check()


async def test_the_rows_of_a_run_follow_the_parts_that_come_in_the_middle(tmp_path: Path) -> None:
    world = World()
    gate = world.gate("a")
    inner = write(tmp_path, "inner.yaml", world.step("x"))
    async with Bench(folder=tmp_path) as bench:
        sub = plan_step("sub", inner, "a", for_each=[1, 2])
        run = await bench.start(plan_of(world.step("a"), sub, world.step("z")))
        await run.until_status("z", "succeeded")
        gate.set()
        assert await run.end() == "succeeded"
        rows = await bench.store.list_steps(run.run_id)
        assert [row.step_id for row in rows] == ["a", "sub", "sub[0]/x", "sub[1]/x", "z"]
        await run.check()


async def test_a_plan_that_is_being_carried_out_gets_other_steps_behind_those_that_run(tmp_path: Path) -> None:
    world = World()
    gate = world.gate("x")
    inner = write(tmp_path, "inner.yaml", world.step("x"), world.step("y", "x"), world.step("old", "x"))
    async with Bench(folder=tmp_path) as bench:
        plan = plan_of(plan_step("sub", inner), world.step("b", args={"got": "{{ steps.sub.output }}"}))
        run = await bench.start(plan)
        await world.called("x")
        more = {"m": {"type": "integer", "default": 7}}
        changed = world.step("y", "x", args={"m": "{{ inputs.m }}"})
        write(tmp_path, "inner.yaml", world.step("x"), changed, world.step("new", "y"), inputs=more)
        assert (await run.tell("edit", plan=decode_json(plan_to_json(plan))))["ok"]
        assert list(run.state.steps) == ["sub", "sub/x", "sub/y", "sub/new", "b"]
        gate.set()
        assert await run.end() == "succeeded"
        assert world.calls == ["x", "y", "new", "b"]
        assert world.given["y"] == {"m": 7}
        assert world.given["b"]["got"] == {"x": "x", "y": "y", "new": "new"}
        await run.check()


async def test_a_plan_whose_last_open_part_is_taken_away_ends(tmp_path: Path) -> None:
    world = World()
    inner = write(tmp_path, "inner.yaml", world.step("x"), {"id": "ask", "approve": "go?", "dependencies": ["x"]})
    gate = world.gate("z")
    async with Bench(folder=tmp_path) as bench:
        write(tmp_path, "inner.yaml", world.step("x"), world.step("y", "x", breakpoint="before"))
        plan = plan_of(plan_step("sub", inner), world.step("b", "sub"), world.step("z"))
        run = await bench.start(plan)
        await run.until_status("sub/y", "waiting")
        write(tmp_path, "inner.yaml", world.step("x"))
        assert (await run.tell("edit", plan=decode_json(plan_to_json(plan))))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        assert run.statuses == {"sub": "succeeded", "sub/x": "succeeded", "b": "succeeded", "z": "succeeded"}
        await run.check()


@pytest.mark.parametrize("command", ["skip", "mark", "pin"])
async def test_a_part_of_items_that_are_made_anew_is_not_set_by_hand(tmp_path: Path, command: str) -> None:
    world = World()
    inner = write(tmp_path, "inner.yaml", world.step("x"))
    plan = plan_of(world.step("a"), plan_step("sub", inner, "a", for_each=[1, 2]))
    async with Bench(folder=tmp_path) as bench:
        await bench.run(plan, "r")
        gate = world.gate("a")
        run = await bench.start(plan, "r", fresh=True)
        await world.called("a")
        arguments = {"output": 1} if command == "pin" else {}
        refused = await run.tell(command, step="sub[0]/x", **arguments)
        assert "makes anew" in refused["message"]
        gate.set()
        assert await run.end() == "succeeded"
        assert world.count("x") == 4
        await run.check()


@pytest.mark.parametrize("items", [[2], []])
async def test_a_question_of_an_item_that_is_no_more_is_withdrawn(tmp_path: Path, items: list[int]) -> None:
    world = World()
    inner = write(tmp_path, "inner.yaml", {"id": "ask", "approve": "go?"}, world.step("x", "ask"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.start(plan_of(plan_step("sub", inner, for_each=[1])), "r", detach=True)
        assert await run.end() == "waiting"
        changed = plan_of(plan_step("sub", inner, for_each=items))
        assert (await bench.tell("r", "edit", plan=decode_json(plan_to_json(changed))))["ok"]
        again = await bench.resume("r", detach=True)
        parts = {**again.state.removed, **again.state.steps}
        assert parts["sub[0]/ask"].attempts[None, 1].status == "cancelled"
        if items:
            assert again.state.status == "waiting"
            assert (await bench.tell("r", "approve", step="sub[0]/ask"))["ok"]
            again = await bench.resume("r")
        assert again.state.status == "succeeded"
        assert len(world.calls) == len(items)
        await again.check()
