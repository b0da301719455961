"""Batches of tool calls on real threads and processes (document 002)."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tools_calls import LoopWatch, is_gone, read_pid, until

from stepchain_tui.core.errors import UsageError
from stepchain_tui.tools import Tool, ToolCall, ToolRegistry
from stepchain_tui.tools.executor import Executor

MODES = ("thread", "process")
counter = 0


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(process_workers=2) as executor:
        yield executor


def add(a: int, b: int = 1) -> int:
    return a + b


def where() -> list[int]:
    return [os.getpid(), threading.get_ident()]


def fail(message: str = "no header") -> None:
    raise ValueError(message)


def count_up() -> int:
    global counter
    counter += 1
    return counter


def die() -> None:
    os._exit(3)


def wait_for_file(path: str) -> str:
    deadline = time.monotonic() + 30
    while not Path(path).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return "seen"


def hang(folder: str) -> None:
    Path(folder, "worker").write_text(str(os.getpid()))
    while True:
        time.sleep(1)


def compute(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        math.sqrt(2)


class Scale:
    """Three kinds of tools: the class itself, its methods, and its objects."""

    def __init__(self, by: int = 2) -> None:
        self.by = by

    def times(self, value: int) -> int:
        return self.by * value

    @classmethod
    def named(cls, by: int) -> int:
        return cls(by).by

    def __call__(self, value: int) -> int:
        return self.by * value

    def __str__(self) -> str:
        return f"scale by {self.by}"


def one(executor: Executor, function: Any, mode: str | None = None, /, **args: Any) -> str:
    """Return the text of one call of a function."""
    return executor.execute_tool_calls(lambda _: function, [ToolCall("id", "tool", args)], mode)["id"]


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_callable_is_a_tool(executor: Executor, mode: str) -> None:
    n = 5
    assert one(executor, add, mode, a=1) == "2"
    assert one(executor, lambda value: value + n, mode, value=1) == "6"
    assert one(executor, Scale(3).times, mode, value=2) == "6"
    assert one(executor, Scale.named, mode, by=4) == "4"
    assert one(executor, Scale(3), mode, value=2) == "6"
    assert one(executor, functools.partial(add, b=10), mode, a=1) == "11"
    assert one(executor, math.sqrt, mode, x=4) == "2.0"
    assert "scale by 7" in one(executor, Scale, mode, by=7)


def test_threads_share_our_process_and_processes_do_not(executor: Executor) -> None:
    executor.set_execution_mode("thread")
    pid, thread = json.loads(one(executor, where))
    assert pid == os.getpid()
    assert thread != threading.get_ident()
    executor.set_execution_mode("process")
    assert json.loads(one(executor, where))[0] != os.getpid()


def test_what_a_process_does_to_a_global_stays_there(executor: Executor) -> None:
    assert one(executor, count_up, "process") == "1"
    assert counter == 0
    assert one(executor, count_up, "thread") == "1"
    assert counter == 1


def test_a_mode_that_does_not_exist_is_refused_with_those_that_do(executor: Executor) -> None:
    for refused in (
        lambda: executor.set_execution_mode("gpu"),
        lambda: executor.execute_tool_calls({}, [ToolCall("a", "b")], "gpu"),
        lambda: Executor(mode="gpu"),
    ):
        with pytest.raises(ValueError, match="no execution mode 'gpu' \\(there are: process, thread\\)"):
            refused()
    with pytest.raises(UsageError) as caught:
        executor.set_execution_mode("treads")
    assert caught.value.hint == "did you mean 'thread'?"


def test_ten_calls_that_wait_for_each_other_wait_at_the_same_time(executor: Executor) -> None:
    barrier = threading.Barrier(10, timeout=20)
    calls = [ToolCall(str(number), "meet") for number in range(10)]
    results = executor.execute_tool_calls(lambda _: lambda: barrier.wait() >= 0, calls)
    assert set(results.values()) == {"true"}


def test_two_processes_work_at_the_same_time(executor: Executor, tmp_path: Path) -> None:
    def meet(mine: str, other: str) -> int:
        Path(mine).touch()
        wait_for_file(other)
        return os.getpid()

    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    calls = [ToolCall("1", "meet", {"mine": a, "other": b}), ToolCall("2", "meet", {"mine": b, "other": a})]
    results = executor.execute_tool_calls(lambda _: meet, calls, "process")
    assert len(set(results.values())) == 2
    assert all(result.isdigit() for result in results.values())


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_fails_fails_alone_and_says_why(executor: Executor, mode: str) -> None:
    tools = {"add": add, "fail": fail, "exit": lambda: sys.exit(4)}
    calls = [
        ToolCall("good", "add", {"a": 1}),
        ToolCall("raises", "fail"),
        ToolCall("exits", "exit"),
        ToolCall("broken", "add", '{"a": 1'),
        ToolCall("list", "add", "[1, 2]"),
        ToolCall("wrong", "add", '{"a": "x", "c": 2}'),
        ToolCall("unknown", "ad", "{}"),
        ToolCall("empty", "fail", ""),
    ]
    texts = executor.execute_tool_calls(tools, calls, mode)
    assert texts["good"] == "2"
    assert texts["raises"] == texts["empty"] == "Error: ValueError: no header"
    assert texts["exits"].startswith("Error: SystemExit: the function called sys.exit(4)")
    assert texts["broken"].startswith("Error: ToolArgumentError: the arguments of add are no JSON")
    assert texts["list"].startswith("Error: ToolArgumentError: the arguments of add are no JSON object but list")
    assert "argument 'a'" in texts["wrong"]
    assert "has no parameter 'c'" in texts["wrong"]
    assert texts["unknown"] == "Error: UnknownToolError: there is no tool 'ad' (did you mean 'add'?)"


def test_arguments_are_converted_to_the_types_of_the_function_before_it_is_called(executor: Executor) -> None:
    def kinds(count: int, path: Path, tags: set[str]) -> list[str]:
        return [type(value).__name__ for value in (count, path, tags)]

    args = {"count": "3", "path": "/tmp", "tags": ["a"]}
    for mode in MODES:
        count, path, tags = json.loads(one(executor, kinds, mode, **args))
        assert (count, tags) == ("int", "set")
        assert path.endswith("Path")


def test_a_function_without_a_schema_is_called_all_the_same(executor: Executor) -> None:
    def loose(*rest: Any, **more: Any) -> dict[str, Any]:
        return more

    assert json.loads(one(executor, loose, a=1)) == {"a": 1}


def test_the_forms_in_which_models_ask_for_tools_are_understood(executor: Executor) -> None:
    sdk = SimpleNamespace(id="fc_1", call_id="call_4", name="add", arguments='{"a": 4}')
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"id": "fc_0", "call_id": "call_2", "type": "function_call", "name": "add", "arguments": '{"a": 2}'},
        ToolCall("call_3", "add", {"a": 3}),
        sdk,
        SimpleNamespace(id="call_5", function=SimpleNamespace(name="add", arguments='{"a": 5}')),
    ]
    assert executor.execute_tool_calls({"add": add}, calls) == {f"call_{n}": str(n + 1) for n in range(1, 6)}


def test_tools_are_found_in_whatever_keeps_them(executor: Executor) -> None:
    class Registry:
        def get_callable(self, name: str) -> Callable[..., Any] | None:
            return add if name == "add" else None

    class Items:
        def __getitem__(self, name: str) -> Any:
            return {"add": SimpleNamespace(callable=add, parameters={})}[name]

    class Broken:
        def get(self, name: str) -> Any:
            raise OSError("the registry is offline")

    ours = ToolRegistry()
    ours.register(add)
    for source in (Registry(), Items(), ours, {"add": add}, {"add": Tool("add", add)}, {"add": add}.get):
        calls = [ToolCall("a", "add", {"a": 1}), ToolCall("b", "subtract")]
        results = executor.execute_tool_calls(source, calls)
        assert results["a"] == "2"
        assert results["b"].startswith("Error: UnknownToolError: there is no tool 'subtract'")
    assert executor.execute_tool_calls(Broken(), calls)["a"] == "Error: OSError: the registry is offline"
    assert "is no function but int" in executor.execute_tool_calls({"add": 3}, calls)["a"]
    assert "cannot be looked up in int" in executor.execute_tool_calls(3, calls)["a"]


def test_two_calls_with_one_id_are_refused_before_anything_runs(executor: Executor) -> None:
    ran: list[int] = []
    with pytest.raises(ValueError, match="two tool calls have the id 'x'"):
        executor.execute_tool_calls(lambda _: lambda: ran.append(1), [ToolCall("x", "a"), ToolCall("x", "a")])
    with pytest.raises(ValueError, match="no name"):
        executor.execute_tool_calls({}, [{"id": "x"}])
    assert not ran
    assert executor.execute_tool_calls({}, []) == {}


def test_a_function_that_cannot_travel_runs_in_a_thread_once_with_a_warning(executor: Executor) -> None:
    calls: list[int] = []
    connection = sqlite3.connect(":memory:", check_same_thread=False)

    def ask() -> int:
        calls.append(os.getpid())
        return int(connection.execute("select 7").fetchone()[0])

    (result,) = executor.execute_detailed(lambda _: ask, [ToolCall("id", "ask")], "process")
    assert (result.text, result.mode, result.pid) == ("7", "thread", os.getpid())
    assert calls == [os.getpid()]
    (warning,) = result.warnings
    assert "ran in a thread: closure variable 'connection' of ask (Connection) cannot be sent" in warning
    connection.close()


def test_the_fallback_to_a_thread_can_be_forbidden(executor: Executor) -> None:
    connection = sqlite3.connect(":memory:")
    calls: list[int] = []

    def locked() -> None:
        calls.append(1)
        connection.close()

    with Executor(fallback=False, mode="process") as strict:
        (result,) = strict.execute_detailed(lambda _: locked, [ToolCall("id", "locked")])
    assert result.exception == "NotPicklableError"
    assert "closure variable 'connection' of locked (Connection)" in result.text
    tool = Tool("locked", locked, mode="process", fallback=False)
    assert "NotPicklableError" in executor.execute_tool_calls({"locked": tool}, [ToolCall("id", "locked")])["id"]
    assert not calls
    connection.close()


def test_the_most_particular_word_decides_where_a_call_runs(executor: Executor) -> None:
    tools = {"plain": where, "apart": Tool("apart", where, mode="process")}

    def is_apart(call: ToolCall, mode: str | None = None) -> bool:
        return bool(json.loads(executor.execute_tool_calls(tools, [call], mode)[call.id])[0] != os.getpid())

    assert not is_apart(ToolCall("a", "plain"))
    assert is_apart(ToolCall("a", "apart"))
    assert not is_apart(ToolCall("a", "apart"), "thread")
    assert is_apart(ToolCall("a", "apart", mode="process"), "thread")
    assert "no execution mode 'gpu'" in executor.execute_tool_calls(tools, [ToolCall("a", "plain", mode="gpu")])["a"]


def test_a_worker_that_dies_fails_only_its_call_and_the_next_one_works(executor: Executor) -> None:
    tools = {"die": die, "add": add}
    calls = [ToolCall("dead", "die"), *(ToolCall(str(n), "add", {"a": n}) for n in range(6))]
    results = executor.execute_tool_calls(tools, calls, "process")
    assert results.pop("dead").startswith("Error: WorkerDied: process ")
    assert results == {str(n): str(n + 1) for n in range(6)}
    assert one(executor, add, "process", a=1) == "2"


def test_a_process_whose_time_is_over_is_ended_for_real(executor: Executor, tmp_path: Path) -> None:
    calls = [
        ToolCall("hangs", "hang", {"folder": str(tmp_path)}, timeout=3.0),
        ToolCall("good", "add", {"a": 1}),
    ]
    hung, good = executor.execute_detailed({"hang": hang, "add": add}, calls, "process")
    assert hung.text.startswith("Error: TimeoutError: hang ran longer than its timeout of 3 s and was stopped")
    assert hung.error_type == "timeout"
    assert hung.pid == read_pid(tmp_path / "worker")
    assert is_gone(read_pid(tmp_path / "worker"))
    assert good.text == "2"


def test_the_time_of_a_call_does_not_count_while_it_waits_for_a_worker() -> None:
    timeout = 3.0

    def hold() -> float:
        began = time.monotonic()
        while time.monotonic() < began + timeout + 0.3:
            time.sleep(0.05)
        return time.monotonic() - began

    calls = [ToolCall("holds", "hold"), ToolCall("waits", "add", {"a": 1}, timeout=timeout)]
    with Executor(process_workers=1, mode="process") as executor:
        results = executor.execute_tool_calls({"hold": hold, "add": add}, calls)
    assert float(results["holds"]) > timeout
    assert results["waits"] == "2"


def test_a_thread_whose_time_is_over_is_given_up_and_said_to_go_on(executor: Executor) -> None:
    go = threading.Event()
    ended = threading.Event()

    def stubborn() -> None:
        go.wait(30)
        ended.set()

    text = executor.execute_tool_calls(lambda _: stubborn, [ToolCall("id", "stubborn")], timeout=0.05)["id"]
    assert "TimeoutError: stubborn ran longer than its timeout of 0.05 s and goes on in its thread" in text
    assert not ended.is_set()
    go.set()
    assert ended.wait(10)


def test_threads_that_are_stuck_do_not_hold_up_the_calls_behind_them(executor: Executor) -> None:
    go = threading.Event()
    tools = {"stuck": lambda: go.wait(60), "add": add}
    calls = [ToolCall(str(number), "stuck", timeout=0.2) for number in range(150)]
    results = executor.execute_tool_calls(tools, [*calls, ToolCall("last", "add", {"a": 1})])
    assert results.pop("last") == "2"
    assert all(text.startswith("Error: TimeoutError: stuck ran longer") for text in results.values())
    go.set()
    assert one(executor, add, a=1) == "2"


@pytest.mark.parametrize("timeout", [0, -1, "5", True, math.inf, math.nan])
def test_a_timeout_that_is_none_is_refused(executor: Executor, timeout: Any) -> None:
    with pytest.raises(ValueError, match="a timeout cannot be"):
        executor.execute_tool_calls({"add": add}, [ToolCall("a", "add")], timeout=timeout)
    call = ToolCall("a", "add", {"a": 1}, timeout=timeout)
    assert "a timeout cannot be" in executor.execute_tool_calls({"add": add}, [call])["a"]


def test_twenty_threads_may_use_one_executor(executor: Executor) -> None:
    def batch(thread: int) -> dict[str, str]:
        calls = [ToolCall(str(n), "add", {"a": thread, "b": n}) for n in range(50)]
        return executor.execute_tool_calls({"add": add}, calls, "process" if thread % 5 == 0 else "thread")

    with ThreadPoolExecutor(20) as threads:
        for thread, results in enumerate(threads.map(batch, range(20))):
            assert results == {str(n): str(thread + n) for n in range(50)}


def test_a_tool_may_use_the_executor_that_runs_it(executor: Executor) -> None:
    def outer() -> str:
        return one(executor, add, "thread", a=1)

    assert one(executor, outer, "thread") == "2"


def test_switching_the_mode_leaves_calls_that_run_alone(executor: Executor, tmp_path: Path) -> None:
    started = threading.Event()

    def slow(path: str) -> int:
        started.set()
        wait_for_file(path)
        return os.getpid()

    executor.set_execution_mode("thread")
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(one, executor, slow, None, path=str(tmp_path / "go"))
        assert started.wait(10)
        executor.set_execution_mode("process")
        assert json.loads(one(executor, where))[0] != os.getpid()
        (tmp_path / "go").touch()
        assert running.result() == str(os.getpid())


def test_the_stages_of_a_call_are_told_in_their_order(executor: Executor) -> None:
    calls = [ToolCall("a", "add", {"a": 1})]
    (in_process,) = executor.execute_detailed({"add": add}, calls, "process")
    (in_thread,) = executor.execute_detailed({"add": add}, calls, "thread")
    (unknown,) = executor.execute_detailed({}, calls)
    assert [event.stage for event in in_process.events] == [
        "received",
        "resolved",
        "packed",
        "started",
        "ended",
        "rendered",
    ]
    assert [event.stage for event in in_thread.events] == ["received", "resolved", "started", "ended", "rendered"]
    assert [event.stage for event in unknown.events] == ["received", "resolved", "rendered"]
    for result in (in_process, in_thread, unknown):
        times = [event.seconds for event in result.events]
        assert times == sorted(times)
    assert (in_process.mode, in_thread.mode, unknown.mode) == ("process", "thread", "")
    assert in_process.pid != os.getpid() == in_thread.pid


def test_a_function_that_computes_in_a_thread_gets_the_hint_to_use_a_process(executor: Executor) -> None:
    calls = [ToolCall("a", "compute", {"seconds": 0.2})]
    (in_thread,) = executor.execute_detailed({"compute": compute}, calls, "thread")
    (in_process,) = executor.execute_detailed({"compute": compute}, calls, "process")
    assert in_thread.cpu_time is not None
    assert in_process.cpu_time is not None
    assert in_thread.cpu_time >= 0.2
    assert in_process.cpu_time >= 0.2
    assert in_process.hint == ""
    assert in_thread.hint == "" or "mode process would use another core" in in_thread.hint


def test_a_process_gets_no_secret_variables_but_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "secret-one-1")
    monkeypatch.setenv("B_TOKEN", "secret-two-2")
    monkeypatch.setenv("PLAIN", "as it is")

    def look() -> list[str | None]:
        return [os.environ.get(name) for name in ("A_TOKEN", "B_TOKEN", "PLAIN")]

    with Executor(secrets=["B_TOKEN"], mode="process") as executor:
        assert json.loads(one(executor, look)) == [None, "secret-two-2", "as it is"]


def test_a_process_works_in_our_folder_and_prints_where_we_print(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def talk() -> str:
        print("from the worker")
        return str(Path.cwd())

    assert one(executor, talk, "process") == str(tmp_path)
    assert capsys.readouterr().out == "from the worker\n"
    pieces: list[str] = []
    with Executor(log=lambda stream, text: pieces.append(f"{stream}: {text}")) as quiet:
        for mode in MODES:
            one(quiet, talk, mode)
    assert pieces == ["stdout: from the worker\n"] * 2
    assert capsys.readouterr().out == ""


async def test_a_batch_of_both_modes_is_told_in_its_order_also_on_a_running_loop(executor: Executor) -> None:
    calls = [ToolCall(str(n), "where", mode=MODES[n % 2]) for n in range(6)] + [ToolCall("none", "nothing")]
    for results in (
        await executor.aexecute_detailed({"where": where}, calls),
        executor.execute_detailed({"where": where}, calls),
        await asyncio.to_thread(executor.execute_detailed, {"where": where}, calls),
    ):
        assert [result.id for result in results] == [call.id for call in calls]
        assert [result.mode for result in results] == [*MODES * 3, ""]


async def test_waiting_for_a_batch_leaves_the_loop_free(executor: Executor) -> None:
    async with LoopWatch() as watch:
        results = await executor.aexecute({"compute": compute}, [ToolCall("a", "compute", {"seconds": 1.0})], "process")
    assert results == {"a": "null"}
    assert watch.turns > 5


async def test_cancelling_a_batch_ends_its_processes(executor: Executor, tmp_path: Path) -> None:
    call = ToolCall("a", "hang", {"folder": str(tmp_path)})
    task = asyncio.create_task(executor.aexecute({"hang": hang}, [call], "process"))
    worker = await until(lambda: read_pid(tmp_path / "worker"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: is_gone(worker))
    assert await executor.aexecute({"add": add}, [ToolCall("a", "add", {"a": 1})], "process") == {"a": "2"}


def test_shutting_down_fails_what_runs_with_the_reason_and_ends_its_process(tmp_path: Path) -> None:
    executor = Executor()
    calls = [ToolCall("a", "hang", {"folder": str(tmp_path)}), ToolCall("b", "wait", {}, mode="thread")]
    go = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        tools = {"hang": hang, "wait": lambda: go.wait(30)}
        running = threads.submit(executor.execute_tool_calls, tools, calls, "process")
        deadline = time.monotonic() + 30
        while not (worker := read_pid(tmp_path / "worker")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        executor._shutdown_executors()
        executor._shutdown_executors()
        assert is_gone(worker)
        results = running.result(10)
    go.set()
    assert results["a"].startswith("Error: ShutDownError: the executor was shut down while it ran hang")
    assert results["b"].startswith("Error: ShutDownError")
    assert one(executor, add, "process", a=1) == "2"
    executor.close()


def test_an_executor_that_nobody_holds_lets_its_workers_go() -> None:
    executor = Executor()
    pid = json.loads(one(executor, where, "process"))[0]
    del executor
    deadline = time.monotonic() + 30
    while not is_gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


SCRIPT = """
    import os, signal, sys, time
    from stepchain_tui.tools.executor import Executor
    from stepchain_tui.tools.types import ToolCall

    offset = 10

    def helper(a):
        return a + offset

    def work(a: int, folder: str):
        open(f"{folder}/{a}.pid", "w").write(str(os.getpid()))
        return helper(a)

    def hang(a: int, folder: str):
        work(a, folder)
        time.sleep(600)

    folder, how = sys.argv[1:]
    tools = {"work": work, "hang": hang}
    executor = Executor(process_workers=2)
    calls = [ToolCall(str(n), "work", {"a": n, "folder": folder}) for n in range(4)]
    print(executor.execute_tool_calls(tools, calls, "process"), flush=True)
    if how in ("process", "thread"):
        executor.execute_tool_calls(tools, [ToolCall("h", "hang", {"a": 99, "folder": folder})], how)
    if how == "raise":
        raise RuntimeError("the script failed")
