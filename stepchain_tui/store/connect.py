"""Opening the file: where a store may lie, with which permissions, and how SQLite is set up for it."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections import Counter
from pathlib import Path
from urllib.parse import quote

from stepchain_tui.core.errors import StoreError
from stepchain_tui.store.migrations import check_version
from stepchain_tui.store.problems import store_error

BUSY_SECONDS = 5.0
"""How long a writer waits for another process before it gives up."""
WAL_PAGES = 1000
"""A checkpoint is made when the log in front of the database has this many pages (4 MB)."""
_HEADER = b"SQLite format 3\x00"
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afs", "afpfs", "webdav", "ncpfs", "9p"})
_NETWORK_PREFIXES = ("fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.davfs", "fuse.gluster", "ceph", "lustre", "beegfs")

_in_use: Counter[str] = Counter()
"""How many stores of this process have a file open."""
_guard = threading.RLock()


def network_file_system(path: Path) -> str:
    """Return the type of the network file system that `path` lies on, or an empty string for a local disk."""
    place = os.path.realpath(path)
    best, kind = "", ""
    for mount_point, file_system in _mounts():
        inside = place == mount_point or place.startswith(mount_point.rstrip("/") + "/")
        if inside and len(mount_point) >= len(best):
            best, kind = mount_point, file_system
    return kind if kind in _NETWORK or kind.startswith(_NETWORK_PREFIXES) else ""


def _mounts() -> list[tuple[str, str]]:
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        import psutil

        return [(part.mountpoint, part.fstype.lower()) for part in psutil.disk_partitions(all=True)]
    words = [line.split(" ") for line in lines]
    return [(word[1].replace("\\040", " "), word[2].lower()) for word in words if len(word) > 2]


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, for the user alone; folders that exist stay as they are."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)


def prepare_file(path: Path, *, read_only: bool) -> None:
    """See that a store can be at `path`; unless `read_only`, make its folder and an empty file for the user alone.

    Raises:
        StoreError: There is a directory or something that is no database, it lies on a network drive, there is
            nothing to read, or no permission.

    SQLite's own locks on the file belong to the process and end when any descriptor of the file is closed, so the
    file is looked into only while no store of this process has it open. Each call that returns is to be followed by
    one of `release_file`.
    """
    with _guard:
        if not _in_use[str(path)]:
            _look_into(path, read_only=read_only)
        _in_use[str(path)] += 1


def release_file(path: Path) -> None:
    """Note that a store of this process has closed the file."""
    with _guard:
        _in_use[str(path)] -= 1


def _look_into(path: Path, *, read_only: bool) -> None:
    try:
        _refuse_wrong_place(path, read_only=read_only)
        if read_only:
            with path.open("rb"):
                return
        make_folder(path.parent)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            status = path.stat()
            if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & 0o077:
                path.chmod(stat.S_IMODE(status.st_mode) & 0o700)  # what its owner may not do stays so
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise store_error(error, str(path)) from error


def _refuse_wrong_place(path: Path, *, read_only: bool) -> None:
    if path.is_dir():
        raise StoreError(f"{path} is a directory, not a store", hint=f"Name a file, such as {path / 'runs.db'}.")
    if read_only and not path.exists():
        raise StoreError(f"there is no store at {path}", hint="The first run makes one; or name another with --store.")
    if kind := network_file_system(path if path.exists() else path.parent):
        raise StoreError(
            f"{path} lies on a network drive ({kind}), where locks and the write-ahead log cannot be trusted",
            hint="Keep the store on a local disk with --store or $STEPCHAIN_STORE.",
        )
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(len(_HEADER)) != _HEADER:
                raise StoreError(
                    f"{path} is not a database", hint="Name another file with --store; nothing was changed in this one."
                )


def connect_writer(path: Path, *, durability: str, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Return a writing connection in autocommit mode; the file was prepared and is ours or empty."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=busy_seconds
    )
    try:
        check_version(connection, str(path))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cache_size = -16000")
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_PAGES * 4096 * 4}")
    except BaseException:
        connection.close()
        raise
    return connection


def reader_uri(path: Path) -> str:
    """Return the URI with which the store can be read without leaving anything behind.

    A folder that is not ours gets no files from us: there, a store that nobody has open is read as it lies
    (`immutable`). Everywhere else SQLite may put its shared memory beside the store.
    """
    wal = path.with_name(path.name + "-wal")
    ours = os.access(path.parent, os.W_OK) and path.parent.stat().st_uid == os.geteuid()
    still = not ours and not (wal.exists() and wal.stat().st_size)
    return f"file:{quote(str(path))}?mode=ro{'&immutable=1' if still else ''}"


def connect_reader_once(path: Path) -> None:
    """See that a store can be read and that this version knows it; leaves nothing open.

    Raises:
        StoreError: It is empty, belongs to another program or was written by a newer version.
    """
    connection = sqlite3.connect(reader_uri(path), uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    try:
        if check_version(connection, str(path)) == 0:
            raise StoreError(f"the store {path} is empty", hint="The first run fills it.")
    finally:
        connection.close()
