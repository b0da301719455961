"""Shell steps as the engine carries them out: real commands, real signals, real pipes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tools_calls import LoopWatch, is_gone, ports_of, read_pid, step_call, until

from stepchain_tui.executors.shell import ShellExecutor
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType


@pytest.fixture
def executor() -> ShellExecutor:
    return ShellExecutor()


async def test_a_command_gives_its_output_and_logs_it(executor: ShellExecutor) -> None:
    call = step_call(shell="echo out; echo err >&2")
    outcome = await executor.execute(call)
    assert outcome.output == {"stdout": "out\n", "stderr": "err\n", "exit_code": 0}
    assert (ports_of(call).text("stdout"), ports_of(call).text("stderr")) == ("out\n", "err\n")


async def test_a_list_runs_without_a_shell(executor: ShellExecutor) -> None:
    outcome = await executor.execute(step_call(shell=["printf", "%s|", "a b", "$HOME", "*", "", "-n"]))
    assert outcome.output["stdout"] == "a b|$HOME|*||-n|"


async def test_a_command_sees_its_environment_folder_and_an_empty_input(
    executor: ShellExecutor, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "COLOUR": "blue"}
    call = step_call(shell="echo $COLOUR; pwd; cat; readlink /dev/fd/0", cwd=tmp_path, environment=environment)
    outcome = await executor.execute(call)
    assert outcome.output["stdout"].splitlines()[:2] == ["blue", str(tmp_path)]
    assert outcome.output["stdout"].splitlines()[2:] in ([], ["/dev/null"])


async def test_nothing_runs_before_the_process_is_durable(executor: ShellExecutor, tmp_path: Path) -> None:
    mark, seen = tmp_path / "mark", []

    async def durable(pid: int) -> None:
        await asyncio.sleep(0.1)
        seen.append((mark.exists(), os.getpgid(pid) == pid, os.getsid(pid) == pid))

    call = step_call(shell=f"touch {mark}")
    ports_of(call).before_release = durable
    await executor.execute(call)
    assert seen == [(False, True, True)]
    assert mark.exists()
    ((_, _, started),) = ports_of(call).processes
    assert abs(started - time.time()) < 60


async def test_a_command_whose_process_cannot_be_recorded_is_not_run(executor: ShellExecutor, tmp_path: Path) -> None:
    def broken(_pid: int) -> None:
        raise OSError("the store is full")

    call = step_call(shell=f"touch {tmp_path}/mark")
    ports_of(call).before_release = broken
    with pytest.raises(OSError, match="the store is full"):
        await executor.execute(call)
    assert not (tmp_path / "mark").exists()
    assert is_gone(ports_of(call).processes[0][0])


def test_a_held_command_is_not_run_when_its_owner_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(
        f"""
import asyncio, os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from tools_calls import ports_of, step_call
from stepchain_tui.executors.shell import ShellExecutor

def die(pid):
    with open({str(tmp_path / "pid")!r}, "w") as file:
        file.write(str(pid))
    os.kill(os.getpid(), 9)

