"""Files that belong to results: how every store keeps them, and when they go."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import StoreError
from stepchain_tui.core.secrets import Redactor
from stepchain_tui.run import events as e
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.state import RunState
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import OUTPUT_LIMIT, BlobReference, Kept
from stepchain_tui.store import AbstractStore, Batch, CacheEntry, JSONLStore, MemoryStore, SQLiteStore

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[2]
PIXEL = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
DAY = 24 * 3600.0


def make_store(kind: str, folder: Path) -> AbstractStore:
    if kind == "memory":
        return MemoryStore()
    return JSONLStore(folder / "runs") if kind == "jsonl" else SQLiteStore(folder / "runs.db")


@pytest.fixture(params=["sqlite", "jsonl", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AbstractStore]:
    one = make_store(request.param, tmp_path)
    await one.open()
    yield one
    await one.close()


@pytest.fixture(params=["sqlite", "jsonl"])
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SQLiteStore | JSONLStore]:
    one = make_store(request.param, tmp_path)
    assert isinstance(one, SQLiteStore | JSONLStore)
    await one.open()
    yield one
    await one.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    one = SQLiteStore(tmp_path / "runs.db")
    await one.open()
    yield one
    await one.close()


def make_run(output: Kept, run_id: str = "run-1") -> Batch:
    """A run whose only step succeeded."""
    state = RunState()
    outlines = (e.StepOutline(id="s", kind="tool"),)
    events: list[e.Event] = [
        e.RunCreated(seq=1, run_id=run_id, at=BEGIN, goal="g", plan={}, steps=outlines),
        e.StepStarted(seq=2, run_id=run_id, at=BEGIN, step_id="s", attempt=1),
        e.StepSucceeded(seq=3, run_id=run_id, at=BEGIN, step_id="s", attempt=1, output=output),
    ]
    for event in events:
        state.apply(event)
    return Batch(events=events, states={run_id: state}, touched={run_id: None})


def cached(key: str, output: Kept) -> CacheEntry:
    made_by: dict[str, Any] = {"run_id": "run-1", "step_id": "s", "attempt": 1, "created_at": BEGIN}
    return CacheEntry(key=key, scope="s", action="a", input="i", code="c", output=output, **made_by)


def path_of(store: AbstractStore, reference: BlobReference) -> Path:
    path = store.file_path(reference)
    assert path is not None
    return path


def make_old(store: AbstractStore, reference: BlobReference, seconds: float = 2 * DAY) -> Path:
    """Make a file look as if it had been kept that long ago."""
    path = path_of(store, reference)
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
    return path


# --- keeping


async def test_bytes_are_kept_as_a_file_that_a_viewer_knows(store: AbstractStore) -> None:
    reference = store.keep_file(PIXEL, suffix=".PNG")
    path = path_of(store, reference)
    assert path.name == hashlib.sha256(PIXEL).hexdigest() + ".png"
    assert path.read_bytes() == PIXEL == await store.load_file(reference)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    assert reference.bytes == len(PIXEL)
    assert store.keep_file(PIXEL, suffix=".png") == reference


async def test_bytes_of_which_nobody_knows_what_they_are_have_a_name_too(store: AbstractStore) -> None:
    empty = store.keep_file(b"")
    assert path_of(store, empty).name == hashlib.sha256(b"").hexdigest() + ".bin"
    assert await store.load_file(empty) == b""


async def test_a_result_comes_back_with_its_files(store: AbstractStore) -> None:
    image, sound = store.keep_file(PIXEL, suffix=".png"), store.keep_file(b"RIFF", suffix=".wav")
    small = Kept({"image": image.sha256}, files=(image, sound))
    large = store.keep({"text": "large " * 20_000})
    large = Kept(blob=large.blob, files=(sound,))
    store.commit(make_run(small))
    store.commit(make_run(large, "run-2"))
    await store.flush()
    assert (await store.load_state("run-1")).steps["s"].output == small
    output = (await store.load_state("run-2")).steps["s"].output
    assert output == large
    assert await store.load_value(output) == {"text": "large " * 20_000}
    assert await store.load_file(output.files[0]) == b"RIFF"


@pytest.mark.parametrize(
    "suffix", ["png", ".", "..", ".p/g", "/../x", ".png/..", ".a b", ".png\n", ".12345678901", ".pñg", ".tar.gz", "\0"]
)
async def test_what_is_no_end_of_a_name_is_refused(store: AbstractStore, suffix: str) -> None:
    with pytest.raises(AttemptError, match="end of a file's name") as caught:
        store.keep_file(PIXEL, suffix=suffix)
    assert caught.value.error_type is ErrorType.USER_ERROR
    assert "'.png'" in caught.value.hint


async def test_a_file_over_the_limit_is_refused_with_advice(store: AbstractStore) -> None:
    assert store.keep_file(bytes(OUTPUT_LIMIT)).bytes == OUTPUT_LIMIT
    with pytest.raises(AttemptError, match="10,485,761 bytes is larger than the 10,485,760") as caught:
        store.keep_file(bytes(OUTPUT_LIMIT + 1))
    assert "return its path" in caught.value.hint


async def test_a_store_that_is_only_read_keeps_no_file(durable: SQLiteStore | JSONLStore) -> None:
    reference = durable.keep_file(PIXEL, suffix=".png")
    await durable.close()
    await durable.open(read_only=True)
    with pytest.raises(StoreError, match="reading only"):
        durable.keep_file(b"other")
    assert await durable.load_file(reference) == PIXEL


async def test_a_file_that_is_gone_or_damaged_says_so(durable: SQLiteStore | JSONLStore) -> None:
    reference = durable.keep_file(PIXEL, suffix=".png")
    path = path_of(durable, reference)
    path.write_bytes(PIXEL[::-1])
    with pytest.raises(StoreError, match="damaged"):
        await durable.load_file(reference)
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        await durable.load_file(reference)


async def test_the_files_of_a_store_in_memory_go_with_it() -> None:
    store = MemoryStore()
    await store.open()
    path = path_of(store, store.keep_file(PIXEL))
    await store.close()
    assert path.exists(), "closing keeps what is in memory"
    del store
    gc.collect()
    assert not path.parent.parent.exists()


# --- secrets

SECRETS = {"A_KEY": "hunter2hunter2", "B_TOKEN": 'say "päss" now'}


async def test_a_secret_in_a_file_is_taken_out_of_it(store: AbstractStore) -> None:
    text = f"key={SECRETS['A_KEY']}\n".encode() + json.dumps(SECRETS["B_TOKEN"], ensure_ascii=False).encode()
    given = text + SECRETS["B_TOKEN"].encode() + b"\xff\x00"
    reference = store.keep_file(given, suffix=".txt", redactor=Redactor(SECRETS))
    kept = b'key=[secret A_KEY]\n"[secret B_TOKEN]"[secret B_TOKEN]\xff\x00'
    assert await store.load_file(reference) == kept
    assert (reference.sha256, reference.bytes) == (hashlib.sha256(kept).hexdigest(), len(kept))
    store.set_redactor("run-1", Redactor(SECRETS))
    assert store.keep_file(given, suffix=".txt") == reference, "without a redactor those of all runs count"


async def test_the_gate_leaves_the_names_of_files_alone(store: AbstractStore) -> None:
    reference = store.keep_file(PIXEL, suffix=".png")
    store.set_redactor("run-1", Redactor({"A_KEY": reference.sha256[:12], "B_KEY": "hunter2hunter2"}))
    output = Kept({"said": "hunter2hunter2", "sha256": reference.sha256}, files=(reference,))
    batch = make_run(output)
    batch.cache = [cached("k", output)]
    store.commit(batch)
    await store.flush()
    kept = (await store.load_state("run-1")).steps["s"].output
    assert kept is not None
    assert kept.value == {"said": "[secret B_KEY]", "sha256": "[secret A_KEY]" + reference.sha256[12:]}
    assert kept.files == (reference,)
    entry = await store.find_cached("k")
    assert entry is not None
    assert entry.output == kept


async def test_what_a_person_approved_is_cleaned_as_a_value_is(sqlite: SQLiteStore) -> None:
    """The gate knows which fields of an event are values from the event itself."""
    large = sqlite.keep("large " * 20_000)
    assert large.blob is not None
    sqlite.set_redactor("run-1", Redactor({"A_KEY": large.blob.sha256[:10], "B_KEY": "hunter2hunter2"}))
    batch = make_run(Kept("hunter2hunter2"))
    batch.events.append(
        e.ToolApprovalGiven(
            seq=4, run_id="run-1", at=BEGIN, step_id="s", attempt=1, call_id="c", approved=True, arguments=large
        )
    )
    sqlite.commit(Batch(events=batch.events))
    event = (await sqlite.read_events("run-1"))[-1]
    assert isinstance(event, e.ToolApprovalGiven)
    assert event.arguments == large
    assert await sqlite._reading().fetch("SELECT uses FROM blobs") == [(1,)]


# --- how long they live


async def test_a_file_goes_with_the_last_run_that_refers_to_it(durable: SQLiteStore | JSONLStore) -> None:
    shared, own = durable.keep_file(PIXEL, suffix=".png"), durable.keep_file(b"own", suffix=".txt")
    durable.commit(make_run(Kept(1, files=(shared, own)), "a"))
    durable.commit(make_run(Kept(2, files=(shared,)), "b"))
    await durable.delete_run("a")
    assert not path_of(durable, own).exists()
    assert await durable.load_file(shared) == PIXEL
    await durable.delete_run("b")
    assert not path_of(durable, shared).exists()


async def test_files_of_all_kinds_of_values_are_counted(sqlite: SQLiteStore) -> None:
    images = [sqlite.keep_file(bytes([number]), suffix=".png") for number in range(4)]
    batch = make_run(Kept(1, files=(images[0], images[0])))
    given: dict[str, Any] = {"run_id": "run-1", "at": BEGIN, "step_id": "s", "attempt": 1}
    batch.events += [
        e.ToolFinished(
            seq=4, call_id="c", tool_name="t", execution_time=1.0, result=Kept(2, files=(images[1],)), **given
        ),
        e.StepExpanded(seq=5, items=(e.ItemOutline(key="k", value=Kept(3, files=(images[2],))),), **given),
    ]
    batch.states, batch.touched = {}, {}
    large = sqlite.keep("large " * 20_000)
    batch.cache = [cached("k", Kept(blob=large.blob, files=(images[0], images[3])))]
    sqlite.commit(batch)
    assert await sqlite.integrity_check(full=True) == []
    uses = dict(await sqlite._reading().fetch("SELECT sha256, uses FROM blobs"))
    assert large.blob is not None
    assert uses == {**{image.name: 1 for image in images[1:]}, images[0].name: 3, large.blob.name: 1}
    size, runs = await sqlite.measure(["run-1"])
    assert size.freed_by(runs.values()) == runs["run-1"].rows + images[1].bytes + images[2].bytes
    await sqlite.delete_run("run-1")
    assert await sqlite.integrity_check(full=True) == []
    assert [path_of(sqlite, image).exists() for image in images] == [True, False, False, True]
    await sqlite.clear_cache()
    assert await sqlite._reading().fetch("SELECT * FROM blobs") == []


async def test_a_cached_result_whose_file_is_gone_is_no_hit(durable: SQLiteStore | JSONLStore) -> None:
    image = durable.keep_file(PIXEL, suffix=".png")
    durable.commit(Batch(cache=[cached("k", Kept(1, files=(image,)))]))
    found = await durable.find_cached("k")
    assert found is not None
    assert found.output.files == (image,)
    path_of(durable, image).unlink()
    assert await durable.find_cached("k") is None


async def test_a_cached_result_that_is_looked_at_keeps_its_files(durable: SQLiteStore | JSONLStore) -> None:
    image = durable.keep_file(PIXEL, suffix=".png")
    durable.commit(Batch(cache=[cached("k", Kept(1, files=(image,)))]))
    make_old(durable, image)
    assert await durable.find_cached("k") is not None
    await durable.clear_cache()
    assert path_of(durable, image).exists(), "the event that refers to it may be on its way"


async def test_a_file_without_a_result_is_swept_after_a_day(durable: SQLiteStore | JSONLStore) -> None:
    """An attempt keeps files while it goes on, which may be for hours, and refers to them when it ends."""
    used, orphan = durable.keep_file(PIXEL, suffix=".png"), durable.keep_file(b"orphan")
    durable.commit(make_run(Kept(1, files=(used,))))
    make_old(durable, used)
    make_old(durable, orphan, DAY - 60)
    assert await durable.sweep_files() == 0
    durable.keep_file(b"orphan")
    assert make_old(durable, orphan, DAY - 60).exists(), "it was kept once more, and is as good as new"
    make_old(durable, orphan, 2 * DAY)
    assert await durable.sweep_files() == 1
    assert [path_of(durable, file).exists() for file in (used, orphan)] == [True, False]


async def test_writes_that_a_kill_cut_off_are_swept(sqlite: SQLiteStore) -> None:
    image = sqlite.keep_file(PIXEL, suffix=".png")
    cut_off = path_of(sqlite, image).with_name(f".{image.sha256[:16]}.0123abcd")
    cut_off.write_bytes(PIXEL[:10])
    os.utime(cut_off, (1, 1))
    assert await sqlite.sweep_files() == 1
    assert not cut_off.exists()


async def test_deleting_leaves_a_file_that_an_attempt_beside_it_has_just_kept(tmp_path: Path) -> None:
    one, two = SQLiteStore(tmp_path / "runs.db"), SQLiteStore(tmp_path / "runs.db")
    await one.open()
    await two.open()
    lock = two.acquire_run("busy")
    image = one.keep_file(PIXEL, suffix=".png")
    one.commit(make_run(Kept(1, files=(image,))))
    assert two.keep_file(PIXEL, suffix=".png") == image
    make_old(one, image, 3600.0)
    await one.delete_run("run-1")
    two.commit(make_run(Kept(1, files=(image,)), "busy"))
    assert await two.load_file(image) == PIXEL
    lock.release()
    await one.close()
    await two.close()


async def test_doctor_tells_of_files_that_are_gone_damaged_or_counted_wrongly(sqlite: SQLiteStore) -> None:
    image = sqlite.keep_file(PIXEL, suffix=".png")
    sqlite.commit(make_run(Kept(1, files=(image,))))
    await sqlite.write(lambda db: db.execute("UPDATE blobs SET uses = 5"))
    (problem,) = await sqlite.integrity_check(full=True)
    assert problem.endswith("... is referred to 1 times, but 5 are counted")
    await sqlite.write(lambda db: db.execute("UPDATE blobs SET uses = 1"))
    path = path_of(sqlite, image)
    path.write_bytes(b"other")
    assert await sqlite.integrity_check(full=True) == [f"the file of an output is damaged: {path}"]
    path.unlink()
    assert await sqlite.integrity_check() == [f"the file of an output is missing: {path} (1 uses)"]


@pytest.mark.parametrize("where", ["keep", "commit"])
async def test_a_kill_between_file_and_event_leaves_a_file_that_is_swept_or_a_whole_result(
    tmp_path: Path, where: str
) -> None:
    code = f"""
        import asyncio, os, signal, sys
        from stepchain_tui.run.values import Kept
        from stepchain_tui.store import SQLiteStore
        from tests.unit.test_store_files import PIXEL, make_run

        async def main():
            store = SQLiteStore(sys.argv[1])
            await store.open()
            image = store.keep_file(PIXEL, suffix=".png")
            if {where == "commit"}:
                store.commit(make_run(Kept(1, files=(image,))))
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    path = tmp_path / "runs.db"
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    store = SQLiteStore(path)
    await store.open()
    assert await store.integrity_check(full=True) == []
    reference = BlobReference(sha256=hashlib.sha256(PIXEL).hexdigest(), suffix=".png", bytes=len(PIXEL))
    make_old(store, reference)
    assert await store.sweep_files() == (where == "keep")
    if where == "commit":
        assert await store.load_file(reference) == PIXEL
    await store.close()
