"""`Sandbox` and the tool `python_code`, as a caller in Python sees them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import pickle

import psutil
import pytest
from pydantic import TypeAdapter

from stepchain_tui.core.errors import UsageError
from stepchain_tui.run import AttemptError, ErrorType
from stepchain_tui.sandbox import MontyRunner, Sandbox, SandboxError
from stepchain_tui.sandbox.limits import memory_bytes
from stepchain_tui.tools.python_code import python_code

in_both = pytest.mark.parametrize("engine", ["monty", pytest.param("bwrap", marks=pytest.mark.needs("bwrap"))])


@in_both
async def test_the_result_is_the_last_value_and_what_was_printed(engine):
    sandbox = Sandbox(memory_limit="100MB", cpu_limit=0.5, network_access=False, engine=engine)
    code = "import sys\nprint('adding')\nprint('hidden', file=sys.stderr)\nsum(values)"
    found = await sandbox.execute(code, timeout=5.0, inputs={"values": [1, 2, 3]})
    assert found == {"result": 6, "stdout": "adding\n"}


@in_both
async def test_code_without_a_value_gives_none(engine):
    assert await Sandbox(engine=engine).execute("x = 1") == {"result": None, "stdout": ""}


@in_both
@pytest.mark.parametrize(
    ("code", "builtin", "exception", "error_type"),
    [
        ("while True:\n    pass", TimeoutError, "TimeoutError", ErrorType.TIMEOUT),
        ("'x' * (200 << 20)", MemoryError, "MemoryError", ErrorType.TOOL_ERROR),
        ("def f():\n    return f()\nf()", RecursionError, "RecursionError", ErrorType.TOOL_ERROR),
        ("x = (", SyntaxError, "SyntaxError", ErrorType.USER_ERROR),
        ("1 / 0", SandboxError, "ZeroDivisionError", ErrorType.TOOL_ERROR),
    ],
)
async def test_a_failure_can_be_caught_by_the_builtins_name(engine, code, builtin, exception, error_type):
    with pytest.raises(builtin) as caught:
        await Sandbox(engine=engine).execute("print('so far')\n" + code, timeout=3 if builtin is TimeoutError else 60)
    error = caught.value
    assert isinstance(error, SandboxError)
    assert isinstance(error, AttemptError)
    assert (error.exception, error.error_type) == (exception, error_type)
    assert error.hint
    assert error.details["stdout"] == ("" if builtin is SyntaxError else "so far\n")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.details) == (type(error), str(error), error.details)


@pytest.mark.needs("bwrap")
async def test_tabs_among_blanks_are_a_syntax_error():
    with pytest.raises(SyntaxError, match="inconsistent use of tabs"):
        await Sandbox(engine="bwrap").execute("if 1:\n\t1\n        2", timeout=60)


async def test_what_is_refused_in_monty_is_a_permission_error():
    with pytest.raises(PermissionError, match="/etc/passwd"):
        await Sandbox().execute("open('/etc/passwd').read()")


async def test_one_sandbox_serves_many_calls_and_loops_at_once():
    sandbox = Sandbox()
    found = await asyncio.gather(*(sandbox.execute("n * n", inputs={"n": n}) for n in range(20)))
    assert [one["result"] for one in found] == [n * n for n in range(20)]
    assert (await asyncio.to_thread(asyncio.run, sandbox.execute("1 + 1")))["result"] == 2


@in_both
async def test_no_temporary_file_and_no_process_stays_after_a_timeout(engine, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    runner = MontyRunner(max_workers=1)
    monkeypatch.setattr("stepchain_tui.sandbox.sandbox._monty", lambda: runner)
    others = set(psutil.Process().children(recursive=True))
    await Sandbox(engine=engine).execute("None")  # from here on the shell that guards workers can be told by its name
    task = asyncio.create_task(Sandbox(engine=engine).execute("while True:\n    pass", timeout=0.5))
    seen: set[psutil.Process] = set()
    while not task.done():
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process not in others and process.name() != "sh":
                    seen.add(process)
        await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await task
    _, alive = psutil.wait_procs(seen, timeout=1)
    assert seen
    assert not alive
    assert list(tmp_path.iterdir()) == []
    await runner.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory_limit": "lots"}, "memory_limit 'lots' is not a size"),
        ({"memory_limit": "100 pounds"}, "is not a size"),
        ({"memory_limit": "-5MB"}, "is not a size"),
        ({"memory_limit": True}, "is not a size"),
        ({"memory_limit": 1.5}, "is not a size"),
        ({"memory_limit": 0}, "not between 1 MB"),
        ({"memory_limit": "1KB"}, "not between 1 MB"),
        ({"memory_limit": "9" * 400 + "GB"}, "is not a size"),
        ({"memory_limit": "9999999999GB"}, "not between 1 MB"),
        ({"cpu_limit": 0}, "cpu_limit 0 is not a share"),
        ({"cpu_limit": -1}, "is not a share"),
        ({"cpu_limit": "half"}, "is not a share"),
        ({"cpu_limit": float("nan")}, "is not a share"),
        ({"cpu_limit": 10_000}, "is not a share"),
        ({"cpu_limit": True}, "is not a share"),
        ({"engine": "mony"}, "no sandbox engine 'mony'"),
        ({"engine": None}, "no sandbox engine None"),
        ({"network_access": True}, "no network to give"),
    ],
)
def test_a_limit_that_is_none_is_refused_where_it_is_written(options, words):
    with pytest.raises(UsageError, match=words) as caught:
        Sandbox(**options)
    assert caught.value.hint
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 10**400, "5", None, True])
async def test_a_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(UsageError, match=r"timeout .* is not a number of seconds"):
        await Sandbox().execute("1", timeout=timeout)


async def test_code_that_is_no_text_is_refused():
    with pytest.raises(UsageError, match="text, not bytes"):
        await Sandbox().execute(b"1")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("100MB", 100 << 20),
        ("64MiB", 64 << 20),
        ("1.5 gb", 3 << 29),
        ("2G", 2 << 30),
        (" 4096 K ", 4 << 20),
        ("1048576", 1 << 20),
        ("1048576B", 1 << 20),
        (5_000_000, 5_000_000),
    ],
)
def test_sizes_are_read_as_memory_is_counted(size, expected):
    assert memory_bytes(size) == expected


@pytest.mark.needs("bwrap")
async def test_bwrap_gives_the_network_where_it_is_asked_for():
    async def answer(reader, writer):
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    code = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 5).recv(5).decode()"
    assert (await Sandbox(engine="bwrap", network_access=True).execute(code))["result"] == "hello"
    with pytest.raises(SandboxError, match="refused"):
        await Sandbox(engine="bwrap").execute(code)
    server.close()
    await server.wait_closed()


# --- the tool


async def test_the_tool_returns_the_value_and_what_was_printed():
    assert await python_code("print('hi')\n[n * n for n in range(4)]") == {"result": [0, 1, 4, 9], "stdout": "hi\n"}


async def test_the_tools_failure_says_where_and_why():
    with pytest.raises(SandboxError, match=r"division by zero \(line 2, column 1\)"):
        await python_code("x = 0\n1 / x")


def test_a_model_is_told_what_the_tool_takes_and_what_it_is():
    [(name, parameter)] = inspect.signature(python_code, eval_str=True).parameters.items()
    schema = TypeAdapter(parameter.annotation).json_schema()
    assert (name, schema["type"]) == ("code", "string")
    assert "last expression" in schema["description"]
    assert "no files, network" in " ".join((python_code.__doc__ or "").split())
    json.dumps(schema)
