"""One sandbox worker: a `monty` process of our own, its pid, and its end.

pydantic_monty has a pool of workers, but does not say which process serves which snippet, so that one could be
stopped. Each `Worker` is therefore a pool of one. The synchronous pool is used on purpose: processes that used the
asynchronous one died with SIGABRT when the interpreter ended.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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
        ImportError: pydantic_monty is not installed.
        OSError: The `monty` program cannot be found.
        RuntimeError: It cannot be started.
        MontyError: It does not answer.
    """

    def __init__(self) -> None:
        with _STARTING:
            before = _children()
            pool = _start_quietly() or _start(None)
            after = _children()
        new = [process for pid, process in after.items() if pid not in before]
        if len(new) != 1:
            pool.__exit__(None, None, None)
            raise RuntimeError(f"{len(new)} new processes where one worker was started")
        self._pool = pool
        self._process = new[0]
        self.process = WorkerProcess(new[0].pid, new[0].create_time())
        """The worker's process."""

    def checkout(self, name: str, limits: ResourceLimits) -> MontySession:
        """Return a fresh session, to be entered; sleeping is left to the caller's `os` handler."""
        return self._pool.checkout(script_name=name, limits=limits, os_policy={"sleep": "call_host"})

    def is_alive(self) -> bool:
        """Return whether the process is still there; somebody may have killed it while it waited."""
        try:
            return bool(self._process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def computed(self) -> float:
        """Return the seconds that the process has computed since it started; 0.0 where it has ended."""
        try:
            times = self._process.cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def pause(self) -> None:
        """Stop the process until `go_on`; it can be killed all the same."""
        with contextlib.suppress(psutil.Error):
            self._process.suspend()

    def go_on(self) -> None:
        """Let a process that was stopped go on."""
        with contextlib.suppress(psutil.Error):
            self._process.resume()

    def kill(self) -> None:
        """End the process at once; the snippet in it fails with `MontyCrashedError`. Any thread may call it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process.kill()

    def close(self) -> None:
        """End the process and wait for it."""
        self._pool.__exit__(None, None, None)


def _start(program: str | None) -> Monty:
    """Return a pool of one worker that has answered, so that its process is there and is what it will be."""
    from pydantic_monty import Monty

    pool = Monty(min_processes=1, max_processes=1, binary_path=program)
    pool.__enter__()
    try:
        with pool.checkout() as session:
            session.feed_run("None")
    except BaseException:
        pool.__exit__(None, None, None)
        raise
    return pool


def _start_quietly() -> Monty | None:
    """Return a pool whose worker writes its last words nowhere, or None where that cannot be had.

    A worker inherits our stderr and reports there that it ran out of memory or stack, which would tear up a screen;
    and a ctrl+c in our terminal would reach it before we have stopped what it does. Only the program it is started
    with can change that: a script that lives until the worker has answered.
    """
    from pydantic_monty import MontyError

    try:
        from pydantic_monty._binary import find_monty_binary

        with tempfile.TemporaryDirectory(prefix="stepchain-") as folder:
            script = Path(folder) / "monty-quiet"
            program = shlex.quote(find_monty_binary())
            script.write_text(f"#!/bin/sh\ntrap '' INT HUP\nexec {program} \"$@\" 2>/dev/null\n")
            script.chmod(0o700)
            return _start(str(script))
    except (ImportError, OSError, RuntimeError, MontyError):
        return None  # such as a temporary folder from which nothing may be run


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
