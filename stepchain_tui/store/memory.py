"""`MemoryStore`: the whole contract without a disk, for tests and for runs that nobody wants to keep."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from stepchain_tui.core.errors import RunLockedError
from stepchain_tui.run.values import BlobReference
from stepchain_tui.store.base import RunLock
from stepchain_tui.store.blobs import FileBlobs, MemoryBlobs
from stepchain_tui.store.imports import require_trust
from stepchain_tui.store.index import RunBody
from stepchain_tui.store.indexed import IndexedStore
from stepchain_tui.store.records import Command
from stepchain_tui.store.rows import BatchRows


class _MemoryLock(RunLock):
    def __init__(self, run_id: str, held: dict[str, _MemoryLock]) -> None:
        if run_id in held:
            raise RunLockedError(run_id, os.getpid())
        self.run_id = run_id
        self._held = held
        held[run_id] = self

    def release(self) -> None:
        """Let go; may be called twice."""
        if self._held.get(self.run_id) is self:
            del self._held[self.run_id]


class MemoryStore(IndexedStore):
    """Keeps runs in memory, for as long as the object lives; closing it keeps them, other processes see nothing.

    Files that belong to results (`keep_file`) are in a temporary folder, made when it is first needed, for as long.
    """

    _files: FileBlobs | None = None

    def __init__(self) -> None:
        self._held: dict[str, _MemoryLock] = {}
        self._writes = 0
        super().__init__("memory", MemoryBlobs())

    async def open(self, *, read_only: bool = False) -> None:
        """Make the store ready; see `AbstractStore.open`."""
        self._open, self._read_only = True, read_only
        self._feed.open()

    async def close(self) -> None:
        """Let followers go; what is kept stays."""
        self._open = False
        self._feed.close()
        self._raise_error()

    def _files_of_bytes(self) -> FileBlobs:
        if self._files is None:
            folder = Path(tempfile.mkdtemp(prefix="stepchain-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            self._files = FileBlobs(folder, sync=False)
        return self._files

    def file_path(self, reference: BlobReference) -> Path | None:
        """Return where a file is, None for a large value: those are in memory."""
        return self._files_of_bytes().path(reference.name) if reference.suffix else None

    def _refresh(self, run_id: str | None = None) -> None:
        """Do nothing: the index is all there is."""

    def _keep_rows(self, rows: BatchRows) -> None:
        self._check_rows(rows)

    def _keep_command(self, command: Command) -> None:
        """Do nothing: the index takes it."""

    def _body(self, run_id: str) -> RunBody:
        run = self.index.run(run_id)
        if run.body is None:
            run.body = RunBody()
        return run.body

    def _new_body(self) -> RunBody | None:
        return RunBody()

    def _changed(self) -> None:
        self._writes += 1
        super()._changed()

    async def _version(self) -> int:
        return self._writes

    async def delete_run(self, run_id: str) -> None:
        """Forget a run; see `AbstractStore.delete_run`."""
        self._ready(write=True)
        self.index.run(run_id)
        lock = _MemoryLock(run_id, self._held)
        self._forget(run_id)
        lock.release()
        self._changed()

    async def clear_cache(self) -> int:
        """Forget all entries and return how many there were."""
        self._ready(write=True)
        cleared = self._shared.clear()
        self._changed()
        return cleared

    def acquire_run(self, run_id: str) -> RunLock:
        """Take the run's lock; see `AbstractStore.acquire_run`."""
        self._ready(write=True)
        if (run := self.index.runs.get(run_id)) is not None:
            require_trust(run_id, run.imported)
        self._maker.forget(run_id)
        return _MemoryLock(run_id, self._held)

    def owner_alive(self, run_id: str) -> bool:
        """Return whether somebody holds the run's lock."""
        return run_id in self._held
