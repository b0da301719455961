"""A worker process: takes one call at a time, runs it in its main thread, answers in JSON.

It leads its own session, knows nothing of the owner's `__main__`, and prints into two pipes that the owner reads. It
does not outlive its owner: a thread waits on a pipe whose other end only the owner has and then ends the whole group;
on Linux the kernel also ends the worker itself, should a C function never let that thread run.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import inspect
import io
import os
import pickle
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

from stepchain_tui.core.values import encode_json, to_json_value
from stepchain_tui.tools import wire
from stepchain_tui.tools.environment import raw_environment


class _TerminatedError(SystemExit):
    """Signals SIGTERM inside a function, so that its `finally` blocks run."""


def main(control: int, lifeline: int, owner: int) -> None:
    """Serve calls until the owner is gone.

    Args:
        control: Descriptor of the socket for calls and replies.
        lifeline: Descriptor of a pipe that ends with the owner.
        owner: Process id of the owner.
    """
    os.set_inheritable(control, False)
    os.set_inheritable(lifeline, False)
    _die_with(owner, lifeline)
    faulthandler.enable()
    sys.stdout, sys.stderr = _open_stream(1), _open_stream(2)
    signal.signal(signal.SIGTERM, _terminate)
    connection = socket.socket(fileno=control)
    server = _Server(connection)
    while (request := _receive(connection)) is not None:
        server.serve(request)
    os._exit(0)


class _Server:
    """Carries out calls one after the other and leaves the process as it was between them."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._environment = dict(os.environ)
        self._wanted = self._environment
        self._untouched = raw_environment()
        self._streams = (sys.stdout, sys.stderr)
        self._seconds = (0.0, 0.0)

    def serve(self, request: wire.Request) -> None:
        """Carry out one call and answer it."""
        number = request["call"]
        self._seconds = (0.0, 0.0)
        try:
            self._enter(request)
            tag, body = wire.RESULT, self._run(request)
        except _TerminatedError:
            self._flush()
            os._exit(143)
        except BaseException as error:  # noqa: BLE001 - the worker's border: whatever a function raises is reported
            tag, body = wire.ERROR, _describe(error)
        self._flush()
        self._send(tag, number, body, wire.SECONDS.pack(*self._seconds))
        self._restore()

    def _run(self, request: wire.Request) -> bytes:
        from stepchain_tui.tools.context import StepContext
        from stepchain_tui.tools.functions import (
            LoadedFunction,
            arguments_for,
            call_shape,
            known_function,
            shared_loader,
        )

        number = request["call"]
        payload = _unpack(request)
        if request["reference"]:
            loaded = shared_loader().load(request["reference"], request["folder"])
        elif request["by_value"]:  # is here for this call only, with all that it holds
            loaded = LoadedFunction(payload["function"], call_shape(payload["function"]), None, None)
        else:
            loaded = known_function(payload["function"])
        function, shape = loaded.function, loaded.shape
        context = StepContext(
            **request["context"], write=lambda text: self._send(wire.LOG, number, text.encode("utf-8", "replace"))
        )
        args = payload["args"]
        if label := request.get("validate"):
            from stepchain_tui.tools.schema import schema_of

            args = schema_of(function).validate(args, label)
        positional, keywords = arguments_for(shape, args, context)
        began, computed = time.monotonic(), time.process_time()
        try:
            value = function(*positional, **keywords)
            if inspect.isawaitable(value):
                value = _await(value)
            if inspect.isgenerator(value) or inspect.isasyncgen(value):
                value = self._joined(value, number)
        finally:
            self._seconds = (time.monotonic() - began, time.process_time() - computed)
        return _result(value)

    def _joined(self, stream: Any, number: int) -> Any:
        """Return what a function yields as one value; each chunk is sent when it comes."""
        from stepchain_tui.tools.chunks import Chunks

        chunks = Chunks(lambda chunk: self._send(wire.CHUNK, number, encode_json(to_json_value(chunk))))
        return chunks.read(stream) if inspect.isgenerator(stream) else _await(chunks.read_async(stream))

    def _enter(self, request: wire.Request) -> None:
        if request["sys_path"] is not None:
            sys.path[:] = request["sys_path"]
        if not request.get("same_environment"):
            mark = {wire.OWNER_VARIABLE: self._environment.get(wire.OWNER_VARIABLE, "")}
            given = request["environment"]
            self._wanted = self._environment if given is None else {**given, **mark}
            self._untouched = {}
        if self._untouched != raw_environment():
            _set_environment(self._wanted)
            self._untouched = raw_environment()
        if request["cwd"] is not None:
            os.chdir(request["cwd"])

    def _restore(self) -> None:
        """Undo what a function may have left behind that the next one would stumble over."""
        os.chdir("/")
        signal.signal(signal.SIGTERM, _terminate)
        sys.stdout, sys.stderr = self._streams

    def _flush(self) -> None:
        for stream in {sys.stdout, sys.stderr, *self._streams}:
            with contextlib.suppress(OSError, ValueError, AttributeError):  # the function closed or replaced it
                stream.flush()
        if any(stream.closed for stream in self._streams):
            self._streams = (_open_stream(1), _open_stream(2))
        ctypes.pythonapi.fflush(None)

    def _send(self, tag: bytes, number: int, body: bytes, seconds: bytes = b"") -> None:
        before = wire.REPLY_HEAD.pack(wire.COMPUTED, number, len(seconds)) + seconds if seconds else b""
        with self._sending:
            self._connection.sendall(before + wire.REPLY_HEAD.pack(tag, number, len(body)) + body)


