"""The program inside a bubblewrap sandbox: it is the sandbox's first process, and carries out one snippet in a child.

It is handed to a bare interpreter as text and imports the standard library only. As the first process of its process
namespace it sees all others, gets no signal from them, and takes them all along when it ends. The snippet is code of
a stranger: the first process cannot be read or written by it, and tells how it ended by its exit code alone.

Its standard input brings the request, `LENGTH NEWLINE JSON`, and then nothing; when it closes, whoever asked is gone
and all ends. The child writes its answer, one JSON object, to the descriptor named in the arguments.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn

EXIT_DONE = 80
"""The snippet's process ended by itself; the answer, if there is one, is in the pipe."""
EXIT_MEMORY = 81
"""All processes together held more memory than they may."""
EXIT_PROCESSES = 82
"""There were more processes than there may be."""
EXIT_ORPHANED = 83
"""Whoever asked is gone."""
EXIT_BROKEN = 84
"""The first process could not go on watching."""

TICK = 0.01
"""Seconds between two looks at the processes."""
BURST = 0.05
"""Seconds of computing that may be saved up while nothing is computed."""
SPARE_MEMORY = 16 * 1024 * 1024
"""Bytes that are left to say that there is no memory left."""
PID_LIMIT = 1 << 22
"""Process ids begin again from here at the latest."""
DEPTH_LIMIT = 200
TEXT_LIMIT = 16_000
NUMBER_LIMIT = 2**31
ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
"""Made before the snippet can change the module's functions."""
AWAITS = 0x80
"""The flag of compiled code that is a coroutine: `inspect.CO_COROUTINE`."""
_SET_DUMPABLE = 4
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CLOCK_TICK = os.sysconf("SC_CLK_TCK")


def main() -> NoReturn:
    """Carry out the request and end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    request = read_request()
    user = request["user"]
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    set_dumpable(False)
    result = int(sys.argv[1])
    worker = os.fork()
    if worker == 0:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        carry_out(request, result)
    os.close(result)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    try:
        Supervisor(worker, request).watch()
    except BaseException:  # noqa: BLE001 - unwatched, nothing may go on
        os._exit(EXIT_BROKEN)


def read_request() -> dict[str, Any]:
    """Return what is to be done."""
    data = bytearray()
    while b"\n" not in data:
        data += read_some()
    length, _, rest = bytes(data).partition(b"\n")
    data = bytearray(rest)
    while len(data) < int(length):
        data += read_some()
    request: dict[str, Any] = json.loads(data)
    return request


def read_some() -> bytes:
    """Return the next bytes of the request; end where there are no more."""
    data = os.read(0, 1 << 20)
    if not data:
        os._exit(EXIT_ORPHANED)
    return data


def set_dumpable(on: bool) -> None:
    """Let others of the same user look into this process's memory and descriptors, or forbid it."""
    import ctypes

    if ctypes.CDLL(None).prctl(_SET_DUMPABLE, int(on), 0, 0, 0) != 0:
        raise OSError("prctl does not work here")


# --- the first process


