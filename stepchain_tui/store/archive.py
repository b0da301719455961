"""A run as one file that can be carried to another store: its format, and writing it.

The file is gzip of JSON lines (`zcat FILE | head` shows them): a header, the run's events as they are, its log lines
as a `JSONLStore` writes them, its large values, and the files of its results. There are no places of files in it. The
header says how much there is and has the hash of all lines after it; it has a gzip member of its own, of fixed size,
because it is written last. What runs share, and commands that wait for an answer, stay behind.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import secrets
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec

from stepchain_tui.core.errors import StoreError, UsageError
from stepchain_tui.core.values import encode_json
from stepchain_tui.run.events import decode_event
from stepchain_tui.run.values import BlobReference, Kept, Sha256, Suffix
from stepchain_tui.store.base import AbstractStore
from stepchain_tui.store.lines import LoggedLine, encoded
from stepchain_tui.store.problems import store_error
from stepchain_tui.store.rows import kept_in

FORMAT = "stepchain run"
VERSION = 2
"""Of the format; a higher one was written by a newer version."""
WITHOUT_FILES = 1
"""The version of a run whose results have no files, which older programs can read."""
_PAGE = 2_000
_LARGEST = 2**63 - 1
_LEVEL = 6


class ArchiveHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line.

    Attributes:
        format: Says what this is.
        version: The format's.
        program: The version of StepChain that wrote it.
        run_id: The run.
        exported_at: When it was written, aware.
        events: How many events follow.
        lines: How many log lines follow those.
        values: How many large values follow those.
        files: How many files of results follow those.
        bytes: How many bytes all that is.
        sha256: Their hash.
    """

    format: str
    version: int
    program: str
    run_id: str
    exported_at: datetime
    events: int
    lines: int
    values: int
    bytes: int
    sha256: Sha256
    files: int = 0


class ValueLine(msgspec.Struct, frozen=True, kw_only=True, tag="value", tag_field="type"):
    """One large value: its JSON as the store has it, and the hash of that."""

    sha256: Sha256
    value: msgspec.Raw


class FileLine(msgspec.Struct, frozen=True, kw_only=True, tag="file", tag_field="type"):
    """One file of a result: the hash of its bytes, the end of its name, and the bytes as base64."""

    sha256: Sha256
    suffix: Annotated[Suffix, msgspec.Meta(min_length=1)]
    data: bytes


class _Body:
    """Writes the lines after the header, and counts and hashes them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._compress = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self.bytes = 0

    def add(self, line: bytes) -> None:
        data = line + b"\n"
        self.bytes += len(data)
        self._hash.update(data)
        self._file.write(self._compress.compress(data))

    def end(self) -> str:
        """Write what is left and return the hash of all lines."""
        self._file.write(self._compress.flush())
        return self._hash.hexdigest()


async def export_run(
    store: AbstractStore, run_id: str, path: Path, *, program: str, now: datetime, replace: bool = False
) -> ArchiveHeader:
    """Write a run, all of it as it is now, to a file for the user alone; the file is there whole or not at all.

    Args:
        store: An open store.
        run_id: The run.
        path: The file.
        program: The version of StepChain.
        now: The moment.
        replace: Whether a file that is there is replaced.

    Returns:
        What the file's header says.

    Raises:
        UsageError: The file cannot be made, or there is one.
        StoreError: Part of the run cannot be read.
    """
    descriptor, temporary = _begin(path, replace=replace)
    try:
        with os.fdopen(descriptor, "wb") as file:
            header = await _write(store, run_id, file, program, now)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise store_error(error, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return header


def _begin(path: Path, *, replace: bool) -> tuple[int, Path]:
    """Return a new file beside `path`, open for writing, and its path. Raises UsageError."""
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}")
    try:
        is_folder = path.is_dir()
        if is_folder or (path.exists() and not replace):
            what = "a folder" if is_folder else "there already"
            raise UsageError(f"{path} is {what}", hint="Name another file, or give --force to replace a file.")
        return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), temporary
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint="Name a file in another folder.") from None


async def _write(store: AbstractStore, run_id: str, file: BinaryIO, program: str, now: datetime) -> ArchiveHeader:
    header = ArchiveHeader(
        format=FORMAT,
        version=WITHOUT_FILES,
        program=program,
        run_id=run_id,
        exported_at=now,
        events=_LARGEST,
        lines=_LARGEST,
        values=_LARGEST,
        bytes=_LARGEST,
        sha256="0" * 64,
    )
    size = len(encode_json(header))  # the largest numbers leave room for the number of files
    file.write(_head(header, size))
    body = _Body(file)
    values: dict[str, BlobReference] = {}
    files: dict[str, BlobReference] = {}
    events = await _write_events(store, run_id, body.add, values, files)
    lines = 0
    async for line in _log_lines(store, run_id):
        body.add(line)
        lines += 1
    for reference in values.values():
        body.add(await _value_line(store, reference))
    for reference in files.values():
        data = await store.load_file(reference)
        body.add(encode_json(FileLine(sha256=reference.sha256, suffix=reference.suffix, data=data)))
    digest = body.end()
    header = msgspec.structs.replace(
        header,
        version=VERSION if files else WITHOUT_FILES,
        events=events,
        lines=lines,
        values=len(values),
        files=len(files),
        bytes=body.bytes,
        sha256=digest,
    )
    file.seek(0)
    file.write(_head(header, size))
    return header


def _head(header: ArchiveHeader, size: int) -> bytes:
    """Return the header as a gzip member whose length depends on `size` alone."""
    return gzip.compress(encode_json(header).ljust(size) + b"\n", compresslevel=0, mtime=0)


async def _write_events(
    store: AbstractStore,
    run_id: str,
    add: Callable[[bytes], None],
    values: dict[str, BlobReference],
    files: dict[str, BlobReference],
) -> int:
    """Write a run's events and note the large values and files that they refer to; return their number."""
    last = 0
    async for seq, kind, _, data in store.read_raw_events(run_id):
        if seq != last + 1 or not kind:
            raise StoreError(
                f"event {last + 1} of run '{run_id}' is missing or cannot be read, so the run cannot be exported whole",
                hint="`stepchain show` reads what is left of it; `stepchain doctor` tells what is damaged.",
            )
        event = decode_event(data)
        for kept in kept_in(event):
            if kept.blob is not None:
                values.setdefault(kept.blob.name, kept.blob)
            files.update({reference.name: reference for reference in kept.files})
        add(data)
        last = seq
    return last


async def _log_lines(store: AbstractStore, run_id: str) -> AsyncIterator[bytes]:
    last, end = 0, await store.count_log(run_id)
    while last < end:
        lines = await store.read_log(run_id, after=last, limit=min(_PAGE, end - last))
        if not lines:
            return
        for line in lines:
            yield encoded(
                LoggedLine(
                    at=line.at,
                    step_id=line.step_id,
                    attempt=line.attempt,
                    item=line.item,
                    stream=line.stream,
                    text=line.text,
                )
            )
        last = lines[-1].n


async def _value_line(store: AbstractStore, reference: BlobReference) -> bytes:
    data = encode_json(await store.load_value(Kept(blob=reference)))
    if hashlib.sha256(data).hexdigest() != reference.sha256:
        raise StoreError(
            f"the large output {reference.sha256[:12]}... is not what was stored",
            hint="`stepchain doctor` tells what is damaged.",
        )
    return encode_json(ValueLine(sha256=reference.sha256, value=msgspec.Raw(data)))
