"""Plain functions that never return: a thread cannot be stopped, and nobody waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stepchain_tui import MemoryStore
from stepchain_tui.chain import ExecutionPlan, ExecutionStatus
from stepchain_tui.core.clock import FakeClock
from stepchain_tui.engine import Engine
from stepchain_tui.run import RunStatus
from stepchain_tui.store import Command
from stepchain_tui.tools.registry import shared_tools
from tests.support.chains import call, executor

SUCCESS, TIMEOUT, PENDING, RETRYING = (
    ExecutionStatus.SUCCESS,
    ExecutionStatus.TIMEOUT,
    ExecutionStatus.PENDING,
    ExecutionStatus.RETRYING,
)
PATIENCE = 20.0


class StuckTool:
    """A plain function whose calls of `stuck` return when they are let go, and no sooner."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0
        self.let_go = threading.Event()

    def __call__(self, name: str, parameters: dict[str, Any]) -> str:
        return self.wait() if name == "stuck" else name

    def wait(self) -> str:
        self.begun += 1
        self.let_go.wait()
        self.ended += 1
        return "late"


@pytest.fixture
def tool() -> Iterator[StuckTool]:
    made = StuckTool()
    yield made
    made.let_go.set()


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_chain_ends_with_its_calls_and_not_with_the_threads_they_left(tool: StuckTool, parallel: bool) -> None:
    store = MemoryStore()
    plan = ExecutionPlan("p", [call(1, name="stuck", timeout=0.02), call(2), call(3, 2)])
    running = executor(store)
    state = await asyncio.wait_for(running.execute_plan(plan, tool, parallel), PATIENCE)

    assert (tool.begun, tool.ended) == (4, 0)
    assert [state.results[order].status for order in (1, 2, 3)] == [TIMEOUT, SUCCESS, SUCCESS]
    assert state.results[1].retry_count == 3
    async with Engine(store) as engine:
        assert (await engine.store.get_run("p")).shown_status is RunStatus.FAILED


async def test_a_call_that_is_stuck_alone_gets_all_its_attempts(tool: StuckTool) -> None:
    plan = ExecutionPlan("p", [call(1, name="stuck", timeout=0.02)])
    state = await asyncio.wait_for(executor().execute_plan(plan, tool), PATIENCE)
    assert (state.results[1].status, tool.begun, tool.ended) == (TIMEOUT, 4, 0)


async def test_a_cancelled_chain_does_not_wait_for_its_threads(tool: StuckTool) -> None:
    store = MemoryStore()
    running = executor(store)
    plan = ExecutionPlan("p", [call(1), call(2, 1, name="stuck")])
    work = asyncio.create_task(running.execute_plan(plan, tool))
    async with asyncio.timeout(PATIENCE):
        while not tool.begun:
            await asyncio.sleep(0.001)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(work, PATIENCE)

    assert tool.ended == 0
    async with Engine(store) as engine:
        assert (await engine.store.get_run("p")).shown_status is RunStatus.INTERRUPTED
    state = running.get_execution_state("p")
    assert state is not None
    assert [state.results[order].status for order in (1, 2)] == [SUCCESS, PENDING]


async def test_a_cancelled_chain_does_not_wait_for_a_thread_of_an_attempt_before(tool: StuckTool) -> None:
    running = executor()
    plan = ExecutionPlan("p", [call(1, name="stuck", timeout=0.02), call(2)])
    second = asyncio.Event()

    def either(name: str, parameters: dict[str, Any]) -> Any:
        return tool(name, parameters) if name == "stuck" else second.wait()

    work = asyncio.create_task(running.execute_plan(plan, either, parallel=True))
    async with asyncio.timeout(PATIENCE):
        while (state := running.get_execution_state("p")) is None or state.results[1].status is not TIMEOUT:
            await asyncio.sleep(0.001)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(work, PATIENCE)
    assert tool.ended == 0


async def test_a_paused_chain_does_not_wait_for_its_threads(tool: StuckTool) -> None:
    store, clock = MemoryStore(), FakeClock()  # which stands still: the second attempt never comes
    running = executor(store, clock=clock)
    work = asyncio.create_task(running.execute_plan(ExecutionPlan("p", [call(1, name="stuck", timeout=0.02)]), tool))
    async with asyncio.timeout(PATIENCE):
        while (state := running.get_execution_state("p")) is None or state.results[1].status is not RETRYING:
            await asyncio.sleep(0.001)
    async with Engine(store) as engine:
        await engine.store.send_command(
            Command(id="c", run_id="p", command="pause", arguments={}, sender="test", sent_at=clock.now())
        )
    state = await asyncio.wait_for(work, PATIENCE)

    assert (state.is_complete(), tool.begun, tool.ended) == (False, 1, 0)
    async with Engine(store) as engine:
        assert (await engine.store.get_run("p")).shown_status is RunStatus.PAUSED


async def test_a_registered_tool_that_is_stuck_holds_up_nobody_either(tool: StuckTool) -> None:
    shared_tools().register(tool.wait, name="wait_long", description="Wait.")
    try:
        running = executor(max_retries=0)
        plan = ExecutionPlan("p", [call(1, name="wait_long", timeout=0.05)])
        state = await asyncio.wait_for(running.execute_plan(plan), PATIENCE)
    finally:
        shared_tools().unregister("wait_long")
    assert (state.results[1].status, tool.begun, tool.ended) == (TIMEOUT, 1, 0)
