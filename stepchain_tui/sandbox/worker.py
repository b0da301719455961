"""One sandbox worker: a `monty` process of our own, its pid, and its end.

pydantic_monty has a pool of workers, but does not say which process serves which snippet, so that one could be
stopped. Each `Worker` is therefore a pool of one. The synchronous pool is used on purpose: processes that used the
asynchronous one died with SIGABRT when the interpreter ended.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from pydantic_monty import Monty, MontySession, ResourceLimits

_STARTING = threading.Lock()
"""Workers start one by one: the new child of this process is then the one that was just started."""


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """A process that may have to be ended after we are gone.

    Attributes:
        pid: Its process id.
        started_at: When it started, seconds since the epoch; a pid with another start is somebody else's.
    """

    pid: int
    started_at: float


class Worker:
    """A running `monty` process that carries out one snippet at a time.

    Raises:
        OSError: The `monty` program cannot be found or started.
    """

    def __init__(self) -> None:
        from pydantic_monty import Monty

        with _STARTING:
            before = _children()
            pool: Monty = Monty(min_processes=1, max_processes=1)
            pool.__enter__()
            with pool.checkout() as session:
                session.feed_run("None")
            after = _children()
        self._pool = pool
        new = [process for pid, process in after.items() if pid not in before]
        self._process: psutil.Process | None = new[0] if new else None
        self.process = WorkerProcess(new[0].pid, new[0].create_time()) if new else None
        """The worker's process, or None where it could not be told from others."""

    def checkout(self, name: str, limits: ResourceLimits) -> MontySession:
        """Return a fresh session, to be entered; sleeping is left to the caller's `os` handler."""
        return self._pool.checkout(script_name=name, limits=limits, os_policy={"sleep": "call_host"})

    def kill(self) -> None:
        """End the process at once; the snippet in it fails with `MontyCrashedError`. Any thread may call it."""
        if self._process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.kill()

    def close(self) -> None:
        """End the process and wait for it."""
        self._pool.__exit__(None, None, None)


def _children() -> dict[int, psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for process in psutil.Process(os.getpid()).children():
        with contextlib.suppress(psutil.Error):
            if "monty" in process.name():
                found[process.pid] = process
    return found


def sleep_handler(sleep: Callable[[float], None]) -> Any:
    """Return the handler of what a snippet asks of its surroundings: it may sleep, and nothing else.

    Args:
        sleep: Sleeps that many seconds, or less where the snippet is to end.
    """

    def answer(*, name: str, args: tuple[Any, ...], **_others: Any) -> Any:
        from pydantic_monty import NOT_HANDLED

        if name not in ("time.sleep", "asyncio.sleep"):
            return NOT_HANDLED
        sleep(float(args[0]))
        return None

    return answer
