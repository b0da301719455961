"""The runs that one engine process carries out: how one is begun, taken up again, steered at rest, and let go of."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil

from stepchain_tui.core.errors import CommandRefusedError, UnknownRunError
from stepchain_tui.engine.control import apply_command
from stepchain_tui.engine.core import EngineCore
from stepchain_tui.engine.driver import Driver
from stepchain_tui.engine.fork import create
from stepchain_tui.engine.recorder import Journal, Listener, Recorder
from stepchain_tui.engine.recording import go_on_replaying, recording_of_replay
from stepchain_tui.engine.replay_results import take_over_results
from stepchain_tui.engine.revival import go_on, source_at_rest
from stepchain_tui.engine.source import RunSource
from stepchain_tui.engine.steering import refusal
from stepchain_tui.engine.takeover import end_what_was_left, is_owner_dead, record_death
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import RunStatus
from stepchain_tui.store.base import Command, RunLock

STALE_COMMAND = 30.0
"""Seconds after which a command that nobody took is refused: its sender has long gone."""
_NEED_AN_ENGINE = ("resume", "rerun")
"""Commands that only begin something: of no use to a run that nobody carries out."""


class RunHandle:
    """One run as whoever started it sees it."""

    def __init__(self, driver: Driver | None, state: RunState, recorder: Recorder) -> None:
        self._driver = driver
        self._recorder = recorder
        self.state = state
        self.run_id = state.run_id

    async def wait(self) -> RunStatus:
        """Return the status in which this process let go of the run.

        Raises:
            StoreError: The store failed; what was reported before is in it.
        """
        if self._driver is None:
            return self.state.status
        return await asyncio.shield(self._driver.done)

    @property
    def live(self) -> bool:
        """Whether this process is still carrying the run out."""
        return self._driver is not None and not self._driver.done.done()

    @property
    def driver(self) -> Driver | None:
        """What carries the run out; None where this process does not."""
        return self._driver

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with events once they are durable; returns what ends it."""
        return self._recorder.subscribe(self.run_id, listener)


