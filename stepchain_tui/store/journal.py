"""Files of JSON lines that only grow, in which a batch of lines is there whole or not at all.

A line that ends with a space is followed by another of the same batch, so a batch is complete with the first line
that does not: JSON does not mind the space, and `grep` sees one record a line. What follows the last complete batch
was cut off with its writer; readers leave it out, and the next writer removes it. Each append holds a lock on the
file, so that writers of several processes take turns, and is one `write`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_GOES_ON = b" \n"
_TAIL = 64


@dataclass(slots=True)
class Place:
    """Up to where a file was read, and what it was then.

    Attributes:
        inode: The file's number: another one is another file.
        size: Its size, all that was cut off included.
        changed: When it was changed, in nanoseconds.
        offset: The end of the last complete batch.
        tail: The bytes before that, which tell a file that grew from one that was written anew.
    """

    inode: int = 0
    size: int = -1
    changed: int = 0
    offset: int = 0
    tail: bytes = b""

    def is_seen(self, status: os.stat_result) -> bool:
        """Return whether nothing was changed since."""
        return (self.inode, self.size, self.changed) == (status.st_ino, status.st_size, status.st_mtime_ns)

    def see(self, status: os.stat_result) -> None:
        """Note what the file is now."""
        self.inode, self.size, self.changed = status.st_ino, status.st_size, status.st_mtime_ns

    def goes_on(self, path: Path, status: os.stat_result) -> bool:
        """Return whether the file begins with what was read, and all that is new comes after it. Raises OSError."""
        if self.inode != status.st_ino or status.st_size < self.offset:
            return False
        with path.open("rb") as file:
            file.seek(self.offset - len(self.tail))
            return file.read(len(self.tail)) == self.tail

    def move(self, line: bytes, end: int) -> None:
        """Note that everything up to `end` was read; `line` is the last one, with its end."""
        self.offset, self.tail = end, line[-_TAIL:]


def framed(lines: Sequence[bytes]) -> bytes:
    """Return lines as one batch."""
    return _GOES_ON.join(lines) + b"\n"


def read_batches(path: Path, place: Place) -> Iterator[list[bytes]]:
    """Yield the lines of each complete batch after `place`, which moves along.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        file.seek(place.offset)
        batch: list[bytes] = []
        end = place.offset
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            batch.append(line[:-1].rstrip(b" "))
            if not line.endswith(_GOES_ON):
                place.move(line, end)
                yield batch
                batch = []


class Appender:
    """A file that this process may append to: it holds the file's lock.

    Attributes:
        size: The file's size before the first append.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = self.status().st_size

    def status(self) -> os.stat_result:
        """Return what the file is now."""
        return os.fstat(self._descriptor)

    def append(self, data: bytes, *, sync: bool) -> None:
        """Write at the end; what was written is taken back where not all of it can be. Raises OSError."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
            if sync:
                os.fsync(self._descriptor)
        except OSError:
            self.cut(self.size)
            raise

    def cut(self, size: int) -> None:
        """Remove what comes after `size`."""
        os.ftruncate(self._descriptor, size)


@contextmanager
def appending(path: Path, *, create: bool) -> Iterator[Appender]:
    """Open a file for the user alone and hold its lock.

    Raises:
        FileNotFoundError: It is not there, and is not to be made.
        OSError: It cannot be opened.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(path, descriptor):
                yield Appender(descriptor)
                return
        finally:
            os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    """Return whether the open file is the one of that name: it may have been replaced while the lock was waited for."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
