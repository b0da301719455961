"""Snippets in the sandbox: values, prints, errors with their place, limits, and attempts to get out."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from stepchain_tui.core.errors import UsageError
from stepchain_tui.run import AttemptError, ErrorType
from stepchain_tui.sandbox import MontyRunner


@pytest.fixture
async def runner():
    runner = MontyRunner(max_workers=2)
    yield runner
    await runner.close()


@pytest.fixture
async def single():
    """A runner with one worker, so that its process is the one that is meant."""
    runner = MontyRunner(max_workers=1)
    yield runner
    await runner.close()


async def failure(runner: MontyRunner, code: str, inputs=None, **options) -> AttemptError:
    with pytest.raises(AttemptError) as caught:
        await runner.run(code, inputs, **options)
    assert caught.value.hint
    return caught.value


async def error_or_none(runner: MontyRunner, code: str, **options) -> AttemptError | None:
    try:
        await runner.run(code, **options)
    except AttemptError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("1 + 1", 2),
        ("x = 5", None),
        ("", None),
        ("total = 0\nfor n in values:\n    total += n\ntotal", 6),
        ("sum(values)", 6),
        ("{'a': (1, 2), 'b': None}", {"a": [1, 2], "b": None}),
        ("import datetime\ndatetime.date(2026, 11, 20)", "2026-11-20"),
        ("{1}", {"text": "{1}", "type": "set"}),
        ("float('nan')", "nan"),
        ("10 ** 30", str(10**30)),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n[P(1)]", [{"x": 1}]),
        ("class P:\n    pass\np = P()\np.x = 1\np", {"text": "P(x=1)", "type": "P"}),
        ("print", {"text": "print", "type": "function"}),
        ("\n    a = 1\n    a + 1\n", 2),
        ("import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 7\nawait f()", 7),
    ],
)
async def test_the_value_of_the_last_expression_is_the_result(runner, code, expected):
    assert await runner.run(code, {"values": [1, 2, 3]}) == expected


async def test_snippets_share_nothing(runner):
    await runner.run("left_behind = 1")
    for _ in range(3):
        assert (await failure(runner, "left_behind")).exception == "NameError"


async def test_inputs_are_copies(runner):
    values = [1]
    await runner.run("values.append(2)", {"values": values})
    assert values == [1]


async def test_prints_arrive_by_stream_while_the_code_runs(runner):
    loop, first = asyncio.get_running_loop(), asyncio.Event()
    seen: list[tuple[str, str]] = []

    def on_print(stream: str, text: str) -> None:
        seen.append((stream, text))
        loop.call_soon_threadsafe(first.set)

    code = "import sys, time\nprint('out')\nprint('err', file=sys.stderr)\ntime.sleep(60)"
    task = asyncio.create_task(runner.run(code, on_print=on_print))
    await asyncio.wait_for(first.wait(), 30)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen[0] == ("stdout", "out\n")


@pytest.mark.parametrize(
    ("code", "exception", "error_type", "line", "column", "words"),
    [
        ("x = 1\ndef f(:\n    pass", "SyntaxError", "user_error", 2, 7, "(line 2, column 7)"),
        ("class A(B):\n    pass", "NotImplementedError", "user_error", 1, 1, "class inheritance"),
        ("def g():\n    yield 1", "NotImplementedError", "user_error", 2, 5, "yield"),
        ("import numpy", "ModuleNotFoundError", "user_error", 1, 1, "numpy"),
        ("x = 1\ny + x", "NameError", "user_error", 2, 1, "'y' is not defined"),
        ("'a' + 1", "TypeError", "user_error", 1, 1, "(line 1"),
        ("(1).missing", "AttributeError", "user_error", 1, 1, "missing"),
        ("1 / 0", "ZeroDivisionError", "tool_error", 1, 1, "division by zero"),
        ("def f(a):\n    return a['k']\nf({})", "KeyError", "tool_error", 2, 12, "(line 2, column 12)"),
        ("raise ValueError('no')", "ValueError", "tool_error", 1, 7, "no (line 1"),
        ("raise NotImplementedError('later')", "NotImplementedError", "tool_error", 1, 7, "later"),
        ("raise TimeoutError('late')", "TimeoutError", "timeout", 1, 7, "late"),
        ("assert 1 == 2", "AssertionError", "tool_error", 1, 8, "1 == 2"),
        ("eval('1 / 0')", "ZeroDivisionError", "tool_error", 1, 1, "division by zero"),
        ("import json\njson.loads('{')", "JSONDecodeError", "tool_error", 2, 1, "Expecting"),
    ],
)
async def test_errors_are_classified_and_point_into_the_code(runner, code, exception, error_type, line, column, words):
    error = await failure(runner, code)
    assert (error.exception, error.error_type) == (exception, error_type)
    assert (error.details["line"], error.details["column"]) == (line, column)
    assert words in str(error)


async def test_the_traceback_names_the_step_and_the_lines(runner):
    error = await failure(runner, "def inner():\n    return 1 / 0\ninner()", name="totals")
    assert 'File "totals", line 3' in error.remote_traceback
    assert 'File "totals", line 2, in inner' in error.remote_traceback
    assert "python-input" not in error.remote_traceback


async def test_a_line_without_end_does_not_fill_the_error(runner):
    error = await failure(runner, "x = '" + "y" * 100_000 + "' / 0")
    assert len(error.remote_traceback) < 2000
    assert len(error.details["source"]) <= 300


@pytest.mark.parametrize("code", ["10 ** 5000", "class A:\n    pass\n{A(): 1}", "class A:\n    pass\n{A()}"])
async def test_a_value_that_cannot_leave_is_the_users_mistake(runner, code):
    error = await failure(runner, code)
    assert error.error_type is ErrorType.USER_ERROR
    assert "cannot leave the sandbox" in str(error)
    assert await runner.run("2") == 2


@pytest.mark.parametrize("timeout", [1e12, 1e20, 1e300])
async def test_a_time_limit_may_be_longer_than_the_sandbox_counts(runner, timeout):
    assert await runner.run("1 + 1", timeout=timeout) == 2


async def test_an_endless_loop_ends_at_its_time_limit_and_its_process_too(single):
    await single.run("1")
    [pid] = single.worker_pids()
    error = await failure(single, "while True:\n    pass", timeout=0.2)
    assert error.error_type is ErrorType.TIMEOUT
    assert "0.2 s" in str(error)
    assert not psutil.pid_exists(pid)
    assert await single.run("2") == 2


async def test_a_value_over_ten_megabytes_is_refused(single):
    error = await failure(single, "'x' * (11 << 20)")
    assert (error.exception, error.error_type) == ("ResultLimit", ErrorType.USER_ERROR)
    assert "10 MB are allowed" in str(error)


@pytest.mark.parametrize(
    "code",
    [
        "try:\n    while True:\n        pass\nexcept BaseException:\n    pass\n'escaped'",
        "import time\ntime.sleep(600)\n'escaped'",
        "import time\nwhile True:\n    time.sleep(0.01)",
        "import asyncio\nawait asyncio.gather(*[asyncio.sleep(600) for _ in range(50)])",
        "sum(range(10 ** 15))",
    ],
)
async def test_nothing_outlasts_the_time_limit(runner, code):
    error = await failure(runner, code, timeout=0.2)
    assert error.error_type is ErrorType.TIMEOUT
    assert await runner.run("2") == 2


@pytest.mark.parametrize(
    "code",
    ["x = 'a' * 10 ** 10", "[0] * 10 ** 9", "x = []\nwhile True:\n    x.append('y' * 100000)", "7 ** 10 ** 8",
     "'%1000000000d' % 1", "'a' * (90 << 20)"],
)  # fmt: skip
async def test_a_memory_bomb_fails_its_step_only(runner, code, capfd):
    error = await failure(runner, code, timeout=20)
    assert (error.error_type, error.exception) == (ErrorType.TOOL_ERROR, "MemoryError")
    assert "100 MB" in error.hint
    assert await runner.run("2") == 2
    assert capfd.readouterr() == ("", ""), "a worker's last words would tear up the screen"


async def test_the_memory_limit_can_be_set(runner):
    assert (await failure(runner, "x = 'a' * 2_000_000", memory_limit=1_000_000)).exception == "MemoryError"


async def test_endless_print_is_ended_at_its_limit():
    runner, seen = MontyRunner(print_limit=100_000), []
    error = await failure(runner, "while True:\n    print('x' * 100)", on_print=lambda stream, text: seen.append(text))
    assert (error.error_type, error.exception) == (ErrorType.TOOL_ERROR, "PrintLimit")
    assert 0 < sum(map(len, seen)) <= 100_000
    assert await runner.run("2") == 2
    await runner.close()


@pytest.mark.parametrize("kind", [OSError, ValueError, TypeError])
async def test_prints_that_cannot_be_kept_end_the_code(runner, kind):
    def broken(stream: str, text: str) -> None:
        raise kind("disk full")

    with pytest.raises(AttemptError, match="could not be kept"):
        await runner.run("while True:\n    print('x')", on_print=broken, timeout=60)


@pytest.mark.parametrize(
    ("code", "exception"),
    [
        ("def f():\n    return f()\nf()", "RecursionError"),
        ("(" * 100_000 + "1" + ")" * 100_000, "SyntaxError"),
        ("[" * 3000 + "]" * 3000, "SyntaxError"),
        ("1" + " + 1" * 100_000, None),
        ("-" * 50_000 + "1", None),
        ("x = []\nfor _ in range(50000):\n    x = [x]\nx", None),
        ("x = []\nfor _ in range(50000):\n    x = [x]\nlen(repr(x))", None),
        ("x = []\nfor _ in range(200000):\n    x = [x]\nx == x", None),
        ("import json\nx = []\nfor _ in range(50000):\n    x = [x]\njson.dumps(x)", None),
        ("eval('(' * 100000)", "SyntaxError"),
    ],
)
async def test_nesting_without_end_hurts_nobody_else(runner, code, exception):
    error = await error_or_none(runner, code, timeout=20)
    assert exception is None or (error is not None and error.exception == exception)
    assert await runner.run("2") == 2


@pytest.mark.parametrize("code", ["9 ** 9 ** 9", "x = 1 << 10 ** 12", "int('9' * 5000)", "10 ** 400 * 10 ** 400 and 1"])
async def test_huge_integers_hurt_nobody_else(runner, code):
    error = await error_or_none(runner, code, timeout=2)
    assert error is None or error.hint
    assert await runner.run("2") == 2


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd').read()",
        "open({target!r}, 'w').write('x')",
        "from pathlib import Path\nPath('/etc/passwd').read_text()",
        "from pathlib import Path\nPath({target!r}).write_text('x')",
        "from pathlib import Path\nPath({target!r}).mkdir()",
        "import os\nos.listdir('/')",
        "import os\nos.remove({victim!r})",
        "import os\nos.system('touch ' + {target!r})",
        "import os\nos.environ['PATH']",
        "import os\nos.getenv('PATH') + ''",
        "import os\nos.kill(os.getppid(), 9)",
        "import subprocess\nsubprocess.run(['touch', {target!r}])",
        "import socket\nsocket.socket()",
        "import urllib.request\nurllib.request.urlopen('http://127.0.0.1')",
        "import ctypes",
        "import importlib\nimportlib.import_module('os')",
        "__import__('os').system('true')",
        "().__class__.__bases__[0].__subclasses__()",
        "(lambda: 0).__globals__",
        "print.__self__",
        "import sys\nsys.modules['os']",
        "eval(\"__import__('os')\")",
        "exec('import subprocess')",
        "input()",
        "breakpoint()",
    ],
)
async def test_the_way_out_is_closed(runner, tmp_path, code):
    victim, target = tmp_path / "victim", tmp_path / "target"
    victim.write_text("still here")
    error = await failure(
        runner, code.replace("{target!r}", repr(str(target))).replace("{victim!r}", repr(str(victim)))
    )
    assert error.error_type in (ErrorType.USER_ERROR, ErrorType.TOOL_ERROR)
    assert victim.read_text() == "still here"
    assert not target.exists()


async def test_the_worker_process_has_no_environment_of_ours(single, monkeypatch):
    monkeypatch.setenv("VERY_SECRET_TOKEN", "value-of-the-token")
    await single.run("1")
    [pid] = single.worker_pids()
    assert "VERY_SECRET_TOKEN" not in psutil.Process(pid).environ()


@pytest.mark.parametrize("code", ["while True:\n    pass", "import time\ntime.sleep(600)", "sum(range(10 ** 15))"])
async def test_cancelling_really_ends_the_work(single, code):
    await single.run("1")
    [pid] = single.worker_pids()
    process = psutil.Process(pid)
    loop, began = asyncio.get_running_loop(), asyncio.Event()
    code = "print('go')\n" + ("import time\ntime.sleep(0.02)\n") + code
    task = asyncio.create_task(single.run(code, on_print=lambda *_: loop.call_soon_threadsafe(began.set)))
    await asyncio.wait_for(began.wait(), 30)
    started = loop.time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert loop.time() - started < 4
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert await single.run("2") == 2


async def test_a_cancelled_snippet_that_waits_for_a_worker_never_runs():
    runner = MontyRunner(max_workers=1)
    loop, began, printed = asyncio.get_running_loop(), asyncio.Event(), []
    first = asyncio.create_task(
        runner.run("print('a')\nwhile True:\n    pass", on_print=lambda *_: loop.call_soon_threadsafe(began.set))
    )
    await asyncio.wait_for(began.wait(), 30)
    second = asyncio.create_task(runner.run("print('b')", on_print=lambda *_: printed.append(1)))
    await asyncio.sleep(0)
    second.cancel()
    first.cancel()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2
    assert await runner.run("3") == 3
    assert printed == []
    await runner.close()


async def test_waiting_for_a_worker_does_not_count_as_running_time():
    runner = MontyRunner(max_workers=1)
    code = "import time\ntime.sleep(0.25)\n1"
    assert await asyncio.gather(*(runner.run(code, timeout=1.9) for _ in range(8))) == [1] * 8
    await runner.close()


async def test_a_crashed_worker_fails_its_step_and_is_replaced(single):
    loop, began = asyncio.get_running_loop(), asyncio.Event()
    task = asyncio.create_task(
        single.run("print('a')\nwhile True:\n    pass", on_print=lambda *_: loop.call_soon_threadsafe(began.set))
    )
    await asyncio.wait_for(began.wait(), 30)
    [pid] = single.worker_pids()
    psutil.Process(pid).kill()
    with pytest.raises(AttemptError) as caught:
        await task
    assert (caught.value.error_type, caught.value.exception) == (ErrorType.TOOL_ERROR, "SandboxCrashed")
    assert await single.run("2") == 2
    assert pid not in single.worker_pids()


async def test_a_worker_that_died_while_it_waited_is_replaced_unnoticed(single):
    await single.run("1")
    [pid] = single.worker_pids()
    process = psutil.Process(pid)
    process.kill()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        await asyncio.sleep(0.001)
    assert await single.run("2") == 2
    assert pid not in single.worker_pids()


async def test_many_snippets_run_side_by_side_and_keep_apart():
    runner = MontyRunner(max_workers=4)
    results = await asyncio.gather(*(runner.run("n * n", {"n": n}) for n in range(200)))
    assert results == [n * n for n in range(200)]
    assert len(runner.worker_pids()) <= 4
    await runner.close()


async def test_closing_ends_what_runs_and_all_processes():
    runner = MontyRunner(max_workers=1)
    loop, began = asyncio.get_running_loop(), asyncio.Event()
    running = asyncio.create_task(
        runner.run("print('a')\nwhile True:\n    pass", on_print=lambda *_: loop.call_soon_threadsafe(began.set))
    )
    await asyncio.wait_for(began.wait(), 30)
    waiting = asyncio.create_task(runner.run("1"))
    await asyncio.sleep(0)
    before = [process for process in psutil.Process().children() if process.pid in runner.worker_pids()]
    assert len(before) == 1
    await runner.close()
    results = await asyncio.gather(running, waiting, return_exceptions=True)
    assert [type(result) for result in results] == [AttemptError] * 2
    assert runner.worker_pids() == []
    assert not before[0].is_running()
    await runner.close()
    with pytest.raises(UsageError):
        await runner.run("1")


async def test_nothing_is_started_before_the_first_snippet():
    before = {process.pid for process in psutil.Process().children()}
    runner = MontyRunner()
    assert {process.pid for process in psutil.Process().children()} == before
    assert runner.workers() == []
    await runner.close()


async def test_without_its_program_the_sandbox_says_what_to_do(monkeypatch):
    monkeypatch.setenv("MONTY_BIN", "/nonexistent/monty")
    runner = MontyRunner()
    error = await failure(runner, "1")
    assert error.exception == "SandboxNotAvailable"
    assert "pip install" in error.hint
    await runner.close()


async def test_where_no_script_can_be_run_the_worker_starts_all_the_same(monkeypatch, tmp_path):
    file_not_folder = tmp_path / "file"
    file_not_folder.write_text("")
    monkeypatch.setattr("tempfile.tempdir", str(file_not_folder))
    runner = MontyRunner()
    assert await runner.run("1 + 1") == 2
    await runner.close()


async def test_no_temporary_file_stays(runner, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    await runner.run("1")
    assert list(tmp_path.iterdir()) == []
