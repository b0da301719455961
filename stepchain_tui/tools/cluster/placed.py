"""Code that came with a call, put where it can be imported: once for each worker, gone with its folder.

All of it is below the folder that Dask gives to the worker, removes at the worker's end, and where the worker was
killed, at the start of the next one on that machine.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType


@functools.cache
def base_folder(worker_folder: str) -> Path:
    """Return the folder of a worker in which code is put; nobody else on the machine may look into it."""
    return Path(tempfile.mkdtemp(prefix="stepchain-", dir=worker_folder)).resolve()


def put(base: Path, digest: str, files: Mapping[str, bytes]) -> None:
    """Write the files of a digest; nothing where they are there already.

    Args:
        base: The worker's folder for code.
        digest: What tells this code from other code.
        files: Relative paths with what is in them.

    Raises:
        AttemptError: They cannot be written, as a `server_error`.
    """
    folder = base / digest
    if folder.is_dir():
        return
    making = Path(tempfile.mkdtemp(prefix="new-", dir=base))
    try:
        for name, content in files.items():
            path = making / _inside(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        making.rename(folder)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        if folder.is_dir():  # another pilot of this worker was first
            return
        raise AttemptError(
            f"the step's code cannot be written on the worker: {error}",
            error_type=ErrorType.SERVER_ERROR,
            hint="Look at the space that is left in the worker's folder for temporary files.",
        ) from error


def work_folder(base: Path) -> Path:
    """Return a new empty folder for a call whose own is not on this machine; the caller removes it."""
    return Path(tempfile.mkdtemp(prefix="work-", dir=base))


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise OSError(f"'{name}' is no relative path")
    return path
