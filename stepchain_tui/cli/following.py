"""Following a run's events as they become durable: out of the store, so that what is shown is what is kept."""

from __future__ import annotations

import asyncio
import sys
from typing import Protocol

from stepchain_tui.cli.streams import forget
from stepchain_tui.cli.text import safe_json
from stepchain_tui.run.events import decode_event
from stepchain_tui.run.state import RunState
from stepchain_tui.store import AbstractStore


class Watcher(Protocol):
    """Is told every new event of a run, as its JSON, once it is durable.

    Attributes:
        needs_state: Whether it is told the state before the first new event.
    """

    needs_state: bool

    def begin(self, state: RunState) -> None:
        """Take the run as it was before the first new event; it belongs to the watcher."""
        ...

    def event(self, data: bytes) -> None:
        """Take one more event."""
        ...

    def tick(self) -> None:
        """Note that some time has passed."""
        ...

    def end(self) -> None:
        """Note that there will be no more events."""
        ...


class Quiet:
    """Watches without a word."""

    needs_state = False

    def begin(self, state: RunState) -> None:
        """Do nothing."""

    def event(self, data: bytes) -> None:
        """Do nothing."""

    def tick(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


class JsonLines(Quiet):
    """Prints each event as one line of JSON; a reader that went away does not stop the run."""

    def __init__(self) -> None:
        self._reader_gone = False

    def event(self, data: bytes) -> None:
        """Print and flush one event."""
        if self._reader_gone:
            return
        try:
            sys.stdout.buffer.write(safe_json(data) + b"\n")
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            self._reader_gone = True
            forget(sys.stdout)


class Follower:
    """Hands a run's new events to a watcher, each once and in order.

    Args:
        store: An open store.
        run_id: The run.
        after: The last event that is not new.
        watcher: Who is told.
    """

    def __init__(self, store: AbstractStore, run_id: str, after: int, watcher: Watcher) -> None:
        self._store = store
        self._run_id = run_id
        self._seq = after
        self._watcher = watcher
        self._news = asyncio.Event()

    def wake(self, *_: object) -> None:
        """Note that there may be new events."""
        self._news.set()

    async def drain(self) -> None:
        """Hand over what is new."""
        async for seq, _, _, data in self._store.read_raw_events(self._run_id, after=self._seq):
            self._seq = seq
            self._watcher.event(data)

    async def follow(self) -> None:
        """Hand over events until cancelled."""
        while True:
            self._news.clear()
            await self.drain()
            try:
                async with asyncio.timeout(1.0):
                    await self._news.wait()
            except TimeoutError:
                self._watcher.tick()


async def state_before(store: AbstractStore, run_id: str, after: int) -> RunState:
    """Return the fold of a run's events up to and including `after`."""
    state = RunState()
    if after:
        async for _, _, _, data in store.read_raw_events(run_id, limit=after):
            state.apply(decode_event(data))
    return state
