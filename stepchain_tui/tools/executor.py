"""`Executor`: carries out tool calls, many at once, in threads and processes (document 002).

A face of the one set of pools: it adds a loop in a thread of its own, so that scripts, notebooks, threads and code
inside a running loop can all use it, and it never imports the caller's `__main__` into a worker.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stepchain_tui.core.errors import UsageError, did_you_mean
from stepchain_tui.tools.batch import BatchItem, begin_far, carry_out
from stepchain_tui.tools.environment import PublicEnvironment
from stepchain_tui.tools.function_calls import FunctionCall
from stepchain_tui.tools.local_loop import has_running_loop, run_here
from stepchain_tui.tools.loop_thread import LoopThread
from stepchain_tui.tools.process_worker import Log
from stepchain_tui.tools.resolving import Resolved, Resolver, resolve
from stepchain_tui.tools.types import (
    CALL_MODES,
    ToolCall,
    ToolResult,
)

__all__ = ("Executor", "ToolExecutor")


class Executor:
    """Carries out batches of tool calls. Safe from any thread; any number of batches may run at once.

    Arguments are checked against the function's schema before it is called, where it has one. Tools in a process get
    the environment without secret variables, as the steps of a plan do.

    Args:
        mode: Where functions run when nobody says: `thread`, which is light and for functions that wait, or
            `process`, for functions that compute and for those that must be ended when their time is over.
        timeout: Seconds that a function may run when nobody says; None for no limit.
        fallback: Whether a function that cannot be sent to a process runs in a thread instead, with a warning.
        secrets: Names of secret variables that tools in a process get all the same.
        process_workers: Worker processes at most; 0 is one for each core.
        log: Takes a stream's name and what a tool printed on it, in another thread; None prints it as ever.

    Raises:
        UsageError: A mode that does not exist (also a ValueError).
    """

    def __init__(
        self,
        *,
        mode: str = "thread",
        timeout: float | None = None,
        fallback: bool = True,
        secrets: Iterable[str] = (),
        process_workers: int = 0,
        log: Log | None = None,
    ) -> None:
        self._mode = _checked_mode(mode)
        self._timeout = _checked_timeout(timeout)
        self._fallback = fallback
        self._secrets = tuple(secrets)
        self._environment = PublicEnvironment(self._secrets)
        self._process_workers = process_workers
        self._log = log
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._finalizer: weakref.finalize[..., Executor] | None = None

    @property
    def execution_mode(self) -> str:
        """Where functions run when neither the call, the batch nor the tool says."""
        return self._mode

    def set_execution_mode(self, mode: str) -> None:
        """Set where functions run from now on; calls that run already go on as they began.

        Raises:
            UsageError: There is no such mode; lists those that there are (also a ValueError).
        """
        self._mode = _checked_mode(mode)

    def execute_tool_calls(
        self,
        get_tool_fn: Resolver,
        tool_calls: Iterable[Any],
        execution_mode: str | None = None,
        *,
        timeout: float | None = None,
    ) -> dict[str, str]:
        """Carry out a batch and return each call's text by its id: the result, or `Error: <Type>: <message>`.

        Blocks until all are done, the caller's loop too if there is one: use `aexecute` there.

        Args:
            get_tool_fn: Gives the function for a name, None where there is none; or a registry or mapping of tools.
            tool_calls: `ToolCall`s, or dicts and objects as models' SDKs give them.
            execution_mode: `process` or `thread` for this batch.
            timeout: Seconds that each function of this batch may run.

        Raises:
            UsageError: A mode that does not exist, a call without id or name, or two calls with one id; nothing ran.
        """
        results = self.execute_detailed(get_tool_fn, tool_calls, execution_mode, timeout=timeout)
        return {result.id: result.text for result in results}

    def execute_detailed(
        self,
        get_tool_fn: Resolver,
        tool_calls: Iterable[Any],
        execution_mode: str | None = None,
        *,
        timeout: float | None = None,
    ) -> list[ToolResult]:
        """Carry out a batch and return all that is known of each call, in order; see `execute_tool_calls`."""
        batch = self._batch(get_tool_fn, tool_calls, execution_mode, timeout)
        if not batch:
            return []
        thread = self._loop_thread()
        if not has_running_loop() and any(item.is_near for item in batch):
            return run_here(carry_out(thread, batch))
        future = begin_far(thread, batch)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def aexecute(
        self,
        get_tool_fn: Resolver,
        tool_calls: Iterable[Any],
        execution_mode: str | None = None,
        *,
        timeout: float | None = None,
    ) -> dict[str, str]:
        """Carry out a batch without blocking the running loop; see `execute_tool_calls`.

        Cancelling ends functions in processes and gives up those in threads.
        """
        results = await self.aexecute_detailed(get_tool_fn, tool_calls, execution_mode, timeout=timeout)
        return {result.id: result.text for result in results}

    execute_tool_calls_async = aexecute

    async def aexecute_detailed(
        self,
        get_tool_fn: Resolver,
        tool_calls: Iterable[Any],
        execution_mode: str | None = None,
        *,
        timeout: float | None = None,
    ) -> list[ToolResult]:
        """Carry out a batch and return all that is known of each call, in order; see `aexecute`."""
        batch = self._batch(get_tool_fn, tool_calls, execution_mode, timeout)
        return await carry_out(self._loop_thread(), batch) if batch else []

    def close(self) -> None:
        """End all workers with their children; calls that still run fail. The next call starts new ones."""
        with self._lock:
            thread, self._thread = self._thread, None
            if self._finalizer is not None:
                self._finalizer.detach()
        if thread is not None:
            thread.close()

    _shutdown_executors = close
    """The document's name."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # Methods of objects that hold an executor may travel to a process: there it starts its own workers.
        settings = (self._mode, self._timeout, self._fallback, self._secrets, self._process_workers)
        return (_rebuilt, settings)

    def _batch(
        self, source: Resolver, tool_calls: Iterable[Any], mode: str | None, timeout: float | None
    ) -> list[BatchItem]:
        received = time.monotonic()
        mode = None if mode is None else _checked_mode(mode)
        timeout = _checked_timeout(timeout)
        calls = [ToolCall.of(one) for one in tool_calls]
        ids: set[str] = set()
        for call in calls:
            if call.id in ids:
                raise UsageError(f"two tool calls have the id '{call.id}'", hint="Give each call an id of its own.")
            ids.add(call.id)
        return [self._item(source, call, mode, timeout, received) for call in calls]

    def _item(
        self, source: Resolver, call: ToolCall, mode: str | None, timeout: float | None, received: float
    ) -> BatchItem:
        item = BatchItem(call, received)
        try:
            tool = resolve(source, call.name)
            wanted = call.mode or mode or tool.mode or self._mode
            item.function_call = FunctionCall(
                function=tool.function,
                args=call.parsed_arguments(),
                # There is no loop of the caller's that a function could run on.
                mode="thread" if wanted == "inline" else _checked_mode(wanted),
                folder=tool.folder,
                label=call.name,
                fallback=self._fallback if tool.fallback is None else tool.fallback,
                validate=_has_schema(tool),
                timeout=_first(_checked_timeout(call.timeout), timeout, tool.timeout, self._timeout),
                log=self._log,
                warn=item.warnings.append,
            )
            if item.function_call.mode == "process":
                item.function_call.environment, item.function_call.cwd = self._environment.now(), _current_folder()
                item.function_call.log = self._log or _print
        except Exception as error:  # noqa: BLE001 - the resolver is the caller's: what it raises fails its call only
            item.error = error
        item.resolved_at = time.monotonic()
        return item

    def _loop_thread(self) -> LoopThread:
        with self._lock:
            thread = self._thread
            if thread is not None and thread.is_current:
                raise UsageError("an Executor cannot wait for itself", hint="Call it from another thread.")
            if thread is None or not thread.usable:
                thread = self._thread = LoopThread(self._process_workers)
                self._finalizer = weakref.finalize(self, thread.close, wait=False)
            return thread


