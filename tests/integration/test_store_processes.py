"""Several processes at one store: owners, forks, kills, writers that meet."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stepchain_tui.core.errors import RunLockedError, StoreError
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.store import Batch, Command, LogLine, SQLiteStore

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    one = SQLiteStore(tmp_path / "runs.db")
    await one.open()
    yield one
    await one.close()


def created(run_id: str = "run-1", steps: int = 1) -> tuple[RunState, Batch]:
    state = RunState()
    outlines = tuple(e.StepOutline(id=f"s{n}", kind="shell") for n in range(steps))
    event = e.RunCreated(seq=1, run_id=run_id, at=BEGIN, goal="g", plan={}, steps=outlines)
    state.apply(event)
    return state, Batch(events=[event], states={run_id: state}, touched={run_id: None})


@contextmanager
def python(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A child that runs `code`; it ends when its standard input does."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield child
    finally:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        child.stdout.read()
        child.stdout.close()
        child.wait(timeout=30)


def line_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


OWN = """
    import asyncio, os, sys
    from stepchain_tui.store import SQLiteStore
    async def main():
        store = SQLiteStore(sys.argv[1])
        await store.open()
        lock = store.acquire_run("run-1")
        {more}
        print("owns", os.getpid(), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await store.close()
    asyncio.run(main())
"""


async def test_a_second_owner_is_told_the_pid_of_the_first(store: SQLiteStore) -> None:
    with python(OWN.format(more=""), store.path) as child:
        assert line_of(child) == f"owns {child.pid}"
        assert store.owner_alive("run-1")
        with pytest.raises(RunLockedError) as caught:
            store.acquire_run("run-1")
        assert caught.value.pid == child.pid
    assert not store.owner_alive("run-1")
    store.acquire_run("run-1").release()


async def test_a_killed_owner_lets_go_at_once(store: SQLiteStore) -> None:
    with python(OWN.format(more=""), store.path) as child:
        line_of(child)
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=30)
        assert not store.owner_alive("run-1")
        store.acquire_run("run-1").release()


async def test_a_forked_child_that_outlives_its_owner_does_not_keep_the_run(store: SQLiteStore) -> None:
    fork = """
        forked = os.fork()
        if not forked:
            lock.release()  # what the child does with the lock it inherited must not matter either
            sys.stdin.read()
            os._exit(0)
    """
    more = textwrap.indent(textwrap.dedent(fork), " " * 8).strip()
    with python(OWN.format(more=more), store.path) as child:
        assert line_of(child) == f"owns {child.pid}"
        assert store.owner_alive("run-1")
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=30)
        assert not store.owner_alive("run-1")
        store.acquire_run("run-1").release()


async def test_a_worker_started_by_the_owner_does_not_keep_the_run(store: SQLiteStore) -> None:
    more = (
        "import subprocess; "
        "worker = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], close_fds=False)"
    )
    with python(OWN.format(more=more), store.path) as child:
        line_of(child)
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=30)
        store.acquire_run("run-1").release()


async def test_looking_at_a_lock_neither_takes_nor_drops_it(store: SQLiteStore, tmp_path: Path) -> None:
    other = SQLiteStore(tmp_path / "runs.db")
    await other.open()
    lock = store.acquire_run("run-1")
    for _ in range(3):
        assert other.owner_alive("run-1")
        with pytest.raises(RunLockedError):
            other.acquire_run("run-1")
    await other.close()
    look = (
        "import sys; from stepchain_tui.store import SQLiteStore; print(SQLiteStore(sys.argv[1]).owner_alive('run-1'))"
    )
    with python(look, store.path) as child:
        assert line_of(child) == "True"
    lock.release()
    with python(look, store.path) as child:
        assert line_of(child) == "False"


async def test_a_second_store_of_the_process_does_not_drop_the_locks_of_the_first(store: SQLiteStore) -> None:
    """Closing a descriptor of the file would end SQLite's locks, and another process would remove the log in use."""
    state, batch = created()
    store.commit(batch)
    other = SQLiteStore(store.path)
    for read_only in (False, True):
        await other.open(read_only=read_only)
        await other.close()
    look = """
        import asyncio, sys
        from stepchain_tui.store import SQLiteStore
        async def main():
            store = SQLiteStore(sys.argv[1])
            await store.open()
            print((await store.get_run("run-1")).last_seq, store.unclean_end, flush=True)
            await store.close()
        asyncio.run(main())
    """
    log = store.path.with_name("runs.db-wal")
    before = log.stat().st_ino
    with python(look, store.path) as child:
        assert line_of(child) == "1 False"
    assert log.exists()
    assert log.stat().st_ino == before
    event = e.RunPaused(seq=2, run_id="run-1", at=BEGIN)
    state.apply(event)
    store.commit(Batch(events=[event], states={"run-1": state}))
    with python(look, store.path) as child:
        assert line_of(child) == "2 False"


async def test_a_command_of_another_process_is_seen_by_who_follows(store: SQLiteStore) -> None:
    _, batch = created()
    store.commit(batch)
    following = store.changes(poll=0.01)
    await anext(following)
    send = """
        import asyncio, sys
        from datetime import datetime, UTC
        from stepchain_tui.store import Command, SQLiteStore
        async def main():
            store = SQLiteStore(sys.argv[1])
            await store.open()
            await store.send_command(Command(id="c1", run_id="run-1", command="pause", sent_at=datetime.now(UTC)))
            await store.close()
        asyncio.run(main())
    """
    with python(send, store.path):
        while not (pending := await store.pending_commands(["run-1"])):
            await asyncio.wait_for(anext(following), 30)
        assert pending[0].id == "c1"
    await following.aclose()  # type: ignore[attr-defined]


async def test_reading_goes_on_beside_a_writer_of_another_process(store: SQLiteStore, tmp_path: Path) -> None:
    _, batch = created()
    store.commit(batch)
    reader = SQLiteStore(tmp_path / "runs.db")
    await reader.open(read_only=True)
    assert (await reader.get_run("run-1")).last_seq == 1
    before = await reader.data_version()
    store.commit(Batch(logs=[("run-1", LogLine(at=BEGIN, step_id="s0", text="hello"))]))
    assert await reader.data_version() != before
    assert await reader.count_log("run-1") == 1
    await reader.close()


HOLD = """
    import sqlite3, sys
    db = sqlite3.connect(sys.argv[1], isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    print("holds", flush=True)
    sys.stdin.read()
    db.execute("ROLLBACK")
    db.close()
"""


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_batch_waits_for_another_writer_and_keeps_its_order(tmp_path: Path, threaded: bool) -> None:
    store = SQLiteStore(tmp_path / "runs.db", threaded=threaded)
    await store.open()
    state, batch = created()
    store.commit(batch)
    await store.flush()
    told: list[int] = []
    with python(HOLD, store.path) as child:
        assert line_of(child) == "holds"
        for n in range(3):
            event = e.RunPaused(seq=state.last_seq + 1, run_id="run-1", at=BEGIN)
            state.apply(event)
            store.commit(Batch(events=[event], states={"run-1": state}), lambda error, n=n: told.append((n, error)))
        assert told == []
    await store.flush()
    assert told == [(0, None), (1, None), (2, None)]
    assert (await store.get_run("run-1")).last_seq == 4
    await store.close()


@pytest.mark.parametrize("threaded", [False, True])
async def test_a_writer_that_never_lets_go_is_a_clear_error(
    tmp_path: Path, threaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stepchain_tui.store.writer.BUSY_SECONDS", 0.2)
    store = SQLiteStore(tmp_path / "runs.db", threaded=threaded)
    await store.open()
    _, batch = created()
    with python(HOLD, store.path) as child:
        assert line_of(child) == "holds"
        store.commit(batch)
        with pytest.raises(StoreError, match="locked") as caught:
            await store.flush()
        assert caught.value.hint
        command = Command(id="c", run_id="run-1", command="pause", sent_at=BEGIN)
        with pytest.raises(StoreError, match="locked"):
            await store.send_command(command)
    _, batch = created()
    store.commit(batch)
    await store.flush()
    assert (await store.get_run("run-1")).last_seq == 1
    await store.close()


async def test_two_processes_may_make_the_same_store_at_once(tmp_path: Path) -> None:
    make = """
        import asyncio, sys
        from stepchain_tui.store import SQLiteStore
        async def main():
            sys.stdin.readline()
            store = SQLiteStore(sys.argv[1])
            await store.open()
            print(await store.list_runs(), flush=True)
            await store.close()
        asyncio.run(main())
    """
    path = tmp_path / "new" / "runs.db"
    with python(make, path) as one, python(make, path) as two, python(make, path) as three:
        for child in (one, two, three):
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        assert [line_of(child) for child in (one, two, three)] == ["[]"] * 3


WRITE_AND_DIE = """
    import asyncio, os, signal, sys
    from datetime import datetime, UTC
    from stepchain_tui.run import events as e
    from stepchain_tui.run.state import RunState
    from stepchain_tui.store import Batch, SQLiteStore
    at = datetime(2026, 3, 1, tzinfo=UTC)
    async def main():
        store = SQLiteStore(sys.argv[1], durability=sys.argv[2])
        await store.open()
        lock = store.acquire_run("run-1")
        state = RunState()
        def commit(event):
            state.apply(event)
            store.commit(Batch(events=[event], states={"run-1": state}, touched={"run-1": set()}), told)
        def told(error):
            if error is None:
                os.write(1, b"%d\\n" % state.last_seq)
        commit(e.RunCreated(seq=1, run_id="run-1", at=at, goal="g", plan={}, steps=()))
        while True:
            commit(e.RunPaused(seq=state.last_seq + 1, run_id="run-1", at=at))
            await store.flush()
    asyncio.run(main())
"""


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_what_was_reported_survives_a_kill(tmp_path: Path, durability: str) -> None:
    path = tmp_path / "runs.db"
    with python(WRITE_AND_DIE, path, durability) as child:
        last = 0
        while last < 200:
            last = int(line_of(child))
        child.send_signal(signal.SIGKILL)
        assert child.stdout is not None
        last = max([last, *(int(word) for word in child.stdout.read().split())])
    store = SQLiteStore(path)
    await store.open()
    assert store.unclean_end
    summary = await store.get_run("run-1")
    assert summary.last_seq >= last
    assert len(await store.read_events("run-1")) == summary.last_seq
    assert summary.owner_alive is None
    assert await store.integrity_check(full=True) == []
    await store.close()
    await store.open()
    assert not store.unclean_end
    await store.close()


async def test_a_process_that_never_closed_its_store_still_ends(tmp_path: Path) -> None:
    forget = """
        import asyncio, sys
        from stepchain_tui.store import SQLiteStore
        async def main():
            store = SQLiteStore(sys.argv[1], durability="power")
            await store.open()
            print(await store.list_runs(), flush=True)
        asyncio.run(main())
    """
    with python(forget, tmp_path / "runs.db") as child:
        assert line_of(child) == "[]"
    assert child.returncode == 0
    assert os.path.exists(tmp_path / "runs.db")
