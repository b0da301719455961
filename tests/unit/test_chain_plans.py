"""Chains as plans: what is refused, in which order calls are made, and what a changed chain keeps."""

from __future__ import annotations

import asyncio
import copy
import functools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepchain_tui import MemoryStore
from stepchain_tui.chain import ChainExecutor, ExecutionPlan, ExecutionState, ExecutionStatus, ToolCall
from stepchain_tui.chain.planning import chain_of, chain_plan
from stepchain_tui.core.clock import FakeClock
from stepchain_tui.engine import Engine, RunSource
from stepchain_tui.plan import compile_template
from stepchain_tui.plan.literals import literal
from stepchain_tui.run import RunState
from stepchain_tui.run.events import ToolFinished
from stepchain_tui.store import AbstractStore
from tests.support.chains import call
from tests.support.chains import executor as without_settings
from tests.support.engines import plan_of, shell

SUCCESS, FAILED, SKIPPED = ExecutionStatus.SUCCESS, ExecutionStatus.FAILED, ExecutionStatus.SKIPPED


class Recorder:
    """Tools that record when they begin and end; the orders in `failing` fail."""

    def __init__(self, failing: frozenset[int] = frozenset(), turns: dict[int, int] | None = None) -> None:
        self.failing = failing
        self.turns = turns or {}
        self.told: list[tuple[str, int]] = []

    @property
    def begun(self) -> list[int]:
        return [order for what, order in self.told if what == "begins"]

    async def __call__(self, name: str, parameters: dict[str, Any]) -> Any:
        order = int(name.removeprefix("tool"))
        self.told.append(("begins", order))
        for _ in range(1 + self.turns.get(order, 0)):
            await asyncio.sleep(0)
        self.told.append(("ends", order))
        if order in self.failing:
            raise RuntimeError("no")
        return order


def executor(store: AbstractStore | None = None) -> ChainExecutor:
    return without_settings(store, max_retries=0)


