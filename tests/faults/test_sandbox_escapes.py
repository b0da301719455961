"""Code that tries to get out of the sandboxes, or to take the machine down from inside: what is seen from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from stepchain_tui.core.values import encode_json
from stepchain_tui.run import AttemptError, ErrorType
from stepchain_tui.run.values import OUTPUT_LIMIT
from stepchain_tui.sandbox import BwrapRunner, MontyRunner, bwrap_runner
from stepchain_tui.sandbox.answers import value_of
from stepchain_tui.sandbox.bubblewrap import Bubblewrap, candidate
from stepchain_tui.sandbox.bwrap_process import BwrapProcess

MARK = "this-must-stay-inside"
MEMORY = 100 * 1024 * 1024
MONTY = "monty"
BWRAP = "bwrap"
NAMESPACE = "bwrap in a user namespace"
in_both = pytest.mark.parametrize("engine", [MONTY, pytest.param(BWRAP, marks=pytest.mark.needs("bwrap"))])
in_bwrap = pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=pytest.mark.needs("bwrap")) for name in (BWRAP, NAMESPACE)]
)


class Inside:
    """One sandbox, and what a bystander sees of its processes."""

    def __init__(self, engine: str) -> None:
        if engine == MONTY:
            self.runner: Any = MontyRunner(max_workers=1, memory_limit=MEMORY)
        else:
            way = Bubblewrap(candidate().program, as_root=False) if engine == NAMESPACE else None
            self.runner = BwrapRunner(memory_limit=MEMORY, way=way)
        self.printed: list[tuple[str, str]] = []
        self._others = descendants()

    def processes(self) -> set[psutil.Process]:
        """Return its processes that live."""
        return descendants() - self._others

    async def value(self, code: str, inputs: dict[str, Any] | None = None, **options: Any) -> Any:
        """Return the code's value."""
        options = {"timeout": 30, "on_print": lambda *piece: self.printed.append(piece), **options}
        return await self.runner.run(code, inputs, **options)

    async def failure(self, code: str, inputs: dict[str, Any] | None = None, **options: Any) -> AttemptError:
        """Return the code's failure, which says what to do."""
        with pytest.raises(AttemptError) as caught:
            await self.value(code, inputs, **options)
        assert caught.value.hint
        return caught.value

    def all_said(self, *others: Any) -> str:
        """Return all that came out, as one text."""
        return repr((self.printed, others))

    async def while_running(self, code: str, look: Callable[[set[psutil.Process]], bool], **options: Any) -> Any:
        """Run code and have a look at its processes, again and again, until it ends or `look` returns False."""
        task = asyncio.create_task(self.value(code, **options))
        while not task.done() and look(self.processes()):
            await asyncio.sleep(0.01)
        task.cancel()
        [outcome] = await asyncio.gather(task, return_exceptions=True)
        return outcome


def descendants() -> set[psutil.Process]:
    """Return the processes that live below this one, but for the shells that guard workers."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name() != "sh" and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
    return found


@pytest.fixture
async def inside(engine: str) -> AsyncIterator[Inside]:
    sandbox = Inside(engine)
    await sandbox.value("None")  # from here on the shell that guards workers can be told by its name
    yield sandbox
    await sandbox.runner.close()
    assert sandbox.processes() == set(), "a process of the sandbox is left"


# --- files, environment, network


@in_both
async def test_files_of_this_machine_cannot_be_read(inside, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(MARK)
    code = """
found = []
for path in paths:
    try:
        with open(path) as file:
            found.append(file.read())
    except Exception as error:
        found.append(type(error).__name__)
found
"""
    passwd = Path("/etc/passwd").read_text()
    paths = [str(secret), "/etc/passwd", "/etc/hostname", "/proc/1/environ", f"/proc/{os.getpid()}/environ"]
    paths += ["../" * 20 + "etc/passwd", "/proc/self/root/etc/passwd", "/proc/1/root" + str(secret)]
    found = await inside.value(code, {"paths": paths})
    assert MARK not in inside.all_said(found)
    assert passwd not in found
    assert len(found) == len(paths)


@in_bwrap
async def test_all_that_is_shown_is_pythons_own_and_the_systems(inside, tmp_path):
    (tmp_path / MARK).write_text(MARK)
    code = f"""
