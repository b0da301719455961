"""What the state machine of `test_engine_machine` found, each in as few steps as show it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import CommandRefusedError
from stepchain_tui.core.values import encode_json
from stepchain_tui.engine import EngineService, revision_arguments
from stepchain_tui.plan import plan_to_json
from stepchain_tui.store import MemoryStore
from tests.support.engines import Bench, plan_of
from tests.support.world import World, act

ASK = {"approve": "go?"}


def inner(folder: Path, *steps: dict[str, Any], **keys: Any) -> str:
    """Write a sub-plan and return what a step calls it."""
    (folder / "inner.json").write_bytes(encode_json({"goal": "inner", "steps": list(steps), **keys}))
    return "./inner.json"


async def test_a_map_of_plans_that_wait_for_an_answer_is_called_off(tmp_path: Path) -> None:
    plan = inner(tmp_path, {"id": "ask", **ASK}, World().step("b"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.start(plan_of({"id": "outer", "plan": plan, "for_each": [0]}, max_concurrent=1))
        await run.until_status("outer[0]/ask", "waiting")
        answer = await run.tell("cancel")
        assert answer["ok"], answer
        assert await run.end() == "cancelled"
        assert run.statuses["outer"] == "cancelled"
        await run.check()


async def test_a_step_that_waits_for_its_next_try_is_marked_succeeded() -> None:
    world = World()
    world.will("a", ValueError("x"))
    async with Bench() as bench:
        bench.clock.may_jump = False
        run = await bench.start(plan_of(world.step("a", retry={"max_attempts": 2, "initial_delay": 60.0})))
        await run.until_status("a", "retrying")
        answer = await run.tell("mark", step="a", output=1)
        assert answer["ok"], answer
        assert await run.end() == "succeeded"
        assert (run.outputs["a"], world.count("a")) == (1, 1)
        await run.check()


@pytest.mark.parametrize("command", ["mark", "pin"])
async def test_a_step_that_waits_for_a_slot_gets_its_result_by_hand(command: str) -> None:
    world = World()
    gate = world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b"), max_concurrent=1))
        await run.until_status("b", "queued")
        answer = await run.tell(command, step="b", output=1)
        assert answer["ok"], answer
        gate.set()
        assert await run.end() == "succeeded"
        assert (run.outputs["b"], world.count("b")) == (1, 0)
        await run.check()


async def test_a_fork_gives_a_result_to_the_parts_of_a_plan_that_was_marked_succeeded(tmp_path: Path) -> None:
    world = World()
    world.will("part", ValueError("x"))
    plan = inner(tmp_path, world.step("part"), world.step("other", "part"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of({"id": "outer", "plan": plan}, world.step("b", "outer")))
        assert (await bench.tell(run.run_id, "mark", step="outer"))["ok"]
        child = await bench.engine.fork(run.run_id, "b")
        assert await asyncio.wait_for(child.wait(), 10) == "succeeded"
        statuses = {step_id: step.status.value for step_id, step in child.state.steps.items()}
        assert statuses == {"outer": "succeeded", "outer/part": "skipped", "outer/other": "skipped", "b": "succeeded"}


async def test_a_part_that_stands_at_a_breakpoint_ends_with_its_plan_that_gets_a_result_by_hand(tmp_path: Path) -> None:
    world = World()
    plan = inner(tmp_path, world.step("a", breakpoint="before"))
    store = MemoryStore()
    async with Bench(store, tmp_path) as bench:
        run = await bench.start(plan_of({"id": "outer", "plan": plan}))
        await run.until_status("outer/a", "waiting")
    async with Bench(store, tmp_path) as bench:
        assert (await bench.tell(run.run_id, "mark", step="outer"))["ok"]
        again = await bench.resume(run.run_id)
        assert again.statuses == {"outer": "succeeded", "outer/a": "skipped"}
        assert again.state.status == "succeeded"
        await again.check()


async def test_a_resume_does_not_open_a_plan_that_has_its_result_for_the_parts_that_failed(tmp_path: Path) -> None:
    world = World()
    world.will("a", ValueError("x"))
    world.will("b", ValueError("x"), 1)
    plan = inner(tmp_path, world.step("a"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of({"id": "outer", "plan": plan}, world.step("b")))
        assert run.state.status == "failed"
        assert (await bench.tell(run.run_id, "mark", step="outer"))["ok"]
        again = await bench.resume(run.run_id)
        assert again.statuses == {"outer": "succeeded", "outer/a": "failed", "b": "succeeded"}
        assert again.state.status == "succeeded"


async def test_a_plan_that_fails_with_continue_does_not_fail_the_run_through_its_parts(tmp_path: Path) -> None:
    world = World()
    world.will("a", ValueError("x"))
    plan = inner(tmp_path, world.step("a"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of({"id": "outer", "plan": plan, "on_failure": "continue"}))
        assert run.statuses == {"outer": "failed", "outer/a": "failed"}
        assert run.state.status == "succeeded"


@pytest.mark.parametrize("command", ["cancel", "skip"])
async def test_a_map_of_questions_that_nobody_carries_out_ends_with_the_question_it_asks(command: str) -> None:
    store = MemoryStore()
    async with Bench(store) as bench:
        run = await bench.start(plan_of({"id": "ask", **ASK, "for_each": [0, 1]}))
        await run.until_status("ask", "waiting")
    async with Bench(store) as bench:
        assert (await bench.tell(run.run_id, command, step="ask"))["ok"]
        state = await store.load_state(run.run_id)
        assert [attempt.status for attempt in state.steps["ask"].attempts.values()] == ["cancelled", "cancelled"]


@pytest.mark.parametrize("command", ["mark", "rerun"])
async def test_a_part_of_an_item_that_is_done_runs_again_while_its_map_goes_on(tmp_path: Path, command: str) -> None:
    world = World()
    plan = inner(
        tmp_path, world.step("a", when="{{ inputs.n < 1 }}"), world.step("b", "a"), inputs={"n": {"type": "integer"}}
    )
    outer = {"id": "outer", "plan": plan, "for_each": [1, 0], "max_concurrent": 1, "args": {"n": "{{ item }}"}}
    gate = world.gate("a")
    async with Bench(folder=tmp_path) as bench:
        run = await bench.start(plan_of(outer))
        await world.called("a")
        assert run.statuses["outer[0]/b"] == "skipped"
        answer = await run.tell(command, step="outer[0]/a" if command == "mark" else "outer[0]/b")
        assert answer["ok"], answer
        gate.set()
        assert await run.end() == "succeeded"
        assert run.statuses["outer[0]/b"] == ("succeeded" if command == "mark" else "skipped")
        assert world.count("b") == (2 if command == "mark" else 1)
        await run.check()


async def test_a_part_is_not_made_pending_in_a_plan_that_was_skipped(tmp_path: Path) -> None:
    world = World()
    plan = inner(tmp_path, world.step("a"), world.step("b", "a"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of({"id": "outer", "plan": plan, "when": False}, world.step("z")))
        assert (await bench.tell(run.run_id, "mark", step="outer/a"))["ok"]
        again = await bench.resume(run.run_id)
        assert again.state.status == "succeeded"
        assert again.statuses == {"outer": "skipped", "outer/a": "succeeded", "outer/b": "skipped", "z": "succeeded"}


async def test_a_new_part_of_a_plan_that_has_its_result_has_one_too(tmp_path: Path) -> None:
    world = World()
    plan = inner(tmp_path, world.step("a"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of({"id": "outer", "plan": plan}))
        inner(tmp_path, world.step("a"), world.step("b"))
        text = plan_to_json(plan_of({"id": "outer", "plan": plan})).decode()
        assert (await bench.tell(run.run_id, "edit", **revision_arguments(text, "plan.json", tmp_path)))["ok"]
        again = await bench.resume(run.run_id)
        assert again.state.status == "succeeded"
        assert again.statuses == {"outer": "succeeded", "outer/a": "succeeded", "outer/b": "skipped"}
        assert again.state.steps["outer"].marks == {"stale"}
        await bench.rerun(run.run_id, "outer")
        assert (world.count("a"), world.count("b")) == (2, 1)


async def test_a_part_of_a_plan_whose_output_is_pinned_is_not_run_again(tmp_path: Path) -> None:
    world = World()
    plan = inner(tmp_path, world.step("a"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of({"id": "outer", "plan": plan}))
        assert (await bench.tell(run.run_id, "pin", step="outer"))["ok"]
        with pytest.raises(CommandRefusedError, match="outer', whose output is pinned"):
            await bench.rerun(run.run_id, "outer/a")
        assert (await bench.store.load_state(run.run_id)).status == "succeeded"


async def test_a_run_is_not_let_go_of_in_the_middle_of_being_called_off(tmp_path: Path) -> None:
    world = World()
    world.will("later", ValueError("x"))
    plan = inner(tmp_path, {"id": "ask", **ASK})
    async with Bench(folder=tmp_path) as bench:
        bench.clock.may_jump = False
        later = world.step("later", retry={"max_attempts": 2, "initial_delay": 3600.0})
        run = await bench.start(plan_of(later, {"id": "outer", "plan": plan, "for_each": [0, 1]}), detach=True)
        await run.until_status("outer[1]/ask", "waiting")
        await run.until_status("later", "retrying")
        answer = await run.tell("cancel")
        assert answer["ok"], answer
        assert await run.end() == "cancelled"
        assert "run.waiting" not in await run.names()
        await run.check()


async def test_a_run_waits_for_people_also_if_an_item_waits_for_its_turn_behind_a_question(tmp_path: Path) -> None:
    plan = inner(tmp_path, {"id": "ask", **ASK})
    async with Bench(folder=tmp_path) as bench:
        outer = {"id": "outer", "plan": plan, "for_each": [0, 1], "max_concurrent": 1}
        run = await bench.run(plan_of(outer), detach=True)
        assert run.state.status == "waiting"
        await run.check()


async def test_a_receipt_of_a_run_that_was_let_go_of_does_not_take_its_questions_for_cut_off() -> None:
    store = MemoryStore()
    async with Bench(store) as bench:
        run = await bench.start(plan_of({"id": "ask", **ASK, "for_each": [0, 1]}))
        await run.until_status("ask", "waiting")
    async with Bench(store) as bench:
        service = EngineService(bench.engine)
        with pytest.raises(CommandRefusedError, match="'ask' is waiting"):
            await service.receipt(run.run_id, "pin", {"step": "ask"})
        refused = await bench.tell(run.run_id, "pin", step="ask")
        assert refused["message"] == "step 'ask' is waiting"


async def test_the_parts_of_a_pinned_plan_do_not_run_with_what_follows_it(tmp_path: Path) -> None:
    world = World()
    plan = inner(tmp_path, world.step("a"))
    async with Bench(folder=tmp_path) as bench:
        run = await bench.run(plan_of({"id": "outer", "plan": plan}, world.step("b", "outer")))
        assert (await bench.tell(run.run_id, "pin", step="outer"))["ok"]
        again = await bench.rerun(run.run_id, "outer", downstream=True)
        assert again.state.status == "succeeded"
        assert (world.count("a"), world.count("b")) == (1, 2)


@pytest.mark.parametrize("more", [{}, {"for_each": [0, 1]}])
async def test_a_fresh_start_ends_the_question_that_was_open(more: dict[str, Any]) -> None:
    store, plan = MemoryStore(), plan_of({"id": "ask", **ASK, **more})
    async with Bench(store) as bench:
        run = await bench.start(plan)
        await run.until_status("ask", "waiting")
    async with Bench(store) as bench:
        run = await bench.start(plan, run.run_id, fresh=True)
        await run.until_status("ask", "waiting")
        open_ones = [key for key, one in run.state.steps["ask"].attempts.items() if one.status == "running"]
        assert open_ones == ([(None, 2), (0, 2)] if more else [(None, 2)])


async def test_a_run_that_is_called_off_does_not_stop_at_a_breakpoint() -> None:
    world = World()
    world.gate("a")
    async with Bench() as bench:
        deaf = world.step("a", breakpoint="after", function="tests.unit.test_engine_machine_regressions:deaf")
        run = await bench.start(plan_of(deaf, world.step("b", "a")))
        await world.called("a")
        assert (await run.tell("cancel"))["ok"]
        assert await run.end() == "cancelled"
        assert run.statuses == {"a": "succeeded", "b": "cancelled"}


async def deaf(world: str, name: str) -> str:
    """Do not care that it is to stop."""
    with contextlib.suppress(asyncio.CancelledError):
        await act(world, name)
    return "done"


async def test_attempts_at_an_item_are_numbered_on_also_if_its_list_was_shorter_meanwhile() -> None:
    world = World()
    world.will("list", [0, 1], [0], [0, 1])
    for_each = {"for_each": "{{ steps.list.output }}"}
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("list"), world.step("each", **for_each)))
        for _ in range(2):
            run = await bench.rerun(run.run_id, "list", downstream=True)
        assert set(run.state.steps["each"].attempts) == {
            *((None, n) for n in (1, 2, 3)),
            *((0, n) for n in (1, 2, 3)),
            *((1, n) for n in (1, 2)),
        }
        await run.check()


async def test_a_plan_that_becomes_a_map_has_other_parts(tmp_path: Path) -> None:
    world = World()
    gate = world.gate("z")
    z = world.step("z")
    outer = {"id": "outer", "plan": inner(tmp_path, world.step("a")), "dependencies": ["z"]}
    async with Bench(folder=tmp_path) as bench:
        run = await bench.start(plan_of(z, outer))
        await world.called("z")
        inner(tmp_path, world.step("a", when=False))
        text = plan_to_json(plan_of(z, {**outer, "for_each": [1, 2]})).decode()
        answer = await run.tell("edit", **revision_arguments(text, "plan.json", tmp_path))
        assert answer["ok"], answer
        gate.set()
        assert await run.end() == "succeeded"
        assert list(run.state.steps) == ["z", "outer", "outer[0]/a", "outer[1]/a"]
        await run.check()


async def test_a_rerun_of_failed_items_and_what_follows_leaves_a_plan_that_is_done_with_its_parts(
    tmp_path: Path,
) -> None:
    world = World()
    world.will("m", ValueError("x"), "m")
    plan = inner(tmp_path, world.step("a"))
    async with Bench(folder=tmp_path) as bench:
        outer = {"id": "outer", "plan": plan, "dependencies": ["m"]}
        run = await bench.run(plan_of(world.step("m", for_each=[0]), outer))
        assert run.statuses["outer/a"] == "blocked"
        assert (await bench.tell(run.run_id, "mark", step="outer"))["ok"]
        again = await bench.rerun(run.run_id, "m", downstream=True, failed=True)
        assert again.state.status == "succeeded"
        assert (world.count("m"), world.count("a")) == (2, 0)


async def test_a_queued_step_waits_again_for_a_parent_that_a_revision_runs_again() -> None:
    world = World()
    gate = world.gate("z")
    async with Bench() as bench:
        steps = [world.step("z", "a", priority=1), world.step("b", "a")]
        run = await bench.start(plan_of(world.step("a"), *steps, max_concurrent=1))
        await run.until_status("b", "queued")
        changed = plan_of(world.step("a", args={"new": 1}), *steps, max_concurrent=2)
        plan = revision_arguments(plan_to_json(changed).decode(), "plan.json", Path.cwd())
        answer = await run.tell("edit", rerun=True, **plan)
        assert answer["ok"], answer
        await run.until_status("b", "succeeded")
        gate.set()
        assert await run.end() == "succeeded"
        assert world.calls == ["a", "z", "a", "b"]


async def test_a_step_at_the_breakpoint_after_it_can_go_on_when_an_edit_has_changed_it() -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a", breakpoint="after"), world.step("b", "a")))
        await run.until_status("a", "waiting")
        changed = plan_of(world.step("a", breakpoint="after", args={"new": 1}), world.step("b", "a"))
        plan = revision_arguments(plan_to_json(changed).decode(), "plan.json", Path.cwd())
        assert (await run.tell("edit", **plan))["ok"]
        answer = await run.tell("approve", step="a")
        assert answer["ok"], answer
        assert await run.end() == "succeeded"
        assert run.state.steps["a"].marks == {"stale"}
        assert world.calls == ["a", "b"]