# --- what is refused


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ToolCall("", {}, 1), "tool_name must be"),
        (lambda: ToolCall(None, {}, 1), "tool_name must be"),  # type: ignore[arg-type]
        (lambda: ToolCall("{{ secrets.X }}", {}, 1), "'{{ secrets.X }}' cannot be the name of a tool"),
        (lambda: ToolCall("a\x1b[31m", {}, 1), r"'a\\x1b\[31m' cannot be the name"),
        (lambda: ToolCall("a" * 201, {}, 1), "cannot be the name of a tool"),
        (lambda: ToolCall("a", {}, -1), "the call of a: order must be a whole number, not -1"),
        (lambda: ToolCall("a", {}, True), "not True"),
        (lambda: ToolCall("a", {}, "1"), "not '1'"),  # type: ignore[arg-type]
        (lambda: ToolCall("a", ["x"], 1), r"call 1 \(a\): parameters must be a dict"),  # type: ignore[arg-type]
        (lambda: ToolCall("a", {1: "x"}, 1), r"call 1 \(a\): parameters must be a dict"),  # type: ignore[dict-item]
        (lambda: ToolCall("a", {}, 1, [0, "b"]), r"call 1 \(a\): dependencies must be"),  # type: ignore[list-item]
        (lambda: ToolCall("a", {}, 3, [1, 2, 1]), r"call 3 \(a\): dependencies name a call twice: 1, 2, 1"),
        (lambda: ToolCall("a", {}, 1, timeout=0), r"call 1 \(a\): timeout .* not 0"),
        (lambda: ToolCall("a", {}, 1, timeout=float("nan")), "not nan"),
        (lambda: ToolCall("a", {"x": ["CHAIN_RESULT"]}, 1), "and it has none"),
        (
            lambda: ToolCall("a", {"ok": 1, "x": ["\udcff.txt"]}, 1),
            r"call 1 \(a\): parameter 'x' holds text that UTF-8",
        ),
        (lambda: ToolCall("a", {"x": {"\udcff": 1}}, 1), "parameter 'x' holds text that UTF-8 cannot hold"),
        (lambda: ToolCall("a", {"\udcff": 1}, 1), r"parameter '\\udcff' holds"),
        (lambda: ToolCall("a", {"x": Path("\udcff.txt")}, 1), "parameter 'x' holds text that UTF-8 cannot hold"),
        (lambda: ToolCall("a", {"x": b"\xff"}, 1), "parameter 'x' holds text that UTF-8 cannot hold"),
        (
            lambda: ExecutionPlan("p", [call(1)], goal="\udcff"),
            "chain 'p' has a goal that is no text that UTF-8 can hold",
        ),
        (lambda: ExecutionPlan("p", [call(1)], goal=7), "chain 'p' has a goal"),  # type: ignore[arg-type]
        (lambda: ExecutionPlan("p", []), "chain 'p' has no calls"),
        (lambda: ExecutionPlan("../p", [call(1)]), "cannot be a run id"),
        (lambda: ExecutionPlan(7, [call(1)]), "plan_id must be text"),  # type: ignore[arg-type]
        (lambda: ExecutionPlan("p", [{"tool_name": "a"}]), "one is dict"),  # type: ignore[list-item]
        (lambda: ExecutionPlan("p", [call(1, name="a"), call(1, name="b")]), "order 1 is there twice: a and b"),
        (lambda: ExecutionPlan("p", [call(1), call(2, 5)]), r"call 2 \(tool2\) depends on 5, which is not there"),
        (lambda: ExecutionPlan("p", [call(1, 1)]), r"1 \(tool1\) -> 1 \(tool1\)"),
        (lambda: ChainExecutor(max_retries=-1), "max_retries must be a whole number from 0 to 999"),
        (lambda: ChainExecutor(default_timeout=0), "default_timeout must be a number of seconds over 0"),
    ],
)
def test_what_is_wrong_is_said_at_once_with_the_call_and_the_field(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        make()
    assert caught.value.hint  # type: ignore[attr-defined]


def test_parameters_without_an_end_are_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    with pytest.raises(ValueError, match=r"call 1 \(a\): parameters cannot be kept"):
        ToolCall("a", endless, 1)


async def test_a_chain_that_was_spoiled_after_it_was_made_is_refused_before_anything_is_called() -> None:
    tools, plan = Recorder(), ExecutionPlan("p", [call(1), call(2)])
    plan.tools[0].dependencies = [2]
    plan.tools[1].dependencies = [1]
    with pytest.raises(ValueError, match="depend on each other"):
        await executor().execute_plan(plan, tools)
    assert not tools.told


async def test_the_id_of_another_run_is_refused_and_that_run_is_left_alone() -> None:
    store = MemoryStore()
    async with Engine(store, clock=FakeClock()) as engine:
        await (await engine.start(RunSource(plan=plan_of(shell("a", "true")), folder=_here()), run_id="taken")).wait()
    tools = Recorder()
    with pytest.raises(Exception, match="there is a run 'taken' already, and it is no chain"):
        await executor(store).execute_plan(ExecutionPlan("taken", [call(1)]), tools)
    assert not tools.told
    assert executor(store).get_execution_state("taken") is None


async def test_the_beginning_of_an_id_is_not_the_id() -> None:
    store = MemoryStore()
    await executor(store).execute_plan(ExecutionPlan("chain-of-may", [call(1)]), Recorder())
    assert executor(store).get_execution_state("chain-of") is None


# --- functions of every make


class Service:
    """Something with methods that make calls."""

    async def __call__(self, name: str, parameters: dict[str, Any]) -> str:
        return f"{name} of an object"

    async def awaited(self, name: str, parameters: dict[str, Any]) -> str:
        return f"{name} of an async method"

    def plain(self, name: str, parameters: dict[str, Any]) -> str:
        return f"{name} of a method"

    def later(self, name: str, parameters: dict[str, Any]) -> Any:
        return self.awaited(name, parameters)


async def given_more(more: str, name: str, parameters: dict[str, Any]) -> str:
    return f"{name} of {more}"


@pytest.mark.parametrize(
    ("call_tool", "output"),
    [
        (Service(), "tool1 of an object"),
        (Service().awaited, "tool1 of an async method"),
        (Service().plain, "tool1 of a method"),
        (Service().later, "tool1 of an async method"),
        (functools.partial(given_more, "a partial"), "tool1 of a partial"),
        (lambda name, parameters: name, "tool1"),
    ],
)
async def test_whatever_can_be_called_makes_the_calls(call_tool: Any, output: str) -> None:
    state = await executor().execute_plan(ExecutionPlan("p", [call(1)]), call_tool)
    assert state.get_successful_outputs() == {1: output}


async def test_what_cannot_be_called_is_refused_before_anything_is_stored() -> None:
    running = executor()
    with pytest.raises(ValueError, match="call_tool must be a function, this is int"):
        await running.execute_plan(ExecutionPlan("p", [call(1)]), 5)  # type: ignore[arg-type]
    assert running.get_execution_state("p") is None


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), TypeError("no")])
async def test_whatever_a_plain_tool_raises_fails_its_call_only(raised: BaseException) -> None:
    def tool(name: str, parameters: dict[str, Any]) -> str:
        if name == "tool1":
            raise raised
        return name

    state = await executor().execute_plan(ExecutionPlan("p", [call(1), call(2)]), tool)
    assert (state.results[1].status, state.results[2].status) == (FAILED, SUCCESS)
    assert state.results[1].error


