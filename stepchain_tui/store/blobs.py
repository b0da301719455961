"""Large values: one file for each, named by its content.

A file is complete and in place before the event that refers to it is committed, so a crash in between leaves at most
a file that nobody refers to, which `sweep` removes. Files are shared by all that have the same content; the table
`blobs` counts the events and the entries of the cache that refer to each.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
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
_WORST_ESCAPE = 6
_SHORT = INLINE_LIMIT // _WORST_ESCAPE - 2
_NOTHING = Kept()


class Blobs(Protocol):
    """Where the bytes of large values go."""

    def put(self, sha256: str, data: bytes) -> None:
        """Keep `data` under its hash."""

    def get(self, sha256: str) -> bytes:
        """Return what was kept under that hash. Raises StoreError."""


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


def value_of(kept: Kept, blobs: Callable[[], Blobs]) -> Any:
    """Return what was kept; reads and checks the file where there is one."""
    return kept.value if kept.blob is None else decode_json(blobs().get(kept.blob.sha256))


class MemoryBlobs:
    """Large values in memory."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}

    def put(self, sha256: str, data: bytes) -> None:
        """Keep `data` under its hash."""
        self._data[sha256] = data

    def get(self, sha256: str) -> bytes:
        """Return what was kept under that hash. Raises StoreError."""
        try:
            return self._data[sha256]
        except KeyError:
            raise _missing(sha256, "memory") from None


class FileBlobs:
    """Large values as files `ab/abcdef...` in a folder beside the store.

    Args:
        folder: Made when it is first needed.
        sync: Whether a file must survive a power cut.
    """

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self.folder = folder
        self._sync = sync

    def path(self, sha256: str) -> Path:
        """Return where the value of that hash is."""
        return self.folder / sha256[:2] / sha256

    def put(self, sha256: str, data: bytes) -> None:
        """Write the file for `data` unless it is there; whole or not at all."""
        path = self.path(sha256)
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

    def get(self, sha256: str) -> bytes:
        """Return the bytes of that hash.

        Raises:
            StoreError: The file is gone, or is not what was written.
        """
        path = self.path(sha256)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise _missing(sha256, str(path)) from None
        except OSError as error:
            raise store_error(error, str(path)) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError(
                f"the file of a large output is damaged: {path}",
                hint="Run the step again, or bring the file back from a copy.",
            )
        return data

    def touch(self, sha256: str) -> bool:
        """Keep the file of a value from being swept for a while, and return whether it is there."""
        try:
            os.utime(self.path(sha256))
        except OSError:
            return self.path(sha256).exists()
        return True

    def remove(self, hashes: Iterable[str], *, older_than: float = GRACE_SECONDS) -> int:
        """Remove files that nobody refers to any more and return their number; fresh ones are left to `sweep`."""
        return sum(self._remove(self.path(sha256), older_than) for sha256 in hashes)

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


def _missing(sha256: str, place: str) -> StoreError:
    return StoreError(
        f"the file of a large output is missing: {place}",
        hint=f"Run the step again, or bring the file {sha256[:12]}... back from a copy.",
    )