"""


def script(tmp_path: Path, how: str) -> subprocess.Popen[str]:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    return subprocess.Popen(
        [sys.executable, str(path), str(tmp_path), how],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )


def workers_of(tmp_path: Path) -> set[int]:
    return {int(path.read_text()) for path in tmp_path.glob("*.pid")}


@pytest.mark.parametrize("how", ["end", "raise"])
def test_a_script_without_a_main_guard_leaves_no_worker_when_it_ends(tmp_path: Path, how: str) -> None:
    process = script(tmp_path, how)
    out, error = process.communicate(timeout=60)
    assert out == "{'0': '10', '1': '11', '2': '12', '3': '13'}\n"
    assert process.returncode == (1 if how == "raise" else 0), error
    assert workers_of(tmp_path)
    assert all(map(is_gone, workers_of(tmp_path)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGKILL", "SIGINT"])
async def test_a_script_that_is_killed_leaves_no_worker(tmp_path: Path, signal_name: str, mode: str) -> None:
    process = script(tmp_path, mode)
    try:
        await until(lambda: (tmp_path / "99.pid").exists() and (tmp_path / "99.pid").read_text(), 30)
        process.send_signal(signal.Signals[signal_name])
        process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode != 0
    await until(lambda: all(map(is_gone, workers_of(tmp_path))))


def test_a_forked_child_has_workers_of_its_own(executor: Executor) -> None:
    ours = json.loads(one(executor, where, "process"))[0]
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            with os.fdopen(writing, "w") as pipe:
                pipe.write(one(executor, where, "process"))
            executor.close()
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = json.loads(pipe.read())[0]
    os.waitpid(child, 0)
    assert theirs not in (ours, child)
    assert json.loads(one(executor, where, "process"))[0] == ours
