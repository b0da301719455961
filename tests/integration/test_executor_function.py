"""Function steps as the engine carries them out: every mode, real threads and processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tools_calls import ports_of, step_call, until

from stepchain_tui.executors.function import FunctionExecutor
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import Pools, StepContext
from stepchain_tui.tools.wire import OWNER_VARIABLE

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
    environment.pop("LC_CTYPE", None)
    assert environment.pop(OWNER_VARIABLE) == str(os.getpid()), "leftovers are known by it"
    assert environment == {"PATH": "/bin", "ONLY": "this"}
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


async def test_what_became_importable_later_is_importable_in_a_worker(
    executor: FunctionExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await executor.execute(step_call(function=add, args={"a": 1}, mode="process"))
    (tmp_path / "come_late.py").write_text("def f():\n    return 5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert (await executor.execute(step_call(function="come_late:f", folder="/", mode="process"))).output == 5


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
    finished = call.lingering
    assert finished is not None
    assert not finished.done()
    go_on.set()
    await asyncio.wait_for(finished, 10)
    assert call.lingering is not None
    assert call.lingering.done()


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
    await until(lambda: call.lingering is None or call.lingering.done())
    assert seen == ["started", "cancelled"]


@pytest.mark.parametrize("how", ["raise GeneratorExit", "raise StopIteration"])
async def test_a_thread_that_raises_what_ends_a_coroutine_has_failed(
    executor: FunctionExecutor, tmp_path: Path, how: str
) -> None:
    (tmp_path / "f.py").write_text(f"def f():\n    {how}\n")
    call = step_call(function="./f.py:f", folder=tmp_path, mode="thread")
    with pytest.raises(AttemptError, match=f"the function raised {how.split()[1]}"):
        await asyncio.wait_for(executor.execute(call), 10)


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
