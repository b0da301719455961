"""Chains beyond one executor: what is exported and imported, who else looks, and what is hostile."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui import JSONLStore, MemoryStore, SQLiteStore
from stepchain_tui.chain import ChainExecutor, ExecutionPlan, ExecutionStatus
from stepchain_tui.chain.exchange import ChainStateError
from stepchain_tui.core.clock import FakeClock
from stepchain_tui.core.errors import CommandRefusedError, RunLockedError
from stepchain_tui.core.settings import Settings
from stepchain_tui.engine import Engine
from stepchain_tui.run import RunStatus
from stepchain_tui.store import AbstractStore, Command, RunSummary
from stepchain_tui.store.imports import UntrustedRunError
from tests.support.chains import call
from tests.support.chains import executor as without_settings

SUCCESS, FAILED, SKIPPED = ExecutionStatus.SUCCESS, ExecutionStatus.FAILED, ExecutionStatus.SKIPPED
PATIENCE = 20.0


def plan_named(plan_id: str = "p") -> ExecutionPlan:
    return ExecutionPlan(plan_id, [call(1), call(2), call(3, 1), call(4, 2, 3, x="CHAIN_RESULT")], "a goal")


class Tools:
    """Tools that give their names; those in `failing` fail, those in `held` wait for their event."""

    def __init__(self, *failing: str, word: str = "of", **held: asyncio.Event) -> None:
        self.failing = failing
        self.word = word
        self.held = held
        self.names: list[str] = []
        self.called = asyncio.Event()

    async def __call__(self, name: str, parameters: dict[str, Any]) -> Any:
        self.names.append(name)
        self.called.set()
        if name in self.held:
            await self.held[name].wait()
        if name in self.failing:
            raise RuntimeError(f"{name} is out of order")
        return {self.word: name}


def executor(store: AbstractStore | None = None) -> ChainExecutor:
    return without_settings(store, max_retries=0)


async def exported(*failing: str, plan: ExecutionPlan | None = None) -> dict[str, Any]:
    """Return the export of a chain that was carried out, as it comes out of a file."""
    elsewhere = executor()
    await elsewhere.execute_plan(plan or plan_named(), Tools(*failing))
    carried: dict[str, Any] = json.loads(json.dumps(elsewhere.export_state((plan or plan_named()).plan_id)))
    return carried


async def summary_of(store: AbstractStore, run_id: str) -> RunSummary:
    async with Engine(store) as engine:
        return await engine.store.get_run(run_id)


@pytest.fixture(params=["memory", "sqlite", "sqlite that waits for the disk", "jsonl"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> AbstractStore:
    made: dict[str, Callable[[], AbstractStore]] = {
        "memory": MemoryStore,
        "sqlite": lambda: SQLiteStore(tmp_path / "runs.db"),
        "sqlite that waits for the disk": lambda: SQLiteStore(tmp_path / "runs.db", durability="power"),
        "jsonl": lambda: JSONLStore(tmp_path / "runs"),
    }
    return made[request.param]()


# --- import


async def test_every_store_takes_an_import_and_goes_on_with_it(store: AbstractStore) -> None:
    here = executor(store)
    state = here.import_state(await exported("tool2"))
    seen = executor(store).get_execution_state("p")
    assert seen is not None
    assert {order: result.status for order, result in seen.results.items()} == {
        1: SUCCESS,
        2: ExecutionStatus.PENDING,
        3: SUCCESS,
        4: ExecutionStatus.PENDING,
    }
    tools = Tools()
    ended = await executor(store).execute_plan(state.plan, tools)
    assert tools.names == ["tool2", "tool4"]
    assert ended.get_successful_outputs() == {order: {"of": f"tool{order}"} for order in (1, 2, 3, 4)}


async def test_the_history_says_what_was_imported() -> None:
    store = MemoryStore()
    executor(store).import_state(await exported("tool2"))
    summary = await summary_of(store, "p")
    assert summary.imported is not None
    assert not summary.imported.trusted
    assert (summary.goal, summary.shown_status) == ("a goal", RunStatus.PENDING)
    async with Engine(store) as engine:
        steps = (await engine.store.load_state("p")).steps
    assert steps["tool1_1"].reason.startswith("set by an import of 2026-01-01")
    assert (steps["tool1_1"].origin, steps["tool1_1"].attempt) == ("p/tool1_1", 0)


async def test_calls_that_were_made_elsewhere_do_not_count_here() -> None:
    here = executor()
    here.import_state(await exported("tool2"))
    assert here.discovery.metrics() == {}


async def test_an_imported_chain_is_not_carried_out_by_others_before_it_is_trusted() -> None:
    store = MemoryStore()
    state = executor(store).import_state(await exported("tool2"))
    async with Engine(store) as engine:
        with pytest.raises(UntrustedRunError):
            await engine.resume("p")
    await executor(store).execute_plan(state.plan, Tools())
    summary = await summary_of(store, "p")
    assert summary.imported is not None
    assert summary.imported.trusted


async def test_a_chain_that_was_finished_elsewhere_is_finished_here() -> None:
    store = MemoryStore()
    state = executor(store).import_state(await exported())
    assert (await summary_of(store, "p")).shown_status is RunStatus.SUCCEEDED
    tools = Tools()
    assert (await executor(store).execute_plan(state.plan, tools, parallel=True)).status is SUCCESS
    assert not tools.names


async def test_a_later_export_brings_what_was_done_since(store: AbstractStore) -> None:
    await executor(store).execute_plan(plan_named(), Tools("tool1", "tool2"))
    here = executor(store)
    here.import_state(await exported("tool2"))
    tools = Tools()
    await here.execute_plan(plan_named(), tools)
    assert tools.names == ["tool2", "tool4"]


async def test_the_same_import_twice_is_one_run() -> None:
    store = MemoryStore()
    carried = await exported("tool2")
    for _ in range(2):
        executor(store).import_state(carried)
    executor(store).import_state(await exported())
    tools = Tools()
    await executor(store).execute_plan(plan_named(), tools)
    assert not tools.names


async def test_an_import_never_takes_a_result_away() -> None:
    store = MemoryStore()
    await executor(store).execute_plan(plan_named(), Tools(word="here"))
    executor(store).import_state(await exported("tool2"))
    seen = executor(store).get_execution_state("p")
    assert seen is not None
    assert seen.status is SUCCESS
    assert seen.get_successful_outputs() == {order: {"here": f"tool{order}"} for order in (1, 2, 3, 4)}


async def test_an_import_over_another_chain_is_refused_and_may_have_another_id() -> None:
    store, carried = MemoryStore(), await exported("tool2")
    await executor(store).execute_plan(ExecutionPlan("p", [call(1, other=True)]), Tools())
    here = executor(store)
    with pytest.raises(CommandRefusedError, match="there is a run 'p' already") as caught:
        here.import_state(carried)
    assert "plan_id=" in caught.value.hint
    assert here.get_execution_state("p") is not None
    assert here.import_state(carried, plan_id="p2").plan.plan_id == "p2"
    assert (await summary_of(store, "p2")).goal == "a goal"


async def test_an_import_while_others_are_carried_out_waits_for_its_turn() -> None:
    held, carried = asyncio.Event(), await exported("tool2", plan=plan_named("q"))
    here, tools = executor(), Tools(tool1=held)
    work = asyncio.create_task(here.execute_plan(plan_named("p"), tools))
    await asyncio.wait_for(tools.called.wait(), PATIENCE)

    state = here.import_state(carried)
    with pytest.raises(RunLockedError):
        here.import_state(await exported("tool2"))
    rest = Tools()
    ended = await here.execute_plan(state.plan, rest)

    assert rest.names == ["tool2", "tool4"]
    assert ended.status is SUCCESS
    held.set()
    assert (await asyncio.wait_for(work, PATIENCE)).status is SUCCESS


async def test_what_stands_for_a_secret_is_sent_to_no_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "s3cret-value-of-mine")
    secret = "s3cret-value-of-mine"
    plan = ExecutionPlan("p", [call(1, key=secret), call(2, 1, keys=[secret]), call(3)])
    carried = await exported("tool2", "tool3", plan=plan)
    monkeypatch.delenv("SERVICE_TOKEN")
    here, tools = executor(), Tools()
    state = here.import_state(carried)

    said = r"call 2 \(tool2\): parameter 'keys' holds \[secret SERVICE_TOKEN\]"
    with pytest.raises(ValueError, match=said) as caught:
        await here.execute_plan(state.plan, tools)
    assert "a plan of your own" in caught.value.hint  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"call 1 \(tool1\): parameter 'key'"):
        await here.execute_plan(state.plan, tools, resume=False)
    assert tools.names == []

    monkeypatch.setenv("SERVICE_TOKEN", secret)
    assert (await here.execute_plan(plan, tools)).status is SUCCESS
    assert tools.names == ["tool2", "tool3"]


async def test_a_call_that_was_made_elsewhere_needs_its_secret_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_TOKEN", "s3cret-value-of-mine")
    carried = await exported("tool2", plan=ExecutionPlan("p", [call(1, key="s3cret-value-of-mine"), call(2, 1)]))
    here, tools = executor(), Tools()
    assert (await here.execute_plan(here.import_state(carried).plan, tools)).status is SUCCESS
    assert tools.names == ["tool2"]


# --- hostile and damaged dicts


def _set(*place: Any) -> Callable[[dict[str, Any]], None]:
    *path, last, value = place

    def change(given: dict[str, Any]) -> None:
        for key in path:
            given = given[key]
        if value is _GONE:
            del given[last]
        else:
            given[last] = value

    return change


_GONE = object()


def _deep(given: dict[str, Any]) -> None:
    inner: Any = []
    for _ in range(5_000):
        inner = [inner]
    given["results"]["1"]["output"] = inner


def _endless(given: dict[str, Any]) -> None:
    given["results"]["1"]["output"] = given


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_set("format", "another"), "no exported chain"),
        (_set("version", 2), "version 2 of the format, and this one knows 1"),
        (_set("version", "1"), "version 1 of the format"),
        (_set("plan", _GONE), "missing required field `plan`"),
        (_set("plan", "plan_id", "../../etc/passwd"), "cannot be a run id"),
        (_set("plan", "plan_id", "p\x1b[31m"), r"'p\?\[31m' cannot be a run id"),
        (_set("plan", "tools", []), r"`array` of length >= 1 - at `\$\.plan\.tools`"),
        (_set("plan", "tools", 0, "order", -1), r"\$\.plan\.tools\[0\]\.order"),
        (_set("plan", "tools", 0, "order", 2), "order 2 is there twice"),
        (_set("plan", "tools", 0, "dependencies", [3]), "depend on each other"),
        (_set("plan", "tools", 0, "parameters", []), r"\$\.plan\.tools\[0\]\.parameters"),
        (_set("plan", "tools", 0, "timeout", -3.0), "timeout must be"),
        (_set("plan", "tools", 0, "more", 1), "unknown field `more`"),
        (_set("results", "1", _GONE), "results are not those of its plan's calls"),
        (_set("results", "9", {}), r"missing required field `tool_call` - at `\$\.results\.9`"),
        (_set("results", "1", "status", "perhaps"), r"Invalid enum value 'perhaps' - at `\$\.results\.1\.status`"),
        (_set("results", "1", "start_time", "yesterday"), "RFC3339"),
        (_set("results", "1", "start_time", "2026-01-01T00:00:00"), "timezone"),
        (_set("results", "1", "start_time", "9999-12-31T23:59:59-12:00"), r"calendar .* `\$\.results\.1\.start_time`"),
        (_set("exported_at", "9999-12-31T23:59:59-12:00"), r"calendar in UTC - at `\$\.exported_at`"),
        (_set("exported_at", "0001-01-01T00:00:00+12:00"), r"calendar in UTC - at `\$\.exported_at`"),
        (_set("results", "1", "execution_time", "long"), r"\$\.results\.1\.execution_time"),
        (_set("results", "1", "tool_call", "tool_name", "rm"), "the result of 1 is of another call"),
        (_set("results", "1", "output", "x" * (10 * 2**20 + 1)), "output of call 1 .* is over 10 MB"),
        (_deep, "nested deeper than 200 levels"),
        (_endless, "nested deeper than 200 levels"),
    ],
)
async def test_a_damaged_or_hostile_dict_is_one_clear_error_and_nothing_is_stored(
    damage: Callable[[dict[str, Any]], None], said: str
) -> None:
    carried, store = await exported("tool2"), MemoryStore()
    damage(carried)
    with pytest.raises(ChainStateError, match=said) as caught:
        executor(store).import_state(carried)
    assert str(caught.value).startswith("this state of a chain cannot be imported: ")
    assert caught.value.hint
    assert str(caught.value).isprintable()
    async with Engine(store) as engine:
        assert await engine.store.list_runs() == []


@pytest.mark.parametrize("given", [None, [], "{}", {}, {"format": ["stepchain chain"]}])
def test_what_is_no_export_at_all_is_refused(given: Any) -> None:
    with pytest.raises(ChainStateError, match="no exported chain"):
        executor().import_state(given)


async def test_what_is_imported_is_a_copy() -> None:
    carried = await exported("tool2")
    before = copy.deepcopy(carried)
    state = executor().import_state(carried)
    state.plan.tools[0].parameters["x"] = 1
    assert carried == before


# --- large values


async def test_large_outputs_are_whole_in_results_exports_and_chain_results(store: AbstractStore) -> None:
    large = "x" * 200_000

    async def tool(name: str, parameters: dict[str, Any]) -> Any:
        return large if name == "tool1" else len(parameters["x"])

    plan = ExecutionPlan("p", [call(1), call(2, 1, x="CHAIN_RESULT")])
    running = executor(store)
    state = await running.execute_plan(plan, tool)
    assert state.get_successful_outputs() == {1: large, 2: 200_000}
    again = executor(store).get_execution_state("p")
    assert again is not None
    assert again.results[1].output == large
    there = executor()
    there.import_state(running.export_state("p") or {})
    assert there.get_execution_state("p") is not None
    seen = ChainExecutor(store=there.store, settings=Settings()).get_execution_state("p")
    assert seen is not None
    assert seen.results[1].output == large


async def test_an_output_that_is_too_large_fails_its_call_and_says_what_to_do() -> None:
    async def tool(name: str, parameters: dict[str, Any]) -> Any:
        return "x" * (11 * 2**20)

    running = executor()
    state = await running.execute_plan(ExecutionPlan("p", [call(1)]), tool)
    assert state.results[1].status is FAILED
    assert "11,534,338 bytes of JSON, more than the 10,485,760" in str(state.results[1].error)
    assert running.discovery.metrics()["tool1"]["failed"] == 1


# --- several at once, and others who look


async def test_chains_of_one_executor_run_side_by_side(store: AbstractStore) -> None:
    both = asyncio.Barrier(2)

    async def meet(name: str, parameters: dict[str, Any]) -> str:
        await both.wait()
        return str(parameters["of"])

    running = executor(store)
    plans = [ExecutionPlan(name, [call(1, of=name)]) for name in ("a", "b")]
    states = await asyncio.wait_for(asyncio.gather(*(running.execute_plan(plan, meet) for plan in plans)), PATIENCE)
    assert [state.results[1].output for state in states] == ["a", "b"]


async def test_a_chain_that_is_carried_out_is_not_carried_out_twice() -> None:
    held, store = asyncio.Event(), MemoryStore()
    tools = Tools(tool1=held)
    work = asyncio.create_task(executor(store).execute_plan(plan_named(), tools))
    await asyncio.wait_for(tools.called.wait(), PATIENCE)
    with pytest.raises(RunLockedError):
        await executor(store).execute_plan(plan_named(), Tools())
    held.set()
    await asyncio.wait_for(work, PATIENCE)


async def test_another_executor_sees_a_chain_that_is_carried_out(tmp_path: Path) -> None:
    held, path = asyncio.Event(), tmp_path / "runs.db"
    tools = Tools(tool2=held)
    running = executor(SQLiteStore(path))
    work = asyncio.create_task(running.execute_plan(plan_named(), tools))
    async with asyncio.timeout(PATIENCE):
        while "tool2" not in tools.names:
            await asyncio.sleep(0.001)
    seen = executor(SQLiteStore(path)).get_execution_state("p")
    exported_now = running.export_state("p")
    held.set()
    await asyncio.wait_for(work, PATIENCE)

    assert seen is not None
    assert (seen.status, seen.current_step) == (ExecutionStatus.RUNNING, 2)
    assert seen.get_successful_outputs() == {1: {"of": "tool1"}}
    assert exported_now is not None
    assert exported_now["results"]["2"]["status"] == "running"


async def test_a_chain_whose_caller_is_cancelled_is_interrupted_and_its_call_ended() -> None:
    store, tools = MemoryStore(), Tools(tool2=asyncio.Event())
    running = executor(store)
    work = asyncio.create_task(running.execute_plan(plan_named(), tools))
    async with asyncio.timeout(PATIENCE):
        while "tool2" not in tools.names:
            await asyncio.sleep(0.001)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(work, PATIENCE)

    assert (await summary_of(store, "p")).shown_status is RunStatus.INTERRUPTED
    state = running.get_execution_state("p")
    assert state is not None
    assert (state.status, state.current_step, state.results[2].status) == (
        ExecutionStatus.PENDING,
        None,
        ExecutionStatus.PENDING,
    )
    assert running.discovery.success_rate("tool2") is None  # nobody knows how it would have ended


async def test_a_person_may_leave_a_call_out() -> None:
    store = MemoryStore()
    await executor(store).execute_plan(plan_named(), Tools("tool2"))
    async with Engine(store, clock=FakeClock()) as engine:
        command = Command(
            id="1", run_id="p", command="skip", arguments={"step": "tool2_2"}, sender="Ada", sent_at=engine.clock.now()
        )
        assert (await engine.apply(command))["ok"]
    state = await executor(store).execute_plan(plan_named(), Tools())
    assert (state.results[2].status, state.results[2].error) == (SKIPPED, "skipped by Ada")
    assert state.results[4].error == "Dependencies not satisfied: call 2 (tool2) was skipped"


async def test_all_may_be_asked_while_a_chain_is_carried_out(store: AbstractStore) -> None:
    held = asyncio.Event()
    tools = Tools(word="w" * 100_000, tool2=held)
    running = executor(store)
    await running.execute_plan(plan_named("before"), Tools("tool2"))
    work = asyncio.create_task(running.execute_plan(plan_named(), tools))
    async with asyncio.timeout(PATIENCE):
        while "tool2" not in tools.names:
            await asyncio.sleep(0.001)

    told = running.export_state("p")
    other = executor(store).get_execution_state("before")
    calls = {name: known["calls"] for name, known in running.discovery.metrics().items()}
    nobody = running.get_execution_state("nobody")
    held.set()
    ended = await asyncio.wait_for(work, PATIENCE)

    assert told is not None
    assert told["results"]["1"]["output"] == {"w" * 100_000: "tool1"}
    assert other is not None
    assert other.results[2].status is FAILED
    assert calls == {"tool1": 2, "tool2": 1, "tool3": 1}
    assert nobody is None
    assert ended.status is SUCCESS