class OwnedRuns:
    """The runs of one open engine. Whoever asks for one holds its lock, which is let go of with the run.

    Args:
        core: The engine's shared parts.

    Attributes:
        drivers: The runs that are carried out, by id.
        locks: Their locks.
    """

    def __init__(self, core: EngineCore) -> None:
        self._core = core
        self._store = core.store
        self.drivers: dict[str, Driver] = {}
        self.locks: dict[str, RunLock] = {}

    def journal(self, run_id: str, state: RunState) -> Journal:
        """Return what records a run's events."""
        return Journal(run_id, state, self._core.recorder, self._core.clock)

    async def known_state(self, run_id: str) -> RunState | None:
        """Return a run as it is stored, or None where there is none of that id."""
        try:
            return await self._store.load_state(run_id)
        except UnknownRunError:
            return None

    # --- carrying out

    def begin(self, journal: Journal, source: RunSource, lock: RunLock, *, detach: bool) -> RunHandle:
        """Carry a run out that was just created."""
        self._core.recorder.touch_all(journal.run_id, journal.state)
        journal.emit(e.RunStarted, owner=_this_process(), version=_version())
        return self._drive(journal, source, lock, detach=detach)

    async def begin_replay(self, source: RunSource, run_id: str, *, detach: bool) -> RunHandle:
        """Carry out a new run that replays another one, which its source has the recording of.

        Raises:
            CommandRefusedError: The new id is taken.
        """
        lock = self._store.acquire_run(run_id)
        try:
            if await self.known_state(run_id) is not None:
                raise CommandRefusedError(f"there is a run '{run_id}' already", hint="Give another id.")
            journal = self.journal(run_id, RunState())
            journal.set_redactor(source.redactor)
            create(journal, source)
            take_over_results(journal, source)
            return self.begin(journal, source, lock, detach=detach)
        except BaseException:
            self.let_go(run_id, lock)
            raise

    async def revive(
        self,
        state: RunState,
        lock: RunLock,
        source: RunSource,
        *,
        detach: bool,
        fresh: bool = False,
        command: Command | None = None,
    ) -> RunHandle:
        """Go on with a run that nobody carries out, or begin with a command to it.

        Raises:
            CommandRefusedError: The command does not fit; it changed nothing.
        """
        run_id = state.run_id
        journal = self.journal(run_id, state)
        await self._acquaint(source, run_id)
        if state.replay_of:
            go_on_replaying(source, await recording_of_replay(self._store, state), state.live)
        journal.set_redactor(source.redactor)
        await self._bury_owner(journal)
        await self._refuse_old_commands(journal)
        anything = go_on(journal, source, self._core.hasher, fresh=fresh, tries=command is None)
        if command is None and not anything:
            await self._core.recorder.settle()
            self.let_go(run_id, lock)
            return RunHandle(None, state, self._core.recorder)
        reason = "fresh start" if fresh else "resumed"
        if command is not None:
            await self._apply_first(journal, source, command)
            reason = f"{command.command} of {command.arguments['step']}"
        journal.emit(e.RunResumed, reason=reason, owner=_this_process())
        return self._drive(journal, source, lock, detach=detach)

    async def _apply_first(self, journal: Journal, source: RunSource, command: Command) -> None:
        """Apply a command before the run goes on: if it is refused, the run stays as it was."""
        driver = Driver(self._core, source, journal, detach=True, passive=True)
        driver.start()
        answer = apply_command(driver, command)
        if not answer["ok"]:
            await self._core.recorder.settle()
            raise refusal(answer)

    def _drive(self, journal: Journal, source: RunSource, lock: RunLock, *, detach: bool) -> RunHandle:
        run_id, recorder = journal.run_id, self._core.recorder
        recorder.owner(run_id, _this_process())
        recorder.workers([run_id], self._core.executors.workers())
        driver = Driver(self._core, source, journal, detach=detach)
        self.drivers[run_id] = driver
        self.locks[run_id] = lock
        driver.on_left = partial(self._left, run_id)
        try:
            driver.start()
        except BaseException as error:
            driver.abort(error)  # else closing the engine would wait for a run that never ends
            raise
        return RunHandle(driver, journal.state, recorder)

    # --- at rest

    async def apply_at_rest(self, command: Command) -> dict[str, Any]:
        """Apply a command to a run that nobody carries out; returns its answer.

        Raises:
            RunLockedError: A living engine carries it out.
        """
        lock = self._store.acquire_run(command.run_id)
        try:
            state = await self._store.load_state(command.run_id)
            if command.command in _NEED_AN_ENGINE:
                message = f"nobody carries run '{command.run_id}' out"
                return {"ok": False, "kind": "refused", "message": message, "hint": "Resume or rerun it from here."}
            journal = self.journal(command.run_id, state)
            source = source_at_rest(state)
            await self._acquaint(source, command.run_id)
            journal.set_redactor(source.redactor)
            await self._bury_owner(journal)
            driver = Driver(self._core, source, journal, detach=True, passive=True)
            driver.start()
            answer = apply_command(driver, command)
            await self._core.recorder.settle()
            return answer
        finally:
            self._store.set_redactor(command.run_id, None)
            lock.release()

    async def _acquaint(self, source: RunSource, run_id: str) -> None:
        """Tell the source of a known run what its plan does not say."""
        source.know_servers(self._core.settings.mcp_servers)
        mark = (await self._store.get_run(run_id)).imported
        source.answers_after = 0 if mark is None else mark.last_seq

    async def _bury_owner(self, journal: Journal) -> None:
        """End what a dead owner left running, then record its death."""
        state, recorder = journal.state, self._core.recorder
        summary = await self._store.get_run(state.run_id)
        if not is_owner_dead(summary, state):
            return
        ended = await end_what_was_left(self._store, state)
        record_death(journal)
        recorder.touch_all(state.run_id, state)
        recorder.owner(state.run_id, None)
        recorder.workers([state.run_id], [])
        if ended:
            await recorder.settle()

    async def _refuse_old_commands(self, journal: Journal) -> None:
        now = self._core.clock.now()
        for command in await self._store.pending_commands([journal.run_id]):
            if (now - command.sent_at).total_seconds() > STALE_COMMAND:
                answer = {"ok": False, "message": "nobody took this command in time", "kind": "refused"}
                self._core.recorder.answer(command.id, answer)

    # --- letting go

    def _left(self, run_id: str) -> None:
        if self.drivers.pop(run_id, None) is not None:
            self._store.set_redactor(run_id, None)
        if (lock := self.locks.pop(run_id, None)) is not None:
            lock.release()

    def let_go(self, run_id: str, lock: RunLock) -> None:
        """Release the lock of a run that did not come to be carried out."""
        if run_id not in self.drivers:
            lock.release()


def _this_process() -> e.OwnerRecord:
    return e.OwnerRecord(pid=os.getpid(), process_started_at=psutil.Process().create_time(), host=socket.gethostname())


def _version() -> str:
    from stepchain_tui import __version__

    return __version__
