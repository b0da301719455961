"""Runs snippets in full CPython, each in a bubblewrap sandbox of its own, side by side and stoppable.

The twin of `MontyRunner` for code that needs classes, generators or packages. A snippet's code and values travel by
pipe, its value comes back as JSON; see `inside` for what happens at the other end.
"""

from __future__ import annotations

import asyncio
import codecs
import errno
import json
import shutil
import textwrap
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from stepchain_tui.core.errors import UsageError
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import OUTPUT_LIMIT
from stepchain_tui.sandbox.answers import value_of
from stepchain_tui.sandbox.bubblewrap import FOLDER_LIMIT, Bubblewrap, candidate, unavailable
from stepchain_tui.sandbox.bwrap_process import BwrapProcess
from stepchain_tui.sandbox.failures import memory_failure, stopped_failure
from stepchain_tui.sandbox.guard import WorkerGuard
from stepchain_tui.sandbox.inside import EXIT_BROKEN, EXIT_DONE, EXIT_MEMORY, EXIT_PROCESSES
from stepchain_tui.sandbox.runner import DEFAULT_PRINT_LIMIT, DEFAULT_TIME_LIMIT, PrintCallback
from stepchain_tui.sandbox.values import inputs_for_sandbox, too_big

DEFAULT_BWRAP_MEMORY_LIMIT = 512 * 1024 * 1024
"""Bytes that a snippet may hold beside what the interpreter itself takes; large packages need most of it to load."""
PROCESS_LIMIT = 32
"""Processes and threads of a snippet, all together."""
DESCRIPTOR_LIMIT = 64
READ_IN_THREAD = 256 * 1024
"""Bytes above which an answer is read in a thread: the event loop has others to serve."""
_PROBE_LIMIT = 10.0
_COMPLAINT_LIMIT = 2_000
_OF_THE_MOMENT = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})
"""What keeps a process from being started that may be over soon."""
_ADVICE = (
    "Some systems forbid user namespaces: see docs/sandbox.md. Or leave `engine` out for the sandbox monty, "
    "or use a `function:` step for code that you trust."
)

SpawnedCallback = Callable[[int, int, float], Awaitable[None]]


class BwrapRunner:
    """Full Python where it can reach neither files nor network nor other processes.

    Args:
        memory_limit: Bytes a snippet may hold.
        print_limit: Bytes a snippet may print.
        way: How bubblewrap is started; None means the way that `find_bubblewrap` finds.
    """

    def __init__(
        self,
        *,
        memory_limit: int = DEFAULT_BWRAP_MEMORY_LIMIT,
        print_limit: int = DEFAULT_PRINT_LIMIT,
        way: Bubblewrap | None = None,
    ) -> None:
        self._way = way
        self.memory_limit = memory_limit
        self.print_limit = print_limit
        self._snippets: set[_Snippet] = set()
        self._guard = WorkerGuard()
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
        network_access: bool = False,
        on_print: PrintCallback | None = None,
        on_spawned: SpawnedCallback | None = None,
    ) -> Any:
        """Run `code` and return the value of its last expression as a JSON value, None where it has none.

        Args:
            code: A snippet of Python.
            inputs: Names that the code can use, with their values.
            name: What the snippet is called in tracebacks.
            timeout: Seconds it may take; None means 300.
            memory_limit: Bytes it may hold; None means the runner's.
            cpu_limit: How much of one core all of its processes may use together; None for no limit.
            network_access: Let it use this machine's network.
            on_print: Gets `("stdout" | "stderr", text)` as the code prints, on the event loop.
            on_spawned: Awaited with pid, process group and start time before anything of the code runs.

        Raises:
            AttemptError: user_error where there is no such sandbox here, and for code that cannot be parsed or is
                plainly wrong (with line and column), tool_error for what it raises and for its limits of memory,
                prints and processes, timeout for its time limit.
            UsageError: The runner is closed.
        """
        if self._closed:
            raise UsageError("the sandbox is closed", hint="Make a new BwrapRunner.")
        values = inputs_for_sandbox(inputs or {})
        way = self._way or await find_bubblewrap()
        snippet = _Snippet(
            code=textwrap.dedent(code) if code[:1] in " \t\n" else code,
            inputs=values,
            name=name,
            time_limit=DEFAULT_TIME_LIMIT if timeout is None else timeout,
            memory_limit=memory_limit or self.memory_limit,
            print_limit=self.print_limit,
            cpu_limit=cpu_limit,
            network_access=network_access,
            on_print=on_print,
        )
        return await self._carry_out(snippet, way, on_spawned)

    def pids(self) -> list[int]:
        """Return the process ids of the sandboxes that run now."""
        return [snippet.process.pid for snippet in self._snippets if snippet.process is not None]

    async def close(self) -> None:
        """Stop what runs and wait for its end. Safe to call twice."""
        self._closed = True
        running = list(self._snippets)
        for snippet in running:
            snippet.stop("closed")
        if running:
            await asyncio.wait([snippet.ended for snippet in running])
        self._guard.close()

    async def _carry_out(self, snippet: _Snippet, way: Bubblewrap, on_spawned: SpawnedCallback | None) -> Any:
        self._snippets.add(snippet)
        try:
            return await snippet.run(way, self._guard, on_spawned)
        finally:
            self._snippets.discard(snippet)


