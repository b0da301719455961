"""The engine of one process: it owns runs, carries them out, and takes commands for them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

from stepchain_tui.core.clock import Clock, SystemClock
from stepchain_tui.core.errors import CommandRefusedError, InternalError, StoreError
from stepchain_tui.core.ids import check_run_id
from stepchain_tui.core.ids import new_run_id as new_run_id_at
from stepchain_tui.core.paths import prices_path
from stepchain_tui.core.settings import Settings
from stepchain_tui.engine.control import apply_command
from stepchain_tui.engine.core import EngineCore
from stepchain_tui.engine.driver import Driver
from stepchain_tui.engine.fork import create, fork
from stepchain_tui.engine.recorder import Recorder
from stepchain_tui.engine.recording import prepare_replay, refuse_fork
from stepchain_tui.engine.rehearsal import Rehearsal
from stepchain_tui.engine.revival import source_of
from stepchain_tui.engine.runs import OwnedRuns, RunHandle
from stepchain_tui.engine.scheduler import Scheduler
from stepchain_tui.engine.source import RunSource
from stepchain_tui.engine.takeover import is_owner_dead
from stepchain_tui.engine.telemetry import Observer
from stepchain_tui.executors.factory import Executors
from stepchain_tui.executors.sources import learn_settings_types
from stepchain_tui.llm.prices import load_prices
from stepchain_tui.plan.check import require_valid
from stepchain_tui.run.state import RunState
from stepchain_tui.store.base import AbstractStore, Command
from stepchain_tui.store.imports import require_trust

COMMAND_POLL = 0.05
"""Seconds between two looks for commands of other processes."""


_engines_of: WeakKeyDictionary[AbstractStore, int] = WeakKeyDictionary()
"""How many open engines of this process use a store."""


class Engine:
    """Carries out runs in the current event loop. Use it with `async with`.

    Args:
        store: Where runs are kept; opened and closed by the engine.
        settings: The user's settings.
        clock: Time.
        scheduler: The order of ready steps.
        client: An `LLMClient` for prompt steps instead of the one the environment describes.
        compression: A `llm.history.CompressionStrategy` for prompts that do not say how much of earlier outputs goes
            into them; without one none does.
        telemetry: Gets the spans of runs, see `core.telemetry`; where the settings say, if None.
    """

    def __init__(
        self,
        store: AbstractStore,
        *,
        settings: Settings | None = None,
        clock: Clock | None = None,
        scheduler: Scheduler | None = None,
        client: Any = None,
        compression: Any = None,
        telemetry: Any = None,
    ) -> None:
        self._compression = compression
        self.store = store
        self._settings = settings or Settings()
        if self._settings.executors:
            learn_settings_types(self._settings)
        self.clock = clock or SystemClock()
        self._scheduler = scheduler or Scheduler()
        self._client = client
        self._observer = Observer(telemetry, self._settings.telemetry, store)
        self._core: EngineCore | None = None
        self._owned: OwnedRuns | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def core(self) -> EngineCore:
        """The parts that runs share; there after `open`."""
        if self._core is None:
            raise InternalError("the engine is not open")
        return self._core

    @property
    def _runs(self) -> OwnedRuns:
        if self._owned is None:
            raise InternalError("the engine is not open")
        return self._owned

    @property
    def _drivers(self) -> dict[str, Driver]:
        return self._owned.drivers if self._owned is not None else {}

    @property
    def live_runs(self) -> tuple[str, ...]:
        """Ids of the runs that this process carries out."""
        return tuple(self._drivers)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the store and get ready. Engines at work side by side may share a store: the last one closes it."""
        _engines_of[self.store] = _engines_of.get(self.store, 0) + 1
        try:
            await self.store.open()
        except BaseException:
            await self._close_store()
            raise
        recorder = Recorder(self.store, self._store_failed)
        folder = self.store.folder
        executors = Executors(
            settings=self._settings,
            client=self._client,
            on_workers_changed=self._workers_changed,
            server_logs=None if folder is None else folder.with_suffix(".servers"),
        )
        self._core = EngineCore(
            self.store,
            recorder,
            executors,
            settings=self._settings,
            clock=self.clock,
            scheduler=self._scheduler,
            breakers=await self.store.read_breakers(),
            compression=self._compression,
            prices=await asyncio.to_thread(load_prices, prices_path()),
        )
        self._owned = OwnedRuns(self._core)
        self._watcher = asyncio.get_running_loop().create_task(self._watch_commands(), name="commands")
        self._watcher.add_done_callback(self._watcher_ended)

    async def interrupt(self, reason: str) -> None:
        """Interrupt what is live, so that it can be resumed, and return when that is durable."""
        drivers = list(self._drivers.values())
        for driver in drivers:
            driver.shut_down(reason)
        if drivers:
            await asyncio.wait([driver.done for driver in drivers])

    async def close(self, reason: str = "its engine ended") -> None:
        """Interrupt what is live, end all workers and close the store."""
        if self._core is None:
            return
        await self.interrupt(reason)
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        self._core.deadlines.close()
        with contextlib.suppress(StoreError):  # runs that could not be stored have been told already
            await self._core.recorder.settle()
        self._core.recorder.close()
        await self._core.executors.close()
        await self._observer.close()
        self._core = None
        await self._close_store()

    async def _close_store(self) -> None:
        others = _engines_of.get(self.store, 1) - 1
        if others:
            _engines_of[self.store] = others
        else:
            _engines_of.pop(self.store, None)
            await self.store.close()

    # --- runs

    async def start(
        self,
        source: RunSource,
        *,
        run_id: str | None = None,
        fresh: bool = False,
        resume: bool = True,
        detach: bool = False,
    ) -> RunHandle:
        """Start a run of a plan; a run id that is known goes on with it.

        Args:
            source: The plan with its inputs.
            run_id: The run's id, made if None.
            fresh: A known run starts over, its old attempts stay.
            resume: A known run may be gone on with; False is the same as `fresh`.
            detach: Let go of the run when only a person's answer can go on with it.

        Raises:
            PlanError: The plan cannot run.
            RunLockedError: A living engine owns the run.
        """
        self._raise_failure()
        self._observer.prepare()
        if not source.checked:
            require_valid(source.plan, source.folder)
        source.know_servers(self._settings.mcp_servers)
        run_id = check_run_id(run_id) if run_id else new_run_id_at(self.clock.now())
        lock = self.store.acquire_run(run_id)
        try:
            state = await self._runs.known_state(run_id)
            if state is not None:
                handle = await self._runs.revive(state, lock, source, fresh=fresh or not resume, detach=detach)
                return self._observer.watch(handle)
            journal = self._runs.journal(run_id, RunState())
            journal.set_redactor(source.redactor)
            create(journal, source)
            return self._observer.watch(self._runs.begin(journal, source, lock, detach=detach))
        except BaseException:
            self._runs.let_go(run_id, lock)
            raise

    async def fork(
        self,
        run_id: str,
        step_id: str,
        *,
        new_run_id: str | None = None,
        inputs: dict[str, Any] | None = None,
        detach: bool = False,
    ) -> RunHandle:
        """Start a new run from a step of another: what does not follow that step is taken over with its origin.

        Args:
            run_id: The parent, live or not; it is not touched.
            step_id: The step that is carried out anew, with all that follows it.
            new_run_id: The new run's id, made if None; it must not be known.
            inputs: Values of the secret inputs, which are never stored.
            detach: As for `start`.

        Raises:
            UnknownRunError: The store does not hold the parent.
            UnknownStepError: The parent has no such step.
            UntrustedRunError: The parent was imported, and nobody has said yet that they trust its plan.
            CommandRefusedError: The new id is taken.
            InputError: A secret input is not given again.
        """
        self._raise_failure()
        self._observer.prepare()
        summary = await self.store.get_run(run_id)
        require_trust(summary.run_id, summary.imported)
        parent = await self.store.load_state(summary.run_id)
        refuse_fork(parent)
        source = source_of(parent, inputs)
        new_run_id = check_run_id(new_run_id) if new_run_id else new_run_id_at(self.clock.now())
        lock = self.store.acquire_run(new_run_id)
        try:
            if await self._runs.known_state(new_run_id) is not None:
                raise CommandRefusedError(f"there is a run '{new_run_id}' already", hint="Give another id.")
            journal = self._runs.journal(new_run_id, RunState())
            source.know_servers(self._settings.mcp_servers)
            journal.set_redactor(source.redactor)
            fork(journal, source, parent, step_id)
            return self._observer.watch(self._runs.begin(journal, source, lock, detach=detach))
        except BaseException:
            self._runs.let_go(new_run_id, lock)
            raise

    async def replay(
        self,
        run_id: str,
        *,
        plan_path: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        live: Collection[str] = (),
        new_run_id: str | None = None,
        detach: bool = False,
    ) -> RunHandle:
        """Start a new run that takes every exchange with the outside from the recording of another one.

        Args:
            run_id: The recorded run; it is not touched.
            plan_path: The plan's file, instead of the plan that the run keeps.
            inputs: Inputs of that plan that are other ones now, or that the recording has no value of.
            live: Kinds of steps that are carried out all the same.
            new_run_id: The new run's id, made if None; it must not be known.
            detach: As for `start`.

        Raises:
            CommandRefusedError: The new id is taken.
            StepChainError: The run cannot be replayed so, see `recording.prepare_replay`.
        """
        self._raise_failure()
        servers = self._settings.mcp_servers
        source = await prepare_replay(self.store, run_id, servers, plan_path=plan_path, inputs=inputs or {}, live=live)
        new_run_id = check_run_id(new_run_id) if new_run_id else new_run_id_at(self.clock.now())
        return await self._runs.begin_replay(source, new_run_id, detach=detach)

    async def rehearsal(self, run_id: str) -> Rehearsal:
        """Return a copy of a run to try commands on; the run itself is not touched, whoever carries it out.

        Raises:
            UnknownRunError: The store does not hold it.
        """
        run_id = (await self.store.get_run(run_id)).run_id
        if run_id in self._drivers:
            await self.core.recorder.settle()
        summary, state = await self.store.get_run(run_id), await self.store.load_state(run_id)
        owned = run_id in self._drivers or self.store.owner_alive(run_id)
        return Rehearsal(self.core, state, owned=owned, died=not owned and is_owner_dead(summary, state))

    async def resume(self, run_id: str, *, inputs: dict[str, Any] | None = None, detach: bool = False) -> RunHandle:
        """Go on with a run, with the plan it keeps; a run that succeeded is left as it is.

        Raises:
            UnknownRunError: The store does not hold it.
            RunLockedError: A living engine owns it.
            InputError: A secret input is not given again.
        """
        return await self._go_on(run_id, inputs, detach, None)

    async def rerun(
        self,
        run_id: str,
        step_id: str,
        *,
        downstream: bool = False,
        failed: bool = False,
        inputs: dict[str, Any] | None = None,
        detach: bool = False,
        sender: str = "",
    ) -> RunHandle:
        """Run one step of a stopped run again, with all that follows it if `downstream`, or its failed items only."""
        arguments = {"step": step_id, "downstream": downstream, "failed": failed}
        command = self._command(run_id, "rerun", {name: value for name, value in arguments.items() if value}, sender)
        return await self._go_on(run_id, inputs, detach, command)

    async def apply(self, command: Command) -> dict[str, Any]:
        """Apply a command to a run that this process carries out, or that nobody does; returns its answer.

        Raises:
            RunLockedError: A living engine of another process owns the run: send the command to the store.
        """
        driver = self._drivers.get(command.run_id)
        if driver is not None and driver.leaving:
            await asyncio.wait([driver.done])
            driver = self._drivers.get(command.run_id)
        if driver is not None:
            answer = apply_command(driver, command)
            await self.core.recorder.settle()
            return answer
        return await self._runs.apply_at_rest(command)

    def detach(self) -> None:
        """Let go of runs that only a person's answer can go on with: whoever started them has gone."""
        for driver in list(self._drivers.values()):
            driver.detach_when_waiting()

    # --- how a run comes to be carried out

    async def _go_on(
        self, run_id: str, inputs: dict[str, Any] | None, detach: bool, command: Command | None
    ) -> RunHandle:
        self._raise_failure()
        self._observer.prepare()
        run_id = (await self.store.get_run(run_id)).run_id
        lock = self.store.acquire_run(run_id)
        try:
            state = await self.store.load_state(run_id)
            source = source_of(state, inputs)
            return self._observer.watch(await self._runs.revive(state, lock, source, detach=detach, command=command))
        except BaseException:
            self._runs.let_go(run_id, lock)
            raise

    def _command(self, run_id: str, name: str, arguments: dict[str, Any], sender: str) -> Command:
        now = self.clock.now()
        return Command(
            id=f"local-{new_run_id_at(now)}",
            run_id=run_id,
            command=name,
            arguments=arguments,
            sender=sender or f"process {os.getpid()}",
            sent_at=now,
        )

    # --- what the outside tells

    async def _watch_commands(self) -> None:
        """Take commands that other processes store for our runs.

        Asks for the store's version every 50 ms instead of listening to its changes: our own commits, thousands a
        second, must not wake this.
        """
        seen = -1
        while True:
            await asyncio.sleep(COMMAND_POLL)
            if not self._drivers or (version := await self.store.data_version()) == seen:
                continue
            seen = version
            for command in await self.store.pending_commands(list(self._drivers)):
                driver = self._drivers.get(command.run_id)
                if driver is not None and not driver.leaving and not driver.done.done():
                    apply_command(driver, command)

    def _watcher_ended(self, task: asyncio.Task[None]) -> None:
        """Stop the runs loudly: nobody could steer them any more."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._store_failed(error)

    async def _workers_changed(self, workers: list[dict[str, Any]]) -> None:
        """Return once it is durable which workers we have: a new one gets its first call only then."""
        if self._core is not None and self._drivers:
            self._core.recorder.workers(list(self._drivers), workers)
            await self._core.recorder.settle()

    def _raise_failure(self) -> None:
        """Raise what made the store fail, if it did: nothing is stored since."""
        if self.core.recorder.failure is not None:
            raise self.core.recorder.failure

    def _store_failed(self, error: BaseException) -> None:
        for driver in list(self._drivers.values()):
            driver.abort(error)
