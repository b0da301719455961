"""Rule 9 and the commands: pause, resume, cancel, skip, rerun and try now, and what they refuse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stepchain_tui.run import AttemptError, ErrorType
from stepchain_tui.store import MemoryStore, SQLiteStore
from tests.support.engines import Bench, Watched, plan_of
from tests.support.world import World

LATER = AttemptError("slow down", error_type=ErrorType.RATE_LIMIT, retry_after=3600)


async def test_pause_lets_running_steps_finish_and_starts_no_other() -> None:
    world = World()
    gate = world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a"), world.step("c", "a")), "r")
        await world.called("a")
        answer = await run.tell("pause")
        assert (answer["ok"], answer["message"]) == (True, "pausing: 1 running finishes first")
        assert run.state.status == "paused"
        gate.set()
        assert await run.end() == "paused"
        assert run.statuses == {"a": "succeeded", "b": "pending", "c": "pending"}
        assert run.state.reason == "paused by Ada"
        await run.check()
        again = await bench.resume("r")
        assert again.state.status == "succeeded"
    assert world.calls == ["a", "b", "c"]


async def test_pause_now_sends_running_steps_back_at_no_cost_of_a_try() -> None:
    world = World()
    gate = world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b")), "r")
        await world.called("a")
        await run.tell("pause", now=True)
        assert await run.end() == "paused"
        assert run.statuses["a"] == "pending"
        assert world.running == []
        gate.set()
        again = await bench.resume("r")
        assert [found.tries for found in again.state.steps["a"].attempts.values()] == [1, 1]
        assert [found.status for found in again.state.steps["a"].attempts.values()] == ["interrupted", "succeeded"]
        await again.check()


async def test_a_pause_can_become_a_pause_now() -> None:
    world = World()
    world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a")))
        await world.called("a")
        assert (await run.tell("pause"))["ok"]
        assert not (await run.tell("pause"))["ok"]
        assert (await run.tell("pause", now=True))["ok"]
        assert await run.end() == "paused"


async def test_a_resume_while_the_last_steps_still_finish_goes_on_in_the_same_engine() -> None:
    world = World()
    gate = world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a"), world.step("c")), "r")
        await world.called("a")
        await run.tell("pause")
        assert (await run.tell("resume"))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
    assert sorted(world.calls) == ["a", "b", "c"]


async def stubborn(gate: asyncio.Event) -> str:
    """Take a while to stop."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await gate.wait()
        raise
    return "never"


@pytest.mark.parametrize("keys", [{}, {"for_each": [1, 2]}])
async def test_a_resume_while_pause_now_still_stops_steps_runs_them_again(keys: dict[str, Any]) -> None:
    world = World()
    gate = asyncio.Event()
    world.will("a", lambda **_: stubborn(gate), lambda **_: stubborn(gate), "ok")
    step = {**world.step("a", **keys), "function": "tests.support.world:act_awaiting"}
    async with Bench() as bench:
        run = await bench.start(plan_of(step))
        await world.called("a")
        await run.tell("pause", now=True)
        assert (await run.tell("resume"))["ok"]
        gate.set()
        world.will("a", "ok")
        assert await run.end() == "succeeded"
        await run.check()


async def test_a_paused_run_survives_closing_and_reopening_everything(tmp_path: Any) -> None:
    world = World()
    gate = world.gate("a")
    path = tmp_path / "runs.db"
    async with Bench(SQLiteStore(path)) as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a")), "r")
        await world.called("a")
        await run.tell("pause")
        gate.set()
        assert await run.end() == "paused"
    for _ in range(2):
        store = SQLiteStore(path)
        await store.open()
        row = await store.get_run("r")
        assert (row.shown_status, row.owner) == ("paused", None)
        assert not store.owner_alive("r")
        await store.close()
    async with Bench(SQLiteStore(path)) as bench:
        assert (await bench.resume("r")).state.status == "succeeded"
    assert world.calls == ["a", "b"]


async def test_closing_the_engine_in_the_middle_of_a_pause_leaves_the_run_paused() -> None:
    world, store = World(), MemoryStore()
    world.gate("a")
    async with Bench(store) as bench:
        run = await bench.start(plan_of(world.step("a")), "r")
        await world.called("a")
        await run.tell("pause")
    assert await run.end() == "paused"
    world.will("a", "ok")
    async with Bench(store) as bench:
        assert (await bench.resume("r")).state.status == "succeeded"


