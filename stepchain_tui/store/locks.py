"""The lock that makes a process the owner of a run, and how others see whether that process lives.

POSIX record locks (`fcntl`), not `flock`: a `flock` belongs to the open file, which a forked child shares, so that
a worker which outlives its owner would keep the run locked. A record lock belongs to the process alone and ends
with it. Its price is that closing *any* descriptor of the file lets go of it, so one table for the whole process
holds the one descriptor of each lock, and a run that is in the table is never opened again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import sys
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from stepchain_tui.core.errors import RunLockedError, StoreError
from stepchain_tui.store.base import RunLock
from stepchain_tui.store.problems import store_error

T = TypeVar("T")

_held: dict[str, int] = {}
_guard = threading.RLock()
_MAC = sys.platform == "darwin"
_FLOCK = "qqihh" if _MAC else "hhqqi"


def _after_fork() -> None:
    global _guard
    _guard = threading.RLock()
    for descriptor in _held.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)
    for descriptor, _ in _open_stores.values():
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()
    _open_stores.clear()


os.register_at_fork(after_in_child=_after_fork)


def lock_path(folder: Path, run_id: str) -> Path:
    """Return the lock file of a run within a store's folder of locks."""
    return folder / f"{hashlib.sha256(run_id.encode()).hexdigest()[:32]}.lock"


def _probe(descriptor: int) -> int | None:
    """Return the pid of the process that holds the file's lock (0: not to be known), or None."""
    read, begin = fcntl.F_RDLCK, os.SEEK_SET
    asked = (0, 0, 0, read, begin) if _MAC else (read, begin, 0, 0, 0)
    answer = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, struct.pack(_FLOCK, *asked)))
    kind, pid = (answer[3], answer[2]) if _MAC else (answer[0], answer[4])
    return None if kind == fcntl.F_UNLCK else max(0, pid)


def is_locked(path: Path) -> bool:
    """Return whether a living process, this one included, holds the lock; takes and creates nothing."""
    with _guard:
        if str(path) in _held:
            return True
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return _probe(descriptor) is not None
        finally:
            os.close(descriptor)


def _written_pid(descriptor: int) -> int:
    words = os.pread(descriptor, 200, 0).split()
    return int(words[0]) if words and words[0].isdigit() else 0


@lru_cache(maxsize=1)
def _record_of(pid: int) -> bytes:
    import psutil

    return f"{pid} {psutil.Process(pid).create_time():.6f}\n".encode().ljust(64)


class FileRunLock(RunLock):
    """A run's lock as an OS lock on a file; the file stays, with the last owner's pid and start time in it."""

    def __init__(self, run_id: str, path: Path) -> None:
        self.run_id = run_id
        self._path = str(path)
        self._pid = os.getpid()

    def release(self) -> None:
        """Let go; may be called twice, and does nothing in a forked child."""
        with _guard:
            if os.getpid() == self._pid and (descriptor := _held.pop(self._path, None)) is not None:
                os.close(descriptor)
            self._pid = -1


def acquire(folder: Path, run_id: str, location: str) -> FileRunLock:
    """Take the lock of a run for this process.

    Raises:
        RunLockedError: A living process, perhaps this one, holds it.
        StoreError: The lock's file cannot be made.
    """
    path = lock_path(folder, run_id)
    with _guard:
        if str(path) in _held:
            raise RunLockedError(run_id, os.getpid())
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise store_error(error, location) from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = _probe(descriptor) or _written_pid(descriptor)
            os.close(descriptor)
            if isinstance(error, BlockingIOError | PermissionError):
                raise RunLockedError(run_id, pid) from None
            raise StoreError(
                f"the store {location} lies where files cannot be locked: {error.strerror}",
                hint="Put the store on a local disk with --store.",
            ) from error
        _held[str(path)] = descriptor
        try:
            os.pwrite(descriptor, _record_of(os.getpid()), 0)
        except OSError as error:
            os.close(_held.pop(str(path)))
            raise store_error(error, location) from error
        return FileRunLock(run_id, path)


# --- who has the store open for writing

_open_stores: dict[str, tuple[int, int]] = {}
"""Path of a store's lock -> descriptor, and how many stores of this process are open."""


def enter(folder: Path, location: str) -> bool:
    """Note that this process has the store open for writing; return whether no other process has.

    Raises:
        StoreError: The folder for the locks cannot be made.
    """
    path = folder / "open.lock"
    with _guard:
        if (entry := _open_stores.get(str(path))) is not None:
            _open_stores[str(path)] = (entry[0], entry[1] + 1)
            return False
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise store_error(error, location) from error
        alone = True
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            alone = False
        with contextlib.suppress(OSError):
            fcntl.lockf(descriptor, fcntl.LOCK_SH)  # others hold more than that for a moment only
        _open_stores[str(path)] = (descriptor, 1)
        return alone


def while_alone(folder: Path, action: Callable[[bool], T]) -> T:
    """Return `action(alone)`: whether nobody but the caller may be writing the store, and none can begin meanwhile.

    Whoever carries out a run holds its lock, also in this process.
    """
    path = str(folder / "open.lock")
    with _guard:
        descriptor, count = _open_stores.get(path, (-1, 0))
        alone = count == 1 and not any(Path(held).parent == folder for held in _held)
        if alone:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                alone = False
        try:
            return action(alone)
        finally:
            if alone:
                fcntl.lockf(descriptor, fcntl.LOCK_SH)


def leave(folder: Path) -> None:
    """Note that one store of this process was closed."""
    path = str(folder / "open.lock")
    with _guard:
        if (entry := _open_stores.pop(path, None)) is None:
            return
        descriptor, count = entry
        if count > 1:
            _open_stores[path] = (descriptor, count - 1)
        else:
            os.close(descriptor)
