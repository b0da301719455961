"""Rule 6: what a step's end means to those that follow it and to the run."""

from __future__ import annotations

from typing import Any

import pytest

from stepchain_tui.engine import step_results
from stepchain_tui.engine.readiness import Verdict, decide
from stepchain_tui.plan import TriggerRule
from stepchain_tui.run.events import StepOutline
from stepchain_tui.run.status import STEP_ENDED, StepStatus
from stepchain_tui.run.step_state import StepState
from tests.support.engines import Bench, plan_of
from tests.support.world import World

BROKEN = RuntimeError("broke")


async def test_a_failed_step_blocks_what_follows_with_the_cause_named_and_other_branches_go_on() -> None:
    world = World()
    world.will("bad", BROKEN)
    async with Bench() as bench:
        steps = [world.step("bad"), world.step("child", "bad"), world.step("grandchild", "child"), world.step("other")]
        run = await bench.run(plan_of(*steps, world.step("end", "other")))
        assert run.statuses == {
            "bad": "failed",
            "child": "blocked",
            "grandchild": "blocked",
            "other": "succeeded",
            "end": "succeeded",
        }
        assert (run.state.steps["child"].cause, run.state.steps["child"].reason) == ("bad", "bad failed")
        assert (run.state.steps["grandchild"].cause, run.state.steps["grandchild"].reason) == (
            "bad",
            "child is blocked",
        )
        assert (run.state.status, run.state.reason) == ("failed", "bad failed")
        results = {result.step_id: result for result in await step_results(bench.store, run.state)}
        assert list(results) == ["bad", "child", "grandchild", "other", "end"]
        assert (results["bad"].error, results["bad"].error_type) == ("broke", "tool_error")
        assert results["child"].error == "bad failed"
        assert (results["end"].output, results["end"].error) == ("end", None)
        await run.check()
    assert set(world.calls) == {"bad", "other", "end"}


async def test_a_step_is_blocked_as_soon_as_one_parent_failed_though_another_still_runs() -> None:
    world = World()
    world.will("bad", BROKEN)
    gate = world.gate("slow")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("slow"), world.step("bad"), world.step("both", "slow", "bad")))
        await run.until_status("both", "blocked")
        assert run.statuses["slow"] == "running"
        gate.set()
        assert await run.end() == "failed"


async def test_a_failure_with_continue_lets_what_follows_run_and_does_not_fail_the_run() -> None:
    world = World()
    world.will("bad", BROKEN)
    async with Bench() as bench:
        reads = world.step("reads", args={"was": "{{ steps.bad.status }}", "why": "{{ steps.bad.error }}"})
        run = await bench.run(plan_of(world.step("bad", on_failure="continue"), reads))
        assert run.statuses == {"bad": "failed", "reads": "succeeded"}
        assert run.state.status == "succeeded"
    assert world.given["reads"] == {"was": "failed", "why": "broke"}


async def test_a_timeout_with_continue_lets_what_follows_run() -> None:
    world = World()
    world.gate("late")
    async with Bench() as bench:
        late = world.step("late", timeout=0.03, on_failure="continue")
        run = await bench.run(plan_of(late, world.step("next", "late")))
        assert run.statuses == {"late": "timed_out", "next": "succeeded"}
        assert run.state.status == "succeeded"


async def test_cancelling_a_step_blocks_what_follows_even_with_continue() -> None:
    world = World()
    world.gate("a")
    async with Bench() as bench:
        run = await bench.start(plan_of(world.step("a", on_failure="continue"), world.step("b", "a")))
        await world.called("a")
        await run.tell("cancel", step="a")
        assert await run.end() == "failed"
        assert run.statuses == {"a": "cancelled", "b": "blocked"}
        assert run.state.steps["b"].reason == "a was cancelled"


async def test_a_step_whose_condition_is_false_is_skipped_and_so_is_what_follows_with_the_reason() -> None:
    world = World()
    async with Bench() as bench:
        steps = [world.step("a", when="{{ inputs.go }}"), world.step("b", "a"), world.step("c", "b"), world.step("d")]
        plan = plan_of(*steps, inputs={"go": {"type": "boolean"}})
        run = await bench.run(plan, inputs={"go": False})
        assert run.statuses == {"a": "skipped", "b": "skipped", "c": "skipped", "d": "succeeded"}
        found = run.state.steps
        assert (found["a"].reason, found["b"].reason, found["c"].reason) == (
            "its `when` is false",
            "a was skipped",
            "b was skipped",
        )
        assert (found["b"].cause, found["c"].cause) == ("a", "a")
        assert run.state.status == "succeeded"
        await run.check()


async def test_a_condition_reads_what_came_before() -> None:
    world = World()
    world.will("a", [])
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a"), world.step("b", when="{{ steps.a.output | length > 0 }}")))
        assert run.statuses == {"a": "succeeded", "b": "skipped"}