async def test_a_retry_waits_through_a_pause() -> None:
    world = World()
    world.will("a", LATER, "ok")
    async with Bench() as bench:
        bench.clock.may_jump = False
        run = await bench.start(plan_of(world.step("a", retry={"max_attempts": 2})), "r")
        await run.until_status("a", "retrying")
        await run.tell("pause")
        assert await run.end() == "paused"
        assert run.statuses["a"] == "retrying"
        bench.clock.may_jump = True
        assert (await bench.resume("r")).state.status == "succeeded"
        assert bench.clock.jumps == [3600]


async def test_cancelling_a_step_stops_it_and_others_go_on() -> None:
    world = World()
    world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a"), world.step("c")))
        await world.called("a")
        answer = await run.tell("cancel", step="a")
        assert answer["message"] == "a cancelled"
        assert await run.end() == "failed"
        assert run.statuses == {"a": "cancelled", "b": "blocked", "c": "succeeded"}
        assert run.state.steps["a"].reason == "cancelled by Ada"
        assert run.state.steps["a"].last.status == "cancelled"
        assert world.running == []
        await run.check()


@pytest.mark.parametrize("kind", ["pending", "queued", "waiting"])
async def test_a_step_that_has_not_begun_can_be_called_off(kind: str) -> None:
    world = World()
    gate = world.gate("a")
    steps = {
        "pending": world.step("b", "a"),
        "queued": world.step("b"),
        "waiting": {"id": "b", "approve": "go?"},
    }
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), steps[kind], max_concurrent=2 if kind == "waiting" else 1))
        await run.until_status("b", kind)
        assert (await run.tell("cancel", step="b"))["ok"]
        gate.set()
        assert await run.end() == "failed"
        assert run.statuses == {"a": "succeeded", "b": "cancelled"}
        assert world.count("b") == 0
        await run.check()


async def test_cancelling_a_run_stops_everything_and_gives_every_step_a_result() -> None:
    world = World()
    world.gate("a")
    world.will("r", LATER)
    async with Bench() as bench:
        bench.clock.may_jump = False
        steps = [
            world.step("a"),
            world.step("b", "a"),
            world.step("r", retry={"max_attempts": 2}),
            {"id": "ask", "approve": "go?"},
            world.step("done"),
            world.step("clean", "a", trigger_rule="all_done"),
        ]
        run = await bench.start(plan_of(*steps))
        await run.until_status("r", "retrying")
        await run.until_status("done", "succeeded")
        assert (await run.tell("cancel"))["ok"]
        assert not (await run.tell("cancel"))["ok"]
        assert await run.end() == "cancelled"
        ended = {name: status for name, status in run.statuses.items() if name != "done"}
        assert set(ended.values()) == {"cancelled"}
        assert run.statuses["done"] == "succeeded"
        assert run.state.reason == "cancelled by Ada"
        await run.check()


async def test_a_run_that_nobody_carries_out_can_be_cancelled() -> None:
    world = World()
    world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a")), "r")
        await world.called("a")
        await run.tell("pause", now=True)
        await run.end()
        assert (await bench.tell("r", "cancel"))["ok"]
        state = await bench.store.load_state("r")
        assert (state.status, {step.status for step in state.steps.values()}) == ("cancelled", {"cancelled"})
        assert not (await bench.tell("r", "cancel"))["ok"]


async def test_a_skipped_step_is_not_run_and_what_follows_is_skipped() -> None:
    world = World()
    gate = world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a"), world.step("c", "b")))
        await world.called("a")
        assert (await run.tell("skip", step="b"))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        assert run.statuses == {"a": "succeeded", "b": "skipped", "c": "skipped"}
        assert run.state.steps["b"].reason == "skipped by Ada"
    assert world.calls == ["a"]


async def test_a_running_step_cannot_be_skipped_and_one_that_succeeded_neither() -> None:
    world = World()
    gate = world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b")))
        await run.until_status("b", "succeeded")
        for step in "ab":
            answer = await run.tell("skip", step=step)
            assert (answer["ok"], answer["kind"]) == (False, "refused")
        gate.set()
        assert await run.end() == "succeeded"


