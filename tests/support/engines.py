"""Engines for tests: a plan from plain data, a run on a real store, a clock that jumps when nothing else can happen."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stepchain_tui.core.clock import FakeClock
from stepchain_tui.core.settings import Settings
from stepchain_tui.engine import Engine, RunHandle, RunSource, Scheduler
from stepchain_tui.plan import Plan
from stepchain_tui.run import Event, RunState, RunStatus, StepStatus
from stepchain_tui.run.events import EVENT_NAMES
from stepchain_tui.store import AbstractStore, Command, LogLine, MemoryStore
from tests.support.stored_runs import check_rows

PATIENCE = 30.0
"""Seconds after which a wait of a test gives up; never how long something is expected to take."""
_numbers = itertools.count(1)


def plan_of(*steps: Mapping[str, Any], **keys: Any) -> Plan:
    """Return a plan of plain steps."""
    return Plan.model_validate({"goal": "a goal", "steps": list(steps), **keys})


def shell(step_id: str, command: Any, *after: str, **keys: Any) -> dict[str, Any]:
    """Return a shell step."""
    step = {"id": step_id, "shell": command, **keys}
    if after:
        step["dependencies"] = list(after)
    return step


class JumpingClock(FakeClock):
    """A clock that jumps to the next moment somebody waits for, whenever nothing else can happen.

    Attributes:
        jumps: The seconds of each jump.
        may_jump: Set to False to hold time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.jumps: list[float] = []
        self.may_jump = True

    async def watch(self, is_idle: Callable[[], bool]) -> None:
        """Jump as long as this runs."""
        turns = 0
        while True:
            turns = turns + 1 if is_idle() else 0
            if turns > 3 and self.may_jump and (moment := self.next_wake) is not None:
                self.jump(moment)
                turns = 0
            # A real body (a process, a thread) needs the loop to rest; a quiet one goes on at once.
            await asyncio.sleep(0 if turns and self.next_wake else 0.001)

    def jump(self, moment: datetime) -> None:
        """Go on to that moment."""
        seconds = (moment - self.now()).total_seconds()
        self.jumps.append(seconds)
        self.advance(seconds)


class Bench:
    """An engine on a store, with a clock that jumps. Use it with `async with`.

    Args:
        store: Kept by the caller, so that a second bench can go on with its runs; a new one in memory if None.
        folder: What `./` in plans is relative to.
    """

    def __init__(
        self,
        store: AbstractStore | None = None,
        folder: Path | None = None,
        *,
        settings: Settings | None = None,
        scheduler: Scheduler | None = None,
        client: Any = None,
        clock: JumpingClock | None = None,
        **engine: Any,
    ) -> None:
        self.store = store or MemoryStore()
        self.folder = folder or Path.cwd()
        self.clock = clock or JumpingClock()
        self.engine = Engine(
            self.store, settings=settings, scheduler=scheduler, client=client, clock=self.clock, **engine
        )
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.engine.open()
        self._watch = asyncio.create_task(self.clock.watch(self.is_idle), name="clock")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._watch is not None
        stopped = self._watch.done()
        self._watch.cancel()
        await asyncio.gather(self._watch, return_exceptions=not stopped)
        await asyncio.wait_for(self.engine.close(), PATIENCE)

    def is_idle(self) -> bool:
        """Return whether no body of any run is at work, so that only time can bring something new."""
        return not any(
            driver.bodies or driver.aside or driver._side or driver.frontier.has_ended
            for driver in self.engine._drivers.values()
        )

    def source(self, plan: Plan, inputs: Mapping[str, Any] | None = None, **keys: Any) -> RunSource:
        """Return what a run of `plan` is made from."""
        return RunSource(plan=plan, folder=self.folder, working_folder=self.folder, inputs=dict(inputs or {}), **keys)

    async def start(self, plan: Plan, run_id: str = "", **keys: Any) -> Watched:
        """Start a run."""
        given = {name: keys.pop(name) for name in ("inputs", "environment") if name in keys}
        run_id = run_id or f"run-{next(_numbers)}"
        return Watched(self, await self.engine.start(self.source(plan, **given), run_id=run_id, **keys))

    async def run(self, plan: Plan, run_id: str = "", **keys: Any) -> Watched:
        """Start a run and wait until this engine lets go of it."""
        run = await self.start(plan, run_id, **keys)
        await run.end()
        return run

    async def resume(self, run_id: str, **keys: Any) -> Watched:
        """Go on with a run, with the plan it keeps, and wait until this engine lets go of it."""
        run = Watched(self, await self.engine.resume(run_id, **keys))
        await run.end()
        return run

    async def rerun(self, run_id: str, step_id: str, **keys: Any) -> Watched:
        """Run a step of a stopped run again and wait until this engine lets go of the run."""
        run = Watched(self, await self.engine.rerun(run_id, step_id, **keys))
        await run.end()
        return run

    async def tell(self, run_id: str, command: str, **arguments: Any) -> dict[str, Any]:
        """Give a command to a run and return the answer."""
        number = next(_numbers)
        order = Command(
            id=f"command-{number}",
            run_id=run_id,
            command=command,
            arguments=arguments,
            sender="Ada",
            sent_at=self.clock.now(),
        )
        return await self.engine.apply(order)


