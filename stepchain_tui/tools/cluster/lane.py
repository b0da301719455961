"""The engine's end of a pilot: gives it one call at a time, and hears what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stepchain_tui.core.values import decode_json
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import wire
from stepchain_tui.tools.chunks import OnChunk
from stepchain_tui.tools.cluster.channel import OPERATION, Channel, ChannelClosedError, weight
from stepchain_tui.tools.cluster.child import CallRequest
from stepchain_tui.tools.cluster.failures import cannot_travel, not_begun, other_python, worker_lost
from stepchain_tui.tools.cluster.sources import Code
from stepchain_tui.tools.process_worker import CallRecord, Log
from stepchain_tui.tools.pumps import TextStream
from stepchain_tui.tools.remote import rebuild_error

STOP_SECONDS = 3.7
"""How long a pilot may take to say that a stopped call has ended; then the connection is cut, which ends it too."""
BEGIN_SECONDS = 30.0
"""How long a pilot may take to begin a call, beside the time that what travels takes."""
_SLOWEST = 1_000_000
"""Bytes in a second that a connection is expected to carry at least."""
_TAKEN_EVERY = 250_000
"""Bytes of output after which a pilot is told that they were taken."""
_OURS = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(eq=False, slots=True, kw_only=True)
class ClusterCall:
    """One call on its way.

    Attributes:
        request: What travels.
        code: The files that go with it.
        label: What messages call it.
        record: Gets the process and its times.
        log: Takes a stream's name and what was printed on it.
        on_begin: Called when a worker takes the call.
        on_chunk: Takes each chunk of a function that yields.
        warn: Takes what a person should know of a call that went well all the same.
        reply: Done with the call's JSON value or its failure.
        lane: What carries it, None while it waits.
    """

    request: CallRequest
    code: Code
    label: str
    record: CallRecord
    log: Log | None
    on_begin: Callable[[], None] | None
    on_chunk: OnChunk | None
    warn: Callable[[str], None] | None
    reply: asyncio.Future[Any]
    lane: Lane | None = field(default=None, repr=False)

    def fail(self, error: AttemptError) -> None:
        """End the call with a failure, where it has not ended."""
        if not self.reply.done():
            self.reply.set_exception(error)


class Lane:
    """One pilot that is there.

    Args:
        channel: The connection to it.
        pilot: Its name.
        worker: Its worker's address.
        folder: Where it puts code.
        python: Its Python, such as `3.12`.
        on_free: Called with the lane whenever it can take a call.
        on_over: Called with the lane when it has ended.
    """

    def __init__(
        self,
        channel: Channel,
        pilot: str,
        worker: str,
        folder: str,
        python: str,
        on_free: Callable[[Lane], None],
        on_over: Callable[[Lane], None],
    ) -> None:
        self.pilot = pilot
        self.worker = worker
        self.call: ClusterCall | None = None
        self._channel = channel
        self._folder = folder
        self._python = python
        self._on_free = on_free
        self._on_over = on_over
        self._number = 0
        self._digests: set[str] = set()
        self._environment: dict[str, str] | None = None
        self._knows_environment = False
        self._streams: tuple[TextStream, TextStream] | None = None
        self._taken = 0
        self._beginning: asyncio.TimerHandle | None = None
        self._stopped: asyncio.Future[None] | None = None
        self._over = False
        self._reader = asyncio.ensure_future(self._read())

    @classmethod
    async def connect(
        cls,
        worker: str,
        pilot: str,
        key: str,
        folder: str,
        python: str,
        connection: dict[str, Any],
        on_free: Callable[[Lane], None],
        on_over: Callable[[Lane], None],
    ) -> Lane:
        """Connect to a pilot; raises what the network raises."""
        from distributed.comm.core import connect

        comm = await connect(worker, deserialize=False, timeout=10, **connection)  # type: ignore[no-untyped-call]
        try:
            await comm.write({"op": OPERATION, "pilot": pilot, "key": key, "reply": False})
        except BaseException:
            comm.abort()
            raise
        return cls(Channel(comm), pilot, worker, folder, python, on_free, on_over)

    @property
    def is_free(self) -> bool:
        """Whether it can take a call."""
        return self.call is None and not self._over

    def take(self, call: ClusterCall) -> None:
        """Give the pilot a call."""
        if call.request["by_value"] and self._python != _OURS:
            call.fail(other_python(self.worker, self._python, _OURS, call.label))
            return
        self._number += 1
        self.call, call.lane = call, self
        call.record.pid, call.record.started_at = None, None
        log = call.log or _forget
        self._streams = (TextStream("stdout", log), TextStream("stderr", log))
        request = self._request_of(call)
        size = len(request["payload"]) + sum(map(len, request.get("files", {}).values()))
        patience = BEGIN_SECONDS + size / _SLOWEST
        loop = asyncio.get_running_loop()
        self._beginning = loop.call_later(patience, self._did_not_begin, self._number, patience)
        self._channel.send("call", self._number, request)

    async def stop(self, call: ClusterCall) -> None:
        """End a call that this lane carries, and return when nothing of it runs any more, within 4 s."""
        if self.call is not call or self._over:
            return
        stopped = self._stopped = asyncio.get_running_loop().create_future()
        self._channel.send("stop", self._number)
        await asyncio.wait([stopped], timeout=STOP_SECONDS)
        if not stopped.done():
            self.cut()

    def let_go(self) -> None:
        """Have the pilot give its slot back."""
        self._channel.send("go")

    def cut(self, error: AttemptError | None = None) -> None:
        """Close the connection, which ends what the pilot does, and fail its call."""
        if error is not None and self.call is not None:
            self.call.fail(error)
        self._channel.abort()
        self._reader.cancel()
        self._end()

    async def closed(self) -> None:
        """Return when the connection is closed and nothing here works on any more."""
        await asyncio.wait([self._reader])
        await self._channel.closed()

    def _request_of(self, call: ClusterCall) -> CallRequest:
        request, code = dict(call.request), call.code
        if code.digest and code.digest not in self._digests:
            request["files"] = code.files
        environment = request["environment"]
        if self._knows_environment and environment == self._environment:
            request["environment"], request["same_environment"] = None, True
        self._environment, self._knows_environment = environment, True
        return request

    async def _read(self) -> None:
        try:
            with contextlib.suppress(ChannelClosedError):
                while True:
                    for message in await self._channel.read():
                        self._hear(*message)
            if self._channel.refused is not None and self.call is not None:
                self.call.fail(cannot_travel(self.call.label, f"{self._channel.refused}"))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the other side may send anything; it must not end the engine's work
            if self.call is not None:
                odd = worker_lost(f"{self.worker} (which sent what is no answer: {error})", self.call.label)
                self.call.fail(error if isinstance(error, AttemptError) else odd)
        self._channel.abort()
        self._end()

    def _did_not_begin(self, number: int, patience: float) -> None:
        if self.call is not None and number == self._number:
            self.cut(not_begun(self.worker, self.call.label, patience))

    def _has_begun(self) -> None:
        if self._beginning is not None:
            self._beginning.cancel()
            self._beginning = None

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        self._has_begun()
        call, self.call = self.call, None
        if call is not None:
            call.fail(worker_lost(self.worker, call.label))
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)
        self._on_over(self)

    def _hear(self, verb: str, number: int, *rest: Any) -> None:
        call = self.call
        if call is None or number != self._number:
            return
        match verb:
            case "begun":
                self._has_begun()
                self._digests.add(call.code.digest)
                call.record.pid, call.record.started_at = int(rest[0]), time.monotonic()
                if call.on_begin is not None and not call.reply.done():
                    call.on_begin()
            case "out":
                if self._streams is not None and not call.reply.done():
                    self._streams[rest[0]].take(rest[1])
                self._count(rest[1])
            case "reply":
                self._replied(call, *rest)
            case "warn":
                if call.warn is not None and not call.reply.done():
                    call.warn(str(rest[0]))
            case "ended":
                self._is_free()

    def _replied(self, call: ClusterCall, tag: bytes, body: bytes) -> None:
        is_over = call.reply.done()
        match tag:
            case wire.LOG:
                if call.log is not None and not is_over:
                    call.log("stdout", body.decode("utf-8", "replace"))
            case wire.CHUNK:
                if call.on_chunk is not None and not is_over:
                    call.on_chunk(decode_json(body))
            case wire.COMPUTED:
                call.record.seconds, call.record.cpu_seconds = wire.SECONDS.unpack(body)
            case wire.RESULT | wire.ERROR:
                self._finish(call, tag, body)
                return
        self._count(body)

    def _finish(self, call: ClusterCall, tag: bytes, body: bytes) -> None:
        call.record.ended_at = time.monotonic()
        for stream in self._streams or ():
            if not call.reply.done():
                stream.finish()
        if tag == wire.RESULT and not call.reply.done():
            call.reply.set_result(decode_json(body))
        elif tag == wire.ERROR:
            failure = rebuild_error(self._as_here(call, decode_json(body)))
            if failure.error_type is ErrorType.SERVER_ERROR:  # the code may not have come to be there
                self._digests.discard(call.code.digest)
            call.fail(failure)
        self._is_free()

    def _as_here(self, call: ClusterCall, description: dict[str, Any]) -> dict[str, Any]:
        """Return the description of an error with the paths of travelled code as they are on this machine."""
        code = call.code
        if not code.digest:
            return description
        there, here = f"{self._folder}/{code.digest}/", f"{code.root.rstrip('/')}/"
        return {
            name: value.replace(there, here) if isinstance(value, str) else value for name, value in description.items()
        }

    def _count(self, payload: bytes) -> None:
        self._taken += weight(payload)
        if self._taken >= _TAKEN_EVERY:
            self._channel.send("taken", self._taken)
            self._taken = 0

    def _is_free(self) -> None:
        self._has_begun()
        self.call = None
        if self._stopped is not None:
            if not self._stopped.done():
                self._stopped.set_result(None)
            self._stopped = None
        self._on_free(self)


def _forget(_stream: str, _text: str) -> None: ...