async def test_a_retrying_step_and_a_question_can_be_skipped() -> None:
    world = World()
    world.will("a", LATER)
    async with Bench() as bench:
        bench.clock.may_jump = False
        run = await bench.start(plan_of(world.step("a", retry={"max_attempts": 2}), {"id": "ask", "approve": "go?"}))
        await run.until_status("a", "retrying")
        await run.until_status("ask", "waiting")
        assert (await run.tell("skip", step="a"))["ok"]
        assert (await run.tell("skip", step="ask"))["ok"]
        assert await run.end() == "succeeded"
        assert run.statuses == {"a": "skipped", "ask": "skipped"}
        await run.check()


async def test_what_somebody_asked_and_who_it_was_is_kept_with_its_effect_right_behind() -> None:
    world = World()
    world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a")))
        await world.called("a")
        await run.tell("pause", now=True)
        await run.end()
        names = await run.names()
        applied = next(event for event in await run.events("command.applied"))
        assert (applied.command, applied.arguments, applied.by) == ("pause", {"now": True}, "Ada")
        assert names[names.index("command.applied") + 1] == "run.paused"


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("dance", {}, "there is no command 'dance'"),
        ("skip", {}, "needs a step"),
        ("skip", {"step": "nope"}, "no step 'nope'"),
        ("cancel", {"step": "nope"}, "no step 'nope'"),
        ("rerun", {"step": 7}, "needs a step"),
        ("try_now", {"step": "a"}, "waits for no retry"),
        ("approve", {"step": "a"}, "waits for no answer"),
        ("resume", {}, "not paused"),
    ],
)
async def test_a_command_that_does_not_fit_is_refused_and_changes_nothing(
    command: str, arguments: dict[str, Any], words: str
) -> None:
    world = World()
    gate = world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a")))
        await world.called("a")
        answer = await run.tell(command, **arguments)
        assert answer["ok"] is False
        assert words in answer["message"]
        assert run.statuses == {"a": "running"}
        refused = await run.events("command.refused")
        assert [(event.command, event.by) for event in refused] == [(command, "Ada")]
        gate.set()
        assert await run.end() == "succeeded"
        await run.check()


