"""One process of bubblewrap: its pipes on the event loop, and its end together with all that runs inside.

The process is held by what it waits for: nothing of a stranger runs before the request is sent. If its owner dies, at
any moment, the pipe that brings the request closes, and what runs inside ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil

from stepchain_tui.sandbox.bubblewrap import Bubblewrap
from stepchain_tui.sandbox.seccomp import seccomp_program

_CHUNK = 65_536
_END_LIMIT = 3.0
"""Seconds that the end of all processes is waited for after they were killed."""

Take = Callable[[bytes], None]


class BwrapProcess:
    """A sandbox that waits for its request. To be made, and used, on a running event loop.

    Args:
        way: How bubblewrap is started here.
        network: Leave the network to what runs inside.
        on_stdout: Gets what is printed, as it comes.
        on_stderr: The same for the other stream; what bubblewrap itself complains of comes here too.
        on_result: Gets the answer, piece by piece.

    Attributes:
        pid: The process id of bubblewrap.
        started_at: When it started, seconds since the epoch.
        exited: Done when bubblewrap has ended, and with it all that ran inside.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, way: Bubblewrap, *, network: bool, on_stdout: Take, on_stderr: Take, on_result: Take) -> None:
        self._loop = asyncio.get_running_loop()
        self._takes: dict[int, Take] = {}
        self._request = memoryview(b"")
        self._info = b""
        self._inside: int | None = None
        self._is_to_end = False
        self.exited: asyncio.Future[None] = self._loop.create_future()
        takes = (on_stdout, on_stderr, on_result, self._take_info)
        ours: list[int] = []
        theirs: list[int] = []
        try:
            for _ in takes:
                read, write = os.pipe()
                ours.append(read)
                theirs.append(write)
            read, self._lifeline = os.pipe()
            ours.append(self._lifeline)
            theirs.append(read)
            theirs.append(_filter(network))
            out, err, result, info, request, system_calls = theirs
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [
                    *way.arguments(filter_fd=system_calls, info_fd=info, network=network),
                    *way.interpreter(),
                    "-c",
                    _program(),
                    str(result),
                ],
                env={},
                cwd="/",
                stdin=request,
                stdout=out,
                stderr=err,
                pass_fds=(result, info, system_calls),
                start_new_session=True,
            )
        except BaseException:
            for descriptor in ours:
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self.pid = self._process.pid
        self.started_at = _started_at(self.pid)
        self._outside = os.pidfd_open(self.pid)
        self._loop.add_reader(self._outside, self._see_exit)
        os.set_blocking(self._lifeline, False)
        for read, take in zip(ours, takes, strict=False):
            self._takes[read] = take
            os.set_blocking(read, False)
            self._loop.add_reader(read, self._read, read)

    def send(self, request: bytes) -> None:
        """Let the sandbox begin with `request`; the rest of it is sent as the pipe takes it."""
        self._request = memoryview(b"%d\n" % len(request) + request)
        self._loop.add_writer(self._lifeline, self._write)

    def kill(self) -> None:
        """End all that runs inside at once; bubblewrap then ends by itself, and leaves no zombie behind."""
        self._is_to_end = True
        if self._inside is not None:  # before that, bubblewrap's own end would leave what it has just begun for ever
            _kill(self._inside)

    async def end(self) -> int:
        """Kill what is left, take what is still in the pipes, and return bubblewrap's exit code.

        Nothing of the sandbox is left when this returns; a cancellation waits for that.
        """
        self.kill()
        ending = self._loop.create_task(self._gone())
        cancelled = False
        while not ending.done():
            try:
                await asyncio.shield(ending)
            except asyncio.CancelledError:
                cancelled = True
        self._close()
        if cancelled:
            raise asyncio.CancelledError
        return ending.result()

    async def _gone(self) -> int:
        await asyncio.wait([self.exited], timeout=_END_LIMIT / 2)
        if not self.exited.done():
            _kill(self._outside)
            await asyncio.wait([self.exited], timeout=_END_LIMIT / 2)
        if self._inside is not None and not _ended(self._inside):
            gone = asyncio.Event()
            self._loop.add_reader(self._inside, gone.set)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(gone.wait(), _END_LIMIT)
            self._loop.remove_reader(self._inside)
        for read in list(self._takes):
            while self._read(read):
                pass
        code = self._process.poll()
        return -signal.SIGKILL if code is None else code

    def _close(self) -> None:
        self._stop_writing()
        for read in list(self._takes):
            self._forget(read)
        self._loop.remove_reader(self._outside)
        for descriptor in (self._outside, self._inside, self._lifeline):
            if descriptor is not None:
                os.close(descriptor)

    def _see_exit(self) -> None:
        self._loop.remove_reader(self._outside)
        if not self.exited.done():
            self.exited.set_result(None)

    def _read(self, descriptor: int) -> bool:
        """Take what is in a pipe; False where there is nothing now, or nothing more ever."""
        if descriptor not in self._takes:
            return False
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._forget(descriptor)
            return False
        self._takes[descriptor](data)
        return True

    def _forget(self, descriptor: int) -> None:
        del self._takes[descriptor]
        self._loop.remove_reader(descriptor)
        os.close(descriptor)

    def _write(self) -> None:
        try:
            self._request = self._request[os.write(self._lifeline, self._request[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._request = memoryview(b"")
        if not self._request:
            self._stop_writing()

    def _stop_writing(self) -> None:
        self._loop.remove_writer(self._lifeline)

    def _take_info(self, data: bytes) -> None:
        """Learn which process is the first one inside."""
        self._info += data
        with contextlib.suppress(ValueError, KeyError, ProcessLookupError):
            if self._inside is None:
                self._inside = os.pidfd_open(json.loads(self._info)["child-pid"])
                if self._is_to_end:
                    _kill(self._inside)


@functools.cache
def _program() -> str:
    return Path(__file__).with_name("inside.py").read_text(encoding="utf-8")


def _filter(network: bool) -> int:
    """Return a descriptor that brings the filter of system calls."""
    read, write = os.pipe()
    os.write(write, seccomp_program(network=network) or b"")
    os.close(write)
    return read


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGKILL)


def _started_at(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def _ended(process: int) -> bool:
    """Return whether the process of a pidfd has ended."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(0))
