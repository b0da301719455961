"""Live plan surgery: a run gets another revision of its plan, running or stopped, and keeps what it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import CommandRefusedError, InputError
from stepchain_tui.core.values import decode_json
from stepchain_tui.engine import Engine, EngineService
from stepchain_tui.plan import Plan, plan_to_json
from stepchain_tui.store import SQLiteStore
from tests.support.engines import Bench, plan_of
from tests.support.world import World


def as_json(plan: Plan) -> dict[str, Any]:
    found: dict[str, Any] = decode_json(plan_to_json(plan))
    return found


def chained(world: World, name: str, after: str, **keys: Any) -> dict[str, Any]:
    return world.step(name, **{"args": {"got": f"{{{{ steps.{after}.output }}}}"}, **keys})


async def test_a_pending_step_of_a_live_run_does_what_the_new_revision_says() -> None:
    world = World()
    gate = world.gate("a")
    a = world.step("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(a, chained(world, "b", "a")))
        await world.called("a")
        changed = plan_of(a, chained(world, "b", "a", args={"got": "edited"}), world.step("c", "b"))
        answer = await run.tell("edit", plan=as_json(changed), text="goal: new", revision=1)
        assert answer["ok"], answer
        gate.set()
        assert await run.end() == "succeeded"
        assert world.calls == ["a", "b", "c"]
        assert world.given["b"]["got"] == "edited"
        assert (run.state.revision, run.state.plan_text) == (2, "goal: new")
        assert [record.by for record in run.state.revisions] == ["", "Ada"]
        assert run.state.steps["a"].attempts[None, 1].revision == 1
        assert run.state.steps["b"].attempts[None, 1].revision == 2
        await run.check()


async def test_a_failed_step_that_is_mended_runs_again_with_what_it_blocked() -> None:
    world = World()
    world.will("a", ValueError("typo"))
    gate = world.gate("z")
    z = world.step("z")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), chained(world, "b", "a"), z))
        await run.until_status("b", "blocked")
        world.will("a", "mended")
        mended = plan_of(world.step("a", args={"mended": True}), chained(world, "b", "a"), z)
        assert (await run.tell("edit", plan=as_json(mended)))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        assert world.calls.count("a") == 2
        assert world.given["b"]["got"] == "mended"
        await run.check()


async def test_a_finished_step_that_changed_is_stale_with_all_that_stands_on_it() -> None:
    world = World()
    gate = world.gate("z")
    z = world.step("z")
    plan = plan_of(world.step("a"), chained(world, "b", "a"), world.step("x"), z)
    async with Bench() as bench:
        run = await bench.start(plan)
        await run.until_status("b", "succeeded")
        await run.until_status("x", "succeeded")
        changed = plan_of(world.step("a", args={"new": 1}), chained(world, "b", "a"), world.step("x"), z)
        assert (await run.tell("edit", plan=as_json(changed)))["ok"]
        assert run.state.steps["a"].marks == run.state.steps["b"].marks == {"stale"}
        assert run.state.steps["x"].marks == set()
        gate.set()
        assert await run.end() == "succeeded"
        assert sorted(world.calls) == ["a", "b", "x", "z"]
        again = await bench.rerun(run.run_id, "a", downstream=True)
        assert again.state.steps["b"].marks == set()
        assert world.calls.count("b") == 2


async def test_an_edit_can_ask_for_what_changed_to_run_again() -> None:
    world = World()
    gate = world.gate("z")
    z = world.step("z")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), chained(world, "b", "a"), world.step("x"), z))
        await run.until_status("b", "succeeded")
        await run.until_status("x", "succeeded")
        changed = plan_of(world.step("a", args={"new": 1}), chained(world, "b", "a"), world.step("x"), z)
        assert (await run.tell("edit", plan=as_json(changed), rerun=True))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        assert sorted(world.calls) == ["a", "a", "b", "b", "x", "z"]
        assert run.state.steps["b"].marks == set()
        await run.check()


async def test_a_stopped_run_is_edited_and_resumed() -> None:
    world = World()
    world.will("a", ValueError("typo"))
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a"), chained(world, "b", "a")))
        world.will("a", 1)
        mended = plan_of(world.step("a", args={"mended": True}), chained(world, "b", "a"))
        assert (await bench.tell(run.run_id, "edit", plan=as_json(mended)))["ok"]
        assert (await bench.store.load_state(run.run_id)).steps["a"].status == "pending"
        again = await bench.resume(run.run_id)
        assert again.state.status == "succeeded"
        assert world.calls == ["a", "a", "b"]
        await again.check()


async def test_a_run_that_succeeded_gets_another_step_and_goes_on() -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a")))
        longer = plan_of(world.step("a"), chained(world, "b", "a"))
        assert (await bench.tell(run.run_id, "edit", plan=as_json(longer)))["ok"]
        edited = await bench.store.load_state(run.run_id)
        assert (edited.status, edited.reason) == ("paused", "edit by Ada; resume goes on")
        again = await bench.resume(run.run_id)
        assert again.statuses == {"a": "succeeded", "b": "succeeded"}
        assert world.calls == ["a", "b"]


async def test_what_runs_is_not_changed_under_its_feet() -> None:
    world = World()
    gate = world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a")))
        await world.called("a")
        before = run.state.last_seq
        other = plan_of(world.step("a", args={"other": 1}), world.step("b", "a"))
        refused = await run.tell("edit", plan=as_json(other))
        assert "changes a, which is being carried out" in refused["message"]
        gone = plan_of(world.step("b"))
        refused = await run.tell("edit", plan=as_json(gone))
        assert "takes a away, which is being carried out" in refused["message"]
        assert [type(event).__name__ for event in run.news[before:]] == ["CommandRefused"] * 2
        patient = plan_of(world.step("a", timeout=99), world.step("b", "a"))
        assert (await run.tell("edit", plan=as_json(patient)))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        await run.check()


@pytest.mark.parametrize(
    ("steps", "word"),
    [
        ([{"id": "b", "shell": "true", "dependencies": ["a"]}], "unknown step 'a'"),
        ([{"id": "a", "shell": "true", "dependencies": ["a"]}], "step 'a' cannot wait for itself"),
        ([{"id": "a"}], "a step needs an action"),
        ([], "at least one step"),
    ],
)
async def test_a_revision_that_is_not_valid_changes_nothing(steps: list[dict[str, Any]], word: str) -> None:
    world = World()
    gate = world.gate("z")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("z")))
        await world.called("z")
        refused = await run.tell("edit", plan={"steps": steps})
        assert not refused["ok"]
        assert word in refused["message"]
        assert run.state.revision == 1
        gate.set()
        assert await run.end() == "succeeded"
        await run.check()


async def test_an_edit_of_a_revision_that_is_no_longer_the_newest_is_refused() -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a")))
        two = plan_of(world.step("a"), world.step("b"))
        assert (await bench.tell(run.run_id, "edit", plan=as_json(two), revision=1))["ok"]
        three = plan_of(world.step("a"), world.step("c"))
        refused = await bench.tell(run.run_id, "edit", plan=as_json(three), revision=1)
        assert "revision 2" in refused["message"]
        refused = await bench.tell(run.run_id, "edit", plan=as_json(two), revision=2)
        assert "the same" in refused["message"]


async def test_a_step_that_waits_for_its_next_try_tries_what_it_says_now() -> None:
    world = World()
    world.will("a", ValueError("x"), 1)
    async with Bench() as bench:
        bench.clock.may_jump = False
        retry = {"max_attempts": 3, "initial_delay": 3600}
        run = await bench.start(plan_of(world.step("a", retry=retry)))
        await run.until_status("a", "retrying")
        assert (await run.tell("edit", plan=as_json(plan_of(world.step("a", retry=retry, args={"new": 1})))))["ok"]
        assert await run.end() == "succeeded"
        assert world.given["a"] == {"new": 1}
        await run.check()


async def test_a_question_stays_open_over_an_edit_of_other_steps() -> None:
    world = World()
    ask = {"id": "ask", "approve": "go?"}
    async with Bench() as bench:
        run = await bench.start(plan_of(ask, world.step("b", "ask")))
        await run.until_status("ask", "waiting")
        assert (await run.tell("edit", plan=as_json(plan_of(ask, world.step("b", "ask", args={"n": 1})))))["ok"]
        refused = await run.tell("edit", plan=as_json(plan_of({"id": "ask", "approve": "really?"}, world.step("b"))))
        assert not refused["ok"]
        assert (await run.tell("approve", step="ask"))["ok"]
        assert await run.end() == "succeeded"
        assert world.given["b"] == {"n": 1}
        await run.check()


async def test_limits_and_slots_change_while_the_run_goes_on() -> None:
    world = World()
    gates = {name: world.gate(name) for name in "abcd"}
    async with Bench() as bench:
        plan = plan_of(*(world.step(name) for name in "abcd"), max_concurrent=1)
        run = await bench.start(plan)
        await world.called("a")
        told = await run.tell("slots")
        assert told["slots"]["run"] == {"taken": 1, "size": 1}
        assert [held["step"] for held in told["slots"]["held"]] == ["a"]
        assert (await run.tell("limits", max_concurrent=3, priorities={"d": 9}))["ok"]
        await world.called("d", "b")
        assert sorted(world.running) == ["a", "b", "d"]
        assert (await run.tell("limits", max_concurrent=1))["ok"]
        gates["a"].set()
        gates["b"].set()
        await run.until_status("b", "succeeded")
        assert world.running == ["d"]
        for gate in gates.values():
            gate.set()
        assert await run.end() == "succeeded"
        refused = await run.tell("limits", limits={"nothing": 2})
        assert not refused["ok"]


async def test_a_step_that_waits_in_the_queue_is_edited_and_waits_on() -> None:
    world = World()
    gate = world.gate("a")
    limits = {"limits": {"one": 1}}

    def plan(**args: Any) -> Plan:
        return plan_of(world.step("a", limit="one"), world.step("b", limit="one", args=args), world.step("c"), **limits)

    async with Bench() as bench:
        run = await bench.start(plan())
        await run.until_status("b", "queued")
        assert (await run.tell("limits", priorities={"b": 5}))["ok"]
        assert (await run.tell("edit", plan=as_json(plan(n=1))))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        assert world.given["b"] == {"n": 1}
        await run.check()


async def test_an_input_that_a_revision_brings_gets_its_value_and_a_secret_one_is_never_stored(tmp_path: Path) -> None:
    world = World()
    inputs = {"n": {"type": "integer"}, "key": {"type": "secret"}}
    async with Bench(SQLiteStore(tmp_path / "runs.db")) as bench:
        gate = world.gate("a")
        run = await bench.start(plan_of(world.step("a")))
        await world.called("a")
        plan = plan_of(
            world.step("a"), world.step("b", "a", args={"n": "{{ inputs.n }}", "k": "{{ inputs.key }}"}), inputs=inputs
        )
        refused = await run.tell("edit", plan=as_json(plan))
        assert "missing inputs: n, key" in refused["message"]
        assert (await run.tell("edit", plan=as_json(plan), inputs={"n": 4, "key": "verysecret99"}))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        assert world.given["b"] == {"n": 4, "k": "verysecret99"}
        assert (run.state.inputs, run.state.secret_inputs) == ({"n": 4}, ("key",))
        await run.check()
        with pytest.raises(InputError, match="key"):
            await bench.engine.resume(run.run_id)
    assert b"verysecret99" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


async def test_a_secret_input_does_not_go_to_another_process_through_the_store(tmp_path: Path) -> None:
    world = World()
    gate = world.gate("a")
    plan = plan_of(world.step("a"), inputs={"key": {"type": "secret"}})
    async with Bench(SQLiteStore(tmp_path / "runs.db")) as bench:
        run = await bench.start(plan_of(world.step("a")))
        await world.called("a")
        async with Engine(SQLiteStore(tmp_path / "runs.db")) as other:
            arguments = {"plan": as_json(plan), "inputs": {"key": "verysecret99"}}
            with pytest.raises(CommandRefusedError, match="secret input 'key' is not sent to another process"):
                await EngineService(other).steer(run.run_id, "edit", arguments)
        gate.set()
        assert await run.end() == "succeeded"
