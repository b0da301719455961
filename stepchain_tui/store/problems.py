"""What SQLite and the disk complain about, in the words of whoever has to act."""

from __future__ import annotations

import errno
import sqlite3

from stepchain_tui.core.errors import StoreError

_DOCTOR = "`stepchain doctor` looks at the whole store; keep a copy of the file before you try anything."

_BY_CODE: dict[str, tuple[str, str]] = {
    "SQLITE_FULL": ("the disk is full", "Make room on the disk, then resume the run."),
    "SQLITE_READONLY": ("it may only be read", "Give yourself permission to write it, or choose another with --store."),
    "SQLITE_BUSY": (
        "another process has kept it locked for too long",
        "End the process that holds it, then try again.",
    ),
    "SQLITE_LOCKED": ("another connection has kept it locked", "End the process that holds it, then try again."),
    "SQLITE_CORRUPT": ("it is damaged (database disk image is malformed)", _DOCTOR),
    "SQLITE_NOTADB": ("it is not a database", "Name another file with --store or $STEPCHAIN_STORE."),
    "SQLITE_CANTOPEN": ("it cannot be opened", "Look at the permissions of the file and of its folder."),
    "SQLITE_PERM": ("there is no permission to use it", "Look at the permissions of the file and of its folder."),
    "SQLITE_AUTH": ("there is no permission to use it", "Look at the permissions of the file and of its folder."),
    "SQLITE_IOERR": ("the disk does not answer as it should", "Look at the disk's health and free space."),
    "SQLITE_TOOBIG": ("a value is too large for it", "Write large values to files and pass their paths on."),
    "SQLITE_CONSTRAINT": (
        "something else has written to the same run",
        "Only the owner of a run may write it; take the run's lock and read its state again.",
    ),
}

_BY_ERRNO: dict[int, tuple[str, str]] = {
    errno.ENOSPC: _BY_CODE["SQLITE_FULL"],
    errno.EDQUOT: ("your disk quota is used up", "Make room within your quota, then resume the run."),
    errno.EFBIG: ("the file may not grow any further", "Raise the limit for the size of files, then resume the run."),
    errno.EROFS: _BY_CODE["SQLITE_READONLY"],
    errno.EACCES: _BY_CODE["SQLITE_PERM"],
    errno.EPERM: _BY_CODE["SQLITE_PERM"],
}


def is_busy(error: BaseException) -> bool:
    """Return whether `error` only means that another connection is writing just now."""
    return isinstance(error, sqlite3.OperationalError) and code_of(error) in ("SQLITE_BUSY", "SQLITE_LOCKED")


def code_of(error: sqlite3.Error) -> str:
    """Return the primary SQLite code's name, such as `SQLITE_FULL`, or an empty string."""
    name: str = getattr(error, "sqlite_errorname", "") or ""
    return "_".join(name.split("_")[:2])


def not_open(location: str) -> StoreError:
    """Return the error for a store that is used before it was opened or after it was closed."""
    return StoreError(f"the store {location} is not open", hint="Open it with `await store.open()` first.")


def store_error(error: BaseException, location: str) -> StoreError:
    """Return `error` as a StoreError that names the store, what is wrong and what to do next."""
    if isinstance(error, StoreError):
        return error
    words: tuple[str, str] | None = None
    if isinstance(error, sqlite3.Error):
        words = _BY_CODE.get(code_of(error))
        if words is None and "closed database" in str(error):
            words = ("it is not open", "Open it with `await store.open()` first.")
    elif isinstance(error, OSError) and error.errno is not None:
        words = _BY_ERRNO.get(error.errno)
    what, hint = words or (str(error) or type(error).__name__, _DOCTOR)
    made = StoreError(f"the store {location} cannot be used: {what}", hint=hint)
    made.__cause__ = error
    return made