import os
[os.path.join(place, name) for place, folders, files in os.walk("/")
 if not place.startswith(("/proc", "/usr")) for name in folders + files if name == {MARK!r}], os.listdir("/")
"""
    found, top = await inside.value(code)
    assert found == []
    assert set(top) <= {
        *("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "python", "packages"),
        *("proc", "dev", "tmp"),
    }


@in_bwrap
async def test_nothing_can_be_written_but_a_little_memory_of_its_own(inside):
    code = f"""
import os
written = []
for place, folders, files in os.walk("/"):
    if place.startswith(("/proc/1", "/proc/2", "/proc/self", "/proc/thread")):
        continue
    try:
        with open(os.path.join(place, {MARK!r}), "w") as file:
            file.write("x")
        written.append(place)
    except OSError:
        pass
    for name in files:
        path = os.path.join(place, name)
        if not place.startswith(("/dev", "/proc")) and os.access(path, os.W_OK) and not os.path.islink(path):
            written.append(path)
[place for place in written if MARK not in place]
""".replace("MARK", repr(MARK))
    assert sorted(await inside.value(code)) == ["/dev/shm", "/tmp"]
    for folder in ("/tmp", "/dev/shm"):
        assert not (Path(folder) / MARK).exists()


@in_bwrap
async def test_nothing_that_steers_the_machine_can_be_written(inside):
    code = """
import os
opened = []
for place, folders, files in os.walk("/proc"):
    for name in files:
        path = os.path.join(place, name)
        try:
            os.close(os.open(path, os.O_WRONLY))
            if not place.endswith("/fd"):  # the code's own descriptors
                opened.append(path)
        except OSError:
            pass
opened
"""
    assert await inside.value(code) == []


@in_bwrap
async def test_a_folder_in_memory_holds_no_more_than_it_may(inside):
    code = """
found = []
for folder in ("/tmp", "/dev/shm"):
    size = 0
    try:
        for number in range(10):
            with open(f"{folder}/{number}", "wb") as file:
                for _ in range(10):
                    size += file.write(b"x" * (1 << 20))
    except OSError as error:
        found.append((error.errno, size))
found
"""
    found = await inside.value(code)
    assert len(found) == 2
    assert all(size <= 16 << 20 for _, size in found)


@in_both
async def test_the_environment_is_not_there(inside, monkeypatch):
    monkeypatch.setenv("VERY_SECRET_TOKEN", MARK)
    code = """
import os
found = []
try:
    found.append(dict(os.environ))
except Exception as error:
    found.append(type(error).__name__)
for name in ("self", "1", "2"):
    try:
        found.append(open(f"/proc/{name}/environ").read())
    except Exception as error:
        found.append(type(error).__name__)
found
"""
    try:
        found = await inside.value(code)
    except AttemptError as error:
        found = str(error)
    assert MARK not in inside.all_said(found)
    assert "TOKEN" not in inside.all_said(found)


class Server:
    """A server on loopback, and on an abstract Unix address where there is one, that counts who comes."""

    def __init__(self) -> None:
        self.arrived = 0
        self.port = 0
        self.name = f"stepchain-test-{os.getpid()}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.arrived += 1
        writer.write(b"hello")
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    tcp = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    server.port = tcp.sockets[0].getsockname()[1]
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0" + server.name)
    unix = await asyncio.start_unix_server(server.answer, sock=abstract)
    yield server
    for listening in (tcp, unix):
        listening.close()
        await listening.wait_closed()


CONNECT = """
import socket
found = []
for family, address in ((socket.AF_INET, ("127.0.0.1", port)), (socket.AF_UNIX, "\\0" + name)):
    try:
        with socket.socket(family) as client:
            client.settimeout(5)
            client.connect(address)
            found.append(client.recv(5).decode())
    except Exception as error:
        found.append(type(error).__name__)
for family in (38, 40):  # AF_ALG, AF_VSOCK: no network namespace holds them
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
        found.append("a socket")
    except Exception as error:
        found.append(type(error).__name__)
