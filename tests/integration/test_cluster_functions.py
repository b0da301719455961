"""Function calls on a real cluster: a scheduler and two workers that are processes of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from tools_calls import is_gone, ports_of, read_pid, step_call, until

from stepchain_tui.executors.function import FunctionExecutor
from stepchain_tui.executors.types import StepCall
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import FunctionCall, FunctionCaller, Pools, StepContext
from tests.support.cluster import TestCluster

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def cluster() -> Iterator[TestCluster]:
    with TestCluster(2) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def pools() -> AsyncIterator[Pools]:
    pools = Pools(process_workers=1)
    yield pools
    await pools.close()


@pytest.fixture
def executor(pools: Pools) -> FunctionExecutor:
    return FunctionExecutor(pools)


def cluster_call(cluster: TestCluster, function: Any, args: dict[str, Any] | None = None, **more: Any) -> StepCall:
    return step_call(function=function, args=args, mode="cluster", cluster=cluster.address, **more)


def add(a: int, b: int = 1) -> int:
    return a + b


def fail_with_value() -> None:
    raise ValueError("the file has no header")


async def test_a_function_runs_in_a_process_below_a_worker(executor: FunctionExecutor, cluster: TestCluster) -> None:
    number = 5
    call = cluster_call(cluster, lambda x: [x + number, __import__("os").getpid()], {"x": 1})
    result, pid = (await executor.execute(call)).output
    assert result == 6
    assert cluster.worker_of(pid) in cluster.workers


async def test_what_a_function_prints_is_logged_in_order(executor: FunctionExecutor, cluster: TestCluster) -> None:
    def talk(ctx: StepContext) -> None:
        for number in range(200):
            print("line", number)
        print("error", file=sys.stderr)
        subprocess.run(["sh", "-c", "echo child"], check=True)
        print("no end", end="")

    call = cluster_call(cluster, talk)
    await executor.execute(call)
    assert ports_of(call).text() == "".join(f"line {number}\n" for number in range(200)) + "child\nno end"
    assert ports_of(call).text("stderr") == "error\n"


async def test_a_line_arrives_while_the_function_still_runs(
    executor: FunctionExecutor, cluster: TestCluster, tmp_path: Path
) -> None:
    go_on = tmp_path / "go_on"

    def talk() -> float:
        print("first", flush=True)
        while not go_on.exists():
            time.sleep(0.005)
        return 1.0

    call = cluster_call(cluster, talk)
    task = asyncio.create_task(executor.execute(call))
    await asyncio.wait_for(ports_of(call).printed.wait(), 20)
    assert not task.done()
    go_on.touch()
    await task


async def test_chunks_of_a_generator_come_one_by_one(
    executor: FunctionExecutor, cluster: TestCluster, tmp_path: Path
) -> None:
    go_on = tmp_path / "go_on"

    def speak() -> Any:
        yield "one "
        while not go_on.exists():
            time.sleep(0.005)
        yield "two"

    call = cluster_call(cluster, speak)
    task = asyncio.create_task(executor.execute(call))
    await asyncio.wait_for(ports_of(call).printed.wait(), 20)
    assert ports_of(call).text("text") == "one "
    go_on.touch()
    assert (await task).output == "one two"


async def test_a_raising_function_is_told_by_its_class_and_message(
    executor: FunctionExecutor, cluster: TestCluster
) -> None:
    with pytest.raises(AttemptError, match="the file has no header") as caught:
        await executor.execute(cluster_call(cluster, fail_with_value))
    assert (caught.value.exception, caught.value.error_type) == ("ValueError", ErrorType.TOOL_ERROR)
    assert "fail_with_value" in caught.value.remote_traceback


async def test_the_source_of_a_file_travels_with_all_that_it_imports(
    executor: FunctionExecutor, cluster: TestCluster, tmp_path: Path
) -> None:
    (tmp_path / "steps").mkdir()
    (tmp_path / "steps/parse.py").write_text(
        "import near\ndef parse():\n    from pack.far import far\n    return [near.VALUE, far(), __file__]\n"
        "def fail():\n    raise RuntimeError(__file__)\n"
    )
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("")
    (tmp_path / "pack/far.py").write_text("from . import base\ndef far():\n    return base.NUMBER\n")
    (tmp_path / "pack/base.py").write_text("NUMBER = 10\n")
    for number in (1, 2):
        (tmp_path / "steps/near.py").write_text(f"VALUE = {number}\n")
        call = cluster_call(cluster, "./steps/parse.py:parse", folder=tmp_path)
        value, far, file = (await executor.execute(call)).output
        assert (value, far) == (number, 10), "mended code runs at once"
        assert not file.startswith(str(tmp_path)), "it ran from what travelled"
    with pytest.raises(AttemptError) as caught:
        await executor.execute(cluster_call(cluster, "./steps/parse.py:fail", folder=tmp_path))
    assert str(tmp_path / "steps/parse.py") in caught.value.remote_traceback, "paths read as they are here"


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("./pares.py:parse", "there is no file", "did you mean 'parse.py'?"),
        ("./parse.py:prase", "has no function 'prase'", "did you mean 'parse'?"),
        ("./broken.py:f", "cannot be imported: SyntaxError", "Mend ./broken.py"),
        ("no_such_package:f", "cannot be imported: ModuleNotFoundError", "Mend"),
        ("./parse.py", "is no function reference", "./file.py:name"),
    ],
)
async def test_a_function_that_is_not_there_is_the_plans_mistake(
    executor: FunctionExecutor, cluster: TestCluster, tmp_path: Path, reference: str, message: str, hint: str
) -> None:
    (tmp_path / "parse.py").write_text("def parse():\n    return 1\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    with pytest.raises(AttemptError) as caught:
        await executor.execute(cluster_call(cluster, reference, folder=tmp_path))
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert message in str(caught.value)
    assert hint in caught.value.hint


async def test_cancelling_ends_the_process_on_the_worker_with_its_children(
    executor: FunctionExecutor, cluster: TestCluster, tmp_path: Path
) -> None:
    def hang() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "600"])
        (tmp_path / "child").write_text(str(child.pid))
        (tmp_path / "own").write_text(str(os.getpid()))
        time.sleep(600)

    task = asyncio.create_task(executor.execute(cluster_call(cluster, hang)))
    own = await until(lambda: read_pid(tmp_path / "own"), 20)
    started = time.monotonic()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert is_gone(own)
    assert is_gone(read_pid(tmp_path / "child"))
    assert time.monotonic() - started < 4
    assert (await executor.execute(cluster_call(cluster, add, {"a": 1}))).output == 2, "the slot is free again"


async def test_a_call_that_is_cancelled_before_it_begins_ends_at_once_and_harms_no_other(
    pools: Pools, cluster: TestCluster
) -> None:
    def call(number: int) -> FunctionCall:
        return FunctionCall(look, {}, mode="cluster", cluster=cluster.address, environment={"NUMBER": f"{number}"})

    def look() -> str:
        return os.environ["NUMBER"]

    caller = FunctionCaller(pools)
    for number in range(12):
        assert await asyncio.wait_for(caller.run(call(number)), 30) == f"{number}", "there is a lane that is free"
        task = asyncio.create_task(caller.run(call(-number)))
        for _ in range(number):
            await asyncio.sleep(0)
        started = time.monotonic()
        task.cancel()
        await asyncio.wait([task])
        assert time.monotonic() - started < 2.5
        assert await asyncio.wait_for(caller.run(call(-number)), 30) == f"{-number}"


async def test_code_that_was_not_put_to_its_end_is_put_by_the_next_call(
    pools: Pools, cluster: TestCluster, tmp_path: Path
) -> None:
    names = [f"near{number}" for number in range(400)]
    for name in names:
        (tmp_path / f"{name}.py").write_text("#" * 1000)
    imports = "\n".join(f"    import {name}" for name in names)
    call = FunctionCall("./near.py:one", {}, mode="cluster", cluster=cluster.address, folder=tmp_path)
    caller, where = FunctionCaller(pools), cluster.folder
    for number in range(5):
        (tmp_path / "near.py").write_text(f"def one():\n    return {number}\ndef all():\n{imports}\n")
        before = set(where.glob("**/stepchain-*/*"))
        task = asyncio.create_task(caller.run(call))
        await until(
            lambda before=before, task=task: task.done() or set(where.glob("**/stepchain-*/new-*")) - before, 20
        )
        task.cancel()
        await asyncio.wait([task])
        assert await asyncio.wait_for(caller.run(call), 30) == number


async def test_a_timeout_ends_the_process_on_the_worker(pools: Pools, cluster: TestCluster, tmp_path: Path) -> None:
    def hang() -> None:
        (tmp_path / "own").write_text(str(os.getpid()))
        time.sleep(600)

    call = FunctionCall(hang, {}, mode="cluster", cluster=cluster.address, timeout=0.5)
    with pytest.raises(AttemptError, match=r"ran longer than its timeout of 0\.5 s and was stopped") as caught:
        await FunctionCaller(pools).run(call)
    assert caught.value.error_type is ErrorType.TIMEOUT
    assert is_gone(read_pid(tmp_path / "own"))


async def test_only_secrets_that_the_step_names_leave_this_machine(
    executor: FunctionExecutor, cluster: TestCluster
) -> None:
    def look(ctx: StepContext) -> list[Any]:
        return [dict(ctx.secrets), sorted(name for name in os.environ if name.endswith("_TOKEN"))]

    secrets = {"A_TOKEN": "aaaaaaaa", "B_TOKEN": "bbbbbbbb"}
    call = cluster_call(cluster, look, environment={"PATH": os.environ["PATH"], **secrets}, secrets=secrets)
    assert (await executor.execute(call)).output == [{}, []]
    call = cluster_call(cluster, look, environment={"PATH": os.environ["PATH"], **secrets}, secrets=secrets)
    call.step = call.step.model_copy(update={"secrets": ("B_TOKEN",)})
    assert (await executor.execute(call)).output == [{"B_TOKEN": "bbbbbbbb"}, ["B_TOKEN"]]


async def test_many_calls_at_once_use_both_workers_and_mix_nothing_up(
    executor: FunctionExecutor, cluster: TestCluster
) -> None:
    calls = [cluster_call(cluster, lambda x: [x, __import__("os").getppid()], {"x": x}) for x in range(100)]
    outputs = [outcome.output for outcome in await asyncio.gather(*map(executor.execute, calls))]
    assert [value for value, _ in outputs] == list(range(100))
    assert {parent for _, parent in outputs} == {worker.pid for worker in cluster.workers}


@pytest.mark.parametrize("how", ["print", "chunks"])
async def test_a_flood_of_output_waits_for_its_reader_and_fills_no_memory(
    executor: FunctionExecutor, cluster: TestCluster, how: str
) -> None:
    def shout() -> None:
        for _ in range(9_000):
            print("x" * 9_999)

    def speak() -> Any:
        for _ in range(1_000):
            yield "x" * 9_000

    call = cluster_call(cluster, shout if how == "print" else speak, keep=False)
    ports, most = ports_of(call), 0
    workers = [psutil.Process(worker.pid) for worker in cluster.workers]
    before = sum(worker.memory_info().rss for worker in workers)

    def slow(stream: str, text: str) -> None:
        nonlocal most
        ports.characters += len(text)
        if ports.characters % 20 == 0:
            most = max(most, sum(worker.memory_info().rss for worker in workers))
        time.sleep(len(text) / 50_000_000)  # a reader that is slower than the function

    ports.log = slow  # type: ignore[method-assign]
    await executor.execute(call)
    assert ports.characters == (90_000_000 if how == "print" else 9_000_000)
    assert most - before < 45_000_000


async def test_a_flood_does_not_hold_up_a_cancel(executor: FunctionExecutor, cluster: TestCluster) -> None:
    def shout() -> None:
        while True:
            print("x" * 9_999)

    call = cluster_call(cluster, shout, keep=False)
    task = asyncio.create_task(executor.execute(call))
    await until(lambda: ports_of(call).characters > 5_000_000, 20)
    started = time.monotonic()
    task.cancel()
    await asyncio.wait([task])
    assert time.monotonic() - started < 4


async def test_how_busy_the_cluster_is_can_be_read(pools: Pools, cluster: TestCluster, tmp_path: Path) -> None:
    def wait() -> None:
        while not (tmp_path / "go").exists():
            time.sleep(0.005)

    assert [row["name"] for row in pools.rows()] == ["threads", "processes"], "clusters come when they are used"
    caller = FunctionCaller(pools)
    calls = [FunctionCall(wait, {}, mode="cluster", cluster=cluster.address) for _ in range(5)]
    tasks = [asyncio.create_task(caller.run(call)) for call in calls]
    await until(lambda: (rows := pools.rows()) and rows[-1]["name"] == "cluster" and rows[-1]["busy"] == 2, 20)
    row = pools.rows()[-1]
    assert row == {"name": "cluster", "size": 2, "busy": 2, "idle": 0, "waiting": 3, "address": cluster.address}
    (tmp_path / "go").touch()
    await asyncio.gather(*tasks)
    assert pools.rows()[-1]["busy"] == 0


async def test_slots_are_given_back_when_nothing_is_to_do(executor: FunctionExecutor, cluster: TestCluster) -> None:
    from distributed import Client

    await asyncio.gather(*(executor.execute(cluster_call(cluster, add, {"a": n})) for n in range(20)))
    async with Client(cluster.address, asynchronous=True, set_as_default=False) as other:
        assert await asyncio.wait_for(other.gather(other.map(lambda n: n + 1, range(4))), 20) == [1, 2, 3, 4]

        async def processing() -> int:
            return sum(len(keys) for keys in (await other.processing()).values())

        async with asyncio.timeout(10):
            while await processing():
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("function", [add, "./parse.py:parse"])
async def test_the_arguments_of_a_tool_are_checked_against_its_schema(
    pools: Pools, cluster: TestCluster, tmp_path: Path, function: Any
) -> None:
    (tmp_path / "parse.py").write_text("def parse(a: int) -> int:\n    return a + 1\n")

    def call(**args: Any) -> FunctionCall:
        return FunctionCall(
            function, args, mode="cluster", cluster=cluster.address, folder=tmp_path, label="tool 'x'", validate=True
        )

    assert await FunctionCaller(pools).run(call(a=2)) == 3
    with pytest.raises(AttemptError, match="tool 'x'") as caught:
        await FunctionCaller(pools).run(call(a="two"))
    assert caught.value.error_type is ErrorType.USER_ERROR


async def test_absolute_files_and_modules_of_the_plans_folder_travel_too(
    executor: FunctionExecutor, cluster: TestCluster, tmp_path: Path
) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/mod.py").write_text("def where():\n    return [__file__, __name__.rpartition('.')[2]]\n")
    for reference in (f"{tmp_path}/pack/mod.py:where", "pack.mod:where", "./pack/mod.py:where"):
        file, name = (await executor.execute(cluster_call(cluster, reference, folder=tmp_path))).output
        assert name == "mod"
        assert file.endswith("/pack/mod.py")
        assert not file.startswith(str(tmp_path))


async def test_what_cannot_travel_is_named_and_never_runs_here(
    executor: FunctionExecutor, cluster: TestCluster
) -> None:
    connection = sqlite3.connect(":memory:")
    with contextlib.closing(connection), pytest.raises(AttemptError, match="closure variable 'connection'") as caught:
        await executor.execute(cluster_call(cluster, lambda: connection.execute("select 1")))
    assert caught.value.error_type is ErrorType.USER_ERROR


async def test_large_arguments_and_results_arrive_and_too_large_ones_are_refused(
    executor: FunctionExecutor, cluster: TestCluster
) -> None:
    call = cluster_call(cluster, lambda text: text + text, {"text": "x" * 5_000_000})
    assert len((await executor.execute(call)).output) == 10_000_000
    with pytest.raises(AttemptError, match="more than 16 MB"):
        await executor.execute(cluster_call(cluster, lambda: "x" * 20_000_000))


async def test_a_cluster_call_has_the_steps_environment_and_nothing_of_it_is_left(
    executor: FunctionExecutor, cluster: TestCluster
) -> None:
    def look() -> Any:
        return sorted(name for name in os.environ if name.startswith("MARK_"))

    for names in (["MARK_A"], ["MARK_A"], ["MARK_B"], []):
        environment = {"PATH": os.environ["PATH"], **dict.fromkeys(names, "1")}
        assert (await executor.execute(cluster_call(cluster, look, environment=environment))).output == names


ODD = "a\udcffb"
"""Text as the system gives it where a name or a value is not UTF-8: the byte 0xff between two letters."""


async def test_what_is_not_utf8_travels_as_it_is(pools: Pools, cluster: TestCluster, tmp_path: Path) -> None:
    def look(ctx: StepContext) -> list[bytes | str]:
        names = [name for name in os.environb if name.startswith(b"ODD")]
        return [ascii(value) for name in names for value in (name, os.environb[name])] + [
            ascii(os.getcwd().rpartition("/")[2]),
            ascii(ctx.secrets["KEY"]),
        ]

    folder = tmp_path / ODD
    folder.mkdir()
    call = FunctionCall(
        look,
        {},
        mode="cluster",
        cluster=cluster.address,
        environment={**os.environ, f"ODD{ODD}": ODD},
        cwd=folder,
        label=ODD,
        facts={"secrets": {"KEY": ODD}},
        secret_names=("KEY",),
    )
    found = await asyncio.wait_for(FunctionCaller(pools).run(call), 30)
    assert found == [r"b'ODDa\xffb'", r"b'a\xffb'", r"'a\udcffb'", r"'a\udcffb'"]
    warnings: list[str] = []
    gone = FunctionCall(add, {"a": 1}, mode="cluster", cluster=cluster.address, cwd=tmp_path / f"no{ODD}")
    gone.warn = warnings.append
    assert await asyncio.wait_for(FunctionCaller(pools).run(gone), 30) == 2
    assert r"noa\xffb" in warnings[0], "the folder that is not there is said all the same"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"environment": {"HALF": "\ud800"}}, "the variable HALF cannot travel"),
        ({"facts": {"secrets": {"HALF": "\ud800"}}, "secret_names": ("HALF",)}, "the secret HALF cannot travel"),
        ({"facts": {"run_id": "\ud800"}}, "add cannot travel to the cluster: 'utf-8' codec"),
    ],
)
async def test_what_no_system_knows_is_named_and_the_next_call_goes_well(
    pools: Pools, cluster: TestCluster, more: dict[str, Any], told: str
) -> None:
    caller = FunctionCaller(pools)
    with pytest.raises(AttemptError, match=told) as caught:
        await asyncio.wait_for(
            caller.run(FunctionCall(add, {"a": 1}, mode="cluster", cluster=cluster.address, **more)), 30
        )
    assert caught.value.error_type is ErrorType.USER_ERROR
    call = FunctionCall(add, {"a": 1}, mode="cluster", cluster=cluster.address)
    assert await asyncio.wait_for(caller.run(call), 30) == 2


async def test_a_file_whose_name_is_not_utf8_is_named(pools: Pools, cluster: TestCluster, tmp_path: Path) -> None:
    (tmp_path / f"{ODD}.py").write_text("def one():\n    return 1\n")
    call = FunctionCall(f"./{ODD}.py:one", {}, mode="cluster", cluster=cluster.address, folder=tmp_path)
    with pytest.raises(AttemptError, match="its name is not UTF-8") as caught:
        await asyncio.wait_for(FunctionCaller(pools).run(call), 30)
    assert caught.value.error_type is ErrorType.USER_ERROR
