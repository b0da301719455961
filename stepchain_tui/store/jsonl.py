"""`JSONLStore`: one file of JSON lines for each run, to be read with `grep` and `jq` as well (document 000).

An index in memory answers (`indexed`), in front of files that only grow (`run_files`, `lines`): a file is read once
and then only what was appended to it, by whichever process. Large values are files beside them (`blobs`), what runs
share is a file of its own (`shared_file`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import msgspec

from stepchain_tui.core.errors import StoreError, UnknownRunError
from stepchain_tui.run.state import RunState
from stepchain_tui.run.values import BlobReference
from stepchain_tui.store import locks
from stepchain_tui.store.base import RunLock
from stepchain_tui.store.blobs import FileBlobs, hash_in
from stepchain_tui.store.connect import make_folder, network_file_system
from stepchain_tui.store.imports import require_trust
from stepchain_tui.store.index import RunBody, RunIndex
from stepchain_tui.store.indexed import IndexedStore
from stepchain_tui.store.journal import Appender, Place, read_batches
from stepchain_tui.store.lines import AnswerLine, CommandLine, encoded, lines_of
from stepchain_tui.store.problems import store_error
from stepchain_tui.store.reader import decoded
from stepchain_tui.store.records import CacheEntry, Command, StepSummary
from stepchain_tui.store.references import remove_unused
from stepchain_tui.store.rows import BatchRows
from stepchain_tui.store.run_files import RunFiles
from stepchain_tui.store.shared import SharedRows
from stepchain_tui.store.shared_file import SharedFile
from stepchain_tui.store.shared_memory import hashes_in


class JSONLStore(IndexedStore):
    """Keeps each run in a file `RUN.jsonl` of a folder: its events, log lines and commands, a record a line.

    A batch that was cut off while it was written (a killed process, a full disk) is left out when the file is read,
    with a `CutOffWarning`, and removed by the next write. A batch of several runs is whole in each run's file; only
    a kill between two files can leave it in one and not in the other.

    Args:
        folder: The folder; made, for the user alone, when the store is opened.
        durability: `process`: what was committed survives the death of the process; `power`: a power cut as well.
    """

    def __init__(self, folder: str | os.PathLike[str], *, durability: Literal["process", "power"] = "process") -> None:
        self._real = Path(os.path.realpath(Path(folder).expanduser()))
        self._locks = self._real / ".locks"
        self._mark = self._real / ".changed"
        self._shared_path = self._real / ".shared.jsonl"
        self._sync = durability == "power"
        self._file_blobs = FileBlobs(self._real / "files", sync=self._sync)
        super().__init__(str(Path(folder).expanduser().absolute()), self._file_blobs)
        self._start_afresh()

    def _start_afresh(self) -> None:
        self.index = RunIndex(self.owner_alive)
        self._commands.clear()
        self._files = RunFiles(self._real, self.index, self._take_command, self._forget, sync=self._sync)
        self._shared_file = SharedFile(self._shared_path, sync=self._sync)

    @property
    def folder(self) -> Path | None:
        """The folder for the store's large values."""
        return self._file_blobs.folder

    # --- opening and closing

    async def open(self, *, read_only: bool = False) -> None:
        """Make the store ready; see `AbstractStore.open`."""
        if self._open:
            return
        try:
            await asyncio.to_thread(self._prepare, read_only=read_only)
        except OSError as error:
            raise store_error(error, self.location) from error
        self._open, self._read_only = True, read_only
        self._feed.open()

    def _prepare(self, *, read_only: bool) -> None:
        if self._real.exists() and not self._real.is_dir():
            raise StoreError(
                f"{self.location} is a file, and a JSONLStore is a folder",
                hint="Name a folder, or use SQLiteStore for a file.",
            )
        if read_only:
            if not self._real.exists():
                raise StoreError(f"there is no store at {self.location}", hint="The first run makes one.")
            return
        make_folder(self._real)
        if kind := network_file_system(self._real):
            raise StoreError(
                f"{self.location} lies on a network drive ({kind}), where locks cannot be trusted",
                hint="Keep the store on a local disk.",
            )
        os.close(os.open(self._mark, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        locks.enter(self._locks, self.location)
        with contextlib.suppress(OSError):  # a long file is no harm
            self._shared_file.compact()

    async def close(self) -> None:
        """Let everything go; all that was committed is in the files."""
        if self._open and not self._read_only:
            locks.leave(self._locks)
        self._open = False
        self._feed.close()
        self._start_afresh()
        self._raise_error()

    # --- writing

    def _keep_rows(self, rows: BatchRows) -> None:
        lines = {run.run_id: lines_of(run) for run in rows.runs}
        begun = {run.run_id for run in rows.runs if run.created is not None}
        for run_id in lines:
            self._files.refresh(run_id)
        self._check_rows(rows)
        for answer, command_id in rows.answers:
            if (command := self._commands.get(command_id)) is not None:
                record = AnswerLine(command_id=command_id, answer=msgspec.json.decode(answer))
                lines.setdefault(command.run_id, []).append(encoded(record))
        try:
            with ExitStack() as stack:
                held = [
                    (run_id, stack.enter_context(self._files.appending(run_id, create=run_id in begun)))
                    for run_id in sorted(lines)
                    if lines[run_id]
                ]
                self._check_rows(rows)
                self._append_all(held, lines, rows.shared)
        except FileNotFoundError as error:
            raise UnknownRunError(next(iter(lines), ""), self.index.runs) from error
        except OSError as error:
            raise store_error(error, self.location) from error

    def _append_all(
        self, held: list[tuple[str, Appender]], lines: dict[str, list[bytes]], shared: SharedRows | None
    ) -> None:
        written: list[Appender] = []
        try:
            if shared is not None:
                with self._shared_file.appending() as appender:
                    self._shared_file.append(appender, shared)
            for run_id, appender in held:
                self._files.append(run_id, appender, lines[run_id])
                written.append(appender)
        except OSError:
            for appender in written:
                appender.cut(appender.size)
            raise

    def _take_rows(self, rows: BatchRows) -> None:
        rows.shared = None  # it is read from its file
        super()._take_rows(rows)

    def _keep_command(self, command: Command) -> None:
        try:
            with self._files.appending(command.run_id, create=False) as appender:
                self._files.append(command.run_id, appender, [encoded(CommandLine(command=command))])
        except FileNotFoundError:
            raise UnknownRunError(command.run_id, self.index.runs) from None
        except OSError as error:
            raise store_error(error, self.location) from error

    def _take_command(self, run_id: str, record: CommandLine | AnswerLine) -> None:
        if isinstance(record, AnswerLine):
            self._take_answer(record.command_id, msgspec.json.encode(record.answer))
        else:
            self._commands[record.command.id] = msgspec.structs.replace(record.command, run_id=run_id)

    def _changed(self) -> None:
        now = time.time_ns()
        with contextlib.suppress(OSError):
            os.utime(self._mark, ns=(now, now))
        super()._changed()

    async def delete_run(self, run_id: str) -> None:
        """Forget a run; see `AbstractStore.delete_run`."""
        self._ready(write=True)
        self._look(run_id).run(run_id)
        lock = self.lock_run(run_id)
        try:
            gone = self._hashes_of(self._files.path(run_id))
            self._files.remove(run_id)
        finally:
            lock.release()
        if gone:
            unused = gone - await asyncio.to_thread(self._hashes)
            names = await asyncio.to_thread(self._file_blobs.names)
            going = [name for name in names if hash_in(name) in unused]
            await asyncio.to_thread(remove_unused, self._file_blobs, going, self._locks)
        self._changed()

    async def clear_cache(self) -> int:
        """Forget all entries and return how many there were."""
        self._ready(write=True)
        try:
            with self._shared_file.appending() as appender:
                self._shared_file.append(appender, SharedRows(), cleared=True)
                cleared = self._shared_file.memory.clear()
        except OSError as error:
            raise store_error(error, self.location) from error
        await self.sweep_files()
        self._changed()
        return cleared

    # --- files beside it

    def _files_of_bytes(self) -> FileBlobs:
        return self._file_blobs

    def file_path(self, reference: BlobReference) -> Path | None:
        """Return where a file is."""
        return self._file_blobs.path(reference.name)

    async def sweep_files(self) -> int:
        """Remove files that nothing refers to and return their number; fresh ones stay."""
        self._ready(write=True)
        known = await asyncio.to_thread(self._hashes)
        unused = [name for name in self._file_blobs.names() if hash_in(name) not in known]
        return await asyncio.to_thread(self._file_blobs.remove, unused)

    def _hashes(self) -> set[str]:
        """Return the hashes of all files that a run or the cache refers to; called off the event loop's thread."""
        shared = SharedFile(self._shared_path, sync=False)
        shared.refresh()
        return shared.memory.hashes().union(*map(self._hashes_of, self._files.paths()))

    @staticmethod
    def _hashes_of(path: Path) -> set[str]:
        found: set[str] = set()
        with contextlib.suppress(FileNotFoundError):
            for batch in read_batches(path, Place()):
                found |= hashes_in(batch)
        return found

    # --- reading

    def _refresh(self, run_id: str | None = None) -> None:
        if run_id is None:
            self._files.refresh_all()
        else:
            self._files.refresh(run_id)

    def _body(self, run_id: str) -> RunBody:
        return self._files.body(run_id)

    async def load_state(self, run_id: str) -> RunState:
        """Return the fold of all events of a run, of which none but the fold is held."""
        self._look(run_id).run(run_id)
        state = RunState()
        for event in decoded(run_id, self._files.events(run_id)):
            state.apply(event)
        return state

    async def list_steps(self, run_id: str) -> list[StepSummary]:
        """Return the rows of a run's steps in plan order."""
        self._look(run_id)
        self._files.make_rows(run_id)
        return self.index.list_steps(run_id)

    def _look_at_shared(self) -> None:
        self._ready()
        try:
            self._shared_file.refresh()
        except OSError as error:
            raise store_error(error, self.location) from error
        self._shared = self._shared_file.memory

    async def find_cached(self, key: str) -> CacheEntry | None:
        """Return the entry of that key; see `AbstractStore.find_cached`."""
        entry = await super().find_cached(key)
        return entry if entry is None or self._file_blobs.touch_all(entry.output) else None

    async def _version(self) -> int:
        try:
            return self._mark.stat().st_mtime_ns
        except OSError:
            return 0

    # --- ownership

    def acquire_run(self, run_id: str) -> RunLock:
        """Take the run's lock for this process; see `AbstractStore.acquire_run`."""
        self._ready(write=True)
        self._refresh(run_id)
        if (run := self.index.runs.get(run_id)) is not None:
            require_trust(run_id, run.imported)
        return self.lock_run(run_id)

    def lock_run(self, run_id: str) -> RunLock:
        """Take the run's lock to look after the run, not to carry it out; raises RunLockedError."""
        lock = locks.acquire(self._locks, run_id, self.location)
        self._maker.forget(run_id)
        return lock

    def owner_alive(self, run_id: str) -> bool:
        """Return whether a living process holds the run's lock."""
        return locks.is_locked(locks.lock_path(self._locks, run_id))
