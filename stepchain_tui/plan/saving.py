"""Writing plan files: whole or not at all, and never over another's change."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from stepchain_tui.core.errors import StepChainError, UsageError


class PlanFileChangedError(StepChainError):
    """Signals a plan file that somebody else changed after it was read; nothing was written."""

    kind = "plan_changed"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} was changed on disk after it was read", hint="Load it again, or save under another name."
        )
        self.path = path


def text_hash(text: str) -> str:
    """Return the hash of a plan's text, to be given to `save_plan_text` later."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def save_plan_text(path: Path, text: str, expected_hash: str | None) -> None:
    """Write `text` to `path` whole or not at all; the file's permissions stay, and a link stays a link.

    Args:
        path: The plan file.
        text: What to write.
        expected_hash: `text_hash` of what the file held when it was read; None: write over whatever is there.

    Raises:
        PlanFileChangedError: The file holds something else by now, or is gone.
        UsageError: The folder or the file cannot be written.
    """
    target = path.resolve()
    try:
        if expected_hash is not None and _current_hash(target) != expected_hash:
            raise PlanFileChangedError(path)
        _replace(target, text.encode("utf-8"))
    except (OSError, UnicodeEncodeError) as error:
        raise UsageError(
            f"cannot write {path}: {error}", hint="Check the folder's permissions and free space."
        ) from None


def _current_hash(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _replace(path: Path, data: bytes) -> None:
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644 & ~_umask() if mode is None else mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