class Supervisor:
    """Watches the snippet's processes, and ends with them.

    Args:
        worker: The process of the snippet.
        request: `memory` (bytes, what the interpreter itself holds not counted), `processes`, and `cpu`: how much of
            one core all may use together, or None.
    """

    def __init__(self, worker: int, request: Mapping[str, Any]) -> None:
        self._worker = worker
        self._memory: int = request["memory"]
        self._bare = resident(os.getpid())
        self._processes: int = request["processes"]
        self._share: float | None = request["cpu"]
        self._cores = len(os.sched_getaffinity(0))
        self._allowance = BURST
        self._looked_at = time.monotonic()
        self._total = 0.0
        self._pids = {worker}
        self._newest_pid = worker
        self._stopped = False

    def watch(self) -> NoReturn:
        """Look at all processes until the snippet's has ended or one limit is broken."""
        poll = select.poll()
        poll.register(0, select.POLLIN | select.POLLHUP)
        poll.register(os.pidfd_open(self._worker), select.POLLIN)
        while True:
            for descriptor, _ in poll.poll(TICK * 1000):
                if descriptor == 0 and not os.read(0, 1):
                    os._exit(EXIT_ORPHANED)
            self._collect()
            self._look()

    def _collect(self) -> None:
        """Let go of processes that have ended; end when the snippet's is among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(EXIT_DONE)
            if pid == 0:
                return
            if pid == self._worker:
                os._exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else EXIT_DONE)

    def _look(self) -> None:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - pathlib is slow to load
        pids.remove(os.getpid())
        if len(pids) > self._processes:
            self._end(EXIT_PROCESSES)
        if self._holds_too_much(pids):
            self._end(EXIT_MEMORY)
        if self._share is not None:
            self._throttle(pids, self._share)

    def _holds_too_much(self, pids: list[int]) -> bool:
        """Return whether all processes hold more than they may, what they share counted once."""
        sizes = sorted(((resident(pid), pid) for pid in pids), reverse=True)
        if sum(max(0, size - self._bare) for size, _ in sizes) <= self._memory:
            return False  # to look at what is shared takes long
        held = -self._bare
        for _, pid in sizes:
            held += own_memory(pid)
            if held > self._memory:
                return True
        return False

    def _throttle(self, pids: list[int], share: float) -> None:
        """Stop all processes while they have used more than their share, and let them go on."""
        now = time.monotonic()
        passed, self._looked_at = now - self._looked_at, now
        self._allowance = min(BURST, self._allowance + share * passed - self._computed(pids, passed))
        if self._allowance < 0 and not self._stopped:
            self._stopped = True
            signal_all(signal.SIGSTOP)
        elif self._allowance >= 0 and self._stopped:
            self._stopped = False
            signal_all(signal.SIGCONT)

    def _computed(self, pids: list[int], passed: float) -> float:
        """Return the seconds that all processes have computed since the last look, rather too much than too little."""
        known, self._pids = self._pids, set(pids)
        newest, started = newest_pid(), 0
        if newest != self._newest_pid:
            started, self._newest_pid = (newest - self._newest_pid) % PID_LIMIT, newest
        reaped = os.times()
        total = sum(map(computing_time, pids)) + reaped.children_user + reaped.children_system
        grown, self._total = total - self._total, total
        unseen = started - len(self._pids - known)
        if not self._stopped and (grown < 0 or unseen > 0):
            # Processes came and went between two looks: what they computed may be counted nowhere.
            return max(grown, passed * min(max(unseen, 1), self._cores))
        return max(grown, 0.0)

    def _end(self, code: int) -> NoReturn:
        signal_all(signal.SIGKILL)
        os._exit(code)


def signal_all(number: signal.Signals) -> None:
    """Send a signal to all processes of the sandbox but this one, at one instant."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, number)


def read_text(path: str) -> str:
    """Return what a file of /proc says; nothing where its process is gone or hides it."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib is slow to load
            return file.read().decode("ascii", "replace")
    except OSError:
        return ""


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has, what it shares with others included."""
    words = read_text(f"/proc/{pid}/statm").split()
    return int(words[1]) * _PAGE if words else 0


def own_memory(pid: int) -> int:
    """Return the bytes of memory of a process, of shared ones its part; `resident` where it hides that."""
    for line in read_text(f"/proc/{pid}/smaps_rollup").split("\n"):
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return resident(pid)


def computing_time(pid: int) -> float:
    """Return the seconds that a process and the children it has collected have computed."""
    fields = read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _CLOCK_TICK if len(fields) > 14 else 0.0


def newest_pid() -> int:
    """Return the process id that was given last in this sandbox."""
    return int(read_text("/proc/loadavg").split()[-1])


# --- the child that carries out the snippet


def carry_out(request: Mapping[str, Any], result: int) -> NoReturn:
    """Run the snippet, write its answer and end, whatever it does."""
    me = os.getpid()
    try:
        set_dumpable(True)
        for name in (signal.SIGINT, signal.SIGPIPE):
            signal.signal(name, signal.SIG_DFL if name == signal.SIGPIPE else signal.default_int_handler)
        set_limits(request)
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
        sys.path.extend(request["packages"])
        sys.argv = [request["name"]]
        value = written(evaluate(request))
        fits = len(value) <= request["result"]
        answer = b'{"value":%b}' % value if fits else b'{"too_big":%d}' % len(value)
    except BaseException as error:  # noqa: BLE001 - the border to a stranger's code: whatever it raises is the answer
        use_spare_memory()
        answer = b'{"error":%b}' % written(describe(error, request["name"]))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    if os.getpid() == me:  # not a child that the snippet forked and that came out here too
        while answer:
            answer = answer[os.write(result, answer) :]
    os._exit(0)


def written(value: Any) -> bytes:
    """Return a JSON value as whoever asked counts its bytes: compact UTF-8. Half characters are judged there."""
    return ENCODER.encode(value).encode("utf-8", "surrogatepass")


