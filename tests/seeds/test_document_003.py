"""Document 003: what its summary promises of chains, each row of it (D01-D36) tested here or where a comment says.

D28 and D31 (servers that are called for real, and die): tests/integration/test_mcp_*.py. D29 and D30 (the rest of what
the document lists as next): tests/integration and bench/.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_type_hints

import jsonschema  # type: ignore[import-untyped]
import pytest

import stepchain_tui.chain as chain_room
from stepchain_tui import MemoryStore, SQLiteStore
from stepchain_tui.chain import (
    ChainExecutor,
    ExecutionPlan,
    ExecutionResult,
    ExecutionState,
    ExecutionStatus,
    ToolCall,
    ToolDiscovery,
)
from stepchain_tui.chain.exchange import state_schema
from stepchain_tui.core.clock import FakeClock
from stepchain_tui.core.settings import Settings
from stepchain_tui.run import StepStatus
from tests.support.chains import QuickClock, call, executor
from tests.support.command_line import ROOT, CommandLine, environment

SUCCESS, FAILED, TIMEOUT, SKIPPED = (
    ExecutionStatus.SUCCESS,
    ExecutionStatus.FAILED,
    ExecutionStatus.TIMEOUT,
    ExecutionStatus.SKIPPED,
)
PATIENCE = 20.0


class Tools:
    """What a script passes as `call_tool`: records its calls; a tool does what it was told to, else gives its name.

    Attributes:
        calls: (name, parameters) of each call, in order.
        ended: The names of the calls that have ended.
    """

    def __init__(self, **outcomes: list[Any]) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.ended: list[str] = []
        self._outcomes = outcomes

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    async def __call__(self, name: str, parameters: dict[str, Any]) -> Any:
        self.calls.append((name, parameters))
        outcomes = self._outcomes.get(name, [])
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0] if outcomes else f"{name}'s output"
        try:
            await asyncio.sleep(0)
            if isinstance(outcome, BaseException):
                raise outcome
            if isinstance(outcome, asyncio.Event):
                await outcome.wait()
                return name
            return outcome
        finally:
            self.ended.append(name)


def chain(*calls: ToolCall, plan_id: str = "a_chain", goal: str = "") -> ExecutionPlan:
    return ExecutionPlan(plan_id, list(calls), goal)


def diamond() -> ExecutionPlan:
    return chain(call(0), call(1, 0), call(2, 0), call(3, 1, 2))


# --- modes


async def test_an_async_tool_leaves_the_loop_free() -> None:  # D01
    held = asyncio.Event()
    work = asyncio.create_task(executor().execute_plan(chain(call(1)), Tools(tool1=[held])))
    ticks = 0
    while ticks < 50:  # the loop turns while the tool waits
        await asyncio.sleep(0)
        ticks += 1
    assert not work.done()

    held.set()

    assert (await asyncio.wait_for(work, PATIENCE)).status is SUCCESS


async def test_a_plain_tool_runs_in_a_thread_and_leaves_the_loop_free() -> None:  # D01
    seen: list[int] = []
    go_on = threading.Event()

    def tool(name: str, parameters: dict[str, Any]) -> str:
        seen.append(threading.get_ident())
        go_on.wait(PATIENCE)
        return name

    work = asyncio.create_task(executor().execute_plan(chain(call(1)), tool))
    while not seen:
        await asyncio.sleep(0.001)
    go_on.set()
    state = await asyncio.wait_for(work, PATIENCE)

    assert state.results[1].output == "tool1"
    assert seen[0] != threading.get_ident()


async def test_in_sequence_calls_follow_their_orders() -> None:  # D02
    tools = Tools()
    await executor().execute_plan(chain(call(3), call(1), call(2, 1), call(5), call(4, 1)), tools)
    assert tools.names == ["tool1", "tool2", "tool3", "tool4", "tool5"]


async def test_in_sequence_a_call_that_is_tried_again_holds_up_the_next() -> None:  # D02
    tools = Tools(tool1=[RuntimeError("no"), RuntimeError("no"), "yes"])
    state = await executor().execute_plan(chain(call(1), call(2), call(3, 1)), tools)
    assert tools.names == ["tool1", "tool1", "tool1", "tool2", "tool3"]
    assert state.results[1].retry_count == 2


async def test_in_sequence_a_failure_changes_the_order_of_nothing() -> None:  # D02
    tools = Tools(tool2=[RuntimeError("no")])
    plan = chain(call(1), call(2), call(3, 1), call(4, 2, 3), call(5), call(6, 1))
    await executor(max_retries=0).execute_plan(plan, tools)
    assert tools.names == ["tool1", "tool2", "tool3", "tool5", "tool6"]


async def test_a_slow_sibling_does_not_delay_an_unrelated_child() -> None:  # D03
    slow = asyncio.Event()
    tools = Tools(tool2=[slow])
    work = asyncio.create_task(
        executor().execute_plan(chain(call(0), call(1, 0), call(2, 0), call(3, 1)), tools, parallel=True)
    )
    async with asyncio.timeout(PATIENCE):
        while "tool3" not in tools.ended:  # a level barrier would hold it up for ever
            await asyncio.sleep(0.001)
    assert "tool2" not in tools.ended

    slow.set()

    assert (await asyncio.wait_for(work, PATIENCE)).status is SUCCESS


async def test_independent_calls_overlap_in_parallel() -> None:  # D03
    all_there = asyncio.Barrier(20)

    async def meet(name: str, parameters: dict[str, Any]) -> str:
        await all_there.wait()
        return name

    plan = chain(*(call(order) for order in range(20)))
    state = await asyncio.wait_for(executor().execute_plan(plan, meet, parallel=True), PATIENCE)
    assert state.get_successful_outputs() == {order: f"tool{order}" for order in range(20)}


# --- retries and timeouts


async def test_a_failing_call_is_made_four_times_one_two_and_four_seconds_apart() -> None:  # D04, D10, D33
    clock, tools = QuickClock(), Tools(tool1=[RuntimeError("out of order")])
    state = await executor(clock=clock).execute_plan(chain(call(1)), tools)

    assert len(tools.calls) == 4
    assert [round(wait, 3) for wait in clock.waits] == [1.0, 2.0, 4.0]
    result = state.results[1]
    assert (result.status, result.error, result.retry_count) == (FAILED, "out of order", 3)
    assert result.execution_time >= 7.0
    assert state.status is FAILED


@pytest.mark.parametrize(("max_retries", "calls"), [(0, 1), (1, 2), (5, 6)])
async def test_max_retries_counts_the_calls_after_the_first(max_retries: int, calls: int) -> None:  # D04, D33
    tools = Tools(tool1=[ConnectionError("refused")])
    await executor(max_retries=max_retries).execute_plan(chain(call(1)), tools)
    assert len(tools.calls) == calls


async def test_each_tool_has_its_own_timeout_and_is_tried_again_with_the_same_waits() -> None:  # D05, D11
    clock, tools = QuickClock(), Tools(tool1=[asyncio.Event()])
    plan = chain(call(1, timeout=0.05), call(2))
    state = await executor(clock=clock, default_timeout=60).execute_plan(plan, tools)

    assert tools.names == ["tool1"] * 4 + ["tool2"]
    assert [round(wait, 3) for wait in clock.waits] == [1.0, 2.0, 4.0]
    assert state.results[1].status is TIMEOUT
    assert "0.05 s" in str(state.results[1].error)
    assert state.results[2].status is SUCCESS
    assert state.is_complete()


async def test_a_tool_that_says_it_timed_out_has_timed_out() -> None:  # D11
    tools = Tools(tool1=[TimeoutError("the service did not answer")])
    state = await executor(max_retries=1).execute_plan(chain(call(1)), tools)
    assert (state.results[1].status, state.results[1].error) == (TIMEOUT, "the service did not answer")
    assert len(tools.calls) == 2


async def test_the_default_timeout_holds_where_a_call_says_nothing() -> None:  # D05
    state = await executor(default_timeout=0.05, max_retries=0).execute_plan(
        chain(call(1), call(2, timeout=PATIENCE)), Tools(tool1=[asyncio.Event()])
    )
    assert (state.results[1].status, state.results[2].status) == (TIMEOUT, SUCCESS)


async def test_a_tool_that_succeeds_after_a_timeout_has_succeeded() -> None:  # D11
    tools = Tools(tool1=[asyncio.Event(), "late but there"])
    state = await executor(default_timeout=0.05).execute_plan(chain(call(1)), tools)
    assert (state.results[1].status, state.results[1].output, state.results[1].retry_count) == (
        SUCCESS,
        "late but there",
        1,
    )
    assert state.results[1].error is None


async def test_a_plain_tool_that_is_over_its_time_has_timed_out() -> None:  # D05, D11
    let_go = threading.Event()

    def tool(name: str, parameters: dict[str, Any]) -> str:
        let_go.wait(PATIENCE)
        return name

    running = executor(max_retries=0)
    state = await asyncio.wait_for(running.execute_plan(chain(call(1, timeout=0.05)), tool), PATIENCE)
    assert not let_go.is_set()  # a thread cannot be stopped: nobody waits for it
    assert state.results[1].status is TIMEOUT
    let_go.set()


# --- states


async def test_the_state_follows_each_event() -> None:  # D06, D13, D35
    first, second = asyncio.Event(), asyncio.Event()
    tools = Tools(tool1=[RuntimeError("no"), first], tool2=[second])
    clock = QuickClock()
    running = executor(clock=clock)
    work = asyncio.create_task(running.execute_plan(chain(call(1), call(2, 1), call(3)), tools))

    async def seen(order: int, status: ExecutionStatus) -> ExecutionState:
        async with asyncio.timeout(PATIENCE):
            while (state := running.get_execution_state("a_chain")) is None or state.results[order].status != status:
                await asyncio.sleep(0)
            return state

    state = await seen(1, ExecutionStatus.RUNNING)
    assert (state.current_step, state.status, state.is_complete()) == (1, ExecutionStatus.RUNNING, False)
    assert state.results[2].status is ExecutionStatus.PENDING
    first.set()
    await seen(1, SUCCESS)
    await seen(2, ExecutionStatus.RUNNING)
    assert state.current_step == 2
    assert state.results[1].retry_count == 1
    second.set()
    ended = await asyncio.wait_for(work, PATIENCE)
    assert ended is state
    assert (ended.current_step, ended.status, ended.is_complete()) == (None, SUCCESS, True)
    assert state.total_execution_time >= 1.0


async def test_a_call_that_waits_for_its_next_attempt_is_retrying() -> None:  # D13
    clock = FakeClock()
    running = executor(clock=clock)
    work = asyncio.create_task(running.execute_plan(chain(call(1)), Tools(tool1=[RuntimeError("no"), "yes"])))
    async with asyncio.timeout(PATIENCE):
        while clock.next_wake is None:
            await asyncio.sleep(0.001)
    state = running.get_execution_state("a_chain")
    assert state is not None
    assert (state.results[1].status, state.current_step) == (ExecutionStatus.RETRYING, 1)
    assert state.results[1].error == "no"

    clock.advance(1.0)

    assert (await asyncio.wait_for(work, PATIENCE)).results[1].status is SUCCESS


async def test_another_program_sees_the_same_state(tmp_path: Path) -> None:  # D07, D35
    path = tmp_path / "runs.db"
    state = await executor(SQLiteStore(path), max_retries=1).execute_plan(
        chain(call(1, text="{{ as it is }}"), call(2), call(3, 2, x="CHAIN_RESULT")), Tools(tool2=[RuntimeError("no")])
    )

    again = executor(SQLiteStore(path)).get_execution_state("a_chain")

    assert again is not None
    assert again.to_dict() == state.to_dict()


def test_the_statuses_are_the_houses_under_the_documents_names() -> None:  # D09, D13
    names = ["PENDING", "RUNNING", "RETRYING", "SUCCESS", "FAILED", "TIMEOUT", "SKIPPED"]
    assert [member.name for member in ExecutionStatus] == names
    assert all(StepStatus(member.value) for member in ExecutionStatus)
    assert ExecutionStatus("success") is SUCCESS
    assert ExecutionStatus("timeout") is TIMEOUT
    assert {ExecutionStatus.of_step(status) for status in StepStatus} == set(ExecutionStatus)
    with pytest.raises(ValueError, match="perhaps"):
        ExecutionStatus("perhaps")


async def test_a_call_whose_dependency_failed_is_skipped_with_the_reason() -> None:  # D12, D18
    tools = Tools(tool1=[RuntimeError("no")])
    state = await executor(max_retries=0).execute_plan(chain(call(1), call(2, 1), call(3, 2), call(4)), tools)
    assert [state.results[order].status for order in (1, 2, 3, 4)] == [FAILED, SKIPPED, SKIPPED, SUCCESS]
    assert state.results[2].error == "Dependencies not satisfied: call 1 (tool1) failed"
    assert state.results[3].error == "Dependencies not satisfied: call 2 (tool2) was skipped"
    assert tools.names == ["tool1", "tool4"]


async def test_in_parallel_other_branches_go_on_after_a_failure() -> None:  # D12
    tools = Tools(tool1=[RuntimeError("no")])
    state = await executor(max_retries=0).execute_plan(
        chain(call(1), call(2, 1), call(3), call(4, 3)), tools, parallel=True
    )
    assert state.get_successful_outputs() == {3: "tool3's output", 4: "tool4's output"}
    assert state.results[2].status is SKIPPED


async def test_results_have_all_fields_and_become_json() -> None:  # D14
    state = await executor().execute_plan(chain(call(1, x=[1])), Tools(tool1=[{"found": 2}]))
    result = state.results[1]
    assert isinstance(result, ExecutionResult)
    assert result.start_time is not None
    assert result.end_time is not None
    assert result.end_time - result.start_time == timedelta(seconds=result.execution_time)
    told = json.loads(json.dumps(result.to_dict()))
    assert told["tool_call"] == {
        "tool_name": "tool1",
        "parameters": {"x": [1]},
        "order": 1,
        "dependencies": [],
        "timeout": None,
    }
    assert (told["status"], told["output"], told["error"], told["retry_count"]) == ("succeeded", {"found": 2}, None, 0)
    assert datetime.fromisoformat(told["start_time"]) == result.start_time


def test_a_state_is_complete_when_every_call_has_ended_also_by_a_timeout() -> None:  # D15
    state = ExecutionState(chain(call(1), call(2)))
    assert not state.is_complete()
    state.results[1].status = TIMEOUT
    assert not state.is_complete()
    state.results[2].status = SKIPPED
    assert state.is_complete()


async def test_the_final_state_sums_the_chain_up() -> None:  # D15, D34
    state = await executor(max_retries=0).execute_plan(diamond(), Tools(tool2=[ValueError("no")]), parallel=True)
    assert isinstance(state, ExecutionState)
    assert state.get_successful_outputs() == {0: "tool0's output", 1: "tool1's output"}
    assert (state.status, state.is_complete(), state.current_step) == (FAILED, True, None)
    assert state.start_time is not None
    assert state.end_time is not None
    assert json.loads(json.dumps(state.to_dict()))["results"]["2"]["status"] == "failed"


# --- dependencies


def test_a_cycle_is_refused_with_its_path() -> None:  # D19
    with pytest.raises(ValueError, match="depend on each other") as caught:
        chain(call(1, 2, name="search"), call(2, 1, name="fetch"), call(3))
    path = str(caught.value).rpartition(": ")[2].split(" -> ")
    assert path in (["1 (search)", "2 (fetch)", "1 (search)"], ["2 (fetch)", "1 (search)", "2 (fetch)"])


def test_levels_are_there_to_be_looked_at() -> None:  # D23
    assert diamond().levels() == [[0], [1, 2], [3]]


# --- CHAIN_RESULT


async def test_chain_result_stands_for_the_output_of_the_last_dependency() -> None:  # D22
    tools = Tools(tool1=[{"n": [1]}], tool2=["two"])
    parameters = {"whole": "CHAIN_RESULT", "text": "<CHAIN_RESULT>", "list": ["CHAIN_RESULT", 3], "deep": {"a": [{}]}}
    parameters["deep"] = {"a": [{"b": "CHAIN_RESULT"}]}
    plan = chain(call(1), call(2), ToolCall("third", parameters, 3, [2, 1]), call(4, 1, 2, x="CHAIN_RESULT"))
    await executor().execute_plan(plan, tools)

    value = {"n": [1]}
    given = {"whole": value, "text": '<{"n":[1]}>', "list": [value, 3], "deep": {"a": [{"b": value}]}}
    assert dict(tools.calls)["third"] == given
    assert dict(tools.calls)["tool4"] == {"x": "two"}


async def test_parameters_are_taken_as_they_are() -> None:  # D22
    literal = {
        "jinja": "{{ inputs.x }} and {% if a %} and {{{ b }}}",
        "words": "MY_CHAIN_RESULT CHAIN_RESULTS",
        "mixed": ["{{", "}}", "{%", {"{{ key }}": "{{ CHAIN_RESULT }}"}],
        "number": 1.5,
        "none": None,
    }
    tools = Tools(tool1=["{{ steps.tool1_1.output }}"])
    await executor().execute_plan(chain(call(1), ToolCall("second", dict(literal), 2, [1])), tools)
    expected = {**literal, "mixed": ["{{", "}}", "{%", {"{{ key }}": "{{ {{ steps.tool1_1.output }} }}"}]}
    assert dict(tools.calls)["second"] == expected


def test_chain_result_without_a_dependency_is_refused() -> None:  # D22
    with pytest.raises(ValueError, match=r"call 2 \(fetch\): CHAIN_RESULT .* it has none") as caught:
        call(2, name="fetch", url={"nested": ["see CHAIN_RESULT"]})
    assert "dependencies=[1]" in caught.value.hint  # type: ignore[attr-defined]


# --- export and import


async def test_an_export_fits_its_schema_and_is_json() -> None:  # D20
    running = executor(max_retries=0)
    await running.execute_plan(chain(call(1), call(2), call(3, 2)), Tools(tool2=[RuntimeError("no")]))
    exported = running.export_state("a_chain")
    jsonschema.validate(json.loads(json.dumps(exported)), state_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**(exported or {}), "status": "perhaps"}, state_schema())


async def test_an_imported_chain_is_there_to_be_seen_and_goes_on_with_the_rest(tmp_path: Path) -> None:  # D21
    here = executor(max_retries=0)
    await here.execute_plan(chain(call(1), call(2), call(3, 1, 2, x="CHAIN_RESULT")), Tools(tool2=[RuntimeError("no")]))
    carried = json.loads(json.dumps(here.export_state("a_chain")))

    there = executor(SQLiteStore(tmp_path / "there.db"))
    state = there.import_state(carried)

    assert {order: result.status for order, result in state.results.items()} == {1: SUCCESS, 2: FAILED, 3: SKIPPED}
    assert state.results[2].error == "no"
    seen = executor(SQLiteStore(tmp_path / "there.db")).get_execution_state("a_chain")
    assert seen is not None
    assert seen.get_successful_outputs() == {1: "tool1's output"}
    tools = Tools(tool2=["mended"])
    ended = await there.execute_plan(state.plan, tools)
    assert tools.calls == [("tool2", {}), ("tool3", {"x": "mended"})]
    assert ended.status is SUCCESS
    assert ended.get_successful_outputs()[1] == "tool1's output"


async def test_an_unknown_id_is_none() -> None:  # D35
    running = executor()
    assert running.get_execution_state("nobody") is None
    assert running.export_state("nobody") is None


# --- metrics


async def test_every_call_counts_in_the_metrics_of_its_tool() -> None:  # D08
    store = MemoryStore()
    running = executor(store, max_retries=0)
    tools = Tools(search=["a", "b", "c", RuntimeError("no")])
    await running.execute_plan(chain(*(call(order, name="search") for order in range(4))), tools)
    assert running.discovery.success_rate("search") == 0.75
    mean = running.discovery.mean_time("search")
    assert mean is not None
    assert mean > 0
    assert ToolDiscovery(store, settings=Settings()).metrics()["search"]["calls"] == 4
    assert running.discovery.success_rate("never called") is None


async def test_a_timeout_is_a_failure_of_the_tool() -> None:  # D08
    running = executor(max_retries=0, default_timeout=0.05)
    await running.execute_plan(chain(call(1, name="slow")), Tools(slow=[asyncio.Event()]))
    assert running.discovery.success_rate("slow") == 0.0


async def test_of_equal_tools_the_healthier_is_preferred() -> None:  # D32
    running = executor(max_retries=0)
    tools = Tools(**{"b.find": [RuntimeError("no"), "yes"]})
    plan = chain(call(1, name="b.find"), call(2, name="b.find"), call(3, name="a.find"), call(4, name="c.find"))
    await running.execute_plan(plan, tools)
    discovery = running.discovery
    assert discovery.rank(["b.find", "unknown.find", "a.find"]) == ["a.find", "b.find", "unknown.find"]
    assert discovery.prefer(["b.find", "a.find"]) == "a.find"
    assert discovery.prefer([]) is None


# --- the room


def test_all_names_are_exported_from_the_package() -> None:  # D16, D24
    names = {"ChainExecutor", "ExecutionStatus", "ExecutionResult", "ExecutionState", "ExecutionPlan", "ToolCall"}
    assert set(chain_room.__all__) == names | {"ToolDiscovery"}
    assert all(hasattr(chain_room, name) for name in chain_room.__all__)


def test_the_signatures_are_the_documents() -> None:  # D33, D34
    made = list(inspect.signature(ChainExecutor).parameters.values())
    assert [(one.name, one.default) for one in made[:3]] == [
        ("discovery", None),
        ("max_retries", 3),
        ("default_timeout", 30.0),
    ]
    carried = inspect.signature(ChainExecutor.execute_plan).parameters
    assert list(carried)[:4] == ["self", "plan", "call_tool", "parallel"]
    assert carried["parallel"].default is False
    assert get_type_hints(ChainExecutor.execute_plan)["return"] is ExecutionState
    fields = inspect.signature(ToolCall).parameters
    assert list(fields) == ["tool_name", "parameters", "order", "dependencies", "timeout"]


# --- long-running


async def test_a_chain_lives_through_restarts_and_a_day_in_between(tmp_path: Path) -> None:  # D36
    path, clock = tmp_path / "runs.db", QuickClock()
    plan = chain(call(1), call(2, 1), call(3, 2), call(4, 3))
    names: list[str] = []
    for order in (2, 3):
        tools = Tools(**{f"tool{order}": [asyncio.Event()]})
        work = asyncio.create_task(executor(SQLiteStore(path), clock=clock).execute_plan(plan, tools))
        async with asyncio.timeout(PATIENCE):
            while f"tool{order}" not in tools.names:
                await asyncio.sleep(0.001)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        names += tools.names
        clock.advance(86_400)

    tools = Tools()
    state = await executor(SQLiteStore(path), clock=clock).execute_plan(plan, tools)

    assert [*names, *tools.names] == ["tool1", "tool2", "tool2", "tool3", "tool3", "tool4"]
    assert state.status is SUCCESS
    assert state.total_execution_time >= 2 * 86_400


_KILLED = """
import asyncio, sys, time
from pathlib import Path
from stepchain_tui.chain import ChainExecutor, ExecutionPlan, ToolCall