async def test_what_a_tool_changes_in_its_parameters_no_other_attempt_meets() -> None:
    seen: list[Any] = []

    async def tool(name: str, parameters: dict[str, Any]) -> str:
        seen.append(copy.deepcopy(parameters["rows"]))
        parameters["rows"].append(9)
        parameters["rows"][0]["k"] = "changed"
        if len(seen) < 3:
            raise RuntimeError("again")
        return name

    store, plan = MemoryStore(), ExecutionPlan("p", [call(1, rows=[{"k": 1}, [2]])])
    state = await without_settings(store).execute_plan(plan, tool)

    assert state.results[1].retry_count == 2
    assert seen == [[{"k": 1}, [2]]] * 3
    assert plan.tools[0].parameters == {"rows": [{"k": 1}, [2]]}
    async with Engine(store) as engine:
        told = [event for event in await engine.store.read_events("p") if isinstance(event, ToolFinished)]
    assert [event.arguments for event in told] == [{"rows": [{"k": 1}, [2]]}] * 3


# --- order


@st.composite
def chains(draw: st.DrawFn) -> tuple[ExecutionPlan, frozenset[int], dict[int, int]]:
    size = draw(st.integers(1, 8))
    calls = []
    for order in range(size):
        needed = draw(st.lists(st.integers(0, order - 1), unique=True, max_size=3)) if order else []
        calls.append(call(order, *needed))
    failing = draw(st.frozensets(st.integers(0, size - 1), max_size=3))
    turns = {order: draw(st.integers(0, 5)) for order in range(size)}
    return ExecutionPlan("a_chain", draw(st.permutations(calls))), failing, turns


def expected(plan: ExecutionPlan, failing: frozenset[int]) -> dict[int, ExecutionStatus]:
    """Return how each call must end: what fails, fails; what needs something that did not succeed is skipped."""
    found: dict[int, ExecutionStatus] = {}
    for one in sorted(plan.tools, key=lambda call: call.order):
        if any(found[needed] is not SUCCESS for needed in one.dependencies):
            found[one.order] = SKIPPED
        else:
            found[one.order] = FAILED if one.order in failing else SUCCESS
    return found


def statuses(state: ExecutionState) -> dict[int, ExecutionStatus]:
    return {order: result.status for order, result in state.results.items()}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chains())
def test_in_sequence_no_call_begins_before_all_before_it_have_ended(
    made: tuple[ExecutionPlan, frozenset[int], dict[int, int]],
) -> None:
    plan, failing, turns = made
    tools = Recorder(failing, turns)
    state = asyncio.run(executor().execute_plan(plan, tools))

    ends = expected(plan, failing)
    assert statuses(state) == ends
    called = [order for order, status in sorted(ends.items()) if status is not SKIPPED]
    assert tools.told == [(what, order) for order in called for what in ("begins", "ends")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chains())
def test_in_parallel_no_call_begins_before_what_it_needs_has_succeeded(
    made: tuple[ExecutionPlan, frozenset[int], dict[int, int]],
) -> None:
    plan, failing, turns = made
    tools = Recorder(failing, turns)
    state = asyncio.run(executor().execute_plan(plan, tools, parallel=True))

    assert statuses(state) == expected(plan, failing)
    for one in plan.tools:
        if ("begins", one.order) in tools.told:
            begun = tools.told.index(("begins", one.order))
            assert all(tools.told.index(("ends", needed)) < begun for needed in one.dependencies)


async def test_a_dependency_with_a_later_order_comes_first() -> None:
    tools = Recorder()
    plan = ExecutionPlan("p", [call(1, 3), call(2), call(3)])
    assert (await executor().execute_plan(plan, tools)).status is SUCCESS
    assert tools.begun == [2, 3, 1]


