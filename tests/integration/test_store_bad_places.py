"""Stores that cannot be used: each says in plain words what is wrong and what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stepchain_tui.core.errors import StoreError
from stepchain_tui.run import events as e
from stepchain_tui.run.state import RunState
from stepchain_tui.store import Batch, LogLine, SQLiteStore, connect
from stepchain_tui.store.migrations import MIGRATIONS

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]


def created(run_id: str = "run-1") -> Batch:
    state = RunState()
    event = e.RunCreated(seq=1, run_id=run_id, at=BEGIN, goal="g", plan={}, steps=())
    state.apply(event)
    return Batch(events=[event], states={run_id: state}, touched={run_id: None})


async def make(path: Path, logs: int = 0) -> None:
    store = SQLiteStore(path)
    await store.open()
    lines = [("run-1", LogLine(at=BEGIN, step_id="s0", text=f"line {n} " + "x" * 100)) for n in range(logs)]
    batch = created()
    batch.logs = lines
    store.commit(batch)
    await store.close()


async def refused(path: Path, words: str, *, read_only: bool = False) -> StoreError:
    store = SQLiteStore(path)
    with pytest.raises(StoreError, match=words) as caught:
        await store.open(read_only=read_only)
    await store.close()
    assert caught.value.hint
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_directory_is_no_store(tmp_path: Path, read_only: bool) -> None:
    await refused(tmp_path, "is a directory", read_only=read_only)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_text_file_is_no_database_and_stays_as_it_is(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes")
    await refused(path, "is not a database", read_only=read_only)
    assert path.read_text() == "my notes"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["notes.txt"]


@pytest.mark.parametrize("read_only", [False, True])
async def test_the_database_of_another_program_is_left_alone(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE songs (name)")
    other.close()
    before = path.read_bytes()
    await refused(path, "not a StepChain store", read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_newer_store_asks_for_an_upgrade(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "runs.db"
    await make(path)
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    error = await refused(path, "newer version", read_only=read_only)
    assert "Upgrade" in error.hint


async def test_reading_where_there_is_nothing_makes_nothing(tmp_path: Path) -> None:
    await refused(tmp_path / "none" / "runs.db", "there is no store at", read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_network_drive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool) -> None:
    path = tmp_path / "runs.db"
    await make(path)
    real = os.path.realpath(tmp_path)
    monkeypatch.setattr(connect, "_mounts", lambda: [("/", "ext4"), (real, "nfs4"), (real + "-not", "cifs")])
    await refused(path, "network drive", read_only=read_only)
    monkeypatch.setattr(connect, "_mounts", lambda: [("/", "nfs"), (real, "ext4")])
    assert connect.network_file_system(path) == ""


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_damaged_store_is_named_as_such(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "runs.db"
    await make(path)
    data = bytearray(path.read_bytes())
    data[100:4096] = b"\xff" * 3996
    path.write_bytes(data)
    await refused(path, "malformed|damaged", read_only=read_only)


async def test_damage_after_an_unclean_end_is_found_on_opening(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    await make(path, logs=2_000)
    data = bytearray(path.read_bytes())
    for page in range(20, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = b"\xee" * 64
    path.write_bytes(data)
    path.with_name("runs.db-wal").write_bytes(b"left by a process that died")
    await refused(path, "damaged")


async def test_a_damaged_page_is_a_clear_error_while_reading(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    await make(path, logs=5_000)
    data = bytearray(path.read_bytes())
    for page in range(40, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = b"\xee" * 64
    path.write_bytes(data)
    store = SQLiteStore(path)
    await store.open()
    with pytest.raises(StoreError, match="malformed"):
        await store.read_log("run-1", limit=5_000)
    assert await store.integrity_check() != []
    await store.close()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Take root's rights away for a while; whoever is not root has none to lose."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


async def test_a_store_without_permission_says_so() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not below the folder of the tests, which only its owner may enter
        path = Path(folder) / "runs.db"
        await make(path)
        Path(folder).chmod(0o755)
        path.chmod(0o000)
        with as_nobody():
            await refused(path, "permission")
            await refused(path, "permission", read_only=True)
        path.chmod(0o600)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB."""
    place = tmp_path / "tiny"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.needs("root")
@pytest.mark.parametrize("durability", ["process", "power"])
async def test_a_full_disk_loses_the_batch_and_nothing_else(tiny_disk: Path, durability: str) -> None:
    store = SQLiteStore(tiny_disk / "runs.db", durability=durability)  # type: ignore[arg-type]
    await store.open()
    store.commit(created())
    await store.flush()
    ballast = tiny_disk / "ballast"
    told: list[BaseException | None] = []
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    store.commit(created("run-2"), told.append)
    await store.flush()
    assert isinstance(told[0], StoreError)
    assert "disk is full" in str(told[0])
    with pytest.raises(StoreError, match="disk is full"):
        store.keep("y" * 100_000)
    ballast.unlink()
    store.commit(created("run-2"), told.append)
    await store.flush()
    assert told[1] is None
    assert [run.run_id for run in await store.list_runs()] == ["run-2", "run-1"]
    await store.close()


@pytest.mark.needs("root")
async def test_a_disk_that_may_only_be_read_can_be_read(tiny_disk: Path) -> None:
    path = tiny_disk / "runs.db"
    await make(path)
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    await refused(path, "only be read")
    store = SQLiteStore(path)
    await store.open(read_only=True)
    assert (await store.get_run("run-1")).last_seq == 1
    with pytest.raises(StoreError, match="reading only"):
        store.commit(created("run-2"))
    await store.close()


def test_a_limit_on_file_sizes_is_a_clear_error(tmp_path: Path) -> None:
    code = """
        import asyncio, resource, signal, sys
        sys.path.insert(0, sys.argv[2])
        from test_store_bad_places import BEGIN, created
        from stepchain_tui.core.errors import StoreError
        from stepchain_tui.store import Batch, LogLine, SQLiteStore
        async def main():
            store = SQLiteStore(sys.argv[1])
            await store.open()
            store.commit(created())
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
            told = []
            lines = [("run-1", LogLine(at=BEGIN, step_id="s0", text="x" * 200)) for _ in range(5_000)]
            store.commit(Batch(logs=lines), told.append)
            assert isinstance(told[0], StoreError) and told[0].hint, told
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            assert await store.count_log("run-1") == 0
            store.commit(Batch(logs=lines[:3]), told.append)
            assert told[1] is None and await store.count_log("run-1") == 3
            await store.close()
            print(told[0])
        asyncio.run(main())
    """
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), tmp_path / "runs.db", Path(__file__).parent],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "the store" in ended.stdout


async def test_reading_leaves_no_files_where_the_folder_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "theirs" / "runs.db"
    await make(path)
    locks = path.with_name("runs.db.locks")
    before = sorted(path.parent.iterdir())
    assert before == [path, locks]
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    store = SQLiteStore(path)
    await store.open(read_only=True)
    assert [run.run_id for run in await store.list_runs()] == ["run-1"]
    assert not store.owner_alive("run-1")
    assert sorted(path.parent.iterdir()) == before
    await store.close()
    assert sorted(path.parent.iterdir()) == before
