"""Function steps as the engine carries them out: every mode, real threads and processes."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tools_calls import LoopWatch, is_gone, ports_of, read_pid, step_call, until

from stepchain_tui.executors.function import FunctionExecutor
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import Pools, StepContext

MODES = ("inline", "thread", "process")


@pytest_asyncio.fixture
async def pools() -> AsyncIterator[Pools]:
    pools = Pools(process_workers=2)
    yield pools
    await pools.close()


@pytest.fixture
def executor(pools: Pools) -> FunctionExecutor:
    return FunctionExecutor(pools)


def add(a: int, b: int = 1) -> int:
    return a + b


async def add_later(a: int, b: int = 1) -> int:
    await asyncio.sleep(0.001)
    return a + b


def talk() -> None:
    print("one")
    print("two", file=sys.stderr)
    print("no end", end="")


def whole_context(ctx: StepContext) -> dict[str, Any]:
    ctx.log("noted")
    ctx.progress(1, 4)
    ctx.raise_if_cancelled()
    return {"step": ctx.step_id, "run": ctx.run_id, "key": ctx.idempotency_key, "secret": ctx.secrets["TOKEN"]}


def fail_with_value() -> None:
    _deeper()


def _deeper() -> None:
    raise ValueError("the file has no header")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("function", [add, add_later])
async def test_a_function_is_called_with_its_args_in_every_mode(
    executor: FunctionExecutor, mode: str, function: Any
) -> None:
    outcome = await executor.execute(step_call(function=function, args={"a": 2}, mode=mode))
    assert outcome.output == 3


@pytest.mark.parametrize("mode", MODES)
async def test_what_a_function_prints_is_logged_in_every_mode(executor: FunctionExecutor, mode: str) -> None:
    call = step_call(function=talk, mode=mode)
    await executor.execute(call)
    assert ports_of(call).text("stdout") == "one\nno end"
    assert ports_of(call).text("stderr") == "two\n"


@pytest.mark.parametrize("mode", MODES)
async def test_a_function_that_asks_for_the_context_gets_it(executor: FunctionExecutor, mode: str) -> None:
    call = step_call(function=whole_context, mode=mode, idempotency_key="k", secrets={"TOKEN": "s"})
    assert (await executor.execute(call)).output == {"step": "s", "run": "r", "key": "k", "secret": "s"}
    assert ports_of(call).text() == "noted\nprogress 1/4 (25 %)\n"


@pytest.mark.parametrize("mode", MODES)
async def test_a_raising_function_is_told_by_its_class_message_and_own_frames(
    executor: FunctionExecutor, mode: str
) -> None:
    with pytest.raises(AttemptError, match="the file has no header") as caught:
        await executor.execute(step_call(function=fail_with_value, mode=mode))
    error = caught.value
    assert (error.exception, error.error_type) == ("ValueError", ErrorType.TOOL_ERROR)
    assert "_deeper" in error.remote_traceback
    assert "stepchain_tui" not in error.remote_traceback


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        ("TypeError('t')", ErrorType.USER_ERROR),
        ("AttributeError('a')", ErrorType.USER_ERROR),
        ("TimeoutError('t')", ErrorType.TIMEOUT),
        ("ConnectionResetError('c')", ErrorType.SERVER_ERROR),
        ("KeyError('k')", ErrorType.TOOL_ERROR),
    ],
)
async def test_the_exceptions_type_decides_its_class(
    executor: FunctionExecutor, tmp_path: Path, mode: str, raised: str, expected: ErrorType
) -> None:
    (tmp_path / "f.py").write_text(f"def f():\n    raise {raised}\n")
    with pytest.raises(AttemptError) as caught:
        await executor.execute(step_call(function="./f.py:f", folder=tmp_path, mode=mode))
    assert caught.value.error_type is expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", ["sys.exit(4)", "raise Odd('x', 1)", "raise BaseException('base')"])
async def test_nothing_that_a_function_raises_escapes(
    executor: FunctionExecutor, tmp_path: Path, mode: str, how: str
) -> None:
    (tmp_path / "f.py").write_text(
        "import sys\nclass Odd(Exception):\n    def __init__(self, a, b):\n        super().__init__(a)\n"
        f"        self.lock = __import__('threading').Lock()\ndef f():\n    {how}\n"
    )
    with pytest.raises(AttemptError) as caught:
        await executor.execute(step_call(function="./f.py:f", folder=tmp_path, mode=mode))
    assert caught.value.error_type is ErrorType.TOOL_ERROR
    assert caught.value.exception in {"SystemExit", "Odd", "BaseException"}


@pytest.mark.parametrize("mode", MODES)
async def test_a_mended_file_runs_anew_at_once_even_with_the_same_size(
    executor: FunctionExecutor, tmp_path: Path, mode: str
) -> None:
    file = tmp_path / "parse.py"
    for number in range(1, 6):
        file.write_text(f"def parse():\n    return {number}\n")
        call = step_call(function="./parse.py:parse", folder=tmp_path, mode=mode)
        assert (await executor.execute(call)).output == number


@pytest.mark.parametrize("mode", MODES)
async def test_a_mended_helper_beside_the_file_takes_effect(
    executor: FunctionExecutor, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps/parse.py").write_text(
        "import near\ndef parse():\n    from pack.far import far\n    return [near.VALUE, far()]\n"
    )
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("")
    for number in (1, 2):
        (tmp_path / "steps/near.py").write_text(f"VALUE = {number}\n")
        (tmp_path / "pack/far.py").write_text(f"from . import base\ndef far():\n    return base.NUMBER + {number}\n")
        (tmp_path / "pack/base.py").write_text("NUMBER = 10\n")
        call = step_call(function="./steps/parse.py:parse", folder=tmp_path, mode=mode)
        assert (await executor.execute(call)).output == [number, 10 + number]


@pytest.mark.parametrize("mode", MODES)
async def test_two_plans_with_files_of_the_same_name_do_not_mix(
    executor: FunctionExecutor, tmp_path: Path, mode: str
) -> None:
    for name in ("a", "b", "a", "b"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "parse.py").write_text("def parse():\n    import helpers\n    return helpers.NAME\n")
        (folder / "helpers.py").write_text(f"NAME = {name!r}\n")
        call = step_call(function="./parse.py:parse", folder=folder, mode=mode)
        assert (await executor.execute(call)).output == name


@pytest.mark.parametrize("mode", MODES)
async def test_a_misspelt_argument_is_named_before_the_function_runs(executor: FunctionExecutor, mode: str) -> None:
    with pytest.raises(AttemptError, match=r"has no parameter 'aa' and needs 'a'") as caught:
        await executor.execute(step_call(function=add, args={"aa": 1}, mode=mode))
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert "did you mean 'a'?" in caught.value.hint


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("./pares.py:parse", "there is no file", "did you mean 'parse.py'?"),
        ("./parse.py:prase", "has no function 'prase'", "did you mean 'parse'?"),
        ("./broken.py:f", "cannot be imported: SyntaxError", "Mend ./broken.py"),
        ("./raising.py:f", "cannot be imported: ZeroDivisionError", "Mend"),
        ("no_such_package:f", "cannot be imported: ModuleNotFoundError", "Mend"),
        ("./parse.py", "is no function reference", "./file.py:name"),
    ],
)
async def test_a_function_that_is_not_there_is_the_plans_mistake(
    executor: FunctionExecutor, tmp_path: Path, mode: str, reference: str, message: str, hint: str
) -> None:
    (tmp_path / "parse.py").write_text("def parse():\n    return 1\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "raising.py").write_text("1 / 0\n")
    with pytest.raises(AttemptError) as caught:
        await executor.execute(step_call(function=reference, folder=tmp_path, mode=mode))
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert message in str(caught.value)
    assert hint in caught.value.hint


async def test_a_function_in_a_process_has_another_pid_and_its_closure(executor: FunctionExecutor) -> None:
    number = 5
    call = step_call(function=lambda x: [x + number, __import__("os").getpid()], args={"x": 1}, mode="process")
    result, pid = (await executor.execute(call)).output
    assert result == 6
    assert pid != os.getpid()


async def test_a_process_step_gets_its_environment_and_folder_and_leaves_none_behind(
    executor: FunctionExecutor, tmp_path: Path
) -> None:
    def look() -> list[Any]:
        return [os.getcwd(), dict(os.environ)]

    call = step_call(function=look, mode="process", cwd=tmp_path, environment={"PATH": "/bin", "ONLY": "this"})
    folder, environment = (await executor.execute(call)).output
    assert folder == str(tmp_path)
    assert {name for name in environment if not name.startswith("LC_")} == {"PATH", "ONLY"}
    call = step_call(function=look, mode="process", cwd="/", environment={"PATH": "/bin"})
    assert "ONLY" not in (await executor.execute(call)).output[1]


async def test_a_missing_folder_to_work_in_is_the_plans_mistake(executor: FunctionExecutor, tmp_path: Path) -> None:
    with pytest.raises(AttemptError, match="there is no folder") as caught:
        await executor.execute(step_call(function=add, args={"a": 1}, mode="process", cwd=tmp_path / "gone"))
    assert caught.value.error_type is ErrorType.USER_ERROR


async def test_what_cannot_be_pickled_runs_in_a_thread_with_a_warning(executor: FunctionExecutor) -> None:
    connection = sqlite3.connect(":memory:", check_same_thread=False)

    def ask() -> list[int]:
        return [*connection.execute("select 1").fetchone(), os.getpid()]

    with contextlib.closing(connection):
        call = step_call(function=ask, mode="process")
        assert (await executor.execute(call)).output == [1, os.getpid()]
    assert ports_of(call).warnings[0].startswith("ran in a thread: closure variable 'connection' of ")


async def test_without_fallback_what_cannot_be_pickled_is_named(executor: FunctionExecutor) -> None:
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(AttemptError, match=r"argument 'a' of add \(Connection\) cannot be sent") as caught,
    ):
        await executor.execute(step_call(function=add, args={"a": connection}, mode="process", fallback=False))
    assert caught.value.error_type is ErrorType.USER_ERROR


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda: os._exit(3), "ended with exit code 3"),
        (lambda: os._exit(0), "ended with exit code 0"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL"),
        (lambda: ctypes.string_at(0), "was killed by SIGSEGV"),
    ],
)
async def test_a_worker_that_dies_fails_only_its_own_call(executor: FunctionExecutor, how: Any, words: str) -> None:
    def slow() -> str:
        time.sleep(0.3)
        return "fine"

    beside = asyncio.create_task(executor.execute(step_call(function=slow, mode="process")))
    with pytest.raises(AttemptError, match=words) as caught:
        await executor.execute(step_call(function=how, mode="process"))
    assert caught.value.error_type is ErrorType.TOOL_ERROR
    assert caught.value.details["pid"] > 0
    assert caught.value.hint
    assert (await beside).output == "fine"
    assert (await executor.execute(step_call(function=add, args={"a": 1}, mode="process"))).output == 2


async def test_an_idle_worker_that_is_killed_costs_nothing(executor: FunctionExecutor, pools: Pools) -> None:
    await executor.execute(step_call(function=add, args={"a": 1}, mode="process"))
    (worker,) = pools.processes.workers
    os.kill(worker["pid"], signal.SIGKILL)
    await until(lambda: not pools.processes.workers)
    assert (await executor.execute(step_call(function=add, args={"a": 1}, mode="process"))).output == 2


async def test_a_result_too_deep_for_json_is_a_clear_error(executor: FunctionExecutor) -> None:
    def deep() -> list[Any]:
        value: list[Any] = []
        for _ in range(300):
            value = [value]
        return value

    with pytest.raises(AttemptError, match="cannot be made a JSON value") as caught:
        await executor.execute(step_call(function=deep, mode="process"))
    assert caught.value.error_type is ErrorType.USER_ERROR


async def test_a_result_that_is_no_json_value_arrives_as_text(executor: FunctionExecutor) -> None:
    outcome = await executor.execute(step_call(function=lambda: {"lock": threading.Lock()}, mode="process"))
    assert "lock" in outcome.output["lock"]["text"]


async def test_a_large_argument_and_a_large_result_arrive(executor: FunctionExecutor) -> None:
    call = step_call(function=lambda text: text + text, args={"text": "x" * 5_000_000}, mode="process")
    assert len((await executor.execute(call)).output) == 10_000_000


async def test_a_result_over_the_limit_is_refused_with_a_hint(executor: FunctionExecutor) -> None:
    with pytest.raises(AttemptError, match="more than 16 MB") as caught:
        await executor.execute(step_call(function=lambda: "x" * 20_000_000, mode="process"))
    assert "file" in caught.value.hint


def _stubborn(folder: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    Path(folder, "child").write_text(str(child.pid))
    Path(folder, "worker").write_text(str(os.getpid()))
    while True:
        time.sleep(1)


async def test_cancel_ends_a_function_that_ignores_term_with_its_children(
    executor: FunctionExecutor, tmp_path: Path
) -> None:
    call = step_call(function=_stubborn, args={"folder": str(tmp_path)}, mode="process")
    task = asyncio.create_task(executor.execute(call))
    worker = await until(lambda: read_pid(tmp_path / "worker"))
    child = read_pid(tmp_path / "child")
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 4
    assert is_gone(worker)
    assert is_gone(child)


async def test_cancel_lets_a_function_in_a_process_clean_up(executor: FunctionExecutor, tmp_path: Path) -> None:
    def careful(folder: str) -> None:
        try:
            Path(folder, "started").write_text("1")
            time.sleep(60)
        finally:
            Path(folder, "cleaned").write_text("yes")

    task = asyncio.create_task(
        executor.execute(step_call(function=careful, args={"folder": str(tmp_path)}, mode="process"))
    )
    await until(lambda: read_pid(tmp_path / "started"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "cleaned").read_text() == "yes"


async def test_what_became_importable_later_is_importable_in_a_worker(
    executor: FunctionExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await executor.execute(step_call(function=add, args={"a": 1}, mode="process"))
    (tmp_path / "come_late.py").write_text("def f():\n    return 5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert (await executor.execute(step_call(function="come_late:f", folder="/", mode="process"))).output == 5


async def test_a_queued_call_that_is_cancelled_takes_no_worker(executor: FunctionExecutor, pools: Pools) -> None:
    busy = [asyncio.create_task(executor.execute(step_call(function=_nap, mode="process"))) for _ in range(2)]
    queued = asyncio.create_task(executor.execute(step_call(function=_nap, mode="process")))
    await until(lambda: len(pools.processes.workers) == 2)
    queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    await asyncio.gather(*busy)
    assert len(pools.processes.workers) == 2


def _nap() -> None:
    time.sleep(0.3)


async def test_a_cancelled_thread_is_stuck_until_its_function_returns(executor: FunctionExecutor) -> None:
    go_on, started = threading.Event(), threading.Event()

    def hang(ctx: StepContext) -> bool:
        started.set()
        go_on.wait(30)
        return ctx.cancelled

    call = step_call(function=hang)
    task = asyncio.create_task(executor.execute(call))
    await until(started.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    finished = executor.unfinished(call)
    assert finished is not None
    assert not finished.done()
    go_on.set()
    await asyncio.wait_for(finished, 10)
    assert executor.unfinished(call) is None


@pytest.mark.parametrize("mode", ["inline", "thread"])
async def test_cancelling_a_coroutine_function_really_cancels_it(executor: FunctionExecutor, mode: str) -> None:
    seen: list[str] = []

    async def wait() -> None:
        seen.append("started")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    call = step_call(function=wait, mode=mode)
    task = asyncio.create_task(executor.execute(call))
    await until(lambda: seen)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: executor.unfinished(call) is None)
    assert seen == ["started", "cancelled"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_function_that_cancels_itself_has_failed(executor: FunctionExecutor, mode: str) -> None:
    async def odd() -> None:
        raise asyncio.CancelledError

    with pytest.raises(AttemptError):
        await executor.execute(step_call(function=odd, mode=mode))


async def test_what_c_code_and_children_print_is_logged_in_a_process(executor: FunctionExecutor) -> None:
    def shout() -> None:
        os.write(1, b"descriptor\n")
        subprocess.run(["sh", "-c", "echo child; echo error >&2"], check=True)
        os.write(2, b"\xff not utf-8\n")

    call = step_call(function=shout, mode="process")
    await executor.execute(call)
    assert ports_of(call).text() == "descriptor\nchild\n"
    assert ports_of(call).text("stderr") == "error\n� not utf-8\n"


async def test_lines_arrive_while_the_function_still_runs(executor: FunctionExecutor, tmp_path: Path) -> None:
    def slow(file: str) -> None:
        print("first")
        while not Path(file).exists():
            time.sleep(0.01)

    for mode in ("thread", "process"):
        gate = tmp_path / mode
        call = step_call(function=slow, args={"file": str(gate)}, mode=mode)
        task = asyncio.create_task(executor.execute(call))
        await until(lambda call=call: ports_of(call).text() == "first\n")
        gate.touch()
        await task


async def test_output_belongs_to_the_call_that_printed_it(executor: FunctionExecutor) -> None:
    def count(name: str) -> None:
        for number in range(200):
            print(name, number)

    calls = [
        step_call(function=count, args={"name": f"{mode}{index}"}, mode=mode)
        for mode in ("thread", "process")
        for index in range(4)
    ]
    await asyncio.gather(*(executor.execute(call) for call in calls))
    for call in calls:
        assert ports_of(call).text() == "".join(f"{call.args['name']} {number}\n" for number in range(200))


@pytest.mark.parametrize("mode", ["thread", "process"])
async def test_a_hundred_megabytes_of_print_pass_without_piling_up(executor: FunctionExecutor, mode: str) -> None:
    def flood() -> None:
        line = "x" * 999
        for _ in range(100_000):
            print(line)

    call = step_call(function=flood, mode=mode, keep=False)
    before = _memory()
    async with LoopWatch() as watch:
        await executor.execute(call)
    assert ports_of(call).characters == 100_000_000
    assert ports_of(call).largest <= 1_100_000
    assert _memory() - before < 50_000_000
    assert watch.longest < 1.0


def _memory() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


async def test_workers_are_reported_before_their_first_call_and_when_they_end(tmp_path: Path) -> None:
    reports: list[list[int]] = []

    async def changed(workers: list[dict[str, Any]]) -> None:
        reports.append([worker["pid"] for worker in workers])
        await asyncio.sleep(0.05)
        (tmp_path / "durable").touch()

    pools = Pools(process_workers=1, on_workers_changed=lambda workers: changed(workers))
    executor = FunctionExecutor(pools)
    call = step_call(
        function=lambda file: [Path(file).exists(), os.getpid()],
        args={"file": str(tmp_path / "durable")},
        mode="process",
    )
    durable, pid = (await executor.execute(call)).output
    assert durable
    assert reports == [[pid]]
    await pools.close()
    await pools.close()
    assert reports == [[pid], []]
    assert is_gone(pid)


async def test_processes_start_where_the_terminal_app_has_taken_stderr(
    executor: FunctionExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Captured:
        def fileno(self) -> int:
            return -1

        def write(self, text: str) -> int:
            return len(text)

        def flush(self) -> None: ...

    monkeypatch.setattr(sys, "stderr", Captured())
    monkeypatch.setattr(sys, "stdout", Captured())
    assert (await executor.execute(step_call(function=add, args={"a": 1}, mode="process"))).output == 2


def test_functions_run_inside_the_running_app(tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(
        f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from textual.app import App
from tools_calls import ports_of, step_call
from stepchain_tui.executors.function import FunctionExecutor
from stepchain_tui.tools import Pools

def speak(mode):
    print("from", mode)
    return mode

class Host(App):
    async def on_mount(self):
        pools, seen = Pools(process_workers=1), [sys.stderr.fileno()]
        for mode in ("inline", "thread", "process"):
            call = step_call(function=speak, args={{"mode": mode}}, mode=mode)
            seen.append((await FunctionExecutor(pools).execute(call)).output + ": " + ports_of(call).text())
        await pools.close()
        self.exit(seen)

print(Host().run(headless=True))
"""
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    expected = [-1, "inline: from inline\n", "thread: from thread\n", "process: from process\n"]
    assert eval(done.stdout.splitlines()[-1]) == expected


