"""What comes from the other side of a cluster is hostile: it ends its own call, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.tools import Pools
from stepchain_tui.tools.cluster.client import Cluster
from stepchain_tui.tools.cluster.lane import ClusterCall, Lane
from stepchain_tui.tools.cluster.sources import Code
from stepchain_tui.tools.process_worker import CallRecord

MARKS: list[str] = []


class Trap:
    def __reduce__(self) -> Any:
        return MARKS.append, ("unpickled",)


@pytest_asyncio.fixture
async def pools() -> AsyncIterator[Pools]:
    pools = Pools(process_workers=1)
    yield pools
    await pools.close()


def call_of(log: list[str]) -> ClusterCall:
    return ClusterCall(
        request={"by_value": False, "environment": {}, "payload": b""},
        code=Code("", "/"),
        label="the step",
        record=CallRecord(),
        log=lambda stream, text: log.append(f"{stream}: {text}"),
        on_begin=None,
        on_chunk=lambda chunk: log.append(f"chunk: {chunk}"),
        warn=None,
        reply=asyncio.get_running_loop().create_future(),
    )


@pytest.mark.parametrize(
    "answer",
    [
        "text",
        7,
        [7],
        [[]],
        [["reply"]],
        [["reply", 1, b"R", b"{"]],
        [["reply", 1, b"R", b"\xff"]],
        [["reply", 1, b"E", b"{}"]],
        [["reply", 1, b"E", b"[]"]],
        [["reply", 1, b"E", b'{"message": 1, "error_type": "no such", "hint": "", "exception": ""}']],
        [["reply", 1, b"C", b"short"]],
        [["out", 1, 5, b"x"]],
        [["out", 1, 0, "no bytes"]],
        [["begun", 1, "no pid"]],
    ],
    ids=str,
)
async def test_an_answer_that_is_none_fails_the_call_as_a_lost_worker(answer: Any) -> None:
    from distributed.comm import listen

    async def speak(comm: Any) -> None:
        await comm.read()
        await comm.read()
        await comm.write(answer)

    over = asyncio.Event()
    async with listen("tcp://127.0.0.1:0", speak, deserialize=False) as listener:
        lane = await Lane.connect(
            listener.contact_address, "pilot", "key", "/", "3.0", {}, lambda _: None, lambda _: over.set()
        )
        call = call_of([])
        lane.take(call)
        with pytest.raises(AttemptError) as caught:
            await asyncio.wait_for(call.reply, 10)
        assert caught.value.error_type is ErrorType.SERVER_ERROR
        assert caught.value.hint
        await asyncio.wait_for(over.wait(), 10)
        await lane.closed()


async def test_a_worker_that_takes_a_call_and_does_not_begin_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed.comm import listen

    async def speak(comm: Any) -> None:
        with contextlib.suppress(OSError):
            while True:
                await comm.read()

    monkeypatch.setattr("stepchain_tui.tools.cluster.lane.BEGIN_SECONDS", 0.05)
    over = asyncio.Event()
    async with listen("tcp://127.0.0.1:0", speak, deserialize=False) as listener:
        worker = listener.contact_address
        lane = await Lane.connect(worker, "pilot", "key", "/", "3.0", {}, lambda _: None, lambda _: over.set())
        call = call_of([])
        lane.take(call)
        with pytest.raises(AttemptError, match=f"the worker {worker} did not begin the step within") as caught:
            await asyncio.wait_for(call.reply, 10)
        assert caught.value.error_type is ErrorType.SERVER_ERROR
        await asyncio.wait_for(over.wait(), 10)
        await lane.closed()


async def test_a_call_that_was_begun_may_take_as_long_as_it_likes() -> None:
    from distributed.comm import listen

    go_on = asyncio.Event()

    async def speak(comm: Any) -> None:
        await comm.read()
        await comm.read()
        await comm.write([["begun", 1, 7]])
        await go_on.wait()
        await comm.write([["reply", 1, b"R", b"3"]])
        await comm.read()

    async with listen("tcp://127.0.0.1:0", speak, deserialize=False) as listener:
        lane = await Lane.connect(
            listener.contact_address, "pilot", "key", "/", "3.0", {}, lambda _: None, lambda _: None
        )
        call, begun = call_of([]), asyncio.Event()
        call.on_begin = begun.set
        lane.take(call)
        patience = lane._beginning
        assert patience is not None
        await asyncio.wait_for(begun.wait(), 10)
        assert patience.cancelled()
        go_on.set()
        assert await asyncio.wait_for(call.reply, 10) == 3
        lane.let_go()
        await asyncio.wait_for(lane.closed(), 10)


async def test_answers_to_other_calls_and_words_that_nobody_knows_do_nothing() -> None:
    from distributed.comm import listen

    async def speak(comm: Any) -> None:
        await comm.read()
        await comm.read()
        await comm.write([["reply", 9, b"R", b"1"], ["odd", 1, 2], ["out", 8, 0, b"x"], ["reply", 1, b"?", b"2"]])
        await comm.write([["out", 1, 0, b"\xffline\n"], ["reply", 1, b"K", b'"c"'], ["reply", 1, b"R", b"3"]])
        await comm.read()

    log: list[str] = []
    async with listen("tcp://127.0.0.1:0", speak, deserialize=False) as listener:
        lane = await Lane.connect(
            listener.contact_address, "pilot", "key", "/", "3.0", {}, lambda _: None, lambda _: None
        )
        call = call_of(log)
        lane.take(call)
        assert await asyncio.wait_for(call.reply, 10) == 3
        assert log == ["stdout: \ufffdline\n", "chunk: c"]
        lane.let_go()
        await asyncio.wait_for(lane.closed(), 10)


async def test_nothing_that_a_pilot_sends_is_unpickled() -> None:
    from distributed.comm import listen
    from distributed.protocol import to_serialize

    async def speak(comm: Any) -> None:
        await comm.read()
        await comm.read()
        await comm.write([["reply", 1, b"R", to_serialize(Trap())]])
        await comm.write([["reply", 1, b"R", pickle.dumps(Trap())]])
        await comm.read()

    async with listen("tcp://127.0.0.1:0", speak, deserialize=False) as listener:
        lane = await Lane.connect(
            listener.contact_address, "pilot", "key", "/", "3.0", {}, lambda _: None, lambda _: None
        )
        call = call_of([])
        lane.take(call)
        with pytest.raises(AttemptError):
            await asyncio.wait_for(call.reply, 10)
        await lane.closed()
    assert MARKS == []


@pytest.mark.parametrize("told", ["text", None, {}, {"pilot": 3}, {"pilot": "known"}, {"pilot": "known", "address": 5}])
async def test_an_announcement_of_no_pilot_of_ours_does_nothing(pools: Pools, told: Any) -> None:
    cluster = Cluster("tcp://127.0.0.1:1", pools.threads)
    cluster._connection._take_event((0.0, told))
    assert not cluster._tasks
    assert cluster.row()["busy"] == 0
    await cluster.close()


async def test_a_worker_gives_its_slot_to_nobody_who_does_not_know_the_key(tmp_path: Path) -> None:
    from stepchain_tui.tools.cluster import pilot

    class Comm:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    pilot._waiting["a"] = ("the key", waiter, asyncio.Event())
    try:
        for name, key in (("a", "wrong"), ("a", ""), ("b", "the key"), ("a", "the kéy")):
            comm = Comm()
            await asyncio.wait_for(pilot.attach(comm, name, key), 5)
            assert comm.aborted
        assert not waiter.done()
    finally:
        del pilot._waiting["a"]