found
"""


@in_both
async def test_no_connection_arrives(inside, engine, server):
    inputs = {"port": server.port, "name": server.name}
    if engine == MONTY:
        assert (await inside.failure(CONNECT, inputs)).exception == "ModuleNotFoundError"
    else:
        assert await inside.value(CONNECT, inputs) == [
            "ConnectionRefusedError", "ConnectionRefusedError", "OSError", "OSError"
        ]  # fmt: skip
    assert server.arrived == 0


@in_bwrap
async def test_with_network_access_a_connection_arrives(inside, server):
    inputs = {"port": server.port, "name": server.name}
    found = await inside.value(CONNECT, inputs, network_access=True)
    assert found == ["hello", "OSError", "OSError", "OSError"], "this machine's Unix sockets are no network"
    assert server.arrived == 1


# --- taking the machine down


@in_both
async def test_two_hundred_megabytes_are_refused(inside):
    error = await inside.failure("text = 'x' * (200 << 20)\nlen(text)")
    assert (error.exception, error.details["resource_limit"]) == ("MemoryError", "memory")
    assert error.error_type is ErrorType.TOOL_ERROR
    assert "100 MB" in error.hint
    assert await inside.value("1 + 1") == 2


@in_bwrap
@pytest.mark.parametrize(
    "code",
    [
        "x = []\nwhile True:\n    x.append('y' * 100_000)",
        "import mmap\nm = mmap.mmap(-1, 200 << 20)\nm.write(b'x' * (200 << 20))",
        "import os, time\nfor _ in range(20):\n    if os.fork() == 0:\n        x = b'y' * (60 << 20)\n"
        "        time.sleep(60)\ntime.sleep(60)",
        "import threading\nthreads = [threading.Thread(target=lambda: bytearray(60 << 20)[0]) for _ in range(4)]\n"
        "held = []\nwhile True:\n    held.append(bytearray(30 << 20))",
    ],
    ids=["bits", "shared", "family", "pieces"],
)
async def test_all_processes_together_never_hold_much_more_than_they_may(inside, code):
    most = 0

    def look(processes: set[psutil.Process]) -> bool:
        nonlocal most
        held = 0
        for process in processes:
            with contextlib.suppress(psutil.Error):
                held += process.memory_full_info().pss
        most = max(most, held)
        return True

    error = await inside.while_running(code, look, timeout=20)
    assert isinstance(error, AttemptError)
    assert error.details["resource_limit"] == "memory"
    assert most < 6 * MEMORY


@pytest.mark.needs("bwrap")
@pytest.mark.parametrize(
    "code",
    [
        "import os\nwhile True:\n    os.fork()",
        "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
        "import os, signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True:\n    try:\n"
        "        if os.fork() == 0:\n            os.setsid()\n    except OSError:\n        pass",
    ],
    ids=["plain", "stubborn", "daemons"],
)
async def test_a_fork_bomb_fails_its_step_only(inside, code):
    most = 0

    def look(processes: set[psutil.Process]) -> bool:
        nonlocal most
        most = max(most, len(processes))
        return True

    error = await inside.while_running(code, look, timeout=3)
    assert isinstance(error, AttemptError)
    assert error.exception in ("BlockingIOError", "ProcessLimit", "TimeoutError", "SandboxCrashed")
    assert most <= 40
    assert await inside.value("1 + 1") == 2


@pytest.mark.needs("bwrap")
async def test_a_hundred_threads_are_refused(inside):
    code = """
import threading
wait = threading.Event()
for _ in range(100):
    threading.Thread(target=wait.wait).start()