SCRIPT = """
import asyncio, os, sys, threading
from pathlib import Path
sys.path.insert(0, {tests!r})
from tools_calls import step_call
from stepchain_tui.executors.function import FunctionExecutor
from stepchain_tui.tools import Pools

print("imported", os.getpid(), flush=True)
FACTOR = 3

class Shape:
    def __init__(self, size): self.size = size

def helper(shape): return shape.size * FACTOR

def work(shape): return [helper(shape), os.getpid(), __name__]

def hang():
    import subprocess, time
    child = subprocess.Popen(["sleep", "600"])
    print("pids", os.getpid(), child.pid, flush=True)
    Path({folder!r}, "worker").write_text(str(os.getpid()))
    Path({folder!r}, "child").write_text(str(child.pid))
    time.sleep(600)

async def main():
    pools = Pools(process_workers=1)
    executor = FunctionExecutor(pools)
    if sys.argv[1:] == ["hang"]:
        await executor.execute(step_call(function=hang, mode="process"))
    print((await executor.execute(step_call(function=work, args={{"shape": Shape(4)}}, mode="process"))).output)
    if sys.argv[1:] != ["leave"]:
        await pools.close()

asyncio.run(main())
"""


def _script(folder: Path) -> Path:
    file = folder / "script.py"
    file.write_text(textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), folder=str(folder)))
    return file


@pytest.mark.parametrize("how", ["close", "leave"])
def test_a_script_needs_no_main_guard(tmp_path: Path, how: str) -> None:
    done = subprocess.run(
        [sys.executable, str(_script(tmp_path)), how],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    own = int(first.split()[1])
    value, pid = eval(second)[:2]
    assert value == 12
    assert pid != own
    _wait_gone([pid])


def test_when_the_owner_is_killed_no_worker_outlives_it(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, str(_script(tmp_path)), "hang"],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    deadline = time.monotonic() + 30
    while not read_pid(tmp_path / "child"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    owner.kill()
    owner.wait()
    _wait_gone([read_pid(tmp_path / "worker")])
    child = read_pid(tmp_path / "child")
    if not is_gone(child):  # the kernel may end the worker before it could end its group: whoever takes over does
        os.kill(child, signal.SIGKILL)


def _wait_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while not all(map(is_gone, pids)):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.01)
