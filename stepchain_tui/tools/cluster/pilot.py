"""What runs on a worker of the cluster: a task that holds one slot, and carries out the calls that its engine sends.

A pilot tells that it is there, waits for its engine to connect, and ends when the engine lets it go or is gone. Each
call runs in a child process, which is ended with all of its children when the call is stopped, when the engine's
connection ends, and when the worker dies (the child holds a pipe of the worker's). Between calls the child is kept, for
the next pilot too. Everything here runs on the worker's event loop and does nothing slow there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import wire
from stepchain_tui.tools.cluster.channel import OPERATION, TOPIC, Channel, ChannelClosedError, weight
from stepchain_tui.tools.cluster.child import CallProcess, CallRequest, describe
from stepchain_tui.tools.cluster.placed import base_folder, put, work_folder
from stepchain_tui.tools.process_pool import finish
from stepchain_tui.tools.process_worker import WORKER_GRACE

ATTACH_SECONDS = 5.0
"""How long a pilot waits for its engine to connect before it gives its slot back."""
_LOOK_SECONDS = 0.2
"""How often a pilot that waits looks whether its engine still wants it."""
CHILD_IDLE_SECONDS = 30.0
"""How long a child process is kept without a call."""
UNREAD_LIMIT = 1_000_000
"""Bytes of output that may be on the way; a call that prints more waits until the engine has taken them."""


class Terms(TypedDict):
    """What a pilot is started with.

    Attributes:
        pilot: Its name, which it tells.
        key: What only it and its engine know.
        version: The engine's version of StepChain.
    """

    pilot: str
    key: str
    version: str


def own_version() -> str:
    """Return this StepChain's version; asked of the loaded package, whose rooms this one may not import."""
    return str(sys.modules["stepchain_tui"].__version__)


def minor_of(version: str) -> str:
    """Return the part of a version that engine and worker must share."""
    return ".".join(version.split(".")[:2])


async def carry_calls(terms: Terms) -> dict[str, Any]:
    """Hold a slot and carry out calls until the engine lets it go; this is the task that Dask sees.

    Returns:
        `{"refused": version}` where this worker's version of StepChain is another one, else an empty dict.
    """
    from distributed import get_worker

    if minor_of(terms["version"]) != minor_of(own_version()):
        return {"refused": own_version()}
    worker = get_worker()
    worker.handlers.setdefault(OPERATION, attach)
    name, waiter, over = terms["pilot"], asyncio.get_running_loop().create_future(), asyncio.Event()
    _waiting[name] = (terms["key"], waiter, over)
    try:
        base = base_folder(worker.local_directory)
        told = {"pilot": name, "address": worker.address, "folder": str(base), "python": _python()}
        worker.log_event(TOPIC, told)
        comm = await _connection(worker, name, waiter)
        if comm is not None:
            await _Pilot(Channel(comm), base).serve()
    finally:
        del _waiting[name]
        over.set()
    return {}


async def _connection(worker: Any, name: str, waiter: asyncio.Future[Any]) -> Any:
    """Return the connection of the pilot's engine; None where it does not come, or took the pilot back."""
    for _ in range(int(ATTACH_SECONDS / _LOOK_SECONDS)):
        await asyncio.wait([waiter], timeout=_LOOK_SECONDS)
        if waiter.done():
            return waiter.result()
        task = worker.state.tasks.get(name)
        if task is None or task.state == "cancelled":
            break
    waiter.cancel()
    return None


async def attach(comm: Any, pilot: str, key: str) -> Any:
    """Give a connection to the pilot that it is for, and hold it until that has ended; Dask calls it on a worker."""
    from distributed.core import Status

    known = _waiting.get(pilot)
    if known is not None and not known[1].done() and hmac.compare_digest(known[0].encode(), key.encode()):
        known[1].set_result(comm)
        await known[2].wait()
    comm.abort()
    return Status.dont_reply


_waiting: dict[str, tuple[str, asyncio.Future[Any], asyncio.Event]] = {}
"""The pilots of this process: the key of each, where its connection goes, and what says that it is over."""