class _Snippet:
    """One snippet on its way through a sandbox."""

    def __init__(
        self,
        *,
        code: str,
        inputs: dict[str, Any],
        name: str,
        time_limit: float,
        memory_limit: int = DEFAULT_BWRAP_MEMORY_LIMIT,
        print_limit: int = DEFAULT_PRINT_LIMIT,
        cpu_limit: float | None = None,
        network_access: bool = False,
        on_print: PrintCallback | None = None,
    ) -> None:
        self.process: BwrapProcess | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._code, self._inputs, self._name = code, inputs, name
        self._time_limit, self._memory_limit, self._print_limit = time_limit, memory_limit, print_limit
        self._cpu_limit, self._network_access, self._on_print = cpu_limit, network_access, on_print
        self._why = ""
        self._printed = 0
        self._decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in ("stdout", "stderr")}
        self._complaint = b""
        self._result = bytearray()

    async def run(self, way: Bubblewrap, guard: WorkerGuard, on_spawned: SpawnedCallback | None = None) -> Any:
        """Carry the snippet out and return its value; see `BwrapRunner.run`."""
        timer: asyncio.TimerHandle | None = None
        try:
            guard.start()
            self.process = process = self._start(way)
            guard.watch(-process.pid)
            try:
                if on_spawned is not None:
                    await on_spawned(process.pid, process.pid, process.started_at)
                if not self._why:
                    process.send(json.dumps(self._request(way)).encode("ascii"))
                    timer = asyncio.get_running_loop().call_later(self._time_limit, self.stop, "timeout")
                    await asyncio.wait([process.exited])
            finally:
                code = await process.end()
                guard.forget(-process.pid)
        finally:
            if timer is not None:
                timer.cancel()
            self.ended.set_result(None)
        self._finish_prints()
        if len(self._result) <= READ_IN_THREAD:
            return self._outcome(code)
        return await asyncio.to_thread(self._outcome, code)

    def stop(self, why: str) -> None:
        """End the snippet; `why` is that of `stopped_failure`, or `result`."""
        self._why = self._why or why
        if self.process is not None:
            self.process.kill()

    def _start(self, way: Bubblewrap) -> BwrapProcess:
        try:
            return BwrapProcess(
                way,
                network=self._network_access,
                on_stdout=lambda data: self._take("stdout", data),
                on_stderr=lambda data: self._take("stderr", data),
                on_result=self._take_result,
            )
        except OSError as error:
            if error.errno not in _OF_THE_MOMENT:
                raise unavailable(f"it cannot be started: {error}", _ADVICE) from error
            raise _busy(f"cannot be started: {error.strerror}") from error

    def _request(self, way: Bubblewrap) -> dict[str, Any]:
        return {
            "code": self._code,
            "inputs": self._inputs,
            "name": self._name,
            "memory": self._memory_limit,
            "cpu": self._cpu_limit,
            "processes": PROCESS_LIMIT,
            "tasks": way.task_limit(PROCESS_LIMIT),
            "descriptors": DESCRIPTOR_LIMIT,
            "file": FOLDER_LIMIT,
            "result": OUTPUT_LIMIT,
            "user": way.user(),
            "packages": list(way.packages()),
        }

    def _take(self, stream: str, data: bytes) -> None:
        """Pass on what the code prints; over the limit, the code is ended."""
        self._printed += len(data)
        if stream == "stderr":
            self._complaint = (self._complaint + data)[-_COMPLAINT_LIMIT:]
        if self._printed > self._print_limit:
            self.stop("printed")
        else:
            self._hand_on(stream, self._decoders[stream].decode(data))

    def _finish_prints(self) -> None:
        for stream, decoder in self._decoders.items():
            self._hand_on(stream, decoder.decode(b"", final=True))

    def _hand_on(self, stream: str, text: str) -> None:
        if not text or self._on_print is None or self._why:
            return
        try:
            self._on_print(stream, text)
        except Exception:  # noqa: BLE001 - the border to whoever keeps the log: its failure ends the code, not the loop
            self.stop("print")

    def _take_result(self, data: bytes) -> None:
        self._result += data
        if len(self._result) > OUTPUT_LIMIT + _COMPLAINT_LIMIT:
            self.stop("result")

    def _outcome(self, code: int) -> Any:
        if self._why == "result":
            raise too_big(len(self._result))
        if self._why:
            raise stopped_failure(self._why, self._time_limit, self._print_limit)
        if code == EXIT_DONE:
            return value_of(bytes(self._result), self._memory_limit)
        if code == EXIT_MEMORY:
            raise memory_failure("", self._memory_limit)
        if code == EXIT_PROCESSES:
            raise AttemptError(
                f"the code started more than {PROCESS_LIMIT} processes",
                error_type=ErrorType.TOOL_ERROR,
                hint="Start fewer at once.",
                exception="ProcessLimit",
                details={"resource_limit": "processes"},
            )
        if code == EXIT_BROKEN or code < 0 or code > 128:
            number = -code if code < 0 else code - 128
            raise AttemptError(
                "the sandbox broke" if code == EXIT_BROKEN else f"the code's process was killed by signal {number}",
                error_type=ErrorType.TOOL_ERROR,
                hint="A crash in a package, or too little memory on this machine.",
                exception="SandboxCrashed",
            )
        said = self._complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise unavailable(said or f"bubblewrap ended with exit code {code}", _ADVICE)