calls = Path(sys.argv[1])
hangs = sys.argv[2] == "hangs"

def tool(name, parameters):
    with calls.open("a") as file:
        file.write(name + "\\n")
    if hangs and name == "second":
        time.sleep(600)
    return name.upper()

plan = ExecutionPlan("killed", [ToolCall("first", {}, 1), ToolCall("second", {"x": "CHAIN_RESULT"}, 2, [1])])
state = asyncio.run(ChainExecutor().execute_plan(plan, tool))
print(state.status.value, state.get_successful_outputs())
"""


def test_a_script_that_was_killed_goes_on_when_it_is_run_again(tmp_path: Path) -> None:  # D07, D36
    script, calls = tmp_path / "script.py", tmp_path / "calls"
    script.write_text(_KILLED)
    first = subprocess.Popen([sys.executable, str(script), str(calls), "hangs"], env=environment(), cwd=tmp_path)
    deadline = time.monotonic() + PATIENCE
    while not (calls.exists() and "second" in calls.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait(PATIENCE)

    second = subprocess.run(
        [sys.executable, str(script), str(calls), "works"],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert calls.read_text().split() == ["first", "second", "second"]
    assert second.stdout.strip() == "succeeded {1: 'FIRST', 2: 'SECOND'}"


# --- the example


@pytest.mark.parametrize("workflow", ["simple", "parallel", "both"])
def test_the_sample_plan_carries_both_workflows_out(tmp_path: Path, workflow: str) -> None:  # D25, D26, D27
    line = CommandLine(tmp_path)
    answer = line(
        "run", str(ROOT / "sample_plans" / "tool_chain.yaml"), "--run-id", "r", "--input", f"workflow={workflow}"
    )
    assert answer.code == 0, answer.err
    outputs = {step["id"]: step["output"] for step in line.show("r")["steps"]}
    assert [tool["name"] for tool in outputs["discover"]][:2] == ["search", "read"]
    simple = "Barley is sown in spring. It is cut in July.\nRye is sown in autumn. It stands the frost."
    assert outputs["summarise"] == (None if workflow == "parallel" else simple)
    assert outputs["advise"] == (None if workflow == "simple" else "wait: 6.3 mm of rain, 210 EUR a tonne")


_OFFLINE = """
import runpy, socket, sys

