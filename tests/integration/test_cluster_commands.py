"""Shell and python steps on a real cluster: the same output as here, and nothing left when they are stopped."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from tools_calls import is_gone, ports_of, read_pid, step_call, until

from stepchain_tui.executors.python import BasePythonExecutor, PythonExecutor, PythonExecutorFactory
from stepchain_tui.executors.shell import BaseShellExecutor, ShellExecutor, ShellExecutorFactory
from stepchain_tui.executors.testing import use_executor
from stepchain_tui.executors.types import StepCall
from stepchain_tui.plan import Step
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import Pools
from tests.support.cluster import TestCluster

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    with TestCluster(1) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def pools() -> AsyncIterator[Pools]:
    pools = Pools(process_workers=1)
    yield pools
    await pools.close()


@pytest.fixture
def shell(pools: Pools) -> ShellExecutor:
    return ShellExecutor(pools)


@pytest_asyncio.fixture
async def python(pools: Pools) -> AsyncIterator[PythonExecutor]:
    executor = PythonExecutor(pools=pools)
    yield executor
    await executor.close()


def shell_call(cluster: TestCluster, command: Any, **more: Any) -> StepCall:
    return step_call(shell=command, mode="cluster", cluster=cluster.address, **more)


def python_call(cluster: TestCluster, code: str, args: dict[str, Any] | None = None, **keys: Any) -> StepCall:
    call = step_call(shell="true", args=args, mode="cluster", cluster=cluster.address)
    call.step, call.value = Step(id="s", python=code, **keys), code
    return call


async def test_a_command_gives_the_same_output_as_here(shell: ShellExecutor, cluster: TestCluster) -> None:
    script = "echo out; echo err >&2; printf 'no end'"
    there = shell_call(cluster, script)
    output = (await shell.execute(there)).output
    assert output == (await shell.execute(step_call(shell=script, mode="process"))).output
    assert output == {"stdout": "out\nno end", "stderr": "err\n", "exit_code": 0}
    assert ports_of(there).text() == "out\nno end"
    assert ports_of(there).text("stderr") == "err\n"


async def test_a_list_is_run_without_a_shell(shell: ShellExecutor, cluster: TestCluster) -> None:
    output = (await shell.execute(shell_call(cluster, ["printf", "%s", "$HOME"]))).output
    assert output["stdout"] == "$HOME"


@pytest.mark.parametrize(
    ("command", "error_type", "message"),
    [
        ("echo bad >&2; exit 3", ErrorType.TOOL_ERROR, "the command ended with exit code 3: bad"),
        ("kill -9 $$", ErrorType.TOOL_ERROR, "the command was killed by SIGKILL"),
        (["no-such-program"], ErrorType.USER_ERROR, "there is no command 'no-such-program'"),
    ],
)
async def test_a_failing_command_is_told_as_here(
    shell: ShellExecutor, cluster: TestCluster, command: Any, error_type: ErrorType, message: str
) -> None:
    with pytest.raises(AttemptError) as caught:
        await shell.execute(shell_call(cluster, command))
    assert (str(caught.value), caught.value.error_type) == (message, error_type)


async def test_a_line_of_a_command_arrives_while_it_still_runs(
    shell: ShellExecutor, cluster: TestCluster, tmp_path: Path
) -> None:
    call = shell_call(cluster, f"echo first; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")
    task = asyncio.create_task(shell.execute(call))
    await asyncio.wait_for(ports_of(call).printed.wait(), 20)
    assert not task.done()
    (tmp_path / "go").touch()
    await task


async def test_a_command_has_the_steps_variables_and_folder(
    shell: ShellExecutor, cluster: TestCluster, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "ONLY": "this"}
    call = shell_call(cluster, "pwd; echo $ONLY", environment=environment, cwd=tmp_path)
    assert (await shell.execute(call)).output["stdout"] == f"{tmp_path}\nthis\n"


async def test_a_folder_that_the_worker_lacks_is_an_empty_one_and_said(
    shell: ShellExecutor, cluster: TestCluster, tmp_path: Path
) -> None:
    call = shell_call(cluster, "ls; touch made", cwd=tmp_path / "not there")
    assert (await shell.execute(call)).output["stdout"] == ""
    assert "the worker has no folder" in ports_of(call).warnings[0]
    call = shell_call(cluster, "true", cwd=tmp_path / "not there")
    call.step = call.step.model_copy(update={"cwd": "not there"})
    with pytest.raises(AttemptError, match=r"there is no folder .* to work in on the worker") as caught:
        await shell.execute(call)
    assert caught.value.error_type is ErrorType.USER_ERROR


async def test_an_executor_that_would_run_here_is_refused(
    shell: ShellExecutor, python: PythonExecutor, cluster: TestCluster
) -> None:
    class Elsewhere(BaseShellExecutor):
        async def _execute_shell(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
            return "ran here"

    class Quick(BasePythonExecutor):
        async def _execute_python(self, args: dict[str, Any], ctx: Any, timeout: float | None) -> Any:
            return "ran here"

    with (
        use_executor(ShellExecutorFactory, "standard", Elsewhere),
        pytest.raises(AttemptError, match="runs here and not on a cluster") as caught,
    ):
        await shell.execute(shell_call(cluster, "true"))
    assert caught.value.error_type is ErrorType.USER_ERROR
    with (
        use_executor(PythonExecutorFactory, "standard", Quick),
        pytest.raises(AttemptError, match="runs here and not on a cluster"),
    ):
        await python.execute(python_call(cluster, "1"))


async def test_cancelling_a_command_ends_all_that_it_started(
    shell: ShellExecutor, cluster: TestCluster, tmp_path: Path
) -> None:
    script = f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/own; wait; sleep 600"
    task = asyncio.create_task(shell.execute(shell_call(cluster, script)))
    own = await until(lambda: read_pid(tmp_path / "own"), 20)
    started = time.monotonic()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert is_gone(own)
    assert is_gone(read_pid(tmp_path / "child"))
    assert time.monotonic() - started < 4


async def test_much_output_is_cut_in_the_result_and_whole_in_the_log(
    shell: ShellExecutor, cluster: TestCluster
) -> None:
    call = shell_call(cluster, "head -c 5000000 /dev/zero | tr '\\0' x", keep=False)
    output = (await shell.execute(call)).output
    assert (len(output["stdout"]), output["truncated"]) == (1_000_000, True)
    assert ports_of(call).characters == 5_000_000


async def test_code_runs_in_the_sandbox_of_the_worker(python: PythonExecutor, cluster: TestCluster) -> None:
    call = python_call(cluster, "print('adding')\nsum(values)", {"values": [1, 2, 3]})
    assert (await python.execute(call)).output == 6
    assert ports_of(call).text() == "adding\n"
    with pytest.raises(AttemptError, match="division by zero") as caught:
        await python.execute(python_call(cluster, "1 / 0"))
    assert caught.value.error_type is ErrorType.TOOL_ERROR


async def test_cancelling_code_ends_its_sandbox(python: PythonExecutor, cluster: TestCluster) -> None:
    call = python_call(cluster, "print('on')\nwhile True:\n    pass")
    task = asyncio.create_task(python.execute(call))
    await asyncio.wait_for(ports_of(call).printed.wait(), 20)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not any("monty" in process.name() for process in cluster.children())


@pytest.mark.needs("bwrap")
async def test_full_python_runs_in_bubblewrap_on_the_worker(python: PythonExecutor, cluster: TestCluster) -> None:
    call = python_call(cluster, "import os\nprint('in')\n[os.getcwd() != '', 2]", engine="bwrap")
    assert (await python.execute(call)).output == [True, 2]
    assert ports_of(call).text() == "in\n"