SANDBOX_BUSY = "SandboxBusy"
"""What a failure is called that says nothing of whether there is a sandbox: the machine was too busy to begin it."""


def _busy(problem: str) -> AttemptError:
    """Return the failure of a step whose sandbox does not begin, on a machine that may have one all the same."""
    return AttemptError(
        f"the sandbox 'bwrap' {problem}",
        error_type=ErrorType.TOOL_ERROR,
        hint="The machine is busy: lower `max_concurrent`, or let the step be tried again (`retry:`).",
        exception=SANDBOX_BUSY,
    )


_found: dict[str | None, Bubblewrap | AttemptError] = {}
"""What was found out, by the path of bwrap: a machine's answer does not change while we run."""


async def find_bubblewrap() -> Bubblewrap:
    """Return the way to start bubblewrap that works here; found out once, by running a snippet.

    Raises:
        AttemptError: There is none, as `user_error`, with the reason; or the machine is too busy to tell.
    """
    program = shutil.which("bwrap")
    found = _found.get(program) or await _probe()
    if isinstance(found, AttemptError) and found.exception == SANDBOX_BUSY:
        raise found
    _found[program] = found
    if isinstance(found, AttemptError):
        raise unavailable(found.details.get("reason", found.message), found.hint)
    return found


async def _probe() -> Bubblewrap | AttemptError:
    guard = WorkerGuard()
    try:
        way = candidate()
        value = await _Snippet(code="6 * 7", inputs={}, name="probe", time_limit=_PROBE_LIMIT).run(way, guard)
    except AttemptError as error:
        return error if error.error_type is not ErrorType.TIMEOUT else _busy(f"took over {_PROBE_LIMIT:g} s to begin")
    finally:
        guard.close()
    return way if value == 42 else unavailable(f"a first snippet gave {value!r}", _ADVICE)
