"""Child processes that lead their own session, and the end of whole process groups.

A child's id stays reserved until `reap`: its end is seen without collecting it, so that signals to its group can never
hit somebody else's. Where the system cannot do that (macOS) the window is a few microseconds. Everything here works
on an event loop in any thread and needs no SIGCHLD handler.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from stepchain_tui.tools.wire import OWNER_VARIABLE

TERM_GRACE = 1.5
"""Seconds between TERM and KILL; with twice `KILL_WAIT` it stays under the 4 s in which work must have ended."""
KILL_WAIT = 1.2
"""Seconds to wait until the system has ended what got KILL."""


class Child:
    """A process that leads its own session and group, watched by one thread that sleeps until it ends.

    Attributes:
        pid: Its id, which is also its group's.
        started_at: When it started, seconds since the epoch.
        exited: Done with the exit code when it ended: 0 and up, or minus the signal.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: Path | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int,
        stderr: int,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            arguments,
            env={**environment, OWNER_VARIABLE: str(os.getpid())},
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.started_at = started_at(self.pid)
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._watcher = threading.Thread(target=self._watch, name=f"stepchain-child-{self.pid}", daemon=True)
        self._watcher.start()

    def record(self) -> dict[str, Any]:
        """Return what a later owner needs to find this process: see `leftovers.end_leftovers`."""
        return {"pid": self.pid, "process_group": self.pid, "process_started_at": self.started_at}

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and all of its group; nothing when none is left."""
        signal_group(self.pid, number)

    async def end(self, grace: float = TERM_GRACE) -> None:
        """End the whole group: TERM, then KILL after `grace` seconds; return when none of it is left.

        Takes 2.4 s longer than `grace` at most. Members that outlive the first process have the rest of the grace too.
        """
        if grace > 0:
            deadline = self._loop.time() + grace
            self.signal_group(signal.SIGTERM)
            await asyncio.wait([self.exited], timeout=grace)
            await wait_for_group(self.pid, deadline - self._loop.time())
        self.signal_group(signal.SIGKILL)
        await asyncio.wait([self.exited], timeout=KILL_WAIT)
        await wait_for_group(self.pid, KILL_WAIT)

    def reap(self) -> None:
        """Let the system forget the process; from now on its id may be somebody else's."""
        self._process.poll()

    def _watch(self) -> None:
        if hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
                code = _exit_code_of_zombie(self.pid)
                if code is not None:
                    self._tell(code)
                    return
        self._tell(self._process.wait())

    def _tell(self, code: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._set, code)

    def _set(self, code: int) -> None:
        if not self.exited.done():
            self.exited.set_result(code)


def started_at(pid: int) -> float:
    """Return when a process started, seconds since the epoch; 0.0 when there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group; nothing when it has no members."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def group_members(group: int) -> list[psutil.Process]:
    """Return the living processes of a group; dead ones that nobody has collected do not count."""
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(pid) == group:
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    members.append(process)
    return members


async def wait_for_group(group: int, timeout: float) -> bool:
    """Return whether a process group has no living member left, waiting `timeout` seconds at most."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    pause = 0.002
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        if not group_members(group):
            return True
        if loop.time() > deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.05)


def exit_words(code: int) -> str:
    """Return an exit code as a person reads it: `was killed by SIGKILL`, `ended with exit code 3`."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _exit_code_of_zombie(pid: int) -> int | None:
    status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    if status is None:
        return None
    return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status
