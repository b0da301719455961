"""Runs snippets of Python in sandbox workers, side by side and stoppable.

Each of the runner's threads keeps one worker process. A snippet waits for a free thread, runs in that thread's
worker, and is stopped by killing the worker: the next snippet then gets a new one. Nothing is shared between
snippets.
"""

from __future__ import annotations

import asyncio
import os
import textwrap
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from stepchain_tui.core.clock import SystemClock
from stepchain_tui.core.errors import UsageError
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.sandbox.failures import runtime_failure, stopped_failure, syntax_failure, timeout_failure
from stepchain_tui.sandbox.guard import WorkerGuard
from stepchain_tui.sandbox.throttle import Throttle
from stepchain_tui.sandbox.values import inputs_for_sandbox, result_from_sandbox
from stepchain_tui.sandbox.worker import Worker, WorkerProcess, sleep_handler

if TYPE_CHECKING:
    from pydantic_monty import MontyError, ResourceLimits

DEFAULT_MEMORY_LIMIT = 100 * 1024 * 1024
"""Bytes that a snippet may hold."""
DEFAULT_TIME_LIMIT = 300.0
"""Seconds that a snippet may take where no timeout is given."""
DEFAULT_PRINT_LIMIT = 10 * 1024 * 1024
"""Characters that a snippet may print."""
LONGEST_TIME = 1e9
"""Seconds beyond which the sandbox cannot count."""
RECURSION_LIMIT = 1000
GRACE = 0.5
"""Seconds after its time limit at which a snippet is killed, in case it did not end itself."""
STOP_LIMIT = 4.0
"""Seconds that a cancellation waits for the worker's end."""

_CLOCK = SystemClock()
"""Real processes take real time, whatever clock the engine has."""

PrintCallback = Callable[[str, str], None]


