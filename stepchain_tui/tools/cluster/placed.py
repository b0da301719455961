"""Code that came with a call, put where it can be imported: once for each worker process, gone with it."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from stepchain_tui.run.failures import AttemptError
from stepchain_tui.run.status import ErrorType


@functools.cache
def _base_of(_pid: int) -> Path:
    base = Path(tempfile.mkdtemp(prefix="stepchain-cluster-")).resolve()
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    return base


def base_folder() -> Path:
    """Return the folder of this process in which code is put; nobody else on the machine may look into it."""
    return _base_of(os.getpid())


def code_folder(digest: str) -> Path:
    """Return where the code of a digest is, or will be."""
    return base_folder() / digest


def put(digest: str, files: Mapping[str, bytes]) -> None:
    """Write the files of a digest; nothing where they are there already.

    Args:
        digest: What tells this code from other code.
        files: Relative paths with what is in them.

    Raises:
        AttemptError: They cannot be written, as a `server_error`.
    """
    folder = code_folder(digest)
    if folder.is_dir():
        return
    making = Path(tempfile.mkdtemp(dir=base_folder()))
    try:
        for name, content in files.items():
            path = making / _inside(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        making.rename(folder)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise AttemptError(
            f"the step's code cannot be written on the worker: {error}",
            error_type=ErrorType.SERVER_ERROR,
            hint="Look at the space that is left in the worker's folder for temporary files.",
        ) from error


def work_folder() -> Path:
    """Return a new empty folder for a call whose own is not on this machine; the caller removes it."""
    return Path(tempfile.mkdtemp(prefix="work-", dir=base_folder()))


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise OSError(f"'{name}' is no relative path")
    return path
