"""Forks, receipts, and the ledger of effects: what is taken over, what would be run, and which key an effect has."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import CommandRefusedError, UnknownStepError
from stepchain_tui.core.values import decode_json
from stepchain_tui.engine import Decision, EngineService, Receipt, account
from stepchain_tui.plan import Plan, plan_to_json
from stepchain_tui.run.ledger import idempotency_key
from stepchain_tui.store import SQLiteStore
from tests.support.engines import Bench, plan_of
from tests.support.world import World


def as_json(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = decode_json(plan_to_json(plan))
    return found


def abc(world: World) -> Plan:
    return plan_of(
        world.step("a"),
        world.step("b", args={"got": "{{ steps.a.output }}"}),
        world.step("c", args={"got": "{{ steps.b.output }}"}),
        world.step("x"),
    )


def decisions(receipt: Receipt) -> dict[str, str]:
    return {line.step_id: line.decision.value for line in receipt.steps}


async def test_a_fork_takes_over_what_does_not_follow_its_step() -> None:
    world = World()
    world.will("a", "from the parent")
    async with Bench() as bench:
        parent = await bench.run(abc(world), "parent")
        handle = await bench.engine.fork("parent", "b", new_run_id="child")
        assert await asyncio.wait_for(handle.wait(), 10) == "succeeded"
        assert world.calls.count("a") == 1
        assert sorted(world.calls) == ["a", "b", "b", "c", "c", "x"]
        child = handle.state
        assert (child.parent_run_id, child.parent_step_id) == ("parent", "b")
        assert child.steps["a"].origin == "parent/a"
        assert child.steps["a"].attempts == {}
        assert world.given["b"]["got"] == "from the parent"
        assert (await bench.store.load_state("parent")) == parent.state
        grandchild = await bench.engine.fork("child", "c", new_run_id="grandchild")
        await grandchild.wait()
        assert grandchild.state.steps["a"].origin == "parent/a"
        assert grandchild.state.steps["b"].origin == "child/b"
        with pytest.raises(CommandRefusedError, match="a run 'child' already"):
            await bench.engine.fork("parent", "b", new_run_id="child")
        with pytest.raises(UnknownStepError):
            await bench.engine.fork("parent", "nothing")


async def test_a_child_stands_by_itself_when_its_parent_is_deleted(tmp_path: Path) -> None:
    world = World()
    world.will("a", "large " * 20_000)
    async with Bench(SQLiteStore(tmp_path / "store.db")) as bench:
        await bench.run(abc(world), "parent")
        child = await bench.engine.fork("parent", "c", new_run_id="child")
        await child.wait()
        await bench.store.delete_run("parent")
        state = await bench.store.load_state("child")
        assert state.steps["a"].output is not None
        assert await bench.store.load_value(state.steps["a"].output) == "large " * 20_000
        assert (await bench.store.get_run("child")).parent_run_id == "parent"
        again = await bench.rerun("child", "b", downstream=True)
        assert again.state.status == "succeeded"


async def test_a_fork_of_a_run_whose_map_failed_keeps_the_items_that_are_done() -> None:
    world = World()
    world.will("m", 1, ValueError("no"), 3)
    plan = plan_of(world.step("m", for_each=[1, 2, 3], max_concurrent=1), world.step("z"))
    async with Bench() as bench:
        await bench.run(plan, "parent")
        world.will("m", "again")
        child = await bench.engine.fork("parent", "z", new_run_id="child")
        assert await asyncio.wait_for(child.wait(), 10) == "succeeded"
        assert world.count("m") == 4
        assert child.state.steps["m"].output is not None
        assert child.state.steps["m"].output.value == [1, "again", 3]


# --- receipts


async def test_the_receipt_of_a_resume_says_what_is_reused_and_what_runs() -> None:
    world = World()
    world.will("b", ValueError("broken"), "mended")
    async with Bench() as bench:
        run = await bench.run(abc(world), "r")
        service = EngineService(bench.engine)
        receipt = await service.receipt("r", "resume")
        assert decisions(receipt) == {"a": "reuse", "b": "run", "c": "run", "x": "reuse"}
        assert [line.reason for line in receipt.steps] == [
            "it succeeded",
            "it failed",
            "it was blocked",
            "it succeeded",
        ]
        assert receipt.seconds_saved >= 0
        assert Receipt.from_json(receipt.to_json()) == receipt
        assert (await bench.store.load_state("r")) == run.state
        again = await bench.resume("r")
        done = account(again.state)
        assert decisions(done) == decisions(receipt)
        assert done.done


async def test_a_result_by_hand_does_not_grow_stale_by_code(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("def f():\n    raise ValueError\n")
    async with Bench(folder=tmp_path) as bench:
        await bench.run(plan_of({"id": "a", "function": "./code.py:f", "mode": "inline"}), "r")
        assert (await bench.tell("r", "mark", step="a", output=1))["ok"]
        code.write_text("def f():\n    return 22\n")
        assert decisions(await EngineService(bench.engine).receipt("r", "resume")) == {"a": "reuse"}


async def test_the_receipt_of_a_rerun_names_what_becomes_stale() -> None:
    world = World()
    async with Bench() as bench:
        await bench.run(abc(world), "r")
        service = EngineService(bench.engine)
        one = await service.receipt("r", "rerun", {"step": "b"})
        assert decisions(one) == {"a": "reuse", "b": "run", "c": "stale", "x": "reuse"}
        assert {line.step_id: line.cause for line in one.steps}["c"] == "b"
        all_of_it = await service.receipt("r", "rerun", {"step": "b", "downstream": True})
        assert decisions(all_of_it) == {"a": "reuse", "b": "run", "c": "run", "x": "reuse"}
        with pytest.raises(CommandRefusedError, match="nothing"):
            await service.receipt("r", "rerun", {"step": "nothing"})
        forked = await service.receipt("r", "fork", {"step": "b"})
        assert decisions(forked) == {"a": "reuse", "b": "run", "c": "run", "x": "reuse"}
        assert {line.step_id: line.seconds for line in forked.steps} == {"a": 0.0, "b": None, "c": None, "x": 0.0}
        changed = plan_of(
            world.step("a"),
            world.step("b", args={"got": "{{ steps.a.output }}", "new": 1}),
            world.step("c", args={"got": "{{ steps.b.output }}"}),
            world.step("y"),
        )
        edited = await service.receipt("r", "edit", {"plan": as_json(changed)})
        assert decisions(edited) == {"a": "reuse", "b": "stale", "c": "stale", "y": "run"}
        anew = await service.receipt("r", "edit", {"plan": as_json(changed), "rerun": True})
        assert decisions(anew) == {"a": "reuse", "b": "run", "c": "run", "y": "run"}
        assert world.calls.count("b") == 1


async def test_code_that_changed_behind_a_result_is_told_and_marked(tmp_path: Path) -> None:
    code = tmp_path / "code.py"
    code.write_text("def f():\n    return 1\n")
    steps = [
        {"id": "a", "function": "./code.py:f", "mode": "inline"},
        {"id": "b", "python": "got", "args": {"got": "{{ steps.a.output }}"}},
        {"id": "c", "shell": "exit 1"},
    ]
    async with Bench(folder=tmp_path) as bench:
        await bench.run(plan_of(*steps), "r")
        code.write_text("def f():\n    return 22\n")
        receipt = await EngineService(bench.engine).receipt("r", "resume")
        lines = {line.step_id: line for line in receipt.steps}
        assert decisions(receipt) == {"a": "stale", "b": "stale", "c": "run"}
        assert lines["a"].reason == "the code behind it changed since its result"
        again = await bench.resume("r")
        assert again.state.steps["a"].marks == again.state.steps["b"].marks == {"stale"}
        assert again.outputs["a"] == 1
        third = await bench.rerun("r", "a", downstream=True)
        assert third.outputs["b"] == 22


# --- the ledger of effects


async def test_a_key_is_the_same_over_retries_and_resumes_and_another_after_a_rerun() -> None:
    world = World()
    keys: list[str] = []

    async with Bench() as bench:
        world.will("a", ValueError("x"), ValueError("x"), ValueError("x"), 1)
        run = await bench.run(plan_of(world.step("a", retry={"max_attempts": 2}), world.step("b", "a")), "r")
        keys.append(idempotency_key("r", run.state.steps["a"]))
        run = await bench.resume("r")
        keys.append(idempotency_key("r", run.state.steps["a"]))
        run = await bench.resume("r")
        keys.append(idempotency_key("r", run.state.steps["a"]))
        assert set(keys) == {"r:a"}
        run = await bench.rerun("r", "a")
        assert idempotency_key("r", run.state.steps["a"]) == "r:a#1"
        assert idempotency_key("r", run.state.steps["b"]) == "r:b"


async def test_the_shell_gets_the_key_of_its_step_and_item(tmp_path: Path) -> None:
    echo = "echo $STEPCHAIN_IDEMPOTENCY_KEY"
    async with Bench(folder=tmp_path) as bench:
        plan = plan_of({"id": "a", "shell": echo}, {"id": "m", "shell": echo, "for_each": ["x", "y"]})
        run = await bench.run(plan, "r")
        assert run.outputs["a"]["stdout"] == "r:a\n"
        items = run.state.steps["m"].items
        assert items is not None
        found = [item["stdout"].strip() for item in run.outputs["m"]]
        assert found == [f"r:m:{item.index}-{item.key[:8]}" for item in items]
        again = await bench.rerun("r", "a")
        assert again.outputs["a"]["stdout"] == "r:a#1\n"


@pytest.mark.parametrize(
    ("command", "arguments", "status", "calls"),
    [
        ("approve", {}, "succeeded", 2),
        ("mark", {"output": "as if"}, "succeeded", 1),
        ("skip", {}, "skipped", 1),
        ("approve", {"approved": False}, "cancelled", 1),
    ],
)
async def test_a_step_that_was_cut_off_asks_what_became_of_its_effect(
    command: str, arguments: dict[str, Any], status: str, calls: int
) -> None:
    world = World()
    gate = world.gate("a")
    async with Bench() as first:
        store = first.store
        await first.start(plan_of(world.step("a", on_interrupt="ask"), world.step("b", "a")), "r")
        await world.called("a")
        await first.engine.close()
    gate.set()
    async with Bench(store) as second:
        receipt = await EngineService(second.engine).receipt("r", "resume")
        assert "a: attempt 1 began at" in receipt.warnings[0]
        assert receipt.steps[0].reason == "it was cut off: you are asked first whether it runs again"
        again = await second.resume("r", detach=True)
        assert again.state.status == "waiting"
        waiting = again.state.steps["a"].waiting
        assert waiting is not None
        assert waiting.reason == "interrupted"
        assert "attempt 1" in waiting.question
        assert world.count("a") == 1
        answer = await second.tell("r", command, step="a", **arguments)
        assert answer["ok"], answer
        last = await second.resume("r")
        assert last.statuses["a"] == status
        assert world.count("a") == calls
        await last.check()


async def test_a_step_can_say_that_it_is_left_out_when_it_was_cut_off() -> None:
    world = World()
    world.gate("a")
    async with Bench() as first:
        store = first.store
        await first.start(plan_of(world.step("a", on_interrupt="skip"), world.step("b", "a")), "r")
        await world.called("a")
        await first.engine.close()
    async with Bench(store) as second:
        receipt = await EngineService(second.engine).receipt("r", "resume")
        assert decisions(receipt) == {"a": "leave", "b": "leave"}
        again = await second.resume("r")
        assert again.statuses == {"a": "skipped", "b": "skipped"}
        assert world.calls == ["a"]


# --- maps


async def test_only_the_failed_items_of_a_map_run_again() -> None:
    world = World()
    world.will("m", *[ValueError("no") if n in (3, 50, 99) else n for n in range(100)])
    plan = plan_of(world.step("m", for_each=list(range(100)), max_concurrent=1), max_concurrent=1)
    async with Bench() as bench:
        run = await bench.run(plan, "r")
        assert run.state.status == "failed"
        world.will("m", "again")
        again = await bench.rerun("r", "m", failed=True)
        assert again.state.status == "succeeded"
        assert world.count("m") == 103
        assert [n for n, value in enumerate(again.outputs["m"]) if value == "again"] == [3, 50, 99]
        refused = await bench.tell("r", "rerun", step="m", failed=True)
        assert not refused["ok"]
        await again.check()


async def test_a_map_over_a_list_that_changed_keeps_the_items_of_the_same_content() -> None:
    world = World()
    world.will("list", [1, 2, 3], [3, 4, 1])
    world.will("m", "one", ValueError("no"), "three")
    m = world.step("m", for_each="{{ steps.list.output }}", max_concurrent=1)
    async with Bench() as bench:
        await bench.run(plan_of(world.step("list"), m), "r")
        await bench.rerun("r", "list")
        world.will("m", "four")
        again = await bench.resume("r")
        assert again.outputs["m"] == ["three", "four", "one"]
        assert world.count("m") == 4
        await again.check()


async def test_a_batch_gives_a_step_several_items_at_once() -> None:
    world = World()
    world.will("m", lambda values: sum(values))
    m = world.step("m", for_each=[1, 2, 3, 4, 5], batch=2, args={"values": "{{ item }}"})
    async with Bench() as bench:
        run = await bench.run(plan_of(m))
        assert run.outputs["m"] == [3, 7, 5]


def test_every_decision_has_a_word() -> None:
    assert [decision.value for decision in Decision] == ["reuse", "run", "stale", "leave"]


async def test_the_receipt_of_what_was_cut_off_says_so() -> None:
    world = World()
    world.gate("a")
    async with Bench() as first:
        store = first.store
        await first.start(plan_of(world.step("a"), world.step("b", "a")), "r")
        await world.called("a")
        await first.engine.close()
    async with Bench(store) as second:
        receipt = await EngineService(second.engine).receipt("r", "resume")
        assert [line.reason for line in receipt.steps] == ["its attempt 1 was cut off", "it has not run yet"]
