"""Which large values are referred to, and how often: by events and by the cache."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from stepchain_tui.run.values import BlobReference
from stepchain_tui.store import locks
from stepchain_tui.store.blobs import GRACE_SECONDS, FileBlobs

_COUNT = "INSERT INTO blobs (sha256, bytes, uses) VALUES (?, ?, 1) ON CONFLICT (sha256) DO UPDATE SET uses = uses + 1"


def count_references(cursor: sqlite3.Cursor, blobs: Iterable[BlobReference]) -> None:
    """Count one more reference to each of these values."""
    cursor.executemany(_COUNT, [(blob.sha256, blob.bytes) for blob in blobs])


def let_go(cursor: sqlite3.Cursor, hashes: Iterable[str]) -> list[str]:
    """Count one reference less to each of these values; return the hashes of those that nothing refers to now."""
    gone = list(hashes)
    cursor.executemany("UPDATE blobs SET uses = uses - 1 WHERE sha256 = ?", [(sha256,) for sha256 in gone])
    unused = []
    for sha256 in dict.fromkeys(gone):
        found = cursor.execute("DELETE FROM blobs WHERE sha256 = ? AND uses <= 0 RETURNING sha256", (sha256,))
        unused += [row[0] for row in found.fetchall()]
    return unused


def remove_unused(blobs: FileBlobs, hashes: Iterable[str], lock_folder: Path) -> int:
    """Remove the files of values that nothing refers to now and return how many went.

    Who carries out a run beside us may just have found one of them and be about to refer to it: then fresh files
    stay, for a later sweep.
    """
    names = list(hashes)
    return locks.while_alone(lock_folder, lambda alone: blobs.remove(names, older_than=0.0 if alone else GRACE_SECONDS))