def set_limits(request: Mapping[str, Any]) -> None:
    """Set the limits of this process and all that it starts."""
    import resource

    memory = resource.getpagesize() * int(read_text("/proc/self/statm").split()[0]) + request["memory"]
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory + SPARE_MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (request["file"], request["file"]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (request["descriptors"], request["descriptors"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (request["tasks"], request["tasks"]))


def use_spare_memory() -> None:
    """Let this process have what was kept for its last words."""
    import resource

    with contextlib.suppress(Exception):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def evaluate(request: Mapping[str, Any]) -> Any:
    """Return the value of the snippet's last expression, as a JSON value."""
    import ast
    import linecache
    import types

    code, name = request["code"], request["name"]
    lines = code.splitlines(keepends=True)
    linecache.cache[name] = (len(code), None, lines, name)
    tree = ast.parse(code, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    names = module.__dict__
    names.update(request["inputs"])
    runner: Any = None
    value = None
    for part, mode in ((tree, "exec"), (last and ast.Expression(last.value), "eval")):
        if part is None:
            continue
        compiled = compile(part, name, mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        try:
            value = eval(compiled, names)
            if compiled.co_flags & AWAITS:  # it awaits at its top level
                import asyncio

                runner = runner or asyncio.Runner()
                value = runner.run(value)
        except SystemExit as end:
            if end.code not in (None, 0):
                raise
            return None
    return plain(value, 0)


def plain(value: Any, depth: int) -> Any:
    """Return `value` as what JSON can hold; what it cannot becomes its text, objects with the name of their type.

    Raises:
        RecursionError: It is nested too deeply.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float | str):
        kind = int if isinstance(value, int) else float if isinstance(value, float) else str
        return kind(value)
    if depth > DEPTH_LIMIT:
        raise RecursionError(f"the value of the last expression is nested deeper than {DEPTH_LIMIT} levels")
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    fields = getattr(type(value), "__dataclass_fields__", None)
    if fields is not None:
        return {name: plain(getattr(value, name), depth + 1) for name in fields}
    kind_name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if kind_name in ("datetime.datetime", "datetime.date", "datetime.time", "decimal.Decimal", "uuid.UUID"):
        return str(value)
    if isinstance(value, bytes | bytearray):
        return {"text": bytes(value).decode("utf-8", "replace"), "type": kind_name}
    if hasattr(value, "__fspath__"):
        return str(value)
    return {"text": str(value), "type": kind_name.removeprefix("__main__.")}


def describe(error: BaseException, name: str) -> dict[str, Any]:
    """Return what was raised: its type, text, number, place in the snippet and traceback, all bounded.

    An error of the snippet's own may answer anything, or raise again: what cannot be told is left out.
    """
    # Its type's true name, whatever the type of the type says.
    found: dict[str, Any] = {"type": vars(type)["__name__"].__get__(type(error))[:TEXT_LIMIT]}
    for tell in (message_of, number_of, place_of):
        with contextlib.suppress(BaseException):
            found.update(tell(error, name))
    return {key: value for key, value in found.items() if can_be_told(value)}


def can_be_told(value: Any) -> bool:
    """Return whether a fact about an error is short text or a number that every reader can hold."""
    return (type(value) is str and len(value) <= TEXT_LIMIT) or (type(value) is int and abs(value) < NUMBER_LIMIT)


def message_of(error: BaseException, name: str) -> dict[str, Any]:
    """Return the text of an error; of a mistake in the snippet's syntax without the place, which is told apart."""
    own = isinstance(error, SyntaxError) and error.filename == name
    return {"message": str(error.msg if own else error)[:TEXT_LIMIT]}  # type: ignore[attr-defined]


def number_of(error: BaseException, _name: str) -> dict[str, Any]:
    """Return the system's number of an error."""
    return {"errno": getattr(error, "errno", None)}


def place_of(error: BaseException, name: str) -> dict[str, Any]:
    """Return the traceback of an error from the snippet on, and the line and column in it."""
    import traceback

    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != name:
        trace = trace.tb_next
    report = traceback.TracebackException(type(error), error, trace, limit=-100)
    found: dict[str, Any] = {"traceback": "".join(report.format())[-TEXT_LIMIT:]}
    frames = [frame for frame in report.stack if frame.filename == name]
    if isinstance(error, SyntaxError) and error.filename == name:
        found |= {"line": error.lineno, "column": error.offset, "source": error.text}
    elif frames:
        column = getattr(frames[-1], "colno", None)
        found |= {"line": frames[-1].lineno, "source": frames[-1].line}
        found["column"] = None if column is None else column + 1
    return found


if __name__ == "__main__":
    main()
