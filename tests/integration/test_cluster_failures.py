"""What becomes of calls when a part of the cluster fails: each failure has its class, and nothing is begun twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from tools_calls import is_gone, read_pid, until

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import FunctionCall, FunctionCaller, Pools
from stepchain_tui.tools.cluster import Clusters
from tests.support.cluster import TestCluster

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def cluster() -> Iterator[TestCluster]:
    with TestCluster(2) as cluster:
        yield cluster


@pytest.fixture
def empty_cluster() -> Iterator[TestCluster]:
    with TestCluster(0) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def pools() -> AsyncIterator[Pools]:
    pools = Pools(process_workers=1)
    yield pools
    await pools.close()


def wait_for(folder: Path, call: int = 0) -> list[int]:
    """Note that the call began, and return when the folder has a file `go`."""
    with (folder / "begun").open("a") as begun:
        begun.write(f"{call} {os.getpid()}\n")
    while not (folder / "go").exists():
        time.sleep(0.005)
    return [call, os.getpid()]


def begun(folder: Path) -> list[list[int]]:
    """Return the call and the process of each beginning so far."""
    with contextlib.suppress(FileNotFoundError):
        return [list(map(int, line.split())) for line in (folder / "begun").read_text().splitlines()]
    return []


def waiting_call(cluster: TestCluster, folder: Path, call: int = 0) -> FunctionCall:
    return FunctionCall(wait_for, {"folder": folder, "call": call}, mode="cluster", cluster=cluster.address)


async def test_a_worker_that_dies_fails_its_call_at_once_and_nothing_is_begun_again(
    pools: Pools, cluster: TestCluster, tmp_path: Path
) -> None:
    caller = FunctionCaller(pools)
    tasks = [asyncio.create_task(caller.run(waiting_call(cluster, tmp_path, call))) for call in range(6)]
    running = await until(lambda: len(found := begun(tmp_path)) == 2 and found, 20)
    victim, process = running[0]
    cluster.worker_of(process).send_signal(signal.SIGKILL)
    killed = time.monotonic()
    with pytest.raises(
        AttemptError, match=r"its worker died: the connection to tcp://.* was lost while it ran"
    ) as told:
        await tasks[victim]
    assert time.monotonic() - killed < 5
    assert told.value.error_type is ErrorType.SERVER_ERROR
    assert told.value.hint
    await until(lambda: is_gone(process))
    (tmp_path / "go").touch()
    others = [await task for call, task in enumerate(tasks) if call != victim]
    assert sorted(call for call, _ in others) == [call for call in range(6) if call != victim]
    counts = [call for call, _ in begun(tmp_path)]
    assert sorted(counts) == list(range(6)), "each call was begun once, by whatever worker"
    again = await caller.run(waiting_call(cluster, tmp_path, victim))
    assert again[0] == victim, "another try goes to the worker that lives"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_is_shut_down_in_order_ends_its_call_and_nothing_is_begun_again(
    pools: Pools, cluster: TestCluster, tmp_path: Path, number: signal.Signals
) -> None:
    caller = FunctionCaller(pools)
    task = asyncio.create_task(caller.run(waiting_call(cluster, tmp_path)))
    ((_, process),) = await until(lambda: begun(tmp_path), 20)
    cluster.worker_of(process).send_signal(number)
    with pytest.raises(AttemptError, match="its worker died") as caught:
        await asyncio.wait_for(task, 20)
    assert caught.value.error_type is ErrorType.SERVER_ERROR
    await until(lambda: is_gone(process), 20)
    (tmp_path / "go").touch()
    assert (await caller.run(waiting_call(cluster, tmp_path, 1)))[0] == 1
    assert [call for call, _ in begun(tmp_path)] == [0, 1]


async def test_a_scheduler_that_moves_work_on_does_not_begin_a_call_again(
    pools: Pools, cluster: TestCluster, tmp_path: Path
) -> None:
    from distributed import Client

    caller = FunctionCaller(pools)
    tasks = [asyncio.create_task(caller.run(waiting_call(cluster, tmp_path, call))) for call in range(4)]
    running = await until(lambda: len(found := begun(tmp_path)) == 2 and found, 20)
    async with Client(cluster.address, asynchronous=True, set_as_default=False) as administrator:
        retired = await administrator.retire_workers(workers=list(await administrator.nthreads())[:1])
    assert len(retired) == 1
    (tmp_path / "go").touch()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    counts = [call for call, _ in begun(tmp_path)]
    assert sorted(counts) == [0, 1, 2, 3]
    failed = [call for call, result in enumerate(found) if isinstance(result, AttemptError)]
    assert set(failed) <= {call for call, _ in running}, "only what was on the retired worker may have failed"


async def test_a_worker_with_three_threads_carries_out_three_calls_at_once(
    pools: Pools, empty_cluster: TestCluster, tmp_path: Path
) -> None:
    empty_cluster._threads = 3
    empty_cluster.start_worker()
    caller = FunctionCaller(pools)
    tasks = [asyncio.create_task(caller.run(waiting_call(empty_cluster, tmp_path, call))) for call in range(5)]
    running = await until(lambda: len(found := begun(tmp_path)) == 3 and found, 20)
    assert len({process for _, process in running}) == 3
    (tmp_path / "go").touch()
    assert sorted(call for call, _ in await asyncio.gather(*tasks)) == list(range(5))


async def test_a_call_that_ends_its_own_process_is_the_functions_failure(pools: Pools, cluster: TestCluster) -> None:
    def crash() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(AttemptError, match="was killed by SIGKILL while it ran") as caught:
        await FunctionCaller(pools).run(FunctionCall(crash, {}, mode="cluster", cluster=cluster.address))
    assert caught.value.error_type is ErrorType.TOOL_ERROR
    assert all(worker.poll() is None for worker in cluster.workers), "the worker itself lives on"


async def test_a_scheduler_that_dies_fails_all_calls_and_ends_what_ran(
    pools: Pools, cluster: TestCluster, tmp_path: Path
) -> None:
    caller = FunctionCaller(pools)
    tasks = [asyncio.create_task(caller.run(waiting_call(cluster, tmp_path, call))) for call in range(4)]
    running = await until(lambda: len(found := begun(tmp_path)) == 2 and found, 20)
    cluster.scheduler.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    failures = await asyncio.gather(*tasks, return_exceptions=True)
    assert time.monotonic() - killed < 5
    for failure in failures:
        assert isinstance(failure, AttemptError)
        assert failure.error_type is ErrorType.SERVER_ERROR
        assert "was lost" in str(failure)
    for _, process in running:
        await until(lambda process=process: is_gone(process))
    assert len(begun(tmp_path)) == 2


@pytest.mark.parametrize("is_noticed", [False, True], ids=["at once", "after the library found it again"])
async def test_a_scheduler_that_comes_back_is_used_again(pools: Pools, tmp_path: Path, is_noticed: bool) -> None:
    caller = FunctionCaller(pools)
    with TestCluster(1) as cluster:
        (tmp_path / "go").touch()
        await caller.run(waiting_call(cluster, tmp_path))
        client = pools.clusters._known[cluster.address]._connection._client
        port, comm = int(cluster.address.rpartition(":")[2]), client.scheduler_comm
        if is_noticed:
            await until(lambda: not pools.clusters._known[cluster.address]._pilots, 20)
        cluster.scheduler.send_signal(signal.SIGKILL)
        for process in (cluster.scheduler, cluster.workers[0]):
            await asyncio.to_thread(process.wait)
        await asyncio.to_thread(cluster.start_scheduler, port)
        cluster.start_worker()
        if is_noticed:
            await until(lambda: client.status == "running" and client.scheduler_comm is not comm, 20)
        for call in (1, 2):
            assert (await asyncio.wait_for(caller.run(waiting_call(cluster, tmp_path, call)), 30))[0] == call


async def test_pilots_that_nothing_is_heard_of_fail_the_call(
    pools: Pools, cluster: TestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepchain_tui.tools.cluster.client._FAILED_PILOTS", 1)
    monkeypatch.setattr("stepchain_tui.tools.cluster.connection.TOPIC", "nobody-tells-here")
    with pytest.raises(AttemptError, match="cannot take calls: they start, and nothing is heard of them") as caught:
        await asyncio.wait_for(FunctionCaller(pools).run(waiting_call(cluster, tmp_path)), 60)
    assert caught.value.error_type is ErrorType.SERVER_ERROR


async def test_the_death_of_the_engine_ends_what_runs_on_the_workers(cluster: TestCluster, tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from stepchain_tui.tools import FunctionCall, FunctionCaller, Pools\n"
        "def hang(file):\n"
        "    import os, time\n"
        "    with open(file, 'w') as out: out.write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "async def main():\n"
        "    call = FunctionCall(hang, {'file': sys.argv[2]}, mode='cluster', cluster=sys.argv[1])\n"
        "    await FunctionCaller(Pools()).run(call)\n"
        "asyncio.run(main())\n"
    )
    engine = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, cluster.address, str(tmp_path / "own"), cwd=Path(__file__).parents[2]
    )
    own = await until(lambda: read_pid(tmp_path / "own"), 20)
    engine.kill()
    killed = time.monotonic()
    await engine.wait()
    await until(lambda: is_gone(own))
    assert time.monotonic() - killed < 4


async def test_no_scheduler_is_a_server_error_that_names_the_address(pools: Pools) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(AttemptError, match=f"the scheduler at {address} does not answer") as caught:
        await FunctionCaller(pools).run(FunctionCall(wait_for, {}, mode="cluster", cluster=address))
    assert caught.value.error_type is ErrorType.SERVER_ERROR
    assert "dask scheduler" in caught.value.hint


@pytest.mark.parametrize("address", ["localhost", "http://localhost:8786", "tcp://:1", "tcp://a b:1"])
async def test_what_is_no_address_is_the_plans_mistake(pools: Pools, address: str) -> None:
    with pytest.raises(AttemptError, match="is no address of a scheduler") as caught:
        await FunctionCaller(pools).run(FunctionCall(wait_for, {}, mode="cluster", cluster=address))
    assert caught.value.error_type is ErrorType.USER_ERROR


async def test_a_cluster_without_workers_is_a_server_error(
    pools: Pools, empty_cluster: TestCluster, tmp_path: Path
) -> None:
    pools._clusters = Clusters(pools.threads, patience=1.0)
    with pytest.raises(AttemptError, match=r"had no worker for 1 s") as caught:
        await FunctionCaller(pools).run(waiting_call(empty_cluster, tmp_path))
    assert caught.value.error_type is ErrorType.SERVER_ERROR
    assert "dask worker" in caught.value.hint


async def test_a_worker_that_comes_later_takes_the_calls_that_wait(
    pools: Pools, empty_cluster: TestCluster, tmp_path: Path
) -> None:
    (tmp_path / "go").touch()
    task = asyncio.create_task(FunctionCaller(pools).run(waiting_call(empty_cluster, tmp_path, 3)))
    await until(lambda: pools.rows()[-1]["waiting"] == 1, 20)
    empty_cluster.start_worker()
    assert (await asyncio.wait_for(task, 60))[0] == 3


async def test_workers_with_another_stepchain_are_told_with_both_versions(
    pools: Pools, empty_cluster: TestCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_cluster.start_worker()
    monkeypatch.setattr("stepchain_tui.__version__", "9.7.3")
    with pytest.raises(AttemptError, match=r"have StepChain .*, this is 9\.7\.3") as caught:
        await FunctionCaller(pools).run(waiting_call(empty_cluster, tmp_path))
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert 'pip install "stepchain[cluster]==9.7.3"' in caught.value.hint


async def test_workers_without_stepchain_are_told_how_to_get_it(pools: Pools, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    (hidden / "stepchain_tui").mkdir(parents=True)
    (hidden / "stepchain_tui/__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'stepchain_tui'\")\n"
    )
    with (
        TestCluster(1, worker_path=hidden) as cluster,
        pytest.raises(AttemptError, match="cannot import StepChain") as caught,
    ):
        await FunctionCaller(pools).run(waiting_call(cluster, tmp_path))
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert 'pip install "stepchain[cluster]"' in caught.value.hint


async def test_without_the_library_the_extra_is_named(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(AttemptError, match="needs the library distributed") as caught:
        await FunctionCaller(pools).run(FunctionCall(wait_for, {}, mode="cluster", cluster="local"))
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert 'pip install "stepchain[cluster]"' in caught.value.hint


async def test_closing_the_pools_ends_what_runs(cluster: TestCluster, tmp_path: Path) -> None:
    pools = Pools()
    task = asyncio.create_task(FunctionCaller(pools).run(waiting_call(cluster, tmp_path)))
    (_, process), *_ = await until(lambda: begun(tmp_path), 20)
    await pools.close()
    with pytest.raises(AttemptError):
        await task
    await until(lambda: is_gone(process))


async def test_a_worker_that_hangs_does_not_hold_up_a_cancel(
    pools: Pools, cluster: TestCluster, tmp_path: Path
) -> None:
    task = asyncio.create_task(FunctionCaller(pools).run(waiting_call(cluster, tmp_path)))
    ((_, process),) = await until(lambda: begun(tmp_path), 20)
    worker = cluster.worker_of(process)
    worker.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    task.cancel()
    await asyncio.wait([task])
    assert time.monotonic() - started < 4.5
    assert task.cancelled()
    worker.send_signal(signal.SIGCONT)
    await until(lambda: is_gone(process))