"""
    assert "can't start new thread" in str(await inside.failure(code))


@in_both
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_endless_output_is_cut_off(engine, inside, stream):
    inside.runner.print_limit = 200_000
    code = f"import sys\nwhile True:\n    print('x' * 1000, file=sys.{stream})"
    error = await inside.failure(code)
    assert (error.exception, error.details["resource_limit"]) == ("PrintLimit", "prints")
    assert 0 < sum(len(text) for _, text in inside.printed) <= 200_000
    assert await inside.value("1 + 1") == 2


@in_bwrap
async def test_endless_bytes_without_a_line_end_are_cut_off(inside):
    inside.runner.print_limit = 200_000
    error = await inside.failure("import os\nwhile True:\n    os.write(1, b'\\xff' * 65536)")
    assert error.exception == "PrintLimit"


@in_both
@pytest.mark.parametrize(
    "code",
    ["while True:\n    pass", "try:\n    while True:\n        pass\nexcept BaseException:\n    pass\n'escaped'",
     "import time\ntime.sleep(600)"],
    ids=["loop", "catching", "sleeping"],
)  # fmt: skip
async def test_what_does_not_end_is_killed(inside, code):
    seen: set[psutil.Process] = set()

    def look(processes: set[psutil.Process]) -> bool:
        seen.update(processes)
        return True

    error = await inside.while_running(code, look, timeout=0.5)
    assert isinstance(error, AttemptError)
    assert error.error_type is ErrorType.TIMEOUT
    assert error.details["resource_limit"] == "time"
    assert seen
    _, alive = psutil.wait_procs(seen, timeout=1)
    assert not alive


@in_bwrap
@pytest.mark.parametrize(
    "code",
    [
        "import os, signal\nfor number in range(1, 65):\n    try:\n        signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
        "import os\nfor _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\nwhile True:\n    pass",
        "import os\nos.closerange(0, 60)\nwhile True:\n    pass",
    ],
    ids=["deaf", "family", "without descriptors"],
)
async def test_nothing_that_code_does_saves_it_from_its_time_limit(inside, code):
    error = await inside.failure(code, timeout=0.5)
    assert error.error_type is ErrorType.TIMEOUT
    assert inside.processes() == set()


@in_both
async def test_recursion_hurts_nobody_else(inside, engine):
    assert (await inside.failure("def f():\n    return f()\nf()")).exception == "RecursionError"
    if engine != MONTY:
        await inside.failure("import sys\nsys.setrecursionlimit(10 ** 9)\ndef f():\n    return f()\nf()")
    assert await inside.value("1 + 1") == 2


BUSY = {
    "one": "while True:\n    pass",
    "family": "import os\nfor _ in range(3):\n    os.fork()\nwhile True:\n    pass",
    "threads": "import threading, hashlib\ndef work():\n    while True:\n        hashlib.sha256(b'x' * 1_000_000)\n"
    "for _ in range(4):\n    threading.Thread(target=work).start()\nwork()",
}


@pytest.mark.parametrize(
    ("engine", "code"),
    [
        (MONTY, BUSY["one"]),
        *(
            pytest.param(engine, BUSY[name], marks=pytest.mark.needs("bwrap"), id=f"{engine}-{name}")
            for engine in (BWRAP, NAMESPACE)
            for name in BUSY
        ),
    ],
)
async def test_a_busy_loop_is_held_to_half_a_core(inside, code):
    began = 0.0
    used: dict[int, float] = {}
    before: dict[int, float] = {}
    looked_at = 0.0

    def look(processes: set[psutil.Process]) -> bool:
        nonlocal began, looked_at
        for process in processes:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                used[process.pid] = times.user + times.system
        looked_at = time.monotonic()
        if not began and sum(used.values()) > 0.1:  # the start of the interpreter is over
            began = looked_at
            before.update(used)
        return not began or looked_at - began < 2

    await inside.while_running(code, look, cpu_limit=0.5, timeout=30)
    computed = sum(used.values()) - sum(before.values())
    assert 0 < computed < 0.5 * (looked_at - began) + 0.2


@in_both
async def test_a_process_that_is_held_dies_of_cancelling_too(inside):
    stopped: list[psutil.Process] = []

    def look(processes: set[psutil.Process]) -> bool:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                if process.status() == psutil.STATUS_STOPPED:
                    stopped.append(process)
        return not stopped

    outcome = await inside.while_running("while True:\n    pass", look, cpu_limit=0.05, timeout=60)
    assert isinstance(outcome, asyncio.CancelledError)
    _, alive = psutil.wait_procs(stopped, timeout=4)
    assert stopped
    assert not alive


@in_both
async def test_after_a_snippet_that_was_held_the_next_one_runs_freely(inside):
    code = "total = 0\nfor n in range(1000000):\n    total += n\ntotal"
    assert await inside.value(code, cpu_limit=0.2) == 499999500000
    assert await inside.value(code) == 499999500000


# --- other processes


@in_bwrap
async def test_a_child_in_the_background_ends_with_the_code(inside):
    number = f"98765.{os.getpid()}"
    code = f"""
