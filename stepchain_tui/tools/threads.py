"""Threads for functions: our own, never the loop's default executor, and never in the way of the interpreter's end.

A Python thread cannot be killed. Cancelling a call gives up its result at once, asks the function to stop (a coroutine
is cancelled, a plain function can look at `ctx.cancelled`), and leaves `finished` open until the thread is free again,
so that whoever counts slots can keep this one taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any

MAX_THREADS = 64
_IDLE_SECONDS = 30.0
_serving = threading.local()

_Work = Callable[["ThreadCall"], Any]


class ThreadCall:
    """One call on its way through a thread.

    Attributes:
        result: The function's result or exception; cancelled at once when the call is cancelled.
        finished: Done when the thread is free again.
        was_stuck: Whether the call was cancelled while its function ran.
    """

    def __init__(
        self,
        work: _Work,
        on_cancel: Callable[[], None] | None = None,
        on_finished: Callable[[ThreadCall], None] | None = None,
        on_stuck: Callable[[], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_finished = on_finished
        self._on_stuck = on_stuck
        self._work = work
        self._on_cancel = on_cancel
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._started = False
        self._has_run = False
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self.cancelled = False
        self.was_stuck = False
        self.result: asyncio.Future[Any] = self._loop.create_future()
        self.finished: asyncio.Future[None] = self._loop.create_future()

    def belongs_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the call was made on a loop, which its futures are bound to."""
        return self._loop is loop

    @property
    def stuck(self) -> bool:
        """Whether the call was cancelled and its function still runs."""
        return self.cancelled and not self.finished.done()

    def cancel_from_anywhere(self) -> None:
        """Cancel on the call's own loop, which may be another thread's."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self.cancel)

    def cancel(self) -> None:
        """Give up the result and ask the function to stop."""
        self.result.cancel()
        if self._on_cancel is not None:
            self._on_cancel()
        with self._lock:
            becomes_stuck = self._started and not self._has_run and not self.cancelled
            self.cancelled = True
            self.was_stuck = self.was_stuck or becomes_stuck
            started, task = self._started, self._task
        if becomes_stuck and self._on_stuck is not None:
            self._on_stuck()
        if not started:
            self._set_finished()
        elif task is not None:
            with contextlib.suppress(RuntimeError):  # its loop has just ended: so has the function
                task[0].call_soon_threadsafe(task[1].cancel)

    def run(self) -> None:
        """Do the work; called by the thread."""
        with self._lock:
            if self.cancelled:
                return
            self._started = True
        value, error = None, None
        try:
            value = self._context.run(self._work, self)
        except BaseException as raised:  # noqa: BLE001 - the border of the thread: handed to the caller as it is
            error = raised
        with self._lock:
            self._has_run = True
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._tell, value, error)

    def run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end in this thread; it is really cancelled when the call is."""

        async def main() -> Any:
            task = asyncio.current_task()
            assert task is not None
            with self._lock:
                self._task = (asyncio.get_running_loop(), task)
                late = self.cancelled
            try:
                if late:
                    coroutine.close()
                    raise asyncio.CancelledError
                return await coroutine
            finally:
                with self._lock:
                    self._task = None

        return asyncio.run(main())

    def _tell(self, value: Any, error: BaseException | None) -> None:
        if not self.result.done():
            if error is None:
                self.result.set_result(value)
            elif isinstance(error, StopIteration | GeneratorExit):  # thrown into who awaits, they end him unheard
                self.result.set_exception(RuntimeError(f"the function raised {type(error).__name__}"))
            elif isinstance(error, asyncio.CancelledError):
                self.result.set_exception(RuntimeError("the function cancelled itself"))
            else:
                self.result.set_exception(error)
        self._set_finished()

    def _set_finished(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)
            if self._on_finished is not None:
                self._on_finished(self)


class ThreadPool:
    """Threads that come when they are needed and go when they are not. Calls may be made on any number of loops.

    Args:
        size: Calls at once; more wait for a thread. A call that was given up and whose function goes on does not count:
            it would hold up the others for ever.
    """

    def __init__(self, size: int = MAX_THREADS) -> None:
        self._size = size
        self._calls: queue.SimpleQueue[ThreadCall | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._backlog = 0
        self._stuck = 0
        self._closed = False
        self._running: set[ThreadCall] = set()

    def submit(self, work: _Work, on_cancel: Callable[[], None] | None = None) -> ThreadCall:
        """Have `work` called in a thread, in a copy of the caller's context.

        Args:
            work: Gets the call, for `run_coroutine`.
            on_cancel: Called on the loop when the call is cancelled; asks `work` to stop.
        """
        if self._closed:
            raise RuntimeError("the pool of threads is closed")
        call = ThreadCall(work, on_cancel, self._running.discard, self._let_another_in)
        self._running.add(call)
        nested = getattr(_serving, "now", False)  # the caller waits in a thread of this pool, which may be the last
        with self._lock:
            starts = not self._idle and (nested or self._threads - self._stuck < self._size)
            if self._idle:
                self._idle -= 1
            elif starts:
                self._threads += 1
            else:
                self._backlog += 1
        self._calls.put(call)
        if starts:
            self._start_thread()
        return call

    @property
    def stuck(self) -> list[ThreadCall]:
        """The calls that were cancelled and still run."""
        return [call for call in self._running if call.stuck]

    async def close(self) -> None:
        """Cancel what runs and let the threads go; a stuck function does not hold this up."""
        self._closed = True
        ours = asyncio.get_running_loop()
        for call in list(self._running):
            if call.belongs_to(ours):
                call.cancel()
            else:
                call.cancel_from_anywhere()
        with self._lock:
            for _ in range(self._threads):
                self._calls.put(None)

    def _let_another_in(self) -> None:
        """Start a thread in place of one that is stuck, where calls wait for one."""
        with self._lock:
            self._stuck += 1
            starts = self._backlog > 0 and not self._closed
            if starts:
                self._backlog -= 1
                self._threads += 1
        if starts:
            self._start_thread()

    def _start_thread(self) -> None:
        threading.Thread(target=self._serve, name="stepchain-function", daemon=True).start()

    def _serve(self) -> None:
        """Take one call after the other: each was meant for a thread that was free or new when it came, or is of the
        backlog, so that no call waits behind one that runs while there could be another thread.
        """
        while True:
            try:
                call = self._calls.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if not self._idle:
                        continue  # a call is on its way to this thread
                    self._idle -= 1
                    self._threads -= 1
                return
            if call is None:
                with self._lock:
                    self._threads -= 1
                return
            _serving.now = True
            try:
                call.run()
            finally:
                _serving.now = False
                self._running.discard(call)  # here too: the loop that it was made on may be gone
            with self._lock:
                if call.was_stuck:
                    self._stuck -= 1
                del call
                if self._threads - self._stuck > self._size:
                    self._threads -= 1
                    return
                if self._backlog:
                    self._backlog -= 1
                else:
                    self._idle += 1