ToolExecutor = Executor


def _has_schema(tool: Resolved) -> bool:
    """Return whether the arguments of a tool can be checked; a reference is checked where it is loaded."""
    if isinstance(tool.function, str):
        return True
    from stepchain_tui.tools.schema import ToolSchemaError, schema_of

    try:
        schema_of(tool.function)
    except ToolSchemaError:
        return False
    return True


def _checked_mode(mode: Any) -> str:
    if mode not in CALL_MODES:
        raise UsageError(
            f"there is no execution mode '{mode}' (there are: {', '.join(CALL_MODES)})",
            hint=did_you_mean(str(mode), CALL_MODES) or "Use 'process' or 'thread'.",
        )
    return str(mode)


def _checked_timeout(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
        raise UsageError(f"a timeout cannot be {timeout!r}", hint="Give seconds over 0, or None for no limit.")
    return float(timeout)


def _current_folder() -> Path:
    global _folder
    name = os.getcwd()  # noqa: PTH109 - asked for every call: Path costs five times as much
    if str(_folder) != name:
        _folder = Path(name)
    return _folder


_folder = Path("/")


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _print(stream: str, text: str) -> None:
    target = sys.stderr if stream == "stderr" else sys.stdout
    if target is not None:
        target.write(text)


def _rebuilt(
    mode: str, timeout: float | None, fallback: bool, secrets: tuple[str, ...], process_workers: int
) -> Executor:
    return Executor(mode=mode, timeout=timeout, fallback=fallback, secrets=secrets, process_workers=process_workers)