async def test_a_condition_that_cannot_be_worked_out_fails_the_step_as_the_users_error() -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a"), world.step("b", when="{{ steps.a.output.x.y > 1 }}")))
        step = run.state.steps["b"]
        assert (step.status, step.error.error_type if step.error else "") == ("failed", "user_error")
    assert world.calls == ["a"]


ENDINGS: dict[str, list[Any]] = {"good": ["ok"], "bad": [BROKEN], "bad_but_continues": [BROKEN], "skipped": []}
_ALL, _DONE, _ONE, _NONE = "all_success", "all_done", "one_failed", "none_failed"


@pytest.mark.parametrize(
    ("parents", "expected"),
    [
        ("good good", {_ALL: "succeeded", _DONE: "succeeded", _ONE: "skipped", _NONE: "succeeded"}),
        ("good bad", {_ALL: "blocked", _DONE: "succeeded", _ONE: "succeeded", _NONE: "blocked"}),
        ("good bad_but_continues", {_ALL: "succeeded", _DONE: "succeeded", _ONE: "succeeded", _NONE: "succeeded"}),
        ("good skipped", {_ALL: "skipped", _DONE: "succeeded", _ONE: "skipped", _NONE: "succeeded"}),
        ("bad skipped", {_ALL: "blocked", _DONE: "succeeded", _ONE: "succeeded", _NONE: "blocked"}),
        ("skipped skipped", {_ALL: "skipped", _DONE: "succeeded", _ONE: "skipped", _NONE: "succeeded"}),
        ("bad bad", {_ALL: "blocked", _DONE: "succeeded", _ONE: "succeeded", _NONE: "blocked"}),
    ],
)
async def test_each_trigger_rule_looks_at_its_parents(parents: str, expected: dict[str, str]) -> None:
    world = World()
    steps, names = [], []
    for n, kind in enumerate(parents.split()):
        names.append(f"p{n}")
        world.will(f"p{n}", *ENDINGS[kind])
        keys = {"bad_but_continues": {"on_failure": "continue"}, "skipped": {"when": False}}.get(kind, {})
        steps.append(world.step(f"p{n}", **keys))
    for rule in expected:
        steps.append(world.step(rule, *names, trigger_rule=rule))
    async with Bench() as bench:
        run = await bench.run(plan_of(*steps))
        assert {rule: run.statuses[rule] for rule in expected} == expected
        await run.check()


async def test_one_failed_starts_while_other_parents_still_run() -> None:
    world = World()
    world.will("bad", BROKEN)
    gate = world.gate("slow")
    async with Bench() as bench:
        alarm = world.step("alarm", "slow", "bad", trigger_rule="one_failed")
        run = await bench.start(plan_of(world.step("slow"), world.step("bad"), alarm))
        await run.until_status("alarm", "succeeded")
        assert run.statuses["slow"] == "running"
        gate.set()
        await run.end()
        assert world.count("alarm") == 1


async def test_clean_up_runs_after_a_blocked_branch() -> None:
    world = World()
    world.will("bad", BROKEN)
    async with Bench() as bench:
        clean = world.step("clean", "work", trigger_rule="all_done")
        run = await bench.run(plan_of(world.step("bad"), world.step("work", "bad"), clean))
        assert run.statuses == {"bad": "failed", "work": "blocked", "clean": "succeeded"}
        assert run.state.status == "failed"


async def test_a_run_of_skipped_steps_alone_succeeds() -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.run(plan_of(world.step("a", when=False), world.step("b", "a")))
        assert run.state.status == "succeeded"


async def test_an_optional_prompt_without_a_model_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    async with Bench() as bench:
        run = await bench.run(plan_of({"id": "a", "prompt": "hello", "optional": True}))
        assert (run.statuses["a"], run.state.status) == ("skipped", "succeeded")
        assert "OPENAI_API_KEY" in run.state.steps["a"].reason
        await run.check()


ENDED = sorted(STEP_ENDED)


@pytest.mark.parametrize("rule", TriggerRule)
def test_no_rule_leaves_a_step_waiting_when_all_its_parents_ended(rule: TriggerRule) -> None:
    for first in ENDED:
        for second in ENDED:
            for continues in (False, True):
                parents = []
                for name, status in (("p", first), ("q", second)):
                    parent = StepState(StepOutline(id=name, kind="shell", continues=continues))
                    parent.status = status
                    parents.append(parent)
                found = decide(rule, parents)
                assert found.verdict is not Verdict.WAIT
                assert found.reason or found.verdict is Verdict.READY


@pytest.mark.parametrize("status", [StepStatus.PENDING, StepStatus.RUNNING, StepStatus.RETRYING, StepStatus.WAITING])
@pytest.mark.parametrize("rule", TriggerRule)
def test_every_rule_waits_for_a_parent_that_has_not_ended(rule: TriggerRule, status: StepStatus) -> None:
    parent = StepState(StepOutline(id="p", kind="shell"))
    parent.status = status
    assert decide(rule, [parent]).verdict is Verdict.WAIT
