"""A run with files as one file: what is taken from one store to another, and which files are refused."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from stepchain_tui.core.errors import StoreError
from stepchain_tui.run import events as e
from stepchain_tui.run.values import OUTPUT_LIMIT, BlobReference, Kept
from stepchain_tui.store import AbstractStore, SQLiteStore
from stepchain_tui.store.archive import export_run
from stepchain_tui.store.archive_check import ArchiveError
from stepchain_tui.store.importing import import_run
from tests.unit.test_store_files import BEGIN, PIXEL, make_run, make_store, path_of


@pytest.fixture(params=["sqlite", "jsonl", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AbstractStore]:
    one = make_store(request.param, tmp_path)
    await one.open()
    yield one
    await one.close()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SQLiteStore]:
    one = SQLiteStore(tmp_path / "runs.db")
    await one.open()
    yield one
    await one.close()


@pytest.fixture(params=["sqlite", "jsonl", "memory"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AbstractStore]:
    one = make_store(request.param, tmp_path / "to")
    await one.open()
    yield one
    await one.close()


async def test_a_run_is_carried_elsewhere_with_its_files(
    store: AbstractStore, target: AbstractStore, tmp_path: Path
) -> None:
    image, big = store.keep_file(PIXEL, suffix=".png"), store.keep_file(bytes(OUTPUT_LIMIT), suffix=".bin")
    large = store.keep("large " * 20_000)
    output = Kept(blob=large.blob, files=(image, big, image))
    store.commit(make_run(output))
    await store.flush()
    header = await export_run(store, "run-1", tmp_path / "a.run", program="1", now=BEGIN)
    assert (header.version, header.values, header.files) == (2, 1, 2)
    await import_run(target, tmp_path / "a.run", now=BEGIN)
    assert (await target.load_state("run-1")).steps["s"].output == output
    assert path_of(target, image).read_bytes() == PIXEL
    assert await target.load_file(big) == bytes(OUTPUT_LIMIT)
    if isinstance(target, SQLiteStore):
        assert await target.integrity_check(full=True) == []
    await target.delete_run("run-1")


async def test_a_run_without_files_is_exported_as_older_programs_read_it(sqlite: SQLiteStore, tmp_path: Path) -> None:
    sqlite.commit(make_run(sqlite.keep("large " * 20_000)))
    await export_run(sqlite, "run-1", tmp_path / "a.run", program="1", now=BEGIN)
    lines = gzip.decompress((tmp_path / "a.run").read_bytes()).splitlines()
    header = json.loads(lines[0])
    assert (header["version"], header["values"]) == (1, 1)
    assert list(header) == [
        *("format", "version", "program", "run_id", "exported_at"),
        *("events", "lines", "values", "bytes", "sha256"),
    ]
    assert set(json.loads(lines[-1])) == {"type", "sha256", "value"}
    assert json.loads(lines[3])["output"].keys() == {"blob"}
    assert json.loads(lines[3])["output"]["blob"].keys() == {"sha256", "bytes", "preview"}


async def test_a_run_whose_file_is_gone_is_not_exported(sqlite: SQLiteStore, tmp_path: Path) -> None:
    image = sqlite.keep_file(PIXEL, suffix=".png")
    sqlite.commit(make_run(Kept(1, files=(image,))))
    path_of(sqlite, image).unlink()
    with pytest.raises(StoreError, match="missing"):
        await export_run(sqlite, "run-1", tmp_path / "a.run", program="1", now=BEGIN)
    assert not (tmp_path / "a.run").exists()


HASH = hashlib.sha256(PIXEL).hexdigest()
GOOD = {"type": "file", "sha256": HASH, "suffix": ".png", "data": base64.b64encode(PIXEL).decode()}
REFERENCE = {"sha256": HASH, "suffix": ".png", "bytes": len(PIXEL)}


def forge(path: Path, given: list[Any], references: list[Any] | None = None, **header: Any) -> Path:
    """Write an exported run that is good in all that is not given."""
    batch = make_run(Kept(1))
    events = [json.loads(e.encode_event(event)) for event in batch.events]
    events[-1]["output"] = {"value": 1, "files": [REFERENCE] if references is None else references}
    body = b"".join(json.dumps(line).encode() + b"\n" for line in (*events, *given))
    head = {
        "format": "stepchain run",
        "version": 2,
        "program": "1",
        "run_id": "run-1",
        "exported_at": BEGIN.isoformat(),
        "events": len(events),
        "lines": 0,
        "values": 0,
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "files": len(given),
        **header,
    }
    path.write_bytes(gzip.compress(json.dumps(head).encode() + b"\n" + body))
    return path


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a hash that lies": (
        lambda p: forge(p, [{**GOOD, "data": base64.b64encode(b"other").decode()}]),
        r"the file .* is not what its hash says",
    ),
    "another end of its name": (lambda p: forge(p, [{**GOOD, "suffix": ".exe"}]), "nothing in it refers to the file"),
    "an end that is a path": (lambda p: forge(p, [{**GOOD, "suffix": "/../x"}]), "file 1 cannot be read"),
    "an end with capitals": (lambda p: forge(p, [{**GOOD, "suffix": ".PNG"}]), "file 1 cannot be read"),
    "no end": (lambda p: forge(p, [{**GOOD, "suffix": ""}]), "file 1 cannot be read"),
    "a reference without an end": (
        lambda p: forge(p, [GOOD], [{**REFERENCE, "suffix": ""}]),
        "nothing in it refers to the file",
    ),
    "a reference that is a path": (
        lambda p: forge(p, [GOOD], [{**REFERENCE, "suffix": ".png/../../x"}]),
        r"event 3 cannot be read: .*suffix",
    ),
    "a reference's hash that is a path": (
        lambda p: forge(p, [GOOD], [{**REFERENCE, "sha256": "../" * 21 + "x"}]),
        r"event 3 cannot be read: .*sha256",
    ),
    "a file twice": (lambda p: forge(p, [GOOD, GOOD]), "is in it twice"),
    "a file that nothing refers to": (lambda p: forge(p, [GOOD], []), "nothing in it refers to the file"),
    "a file that is missing": (lambda p: forge(p, [], version=1), r"the file .* is not in it"),
    "a size that lies": (lambda p: forge(p, [GOOD], [{**REFERENCE, "bytes": 5}]), "is not as long as it says"),
    "bytes that are none": (lambda p: forge(p, [{**GOOD, "data": "%%%"}]), "file 1 cannot be read"),
    "bytes as a number": (lambda p: forge(p, [{**GOOD, "data": 5}]), "file 1 cannot be read"),
    "a value instead": (
        lambda p: forge(p, [{"type": "value", "sha256": HASH, "value": 1}]),
        "file 1 cannot be read",
    ),
    "files in the format without them": (lambda p: forge(p, [GOOD], version=1), "its header counts files"),
    "fewer than none": (lambda p: forge(p, [GOOD], files=-1), "less than nothing"),
    "more than there are": (lambda p: forge(p, [GOOD], files=2), "ends before file 2 of 2|longer than its header"),
    "fewer than there are": (lambda p: forge(p, [GOOD], files=0), "more in it than its header says|not whole"),
    "a file that is too large": (
        lambda p: forge(
            p,
            [
                {
                    "type": "file",
                    "sha256": hashlib.sha256(bytes(OUTPUT_LIMIT + 1)).hexdigest(),
                    "suffix": ".bin",
                    "data": base64.b64encode(bytes(OUTPUT_LIMIT + 1)).decode(),
                }
            ],
            [
                {
                    "sha256": hashlib.sha256(bytes(OUTPUT_LIMIT + 1)).hexdigest(),
                    "suffix": ".bin",
                    "bytes": OUTPUT_LIMIT + 1,
                }
            ],
        ),
        "is not as long as it says",
    ),
}


async def test_a_good_file_made_by_the_same_hand_is_taken(target: AbstractStore, tmp_path: Path) -> None:
    await import_run(target, forge(tmp_path / "a.run", [GOOD]), now=BEGIN)
    assert await target.load_file(BlobReference(sha256=HASH, suffix=".png", bytes=len(PIXEL))) == PIXEL


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_file_is_refused_with_one_word_and_nothing_is_stored(
    name: str, sqlite: SQLiteStore, tmp_path: Path
) -> None:
    make, told = HOSTILE[name]
    with pytest.raises(ArchiveError, match=told) as caught:
        await import_run(sqlite, make(tmp_path / "a.run"), now=BEGIN)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert await sqlite.list_runs() == []
    assert sqlite.folder is not None
    assert not sqlite.folder.exists()
