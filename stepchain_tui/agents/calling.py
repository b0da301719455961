"""Calling what users wrote, sync or async, so that it neither blocks the loop nor outlives its time.

Async code runs as a task of its own and is cancelled when its time is over; code that swallows that is left to itself
after a grace. Sync code runs in a thread, which cannot be killed: its result is given up, it is asked to stop, and its
thread counts as taken until it has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from stepchain_tui.tools.threads import ThreadCall, ThreadPool

GRACE = 2.0
"""Seconds that cancelled async code gets for its clean-up."""


async def call_function(
    function: Callable[..., Any],
    positional: Sequence[Any] = (),
    keywords: Mapping[str, Any] | None = None,
    *,
    threads: ThreadPool,
    limit: float | None,
    what: str,
    on_cancel: Callable[[], None] | None = None,
) -> Any:
    """Return what `function` returns; an awaitable that it returns is awaited.

    Args:
        function: Sync or async.
        positional: Its arguments.
        keywords: Its arguments by name.
        threads: Where it runs if it is sync.
        limit: Seconds it may take, counted from when it begins, and for which it waits for a thread; None is for ever.
        what: What is called, for messages.
        on_cancel: Called when it is given up.

    Raises:
        TimeoutError: Its time is over, or no thread became free.
        Exception: What the function raised.
    """
    keywords = keywords or {}
    if is_async(function):
        return await _finish(_guarded(function, positional, keywords, what), limit, what, on_cancel)
    value = await _in_thread(function, positional, keywords, threads, limit, what, on_cancel)
    if inspect.isawaitable(value):
        return await _finish(_guarded(_give, (value,), {}, what), limit, what, on_cancel)
    return value


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether calling `function` gives a coroutine."""
    target = getattr(function, "func", function)  # what functools.partial holds
    call = getattr(target, "__call__", None)  # noqa: B004 - the bound method, to look into it
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(call)


def too_long(what: str, limit: float) -> TimeoutError:
    """Return the error of a call whose time is over."""
    return TimeoutError(f"{what} took longer than {limit:g} s")


async def _finish(
    body: Coroutine[Any, Any, Any], limit: float | None, what: str, on_cancel: Callable[[], None] | None
) -> Any:
    task = asyncio.create_task(body, name=what)
    overdue = False
    try:
        await asyncio.wait({task}, timeout=limit)
        overdue = not task.done()
    finally:
        if not task.done():
            if on_cancel is not None:
                on_cancel()
            task.cancel()
            await asyncio.wait({task}, timeout=GRACE)
            task.add_done_callback(_forget)
    if overdue:
        assert limit is not None
        raise too_long(what, limit)
    return task.result()


async def _guarded(
    function: Callable[..., Any], positional: Sequence[Any], keywords: Mapping[str, Any], what: str
) -> Any:
    """Return what async code returns; what would end the loop or look like our own cancellation is an error of its."""
    try:
        value = function(*positional, **keywords)
        return await value if inspect.isawaitable(value) else value
    except SystemExit as error:
        raise _exited(what, error) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise RuntimeError(f"{what} cancelled itself") from error


async def _in_thread(
    function: Callable[..., Any],
    positional: Sequence[Any],
    keywords: Mapping[str, Any],
    threads: ThreadPool,
    limit: float | None,
    what: str,
    on_cancel: Callable[[], None] | None,
) -> Any:
    loop = asyncio.get_running_loop()
    begun: asyncio.Future[None] = loop.create_future()

    def work(_: ThreadCall) -> Any:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts the time any more
            loop.call_soon_threadsafe(_set, begun)
        return function(*positional, **keywords)

    call = threads.submit(work, on_cancel)
    try:
        await asyncio.wait({begun}, timeout=limit)
        if not begun.done():
            raise TimeoutError(f"{what} found no free thread within {limit:g} s")
        await asyncio.wait({call.result}, timeout=limit)
        if not call.result.done():
            assert limit is not None
            raise too_long(what, limit)
        return call.result.result()
    except SystemExit as error:
        raise _exited(what, error) from error
    finally:
        if not call.finished.done():
            call.cancel()


async def _give(value: Any) -> Any:
    return await value


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _forget(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _exited(what: str, error: SystemExit) -> RuntimeError:
    return RuntimeError(f"{what} called sys.exit({error.code!r})")
