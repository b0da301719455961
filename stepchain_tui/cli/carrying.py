"""Carrying a run out in the foreground: an engine of our own, signals, and what the outcome means to the caller."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from stepchain_tui.cli.border import FAILED, INTERRUPTED, STOPPED, USAGE
from stepchain_tui.cli.following import Follower, Watcher, state_before
from stepchain_tui.cli.user_settings import user_settings
from stepchain_tui.core.errors import StepChainError, UnknownRunError
from stepchain_tui.core.paths import store_path
from stepchain_tui.engine import Engine, EngineService, RunHandle
from stepchain_tui.run import RunState, RunStatus
from stepchain_tui.store import SQLiteStore

EXIT_CODES = {
    RunStatus.SUCCEEDED: 0,
    RunStatus.FAILED: FAILED,
    RunStatus.PAUSED: STOPPED,
    RunStatus.WAITING: STOPPED,
    RunStatus.CANCELLED: STOPPED,
    RunStatus.INTERRUPTED: INTERRUPTED,
}

Begin = Callable[[EngineService], Awaitable[RunHandle]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run stood when this process let go of it.

    Attributes:
        state: The run.
        status: Its status; `interrupted` where a signal ended us first.
        carried: Whether this process did anything; False for a run that had succeeded already.
        seconds: How long it took.
    """

    state: RunState
    status: RunStatus
    carried: bool
    seconds: float

    @property
    def exit_code(self) -> int:
        """What the command exits with."""
        return EXIT_CODES.get(self.status, USAGE)


def open_engine(given: str | None) -> Engine:
    """Return an engine on the store that the user named; open it with `async with`."""
    settings = user_settings()
    return Engine(SQLiteStore(store_path(given), durability=settings.durability), settings=settings)


def carry_out(
    given: str | None,
    begin: Begin,
    watcher: Watcher,
    *,
    run_id: str | None,
    owned: Callable[[RunHandle], None] | None = None,
) -> Outcome:
    """Carry a run out until it ends, is let go of, or a signal interrupts it.

    Args:
        given: The store that the user named, or None.
        begin: Starts the run, or goes on with it.
        watcher: Is told the run's new events.
        run_id: The run's id, or a prefix of it, where it may be known already.
        owned: Called as soon as this process owns the run, or it turned out that there is nothing to do.
    """
    return asyncio.run(_carry_out(open_engine(given), begin, watcher, run_id, owned))


async def _carry_out(
    engine: Engine, begin: Begin, watcher: Watcher, run_id: str | None, owned: Callable[[RunHandle], None] | None
) -> Outcome:
    async with engine:
        known = await _known(engine, run_id) if run_id else None
        began = engine.clock.monotonic()
        with _signals() as interrupted:
            handle = await begin(EngineService(engine, detach=True))
            carried = handle.live
            last = known[1] if known is not None and known[0] == handle.run_id else 0
            follower = Follower(engine.store, handle.run_id, last, watcher)
            unsubscribe = handle.subscribe(follower.wake)
            if owned is not None:
                await engine.core.recorder.settle()
                owned(handle)
            if watcher.needs_state:
                watcher.begin(await state_before(engine.store, handle.run_id, last))
            following = asyncio.create_task(follower.follow(), name="follow")
            try:
                status = await _until_left(engine, handle, interrupted)
            except BaseException:
                with contextlib.suppress(StepChainError):  # the store failed: that is told, not what follows from it
                    await _last_words(follower, following, watcher)
                raise
            unsubscribe()
            await _last_words(follower, following, watcher)
        return Outcome(handle.state, status, carried, engine.clock.monotonic() - began)


async def _last_words(follower: Follower, following: asyncio.Task[None], watcher: Watcher) -> None:
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    try:
        await follower.drain()
    finally:
        watcher.end()


async def _known(engine: Engine, run_id: str) -> tuple[str, int] | None:
    """Return a run's whole id and its last event, or None.

    The run's row may be behind its events where its engine was killed.
    """
    try:
        summary = await engine.store.get_run(run_id)
    except UnknownRunError:
        return None
    last = summary.last_seq
    async for seq, _, _, _ in engine.store.read_raw_events(summary.run_id, after=last):
        last = seq
    return summary.run_id, last


async def _until_left(engine: Engine, handle: RunHandle, interrupted: asyncio.Event) -> RunStatus:
    """Return the status in which the run was let go of; a signal lets go of it first."""
    left = asyncio.ensure_future(handle.wait())
    signalled = asyncio.create_task(interrupted.wait(), name="signals")
    await asyncio.wait({left, signalled}, return_when=asyncio.FIRST_COMPLETED)
    if not left.done():
        await engine.interrupt("interrupted by the user")
    signalled.cancel()
    return await left


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Set the event on the first SIGINT, SIGTERM or SIGHUP; end the process at once on the second."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()

    def take() -> None:
        if interrupted.is_set():
            with contextlib.suppress(OSError):
                os.write(sys.stderr.fileno(), b"\r\x1b[K" if sys.stderr.isatty() else b"")
            os._exit(INTERRUPTED)
        interrupted.set()

    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # such as by nohup
    ]
    for number in numbers:
        loop.add_signal_handler(number, take)
    try:
        yield interrupted
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