# --- there and back


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.text("ab{}%' \"\\CHAIN_RESULT")
    | st.just("x CHAIN_RESULT {{ y"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("k{", max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(values)
def test_a_plan_gives_parameters_back_as_they_were(value: Any) -> None:
    assert compile_template(literal(value, keep_chain_result=True)).resolve({}) == value


@settings(max_examples=60, deadline=None)
@given(chains(), st.booleans())
def test_a_run_is_the_same_chain_again(made: Any, parallel: bool) -> None:
    plan: ExecutionPlan = made[0]
    plan.tools[0].timeout = 2.5
    plan.tools[0].parameters = {"a": "{{ b }}"}
    found = chain_plan(plan, parallel=parallel, max_attempts=4, default_timeout=30)
    source = RunSource(plan=found.plan, folder=_here())
    again = chain_of(RunState(run_id="a_chain", plan=source.plan_json()))
    assert again is not None
    assert sorted(again.chain.tools, key=lambda call: call.order) == sorted(plan.tools, key=lambda call: call.order)
    assert again.chain.goal == plan.goal
    assert again.steps == found.steps


def test_steps_have_ids_that_say_what_they_call() -> None:
    names = ["search", "brave.search", "9 lives", "Ünïcode!", "***", "x" * 100]
    plan = ExecutionPlan("p", [call(order, name=name) for order, name in enumerate(names)])
    found = chain_plan(plan, parallel=True, max_attempts=1, default_timeout=1).steps
    assert list(found.values())[:3] == ["search_0", "brave_search_1", "call_9_lives_2"]
    assert len(set(found.values())) == len(names)
    assert all(len(step_id) < 50 for step_id in found.values())


# --- a chain that is known


async def test_a_chain_that_succeeded_gives_its_results_without_a_call() -> None:
    store, plan = MemoryStore(), ExecutionPlan("p", [call(1), call(2, 1)])
    await executor(store).execute_plan(plan, Recorder())
    tools = Recorder()
    state = await executor(store).execute_plan(plan, tools)
    assert not tools.told
    assert state.get_successful_outputs() == {1: 1, 2: 2}


async def test_what_failed_is_called_again_and_what_needs_it() -> None:
    store, plan = MemoryStore(), ExecutionPlan("p", [call(1), call(2), call(3, 2), call(4)])
    await executor(store).execute_plan(plan, Recorder(frozenset({2})))
    tools = Recorder()
    state = await executor(store).execute_plan(plan, tools)
    assert tools.begun == [2, 3]
    assert state.status is SUCCESS
    assert state.results[2].retry_count == 0


async def test_resume_false_makes_all_calls_anew() -> None:
    store, plan = MemoryStore(), ExecutionPlan("p", [call(1), call(2, 1)])
    await executor(store).execute_plan(plan, Recorder())
    tools = Recorder()
    await executor(store).execute_plan(plan, tools, resume=False)
    assert tools.begun == [1, 2]


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(
    ("changed", "called"),
    [
        ([call(1, x=2), call(2), call(3, 1), call(4, 3)], [1, 3, 4]),
        ([call(1), call(2), call(3, 1), call(4, 3, y=1)], [4]),
        ([call(1), call(2), call(3, 1), call(4, 3), call(5)], [5]),
        ([call(1), call(3, 1), call(4, 3)], []),
        ([call(1), call(2, name="tool20"), call(3, 1), call(4, 3)], [20]),
        ([call(1), call(2), call(3, 1), call(4, 3, 2)], []),
    ],
)
async def test_of_a_changed_chain_the_calls_that_changed_are_made_and_what_stands_on_them(
    changed: list[ToolCall], called: list[int], parallel: bool
) -> None:
    store = MemoryStore()
    before = ExecutionPlan("p", [call(1), call(2), call(3, 1), call(4, 3)])
    await executor(store).execute_plan(before, Recorder(), parallel=parallel)
    tools = Recorder()
    state = await executor(store).execute_plan(ExecutionPlan("p", changed), tools, parallel=parallel)
    assert tools.begun == called
    assert state.status is SUCCESS
    assert set(state.results) == {one.order for one in changed}
    again = Recorder()
    await executor(store).execute_plan(ExecutionPlan("p", changed), again, parallel=not parallel)
    assert not again.told


async def test_a_call_whose_chain_result_is_of_another_call_now_is_made_anew() -> None:
    store, two = MemoryStore(), [call(1), call(2)]
    await executor(store).execute_plan(ExecutionPlan("p", [*two, call(3, 1, 2, x="CHAIN_RESULT")]), Recorder())
    tools = Recorder()
    await executor(store).execute_plan(ExecutionPlan("p", [*two, call(3, 2, 1, x="CHAIN_RESULT")]), tools)
    assert tools.begun == [3]


async def test_a_secret_among_the_parameters_is_given_to_the_tool_and_kept_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "s3cret-value-of-mine")
    store, seen = MemoryStore(), list[dict[str, Any]]()

    async def tool(name: str, parameters: dict[str, Any]) -> Any:
        seen.append(parameters)
        return {"echo": parameters["token"]}

    plan = ExecutionPlan("p", [ToolCall("send", {"token": "s3cret-value-of-mine"}, 1)])
    running = executor(store)
    await running.execute_plan(plan, tool)
    await running.execute_plan(plan, tool)

    assert seen == [{"token": "s3cret-value-of-mine"}]  # and it is not taken for another call
    assert "s3cret" not in str(running.export_state("p"))
    assert "s3cret" not in str(executor(store).export_state("p"))
    async with Engine(store) as engine:
        assert "s3cret" not in str(await engine.store.read_events("p"))


def _here() -> Path:
    return Path.cwd()
