"""One call of a function, carried out in its mode: the same for steps, for tools and for scripts.

A call says what to call, with what and where; carrying it out fills in what came of it beside the result: when it
began, in which process, how much it computed. Its own timeout counts from the moment the function begins, not from
the wait for a thread or a worker.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools.chunks import Chunks, OnChunk, chunk_text
from stepchain_tui.tools.context import StepContext
from stepchain_tui.tools.functions import Function, LoadedFunction, arguments_for, known_function, shared_loader
from stepchain_tui.tools.output import CallOutput, LoopRelay, current_output
from stepchain_tui.tools.pools import Pools
from stepchain_tui.tools.process_worker import CallRecord, Log
from stepchain_tui.tools.remote import NotPicklableError, function_error
from stepchain_tui.tools.threads import ThreadCall
from stepchain_tui.tools.travel import pack, reference_of

FUNCTION_MODES = ("inline", "thread", "process", "cluster")

_output = current_output()
_loader = shared_loader()


class CallTimedOutError(AttemptError, TimeoutError):
    """Signals that a call ran longer than its own timeout."""

    def __init__(self, what: str, timeout: float, *, goes_on: bool) -> None:
        super().__init__(
            f"{what} ran longer than its timeout of {timeout:g} s"
            + (" and goes on in its thread, which cannot be stopped" if goes_on else " and was stopped"),
            error_type=ErrorType.TIMEOUT,
            hint="Raise the timeout, make it do less, or use mode process, where it is ended for real."
            if goes_on
            else "Raise the timeout, or make it do less.",
            exception="TimeoutError",
            details={"timeout": timeout},
        )


@dataclass(eq=False, slots=True)
class FunctionCall:
    """One call of a function.

    Attributes:
        function: The function, or a reference to it: `./file.py:name` or `package.module:name`.
        args: Its arguments by name.
        mode: inline, thread, process or cluster.
        cluster: The scheduler's address for mode cluster; empty, or `local`, for a cluster on this machine.
        folder: What `./` in a reference is relative to.
        label: What messages call it; made from the function where it is empty.
        fallback: Whether a function that cannot be sent to a process runs in a thread instead, with a warning.
        validate: Whether `args` are checked against the function's schema and converted before the call.
        timeout: Seconds that the function may run, None where somebody else counts them.
        environment: The whole environment of a process for this call, or None for the worker's own.
        cwd: The folder that a process works in, or None for the worker's own.
        cwd_needed: Whether a worker of a cluster that has no such folder refuses the call; else it gets an empty one.
        secret_names: Secrets of `facts` and `environment` that may leave this machine, in mode cluster.
        facts: The facts of the `StepContext` that the function gets where it asks for one.
        log: Takes a stream's name and what was printed on it, on the loop; None leaves printing as it is.
        begun: Called on the loop when a worker process takes the call.
        warn: Takes what a person should know of a call that went well all the same.
        on_chunk: Takes each chunk of a function that yields, on the loop; without it they go to `log` as `text`.
        record: What is known of the call beside its result.
        lingering: Set where the call was given up and its thread goes on: done when the thread is free.
    """

    function: Function | str
    args: Mapping[str, Any]
    mode: str = "thread"
    cluster: str = ""
    folder: Path | str = "/"
    label: str = ""
    fallback: bool = True
    validate: bool = False
    timeout: float | None = None
    environment: Mapping[str, str] | None = None
    cwd: Path | None = None
    cwd_needed: bool = False
    secret_names: Collection[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    log: Log | None = None
    begun: Callable[[], None] | None = None
    warn: Callable[[str], None] | None = None
    on_chunk: OnChunk | None = None
    record: CallRecord = field(default_factory=CallRecord)
    lingering: asyncio.Future[None] | None = None

    @property
    def name(self) -> str:
        """What messages call the function."""
        return self.label or label_of(self.function)


class FunctionCaller:
    """Carries out calls of functions on the pools.

    What a function raises becomes an `AttemptError` that is the same in every mode: the name of its class, its
    message, the traceback of its own frames and its class by the retry table.

    Args:
        pools: The pools of this process.
    """

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def run(self, call: FunctionCall) -> Any:
        """Call the function and return what it returns; a process gives a JSON value.

        Cancelling ends a process for real and gives up a thread (`FunctionCall.lingering`).

        Raises:
            AttemptError: The function raised, cannot be loaded, does not take these args, or its process died.
            CallTimedOutError: It ran longer than `call.timeout`.
        """
        if call.timeout is None:
            return await self._run(call)
        limit = asyncio.timeout(None)
        watch = _Watch(call, call.timeout, limit)
        try:
            async with limit:
                return await self._run(call)
        except TimeoutError as error:
            if not limit.expired():
                raise
            goes_on = call.lingering is not None
            raise CallTimedOutError(call.name, call.timeout, goes_on=goes_on) from error
        finally:
            watch.stop()

    async def _run(self, call: FunctionCall) -> Any:
        call.record.mode = call.mode
        match call.mode:
            case "inline":
                return await self._inline(call)
            case "process":
                return await self._process(call)
            case "thread":
                return await self._thread(call)
            case "cluster":
                from stepchain_tui.tools.cluster import run_on_cluster

                return await run_on_cluster(self._pools, call, _teller(call))
        raise AttemptError(
            f"{call.name} cannot run in mode '{call.mode}'",
            error_type=ErrorType.USER_ERROR,
            hint=f"Use {', '.join(FUNCTION_MODES[:-1])} or {FUNCTION_MODES[-1]}.",
        )

    async def _inline(self, call: FunctionCall) -> Any:
        output, token = None, None
        if call.log is not None:
            self._pools.router.install()
            output = CallOutput(call.log)
        loaded = _ready(call) or await self._load_in_thread(call)
        if output is not None:
            token = _output.set(output)
        record = call.record
        record.started_at = time.monotonic()
        try:
            positional, keywords = _bind(loaded, call, call.log)
            value = loaded.function(*positional, **keywords)
            if loaded.shape.is_async or inspect.isawaitable(value):
                value = await value
            if inspect.isgenerator(value):
                return Chunks(_teller(call)).read(value)
            return await Chunks(_teller(call)).read_async(value) if isinstance(value, AsyncIterator) else value
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise function_error(RuntimeError("the function cancelled itself")) from error
        except (AttemptError, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            raise function_error(error) from error
        finally:
            record.ended_at = time.monotonic()
            record.seconds = record.ended_at - record.started_at
            if output is not None and token is not None:
                _output.reset(token)
                output.flush()
                output.close()

    async def _load_in_thread(self, call: FunctionCall) -> LoadedFunction:
        """Load an inline function: an import may take seconds, which the loop does not have."""
        reference = str(call.function)
        return cast(LoadedFunction, await self._in_thread(call, lambda _: _loader.load(reference, call.folder)))

    async def _thread(self, call: FunctionCall) -> Any:
        log = None
        if call.log is not None:
            relay, sink = self._pools.relay, call.log

            def log(stream: str, text: str) -> None:
                relay.send(sink, stream, text)

        told = _teller(call)
        tell = None if told is None else _through(self._pools.relay, told)
        contexts: list[StepContext] = []
        record = call.record

        def work(thread_call: ThreadCall) -> Any:
            loaded = _ready(call) or _loader.load(str(call.function), call.folder)
            record.started_at = time.monotonic()
            computed = time.thread_time()
            try:
                positional, keywords = _bind(loaded, call, log, contexts)
                value = loaded.function(*positional, **keywords)
                if inspect.isawaitable(value):
                    value = thread_call.run_coroutine(_awaited(value))
                if inspect.isgenerator(value):
                    return Chunks(tell).read(value, lambda: thread_call.cancelled)
                if isinstance(value, AsyncIterator):
                    return thread_call.run_coroutine(Chunks(tell).read_async(value))
                return value
            finally:
                record.cpu_seconds = time.thread_time() - computed
                record.ended_at = time.monotonic()
                record.seconds = record.ended_at - record.started_at

        def ask_to_stop() -> None:
            for context in contexts:
                context.cancel()

        return await self._in_thread(call, work, ask_to_stop)

    async def _in_thread(
        self, call: FunctionCall, work: Callable[[ThreadCall], Any], on_cancel: Callable[[], None] | None = None
    ) -> Any:
        """Return what `work` returns in a thread, with what it prints going to the call's log."""
        output = None
        if call.log is None:
            thread_call = self._pools.threads.submit(work, on_cancel)
        else:
            self._pools.router.install()
            output = CallOutput(call.log, self._pools.relay)
            thread_call = self._submit_with(output, work, on_cancel)
        try:
            return await thread_call.result
        except (asyncio.CancelledError, GeneratorExit):
            thread_call.cancel()
            if not thread_call.finished.done():
                call.lingering = thread_call.finished
            raise
        except AttemptError:
            raise
        except BaseException as error:
            raise function_error(error) from error
        finally:
            if output is not None:
                output.close()

    def _submit_with(
        self, output: CallOutput, work: Callable[[ThreadCall], Any], on_cancel: Callable[[], None] | None
    ) -> ThreadCall:
        def with_output(thread_call: ThreadCall) -> Any:
            try:
                return work(thread_call)
            finally:
                output.flush()  # here and not on the loop: so it is there before the result

        token = _output.set(output)
        try:
            return self._pools.threads.submit(with_output, on_cancel)
        finally:
            _output.reset(token)

    async def _process(self, call: FunctionCall) -> Any:
        function, folder, args = call.function, str(call.folder), call.args
        if call.cwd is not None and not call.cwd.is_dir():
            raise AttemptError(
                f"there is no folder {call.cwd} to work in", error_type=ErrorType.USER_ERROR, hint="Check cwd."
            )
        if isinstance(function, str) and function.startswith("__main__:"):
            function = _loader.load(function, folder).function
        elif not isinstance(function, str):
            named = reference_of(function)
            if named is not None:
                function, folder = named
        by_reference = isinstance(function, str)
        if not by_reference and "dill" not in sys.modules:
            await self._pools.threads.submit(lambda _: import_module("dill")).result
        try:
            if call.validate and not isinstance(function, str):
                args = _validated(function, call)
            payload, by_value = pack(None if isinstance(function, str) else function, args, call.name)
        except NotPicklableError as error:
            if not call.fallback:
                raise
            if call.warn is not None:
                call.warn(f"ran in a thread: {error}")
            if call.begun is not None:
                call.begun()
            call.record.mode = "thread"
            return await self._thread(call)
        call.record.packed_at = time.monotonic()
        return await self._pools.processes.run(
            {
                "call": 0,
                "reference": function if isinstance(function, str) else "",
                "folder": folder,
                "payload": payload,
                "by_value": by_value,
                "validate": call.name if call.validate and by_reference else "",
                "context": StepContext(**call.facts).facts(),
                "environment": None if call.environment is None else dict(call.environment),
                "cwd": None if call.cwd is None else str(call.cwd),
                "sys_path": None,
            },
            call.log or _forget,
            call.name,
            call.begun,
            call.record,
            _teller(call),
        )


