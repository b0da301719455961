"""Tool calls that a person must allow: asked before anything is done, with nothing held meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stepchain_tui.executors.testing import use_executor
from stepchain_tui.executors.tool import BaseToolExecutor, ToolExecutorFactory, ToolStepExecutor
from stepchain_tui.executors.types import ApprovalNeeded
from stepchain_tui.plan import plan_to_json
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import Kept
from stepchain_tui.store import MemoryStore
from stepchain_tui.store.archive import export_run
from stepchain_tui.store.base import Batch
from stepchain_tui.store.importing import import_run, trust_run
from tests.support.engines import Bench, Watched, plan_of, shell
from tests.support.world import World

CALL = "call_1"


class Asking(BaseToolExecutor):
    """A tool that is only called after somebody allowed it."""

    calls: ClassVar[list[dict[str, Any]]] = []
    failures: ClassVar[list[str]] = []

    async def _execute_tool(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
        answer = ctx.call.answers.get(CALL)
        if answer is None:
            raise ApprovalNeeded(CALL, "files.delete", args)
        self.calls.append(answer.arguments)
        if self.failures:
            raise AttemptError(self.failures.pop(), error_type=ErrorType.SERVER_ERROR)
        return answer.arguments


@pytest.fixture(autouse=True)
def called() -> Iterator[list[dict[str, Any]]]:
    """Return the arguments of the calls that were really made."""
    Asking.calls, Asking.failures = [], []
    with use_executor(ToolExecutorFactory, "standard", Asking):
        yield Asking.calls


def delete(step_id: str = "delete", **keys: Any) -> dict[str, Any]:
    return {"id": step_id, "tool": "python_code", "args": {"path": "a.txt", "depth": 2}, **keys}


async def asked(run: Watched, step_id: str = "delete") -> Any:
    await run.until_status(step_id, "waiting")
    return run.state.steps[step_id].waiting


async def test_nothing_is_called_before_somebody_allows_it_and_the_call_is_shown(called: list[Any]) -> None:
    async with Bench() as bench:
        run = await bench.start(plan_of(delete()))
        waiting = await asked(run)
        assert (waiting.reason, waiting.input.value) == (
            "tool_approval",
            {"tool": "files.delete", "arguments": {"path": "a.txt", "depth": 2}},
        )
        assert waiting.question == 'delete wants to call files.delete with {"path":"a.txt","depth":2}. Allow it?'
        assert (run.state.status, called) == ("waiting", [])
        assert (await run.tell("approve", step="delete"))["message"] == "delete: the call is allowed"
        assert await run.end() == "succeeded"
        assert called == [{"path": "a.txt", "depth": 2}]
        given = (await run.events("tool.approval_given"))[0]
        assert (given.approved, given.by, given.arguments) == (True, "Ada", None)
        attempts = [attempt.status for attempt in run.state.steps["delete"].attempts.values()]
        assert (attempts, run.state.steps["delete"].tries) == (["interrupted", "succeeded"], 1)
        await run.check()


async def test_who_waits_for_a_word_holds_no_slot(called: list[Any]) -> None:
    async with Bench() as bench:
        run = await bench.start(plan_of(delete(), shell("other", "true"), max_concurrent=1))
        await asked(run)
        await run.until_status("other", "succeeded")
        await run.tell("approve", step="delete")
        assert await run.end() == "succeeded"


async def test_a_no_fails_the_step_as_the_users_error_and_nothing_is_called(called: list[Any]) -> None:
    async with Bench() as bench:
        run = await bench.start(plan_of(delete(retry={"max_attempts": 3})))
        await asked(run)
        assert (await run.tell("approve", step="delete", approved=False))["message"] == "delete: the call is denied"
        assert await run.end() == "failed"
        error = run.state.steps["delete"].error
        assert error is not None
        assert (error.error_type, error.message, error.exception) == ("user_error", "denied by Ada", "Denied")
        assert called == []
        await run.check()


@pytest.mark.parametrize(
    ("answer", "made"),
    [
        ({"arguments": {"path": "b.txt"}}, {"path": "b.txt"}),
        ({"fields": {"path": "7", "depth": "3"}}, {"path": "7", "depth": 3}),
        ({"fields": {"depth": "deep", "all": "true"}}, {"path": "a.txt", "depth": "deep", "all": True}),
    ],
)
async def test_the_arguments_can_be_changed_whole_or_one_by_one(
    answer: dict[str, Any], made: dict[str, Any], called: list[Any]
) -> None:
    async with Bench() as bench:
        run = await bench.start(plan_of(delete()))
        await asked(run)
        told = await run.tell("approve", step="delete", **answer)
        assert told["message"] == "delete: the call is allowed with other arguments"
        assert await run.end() == "succeeded"
        assert called == [made]
        await run.check()


async def test_arguments_that_are_no_mapping_are_refused_and_the_question_stays(called: list[Any]) -> None:
    async with Bench() as bench:
        run = await bench.start(plan_of(delete()))
        await asked(run)
        answer = await run.tell("approve", step="delete", arguments=["a.txt"])
        assert (answer["ok"], run.statuses["delete"]) == (False, "waiting")
        assert (await run.tell("approve", step="delete", input={"args": {}}))["ok"]
        assert await run.end() == "succeeded"


async def test_a_secret_is_not_shown_and_reaches_the_call_where_it_was_left_alone(called: list[Any]) -> None:
    secret = "opensesame42"
    plan = plan_of(delete(args={"token": "{{ secrets.TOKEN }}", "path": "a.txt"}), secrets=["TOKEN"])
    async with Bench() as bench:
        run = await bench.start(plan, environment={"TOKEN": secret})
        waiting = await asked(run)
        shown = waiting.input.value["arguments"]
        assert secret not in str(shown)
        await run.tell("approve", step="delete", arguments={**shown, "path": "b.txt"})
        assert await run.end() == "succeeded"
        assert called == [{"token": secret, "path": "b.txt"}]
        assert not any(secret in str(event) for event in await run.events())


async def test_retries_do_not_ask_again_and_a_rerun_does(called: list[Any]) -> None:
    Asking.failures = ["gone", "gone"]
    async with Bench() as bench:
        run = await bench.start(plan_of(delete(retry={"max_attempts": 3})))
        await asked(run)
        await run.tell("approve", step="delete")
        assert await run.end() == "succeeded"
        assert len(called) == 3
        assert len(await run.events("tool.approval_asked")) == 1
        again = Watched(bench, await bench.engine.rerun(run.run_id, "delete"))
        await asked(again)
        assert len(called) == 3
        await again.tell("approve", step="delete", approved=False)
        assert await again.end() == "failed"
        await again.check()


@pytest.mark.parametrize(
    "changed", [delete(args={"path": "other.txt"}), delete(tool="clock", args={"path": "a.txt", "depth": 2})]
)
async def test_an_answer_is_for_the_call_that_was_asked_for_and_for_no_other(
    changed: dict[str, Any], called: list[Any]
) -> None:
    shared: dict[str, Any] = {"tools": {"clock": "json:loads"}}
    async with Bench() as bench:
        run = await bench.start(plan_of(delete(), **shared))
        await asked(run)
        await run.tell("pause")
        assert await run.end() == "paused"
        assert (await bench.tell(run.run_id, "approve", step="delete"))["ok"]
        edited = json.loads(plan_to_json(plan_of(changed, **shared)))
        told = await bench.tell(run.run_id, "edit", plan=edited, text="")
        assert told["ok"], told
        resumed = Watched(bench, await bench.engine.resume(run.run_id))
        waiting = await asked(resumed)
        assert waiting.input.value["arguments"] == changed["args"]
        assert called == []
        await resumed.tell("approve", step="delete")
        assert await resumed.end() == "succeeded"
        assert called == [changed["args"]]
        await resumed.check()


async def test_items_of_a_map_are_asked_for_one_after_another(called: list[Any]) -> None:
    step = delete(for_each=[1, 2, 3], args={"n": "{{ item }}"}, on_failure="continue")
    async with Bench() as bench:
        run = await bench.start(plan_of(step))
        seen = []
        for _ in range(3):
            n = (await asked(run)).input.value["arguments"]["n"]
            seen.append(n)
            await run.tell("approve", step="delete", approved=n != 2)
        assert await run.end() == "succeeded"
        assert sorted(seen) == [1, 2, 3]
        assert sorted(call["n"] for call in called) == [1, 3]
        assert run.outputs["delete"] == [{"n": 1}, None, {"n": 3}]
        await run.check()


async def test_an_answer_given_to_a_run_that_nobody_carries_out_is_used_when_it_goes_on(called: list[Any]) -> None:
    store = MemoryStore()
    async with Bench(store) as bench:
        run = await bench.start(plan_of(delete(), shell("end", "true", "delete")), detach=True)
        assert await run.end() == "waiting"
        assert (await bench.tell(run.run_id, "approve", step="delete", fields={"path": "c.txt"}))["ok"]
        assert called == []
        resumed = await bench.resume(run.run_id)
        assert (resumed.state.status, called) == ("succeeded", [{"path": "c.txt", "depth": 2}])
        assert len(await resumed.events("tool.approval_asked")) == 1
        await resumed.check()


@pytest.mark.parametrize("approved", [True, False])
async def test_another_engine_goes_on_with_the_question(approved: bool, called: list[Any]) -> None:
    store = MemoryStore()
    async with Bench(store) as first:
        run = await first.start(plan_of(delete(for_each=[1, 2])))
        await asked(run)
    async with Bench(store) as second:
        run = Watched(second, await second.engine.resume(run.run_id))
        for _ in range(2):
            await asked(run)
            await run.tell("approve", step="delete", approved=approved)
            await run.until(lambda state: state.steps["delete"].status != "waiting" or not called)
        assert await run.end() == ("succeeded" if approved else "failed")
        assert len(called) == (2 if approved else 0)
        await run.check()


@pytest.mark.parametrize(("command", "status"), [("skip", "skipped"), ("cancel", "cancelled")])
async def test_a_step_that_waits_for_a_word_can_be_taken_out_of_the_way(
    command: str, status: str, called: list[Any]
) -> None:
    world = World()
    async with Bench() as bench:
        run = await bench.start(plan_of(delete(), world.step("end", "delete", trigger_rule="all_done")))
        await asked(run)
        assert (await run.tell(command, step="delete"))["ok"]
        await run.end()
        assert (run.statuses["delete"], called) == (status, [])
        await run.check()


async def test_a_pause_leaves_the_question_and_the_answer_waits_for_the_resume(called: list[Any]) -> None:
    async with Bench() as bench:
        run = await bench.start(plan_of(delete()))
        await asked(run)
        await run.tell("pause")
        assert await run.end() == "paused"
        assert (await bench.tell(run.run_id, "approve", step="delete"))["ok"]
        assert called == []
        resumed = await bench.resume(run.run_id)
        assert (resumed.state.status, len(called)) == ("succeeded", 1)
        await resumed.check()


async def test_large_arguments_are_asked_for_and_changed_whole_only(called: list[Any]) -> None:
    async with Bench() as bench:
        run = await bench.start(plan_of(delete(args={"text": "x" * 100_000})))
        waiting = await asked(run)
        assert "large arguments" in waiting.question
        assert (await run.tell("approve", step="delete", fields={"text": "y"}))["ok"] is False
        assert (await run.tell("approve", step="delete", arguments={"text": "y"}))["ok"]
        assert await run.end() == "succeeded", run.state.steps["delete"].error
        assert called == [{"text": "y"}]
        await run.check()


async def test_true_is_another_argument_than_one(called: list[Any]) -> None:
    async with Bench() as bench:
        run = await bench.start(plan_of(delete(args={"n": 1})))
        await asked(run)
        await run.tell("approve", step="delete", arguments={"n": True})
        assert await run.end() == "succeeded"
        assert called[0]["n"] is True


async def test_a_secret_within_a_changed_text_stays_and_a_new_one_is_refused(called: list[Any]) -> None:
    secret = "opensesame42"
    plan = plan_of(delete(args={"to": "Bearer {{ secrets.TOKEN }}", "path": "a"}), secrets=["TOKEN", "OTHER"])
    async with Bench() as bench:
        run = await bench.start(plan, environment={"TOKEN": secret, "OTHER": "anotherone99"})
        shown = (await asked(run)).input.value["arguments"]
        refused = await run.tell("approve", step="delete", arguments={**shown, "path": "anotherone99"})
        assert (refused["ok"], "[secret OTHER]" in refused["message"]) == (False, True)
        assert run.statuses["delete"] == "waiting"
        await run.tell("approve", step="delete", arguments={**shown, "to": shown["to"] + " and more"})
        assert await run.end() == "succeeded"
        assert called == [{"to": f"Bearer {secret} and more", "path": "a"}]
        assert not any(secret in str(event) for event in await run.events())


async def test_what_a_changed_call_gave_is_not_the_cached_result_of_the_unchanged_one(called: list[Any]) -> None:
    async with Bench() as bench:
        for number, path in enumerate(("b.txt", "a.txt")):
            run = await bench.start(plan_of(delete(cache=True)))
            await asked(run)
            await run.tell("approve", step="delete", fields={"path": path})
            assert await run.end() == "succeeded"
            assert len(called) == number + 1
        again = await bench.run(plan_of(delete(cache=True)))
        assert (again.outputs["delete"]["path"], len(called)) == ("a.txt", 2)


async def test_an_executor_of_ones_own_cannot_leave_the_question_out() -> None:
    made: list[dict[str, Any]] = []

    class Hasty(BaseToolExecutor):
        async def _execute_tool(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
            made.append(args)
            return args

    with use_executor(ToolExecutorFactory, "standard", Hasty):
        async with Bench() as bench:
            run = await bench.start(plan_of(delete(args={"code": "1 + 1"}, require_approval=True)))
            await asked(run)
            assert made == []
            await run.tell("approve", step="delete", fields={"code": "2 + 2"})
            assert await run.end() == "succeeded"
            assert made == [{"code": "2 + 2"}]


async def test_nobody_is_asked_about_a_function_that_cannot_be_called_so() -> None:
    with use_executor(ToolExecutorFactory, "standard", ToolStepExecutor):
        async with Bench() as bench:
            run = await bench.run(plan_of(delete(args={"coed": "1 + 1"}, require_approval=True)))
            error = run.state.steps["delete"].error
            assert error is not None
            assert (run.statuses["delete"], error.error_type) == ("failed", "user_error")
            assert "coed" in error.message
            assert await run.events("tool.approval_asked") == []


async def test_what_was_allowed_elsewhere_is_asked_for_again_in_an_imported_run(
    tmp_path: Path, called: list[Any]
) -> None:
    store, file = MemoryStore(), tmp_path / "run.stepchain"
    async with Bench(store) as bench:
        run = await bench.start(plan_of(delete()), detach=True)
        await run.end()
        await bench.tell(run.run_id, "approve", step="delete")
        await export_run(store, run.run_id, file, program="0", now=bench.clock.now())
    async with Bench(MemoryStore()) as elsewhere:
        await import_run(elsewhere.store, file, now=elsewhere.clock.now())
        await trust_run(elsewhere.store, run.run_id)
        resumed = Watched(elsewhere, await elsewhere.engine.resume(run.run_id))
        await asked(resumed)
        assert called == []
        await resumed.tell("approve", step="delete")
        assert await resumed.end() == "succeeded"
        assert len(called) == 1


@pytest.mark.parametrize("reason", ["tool_approval", "budget"])
async def test_a_question_that_no_attempt_asks_is_refused_with_a_word(reason: str) -> None:
    """A store may hold such a run: what was imported was not always looked at for it."""
    plan = plan_of(delete())
    kept: dict[str, Any] = {"run_id": "r", "at": datetime.now(UTC)}
    outline = e.StepOutline(id="delete", kind="tool")
    events = [
        e.RunCreated(seq=1, goal="", plan=json.loads(plan_to_json(plan)), steps=(outline,), **kept),
        e.StepWaiting(seq=2, step_id="delete", reason=reason, input=Kept(value=[1]), **kept),
    ]
    state = RunState()
    for event in events:
        state.apply(event)
    async with Bench() as bench:
        bench.store.commit(Batch(events=events, states={"r": state}, touched={"r": None}))
        answer = await bench.tell("r", "approve", step="delete", fields={"action": "finish"})
        assert (answer["ok"], answer["message"]) == (False, "no attempt of 'delete' waits for an answer")
