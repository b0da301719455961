"""Which files beside the store are referred to, and how often: by events and by the cache."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from stepchain_tui.run.values import BlobReference
from stepchain_tui.store import locks
from stepchain_tui.store.blobs import FileBlobs

_COUNT = "INSERT INTO blobs (sha256, bytes, uses) VALUES (?, ?, 1) ON CONFLICT (sha256) DO UPDATE SET uses = uses + 1"


def count_references(cursor: sqlite3.Cursor, references: Iterable[BlobReference]) -> None:
    """Count one more reference to each of these files; the column of their names is called `sha256`."""
    cursor.executemany(_COUNT, [(reference.name, reference.bytes) for reference in references])


def let_go(cursor: sqlite3.Cursor, names: Iterable[str]) -> list[str]:
    """Count one reference less to each of these files; return the names of those that nothing refers to now."""
    gone = list(names)
    cursor.executemany("UPDATE blobs SET uses = uses - 1 WHERE sha256 = ?", [(name,) for name in gone])
    unused = []
    for name in dict.fromkeys(gone):
        found = cursor.execute("DELETE FROM blobs WHERE sha256 = ? AND uses <= 0 RETURNING sha256", (name,))
        unused += [row[0] for row in found.fetchall()]
    return unused


def remove_unused(blobs: FileBlobs, names: Iterable[str], lock_folder: Path) -> int:
    """Remove files that nothing refers to now and return how many went.

    Who carries out a run beside us may just have found one of them and be about to refer to it: then fresh files
    stay, for a later sweep.
    """
    going = list(names)
    return locks.while_alone(lock_folder, lambda alone: blobs.remove(going, alone=alone))