import os, subprocess
child = subprocess.Popen(["sleep", "{number}"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "{number}"])
    os._exit(0)
child.poll()
"""
    assert await inside.value(code) is None
    assert [
        process.pid for process in psutil.process_iter(["cmdline"]) if number in (process.info["cmdline"] or [])
    ] == []


@in_bwrap
async def test_signals_reach_nobody_outside_and_not_the_first_process(inside):
    code = """
import os, signal
found = []
for pid in (os.getppid(), 1, mine, -1):
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT):
        try:
            os.kill(pid, number)
        except OSError as error:
            found.append(error.errno)
'went on'
"""
    assert await inside.value(code, {"mine": os.getpid()}) == "went on"


@in_bwrap
async def test_the_first_processs_limits_cannot_be_changed(inside):
    code = """
import os, resource
found = []
for change in (
    lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0)),
    lambda: resource.prlimit(1, resource.RLIMIT_CPU, (0, 0)),
    lambda: resource.prlimit(0, resource.RLIMIT_AS, (1 << 40, 1 << 40)),
    lambda: resource.prlimit(0, resource.RLIMIT_NPROC, (10000, 10000)),
    lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)),
    lambda: os.sched_setaffinity(1, {0}),
    lambda: os.setpriority(os.PRIO_PROCESS, 1, 19),
    lambda: os.setpriority(os.PRIO_USER, 0, 19),
):
    try:
        change()
        found.append("changed")
    except (OSError, ValueError) as error:
        found.append(type(error).__name__)
found
"""
    assert set(await inside.value(code)) <= {"PermissionError", "ValueError"}


@in_bwrap
async def test_no_descriptor_is_left_open_but_those_it_needs(inside):
    code = "import os\n[int(name) for name in os.listdir('/proc/self/fd')]"
    assert len(await inside.value(code)) == 5  # three streams, the answer's, and the folder's that is read


@in_bwrap
async def test_other_processes_are_neither_seen_nor_touched(inside):
    code = """
