"""The owner's end of one worker process: start it, give it a call, hear its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepchain_tui.core.values import decode_json
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import wire
from stepchain_tui.tools.chunks import OnChunk
from stepchain_tui.tools.processes import Child, exit_words
from stepchain_tui.tools.pumps import PipePump, TextStream
from stepchain_tui.tools.remote import rebuild_error

WORKER_GRACE = 1.0
"""Seconds a function has for its `finally` blocks between TERM and KILL."""
_LAST_WORDS = 0.2
"""Seconds to wait for replies of a worker that has ended, should a child of it hold the socket open."""
_PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from stepchain_tui.tools.worker import main; "
    "main(*map(int, sys.argv[2:5]))"
)

Log = Callable[[str, str], None]


@dataclass(eq=False, slots=True)
class CallRecord:
    """What is known of a call beside its result; each field is None until it is known.

    Attributes:
        mode: Where the function really ran: inline, thread or process.
        pid: The process that it ran in, None where that is ours.
        packed_at: When it was ready to be sent to a process, by the monotonic clock.
        started_at: When the function began, by the monotonic clock.
        ended_at: When it ended, by the monotonic clock.
        seconds: How long it ran; in a process without the way there and back.
        cpu_seconds: How long it computed; None where that cannot be told from the rest of the process.
    """

    mode: str = ""
    pid: int | None = None
    packed_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None


class WorkerProcess(asyncio.Protocol):
    """One worker. It has at most one call at a time; when it ends, that call fails and nothing else does."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._connection_ended = asyncio.Event()
        self._number = 0
        self._known_path: list[str] = []
        self._known_environment: dict[str, str] | None = None
        self._label = ""
        self._reply: asyncio.Future[Any] | None = None
        self._log: Log | None = None
        self._on_chunk: OnChunk | None = None
        self._record = CallRecord()
        self._lifeline = -1
        self._pumps: list[PipePump] = []
        self._streams: list[TextStream] = []
        self.child: Child

    @classmethod
    async def start(cls, environment: Mapping[str, str]) -> WorkerProcess:
        """Start a process that waits for its first call."""
        worker = cls()
        ours, theirs = socket.socketpair()
        lifeline_read, worker._lifeline = os.pipe()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        descriptors = (str(theirs.fileno()), str(lifeline_read))
        try:
            worker.child = Child(
                [sys.executable, *_interpreter_flags(), "-c", _BOOT, _PACKAGE_PARENT, *descriptors, str(os.getpid())],
                environment=environment,
                cwd=Path("/"),
                stdout=out_write,
                stderr=err_write,
                pass_fds=(theirs.fileno(), lifeline_read),
            )
        except BaseException:
            ours.close()
            for descriptor in (worker._lifeline, out_read, err_read):
                os.close(descriptor)
            raise
        finally:
            theirs.close()
            for descriptor in (lifeline_read, out_write, err_write):
                os.close(descriptor)
        worker._pumps = [
            PipePump(out_read, lambda data: worker._printed(0, data)),
            PipePump(err_read, lambda data: worker._printed(1, data)),
        ]
        worker.child.exited.add_done_callback(worker._ended)
        await worker._connect(ours)
        return worker

    @property
    def alive(self) -> bool:
        """Whether it can take a call."""
        return not self.child.exited.done() and not self._connection_ended.is_set()

    async def call(
        self,
        request: wire.Request,
        log: Log,
        label: str,
        record: CallRecord | None = None,
        on_chunk: OnChunk | None = None,
    ) -> Any:
        """Carry out a call and return its JSON value.

        Args:
            request: The call; its number and search path are set here, and what the worker knows already is left out.
            log: Takes a stream's name and text, on the loop.
            label: What runs, for messages.
            record: Gets the process and its times.
            on_chunk: Takes each chunk of a function that yields, on the loop.

        Raises:
            RemoteError: The function raised.
            AttemptError: The worker died, as a `tool_error`.
        """
        assert self._transport is not None
        self._number += 1
        request["call"] = self._number
        if sys.path != self._known_path:
            self._known_path = list(sys.path)
            request["sys_path"] = _search_path()
        environment = request["environment"]
        if environment is self._known_environment or environment == self._known_environment:
            request["environment"], request["same_environment"] = None, True
        self._known_environment = environment
        self._label, self._log, self._on_chunk = label, log, on_chunk
        self._record = record = record or CallRecord()
        record.pid, record.started_at = self.child.pid, time.monotonic()
        self._streams = [TextStream("stdout", log), TextStream("stderr", log)]
        self._reply = self._loop.create_future()
        body = pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)
        self._transport.write(wire.REQUEST_HEAD.pack(len(body)) + body)
        try:
            return await self._reply
        finally:
            record.ended_at = time.monotonic()
            self._end_of_call()

    async def end(self, grace: float = WORKER_GRACE) -> None:
        """End the worker and all of its group; return when none of it is left."""
        await self.child.end(grace)
        self.dispose()

    def dispose(self) -> None:
        """Close what belongs to a worker that has ended."""
        if self._transport is not None:
            self._transport.abort()
        for pump in self._pumps:
            pump.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        self.child.reap()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take replies, in whatever pieces they come."""
        self._buffer += data
        head_size = wire.REPLY_HEAD.size
        while len(self._buffer) >= head_size:
            tag, number, size = wire.REPLY_HEAD.unpack_from(self._buffer)
            if len(self._buffer) < head_size + size:
                return
            body = bytes(memoryview(self._buffer)[head_size : head_size + size])
            del self._buffer[: head_size + size]
            if number == self._number:
                self._replied(tag, body)

    def connection_lost(self, error: Exception | None) -> None:
        """Note that nothing more will come."""
        self._connection_ended.set()

    async def _connect(self, ours: socket.socket) -> None:
        try:
            ours.setblocking(False)
            await self._loop.create_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            self.child.signal_group(signal.SIGKILL)
            self.dispose()
            raise

    def _replied(self, tag: bytes, body: bytes) -> None:
        if tag == wire.LOG:
            if self._log is not None:
                self._log("stdout", body.decode("utf-8", "replace"))
        elif tag == wire.CHUNK:
            if self._on_chunk is not None:
                self._on_chunk(decode_json(body))
        elif tag == wire.COMPUTED:
            self._record.seconds, self._record.cpu_seconds = wire.SECONDS.unpack(body)
        elif self._reply is not None and not self._reply.done():
            if tag == wire.RESULT:
                self._reply.set_result(decode_json(body))
            else:
                self._reply.set_exception(rebuild_error(decode_json(body)))

    def _printed(self, which: int, data: bytes) -> None:
        if self._streams:
            self._streams[which].take(data)

    def _end_of_call(self) -> None:
        for pump in self._pumps:
            pump.empty()
        for stream in self._streams:
            stream.finish()
        self._streams, self._log, self._on_chunk, self._reply = [], None, None, None

    def _ended(self, exited: asyncio.Future[int]) -> None:
        if self._reply is None or self._reply.done():
            return
        reply = self._reply
        died = self._loop.create_task(self._report_death(reply, exited.result()), name="stepchain-worker-death")
        reply.add_done_callback(lambda _: died.cancel())

    async def _report_death(self, reply: asyncio.Future[Any], code: int) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._connection_ended.wait(), _LAST_WORDS)
        if not reply.done():
            reply.set_exception(death_error(self.child.pid, code, self._label))


def death_error(pid: int, code: int, label: str) -> AttemptError:
    """Return the error of a call whose worker ended under it."""
    hints = {
        -9: "Somebody or the system killed it; when memory ran out the system's log says so.",
        -11: "A C library crashed; the step's log has the Python stack.",
    }
    details: dict[str, Any] = {"pid": pid, "signal": -code} if code < 0 else {"pid": pid, "exit_code": code}
    return AttemptError(
        f"process {pid} {exit_words(code)} while it ran {label}",
        error_type=ErrorType.TOOL_ERROR,
        hint=hints.get(code, "The function or a library in it ended the process; the step's log may say more."),
        exception="WorkerDied",
        details=details,
    )


def _search_path() -> list[str]:
    """Return `sys.path` as it reads from another folder."""
    try:
        here = str(Path.cwd())
    except FileNotFoundError:  # the folder we were started in is gone
        here = ""
    return [entry if entry.startswith("/") else os.path.join(here, entry) for entry in sys.path]  # noqa: PTH118 - text


def _interpreter_flags() -> list[str]:
    """Return the flags of this interpreter that a worker should share, such as -W and -X."""
    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined, no-any-return]