def _receive(connection: socket.socket) -> Any:
    try:
        head = wire.read_exactly(connection, wire.REQUEST_HEAD.size)
        body = wire.read_exactly(connection, wire.REQUEST_HEAD.unpack(head)[0]) if head else None
    except (OSError, _TerminatedError):
        os._exit(0)
    return pickle.loads(body) if body is not None else None


def _unpack(request: wire.Request) -> dict[str, Any]:
    from stepchain_tui.tools.travel import unpack

    try:
        return unpack(request["payload"])
    except Exception as error:
        from stepchain_tui.run.failures import AttemptError
        from stepchain_tui.run.status import ErrorType

        raise AttemptError(
            f"the function or an argument cannot be rebuilt in a process: {type(error).__name__}: {error}",
            error_type=ErrorType.USER_ERROR,
            hint="Use mode: thread, or put the function in a file of its own and name it.",
            exception=type(error).__name__,
        ) from error


def _await(value: Any) -> Any:
    import asyncio

    async def run() -> Any:
        return await value

    return asyncio.run(run())


def _result(value: Any) -> bytes:
    from stepchain_tui.run.failures import AttemptError
    from stepchain_tui.run.status import ErrorType

    try:
        body = encode_json(to_json_value(value))
    except Exception as error:
        raise AttemptError(
            f"the result ({type(value).__name__}) cannot be made a JSON value: {error}",
            error_type=ErrorType.USER_ERROR,
            hint=getattr(error, "hint", "") or "Return text, numbers, lists and dicts, or write a file.",
            exception=type(error).__name__,
        ) from error
    if len(body) > wire.MAX_REPLY:
        raise AttemptError(
            f"the result has {len(body) / 1e6:.0f} MB as JSON, more than {wire.MAX_REPLY / 1e6:.0f} MB",
            error_type=ErrorType.USER_ERROR,
            hint="Write it to a file and return the file's path.",
        )
    return body


def _describe(error: BaseException) -> bytes:
    from stepchain_tui.tools.remote import describe_error

    return encode_json(to_json_value(describe_error(error)))


def _set_environment(environment: dict[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _open_stream(descriptor: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True)


def _terminate(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _TerminatedError(143)


def _die_with(owner: int, lifeline: int) -> None:
    """End this worker and its group when the owner ends."""

    def watch() -> None:
        try:
            os.read(lifeline, 1)
        finally:
            os.killpg(0, signal.SIGKILL)

    # No death signal of the kernel's beside it: that would end this process first, and its children would live on.
    threading.Thread(target=watch, name="stepchain-lifeline", daemon=True).start()
    if os.getppid() != owner:
        os.killpg(0, signal.SIGKILL)