class MontyRunner:
    """One engine's sandbox: lazily started workers, each with its own process.

    Args:
        max_workers: Snippets at once; the rest wait. Default: one for each core, at least 4.
        memory_limit: Bytes a snippet may hold.
        print_limit: Characters a snippet may print.
    """

    def __init__(
        self,
        *,
        max_workers: int | None = None,
        memory_limit: int = DEFAULT_MEMORY_LIMIT,
        print_limit: int = DEFAULT_PRINT_LIMIT,
    ) -> None:
        self.max_workers = max_workers or max(4, os.cpu_count() or 1)
        self.memory_limit = memory_limit
        self.print_limit = print_limit
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._workers: dict[int, Worker] = {}
        self._jobs: set[_Job] = set()
        self._guard = WorkerGuard()
        self._throttle = Throttle()
        self._closed = False

    async def run(
        self,
        code: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        name: str = "python",
        timeout: float | None = None,
        memory_limit: int | None = None,
        cpu_limit: float | None = None,
        on_print: PrintCallback | None = None,
    ) -> Any:
        """Run `code` and return the value of its last expression as a JSON value, None where it has none.

        Args:
            code: A snippet of Python, in the sandbox's subset.
            inputs: Names that the code can use, with their values.
            name: What the snippet is called in tracebacks.
            timeout: Seconds it may take, sleeps included; None means 300. Waiting for a worker does not count.
            memory_limit: Bytes it may hold; None means the runner's.
            cpu_limit: How much of one core it may use; None for no limit.
            on_print: Gets `("stdout" | "stderr", text)` as the code prints, on a thread of the runner.

        Raises:
            AttemptError: user_error for code that cannot be parsed or is plainly wrong (with line and column),
                tool_error for what it raises and for its memory limit, timeout for its time limit.
            UsageError: The runner is closed.
        """
        if self._closed:
            raise UsageError("the sandbox is closed", hint="Make a new MontyRunner.")
        job = _Job(
            code=textwrap.dedent(code) if code[:1] in " \t\n" else code,
            inputs=inputs_for_sandbox(inputs or {}),
            name=name,
            time_limit=DEFAULT_TIME_LIMIT if timeout is None else timeout,
            memory_limit=memory_limit or self.memory_limit,
            print_limit=self.print_limit,
            cpu_limit=cpu_limit,
            on_print=on_print,
        )
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.max_workers, thread_name_prefix="sandbox")
        self._jobs.add(job)
        future = self._threads.submit(self._carry_out, job)
        try:
            return await self._wait(job, future)
        finally:
            self._jobs.discard(job)

    def workers(self) -> list[WorkerProcess]:
        """Return the worker processes that live now."""
        with self._lock:
            return [worker.process for worker in self._workers.values()]

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers that live now."""
        return [process.pid for process in self.workers()]

    async def close(self) -> None:
        """Stop what runs, end all workers and wait for them. Safe to call twice."""
        self._closed = True
        for job in list(self._jobs):
            job.stop("closed")
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            workers = list(self._workers.values())
            self._workers.clear()
        for worker in workers:
            self._forget(worker)
        self._guard.close()

    async def _wait(self, job: _Job, future: Future[Any]) -> Any:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(job.time_limit + GRACE, _expire, loop, job)
        waiter = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if future.cancelled() and not (task is not None and task.cancelling()):
                raise job.stopped_failure() from None
            if not future.cancel():
                job.stop("cancelled")
                await asyncio.wait({waiter}, timeout=STOP_LIMIT)
                if waiter.done() and not waiter.cancelled():
                    waiter.exception()  # looked at, so that the loop does not report it as lost
            raise
        finally:
            timer.cancel()
            job.timer_off = True

    def _carry_out(self, job: _Job) -> Any:
        """Run one snippet in this thread's worker."""
        from pydantic_monty import MontyConversionError, MontyCrashedError, MontyError, MontyRuntimeError

        worker = self._worker()
        keep = False
        if not job.begin(worker):
            raise job.stopped_failure()
        try:
            with self._throttle.hold(worker, job.cpu_limit), worker.checkout(job.name, job.limits()) as session:
                value = session.feed_run(
                    job.code,
                    inputs=job.inputs,
                    print_callback=job.printed,
                    os=sleep_handler(job.sleep),
                )
            keep = job.end()
            if not keep:  # stopped between its last instruction and here
                raise job.stopped_failure()
            return result_from_sandbox(value)
        except (MontyCrashedError, RuntimeError) as error:
            raise job.crash_failure(error) from error
        except MontyConversionError as error:
            keep = job.end()
            raise AttemptError(str(error), error_type=ErrorType.USER_ERROR, hint="Pass JSON values.") from error
        except MontyError as error:
            memory = isinstance(error, MontyRuntimeError) and isinstance(error.exception(), MemoryError)
            failure = job.failure(error)
            keep = job.end() and not memory and failure.error_type is not ErrorType.TIMEOUT
            raise failure from error
        except (ValueError, TypeError) as error:  # such as a key that is an object of the code's own class
            keep = job.end()
            if not keep:
                raise job.stopped_failure() from error
            raise AttemptError(
                f"the value of the last expression cannot leave the sandbox: {error}",
                error_type=ErrorType.USER_ERROR,
                hint="Give a JSON value: text, numbers, lists, dicts.",
            ) from error
        finally:
            job.end()
            if not keep:
                self._drop(worker)

    def _worker(self) -> Worker:
        """Return this thread's worker; start one where it has none."""
        thread = threading.get_ident()
        with self._lock:
            worker = self._workers.get(thread)
        if worker is not None:
            if worker.is_alive():
                return worker
            self._drop(worker)
        from pydantic_monty import MontyError

        try:
            worker = Worker()
        except (OSError, RuntimeError, MontyError) as error:
            raise AttemptError(
                f"the sandbox cannot be started: {error}",
                error_type=ErrorType.USER_ERROR,
                hint="Install it again with `pip install --force-reinstall pydantic-monty`.",
                exception="SandboxNotAvailable",
            ) from error
        with self._lock:
            self._workers[thread] = worker
        self._guard.watch(worker.process.pid)
        return worker

    def _drop(self, worker: Worker) -> None:
        with self._lock:
            self._workers.pop(threading.get_ident(), None)
        self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        worker.kill()
        worker.close()
        self._guard.forget(worker.process.pid)