def refuse(*_, **__):
    raise OSError("there is no network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_the_sample_script_discovers_plans_and_carries_out_without_a_network(tmp_path: Path) -> None:  # D25, D26, D27
    script = str(ROOT / "sample_plans" / "tool_chain.py")
    done = subprocess.run(
        [sys.executable, "-c", _OFFLINE, script],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "search     Find articles by a word." in done.stdout
    assert "What is sown when? succeeded, levels [[1], [2], [3]]" in done.stdout
    assert "Harvest or wait? succeeded, levels [[1], [2, 3], [4]]" in done.stdout
    assert "3 price: 210, tried again 1x" in done.stdout
    assert "price      2 calls, 50% succeeded" in done.stdout
    assert not list(tmp_path.iterdir())


# --- tools that StepChain knows


def time_servers(*names: str) -> Settings:
    entry = {"command": sys.executable, "args": ["-m", "mcp_server_time"]}
    return Settings(mcp_servers={name: dict(entry) for name in names})


async def test_without_a_function_the_tools_of_servers_are_called() -> None:  # D28
    running = ChainExecutor(store=MemoryStore(), max_retries=0, settings=time_servers("clock"))
    noon: dict[str, Any] = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    plan = chain(
        call(1, name="clock.convert_time", **noon), call(2, 1, name="python_code", code="'CHAIN_RESULT'.count('Tokyo')")
    )
    state = await running.execute_plan(plan)
    assert state.results[1].error is None
    assert "T21:00:00+09:00" in state.results[1].output["target"]["datetime"]
    assert running.discovery.success_rate("clock.convert_time") == 1.0


async def test_a_name_without_a_server_means_the_healthiest_of_equal_tools() -> None:  # D32
    store, settings = MemoryStore(), time_servers("a", "b")
    running = ChainExecutor(store=store, max_retries=0, settings=settings)
    wrong: dict[str, Any] = {"timezone": "Nowhere/At_All"}
    right: dict[str, Any] = {"timezone": "UTC"}
    learned = chain(
        call(1, name="a.get_current_time", **wrong), call(2, name="b.get_current_time", **right), plan_id="l"
    )
    await running.execute_plan(learned)

    plan = chain(call(1, name="get_current_time", **right), call(2, name="no_such_tool"))
    state = await running.execute_plan(plan)

    assert state.results[1].status is SUCCESS
    assert running.discovery.metrics()["b.get_current_time"]["calls"] == 2
    assert "there is no tool 'no_such_tool'" in str(state.results[2].error)
    again = ChainExecutor(store=store, settings=settings).get_execution_state("a_chain")
    assert again is not None
    assert again.plan == plan

    failing = [call(order, name="b.get_current_time", **wrong) for order in range(5)]
    await running.execute_plan(chain(*failing, call(9, name="a.get_current_time", **right), plan_id="l2"))
    assert running.discovery.prefer(["a.get_current_time", "b.get_current_time"]) == "a.get_current_time"
    before = running.discovery.metrics()
    kept = await running.execute_plan(chain(call(1, name="get_current_time", **right)))
    assert kept.results[1].output == state.results[1].output
    assert running.discovery.metrics() == before  # what was done is not done again by another tool


async def test_discovery_finds_tools_by_words() -> None:  # D25, D32
    discovery = ToolDiscovery(MemoryStore(), settings=time_servers("clock"))
    names = [tool["name"] for tool in await discovery.discover()]
    assert {"python_code", "clock.convert_time", "clock.get_current_time"} <= set(names)
    (found,) = await discovery.discover("TIMEZONES convert")
    assert (found["name"], found["kind"], found["server"]) == ("clock.convert_time", "mcp", "clock")
    assert "source_timezone" in found["arguments"]["properties"]
    assert await discovery.discover("no such words at all") == []


def test_what_a_script_calls_is_in_the_tools_of_the_command_line(tmp_path: Path) -> None:  # D08
    line = CommandLine(tmp_path)
    tools = Tools(search=["a", "b", "c", RuntimeError("no")])
    plan = chain(*(call(order, name="search") for order in range(4)))
    asyncio.run(executor(SQLiteStore(line.store), max_retries=0).execute_plan(plan, tools))
    rows = {row["name"]: row for row in line("tools", "--json", "--no-connect").json["tools"]}
    assert (rows["search"]["calls"], rows["search"]["success_rate"]) == (4, 0.75)
    assert line.statuses("a_chain")["search_3"] == "failed"
