"""Questions to a person: typed answers, denials, deadlines, and runs that wait."""

from __future__ import annotations

from typing import Any

import pytest

from stepchain_tui.store import MemoryStore
from tests.support.engines import Bench, JumpingClock, Watched, plan_of
from tests.support.world import World

FIELDS = {"count": {"type": "integer"}, "size": {"type": "choice", "choices": ["s", "m"], "default": "s"}}


def ask(**keys: Any) -> dict[str, Any]:
    return {"id": "ask", "approve": "Go on with {{ inputs.what }}?", **keys}


def plan_asking(*others: dict[str, Any], **keys: Any) -> Any:
    return plan_of(ask(**keys), *others, inputs={"what": {"default": "this"}})


WHAT = {"what": "this"}


async def test_an_answer_is_checked_by_its_types_and_asked_for_again_until_it_fits() -> None:
    world = World()
    async with Bench() as bench:
        end = world.step("end", args={"n": "{{ steps.ask.output.fields.count + 1 }}"})
        run = await bench.start(plan_asking(end, fields=FIELDS), inputs=WHAT)
        await run.until_status("ask", "waiting")
        waiting = run.state.steps["ask"].waiting
        assert (waiting.question, waiting.reason) == ("Go on with this?", "approval")
        assert (run.state.status, run.state.waiting_for) == ("waiting", ("ask",))
        for fields in ({}, {"count": "many"}, {"count": 1, "size": "xl"}, {"count": 1, "color": "red"}, ["count"]):
            answer = await run.tell("approve", step="ask", fields=fields)
            assert answer["ok"] is False
            assert run.statuses["ask"] == "waiting"
        assert (await run.tell("approve", step="ask", fields={"count": "41"}))["ok"]
        assert await run.end() == "succeeded"
        assert run.outputs["ask"] == {"approved": True, "fields": {"count": 41, "size": "s"}}
        resumed = (await run.events("step.resumed"))[0]
        assert (resumed.by, resumed.answer["approved"]) == ("Ada", True)
        await run.check()
    assert world.given["end"] == {"n": 42}


async def test_a_no_fails_the_step_as_the_users_error_and_blocks_what_follows() -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.start(plan_asking(world.step("end", "ask")), inputs=WHAT)
        await run.until_status("ask", "waiting")
        assert (await run.tell("approve", step="ask", approved=False))["message"] == "ask denied"
        assert await run.end() == "failed"
        error = run.state.steps["ask"].error
        assert (error.error_type, error.message, error.exception) == ("user_error", "denied by Ada", "Denied")
        assert run.outputs["ask"] == {"approved": False, "fields": {}}
        assert run.statuses["end"] == "blocked"
        await run.check()


async def test_those_who_follow_a_no_with_continue_see_it() -> None:
    world = World()
    async with Bench() as bench:
        end = world.step("end", args={"yes": "{{ steps.ask.output.approved }}"})
        run = await bench.start(plan_asking(end, on_failure="continue"), inputs=WHAT)
        await run.until_status("ask", "waiting")
        await run.tell("approve", step="ask", approved=False)
        assert await run.end() == "succeeded"
    assert world.given["end"] == {"yes": False}


@pytest.mark.parametrize(
    ("on_timeout", "status", "approved"),
    [(None, "failed", False), ("deny", "failed", False), ("approve", "succeeded", True)],
)
async def test_nobody_answering_in_time_counts_as_the_plan_says(
    on_timeout: str | None, status: str, approved: bool
) -> None:
    keys = {"on_timeout": on_timeout} if on_timeout else {}
    async with Bench() as bench:
        run = await bench.run(plan_asking(timeout=3600, **keys), inputs=WHAT)
        assert (run.statuses["ask"], run.outputs["ask"]["approved"]) == (status, approved)
        assert bench.clock.jumps == [3600]
        assert (await run.events("step.resumed"))[0].by == "timeout"
        await run.check()


async def test_after_a_deadline_the_run_is_running_again_and_not_waiting() -> None:
    world = World()
    gate = world.gate("end")
    async with Bench() as bench:
        run = await bench.start(plan_asking(world.step("end", "ask"), timeout=60, on_timeout="approve"), inputs=WHAT)
        await world.called("end")
        assert (run.state.status, run.state.waiting_for) == ("running", ())
        gate.set()
        assert await run.end() == "succeeded"