class _Watch:
    """Lets a call's time run out, counted from the moment its function began."""

    def __init__(self, call: FunctionCall, timeout: float, limit: asyncio.Timeout) -> None:
        self._record = call.record
        self._timeout = timeout
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(timeout, self._look)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        started, now = self._record.started_at, time.monotonic()
        left = self._timeout if started is None else started + self._timeout - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._limit.reschedule(self._loop.time())


def _teller(call: FunctionCall) -> OnChunk | None:
    """Return who is told of a call's chunks, on the loop."""
    log = call.log
    if call.on_chunk is not None or log is None:
        return call.on_chunk
    return lambda chunk: log("text", chunk_text(chunk))


def _through(relay: LoopRelay, told: OnChunk) -> OnChunk:
    """Return what tells of chunks from a thread; it waits while the loop is far behind."""
    return lambda chunk: relay.send(lambda _stream, _text: told(chunk), "text", chunk_text(chunk))


def label_of(function: Any) -> str:
    """Return what messages call a function or a reference to one."""
    return function if isinstance(function, str) else getattr(function, "__qualname__", type(function).__name__)


def _ready(call: FunctionCall) -> LoadedFunction | None:
    """Return the call's function if nothing must be imported for it."""
    if isinstance(call.function, str):
        return _loader.current(call.function, call.folder)
    return known_function(call.function)


def _bind(
    loaded: LoadedFunction, call: FunctionCall, log: Log | None, contexts: list[StepContext] | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Return the function's arguments; a context that was made for them is added to `contexts`."""
    context = None
    if loaded.shape.context:
        context = StepContext(**call.facts, write=None if log is None else lambda text: log("stdout", text))
        if contexts is not None:
            contexts.append(context)
    args = _validated(loaded.function, call) if call.validate else call.args
    return arguments_for(loaded.shape, args, context)


def _validated(function: Function, call: FunctionCall) -> Mapping[str, Any]:
    from stepchain_tui.tools.schema import schema_of

    return schema_of(function).validate(call.args, call.name)


async def _awaited(value: Any) -> Any:
    return await value


def _forget(_stream: str, _text: str) -> None: ...