class _Pilot:
    """Carries out one call at a time for one engine."""

    def __init__(self, channel: Channel, base: Path) -> None:
        self._channel = channel
        self._base = base
        self._number = 0
        self._task: asyncio.Task[None] | None = None
        self._child: CallProcess | None = None
        self._unread = 0
        self._environment: dict[str, str] | None = None
        self._grace = WORKER_GRACE

    async def serve(self) -> None:
        """Do what the engine says until it lets go, or is gone."""
        try:
            with contextlib.suppress(ChannelClosedError):
                while True:
                    for message in await self._channel.read():
                        if message[0] == "go":
                            return
                        self._obey(*message)
        finally:
            await self._end()
            self._channel.abort()

    def _obey(self, verb: str, *rest: Any) -> None:
        match verb:
            case "call":
                self._number = rest[0]
                self._take_environment(rest[1])  # also where it is stopped at once: the next call may refer to it
                self._task = asyncio.ensure_future(self._carry(*rest))
                self._task.add_done_callback(functools.partial(self._tell_end, self._number))
            case "stop":
                if rest[0] == self._number and self._task is not None:
                    self._task.cancel()
            case "taken":
                self._unread -= rest[0]
                if self._child is not None and self._unread < UNREAD_LIMIT // 2:
                    self._child.let_go_on()

    async def _end(self) -> None:
        if self._task is not None and not self._task.done():
            self._grace = 0.0  # the engine is gone: its successor may make the attempt again at any moment
            self._task.cancel()
            await finish(_done(self._task))

    async def _carry(self, number: int, request: CallRequest) -> None:
        """Carry out a call and tell how it ended."""
        own_folder: Path | None = None
        try:
            try:
                own_folder = await self._prepare(number, request)
                label = request.pop("label")
                self._child = await _child()
                self._channel.send("begun", number, self._child.child.pid)
                tag, body = await self._child.carry(
                    cast("wire.Request", request), label, lambda *told: self._tell(number, *told)
                )
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the border of the worker: whatever failed is told
                tag, body = describe(error)
            self._give_back()
            self._channel.send("reply", number, tag, body)
        except asyncio.CancelledError:
            child, self._child = self._child, None
            if child is not None:
                await finish(child.end(self._grace))
            raise
        finally:
            if own_folder is not None:
                asyncio.get_running_loop().run_in_executor(None, shutil.rmtree, own_folder, True)  # ignoring errors

    def _tell_end(self, number: int, task: asyncio.Task[None]) -> None:
        """Tell that nothing of a stopped call runs any more, also where it was stopped before it began."""
        if task.cancelled():
            self._channel.send("ended", number)

    def _take_environment(self, request: CallRequest) -> None:
        if request.pop("same_environment", False):
            request["environment"] = self._environment
        elif request["environment"] is not None:
            request["environment"] = _as_text(request["environment"])
        self._environment = request["environment"]

    async def _prepare(self, number: int, request: CallRequest) -> Path | None:
        """Make the request that of this machine, and return the folder that was made for it."""
        context = request["context"]
        context["secrets"] = _as_text(context["secrets"])
        digest, files = request.pop("code"), request.pop("files", None)
        if digest:
            if files is not None:
                await finish(asyncio.to_thread(put, self._base, digest, files))
            code = self._base / digest
            request["folder"] = str(code / request["folder"])
            request["reference"] = request["reference"].replace("{code}", str(code))
        request.update(call=0, sys_path=None)
        return self._enter(number, request)

    def _enter(self, number: int, request: CallRequest) -> Path | None:
        cwd, is_needed = request["cwd"], request.pop("cwd_needed")
        if cwd is not None:
            cwd = request["cwd"] = os.fsdecode(cwd)
            if Path(cwd).is_dir():
                return None
            cwd = os.fsencode(cwd).decode("utf-8", "backslashreplace")
        if is_needed:
            raise AttemptError(
                f"there is no folder {cwd} to work in on the worker",
                error_type=ErrorType.USER_ERROR,
                hint="Name a folder that the workers share, or leave cwd out.",
            )
        folder = work_folder(self._base)
        if cwd is not None:
            said = f"the worker has no folder {cwd}: the step worked in an empty one, which is gone now"
            self._channel.send("warn", number, said)
        request["cwd"] = str(folder)
        return folder

    def _tell(self, number: int, kind: str, what: Any, data: bytes) -> None:
        self._channel.send(kind, number, what, data)
        self._unread += weight(data)
        if self._unread > UNREAD_LIMIT and self._child is not None:
            self._child.hold()

    def _give_back(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            _children.give_back(child)


class _Children:
    """The child processes of this worker that have no call."""

    def __init__(self) -> None:
        self._idle: list[tuple[CallProcess, asyncio.TimerHandle]] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def take(self) -> CallProcess:
        """Return a child that waits for a call; a new one where there is none."""
        while self._idle:
            child, timer = self._idle.pop()
            timer.cancel()
            if child.alive:
                return child
            self._end(child)
        return await CallProcess.begin()

    def give_back(self, child: CallProcess) -> None:
        """Keep a child for the next call, for a while."""
        if not child.alive:
            self._end(child)
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(CHILD_IDLE_SECONDS, self._retire, child)
        self._idle.append((child, timer))

    def _retire(self, child: CallProcess) -> None:
        self._idle = [one for one in self._idle if one[0] is not child]
        self._end(child)

    def _end(self, child: CallProcess) -> None:
        task = asyncio.ensure_future(child.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


_children = _Children()


async def _child() -> CallProcess:
    try:
        return await _children.take()
    except OSError as error:
        raise AttemptError(
            f"the worker cannot start a process: {error}",
            error_type=ErrorType.SERVER_ERROR,
            hint="Look at the memory and the processes that the worker's machine has left.",
        ) from error


async def _done(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])


def _as_text(values: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return names and values as Python has them, whatever encoding they are in."""
    return {os.fsdecode(name): os.fsdecode(value) for name, value in values.items()}


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
