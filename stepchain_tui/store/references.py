"""Which large values are referred to, and how often: by events and by the cache."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from stepchain_tui.run.values import BlobReference

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