@pytest.mark.parametrize("command", ["skip", "cancel"])
async def test_a_run_that_no_longer_waits_is_running_again(command: str) -> None:
    world = World()
    gate = world.gate("end")
    async with Bench() as bench:
        end = world.step("end", "ask", trigger_rule="all_done")
        run = await bench.start(plan_asking(end), inputs=WHAT)
        await run.until(lambda state: state.status == "waiting")
        await run.tell(command, step="ask")
        await world.called("end")
        assert run.state.status == "running"
        gate.set()
        await run.end()
        await run.check()


async def test_an_answer_in_time_takes_the_deadline_away() -> None:
    world = World()
    async with Bench() as bench:
        bench.clock.may_jump = False
        run = await bench.start(plan_asking(world.step("end", "ask"), timeout=60), inputs=WHAT)
        await run.until_status("ask", "waiting")
        await run.tell("approve", step="ask")
        assert await run.end() == "succeeded"
        assert bench.clock.next_wake is None


async def test_other_steps_go_on_while_a_question_is_open() -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.start(plan_asking(world.step("a"), world.step("b", "a")), inputs=WHAT)
        await run.until_status("b", "succeeded")
        await run.until(lambda state: state.status == "waiting")
        await run.tell("approve", step="ask")
        assert await run.end() == "succeeded"


async def test_a_headless_run_is_let_go_of_while_it_waits_and_goes_on_after_an_answer() -> None:
    world, store, clock = World(), MemoryStore(), JumpingClock()
    async with Bench(store, clock=clock) as bench:
        run = await bench.run(plan_asking(world.step("end", "ask"), fields=FIELDS), "r", inputs=WHAT, detach=True)
        assert run.state.status == "waiting"
        assert not store.owner_alive("r")
        assert (await bench.tell("r", "approve", step="ask", fields={"count": "x"}))["ok"] is False
        assert (await bench.tell("r", "approve", step="ask", fields={"count": 5}))["ok"]
        state = await store.load_state("r")
        assert (state.steps["ask"].status, state.status) == ("succeeded", "paused")
    async with Bench(store, clock=clock) as bench:
        run = await bench.resume("r")
        assert (run.state.status, world.calls) == ("succeeded", ["end"])
        await run.check()


async def test_a_question_and_its_deadline_survive_a_restart() -> None:
    store, clock = MemoryStore(), JumpingClock()
    clock.may_jump = False
    async with Bench(store, clock=clock) as bench:
        run = await bench.start(plan_asking(timeout=3600, on_timeout="approve"), "r", inputs=WHAT)
        await run.until_status("ask", "waiting")
    assert run.state.status == "interrupted"
    clock.advance(1000)
    clock.may_jump = True
    async with Bench(store, clock=clock) as bench:
        run = await bench.resume("r")
        assert run.state.status == "succeeded"
        assert clock.jumps == [2600]
        assert len(await run.events("step.waiting")) == 1
        await run.check()


async def test_a_paused_run_keeps_its_question() -> None:
    store = MemoryStore()
    async with Bench(store) as bench:
        run = await bench.start(plan_asking(), "r", inputs=WHAT)
        await run.until_status("ask", "waiting")
        await run.tell("pause")
        assert await run.end() == "paused"
    async with Bench(store) as bench:
        run = Watched(bench, await bench.engine.resume("r"))
        await run.until_status("ask", "waiting")
        await run.tell("approve", step="ask")
        assert await run.end() == "succeeded"


async def test_an_approval_asked_again_by_a_rerun_is_a_new_attempt() -> None:
    async with Bench() as bench:
        run = await bench.start(plan_asking(), "r", inputs=WHAT)
        await run.until_status("ask", "waiting")
        await run.tell("approve", step="ask", approved=False)
        await run.end()
        run = Watched(bench, await bench.engine.rerun("r", "ask"))
        await run.until_status("ask", "waiting")
        await run.tell("approve", step="ask")
        assert await run.end() == "succeeded"
        found = [
            (attempt.status, attempt.output.value["approved"]) for attempt in run.state.steps["ask"].attempts.values()
        ]
        assert found == [("failed", False), ("succeeded", True)]
