"""The folder of a `JSONLStore`: which file is whose, what was read of each, and reading on where one has changed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stepchain_tui.core.errors import StoreError
from stepchain_tui.store.index import RunBody, RunIndex
from stepchain_tui.store.journal import Appender, Place, appending, framed, read_batches
from stepchain_tui.store.lines import AnswerLine, CommandLine, parse
from stepchain_tui.store.problems import store_error
from stepchain_tui.store.replay import Replay

SUFFIX = ".jsonl"
_PLAIN = re.compile(r"[a-z0-9_][a-z0-9_.@-]{0,99}")
_UNSAFE = re.compile(r"[^a-z0-9_.@-]")
_BODIES = 8
"""Runs whose events and log lines are held in memory, those that were read last."""
_LINES_AT_ONCE = 2_000


class CutOffWarning(UserWarning):
    """Tells that the end of a run's file was cut off while it was written, and is left out."""


def file_name(run_id: str) -> str:
    """Return the name of a run's file: the id where any file system can hold it, else what is left of it and a hash.

    Ids that differ in case alone have different names also where the file system does not tell case apart.
    """
    if _PLAIN.fullmatch(run_id) and not run_id.endswith("."):
        return run_id + SUFFIX
    digest = hashlib.sha256(run_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    readable = _UNSAFE.sub("-", run_id.lower())[:60].strip(".-")
    return f"{readable or 'run'}~{digest}{SUFFIX}"


@dataclass(slots=True)
class _RunFile:
    """What is known of one file; `run_id` is empty where it is no run's."""

    replay: Replay
    run_id: str = ""
    place: Place = field(default_factory=Place)


class RunFiles:
    """Reads the files of a folder into an index, each line once, and appends to them.

    Args:
        folder: The folder.
        index: Gets the runs.
        take_command: Called with each command and answer that is read, and the run it is for.
        forget: Called with the id of a run whose file is gone.
        sync: Whether what was appended must survive a power cut.
    """

    def __init__(
        self,
        folder: Path,
        index: RunIndex,
        take_command: Callable[[str, CommandLine | AnswerLine], None],
        forget: Callable[[str], None],
        *,
        sync: bool,
    ) -> None:
        self.folder = folder
        self._index = index
        self._take_command = take_command
        self._forget = forget
        self._sync = sync
        self._files: dict[str, _RunFile] = {}
        self._bodies: OrderedDict[str, None] = OrderedDict()
        self._told: set[str] = set()

    def path(self, run_id: str) -> Path:
        """Return where a run's file is."""
        return self.folder / file_name(run_id)

    def paths(self) -> list[Path]:
        """Return all runs' files. Raises StoreError."""
        try:
            with os.scandir(self.folder) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(SUFFIX))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise store_error(error, str(self.folder)) from error
        return [self.folder / name for name in names if not name.startswith(".")]

    # --- reading

    def refresh_all(self) -> None:
        """Read what is new in all files."""
        paths = self.paths()
        for name in self._files.keys() - {path.name for path in paths}:
            self._lose(name)
        for path in paths:
            self._refresh(path)

    def refresh(self, run_id: str) -> None:
        """Read what is new in the file of a run. Raises StoreError."""
        self._refresh(self.path(run_id))

    def _refresh(self, path: Path) -> None:
        known = self._files.get(path.name)
        try:
            status = path.stat()
            if known is not None and known.place.is_seen(status):
                return
            if known is None or not known.replay.folds or not known.place.goes_on(path, status):
                known = self._begin(path.name, with_body=path.name in self._bodies)
            self._read(path, known, status)
        except FileNotFoundError:
            self._lose(path.name)
        except OSError as error:
            raise store_error(error, str(path)) from error

    def _begin(self, name: str, *, with_body: bool) -> _RunFile:
        """Return a file of which nothing was read yet; a run that was known keeps its place among the others."""
        old = self._files.get(name)
        before = None if old is None else self._index.runs.pop(old.run_id, None)
        replay = Replay(
            self._index,
            lambda run_id: file_name(run_id) == name,
            with_body=with_body,
            number=None if before is None else before.number,
        )
        made = self._files[name] = _RunFile(replay)
        return made

    def _read(self, path: Path, known: _RunFile, status: os.stat_result) -> None:
        replay = known.replay
        known.place.see(status)  # as it was before: what comes while it is read is read the next time
        lines: list[bytes] = []
        for batch in read_batches(path, known.place):
            lines += batch
            if len(lines) >= _LINES_AT_ONCE:
                replay.read(lines)
                lines = []
        replay.read(lines)
        if replay.run is not None:
            known.run_id = replay.run.run_id
            for record in replay.taken_commands():
                self._take_command(known.run_id, record)
        replay.rest()
        if status.st_size > known.place.offset:
            self._tell_of_cut(path)

    def _tell_of_cut(self, path: Path) -> None:
        """Tell once of a file that its end was cut off; that of a living writer is about to be completed."""
        if path.name in self._told:
            return
        with path.open("rb") as file:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return
            if file.seek(0, os.SEEK_END) != self._files[path.name].place.size:
                return
        self._told.add(path.name)
        warnings.warn(
            f"the end of {path} was cut off while it was written: it is left out", CutOffWarning, stacklevel=2
        )

    def _lose(self, name: str) -> None:
        known = self._files.pop(name, None)
        self._bodies.pop(name, None)
        if known is not None and known.run_id:
            self._forget(known.run_id)

    def body(self, run_id: str) -> RunBody:
        """Return a run's events and log lines, read again where they were let go of. Raises UnknownRunError."""
        name = file_name(run_id)
        if self._index.run(run_id).body is None:
            path = self.folder / name
            try:
                self._read(path, self._begin(name, with_body=True), path.stat())
            except OSError as error:
                raise store_error(error, str(path)) from error
        self._bodies[name] = None
        self._bodies.move_to_end(name)
        while len(self._bodies) > _BODIES:
            other, _ = self._bodies.popitem(last=False)
            if (known := self._files.get(other)) is not None and known.run_id in self._index.runs:
                self._index.runs[known.run_id].body = None
        return self._index.run(run_id).body or RunBody()

    def make_rows(self, run_id: str) -> None:
        """Bring the rows of a run's steps up to date with what was read."""
        if (known := self._files.get(file_name(run_id))) is not None:
            known.replay.make_rows()

    def events(self, run_id: str) -> Iterator[tuple[int, bytes]]:
        """Yield `(seq, JSON)` of a run's events from its file; none of them is held. Raises StoreError."""
        path, expected = self.path(run_id), 1
        try:
            for batch in read_batches(path, Place()):
                for seq, data in parse(batch, expected, with_logs=False).events:
                    yield seq, data
                    expected = seq + 1
        except OSError as error:
            raise store_error(error, str(path)) from error

    # --- writing

    @contextmanager
    def appending(self, run_id: str, *, create: bool) -> Iterator[Appender]:
        """Hold a run's file for appending; the index knows all that is in it, and a cut off end is gone.

        Raises:
            StoreError: The file cannot be written, or is no run's.
            FileNotFoundError: There is no such run.
        """
        with appending(self.path(run_id), create=create) as appender:
            self._refresh(self.path(run_id))
            place = self._files[file_name(run_id)].place
            if create and place.offset and run_id not in self._index.runs:
                raise StoreError(
                    f"{self.path(run_id)} is no file of run '{run_id}'", hint="Move it away, or choose another folder."
                )
            if appender.size > place.offset:
                appender.cut(place.offset)
                appender.size = place.offset
            yield appender

    def append(self, run_id: str, appender: Appender, lines: list[bytes]) -> None:
        """Append one batch of lines that the index is about to take. Raises OSError."""
        data = framed(lines)
        appender.append(data, sync=self._sync)
        known = self._files[file_name(run_id)]
        known.run_id = run_id
        known.place.move(data, appender.size + len(data))
        known.place.see(appender.status())
        known.replay.outrun()

    def remove(self, run_id: str) -> None:
        """Remove the file of a run. Raises StoreError."""
        path = self.path(run_id)
        try:
            with appending(path, create=False):
                path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise store_error(error, str(path)) from error
        self._lose(path.name)