import ctypes, os
found = {"pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit())}
for name in ("environ", "mem", "maps", "fd/0", "root/etc/passwd", "cwd"):
    try:
        descriptor = os.open(f"/proc/1/{name}", os.O_RDWR if name == "mem" else os.O_RDONLY)
        found[name] = os.read(descriptor, 10).decode("latin1")
    except OSError as error:
        found[name] = error.errno
libc = ctypes.CDLL(None, use_errno=True)
for name, arguments in {"ptrace": (16, 1, 0, 0), "unshare": (0x10000000,), "mount": (0, b"/tmp", b"none", 4096, 0),
                        "memfd_create": (b"x", 0), "chroot": (b"/tmp",), "setns": (0, 0)}.items():
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    found[name] = (result, ctypes.get_errno())
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
found["rights"] = [status[name].strip() for name in ("CapEff", "CapPrm", "NoNewPrivs", "Seccomp")]
found
"""
    found = await inside.value(code)
    assert len(found.pop("pids")) == 2
    assert found.pop("rights") == ["0" * 16, "0" * 16, "1", "2"]
    for name in ("ptrace", "unshare", "mount", "memfd_create", "chroot", "setns"):
        assert found.pop(name) == [-1, 1]
    assert all(type(value) is int for value in found.values()), found


# --- a machine that is busy


@pytest.mark.needs("bwrap")
@pytest.mark.usefixtures("unknown_machine")
async def test_a_machine_without_a_free_descriptor_has_the_sandbox_later(inside):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        error = await inside.failure("1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (error.exception, error.error_type) == ("SandboxBusy", ErrorType.TOOL_ERROR)
    assert "Too many open files" in str(error)
    assert await inside.value("1 + 1") == 2


@pytest.mark.needs("bwrap")
@pytest.mark.usefixtures("unknown_machine")
async def test_a_machine_that_is_slow_to_begin_has_the_sandbox_later(inside, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(BwrapProcess, "send", lambda *_: None)  # nothing begins
        patch.setattr(bwrap_runner, "_PROBE_LIMIT", 0.1)
        error = await inside.failure("1")
    assert (error.exception, error.error_type) == ("SandboxBusy", ErrorType.TOOL_ERROR)
    assert "to begin" in str(error)
    assert await inside.value("1 + 1") == 2


@pytest.fixture
def unknown_machine(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known yet of what this machine has."""
    monkeypatch.setattr(bwrap_runner, "_found", {})


# --- what comes back


@in_both
async def test_a_huge_value_is_refused(inside):
    error = await inside.failure("'x' * (20 << 20)")
    assert (error.exception, error.details["resource_limit"]) == ("ResultLimit", "result")
    assert error.error_type is ErrorType.USER_ERROR


@in_both
@pytest.mark.parametrize(
    ("fits", "too_many"),
    [
        ("'é' * ((10 << 19) - 1)", "'é' * (10 << 19)"),
        ("{'k': '😀' * ((10 << 18) - 2)}", "{'k': '😀' * (10 << 18)}"),
        ("['x' * 1021] * ((10 << 10) - 1) + ['x' * 1020]", "['x' * 1021] * (10 << 10)"),
    ],
    ids=["text", "nested", "list"],
)
async def test_the_size_of_a_value_is_that_of_its_utf_8(inside, fits, too_many):
    value = await inside.value(fits)
    assert OUTPUT_LIMIT - 4 < len(encode_json(value)) <= OUTPUT_LIMIT
    error = await inside.failure(too_many)
    assert (error.exception, "10.0 MB or more" in str(error)) == ("ResultLimit", True)


@pytest.mark.needs("bwrap")
@pytest.mark.parametrize(("size", "on_the_loop"), [(1_000, True), (1_000_000, False)])
async def test_a_large_value_is_read_beside_the_loop(inside, monkeypatch, size, on_the_loop):
    threads = []

    def watched(answer: bytes, memory_limit: int) -> Any:
        threads.append(threading.current_thread())
        return value_of(answer, memory_limit)

    monkeypatch.setattr(bwrap_runner, "value_of", watched)
    assert len(await inside.value(f"'x' * {size}")) == size
    assert [thread is threading.current_thread() for thread in threads] == [on_the_loop]


@in_bwrap
async def test_keys_that_are_half_a_character_stay_apart(inside):
    found = await inside.value("{'whole': 1, '\\ud800': 2, '\\ud801': 3}")
    assert found == {"whole": 1, "\\ud800": 2, "\\ud801": 3}


@in_both
async def test_a_value_nested_without_end_is_refused(inside):
    code = "x = []\nfor _ in range(5000):\n    x = [x]\nx"
    assert "nested" in str(await inside.failure(code))
    assert await inside.value("1 + 1") == 2


@in_bwrap
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("float('nan'), float('inf'), 10 ** 30", ["nan", "inf", str(10**30)]),
        ("'\\ud800'", "?"),
        ("{1: 'a', (2, 3): b'\\xff'}", {"1": "a", "(2, 3)": {"text": "�", "type": "bytes"}}),
        ("class A:\n    def __repr__(self):\n        return 'an A'\nA()", {"text": "an A", "type": "A"}),
        ("import datetime, decimal\n[datetime.date(2026, 1, 2), decimal.Decimal('1.5')]", ["2026-01-02", "1.5"]),
    ],
)
async def test_values_of_any_kind_come_back_as_json(inside, code, expected):
    assert await inside.value(code) == expected


@in_bwrap
async def test_what_is_printed_need_not_be_text(inside):
    code = "import os\nos.write(1, b'\\xff\\xfe ok \\xe2')\nos.write(1, b'\\x82\\xac')\nprint('\\ud800')"
    await inside.value(code)
    assert "".join(text for _, text in inside.printed) == "�� ok €\\ud800\n"


FORGE = """
import os
for descriptor in range(3, 60):
    try:
        data = WHAT
        while data:
            data = data[os.write(descriptor, data):]
    except OSError:
        pass
os._exit(0)
"""


