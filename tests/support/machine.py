"""A real engine that a test moves step by step: time, kills and bodies happen when the test says so, nothing else.

The event loop takes its time from the fake clock, so that no timer is ever a matter of luck. Between two moves the
loop runs until nothing can happen by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import tempfile
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from stepchain_tui.core.clock import FakeClock
from stepchain_tui.core.settings import Settings
from stepchain_tui.core.values import decode_json, encode_json
from stepchain_tui.engine import Engine, EngineService, RunHandle, RunSource
from stepchain_tui.plan import plan_from_json
from stepchain_tui.run import Event
from stepchain_tui.store import AbstractStore, Command, MemoryStore, SQLiteStore
from stepchain_tui.store.records import Batch
from stepchain_tui.tools.functions import shared_loader
from tests.support.bodies import Call, Workshop
from tests.support.machine_witness import Witness
from tests.support.random_plans import BODY, Sketch
from tests.support.stored_runs import check_run, read_store

T = TypeVar("T")
PATIENCE = 30.0
"""Seconds after which a move is given up; never how long something is expected to take."""
MOST_TURNS = 50_000
"""Turns of the loop after which it is said never to rest."""


class TimedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a fake clock's."""

    def __init__(self, clock: FakeClock) -> None:
        self._fake = clock
        super().__init__()

    def time(self) -> float:
        """Return the clock's seconds, in parts that add up exactly: a timer must not come a rounding error early."""
        return math.floor(self._fake.monotonic() * 1024) / 1024

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is due but whoever asks."""
        return not self._ready  # type: ignore[attr-defined]


class Died(Exception):
    """Signals that the engine was killed while it did what it was asked."""


class MortalStore:
    """A store as an engine sees it that may be killed: from some commit on nothing is written any more.

    Attributes:
        died: Done when nothing is written any more.
        left: Commits that are still made, None for all.
        last_counts: Whether the last one is still stored, though nobody hears of it.
    """

    def __init__(self, store: AbstractStore) -> None:
        self._store = store
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.left: int | None = None
        self.last_counts = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def die(self) -> None:
        """Write nothing from now on."""
        if not self.died.done():
            self.died.set_result(None)

    def commit(self, batch: Batch, done: Any = None) -> None:
        """Store a batch, as long as the engine lives."""
        if self.died.done():
            return
        if self.left is not None and batch.events:
            self.left -= 1
            if self.left <= 0:
                self.die()
                if self.last_counts:
                    self._store.commit(batch, lambda error: None)
                return
        self._store.commit(batch, done)


class House:
    """Everything around the runs of one test.

    Args:
        sketch: The plan.
        on_disk: Keep runs in an SQLite file, else in memory.
        cap: How many steps may run at once over all runs.

    Attributes:
        witnesses: What is seen of each run, by its id.
        cut_off: The runs whose engine was killed, whatever became of them later.
        handles: The runs that were begun or gone on with by the engine that lives.
    """

    def __init__(self, sketch: Sketch, *, on_disk: bool, cap: int) -> None:
        self.clock = FakeClock()
        self.loop = TimedLoop(self.clock)
        self.loop.set_exception_handler(self._loop_failed)
        self.problems: list[str] = []
        self._folder = tempfile.TemporaryDirectory(prefix="stepchain-machine-")
        self.folder = Path(self._folder.name)
        self._on_disk = on_disk
        self.store: AbstractStore = self._make_store()
        self.settings = Settings(max_running=cap)
        shared_loader().load(BODY, self.folder)  # else the first body of each test would wait for a thread
        self.workshop = Workshop(sketch.outcomes)
        self.workshop.on_begin = self._body_begins
        self.plan = self.tell_functions(sketch.plan)
        self.files: dict[str, dict[str, Any]] = {}
        self.write_files({name: self.tell_functions(found) for name, found in sketch.files.items()})
        self.witnesses: dict[str, Witness] = {}
        self.cut_off: set[str] = set()
        self.handles: dict[str, RunHandle] = {}
        self._numbers = itertools.count(1)
        self.engine = self._make_engine()
        self.mortal: MortalStore
        self.run(self._open())

    def _make_store(self) -> AbstractStore:
        return SQLiteStore(self.folder / "runs.db") if self._on_disk else MemoryStore()

    def _make_engine(self) -> Engine:
        return Engine(self.store, settings=self.settings, clock=self.clock)

    def tell_functions(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Return a plan whose functions know their workshop."""
        return {**plan, "steps": [self.tell_function(step) for step in plan["steps"]]}

    def tell_function(self, step: dict[str, Any]) -> dict[str, Any]:
        """Return a step whose function knows its workshop."""
        if "function" not in step:
            return step
        args = {**step.get("args", {}), "world": self.workshop.key, "name": step["id"]}
        return {**step, "mode": "inline", "args": args}

    def write_files(self, files: dict[str, dict[str, Any]]) -> None:
        """Write the sub-plans as they are from now on."""
        for name, found in files.items():
            (self.folder / name).write_bytes(encode_json(found))
        self.files = files

    def _loop_failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.problems.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _body_begins(self, call: Call) -> None:
        at_once, cap = len(self.workshop.running), self.engine.core.slots.size
        if at_once > cap:
            self.problems.append(f"rule 5: {at_once} bodies run at once over all runs, {cap} may")
        self.witnesses[call.run_id].begin_body(call.step_id, call.item, call.attempt, call.key)

    # --- the loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what comes of some work, when the loop is quiet again; `Died` if the engine was killed."""
        return self.loop.run_until_complete(self._run(work))

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        task = self.loop.create_task(work, name="the move")
        patience = threading.Timer(PATIENCE, self.loop.call_soon_threadsafe, (task.cancel, "the move never ends"))
        patience.start()
        died = self.mortal.died if hasattr(self, "mortal") else self.loop.create_future()
        await asyncio.wait({task, died}, return_when=asyncio.FIRST_COMPLETED)
        patience.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        await self.settle()
        if self._is_dead:
            await asyncio.gather(task, return_exceptions=True)  # whatever it was, nobody is told any more
            await self._bury()
            raise Died
        return task.result()

    @property
    def _is_dead(self) -> bool:
        return hasattr(self, "mortal") and self.mortal.died.done()

    async def _rest(self) -> None:
        if self._on_disk:
            await self.loop.run_in_executor(None, lambda: None)
        await asyncio.sleep(0)

    async def settle(self) -> None:
        """Return when nothing happens by itself any more."""
        quiet = 0
        for _ in range(MOST_TURNS):
            await asyncio.sleep(0)
            quiet = quiet + 1 if self.loop.is_quiet and not self._busy_aside() else 0
            if quiet > 2:
                return
            if self._busy_aside():
                await self._rest()
        raise AssertionError("the engine never rests")

    def _busy_aside(self) -> bool:
        return any(driver._side for driver in self.engine._drivers.values())

    async def advance(self, seconds: float) -> None:
        """Let time pass, from one thing that is due to the next."""
        end = self.clock.monotonic() + seconds
        for _ in range(100):
            await self.settle()
            left = end - self.clock.monotonic()
            if left <= 0 or self._is_dead:
                break
            wake = self.clock.next_wake
            due = [left] if wake is None else [left, (wake - self.clock.now()).total_seconds()]
            if heap := self.engine.core.deadlines._heap:
                due.append(heap[0][0] - self.clock.monotonic())
            self.clock.advance(max(0.001, min(due)))
            if self._on_disk:  # the engine looks for commands on the store's thread
                for _turn in range(3):
                    await self._rest()
                    await self.store.data_version()
        await self.settle()

    # --- the engine

    async def _open(self) -> None:
        await self.engine.open()
        self.mortal = MortalStore(self.store)
        self.engine.core.recorder.store = self.mortal  # type: ignore[assignment]
        for run_id, witness in self.witnesses.items():
            self._listen(run_id, witness)

    def _listen(self, run_id: str, witness: Witness) -> None:
        self.engine.core.recorder.subscribe(run_id, witness.take)

    async def see(self, run_id: str) -> Witness:
        """Return the witness of a run, who knows all that is stored of it by now."""
        witness = self.witnesses[run_id]
        if witness.events or run_id in await self._run_ids():
            witness.take(await self.store.read_events(run_id, after=witness.state.last_seq))
        return witness

    async def _run_ids(self) -> list[str]:
        return [found.run_id for found in await self.store.list_runs()]

    async def start(self, run_id: str, *, detach: bool) -> None:
        """Start the run of the plan."""
        self.watch(run_id)
        self.handles[run_id] = await self.engine.start(self.source(), run_id=run_id, detach=detach)

    def source(self) -> RunSource:
        """Return what a run of the plan is made from."""
        return RunSource(plan=plan_from_json(encode_json(self.plan)), folder=self.folder, working_folder=self.folder)

    def source_of(self, run_id: str) -> RunSource:
        """Return what a fresh start of a run is made from: its plan as it is now."""
        plan = self.witnesses[run_id].state.plan
        return RunSource(plan=plan_from_json(encode_json(plan)), folder=self.folder, working_folder=self.folder)

    def watch(self, run_id: str) -> None:
        """Begin to witness a run."""
        witness = self.witnesses[run_id] = Witness(run_id)
        self._listen(run_id, witness)

    @property
    def service(self) -> EngineService:
        """The engine as front ends see it."""
        return EngineService(self.engine)

    def is_live(self, run_id: str) -> bool:
        """Return whether the engine carries the run out."""
        return run_id in self.engine.live_runs

    def command(self, run_id: str, name: str, arguments: dict[str, Any]) -> Command:
        """Return a command."""
        arguments = decode_json(encode_json(arguments))
        number = next(self._numbers)
        return Command(
            id=f"command-{number}",
            run_id=run_id,
            command=name,
            arguments=arguments,
            sender="Ada",
            sent_at=self.clock.now(),
        )

    async def apply(self, command: Command) -> dict[str, Any]:
        """Give a command to the engine and return its answer."""
        return await self.engine.apply(command)

    async def reopen(self) -> None:
        """Close the engine and its store, and open others."""
        await self.engine.close()
        await self._open_anew()

    async def _open_anew(self) -> None:
        self.handles.clear()
        if self._on_disk:
            self.store = self._make_store()
        self.engine = self._make_engine()
        await self._open()
        await self.check_stored()

    async def kill(self) -> None:
        """End the engine without a word, as kill -9 does."""
        self.mortal.die()

    async def _bury(self) -> None:
        """Take away what is left of an engine that was killed, and open another one."""
        engine = self.engine
        core = engine.core
        for run_id, driver in engine._drivers.items():
            self.cut_off.add(run_id)
            driver.over = True
            driver._drop_alarms()
            for work in [*driver.bodies.values(), *driver.aside]:
                if work.task is not None:
                    work.task.cancel()
            for task in driver._side:
                task.cancel()
        if engine._watcher is not None:
            engine._watcher.cancel()
        self.workshop.kill()
        core.deadlines.close()
        await self.settle()
        core.recorder.close()
        await core.executors.close()
        for driver in list(engine._drivers.values()):
            driver.on_left()  # gives the lock back, as the end of a process does
        engine._core = None
        await engine._close_store()
        await self._open_anew()

    async def check_stored(self) -> None:
        """Hold every run as it is stored against what was seen of it, and against its summary rows."""
        for stored in await read_store(self.store, self.witnesses):
            witness = self.witnesses[stored.row.run_id]
            witness.take(stored.events)
            assert check_run(stored) == witness.state
            assert await self.store.load_state(stored.row.run_id) == witness.state

    def end(self) -> None:
        """Let go of everything."""
        try:
            self.workshop.all_well = True
            for call in list(self.workshop.running):
                if not call.outcome.done():
                    call.outcome.set_result("ok")
            with contextlib.suppress(Died):
                self.run(self.engine.close())
        finally:
            self.workshop.close()
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self._folder.cleanup()

    def events_of(self, run_id: str) -> list[Event]:
        """Return the durable events of a run."""
        return self.witnesses[run_id].events