def _expire(loop: asyncio.AbstractEventLoop, job: _Job) -> None:
    """Stop a snippet whose time is over; where it began late, look again when its time will be over."""
    if job.timer_off:
        return
    left = job.seconds_left() + GRACE
    if left <= 0.01:
        job.stop("timeout")
    else:
        loop.call_later(left, _expire, loop, job)


class _Job:
    """One snippet: what its thread and whoever stops it share."""

    def __init__(
        self,
        *,
        code: str,
        inputs: dict[str, Any],
        name: str,
        time_limit: float,
        memory_limit: int,
        print_limit: int,
        cpu_limit: float | None,
        on_print: PrintCallback | None,
    ) -> None:
        self.code = code
        self.inputs = inputs
        self.name = name
        self.time_limit = time_limit
        self.memory_limit = memory_limit
        self.print_limit = print_limit
        self.cpu_limit = cpu_limit
        self.on_print = on_print
        self.stopping = threading.Event()
        self.timer_off = False
        self._lock = threading.Lock()
        self._why = ""
        self._worker: Worker | None = None
        self._began: float | None = None
        self._printed = 0

    def limits(self) -> ResourceLimits:
        """Return the sandbox's limits; it has none that are not passed."""
        return {
            "max_memory": self.memory_limit,
            "max_feed_duration_secs": min(self.time_limit, LONGEST_TIME),
            "max_recursion_depth": RECURSION_LIMIT,
        }

    def begin(self, worker: Worker) -> bool:
        """Note the worker; False where the job was stopped before it began."""
        with self._lock:
            self._began = _CLOCK.monotonic()
            if self._why:
                return False
            self._worker = worker
            return True

    def end(self) -> bool:
        """Forget the worker, so that a stop kills nothing any more; False where it was stopped before."""
        with self._lock:
            self._worker = None
            return not self._why

    def stop(self, why: str) -> None:
        """End the snippet: kill its worker and wake its sleep."""
        with self._lock:
            self._why = self._why or why
            if self._worker is not None:
                self._worker.kill()
        self.stopping.set()

    def seconds_left(self) -> float:
        """Return the seconds that are left of the time limit; all of them before the beginning."""
        return self.time_limit - (0.0 if self._began is None else _CLOCK.monotonic() - self._began)

    def printed(self, stream: str, text: str) -> None:
        """Pass on what the code prints; over the limit, the code is ended."""
        self._printed += len(text)
        if self._printed > self.print_limit:
            self.stop("printed")
        elif self.on_print is not None:
            try:
                self.on_print(stream, text)
            except BaseException:
                self.stop("print")  # the sandbox would let the code go on until its time is over
                raise

    def sleep(self, seconds: float) -> None:
        """Sleep on behalf of the code; a stop wakes it, and its time limit ends the code."""
        left = self.seconds_left()
        if not self.stopping.wait(max(0.0, min(seconds, left))) and seconds > left:
            self.stop("timeout")

    def failure(self, error: MontyError) -> AttemptError:
        """Return the failure for what the sandbox raised."""
        from pydantic_monty import MontyRuntimeError, MontySyntaxError

        if self._why:
            return self.stopped_failure()
        if isinstance(error, MontySyntaxError):
            return syntax_failure(error, self.name)
        if isinstance(error, MontyRuntimeError):
            return runtime_failure(error, self.name, self.time_limit, self.memory_limit)
        return AttemptError(str(error), error_type=ErrorType.TOOL_ERROR, exception=type(error).__name__)

    def stopped_failure(self) -> AttemptError:
        """Return the failure of a job that somebody stopped."""
        return stopped_failure(self._why, self.time_limit, self.print_limit)

    def crash_failure(self, error: Exception) -> AttemptError:
        """Return the failure for a worker that is gone: stopped by us, over its time, or crashed."""
        if self._why:
            return self.stopped_failure()
        if getattr(error, "timed_out", False) or self.seconds_left() <= 0:
            return timeout_failure(self.time_limit)
        return AttemptError(
            f"the sandbox's process crashed: {error}",
            error_type=ErrorType.TOOL_ERROR,
            hint="The next try gets a new process. If it happens again, the code asks too much of the sandbox.",
            exception="SandboxCrashed",
        )