async def test_a_rerun_of_a_parent_calls_back_a_child_that_waits_for_its_second_try() -> None:
    world = World()
    gate = world.gate("slow")
    world.will("b", LATER, "ok")
    async with Bench() as bench:
        bench.clock.may_jump = False
        steps = [world.step("a"), world.step("b", "a", retry={"max_attempts": 2}), world.step("slow", "a", priority=-1)]
        run = await bench.start(plan_of(*steps, max_concurrent=1))
        await run.until_status("b", "retrying")
        await world.called("slow")
        await run.tell("try_now", step="b")
        answer = await run.tell("rerun", step="a")
        assert answer["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        assert run.statuses["b"] == "succeeded"
        await run.check()


async def test_cancel_during_a_pause_ends_the_run() -> None:
    world = World()
    world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a")))
        await world.called("a")
        await run.tell("pause")
        await run.tell("cancel")
        assert await run.end() == "cancelled"
        assert set(run.statuses.values()) == {"cancelled"}


async def test_listeners_hear_events_only_once_they_are_stored_and_in_order() -> None:
    world = World()
    heard: list[int] = []
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a")))

        def listen(events: list[Any]) -> None:
            heard.extend(event.seq for event in events)
            assert len(bench.store._runs[run.run_id].events) >= heard[-1]

        stop = run.handle.subscribe(listen)
        await run.end()
        stop()
        assert heard == list(range(heard[0], run.state.last_seq + 1))
        assert isinstance(run, Watched)


async def rude(error: Exception) -> None:
    """Raise something else when asked to stop."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise error from None


@pytest.mark.parametrize(
    ("command", "arguments", "status"), [("pause", {"now": True}, "pending"), ("cancel", {}, "cancelled")]
)
async def test_what_a_body_raises_while_it_is_stopped_is_no_failure(
    command: str, arguments: dict[str, Any], status: str
) -> None:
    world = World()
    world.will("a", lambda **_: rude(RuntimeError("cut off")))
    async with Bench() as bench:
        step = {**world.step("a", retry={"max_attempts": 3}), "function": "tests.support.world:act_awaiting"}
        run = await bench.start(plan_of(step))
        await world.called("a")
        await run.tell(command, **arguments)
        await run.end()
        assert (run.statuses["a"], world.count("a")) == (status, 1)
        await run.check()


async def test_a_body_that_raises_when_its_time_is_over_has_timed_out() -> None:
    world = World()
    world.will("a", lambda **_: rude(RuntimeError("cut off")))
    async with Bench() as bench:
        step = {**world.step("a", timeout=0.05), "function": "tests.support.world:act_awaiting"}
        run = await bench.run(plan_of(step))
        assert (run.statuses["a"], run.state.steps["a"].error.error_type) == ("timed_out", "timeout")


async def test_a_cancel_after_a_pause_now_wins() -> None:
    world = World()
    gate = asyncio.Event()
    world.will("a", lambda **_: stubborn(gate))
    async with Bench() as bench:
        run = await bench.start(plan_of({**world.step("a"), "function": "tests.support.world:act_awaiting"}))
        await world.called("a")
        await run.tell("pause", now=True)
        await run.tell("cancel")
        gate.set()
        assert await run.end() == "cancelled"
        assert run.statuses == {"a": "cancelled"}


async def test_a_step_that_runs_while_its_parent_is_rerun_ends_stale() -> None:
    world = World()
    gate = world.gate("b")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a"), world.step("b", "a")))
        await world.called("b")
        assert (await run.tell("rerun", step="a"))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        assert run.state.steps["b"].marks == {"stale"}
        assert (world.count("a"), world.count("b")) == (2, 1)


@pytest.mark.parametrize("command", ["resume", "rerun"])
async def test_a_command_that_needs_an_engine_is_refused_by_a_run_that_has_none(command: str) -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a")))
        before = await run.events()
        answer = await run.tell(command, step="a")
        assert (answer["ok"], answer["kind"]) == (False, "refused")
        assert await run.events() == before


async def test_a_command_in_the_moment_a_run_ends_is_applied_to_the_run_as_it_ended() -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a")))
        answers: list[asyncio.Task[dict[str, Any]]] = []

        def listen(events: list[Any]) -> None:
            if any(type(event).__name__ in ("StepSucceeded", "RunFinished") for event in events):
                answers.append(asyncio.create_task(run.tell("rerun", step="a")))

        run.handle.subscribe(listen)
        await run.end()
        found = [(await answer)["ok"] for answer in answers]
        assert found in ([False], [False, False])
        await run.check()
        assert run.state.status == "succeeded"


@pytest.mark.parametrize("others", [(), ("late",)])
async def test_a_step_that_was_ready_because_of_a_failure_is_looked_at_anew_when_that_step_is_skipped(
    others: tuple[str, ...],
) -> None:
    world = World()
    world.will("bad", RuntimeError("broke"))
    gate = world.gate("busy")
    async with Bench() as bench:
        alarm = world.step("alarm", "bad", *others, trigger_rule="one_failed", priority=-1)
        late = [world.step(name, priority=-2) for name in others]
        run = await bench.start(plan_of(world.step("bad"), world.step("busy"), alarm, *late, max_concurrent=1))
        await run.until_status("alarm", "queued")
        assert (await run.tell("skip", step="bad"))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        assert run.statuses["alarm"] == "skipped"
        assert world.calls == ["bad", "busy", *others]
        await run.check()


async def test_a_rerun_of_a_step_that_is_skipped_again_at_once_does_not_keep_its_children_waiting() -> None:
    world = World()
    gate = world.gate("slow")
    async with Bench() as bench:
        steps = [world.step("a", when=False), world.step("b", "a"), world.step("slow")]
        end = world.step("end", "b", "slow", trigger_rule="all_done")
        run = await bench.start(plan_of(*steps, end))
        await world.called("slow")
        assert (await run.tell("rerun", step="b"))["ok"]
        gate.set()
        assert await run.end() == "succeeded"
        assert (run.statuses["b"], run.statuses["end"]) == ("skipped", "succeeded")
        await run.check()