@in_bwrap
@pytest.mark.parametrize(
    "what",
    [
        "b'no json'",
        "b'\\xff\\xff'",
        "b'[' * 1_000_000",
        "b'{\"error\": 5}'",
        'b\'{"error": {"type": 5}}\'',
        'b\'{"too_big": "much"}\'',
        "b'{\"too_big\": -5}'",
        "b'{\"too_big\": true}'",
        "b'{\"too_big\": ' + b'9' * 4000 + b'}'",
        "b'5'",
        "b''",
        'b\'{"value": 1}{"value": 2}\'',
        "b'{\"value\": ' + b'9' * 100_000 + b'}'",
    ],
)
async def test_a_forged_answer_that_makes_no_sense_is_told_as_that(inside, what):
    error = await inside.failure(FORGE.replace("WHAT", what))
    assert (error.exception, error.error_type) == ("SandboxCrashed", ErrorType.TOOL_ERROR)
    assert await inside.value("1 + 1") == 2


@in_bwrap
async def test_a_forged_answer_is_the_codes_own_value_and_nothing_more(inside):
    assert await inside.value(FORGE.replace("WHAT", 'b\'{"value": ["forged"]}\'')) == ["forged"]
    forged = '{"error": {"type": "X\\\\ud800%s", "message": [1], "line": -5, "traceback": {}, "hint": "rm -rf /"}}'
    error = await inside.failure(FORGE.replace("WHAT", f"('{forged}' % ('x' * 100000)).encode()"))
    assert "rm" not in error.hint
    assert len(error.exception) <= 300
    error.exception.encode()
    assert (str(error), error.remote_traceback, error.details) != ("", None, None)


@in_bwrap
async def test_an_answer_without_end_is_cut_off(inside):
    code = """
import os
while True:
    for descriptor in range(3, 60):
        try:
            os.write(descriptor, b"x" * 65536)
        except OSError:
            pass
"""
    assert (await inside.failure(code)).details["resource_limit"] == "result"


@in_bwrap
async def test_a_child_that_comes_out_at_the_end_gives_no_second_answer(inside):
    assert (
        await inside.value("import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\n'parent' if pid else 'child'")
        == "parent"
    )


@in_bwrap
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os\nos._exit(0)", "ended its process"),
        ("import os\nos.kill(os.getpid(), 11)", "killed by signal 11"),
        ("import sys\nsys.exit('no more')", "sys.exit(no more)"),
        ("class E(Exception):\n    def __str__(self):\n        raise self\nraise E()", "E"),
        ("raise BaseException('bare')", "bare"),
    ],
)
async def test_an_end_of_any_kind_is_told(inside, code, words):
    assert words in str(await inside.failure(code))


@in_bwrap
@pytest.mark.parametrize(
    "code",
    [
        "error = OSError('said')\nerror.errno = object()\nraise error",
        "class E(OSError):\n    errno = 10 ** 5000\nraise E('said')",
        "class E(Exception):\n    @property\n    def errno(self):\n        raise SystemExit(3)\nraise E('said')",
        "class M(type):\n    __name__ = 5\nclass E(Exception, metaclass=M):\n    pass\nraise E('said')",
        "error = SyntaxError('said', ('python', 5, object(), 7))\nraise error",
        "class S(str):\n    def __getitem__(self, key):\n        return self\nclass E(Exception):\n"
        "    def __str__(self):\n        return S('said')\nraise E",
        "import json\njson.dumps = None\nraise OSError('said')",
    ],
    ids=["object", "huge", "raises", "nameless", "syntax", "text", "json"],
)
async def test_an_error_whose_parts_are_odd_is_still_told(inside, code):
    error = await inside.failure(code)
    assert "said" in str(error) or "class S" in code
    assert error.exception in ("OSError", "E", "SyntaxError")
    assert "SyntaxError" in code or error.details["line"] == code.count("\n") + 1


@in_both
@pytest.mark.parametrize("kind", ["RecursionError", "ModuleNotFoundError", "NameError", "PermissionError"])
async def test_an_error_without_words_is_told_by_its_name(inside, kind):
    assert str(await inside.failure(f"raise {kind}")).startswith(kind)


@pytest.fixture
def engine() -> str:
    """The engine of tests that are not run in several."""
    return BWRAP