class Watched:
    """A run with the events that were made durable since it was started here."""

    def __init__(self, bench: Bench, handle: RunHandle) -> None:
        self.bench = bench
        self.handle = handle
        self.run_id = handle.run_id
        self.news: list[Event] = []
        self._changed = asyncio.Event()
        self._unsubscribe = handle.subscribe(self._take)

    def _take(self, events: list[Event]) -> None:
        self.news.extend(events)
        self._changed.set()

    @property
    def state(self) -> RunState:
        """The engine's own state."""
        return self.handle.state

    @property
    def statuses(self) -> dict[str, str]:
        """Step id -> status."""
        return {step_id: step.status.value for step_id, step in self.state.steps.items()}

    @property
    def outputs(self) -> dict[str, Any]:
        """Step id -> output."""
        return {step_id: step.output.value if step.output else None for step_id, step in self.state.steps.items()}

    async def end(self) -> RunStatus:
        """Return the status in which the engine lets go of the run."""
        return await asyncio.wait_for(self.handle.wait(), PATIENCE)

    async def until(self, found: Callable[[RunState], bool]) -> None:
        """Return when the engine's state is as wanted."""
        async with asyncio.timeout(PATIENCE):
            while not found(self.state):
                self._changed.clear()
                await self._changed.wait()

    async def until_status(self, step_id: str, status: str) -> None:
        """Return when a step has that status."""
        wanted = StepStatus(status)
        await self.until(lambda state: state.steps[step_id].status is wanted)

    async def tell(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Give a command to the run and return the answer."""
        return await self.bench.tell(self.run_id, command, **arguments)

    async def events(self, *types: str) -> list[Event]:
        """Return the run's stored events, those of the given types only if there are any."""
        found = await self.bench.store.read_events(self.run_id)
        return [event for event in found if not types or EVENT_NAMES[type(event)] in types]

    async def names(self, *leave_out: str) -> list[str]:
        """Return the types of the run's stored events."""
        return [name for event in await self.events() if (name := EVENT_NAMES[type(event)]) not in leave_out]

    async def log(self, step_id: str | None = None) -> list[LogLine]:
        """Return the stored log."""
        return await self.bench.store.read_log(self.run_id, step_id=step_id)

    async def check(self) -> None:
        """Hold the stored run against the engine's own: the fold and the summary rows are the same."""
        stored = await self.bench.store.load_state(self.run_id)
        assert stored == self.state
        await check_summaries(self.bench.store, stored)


async def check_summaries(store: AbstractStore, state: RunState) -> None:
    """Hold the summary rows of a run against its fold."""
    check_rows(state, await store.get_run(state.run_id), await store.list_steps(state.run_id))