call = step_call(shell="touch {tmp_path}/mark")
ports_of(call).before_release = die
asyncio.run(ShellExecutor().execute(call))
"""
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run([sys.executable, str(script)], env=environment, timeout=60).returncode == -9
    deadline = time.monotonic() + 30
    while not is_gone(read_pid(tmp_path / "pid")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("echo one; echo bad input >&2; exit 3", 3, "the command ended with exit code 3: bad input"),
        ("kill -SEGV $$", -11, "the command was killed by SIGSEGV"),
        ("false", 1, "the command ended with exit code 1"),
    ],
)
async def test_a_command_that_fails_is_a_tool_error_with_its_last_words(
    executor: ShellExecutor, command: str, code: int, words: str
) -> None:
    with pytest.raises(AttemptError) as caught:
        await executor.execute(step_call(shell=command))
    assert str(caught.value) == words
    assert caught.value.error_type is ErrorType.TOOL_ERROR
    assert caught.value.details["exit_code"] == code
    assert caught.value.hint


@pytest.mark.parametrize(
    "command",
    [
        "no_such_command_here --flag",
        ["no_such_command_here", "--flag"],
        ["/no/such/file"],
        "./plain.txt",
        ["./plain.txt"],
        "echo \0",
        ["echo", "x" * 300_000],
    ],
)
async def test_a_command_that_cannot_run_is_the_plans_mistake(
    executor: ShellExecutor, tmp_path: Path, command: Any
) -> None:
    (tmp_path / "plain.txt").write_text("no program")
    with pytest.raises(AttemptError) as caught:
        await executor.execute(step_call(shell=command, folder=tmp_path))
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert caught.value.hint


async def test_a_missing_folder_is_the_plans_mistake(executor: ShellExecutor, tmp_path: Path) -> None:
    with pytest.raises(AttemptError, match="there is no folder") as caught:
        await executor.execute(step_call(shell="pwd", cwd=tmp_path / "gone"))
    assert caught.value.error_type is ErrorType.USER_ERROR


async def test_binary_output_is_text_with_replacements(executor: ShellExecutor) -> None:
    outcome = await executor.execute(step_call(shell=r"printf 'a\377\000b\303'"))
    assert outcome.output["stdout"] == "a�\0b�"


async def test_characters_are_never_torn_in_the_log(executor: ShellExecutor) -> None:
    call = step_call(shell=[sys.executable, "-c", "import sys; sys.stdout.buffer.write('€'.encode() * 200_000)"])
    outcome = await executor.execute(call)
    assert ports_of(call).text() == "€" * 200_000
    assert outcome.output["stdout"] == "€" * 200_000


async def test_a_hundred_megabytes_are_cut_in_the_output_and_whole_in_the_log(executor: ShellExecutor) -> None:
    call = step_call(shell="head -c 100000000 /dev/zero | tr '\\0' 'x'", keep=False)
    before = psutil.Process().memory_info().rss
    async with LoopWatch() as watch:
        outcome = await executor.execute(call)
    assert len(outcome.output["stdout"]) == 1_000_000
    assert outcome.output["truncated"] is True
    assert outcome.output["stderr"] == ""
    assert ports_of(call).characters == 100_000_000
    assert ports_of(call).largest <= 65_536
    assert psutil.Process().memory_info().rss - before < 50_000_000
    assert watch.longest < 0.5


async def test_cancel_ends_the_whole_group_even_when_it_ignores_term(executor: ShellExecutor, tmp_path: Path) -> None:
    command = f"trap '' TERM; sh -c \"trap '' TERM; echo \\$\\$ > {tmp_path}/child; sleep 600\" & sleep 600"
    call = step_call(shell=command)
    task = asyncio.create_task(executor.execute(call))
    child = await until(lambda: read_pid(tmp_path / "child"))
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 4
    assert is_gone(child)
    ((_, group, _),) = ports_of(call).processes
    assert not [pid for pid in psutil.pids() if _group_of(pid) == group and not is_gone(pid)]


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


async def test_cancel_gives_a_command_the_time_to_clean_up(executor: ShellExecutor, tmp_path: Path) -> None:
    command = f"trap 'echo done > {tmp_path}/clean; exit 1' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.1; done"
    task = asyncio.create_task(executor.execute(step_call(shell=command)))
    await until(lambda: read_pid(tmp_path / "pid"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "clean").read_text() == "done\n"


async def test_cancel_gives_what_a_command_started_the_time_to_clean_up(
    executor: ShellExecutor, tmp_path: Path
) -> None:
    (tmp_path / "inner.sh").write_text(
        "trap 'sleep 0.3; echo done > clean; exit 1' TERM\necho $$ > pid\nwhile :; do sleep 0.1; done\n"
    )
    call = step_call(shell="sh inner.sh; true", folder=tmp_path)
    task = asyncio.create_task(executor.execute(call))
    await until(lambda: read_pid(tmp_path / "pid"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "clean").read_text() == "done\n"


async def test_cancel_before_the_release_runs_nothing(executor: ShellExecutor, tmp_path: Path) -> None:
    call = step_call(shell=f"touch {tmp_path}/mark")
    ports_of(call).before_release = lambda _pid: asyncio.sleep(60)
    task = asyncio.create_task(executor.execute(call))
    await until(lambda: ports_of(call).processes)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (tmp_path / "mark").exists()
    assert is_gone(ports_of(call).processes[0][0])


async def test_a_background_child_that_holds_the_pipe_does_not_hang_the_step(
    executor: ShellExecutor, tmp_path: Path
) -> None:
    call = step_call(shell=f"echo now; sleep 600 & echo $! > {tmp_path}/child")
    started = time.monotonic()
    outcome = await executor.execute(call)
    child = read_pid(tmp_path / "child")
    try:
        assert time.monotonic() - started < 4
        assert outcome.output["stdout"] == "now\n"
        assert "background" in ports_of(call).warnings[0]
    finally:
        os.kill(child, 9)


def test_commands_run_on_a_loop_in_another_thread(executor: ShellExecutor) -> None:
    results: list[Any] = []

    async def main() -> None:
        calls = [executor.execute(step_call(shell=f"echo {number}; exit 0")) for number in range(5)]
        results.extend(outcome.output["stdout"] for outcome in await asyncio.gather(*calls))

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(30)
    assert results == [f"{number}\n" for number in range(5)]


async def test_many_commands_at_once_leave_no_descriptor_behind(executor: ShellExecutor) -> None:
    await executor.execute(step_call(shell="true"))
    before = psutil.Process().num_fds()
    await asyncio.gather(*(executor.execute(step_call(shell="echo x")) for _ in range(40)))
    assert psutil.Process().num_fds() == before
