"""Large values, and bytes that belong to results: one file for each, named by its content.

The name is the hash, for bytes with the end of a file's name after it, so that a viewer knows what they are. A file
is complete and in place before the event that refers to it is committed, so a crash in between leaves at most a file
that nobody refers to, which `sweep` removes. Files are shared by all that have the same content; the table `blobs`
counts the events and the entries of the cache that refer to each.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from stepchain_tui.core.errors import StoreError
from stepchain_tui.core.values import decode_json, encode_json, to_json_value
from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType
from stepchain_tui.run.values import INLINE_LIMIT, OUTPUT_LIMIT, PREVIEW_LENGTH, BlobReference, Kept
from stepchain_tui.store.gate import Gate
from stepchain_tui.store.problems import store_error

GRACE_SECONDS = 600.0
"""A file that nobody refers to is left alone for this long: its event may be about to be committed."""
BYTES_GRACE_SECONDS = 24 * 3600.0
"""The same for bytes: they are kept while an attempt goes on, and its event comes when it ends."""
NAMELESS = ".bin"
"""The end of the name of bytes of which nobody knows what they are."""
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,10}")
_HASH_LENGTH = 64
_WORST_ESCAPE = 6
_SHORT = INLINE_LIMIT // _WORST_ESCAPE - 2
_NOTHING = Kept()


class Blobs(Protocol):
    """Where large values and bytes go."""

    def put(self, name: str, data: bytes) -> None:
        """Keep `data` under its name."""

    def get(self, name: str) -> bytes:
        """Return what was kept under that name. Raises StoreError."""


def keep_value(value: Any, gates: Iterable[Gate], blobs: Callable[[], Blobs]) -> Kept:
    """Return a value as events carry it; see `AbstractStore.keep`."""
    if value is None:
        return _NOTHING
    kind = type(value)
    if kind is bool or (kind is int and -(2**63) <= value < 2**63):
        return Kept(value)
    value = to_json_value(value)
    data: bytes | None = None
    for gate in gates:
        data = encode_json(value)
        if gate.hit(data):
            value, data = gate.value(value), None
    if kind is str and len(value) < _SHORT:
        return Kept(value)
    data = data or encode_json(value)
    if len(data) <= INLINE_LIMIT:
        return Kept(value)
    if len(data) > OUTPUT_LIMIT:
        raise AttemptError(
            f"the output is {len(data):,} bytes of JSON, more than the {OUTPUT_LIMIT:,} that a step may return",
            error_type=ErrorType.USER_ERROR,
            hint="Write it to a file and return the file's path.",
        )
    digest = hashlib.sha256(data).hexdigest()
    blobs().put(digest, data)
    preview = data[: 4 * PREVIEW_LENGTH].decode("utf-8", "ignore")[:PREVIEW_LENGTH]
    return Kept(blob=BlobReference(sha256=digest, bytes=len(data), preview=preview))


def keep_bytes(data: bytes, suffix: str, gates: Iterable[Gate], blobs: Callable[[], Blobs]) -> BlobReference:
    """Return the reference to bytes that were put into a file; see `AbstractStore.keep_file`."""
    suffix = suffix.lower() or NAMELESS
    if _SUFFIX.fullmatch(suffix) is None:
        raise AttemptError(
            f"{suffix[:40]!r} cannot be the end of a file's name",
            error_type=ErrorType.USER_ERROR,
            hint="Give a dot and 1 to 10 letters or digits, such as '.png', or nothing.",
        )
    for gate in gates:
        data = gate.data(data)
    if len(data) > OUTPUT_LIMIT:
        raise AttemptError(
            f"a file of {len(data):,} bytes is larger than the {OUTPUT_LIMIT:,} that are kept of one",
            error_type=ErrorType.USER_ERROR,
            hint="Write it to a folder of your own and return its path.",
        )
    reference = BlobReference(sha256=hashlib.sha256(data).hexdigest(), suffix=suffix, bytes=len(data))
    blobs().put(reference.name, data)
    return reference


def value_of(kept: Kept, blobs: Callable[[], Blobs]) -> Any:
    """Return what was kept; reads and checks the file where there is one."""
    return kept.value if kept.blob is None else decode_json(blobs().get(kept.blob.name))


class MemoryBlobs:
    """Large values in memory."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        """Keep `data` under its name."""
        self._data[name] = data

    def get(self, name: str) -> bytes:
        """Return what was kept under that name. Raises StoreError."""
        try:
            return self._data[name]
        except KeyError:
            raise _missing(name, "memory") from None


class FileBlobs:
    """Large values and bytes as files `ab/abcdef...` in a folder beside the store.

    Args:
        folder: Made when it is first needed.
        sync: Whether a file must survive a power cut.
    """

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self.folder = folder
        self._sync = sync

    def path(self, name: str) -> Path:
        """Return where the file of that name is."""
        return self.folder / name.lstrip(".")[:2] / name

    def put(self, name: str, data: bytes) -> None:
        """Write the file for `data` unless it is there; whole or not at all."""
        path = self.path(name)
        try:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size == len(data):
                    os.utime(path)
                    return
            self.folder.mkdir(mode=0o700, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._write(path, data)
        except OSError as error:
            raise store_error(error, str(self.folder)) from error

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f".{path.name[:16]}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                if self._sync:
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        if self._sync:
            folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def get(self, name: str) -> bytes:
        """Return the bytes of that name.

        Raises:
            StoreError: The file is gone, or is not what was written.
        """
        path = self.path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise _missing(name, str(path)) from None
        except OSError as error:
            raise store_error(error, str(path)) from error
        if hashlib.sha256(data).hexdigest() != hash_in(name):
            raise StoreError(
                f"the file of {what_is(name)} is damaged: {path}",
                hint="Run the step again, or bring the file back from a copy.",
            )
        return data

    def touch(self, name: str) -> bool:
        """Keep a file from being swept for a while, and return whether it is there."""
        try:
            os.utime(self.path(name))
        except OSError:
            return self.path(name).exists()
        return True

    def touch_all(self, kept: Kept) -> bool:
        """Keep all files that a value needs from being swept for a while, and return whether they are there."""
        return all(self.touch(reference.name) for reference in kept.references)

    def remove(self, names: Iterable[str], *, alone: bool = False) -> int:
        """Remove files that nobody refers to any more and return their number.

        Fresh ones are left to a later sweep, unless we are `alone`: then no event that refers to one is on its way.
        """
        return sum(self._remove(self.path(name), 0.0 if alone else _grace(name)) for name in names)

    def _remove(self, path: Path, older_than: float) -> bool:
        """Remove a file unless it is fresh.

        It is moved away first and then looked at once more: whoever has found it in between has made it fresh, and
        whoever looks for it now writes it anew.
        """
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime < older_than:
                return False
            gone = path.with_name(f".{path.name[:16]}.{secrets.token_hex(4)}")
            path.rename(gone)
            if time.time() - gone.stat().st_mtime < older_than:
                gone.replace(path)
                return False
            gone.unlink()
            return True
        return False

    def names(self) -> list[str]:
        """Return the names of all files, those of unfinished writes included."""
        if not self.folder.is_dir():
            return []
        return [file.name for part in self.folder.iterdir() if part.is_dir() for file in part.iterdir()]


def hash_in(name: str) -> str:
    """Return the hash in a file's name."""
    return name[:_HASH_LENGTH]


def _is_of_bytes(name: str) -> bool:
    return len(name) > _HASH_LENGTH


def _grace(name: str) -> float:
    return BYTES_GRACE_SECONDS if _is_of_bytes(name) else GRACE_SECONDS


def what_is(name: str) -> str:
    """Return what a file is, as messages say it."""
    return "an output" if _is_of_bytes(name) else "a large output"


def _missing(name: str, place: str) -> StoreError:
    return StoreError(
        f"the file of {what_is(name)} is missing: {place}",
        hint=f"Run the step again, or bring the file {name[:12]}... back from a copy.",
    )
